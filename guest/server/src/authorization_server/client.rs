//! A client of the authorization server, and how it proves what it says of itself.

use std::time::Duration;

use base::encoding::{digest, same_secret};
use url::Url;
use world::StoreError;

use super::redirect_uri;
use crate::message::Request;

mod authentication;

/// The longest client id, in bytes: as long as a URL may be.
pub(super) const MAX_CLIENT_ID: usize = 2048;

/// How a client came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientOrigin {
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
    pub origin: ClientOrigin,
    /// Where its users may be sent back to.
    pub redirect_uris: Vec<String>,
    /// SHA-256 of its secret as base64url; none for a public client.
    pub secret_hash: Option<String>,
}

/// What is wrong with a client's document, in words for its developer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientDocumentError {
    /// The URL itself.
    #[error("the client id is not an https URL with a path, without fragment, user name, and `.` or `..` segments")]
    Url,
    /// The host refuses to go there.
    #[error("its address is not on the public Internet")]
    Denied,
    /// Not 200.
    #[error("it was answered with status {0} instead of 200")]
    Status(u16),
    /// Over the limit.
    #[error("it is longer than 16 KiB")]
    TooLarge,
    /// Not JSON by its header.
    #[error("its content type is not application/json")]
    ContentType,
    /// Not a JSON object.
    #[error("it is not a JSON object")]
    Malformed,
    /// Describes another client.
    #[error("its client_id is not the URL that it was read from")]
    ClientId,
    /// No name.
    #[error("client_name is missing or longer than 200 characters")]
    Name,
    /// No redirect URI, too many, or none that may be used.
    #[error("redirect_uris has to be a list of 1 to 32 URIs, at least one of them https or http to localhost")]
    RedirectUris,
    /// A secret in public.
    #[error("it has a client_secret, which a public document cannot keep")]
    Secret,
    /// Authentication that is not offered.
    #[error("token_endpoint_auth_method has to be none")]
    AuthMethod,
    /// Cannot use this server.
    #[error("grant_types and response_types have to include authorization_code and code")]
    GrantTypes,
}

/// Why there is no such client, or why its identity is not proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server does not know the client.
    #[error("the client is not known here")]
    Unknown,
    /// Its metadata cannot be accepted; says why, in words for the client's developer.
    #[error("the client's metadata document cannot be used: {0}")]
    Metadata(ClientDocumentError),
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
    #[error("the request does not name one client")]
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

impl ClientError {
    /// A stable code for the audit record; none for what says nothing about the client.
    pub fn reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unknown => "client-unknown",
            Self::Metadata(ClientDocumentError::Url) => "client-metadata-url",
            Self::Metadata(ClientDocumentError::Denied) => "client-metadata-denied",
            Self::Metadata(_) => "client-metadata-invalid",
            Self::TooManyRequests(_) => "client-metadata-throttled",
            Self::Unavailable => "client-metadata-unavailable",
            Self::Unauthenticated => "unauthenticated",
            Self::Unnamed => "client-unnamed",
            Self::MissingRedirectUri | Self::RedirectUri => "redirect-uri",
            Self::Store(_) => return None,
        })
    }
}

pub use authentication::{named, uses_basic};

impl Client {
    /// The host that vouches for the client: that of its metadata document.
    pub fn host(&self) -> Option<String> {
        if self.origin != ClientOrigin::Document {
            return None;
        }
        let url = Url::parse(&self.client_id).ok()?;
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// The redirect URI to use: the requested one if it is registered, else the only registered one. The client has to
    /// request a loopback redirect: only the client knows its port.
    pub fn redirect_uri(&self, requested: Option<&str>) -> Result<String, ClientError> {
        match (requested, self.redirect_uris.as_slice()) {
            (Some(requested), registered) => {
                let known = registered.iter().any(|uri| redirect_uri::matches(uri, requested));
                if known { Ok(requested.to_owned()) } else { Err(ClientError::RedirectUri) }
            }
            (None, [only]) if !redirect_uri::has_variable_port(only) => Ok(only.clone()),
            (None, _) => Err(ClientError::MissingRedirectUri),
        }
    }

    /// Checks the client's authentication at the token endpoint (RFC 6749 section 2.3): `client_secret_basic` or
    /// `client_secret_post`, or none for a public client. `form` holds the parameters of the request.
    ///
    /// A confidential client may use either of the two, whichever it has registered.
    pub fn authenticate(&self, request: &Request, form: &[(String, String)]) -> Result<(), ClientError> {
        let credentials = authentication::credentials(request, form)?;
        if credentials.client_id != self.client_id {
            return Err(ClientError::Unauthenticated);
        }
        match (&self.secret_hash, credentials.secret) {
            (None, None) => Ok(()),
            (Some(hash), Some(secret)) => {
                let presented = digest(secret.reveal().as_bytes());
                let same = same_secret(presented.as_bytes(), hash.as_bytes());
                if same { Ok(()) } else { Err(ClientError::Unauthenticated) }
            }
            _ => Err(ClientError::Unauthenticated),
        }
    }
}
