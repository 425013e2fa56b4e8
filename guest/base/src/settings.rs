//! What is configured. The settings are constant for the life of an instance.

use std::fmt;
use std::time::Duration;

use crate::policy::ToolRule;

/// The configuration; see `settings_document.rs` for the meaning and unit of each field.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tenant GUID, domain, `common`, `organizations` or `consumers`.
    pub tenant: String,
    /// Application id.
    pub client_id: String,
    /// Scheme and host of the authority; no path, no trailing slash.
    pub authority: String,
    /// Base URL of Graph; no version, no trailing slash.
    pub graph: String,
    /// The resource that Graph scopes are qualified with.
    pub graph_resource: String,
    /// Access tokens that are accepted.
    pub token: TokenSettings,
    /// Life of a cached profile.
    pub profile_cache: Duration,
    /// Audit records name the user.
    pub audit_usernames: bool,
    /// The MCP servers that the component protects and that are not its own. Where there are some, the component's own
    /// tools are not served.
    pub servers: Vec<ServerSettings>,
    /// What the component is used as.
    pub mode: Mode,
}

impl Settings {
    /// Whether the application is a public client (RFC 6749 section 2.1), which holds no credential.
    pub fn is_public_client(&self) -> bool {
        matches!(self.mode, Mode::Local(_))
    }
}

/// A server behind the component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Names it in rules, records and the host's configuration.
    pub name: String,
    /// Where its clients reach it, below the public URL.
    pub path: String,
    /// What it is.
    pub kind: ServerKind,
    /// For people.
    pub title: Option<String>,
    /// Tools that the consent page names. Of [`ServerKind::Upstream`] only: other servers say themselves which they have.
    pub tools: Vec<String>,
    /// The permissions that a call may get tokens with: each entry is one combination, of one resource, in the qualified
    /// form.
    pub permissions: Vec<Vec<String>>,
    /// How the server behind learns who calls.
    pub identity: ServerIdentity,
}

/// What a server behind the component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// Tools that the host runs; the component speaks MCP for them.
    Tools,
    /// A whole MCP server, to which admitted requests go on.
    Upstream,
}

/// How a server behind the component learns who calls. Of [`ServerKind::Upstream`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerIdentity {
    /// Not at all.
    None,
    /// By the headers that Azure App Service sets (`X-MS-CLIENT-PRINCIPAL` and others).
    EasyAuth,
    /// By a token that the component signs, for this audience.
    Assertion {
        /// `aud`.
        audience: String,
    },
    /// By an access token of Entra ID in the caller's name, with these permissions: one of [`ServerSettings::permissions`].
    Token {
        /// In the qualified form.
        permissions: Vec<String>,
    },
}

/// What the component is used as.
#[derive(Debug, Clone)]
pub enum Mode {
    /// A server for the person at this machine: a public client.
    Local(LocalSettings),
    /// A server for remote clients: a confidential client.
    Remote(Box<HttpSettings>),
    /// A validator of tokens, as a confidential client. It serves no messages, and no person signs in.
    Validator,
}

/// How a person signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInMethod {
    /// Browser, else device code.
    Automatic,
    /// Browser only.
    Browser,
    /// Device code only.
    DeviceCode,
}

/// Whether a person signs in through the identity broker of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerUse {
    /// Never.
    Off,
    /// Where there is one. What it cannot do is done by [`LocalSettings::method`].
    Automatic,
    /// In no other way.
    Require,
}

