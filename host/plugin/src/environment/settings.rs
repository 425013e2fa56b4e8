//! The settings of the component. `wit/settings.schema.json` specifies each of them, with unit, limits and default; the
//! component checks the values.

use std::fmt;

use serde::Serialize;

mod defaults;

/// How the component acts towards Entra ID (RFC 6749 section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientType {
    /// A local server on the user's own machine. It holds no client credential.
    PublicClient,
    /// A remote server or a token validator that authenticates itself.
    ConfidentialClient,
}

/// How a person signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignInMethod {
    /// The browser, or the device code flow where no browser can be opened.
    Automatic,
    /// The browser only.
    Browser,
    /// The device code flow only.
    DeviceCode,
}

/// Whether a person signs in through the identity broker of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerUse {
    /// Never.
    Off,
    /// If there is one. If it cannot sign the person in, [`SignInSettings::method`] applies.
    Automatic,
    /// In no other way.
    Require,
}

impl BrokerUse {
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// Public or confidential.
    pub client_type: ClientType,
    /// Tenant id, verified domain, `common`, `organizations` or `consumers`.
    pub tenant: String,
    /// Application (client) id.
    pub client_id: String,
    /// Scheme and host of the authority.
    pub authority: String,
    /// Base URL of Microsoft Graph.
    pub graph: String,
    /// The resource identifier that qualifies scopes of Microsoft Graph.
    pub graph_resource: String,
    /// How people sign in to a public client.
    pub sign_in: SignInSettings,
    /// The access tokens that the component accepts.
    pub token: TokenSettings,
    /// How long the component may return a profile again without asking Microsoft Graph, in seconds.
    pub profile_cache_seconds: u32,
    /// Adds user principal names to audit records.
    pub audit_usernames: bool,
    /// MCP servers that the component protects and that are not its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerSettings>,
    /// The remote server; `None` for a local server and a token validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
}

impl Settings {
    /// The scope for the profile of the user: the one to sign a person in for.
    pub fn profile_scope(&self) -> String {
        format!("{}/User.Read", self.graph_resource)
    }

    /// Whether the component ever reads a metadata document of a client: only a remote server that accepts them as client
    /// ids, and has sessions to give to clients.
    pub fn reads_client_metadata(&self) -> bool {
        let sessions = |http: &HttpSettings| http.token_mode != TokenMode::Bearer;
        self.http.as_ref().is_some_and(|http| http.client_id_metadata_documents && sessions(http))
    }
}

/// An MCP server behind the component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerSettings {
    /// Names it in rules, records and calls: 1 to 64 characters of `a-z 0-9 -`.
    pub name: String,
    /// Its path below the public URL.
    pub path: String,
    /// Its kind.
    pub kind: ServerKind,
    /// The title on the consent page; `None`: the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Tools that the consent page names. Only for [`ServerKind::Upstream`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// The permissions that a call may get tokens with: combinations, each of one resource, in the qualified form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<Vec<String>>,
    /// How the server learns the caller.
    #[serde(skip_serializing_if = "ServerIdentity::is_none")]
    pub identity: ServerIdentity,
}

/// The kind of a server behind the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerKind {
    /// Tools that the host runs; the component speaks MCP for them.
    Tools,
    /// A whole MCP server, to which the host sends admitted requests on.
    Upstream,
}

/// How a server behind the component learns the caller. Only for [`ServerKind::Upstream`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "form")]
pub enum ServerIdentity {
    /// Not at all.
    None,
    /// By the headers of Azure App Service.
    EasyAuth,
    /// By a token that the component signs.
    Assertion {
        /// `aud`.
        audience: String,
    },
    /// By an access token of Entra ID in the caller's name.
    Token {
        /// One entry of [`ServerSettings::permissions`].
        permissions: Vec<String>,
    },
}

impl ServerIdentity {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// How people sign in to a public client. The account, which may be a person's name, is not in its `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignInSettings {
    /// Browser or device code.
    pub method: SignInMethod,
    /// How long one sign-in waits for the person, in seconds. Above zero.
    pub timeout_seconds: u32,
    /// The account to use when several are signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whether people sign in through the identity broker of the machine.
    #[serde(skip_serializing_if = "BrokerUse::is_off")]
    pub broker: BrokerUse,
}

impl fmt::Debug for SignInSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, timeout_seconds, account: _, broker } = self;
        let mut shown = f.debug_struct("SignInSettings");
        shown.field("method", method).field("timeout_seconds", timeout_seconds).field("broker", broker);
        shown.finish_non_exhaustive()
    }
}

/// The access tokens that the component accepts, before the requirements of a single call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TokenSettings {
    /// Accepted values of `aud`. An empty list accepts no token.
    pub audiences: Vec<String>,
    /// Accepted tenants, as GUIDs. An empty list accepts the configured one only.
    pub allowed_tenants: Vec<String>,
    /// Tolerated difference between clocks, in seconds, at most 300. `None`: 60 for access tokens, 300 for ID tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_tolerance_seconds: Option<u32>,
}

