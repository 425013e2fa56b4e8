//! The application as a client of Entra ID: its endpoints, what identifies it, what it declares to understand.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use url::Url;
use world::{BodyOnce, Credential, CredentialError};
use zeroize::Zeroizing;

use super::error::OAuthError;
use super::form::Form;
use super::token_response::{self, TokenResponse};
use super::{TokenSet, transport};
use crate::entra_world::EntraWorld;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Opts in to continuous access evaluation: the client understands claims challenges.
const CLIENT_CAPABILITIES: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
/// A client assertion is a JSON Web Token (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The endpoints of a tenant, and what the client proves its identity with there.
pub(super) struct EntraClient<'w> {
    env: EntraWorld<'w>,
    pub(super) authorize: Url,
    pub(super) device_authorization: Url,
    pub(super) token: Url,
    /// The token endpoint as the audience of an assertion, which is compared exactly: not taken from the parsed URL.
    audience: String,
    credential: Credential,
}

impl<'w> EntraClient<'w> {
    /// The client in the configured tenant. A confidential client obtains its credential.
    pub(super) fn new(env: &EntraWorld<'w>) -> Result<Self, OAuthError> {
        Self::in_tenant(env, &env.settings.tenant)
    }

    /// A client that acts for itself or for the caller in `tenant`, which takes a credential. `act` says what fails
    /// without one.
    pub(super) fn confidential(env: &EntraWorld<'w>, tenant: &str, act: &str) -> Result<Self, OAuthError> {
        let client = Self::in_tenant(env, tenant)?;
        if matches!(client.credential, Credential::None) {
            let reason = format!("the application has no credential, so it cannot {act}");
            return Err(CredentialError::NotConfigured(reason).into());
        }
        Ok(client)
    }

    /// `tenant` becomes part of the URLs as it is.
    fn in_tenant(env: &EntraWorld<'w>, tenant: &str) -> Result<Self, OAuthError> {
        let base = format!("{}/{tenant}/oauth2/v2.0", env.settings.authority);
        let endpoint =
            |name: &str| Url::parse(&format!("{base}/{name}")).map_err(|_| OAuthError::Misconfigured("authority"));
        let (authorize, device_authorization, token) =
            (endpoint("authorize")?, endpoint("devicecode")?, endpoint("token")?);
        let audience = format!("{base}/token");
        let credential =
            if env.settings.is_public_client() { Credential::None } else { env.credential.obtain(&audience)? };
        Ok(Self { env: *env, authorize, device_authorization, token, audience, credential })
    }

    /// Asks the token endpoint for tokens. If it refuses the credential and the host has another one, the request is
    /// repeated with that one, once. Entra ID looks at the credential before it takes a code or a refresh token, so a
    /// refused request has used nothing up.
    pub(super) async fn tokens(&self, form: Form<'_>) -> Result<TokenSet, OAuthError> {
        match self.tokens_with(&self.credential, form.clone()).await {
            Err(OAuthError::Refused(refusal)) if refusal.is_of_credential() => {
                let other = match &self.credential {
                    Credential::None => Credential::None,
                    refused => self.env.credential.replacement(&self.audience, refused)?,
                };
                match other {
                    Credential::None => Err(OAuthError::Refused(refusal)),
                    other => self.tokens_with(&other, form).await,
                }
            }
            answer => answer,
        }
    }

    async fn tokens_with(&self, credential: &Credential, form: Form<'_>) -> Result<TokenSet, OAuthError> {
        let response = self.send(self.identify(form, credential).encode(), &self.token).await?;
        token_response::read::<TokenResponse>(&response).map(|tokens| tokens.into_token_set(self.env.clock))
    }

    /// Posts a form, and the fields that say which client sends it. Answers of status 200 to 499 other than 429 are
    /// returned.
    pub(super) async fn post(&self, form: Form<'_>, to: &Url) -> Result<Response<Zeroizing<Vec<u8>>>, OAuthError> {
        self.send(self.identify(form, &self.credential).encode(), to).await
    }

    #[inline(never)]
    fn send<'f>(
        &'f self,
        body: Zeroizing<Vec<u8>>,
        to: &'f Url,
    ) -> BodyOnce<'f, Result<Response<Zeroizing<Vec<u8>>>, OAuthError>> {
        Box::pin(async move {
            let mut request =
                Request::post(to.as_str()).body(body).map_err(|_| OAuthError::Misconfigured("authority"))?;
            request.headers_mut().insert(CONTENT_TYPE, FORM);
            transport::send(&self.env, request).await
        })
    }

    /// What the client uses of the world.
    pub(super) fn env(&self) -> &EntraWorld<'w> {
        &self.env
    }

    /// Adds to a form which client sends it (RFC 6749 section 2.3.1, RFC 7523 section 2.2).
    fn identify<'a>(&'a self, form: Form<'a>, credential: &'a Credential) -> Form<'a> {
        let form = form.with("client_id", self.env.settings.client_id.as_str());
        match credential {
            Credential::None => form,
            Credential::Secret(secret) => form.with_secret("client_secret", secret),
            Credential::Assertion(assertion) => {
                form.with_secret("client_assertion", assertion).with("client_assertion_type", ASSERTION_TYPE)
            }
        }
    }
}

/// The value of the `claims` parameter: the client's capabilities, merged with a claims challenge if there is one.
pub fn claims(challenge: Option<&str>) -> String {
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
