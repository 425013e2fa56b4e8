//! `oauth2` with Entra's endpoints, Entra's error response and our transport.

use std::fmt;

use base::Secret;
use chrono::{DateTime, Utc};
use oauth2::basic::{BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType};
use oauth2::{
    AuthType, AuthUrl, ClientId, ClientSecret, DeviceAuthorizationUrl, EndpointNotSet, EndpointSet, ErrorResponse,
    ExtraTokenFields, RequestTokenError, StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use world::Credential;

use super::error::{OAuthError, Refusal};
use super::{TokenSet, transport};
use crate::entra_world::EntraWorld;

/// Opts in to continuous access evaluation: the client understands claims challenges.
const CLIENT_CAPABILITIES: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
/// What an answer without `expires_in` is taken to mean: the shortest life Entra gives.
const DEFAULT_LIFETIME_SECONDS: u64 = 3600;

pub(super) type EntraClient = oauth2::Client<
    EntraErrorResponse,
    EntraTokenResponse,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

pub(super) type EntraTokenResponse = StandardTokenResponse<EntraTokenFields, BasicTokenType>;

/// What Entra adds to a token response.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct EntraTokenFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

impl fmt::Debug for EntraTokenFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl ExtraTokenFields for EntraTokenFields {}

/// Entra's error response: RFC 6749 section 5.2 with more detail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EntraErrorResponse {
    error: String,
    error_description: Option<String>,
    #[serde(default)]
    error_codes: Vec<u32>,
    suberror: Option<String>,
    claims: Option<String>,
    trace_id: Option<String>,
}

impl ErrorResponse for EntraErrorResponse {}

impl fmt::Display for EntraErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl From<EntraErrorResponse> for Refusal {
    fn from(from: EntraErrorResponse) -> Self {
        Self {
            suberror: from.suberror,
            claims: from.claims,
            trace_id: from.trace_id,
            ..Self::new(&from.error, &from.error_codes, from.error_description.as_deref())
        }
    }
}

