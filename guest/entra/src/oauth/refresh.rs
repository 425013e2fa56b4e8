//! Refreshing an access token (RFC 6749 section 6).

use base::Secret;
use oauth2::{RefreshToken, Scope};

use super::{OAuthError, TokenSet, client};
use crate::entra_world::EntraWorld;

/// Exchanges a refresh token for a new set. Scopes are always sent: Entra refuses a refresh without.
pub async fn refresh(
    env: &EntraWorld<'_>,
    refresh_token: &Secret<String>,
    scopes: &[String],
    claims: Option<&str>,
) -> Result<TokenSet, OAuthError> {
    let prepared = client::prepare(env)?;
    let token = RefreshToken::new(refresh_token.reveal().clone());
    let mut request = prepared
        .client
        .exchange_refresh_token(&token)
        .add_scopes(scopes.iter().cloned().map(Scope::new))
        .add_extra_param("claims", client::claims(claims));
    for (name, value) in prepared.extra {
        request = request.add_extra_param(name, value);
    }
    let answer = request.request_async(&|request| client::send(env, request)).await;
    client::token_set(env, answer)
}
