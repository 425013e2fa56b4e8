//! The OAuth 2.0 client towards Entra ID.
//!
//! One file per grant. Each fills a form (`form.rs`), which the client (`client.rs`) adds its identity to; all answers
//! are read by `token_response.rs`. It takes no OAuth crate: the types of those copy secrets and do not zeroise them.

pub mod authorization_code;
pub mod client_credentials;
pub mod device_code;
pub mod error;
pub mod on_behalf_of;
pub mod refresh;
pub mod sign_out;

mod client;
mod form;
#[cfg(test)]
mod tests;
mod token_response;
mod transport;

pub(crate) use token_response::refusal;
pub(crate) use transport::retry_after;

use base::Secret;

pub use client::claims as requested_claims;
pub use error::OAuthError;

/// Scopes of OpenID Connect that every request asks for: an ID token, and a refresh token.
/// Entra ID answers without a refresh token when `offline_access` is missing.
pub const OPENID_SCOPES: [&str; 3] = ["openid", "profile", "offline_access"];

/// The scopes to ask for: those of the API, and those that give an ID token and a refresh token.
pub fn with_openid(scopes: &[String]) -> Vec<String> {
    let mut all: Vec<String> = scopes.to_vec();
    for scope in OPENID_SCOPES {
        if !all.iter().any(|known| known == scope) {
            all.push(scope.to_owned());
        }
    }
    all
}

/// What the token endpoint answered.
#[derive(Debug)]
pub struct TokenSet {
    /// For the API that the scopes belong to. Opaque.
    pub access_token: Secret<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// Replaces the one it was obtained with.
    pub refresh_token: Option<Secret<String>>,
    /// To be validated before anything in it is believed.
    pub id_token: Option<Secret<String>>,
}
