//! The clients of the authorization server: pre-registered, described by a document, or registered by themselves.

use std::time::Duration;

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
    /// Its metadata cannot be accepted; says why, in words for the client's developer.
    #[error("the client's metadata document cannot be used: {0}")]
    Metadata(String),
    /// Too many documents of its host are asked for. Try again after this time.
    #[error("too many requests: try again later")]
    TooManyRequests(Duration),
    /// Its document cannot be read now.
    #[error("the client's metadata document cannot be read now")]
    Unavailable,
    /// It did not prove its identity, or in more than one way.
    #[error("the client did not authenticate")]
    Unauthenticated,
    /// The request names no client, or several.
    #[error("the request names no client")]
    Unnamed,
    /// The request names no redirect URI, and the client has not exactly one fixed one.
    #[error("redirect_uri is missing, and the client has not exactly one")]
    MissingRedirectUri,
    /// The redirect URI is not one of the client's.
    #[error("the redirect URI is not registered for this client")]
    RedirectUri,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The client that a request to the token or revocation endpoint comes from, as it says: by HTTP Basic or by
/// `client_id` in the form. It is not authenticated yet.
pub fn named(_request: &Request, _form: &[(String, String)]) -> Result<String, ClientError> {
    Err(ClientError::Unnamed)
}

/// Whether the client used HTTP Basic: then a refusal is 401 with `WWW-Authenticate: Basic` (RFC 6749 section 5.2).
pub fn uses_basic(_request: &Request) -> bool {
    false
}

/// Notes that a client is in use: a dynamic registration lives on for 90 days from now. Call it when a code or a
/// refresh token was exchanged.
pub fn touch(_env: &Environment, _client: &Client) -> Result<(), StoreError> {
    Ok(())
}

/// Finds a client: in the settings, by its document, or among the registrations.
pub async fn find(_env: &Environment, _client_id: &str) -> Result<Client, ClientError> {
    Err(ClientError::Unknown)
}

impl Client {
    /// The host that vouches for the client: that of its metadata document.
    pub fn host(&self) -> Option<String> {
        None
    }

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
