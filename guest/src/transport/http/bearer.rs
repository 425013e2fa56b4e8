//! Who calls: the session of a bearer token, or the challenge that tells a client how to get one (RFC 6750, RFC 9728).

use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::json;
use url::form_urlencoded;

use super::message::{Request, json};
use super::negotiation::essence;
use super::site::Site;
use super::unavailable;
use crate::authorization_server::metadata::{SCOPE, resource, resource_metadata_url};
use crate::environment::Environment;
use crate::secret::Secret;
use crate::session::{Session, SessionError};

/// A longer token is not one of ours.
const MAX_TOKEN_BYTES: usize = 1024;

/// Finds the session of an access token: `session::authenticate`, and something simpler in tests.
pub(super) type Authenticate = fn(&Environment, &Secret<String>, &[&str]) -> Result<Session, SessionError>;

/// Watches over one resource.
pub(super) struct Guard<'a> {
    pub(super) env: &'a Environment,
    pub(super) site: &'a Site<'a>,
    /// The path of the resource.
    pub(super) path: &'static str,
    pub(super) authenticate: Authenticate,
}

/// A caller that was let in.
pub(super) struct Admitted {
    pub(super) session: Session,
    pub(super) token: Secret<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It brings no token. It gets no error code (RFC 6750 section 3.1).
    Missing,
    /// It brings one in a way that is not allowed.
    InvalidRequest(&'static str),
    /// The token is not (any more) good for this resource.
    InvalidToken(&'static str),
    /// The token is good, but for less.
    InsufficientScope,
    /// It cannot be found out now.
    Unavailable,
}

impl Guard<'_> {
    /// Lets a request in, or says why not.
    pub(super) fn admit(&self, request: &Request) -> Result<Admitted, Refusal> {
        let token = presented(request)?;
        match (self.authenticate)(self.env, &token, &self.resources().each_ref().map(String::as_str)) {
            Ok(session) if session.scopes.iter().any(|scope| scope == SCOPE) => Ok(Admitted { session, token }),
            Ok(_) => Err(Refusal::InsufficientScope),
            Err(SessionError::Store(_)) => Err(Refusal::Unavailable),
            Err(SessionError::Unknown) => Err(UNKNOWN),
            Err(SessionError::Expired) => Err(Refusal::InvalidToken("The access token has expired")),
            Err(SessionError::WrongResource) => Err(Refusal::InvalidToken("The access token is for another resource")),
        }
    }

    /// Whether a token that was good before still is. A store that does not answer says nothing against it.
    pub(super) fn is_still_good(&self, token: &Secret<String>) -> bool {
        let found = (self.authenticate)(self.env, token, &self.resources().each_ref().map(String::as_str));
        matches!(found, Ok(_) | Err(SessionError::Store(_)))
    }

    /// The answer to a caller whose session has no way to Entra ID any more.
    pub(super) fn sign_in_again(&self, request: &Request) -> Response<Vec<u8>> {
        self.refuse(Refusal::InvalidToken("The sign-in has ended: sign in again"), request)
    }

    /// What a token may be for: this resource, or the server as a whole for clients that name no resource.
    fn resources(&self) -> [String; 2] {
        [resource(self.site.settings, self.path), self.site.settings.public_url.clone()]
    }

    /// The answer to a request that was not let in.
    pub(super) fn refuse(&self, refusal: Refusal, request: &Request) -> Response<Vec<u8>> {
        let (status, error, description) = match refusal {
            Refusal::Unavailable => return unavailable("The session cannot be looked up now"),
            Refusal::Missing => (401, None, "Sign in first: this request has no access token"),
            Refusal::InvalidRequest(description) => (400, Some("invalid_request"), description),
            Refusal::InvalidToken(description) => (401, Some("invalid_token"), description),
            Refusal::InsufficientScope => {
                (403, Some("insufficient_scope"), "The access token does not permit to read the profile")
            }
        };
        let mut challenge = String::from("Bearer ");
        if let Some(error) = error {
            challenge.push_str(&format!("error=\"{error}\", error_description=\"{description}\", "));
        }
        challenge.push_str(&format!(
            "resource_metadata=\"{}\", scope=\"{SCOPE}\"",
            resource_metadata_url(self.site.settings, self.path)
        ));
        let mut body = json!({ "error_description": description, "correlation_id": request.correlation_id });
        if let (Some(error), Some(body)) = (error, body.as_object_mut()) {
            body.insert("error".to_owned(), json!(error));
        }
        let mut response = json(status, &body);
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

const UNKNOWN: Refusal = Refusal::InvalidToken("The access token is unknown, or its session has ended");

/// The token of a request: in the `Authorization` field and nowhere else (RFC 6750 section 2.1).
fn presented(request: &Request) -> Result<Secret<String>, Refusal> {
    if has_token_parameter(request.query.as_deref().unwrap_or_default().as_bytes()) {
        return Err(Refusal::InvalidRequest("An access token must not be sent in the URL"));
    }
    if is_form(&request.headers) && has_token_parameter(&request.body) {
        return Err(Refusal::InvalidRequest("An access token must not be sent in the body"));
    }
    let mut fields = request.headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Err(Refusal::Missing),
        (Some(_), Some(_)) => return Err(Refusal::InvalidRequest("The Authorization field is sent more than once")),
        (Some(field), None) => field,
    };
    let malformed = Refusal::InvalidRequest("The Authorization field is malformed");
    let field = field.to_str().map_err(|_| malformed)?;
    let (scheme, token) = field.split_once(' ').unwrap_or((field, ""));
    // Another scheme is as good as none.
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(Refusal::Missing);
    }
    let token = token.trim_start_matches(' ');
    if !is_b64token(token) {
        return Err(malformed);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(UNKNOWN);
    }
    Ok(Secret::from(token))
}

/// RFC 6750 section 2.1.
fn is_b64token(token: &str) -> bool {
    let text = token.trim_end_matches('=');
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

fn has_token_parameter(form: &[u8]) -> bool {
    !form.is_empty() && form_urlencoded::parse(form).any(|(name, _)| name == "access_token")
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_TYPE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| essence(value).eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}
