//! Reads what the token and device authorization endpoints answer: RFC 6749 sections 5.1 and 5.2, RFC 8628 section 3.2.
//!
//! A member that is not known is ignored; one that is known and repeated makes the answer malformed, because it could
//! mean two things. No error keeps what was read: an answer that does not parse may hold a token all the same.
//!
//! The members that are secret are copied from the body straight into a [`Secret`]. `serde_json` uses a buffer of its
//! own, which is not zeroised, for a string with an escape; there is none in a token that is base64url.

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use world::Clock;
use zeroize::Zeroizing;

use super::TokenSet;
use super::error::{EntraRefusal, OAuthError};
use base::Secret;

/// What an answer without `expires_in` is taken to mean: the shortest life Entra ID gives.
const DEFAULT_LIFETIME_SECONDS: u64 = 3600;
/// The media type of an answer, in any case and with any parameters.
const JSON: &str = "application/json";
/// The only type of token that this client can use (RFC 6750).
const BEARER: &str = "bearer";

/// A success that an endpoint answers with.
pub(super) trait SuccessResponse: DeserializeOwned {
    /// What is said of one that does not parse.
    const MALFORMED: &'static str;
    /// What is said of one without a body.
    const EMPTY: &'static str;
}

/// A token response (RFC 6749 section 5.1) with the ID token of OpenID Connect.
#[derive(Debug, Deserialize)]
pub(super) struct TokenResponse {
    access_token: Secret<String>,
    #[serde(rename = "token_type", deserialize_with = "bearer")]
    _bearer: (),
    expires_in: Option<u64>,
    refresh_token: Option<Secret<String>>,
    id_token: Option<Secret<String>>,
    /// Text if it is there. What was granted is not read: Graph and the APIs decide by the token.
    #[serde(rename = "scope")]
    _scope: Option<String>,
}

impl SuccessResponse for TokenResponse {
    const MALFORMED: &'static str = "the token response";
    const EMPTY: &'static str = "an empty token response";
}

impl TokenResponse {
    /// The tokens, with the moment at which the access token expires.
    pub(super) fn into_token_set(self, clock: &dyn Clock) -> TokenSet {
        TokenSet {
            access_token: self.access_token,
            expires_at: clock.now().saturating_add(self.expires_in.unwrap_or(DEFAULT_LIFETIME_SECONDS)),
            refresh_token: self.refresh_token,
            id_token: self.id_token,
        }
    }
}

/// A client must not use a token whose type it does not know (RFC 6749 section 7.1). Case does not matter.
fn bearer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let token_type = String::deserialize(deserializer)?;
    if token_type.eq_ignore_ascii_case(BEARER) { Ok(()) } else { Err(D::Error::custom("no bearer token")) }
}

/// An error response (RFC 6749 section 5.2) with what Entra ID adds.
#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
    error_description: Option<String>,
    #[serde(default)]
    error_codes: Vec<u32>,
    suberror: Option<String>,
    claims: Option<String>,
    trace_id: Option<String>,
}

impl From<ErrorResponse> for EntraRefusal {
    fn from(from: ErrorResponse) -> Self {
        Self {
            suberror: from.suberror,
            claims: from.claims,
            trace_id: from.trace_id,
            ..Self::new(&from.error, &from.error_codes, from.error_description.as_deref())
        }
    }
}

/// The error in an answer that is no success, if it says one with a code of Entra ID.
pub(crate) fn refusal(body: &[u8]) -> Option<EntraRefusal> {
    let refusal = EntraRefusal::from(serde_json::from_slice::<ErrorResponse>(body).ok()?);
    (refusal.code > 0).then_some(refusal)
}

/// Reads an answer.
pub(super) fn read<A: SuccessResponse>(response: &Response<Zeroizing<Vec<u8>>>) -> Result<A, OAuthError> {
    let body = response.body().as_slice();
    if body.is_empty() {
        return Err(OAuthError::Malformed(A::EMPTY));
    }
    // `serde` would take an array for a struct as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(OAuthError::Malformed(A::MALFORMED));
    }
    let malformed = |_| OAuthError::Malformed(A::MALFORMED);
    if response.status() != StatusCode::OK {
        let refusal: ErrorResponse = serde_json::from_slice(body).map_err(malformed)?;
        return Err(OAuthError::Refused(refusal.into()));
    }
    if !is_json(response) {
        return Err(OAuthError::Malformed(A::MALFORMED));
    }
    serde_json::from_slice(body).map_err(malformed)
}

/// Whether an answer says that it is JSON, or does not say what it is.
fn is_json<B>(response: &Response<B>) -> bool {
    let Some(given) = response.headers().get(CONTENT_TYPE) else { return true };
    given.as_bytes().get(..JSON.len()).is_some_and(|start| start.eq_ignore_ascii_case(JSON.as_bytes()))
}