/// How clients reach the remote server, and which callers it admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// The base of every URL; no slash at its end. The issuer.
    pub public_url: String,
    /// Accepted values of `Host`.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages, besides that of `public_url`.
    pub allowed_origins: Vec<String>,
    /// The header in which the host names the address of the client.
    pub client_address_header: Option<String>,
    /// Serves HTTP+SSE.
    pub legacy_sse: bool,
    /// Clients that are known without registration.
    pub clients: Vec<RegisteredClient>,
    /// Accepts RFC 7591.
    pub dynamic_registration: bool,
    /// Private-use URI schemes that clients may register redirect URIs of.
    pub allowed_redirect_schemes: Vec<String>,
    /// Accepts https URLs as client ids.
    pub client_id_metadata_documents: bool,
    /// Which access tokens are admitted.
    pub token_mode: TokenMode,
    /// App ID URI of the application; none is the URL of the MCP endpoint.
    pub app_id_uri: Option<String>,
    /// The scope that a person's token of Entra ID has to carry, in the short form.
    pub required_scope: String,
    /// Which callers may call which tool; `None` leaves that to the rule of each tool.
    pub access: Option<Vec<ToolRule>>,
    /// Denies what servers behind the component have and no rule names.
    pub deny_unlisted: bool,
    /// The header in which a gateway hands over a token of Entra ID.
    pub token_header: Option<String>,
    /// Publishes Entra ID's metadata under the server's own issuer.
    pub rewrite_authority_metadata: bool,
    /// Event streams that one caller may hold open at the same time, with all of its clients.
    pub max_streams_per_caller: u32,
    /// How long a refresh token that was replaced gets the answer again that replaced it. Zero: never.
    pub refresh_grace: Duration,
    /// Answers a proxy that asks whether it may let a request through.
    pub forward_auth: Option<ForwardAuthSettings>,
}

/// How a proxy asks whether it may let a request through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuthSettings {
    /// The server behind the proxy: one of [`Settings::servers`].
    pub server: String,
    /// SHA-256 of the secret that the proxy sends, as base64url.
    pub secret_hash: Option<String>,
}

impl HttpSettings {
    /// Whether Entra ID is the authorization server, under the server's own issuer.
    pub fn stands_in_for_the_authority(&self) -> bool {
        self.rewrite_authority_metadata && self.token_mode == TokenMode::Bearer
    }
}

/// Which access tokens the remote server admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenMode {
    /// Those of sessions.
    Session,
    /// Those of Entra ID.
    Bearer,
    /// Both.
    Both,
}

impl TokenMode {
    /// Whether the server issues sessions, and with them runs an authorization server.
    pub fn has_sessions(self) -> bool {
        matches!(self, Self::Session | Self::Both)
    }

    /// Whether clients may bring tokens of Entra ID.
    pub fn takes_entra_tokens(self) -> bool {
        matches!(self, Self::Bearer | Self::Both)
    }
}

/// A client that is known without registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredClient {
    /// As in requests.
    pub client_id: String,
    /// For people.
    pub name: String,
    /// Where its users may be sent back to.
    pub redirect_uris: Vec<String>,
    /// SHA-256 of its secret as base64url; none for a public client.
    pub secret_hash: Option<String>,
}

/// How people sign in to a public client.
#[derive(Clone)]
pub struct LocalSettings {
    /// Browser or device code.
    pub method: SignInMethod,
    /// How long a sign-in waits for the person.
    pub timeout: Duration,
    /// The account to use when there are several.
    pub account: Option<String>,
    /// Whether the identity broker of the machine is asked.
    pub broker: BrokerUse,
}

/// The account may be a person's address, so `Debug` leaves it out.
impl fmt::Debug for LocalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, timeout, account: _, broker } = self;
        let mut shown = f.debug_struct("LocalSettings");
        shown.field("method", method).field("timeout", timeout).field("broker", broker).finish_non_exhaustive()
    }
}

/// Which access tokens the validator accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Accepted `aud` values. Empty accepts none.
    pub audiences: Vec<String>,
    /// Accepted tenants (GUIDs). Empty: the configured tenant only.
    pub allowed_tenants: Vec<String>,
    /// Tolerated clock difference; at most 300 s. None leaves it to the use of the token.
    pub clock_tolerance: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_the_settings_shows_no_account() {
        let settings = LocalSettings {
            method: SignInMethod::Automatic,
            timeout: Duration::from_secs(300),
            account: Some("alice@contoso.example".to_owned()),
            broker: BrokerUse::Off,
        };
        assert!(!format!("{settings:?} {:?}", Mode::Local(settings.clone())).contains("alice"));
    }
}