/// How clients reach the remote server, and which callers it admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HttpSettings {
    /// The URL at which clients reach this server; no trailing slash.
    pub public_url: String,
    /// Values of `Host` that the server answers to.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call the server, besides that of `public_url`.
    pub allowed_origins: Vec<String>,
    /// The request header in which the host names the address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address_header: Option<String>,
    /// Serves HTTP+SSE.
    pub legacy_sse: bool,
    /// Clients that are known without registration.
    pub clients: Vec<RegisteredClient>,
    /// Lets clients register themselves.
    pub dynamic_registration: bool,
    /// Private-use URI schemes in which clients may register redirect URIs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_redirect_schemes: Vec<String>,
    /// Accepts https URLs as client ids.
    pub client_id_metadata_documents: bool,
    /// The kinds of access tokens that the server admits.
    pub token_mode: TokenMode,
    /// App ID URI of the application; `None`: the URL of the MCP endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id_uri: Option<String>,
    /// The scope that a person's token of Entra ID has to carry.
    pub required_scope: String,
    /// Which callers may call which tool; `None` leaves that to the tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<ToolRule>>,
    /// Denies everything of the servers in [`Settings::servers`] that no rule names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deny_unlisted: bool,
    /// The request header in which a gateway hands over a token of Entra ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_header: Option<String>,
    /// Publishes the metadata of Entra ID under the issuer `public_url`.
    pub rewrite_authority_metadata: bool,
    /// Event streams that one caller may hold open at the same time, with all of its clients.
    pub max_streams_per_caller: u32,
    /// How long a replaced refresh token gets the same answer again, in seconds, at most 120; 0: never.
    pub refresh_grace_seconds: u32,
    /// Answers a proxy at `/auth` that asks whether it may let a request through; `None`: the server does not serve
    /// `/auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_auth: Option<ForwardAuthSettings>,
}

/// How a proxy asks whether it may let a request through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ForwardAuthSettings {
    /// The server behind the proxy: the name of one of [`Settings::servers`], of the kind [`ServerKind::Upstream`].
    pub server: String,
    /// SHA-256 of the secret that the proxy sends in `X-Entra-Mcp-Proxy-Secret`, as base64url; `None`: it sends none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_hash: Option<String>,
}

/// Event streams of one caller, unless set otherwise: a quarter of the places that `entra-mcp serve` has.
pub const DEFAULT_MAX_STREAMS_PER_CALLER: u32 = 16;

/// A client that is known without registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegisteredClient {
    /// The client id that the client sends.
    pub client_id: String,
    /// The name on the consent page.
    pub name: String,
    /// The URIs to which the server may send its users back after the sign-in.
    pub redirect_uris: Vec<String>,
    /// SHA-256 of its secret as base64url; `None` for a public client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_hash: Option<String>,
}

/// Which access tokens the remote server admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenMode {
    /// Tokens of sessions.
    Session,
    /// Tokens of Entra ID.
    Bearer,
    /// Both.
    Both,
}

/// The kind of thing that a rule names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A tool, by its name.
    #[default]
    Tool,
    /// A resource by its URI, or a template of resources by its URI template.
    Resource,
    /// A prompt, by its name.
    Prompt,
    /// Completion of an argument, by the prompt or the resource that it is for.
    Completion,
    /// A task, by the operation on it.
    Task,
}

impl TargetKind {
    fn is_tool(&self) -> bool {
        *self == Self::Tool
    }
}

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallerKind {
    /// A person with any client.
    User,
    /// An application that acts for itself.
    App,
    /// An AI agent, for itself or on behalf of a person. Denied unless a rule names it.
    Agent,
}

/// A condition under which a caller may call a tool. `None` has no effect; an empty list fits no caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolRule {
    /// The server in [`Settings::servers`] of the rule; `None`: any, and the component's own tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The kind of thing that the rule names.
    #[serde(skip_serializing_if = "TargetKind::is_tool")]
    pub kind: TargetKind,
    /// Name of the tool; `*` for everything of that kind without a rule of its own.
    pub tool: String,
    /// Tenants that the rule is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<Vec<String>>,
    /// Kinds of callers that the rule admits. An empty list admits no caller.
    pub kinds: Vec<CallerKind>,
    /// Client ids, of which the caller has to use one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<String>>,
    /// Application roles, of which the caller needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// Object ids of groups, of which the caller has to be in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Scopes in the short form. A person's client needs all of them.
    pub scopes: Vec<String>,
    /// Authentication contexts, of which the person's sign-in has to satisfy one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acrs: Option<Vec<String>>,
}

#[cfg(test)]
mod tests;
