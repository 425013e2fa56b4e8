//! The seam between the component's logic and the world.
//!
//! Time, randomness, configuration, HTTP, secrets and people are reached through these traits and in no other
//! way, so that expiry, clock skew, key rotation and faults are tested without sleeping and without a network.
//! `bindings.rs` implements the traits on the WIT imports; [`fake`] implements them for unit tests.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::access::ToolRule;
use crate::secret::Secret;

#[cfg(test)]
pub(crate) mod fake;

/// Everything a call may use of the world. Cheap to pass by reference.
pub struct Environment {
    /// What is configured.
    pub settings: Settings,
    /// Outbound HTTP, to the allow-listed hosts only.
    pub http: Box<dyn HttpClient>,
    /// Records that outlive the instance.
    pub store: Box<dyn SecretStore>,
    /// Wall clock, monotonic clock, timers.
    pub clock: Box<dyn Clock>,
    /// Cryptographically secure randomness.
    pub random: Box<dyn Random>,
    /// The person at this machine, if there is one.
    pub user_agent: Box<dyn UserAgent>,
    /// The connection of the message that is being handled.
    pub channel: Box<dyn ClientChannel>,
    /// The application's credential for the token endpoint.
    pub credential: Box<dyn ClientCredential>,
    /// Security events.
    pub audit: Box<dyn Audit>,
    /// What the operator should know and nobody else.
    pub log: Box<dyn Log>,
    /// Bounds of how often something may be done.
    pub rate_limiter: Box<dyn RateLimiter>,
    /// Documents at addresses that strangers choose.
    pub client_metadata: Box<dyn ClientMetadata>,
    /// The call that is going on, for the audit records of it.
    pub call: crate::audit::Call,
}

/// Public or confidential client (RFC 6749 section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientType {
    /// A local server; holds no credential.
    Public,
    /// A remote server; authenticates with [`ClientCredential`].
    Confidential,
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

/// The configuration; see `settings_document.rs` for the meaning and unit of each field.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Public or confidential.
    pub client_type: ClientType,
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
    /// Sign-in of people.
    pub sign_in: SignInSettings,
    /// Access tokens that are accepted.
    pub token: TokenSettings,
    /// Life of a cached profile.
    pub profile_cache: Duration,
    /// Audit records name the user.
    pub audit_usernames: bool,
    /// How the remote server is reached; none for a local one.
    pub http: Option<HttpSettings>,
}

/// How the remote server is reached, and by whom.
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
    /// Accepts https URLs as client ids.
    pub client_id_metadata_documents: bool,
    /// Which access tokens are let in.
    pub token_mode: TokenMode,
    /// App ID URI of the application; none is the URL of the MCP endpoint.
    pub app_id_uri: Option<String>,
    /// The scope that a person's token of Entra ID has to carry, in the short form.
    pub required_scope: String,
    /// Who may call which tool; none leaves that to the rule of each tool.
    pub access: Option<Vec<ToolRule>>,
    /// The header in which a gateway hands over a token of Entra ID.
    pub token_header: Option<String>,
    /// Publishes Entra ID's metadata under our own issuer.
    pub rewrite_authority_metadata: bool,
}

impl HttpSettings {
    /// Whether Entra ID is the authorization server, under our own issuer.
    pub fn stands_in_for_the_authority(&self) -> bool {
        self.rewrite_authority_metadata && self.token_mode == TokenMode::Bearer
    }
}

/// Which access tokens the remote server lets in.
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
    /// Whether there are sessions, and with them an authorization server of ours.
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
pub struct SignInSettings {
    /// Browser or device code.
    pub method: SignInMethod,
    /// How long a sign-in waits for the person.
    pub timeout: Duration,
    /// The account to use when there are several.
    pub account: Option<String>,
}

/// The account may be somebody's address.
impl fmt::Debug for SignInSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, timeout, account: _ } = self;
        f.debug_struct("SignInSettings").field("method", method).field("timeout", timeout).finish_non_exhaustive()
    }
}

/// Which access tokens the validator accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Accepted `aud` values. Empty accepts none.
    pub audiences: Vec<String>,
    /// Accepted tenants (GUIDs). Empty: the configured tenant only.
    pub allowed_tenants: Vec<String>,
    /// Tolerated clock difference; at most 300 s.
    pub clock_tolerance: Duration,
}

