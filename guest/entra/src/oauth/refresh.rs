//! Refreshing an access token (RFC 6749 section 6).

use super::client::{self, EntraClient};
use super::form::Form;
use super::{OAuthError, TokenSet};
use crate::entra_world::EntraWorld;
use base::Secret;

/// Exchanges a refresh token for a new set. Scopes are always sent: Entra ID refuses a refresh without.
pub async fn refresh(
    env: &EntraWorld<'_>,
    refresh_token: &Secret<String>,
    scopes: &[String],
    claims: Option<&str>,
) -> Result<TokenSet, OAuthError> {
    let form = Form::of_grant("refresh_token")
        .with_secret("refresh_token", refresh_token)
        .with_scopes(scopes)
        .with("claims", client::claims(claims));
    EntraClient::new(env)?.tokens(form).await
}
