//! A token for an API behind this server, in the name of the person whose token a client has brought (RFC 7523 section
//! 2.1, with the `requested_token_use` of Entra ID).

use super::client::{self, EntraClient};
use super::form::Form;
use super::{OAuthError, TokenSet};
use crate::entra_world::EntraWorld;
use base::Secret;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Exchanges a person's validated token for this server (`assertion`) for one for the API that `scope` belongs to.
/// `tenant` is that of the assertion, a GUID: it becomes part of a URL. `claims` are those of a claims challenge of
/// that API, a JSON object. Entra ID refuses an application's token.
pub async fn exchange(
    env: &EntraWorld<'_>,
    tenant: &str,
    assertion: &Secret<String>,
    scope: &str,
    claims: Option<&str>,
) -> Result<TokenSet, OAuthError> {
    let client = EntraClient::confidential(env, tenant, "act on behalf of a user")?;
    let form = Form::of_grant(GRANT)
        .with("requested_token_use", "on_behalf_of")
        .with_secret("assertion", assertion)
        .with("scope", scope)
        .with("claims", client::claims(claims));
    client.tokens(form).await
}
