//! The clients of the authorization server: pre-registered, described by a document, or registered by themselves.

use crate::environment::{Environment, StoreError};
use crate::transport::http::message::Request;

/// How a client came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In the settings.
    Settings,
    /// Its id is the URL of its Client ID Metadata Document.
    Document,
    /// By dynamic registration (RFC 7591).
    Registration,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// As in requests.
    pub client_id: String,
    /// What it calls itself. Comes from strangers: never show it without the host.
    pub name: Option<String>,
    /// How it came to be known.
    pub origin: Origin,
    /// Where its users may be sent back to.
    pub redirect_uris: Vec<String>,
    /// SHA-256 of its secret as base64url; none for a public client.
    pub secret_hash: Option<String>,
}

/// Why there is no such client, or why it is not who it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody knows it.
    #[error("the client is not known here")]
    Unknown,
    /// Its metadata cannot be accepted; says why.
    #[error("the client's metadata document cannot be used: {0}")]
    Metadata(String),
    /// Its document cannot be read now.
    #[error("the client's metadata document cannot be read now")]
    Unavailable,
    /// It did not prove its identity.
    #[error("the client did not authenticate")]
    Unauthenticated,
    /// The redirect URI is not one of the client's.
    #[error("the redirect URI is not registered for this client")]
    RedirectUri,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds a client.
pub async fn find(_env: &Environment, _client_id: &str) -> Result<Client, ClientError> {
    Err(ClientError::Unknown)
}

impl Client {
    /// The redirect URI to use: the requested one if it is registered, else the only registered one.
    pub fn redirect_uri(&self, _requested: Option<&str>) -> Result<String, ClientError> {
        Err(ClientError::RedirectUri)
    }

    /// Checks the client's authentication at the token endpoint (RFC 6749 section 2.3): `client_secret_basic` or
    /// `client_secret_post`, or none for a public client. `form` holds the parameters of the request.
    pub fn authenticate(&self, _request: &Request, _form: &[(String, String)]) -> Result<(), ClientError> {
        Err(ClientError::Unauthenticated)
    }
}
