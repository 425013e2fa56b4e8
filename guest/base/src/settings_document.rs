//! The settings as the host hands them over: one JSON document, published as `wit/settings.schema.json`.
//!
//! The types here are the public contract and nothing else: they are read, checked, and converted into [`Settings`].
//! A field that the contract does not have is refused, so that a misspelt setting never counts as left out.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use self::access::ToolRuleDocument;
use self::forward_auth::ForwardAuthDocument;
use crate::policy::ToolRule;
use crate::settings::{
    BrokerUse, HttpSettings, LocalSettings, Mode, RegisteredClient, ServerIdentity, ServerKind, ServerSettings,
    Settings, SignInMethod, TokenMode, TokenSettings,
};

mod access;
mod forward_auth;
mod servers;
#[cfg(test)]
mod tests;
pub mod verdict;

pub use servers::ServersError;

/// Longest tolerance of clock differences, in seconds: Entra ID itself tolerates five minutes.
const MAX_CLOCK_TOLERANCE_SECONDS: u32 = 300;

/// Longest grace for a replaced refresh token, in seconds: longer than any client waits for an answer before it asks
/// again.
const MAX_REFRESH_GRACE_SECONDS: u32 = 120;

/// Why a document is refused. The texts are for the operator; they quote no value of the document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsDocumentError {
    /// Not JSON, a field is unknown or missing, or a value has the wrong type.
    #[error("the settings do not match settings.schema.json at line {line}, column {column}: {fault}")]
    Mismatch {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 where a line is empty.
        column: usize,
        /// What does not match.
        fault: String,
    },
    /// `token.clock-tolerance-seconds` is above its limit.
    #[error("the setting token.clock-tolerance-seconds is above {MAX_CLOCK_TOLERANCE_SECONDS}")]
    ClockTolerance,
    /// `http.refresh-grace-seconds` is above its limit.
    #[error("the setting http.refresh-grace-seconds is above {MAX_REFRESH_GRACE_SECONDS}")]
    RefreshGrace,
    /// A verdict needs an audience.
    #[error("the setting token.audiences is empty: no token would be accepted")]
    NoAudience,
    /// The keys of a verdict would come over a network without TLS.
    #[error("the setting authority is neither https nor on the loopback interface")]
    AuthorityUnprotected,
    /// A public client cannot be a remote server.
    #[error("the setting http needs the client-type confidential-client")]
    HttpForPublicClient,
    /// Something in `servers`, or in the rules about them.
    #[error(transparent)]
    Servers(#[from] ServersError),
}

/// Reads a document.
pub fn read(json: &str) -> Result<Settings, SettingsDocumentError> {
    let document: SettingsDocument = serde_json::from_str(json).map_err(|error| SettingsDocumentError::Mismatch {
        line: error.line(),
        column: error.column(),
        fault: fault(&error),
    })?;
    if document.token.clock_tolerance_seconds.is_some_and(|seconds| seconds > MAX_CLOCK_TOLERANCE_SECONDS) {
        return Err(SettingsDocumentError::ClockTolerance);
    }
    if document.http.as_ref().is_some_and(|http| http.refresh_grace_seconds > MAX_REFRESH_GRACE_SECONDS) {
        return Err(SettingsDocumentError::RefreshGrace);
    }
    if document.http.is_some() && document.client_type == ClientTypeName::PublicClient {
        return Err(SettingsDocumentError::HttpForPublicClient);
    }
    let settings = document.into();
    servers::check(&settings)?;
    Ok(settings)
}

