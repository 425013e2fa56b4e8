//! A token for the application itself (RFC 6749 section 4.4).

use oauth2::Scope;
use world::CredentialError;

use super::{OAuthError, TokenSet, client};
use crate::entra_world::EntraWorld;

/// Asks for a token of the application in `tenant`. The only scope of this grant is `{resource}/.default`: all
/// that an administrator of the tenant has granted the application.
pub async fn request(
    env: &EntraWorld<'_>,
    tenant: &str,
    scope: &str,
    claims: Option<&str>,
) -> Result<TokenSet, OAuthError> {
    let prepared = client::prepare_for(env, tenant)?;
    if !prepared.has_credential {
        let reason = "the application has no credential, so it cannot act for itself".to_owned();
        return Err(CredentialError::NotConfigured(reason).into());
    }
    let mut request = prepared
        .client
        .exchange_client_credentials()
        .add_scope(Scope::new(scope.to_owned()))
        .add_extra_param("claims", client::claims(claims));
    for (name, value) in prepared.extra {
        request = request.add_extra_param(name, value);
    }
    let answer = request.request_async(&|request| client::send(env, request)).await;
    client::token_set(env, answer)
}
