//! A token for an API behind us, in the name of the person whose token a client has brought (RFC 7523 section 2.1,
//! with Entra's `requested_token_use`).
//!
//! `oauth2` has no request for this grant, so it is written here.

use base::Secret;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use url::form_urlencoded;
use world::{Credential, CredentialError};

use super::{OAuthError, TokenSet, client, transport};
use crate::entra_world::EntraWorld;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Exchanges a person's validated token for us (`assertion`) for one for the API that `scope` belongs to. `tenant` is
/// that of the assertion, a GUID: it becomes part of a URL. `claims` are those of a claims challenge of that API, a JSON
/// object. Entra refuses an application's token.
pub async fn exchange(
    env: &EntraWorld<'_>,
    tenant: &str,
    assertion: &Secret<String>,
    scope: &str,
    claims: Option<&str>,
) -> Result<TokenSet, OAuthError> {
    let token_endpoint = format!("{}/{tenant}/oauth2/v2.0/token", env.settings.authority);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", GRANT)
        .append_pair("client_id", &env.settings.client_id)
        .append_pair("requested_token_use", "on_behalf_of")
        .append_pair("assertion", assertion.reveal())
        .append_pair("scope", scope)
        .append_pair("claims", &client::claims(claims));
    match env.credential.obtain(&token_endpoint)? {
        Credential::Secret(secret) => {
            form.append_pair("client_secret", secret.reveal());
        }
        Credential::Assertion(credential) => {
            form.append_pair("client_assertion_type", ASSERTION_TYPE)
                .append_pair("client_assertion", credential.reveal());
        }
        Credential::None => {
            let reason = "the application has no credential, so it cannot act on behalf of a user".to_owned();
            return Err(CredentialError::NotConfigured(reason).into());
        }
    }
    let mut request = Request::post(token_endpoint)
        .body(form.finish().into_bytes())
        .map_err(|_| OAuthError::Misconfigured("authority"))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let response = transport::send(env, request).await?;
    client::read_token_set(env, &response)
}