/// What serde says, without the value that it quotes: an account is a person's name.
fn fault(error: &serde_json::Error) -> String {
    if !error.is_data() {
        return "not JSON".to_owned();
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if text.contains(" field `") {
        return text.to_owned();
    }
    let expected = text.rsplit_once(", expected ").map_or("another one", |(_, expected)| expected);
    format!("a value is invalid, expected {expected}")
}

/// Settings of the entra-mcp component, version 0.2. The document is constant for the life of an instance.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "Settings of entra-mcp:plugin@0.2.0"))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "struct Document")]
struct SettingsDocument {
    /// How the component acts towards Entra ID.
    client_type: ClientTypeName,
    /// The directory: a tenant id (GUID), a verified domain, `common`, `organizations` or `consumers`.
    tenant: String,
    /// Application (client) id, a GUID.
    client_id: String,
    /// Scheme and host of the authority, without a path or a trailing slash.
    #[serde(default = "global_authority")]
    authority: String,
    /// Base URL of Microsoft Graph, without a version or a trailing slash.
    #[serde(default = "global_graph")]
    graph: String,
    /// The resource identifier that qualifies scopes of Microsoft Graph. Left out: the same as `graph`, which is right in
    /// every cloud. It differs only where Microsoft Graph is emulated.
    #[serde(default)]
    graph_resource: Option<String>,
    /// How people sign in to a public client.
    #[serde(default)]
    sign_in: SignInDocument,
    /// The access tokens that the component accepts.
    #[serde(default)]
    token: TokenDocument,
    /// How long the component may return a profile from Microsoft Graph again without asking, in seconds; 0 turns that
    /// off. Upper bound on how long a revoked caller still gets its profile.
    #[serde(default)]
    profile_cache_seconds: u32,
    /// Adds user principal names to audit records. They are personal data.
    #[serde(default)]
    audit_usernames: bool,
    /// MCP servers that the component protects and that are not its own. If there are any, the component does not serve
    /// its own tools.
    #[serde(default)]
    servers: Vec<ServerDocument>,
    /// The remote server. Present exactly if the host calls `wasi:http/incoming-handler` or passes messages with an
    /// authorization; needs the client type `confidential-client`.
    #[serde(default)]
    http: Option<HttpDocument>,
}

fn global_authority() -> String {
    "https://login.microsoftonline.com".to_owned()
}

fn global_graph() -> String {
    "https://graph.microsoft.com".to_owned()
}

/// How the component acts towards Entra ID (RFC 6749 section 2.1).
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum ClientTypeName {
    /// A local server on the user's own machine. It holds no client credential.
    PublicClient,
    /// A remote server or a token validator that authenticates itself with the `client-credential` import.
    ConfidentialClient,
}

/// An MCP server behind the component.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ServerDocument {
    /// Names the server in rules, audit records and calls of imports: 1 to 64 characters of `a-z 0-9 -`.
    name: String,
    /// Path below `public-url` at which clients reach it, such as `/mcp` or `/crm/mcp`. No effect for a local server.
    path: String,
    /// Its kind.
    kind: ServerKindName,
    /// The title on the consent page. Left out: the name.
    #[serde(default)]
    title: Option<String>,
    /// Tools that the consent page names, besides the server as a whole. Only for the kind `upstream`: for `tools`, the
    /// page names all.
    #[serde(default)]
    tools: Vec<String>,
    /// The permissions that a call may get tokens with. Each entry is one combination, of one resource, in the qualified
    /// form, such as `https://graph.microsoft.com/Mail.Read`.
    #[serde(default)]
    permissions: Vec<Vec<String>>,
    /// How the server learns the caller. Only for the kind `upstream`.
    #[serde(default)]
    identity: ServerIdentityDocument,
}

/// The kind of a server behind the component.
#[derive(Deserialize, Clone, Copy)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum ServerKindName {
    /// Tools that the host runs (import `provided-tools`). The component speaks MCP for them.
    Tools,
    /// A whole MCP server. The host sends requests on that the export `gatekeeper` admits.
    Upstream,
}

/// How a server behind the component learns the caller.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "form")]
enum ServerIdentityDocument {
    /// Not at all.
    #[default]
    None,
    /// By the headers of Azure App Service: `X-MS-CLIENT-PRINCIPAL` and those that belong to it.
    EasyAuth,
    /// By a token in `X-Entra-Mcp-Assertion` that the component signs (ES256), valid for 60 seconds. Its keys are at
    /// `/.well-known/jwks.json`.
    #[serde(rename_all = "kebab-case")]
    Assertion {
        /// `aud` of the token.
        audience: String,
    },
    /// By an access token of Entra ID in the caller's name, in `Authorization`.
    #[serde(rename_all = "kebab-case")]
    Token {
        /// One entry of the `permissions` of the server.
        permissions: Vec<String>,
    },
}

