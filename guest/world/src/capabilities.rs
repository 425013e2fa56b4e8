//! The traits behind which the world is.
//!
//! Time, randomness, HTTP, secrets and people are reached through these traits and in no other way, so that expiry,
//! clock skew, key rotation and faults are tested without sleeping and without a network. The component implements the
//! traits on the WIT imports; `testing` implements them for unit tests.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::audit::AuditEvent;

use crate::http_error::HttpError;

/// How long a request may wait for its response, where that is less than the bound of all requests: an extension of
/// [`http::Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(pub Duration);

/// Outbound HTTP. Redirects are not followed.
#[async_trait(?Send)]
pub trait Http {
    /// Sends a request and reads the whole response.
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>;
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

/// The arithmetic of signatures, where the host does it faster than the component.
pub trait Signatures {
    /// Whether `signature` is the RS256 signature of `signed` by the RSA key with this `modulus`, a big-endian number in
    /// its shortest form of 2048 to 8192 bits, and the exponent 65537. `None` if the host cannot tell.
    fn is_good_rs256(&self, modulus: &[u8], signed: &[u8], signature: &[u8]) -> Option<bool>;
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

/// Why the identity broker of the machine gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// There is none, or this host cannot ask it.
    #[error("there is no identity broker to sign in with: {0}")]
    Absent(String),
    /// The person has to take part.
    #[error("the identity broker needs the person")]
    InteractionRequired,
    /// The person declined.
    #[error("the person declined in the identity broker")]
    Declined,
    /// It did not answer in time, or cannot reach Entra ID.
    #[error("the identity broker does not answer: {0}")]
    Unavailable(String),
    /// It refused, or its answer cannot be read.
    #[error("the identity broker refused: {0}")]
    Refused(String),
}

/// An account that the identity broker knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAccount {
    /// `{object id}.{tenant id}`.
    pub home_account_id: String,
    /// User principal name.
    pub username: String,
}

/// What the identity broker is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRequest {
    /// The application.
    pub client_id: String,
    /// The authority with the tenant.
    pub authority: String,
    /// Scopes of one resource.
    pub scopes: Vec<String>,
    /// Home account id; `None` if the person chooses.
    pub account: Option<String>,
    /// The user name to fill in where the person chooses.
    pub login_hint: Option<String>,
    /// The claims parameter, JSON.
    pub claims: Option<String>,
    /// A GUID.
    pub correlation_id: String,
}

/// What the identity broker gave. None of it is validated.
pub struct BrokerTokens {
    /// The access token.
    pub access_token: Secret<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// The ID token of the account.
    pub id_token: Secret<String>,
}

/// The identity broker of the machine.
pub trait Broker {
    /// The accounts that it has for an application.
    fn accounts(&self, client_id: &str, correlation_id: &str) -> Result<Vec<BrokerAccount>, BrokerError>;
    /// Tokens without the person.
    fn acquire_silently(&self, request: &BrokerRequest) -> Result<BrokerTokens, BrokerError>;
    /// Lets the broker ask the person, in a window of its own.
    fn ask_person(&self, request: &BrokerRequest) -> Box<dyn BrokerInteraction>;
}

/// The person is asked by the identity broker. Dropping it closes the window.
pub trait BrokerInteraction {
    /// Blocks until there is an answer, or `None` after `timeout`.
    fn wait(&self, timeout: Duration) -> Option<Result<BrokerTokens, BrokerError>>;
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
pub trait Channel {
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
    /// Another credential than the one that the token endpoint has refused; [`Credential::None`] if there is none.
    fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError>;
}

/// The credential of a component that has none, because it asks for no token of its own.
#[derive(Debug, Clone, Copy)]
pub struct NoCredential;

impl ClientCredential for NoCredential {
    fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::None)
    }

    fn replacement(&self, _: &str, _: &Credential) -> Result<Credential, CredentialError> {
        Ok(Credential::None)
    }
}

/// Where security events go.
pub trait Audit {
    /// Records an event; an error means that it could not be written.
    fn record(&self, event: AuditEvent) -> Result<(), String>;
}

/// Where events go if the host, or what is behind, has what they say anyway, and records it if it wants to.
#[derive(Debug, Clone, Copy)]
pub struct NoAudit;

impl Audit for NoAudit {
    fn record(&self, _: AuditEvent) -> Result<(), String> {
        Ok(())
    }
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
    /// Fetches an https URL for the client at this address, if it is known.
    fn fetch(&self, url: &str, client_address: Option<&str>) -> Result<Document, FetchError>;
}
