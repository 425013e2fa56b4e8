//! A token for the application itself (RFC 6749 section 4.4).

use super::client::{self, EntraClient};
use super::form::Form;
use super::{OAuthError, TokenSet};
use crate::entra_world::EntraWorld;

/// Asks for a token of the application in `tenant`. The only scope of this grant is `{resource}/.default`: all
/// that an administrator of the tenant has granted the application.
pub async fn request(
    env: &EntraWorld<'_>,
    tenant: &str,
    scope: &str,
    claims: Option<&str>,
) -> Result<TokenSet, OAuthError> {
    let client = EntraClient::confidential(env, tenant, "act for itself")?;
    let form = Form::of_grant("client_credentials").with("scope", scope).with("claims", client::claims(claims));
    client.tokens(form).await
}