/// How people sign in to a public client.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct SignInDocument {
    /// Browser or device code.
    method: SignInMethodName,
    /// How long one sign-in waits for the person, in seconds.
    timeout_seconds: NonZeroU32,
    /// The account to use when several are signed in: a user name or a home account id. Compared exactly.
    account: Option<String>,
    /// Whether people sign in through the identity broker of the machine (import `identity-broker`).
    broker: BrokerUseName,
}

/// Time for a person to find a password and a second factor, in seconds.
const DEFAULT_SIGN_IN_TIMEOUT_SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);

impl Default for SignInDocument {
    fn default() -> Self {
        Self {
            method: SignInMethodName::Automatic,
            timeout_seconds: DEFAULT_SIGN_IN_TIMEOUT_SECONDS,
            account: None,
            broker: BrokerUseName::Off,
        }
    }
}

/// Whether people sign in through the identity broker of the machine.
#[derive(Deserialize, Clone, Copy)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum BrokerUseName {
    /// Never: the component does not call the import `identity-broker`.
    Off,
    /// If there is a broker. If it cannot sign the person in, `method` applies.
    Automatic,
    /// Only by the broker. Without one, no person can sign in.
    Require,
}

/// How a person signs in.
#[derive(Deserialize, Clone, Copy)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum SignInMethodName {
    /// The browser, or the device code flow where no browser can be opened.
    Automatic,
    /// Authorization code with PKCE through the system browser (RFC 8252). Never falls back.
    Browser,
    /// The device authorization grant (RFC 8628).
    DeviceCode,
}

/// The access tokens that the component accepts, before the requirements of a single call.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct TokenDocument {
    /// Accepted values of `aud`, compared exactly: the client id, and the App ID URI for version 1 tokens. An empty list
    /// accepts no access token.
    audiences: Vec<String>,
    /// Tenants whose tokens the component accepts, as GUIDs. An empty list accepts the configured tenant only; with the
    /// tenants `common` and `organizations` it accepts none.
    allowed_tenants: Vec<String>,
    /// Tolerated difference between clocks, in seconds, at most 300. Left out: 60 for access tokens, and 300 for ID tokens,
    /// as in Microsoft's libraries.
    #[cfg_attr(test, schemars(range(max = 300)))]
    clock_tolerance_seconds: Option<u32>,
}