/// Why an HTTP exchange produced no response. A response of any status is not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The host refused the request: its target is not allowed.
    #[error("the target is not on the allow-list")]
    Denied,
    /// No connection could be made (name, route, TLS). Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No complete answer in time.
    #[error("timed out")]
    TimedOut,
    /// The response is over the limit.
    #[error("the response is too large")]
    TooLarge,
    /// The exchange broke after it had started: the request may have been processed.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Outbound HTTP. Redirects are not followed.
#[async_trait(?Send)]
pub trait HttpClient {
    /// Sends a request and reads the whole response.
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>;
}

/// Why the secret store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Key or value over its limit.
    #[error("the record is too large")]
    TooLarge,
    /// Altered, or sealed with another key.
    #[error("the record cannot be opened")]
    Unreadable,
    /// Cannot be reached or written now. The text is for the log, and the host has logged it.
    #[error("the secret store is unavailable now: see the log")]
    Unavailable(String),
}

/// Records that outlive an instance, shared with other instances and processes.
pub trait SecretStore {
    /// Reads a record.
    fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError>;
    /// Writes a record; `None` keeps it until deleted.
    fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError>;
    /// Reads and deletes in one step.
    fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError>;
    /// Writes only if the record is still `expected`.
    fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError>;
    /// Deletes a record.
    fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// Time.
#[async_trait(?Send)]
pub trait Clock {
    /// Unix time in seconds.
    fn now(&self) -> u64;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Returns after `duration`.
    async fn sleep(&self, duration: Duration);
}

/// Cryptographically secure randomness.
pub trait Random {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Why the person could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserAgentError {
    /// There is no person at this machine.
    #[error("this environment has no user agent")]
    Unsupported,
    /// No browser or no port.
    #[error("{0}")]
    Unavailable(String),
    /// No such listener is running.
    #[error("the redirect listener is no longer running")]
    NoSuchListener,
    /// Too many run already.
    #[error("too many sign-ins are waiting for a redirect")]
    TooManyListeners,
}

/// What the browser tab shows after the redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whether the sign-in succeeded.
    pub success: bool,
    /// Plain text heading.
    pub title: String,
    /// Plain text.
    pub message: String,
}

/// Browser, loopback listener, prompt.
pub trait UserAgent {
    /// Opens the browser.
    fn open_browser(&self, url: &str) -> Result<(), UserAgentError>;
    /// Shows a message outside of the MCP conversation.
    fn prompt(&self, message: &str);
    /// Starts a listener.
    fn listen(&self) -> Result<Box<dyn LoopbackListener>, UserAgentError>;
    /// Continues with a detached listener.
    fn attach(&self, id: &str) -> Result<Box<dyn LoopbackListener>, UserAgentError>;
}

/// Receives one redirect.
pub trait LoopbackListener {
    /// `http://localhost:{port}`.
    fn redirect_uri(&self) -> String;
    /// Blocks until the redirect arrives; its query, or `None` after `timeout`.
    fn wait(&self, timeout: Duration) -> Option<String>;
    /// Answers the browser.
    fn respond(&self, page: Page);
    /// Leaves the listener running after this handle is dropped; the id to attach with.
    fn detach(&self, lifetime: Duration) -> String;
}

/// Why the client did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The transport cannot carry requests to the client.
    #[error("the transport cannot carry server-to-client requests")]
    Unsupported,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// No answer in time.
    #[error("the client did not answer in time")]
    TimedOut,
    /// The client answered with an error object (JSON).
    #[error("the client answered with an error")]
    Refused(String),
}

/// The connection of the message that is being handled.
pub trait ClientChannel {
    /// Sends a notification; best effort.
    fn notify(&self, method: &str, params: &serde_json::Value);
    /// Sends a request that has to be answered within `timeout`.
    fn request(&self, method: &str, params: &serde_json::Value, timeout: Duration) -> Box<dyn PendingRequest>;
    /// What was last remembered for the connection.
    fn state(&self) -> Option<String>;
    /// Remembers a value for as long as the connection lasts.
    fn set_state(&self, value: &str);
}