/// The client, and what it has to add to every request to the token endpoint.
pub(super) struct Prepared {
    pub(super) client: EntraClient,
    pub(super) extra: Vec<(&'static str, String)>,
    /// Whether the requests prove which application sends them.
    pub(super) has_credential: bool,
}

/// Builds the client from the settings; obtains the credential of a confidential client.
pub(super) fn prepare(env: &EntraWorld<'_>) -> Result<Prepared, OAuthError> {
    prepare_for(env, &env.settings.tenant)
}

/// The same at the endpoints of another tenant, which becomes part of their URLs as it is.
pub(super) fn prepare_for(env: &EntraWorld<'_>, tenant: &str) -> Result<Prepared, OAuthError> {
    let base = format!("{}/{tenant}/oauth2/v2.0", env.settings.authority);
    let token_endpoint = format!("{base}/token");
    let invalid = |_| OAuthError::Misconfigured("authority");
    let mut client = oauth2::Client::new(ClientId::new(env.settings.client_id.clone()))
        .set_auth_uri(AuthUrl::new(format!("{base}/authorize")).map_err(invalid)?)
        .set_device_authorization_url(DeviceAuthorizationUrl::new(format!("{base}/devicecode")).map_err(invalid)?)
        .set_token_uri(TokenUrl::new(token_endpoint.clone()).map_err(invalid)?)
        .set_auth_type(AuthType::RequestBody);
    let mut extra = Vec::new();
    let mut has_credential = false;
    if !env.settings.is_public_client() {
        let credential = env.credential.obtain(&token_endpoint)?;
        has_credential = !matches!(credential, Credential::None);
        match credential {
            Credential::None => {}
            Credential::Secret(secret) => client = client.set_client_secret(ClientSecret::new(secret.reveal().clone())),
            Credential::Assertion(assertion) => {
                extra.push(("client_assertion", assertion.reveal().clone()));
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                extra.push(("client_assertion_type", kind.to_owned()));
            }
        }
    }
    Ok(Prepared { client, extra, has_credential })
}

/// The value of the `claims` parameter: our capabilities, merged with a claims challenge if there is one.
pub(super) fn claims(challenge: Option<&str>) -> String {
    let Some(challenge) = challenge else {
        return CLIENT_CAPABILITIES.to_owned();
    };
    let Ok(mut merged) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(challenge) else {
        return CLIENT_CAPABILITIES.to_owned();
    };
    // `null` asks for nothing in particular (OpenID Connect Core section 5.5.1).
    let mut access_token = match merged.remove("access_token") {
        Some(serde_json::Value::Object(access_token)) => access_token,
        _ => serde_json::Map::new(),
    };
    access_token.insert("xms_cc".to_owned(), serde_json::json!({ "values": ["cp1"] }));
    merged.insert("access_token".to_owned(), access_token.into());
    serde_json::Value::Object(merged).to_string()
}

/// Sends for `oauth2`. Its error type has to be one of ours to come back unharmed.
pub(super) async fn send(
    env: &EntraWorld<'_>,
    request: oauth2::HttpRequest,
) -> Result<oauth2::HttpResponse, OAuthError> {
    transport::send(env, request).await
}

/// Reads what the token endpoint answered.
pub(super) fn token_set(
    env: &EntraWorld<'_>,
    answer: Result<EntraTokenResponse, RequestTokenError<OAuthError, EntraErrorResponse>>,
) -> Result<TokenSet, OAuthError> {
    answer.map(|response| into_token_set(env, &response)).map_err(|error| match error {
        RequestTokenError::ServerResponse(response) => OAuthError::Refused(response.into()),
        RequestTokenError::Request(error) => error,
        // The parse error is not kept: it holds the response, and with it perhaps a token.
        RequestTokenError::Parse(..) => OAuthError::Malformed("the token response"),
        RequestTokenError::Other(_) => OAuthError::Malformed("an empty token response"),
    })
}

/// The same for a grant that `oauth2` does not know.
pub(super) fn read_token_set(env: &EntraWorld<'_>, response: &oauth2::HttpResponse) -> Result<TokenSet, OAuthError> {
    if response.status() == http::StatusCode::OK {
        let answer: EntraTokenResponse =
            serde_json::from_slice(response.body()).map_err(|_| OAuthError::Malformed("the token response"))?;
        return Ok(into_token_set(env, &answer));
    }
    let refusal: EntraErrorResponse =
        serde_json::from_slice(response.body()).map_err(|_| OAuthError::Malformed("the token response"))?;
    Err(OAuthError::Refused(refusal.into()))
}

pub(super) fn into_token_set(env: &EntraWorld<'_>, response: &EntraTokenResponse) -> TokenSet {
    let lifetime = response.expires_in().map_or(DEFAULT_LIFETIME_SECONDS, |life| life.as_secs());
    TokenSet {
        access_token: Secret::from(response.access_token().secret().as_str()),
        expires_at: env.clock.now().saturating_add(lifetime),
        refresh_token: response.refresh_token().map(|token| Secret::from(token.secret().as_str())),
        id_token: response.extra_fields().id_token.as_deref().map(Secret::from),
    }
}

/// The wall clock as `oauth2` wants it.
pub(super) fn date(seconds: u64) -> DateTime<Utc> {
    i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)).unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_declares_that_claims_challenges_are_understood() {
        assert_eq!(claims(None), r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#);
    }

    #[test]
    fn a_claims_challenge_is_merged_with_the_capabilities() {
        let merged: serde_json::Value =
            serde_json::from_str(&claims(Some(r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#))).unwrap();
        assert_eq!(merged["access_token"]["nbf"]["value"], "1");
        assert_eq!(merged["access_token"]["xms_cc"]["values"][0], "cp1");
        for challenge in [r#"{"access_token":null}"#, r#"{"access_token":"x"}"#, "{}"] {
            assert_eq!(claims(Some(challenge)), CLIENT_CAPABILITIES, "{challenge}");
        }
    }

    #[test]
    fn a_claims_challenge_that_is_not_json_is_left_out() {
        assert_eq!(claims(Some("nonsense")), CLIENT_CAPABILITIES);
    }
}