/// How clients reach the remote server, and which callers it admits.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HttpDocument {
    /// The URL at which clients reach this server: scheme, host, optional port and path prefix, no trailing slash. It
    /// is the issuer of the authorization server. Every URL in metadata, challenges and redirects starts with it.
    public_url: String,
    /// Values of `Host` (`:authority`) that the component accepts, in lower case, with the port if it is not the
    /// scheme's. It refuses other values, which prevents DNS rebinding.
    allowed_hosts: Vec<String>,
    /// Origins (RFC 6454) of web pages that may call the server, besides the origin of `public-url`.
    #[serde(default)]
    allowed_origins: Vec<String>,
    /// The request header in which the host names the address of the client, in lower case. Left out: the host does not
    /// name it. A host that names one removes this header from what clients send.
    #[serde(default)]
    client_address_header: Option<String>,
    /// Serves the deprecated HTTP+SSE transport of 2024-11-05 (`GET /sse`, `POST /message`).
    #[serde(default)]
    legacy_sse: bool,
    /// Clients that are known without registration.
    #[serde(default)]
    clients: Vec<ClientDocument>,
    /// Lets clients register themselves (RFC 7591).
    #[serde(default)]
    dynamic_registration: bool,
    /// Private-use URI schemes (RFC 8252 section 7.1) of the redirect URIs that clients may register, in lower case and
    /// without the colon. Left out: none. Clients in `clients` may have any.
    #[serde(default)]
    allowed_redirect_schemes: Vec<String>,
    /// Accepts an https URL as client id, and reads the client's metadata there.
    #[serde(default)]
    client_id_metadata_documents: bool,
    /// The kinds of access tokens that the server admits.
    #[serde(default = "session_tokens")]
    token_mode: TokenModeName,
    /// App ID URI of the application, which qualifies the scope that clients request from Entra ID. Left out: the URL of
    /// the MCP endpoint, `{public-url}/mcp`. Clients name that URL as the resource (RFC 8707), and Entra ID refuses a
    /// token if the two differ (AADSTS9010010). For version 1 tokens it has to be among `token.audiences`. No effect in
    /// the token mode `session`.
    #[serde(default)]
    app_id_uri: Option<String>,
    /// The delegated permission of the application, in the short form of `scp`, that a person's token of Entra ID has to
    /// carry. No effect in the token mode `session`.
    required_scope: String,
    /// Which callers may call which tool. Left out: every tool has a rule of its own. Otherwise these are all rules, and a
    /// tool without a rule is denied to every caller. For the servers in `servers`, see `deny-unlisted`.
    #[serde(default)]
    access: Option<Vec<ToolRuleDocument>>,
    /// Denies everything of the servers in `servers` that no rule names. Without it, every admitted caller but AI
    /// agents may use what no rule names. No effect on the component's own tools.
    #[serde(default)]
    deny_unlisted: bool,
    /// The request header in which a gateway hands over the access token of Entra ID with which it admitted the person,
    /// in lower case. Left out: there is no such gateway. Where a request carries it, `Authorization` has no effect. The
    /// token is validated like any other. A host that names a header removes it from every request that does not come
    /// from a gateway that it trusts. No effect in the token mode `session`.
    #[serde(default)]
    token_header: Option<String>,
    /// Publishes the metadata of Entra ID under the issuer `public-url`, with what clients miss in it
    /// (`code_challenge_methods_supported`), and names that issuer in the metadata of the resource. Effective in the token
    /// mode `bearer` only: in the others, `public-url` is the issuer of the authorization server.
    #[serde(default)]
    rewrite_authority_metadata: bool,
    /// Event streams (`GET /sse`) that one caller may hold open at the same time, with all of its clients. Each occupies an
    /// instance.
    #[serde(default = "streams_per_caller")]
    max_streams_per_caller: u32,
    /// How long a replaced refresh token of a session gets the same answer again, in seconds, at most 120; 0 turns that
    /// off. It is for clients that did not get the answer, or that refresh twice at once. Afterwards, and once the new
    /// refresh token was used, another use of the old one ends the session. No effect in the token mode `bearer`.
    #[cfg_attr(test, schemars(range(max = 120)))]
    #[serde(default = "refresh_grace_seconds")]
    refresh_grace_seconds: u32,
    /// Answers a proxy at `/auth` that asks whether it may let a request through to a server behind it (nginx
    /// `auth_request`, Caddy and Traefik `forward_auth`, Envoy `ext_authz` over HTTP). Left out: the component does not
    /// serve `/auth`.
    #[serde(default)]
    forward_auth: Option<ForwardAuthDocument>,
}

/// As many as a person with some programs on some machines opens, and a quarter of what the bundled host has places for.
fn streams_per_caller() -> u32 {
    16
}

/// Grace for a replaced refresh token, in seconds: a client that waits 20 or 30 seconds for an answer asks again within
/// it.
fn refresh_grace_seconds() -> u32 {
    30
}

fn session_tokens() -> TokenModeName {
    TokenModeName::Session
}

/// A client that may use the authorization server without registration.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ClientDocument {
    /// The client id that the client sends.
    client_id: String,
    /// The name on the consent page.
    name: String,
    /// Compared exactly, except for the port of a loopback redirect (RFC 8252 section 7.3).
    redirect_uris: Vec<String>,
    /// SHA-256 of the client's secret as base64url without padding. Left out: a public client.
    #[serde(default)]
    secret_hash: Option<String>,
}

/// The kinds of access tokens that the remote server admits.
#[derive(Deserialize, Clone, Copy)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum TokenModeName {
    /// Tokens of sessions, which the authorization server of the component issues.
    Session,
    /// Tokens that clients obtain from Entra ID. Entra ID is the authorization server.
    Bearer,
    /// Both: a signed token of three parts (RFC 7515) is a token of Entra ID, any other is a token of a session.
    Both,
}