/// A request that the client has not answered yet. Dropping it gives the answer up.
pub trait PendingRequest {
    /// Blocks until the answer arrives, or `None` after `timeout`.
    fn wait(&self, timeout: Duration) -> Option<Result<serde_json::Value, ChannelError>>;
}

/// What proves to Entra ID which application this is.
pub enum Credential {
    /// A public client.
    None,
    /// `client_secret`.
    Secret(Secret<String>),
    /// `client_assertion`.
    Assertion(Secret<String>),
}

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The text names the setting.
    #[error("{0}")]
    NotConfigured(String),
    /// The source did not answer.
    #[error("the client credential is unavailable: {0}")]
    Unavailable(String),
}

/// The application's credential.
pub trait ClientCredential {
    /// Obtains a credential for one request to the token endpoint `audience`.
    fn obtain(&self, audience: &str) -> Result<Credential, CredentialError>;
}

/// How an audited event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Success,
    /// Refused or failed.
    Failure,
    /// Begun; the end is another event.
    Started,
}

/// One security event. Holds no token or secret, and a name only in `username`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Dotted, stable name.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Stable reason code of a failure.
    pub reason: Option<String>,
    /// Tenant id.
    pub tenant_id: Option<String>,
    /// Object id.
    pub object_id: Option<String>,
    /// Client id.
    pub client_id: Option<String>,
    /// MCP tool.
    pub tool: Option<String>,
    /// `uti` or `jti` of the token of the request.
    pub token_id: Option<String>,
    /// Keyed hash of the session.
    pub session: Option<String>,
    /// Address of the client.
    pub address: Option<String>,
    /// User principal name, if the settings ask for it.
    pub username: Option<String>,
    /// How long it took, in microseconds.
    pub latency_us: Option<u64>,
    /// W3C trace context of the MCP message.
    pub trace_parent: Option<String>,
    /// Correlation id of the call.
    pub correlation_id: String,
}

impl AuditEvent {
    /// An event of which nothing else is known yet.
    pub fn new(name: &'static str, outcome: Outcome, correlation_id: &str) -> Self {
        Self {
            name,
            outcome,
            reason: None,
            tenant_id: None,
            object_id: None,
            client_id: None,
            tool: None,
            token_id: None,
            session: None,
            address: None,
            username: None,
            latency_us: None,
            trace_parent: None,
            correlation_id: correlation_id.to_owned(),
        }
    }
}

/// Where security events go.
pub trait Audit {
    /// Records an event; an error means that it could not be written.
    fn record(&self, event: AuditEvent) -> Result<(), String>;
}

/// Notes for the operator, in the host's log.
pub trait Log {
    /// Adds one line. It must not hold a token, a secret or the name of a person.
    fn note(&self, line: &str);
}

/// Bounds of how often something may be done.
pub trait RateLimiter {
    /// Counts one `operation` by `subject`; an error says after which time to try again.
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration>;
}

/// A document at an address that a stranger chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// At most 64 KiB.
    pub body: Vec<u8>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// How long it may be kept, if the answer said so.
    pub max_age: Option<Duration>,
}

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Not https, or not on the public Internet.
    #[error("the address is not allowed: {0}")]
    Denied(String),
    /// Another status than 200.
    #[error("answered with status {0}")]
    Status(u16),
    /// Over the limit.
    #[error("the document is too large")]
    TooLarge,
    /// Not reached, or not in time. The text is for the log.
    #[error("the document cannot be read now")]
    Unavailable(String),
}

/// Reads documents at addresses that strangers choose; see `wit/client-metadata.wit` for the limits.
pub trait ClientMetadata {
    /// Fetches an https URL.
    fn fetch(&self, url: &str) -> Result<Document, FetchError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_the_settings_shows_no_account() {
        let mut settings = fake::settings();
        settings.sign_in.account = Some("alice@contoso.example".to_owned());
        assert!(!format!("{settings:?}").contains("alice"));
    }

    #[test]
    fn a_failure_of_the_store_keeps_the_reason_for_the_log() {
        let error = StoreError::Unavailable("cannot open /home/alice/.local/share/store.sqlite".to_owned());
        assert!(!error.to_string().contains("alice"));
    }
}
