//! Errors of the host: one flat type. The cases say which party can do something about it.

use std::path::PathBuf;

use crate::sign_in::SignInError;
use crate::token_validator::TokenError;

/// Why an operation has no result. Cases may be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Before a call: the operator or the embedder changes the configuration, the component or the machine.
    /// The bytes are no component, or the component imports something that the host does not grant.
    #[error("the component cannot be loaded: {0:#}")]
    Component(wasmtime::Error),
    /// The engine refuses its configuration on this machine.
    #[error("the WebAssembly engine cannot start: {0:#}")]
    Engine(wasmtime::Error),
    /// The settings cannot be written as JSON.
    #[error("the settings cannot be handed to the component: {0}")]
    Settings(serde_json::Error),
    /// The URL of a remote server is not an origin: `https`, or `http` on loopback, without a path.
    #[error("{0:?} is not a public URL: it has to be https (or http on loopback), without a path")]
    PublicUrl(String),
    /// A required part of the builder is missing.
    #[error("no {0} was given to the plugin builder")]
    Missing(&'static str),
    /// A configured endpoint cannot be on the allow-list.
    #[cfg(feature = "outbound-http")]
    #[error(transparent)]
    Endpoint(#[from] crate::outbound_http::policy::PolicyError),
    /// The roots of trust cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A file with certificates cannot be used.
    #[error("the certificate file {path} cannot be used: {reason}")]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The secret store cannot be opened.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    SecretStore(#[from] crate::secret_store::OpenError),
    /// The secret store on the network cannot be used.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    RedisStore(#[from] crate::secret_store::RedisError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),

    // During a call. Other calls go on.
    /// The component trapped, exceeded a limit, or ran for too long. The log has the details under the correlation id.
    #[error("the component failed (correlation id {correlation_id})")]
    Trapped {
        /// Correlation id of the call in the log.
        correlation_id: String,
    },
    /// All instances are busy, and the queue is full or the call has waited too long in it. The caller may try again
    /// after a second.
    #[error("all instances of the component are busy (correlation id {correlation_id})")]
    Busy {
        /// Correlation id of the call in the log.
        correlation_id: String,
    },
    /// No instance can be created.
    #[error("no instance of the component can be created (correlation id {correlation_id})")]
    NoInstance {
        /// Correlation id of the call in the log.
        correlation_id: String,
    },

    // Decisions of the component: the caller can do something about them.
    /// There is no account or no token.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The token is not accepted.
    #[error(transparent)]
    Token(Box<TokenError>),
}

impl Error {
    /// The correlation id of the call in the log, if the host or the component failed.
    pub fn correlation_id(&self) -> Option<&str> {
        match self {
            Self::Trapped { correlation_id } | Self::Busy { correlation_id } | Self::NoInstance { correlation_id } => {
                Some(correlation_id)
            }
            _ => None,
        }
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        Self::Token(Box::new(error))
    }
}