impl From<SettingsDocument> for Settings {
    fn from(from: SettingsDocument) -> Self {
        Self {
            tenant: from.tenant,
            client_id: from.client_id,
            authority: from.authority,
            graph_resource: from.graph_resource.unwrap_or_else(|| from.graph.clone()),
            graph: from.graph,
            token: token_settings(from.token),
            profile_cache: seconds(from.profile_cache_seconds),
            audit_usernames: from.audit_usernames,
            servers: from.servers.into_iter().map(ServerSettings::from).collect(),
            mode: match (from.http, from.client_type) {
                (Some(http), _) => Mode::Remote(Box::new(http.into())),
                (None, ClientTypeName::ConfidentialClient) => Mode::Validator,
                (None, ClientTypeName::PublicClient) => Mode::Local(from.sign_in.into()),
            },
        }
    }
}

fn token_settings(from: TokenDocument) -> TokenSettings {
    let TokenDocument { audiences, allowed_tenants, clock_tolerance_seconds } = from;
    TokenSettings { audiences, allowed_tenants, clock_tolerance: clock_tolerance_seconds.map(seconds) }
}

impl From<ServerDocument> for ServerSettings {
    fn from(from: ServerDocument) -> Self {
        let ServerDocument { name, path, kind, title, tools, permissions, identity } = from;
        let kind = match kind {
            ServerKindName::Tools => ServerKind::Tools,
            ServerKindName::Upstream => ServerKind::Upstream,
        };
        let identity = match identity {
            ServerIdentityDocument::None => ServerIdentity::None,
            ServerIdentityDocument::EasyAuth => ServerIdentity::EasyAuth,
            ServerIdentityDocument::Assertion { audience } => ServerIdentity::Assertion { audience },
            ServerIdentityDocument::Token { permissions } => ServerIdentity::Token { permissions },
        };
        Self { name, path, kind, title, tools, permissions, identity }
    }
}

impl From<SignInDocument> for LocalSettings {
    fn from(from: SignInDocument) -> Self {
        Self {
            method: match from.method {
                SignInMethodName::Automatic => SignInMethod::Automatic,
                SignInMethodName::Browser => SignInMethod::Browser,
                SignInMethodName::DeviceCode => SignInMethod::DeviceCode,
            },
            timeout: seconds(from.timeout_seconds.get()),
            account: from.account,
            broker: match from.broker {
                BrokerUseName::Off => BrokerUse::Off,
                BrokerUseName::Automatic => BrokerUse::Automatic,
                BrokerUseName::Require => BrokerUse::Require,
            },
        }
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

impl From<HttpDocument> for HttpSettings {
    fn from(from: HttpDocument) -> Self {
        Self {
            public_url: from.public_url,
            allowed_hosts: from.allowed_hosts,
            allowed_origins: from.allowed_origins,
            client_address_header: from.client_address_header,
            legacy_sse: from.legacy_sse,
            clients: from.clients.into_iter().map(RegisteredClient::from).collect(),
            dynamic_registration: from.dynamic_registration,
            allowed_redirect_schemes: from.allowed_redirect_schemes,
            client_id_metadata_documents: from.client_id_metadata_documents,
            token_mode: match from.token_mode {
                TokenModeName::Session => TokenMode::Session,
                TokenModeName::Bearer => TokenMode::Bearer,
                TokenModeName::Both => TokenMode::Both,
            },
            app_id_uri: from.app_id_uri,
            required_scope: from.required_scope,
            access: from.access.map(|rules| rules.into_iter().map(ToolRule::from).collect()),
            deny_unlisted: from.deny_unlisted,
            token_header: from.token_header,
            rewrite_authority_metadata: from.rewrite_authority_metadata,
            max_streams_per_caller: from.max_streams_per_caller,
            refresh_grace: seconds(from.refresh_grace_seconds),
            forward_auth: from.forward_auth.map(Into::into),
        }
    }
}

impl From<ClientDocument> for RegisteredClient {
    fn from(from: ClientDocument) -> Self {
        let ClientDocument { client_id, name, redirect_uris, secret_hash } = from;
        Self { client_id, name, redirect_uris, secret_hash }
    }
}
