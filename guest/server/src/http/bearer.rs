//! Authentication of a request: the session or the principal of its bearer token, or the challenge that tells a client
//! how to get one (RFC 6750, RFC 9728).

use std::pin::Pin;
use std::time::Duration;

use base::policy::Name;
use base::settings::{HttpSettings, TokenMode};
use base::{Identity, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caller::bearer::{self, Bearer, RefusedBearer};
use caller::session::{Session, SessionError};
use caller::{BearerCaller, Caller, SessionCaller};
use entra::EntraWorld;
use entra::token::TokenError;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response};
use serde_json::json;
use url::form_urlencoded;

use super::negotiation::essence;
use super::unavailable;
use crate::message::{Request, json, text};
use crate::server_world::ServerWorld;
use crate::site::SCOPE;

/// A longer token is not one of a session.
const MAX_TOKEN_BYTES: usize = 1024;
/// Claims that fit into a header field which proxies let through.
const MAX_CLAIMS_BYTES: usize = 4096;

/// Finds the session of an access token: `session::authenticate`, and something simpler in tests.
pub(crate) type Authenticate = for<'a> fn(&'a EntraWorld<'a>, &'a Secret<String>, &'a [&'a str]) -> SessionLookup<'a>;
/// The session that is found.
pub(crate) type SessionLookup<'a> = Pin<Box<dyn Future<Output = Result<Session, SessionError>> + 'a>>;

/// Watches over one resource.
pub(crate) struct Guard<'a> {
    pub(crate) env: &'a ServerWorld<'a>,
    /// The path of the resource.
    pub(super) path: &'a str,
    pub(super) authenticate: Authenticate,
}

/// An admitted caller, and its token.
#[allow(clippy::large_enum_variant, reason = "one value a request, which is moved once; a box costs an allocation")]
pub(crate) enum Admitted {
    /// With a session.
    Session(Session, Secret<String>),
    /// With a token of Entra ID.
    Bearer(Bearer),
}

impl Admitted {
    /// The caller.
    pub(crate) fn caller<'a>(&'a self, env: &'a EntraWorld<'a>) -> Box<dyn Caller + 'a> {
        match self {
            Self::Session(session, _) => Box::new(SessionCaller { env, session }),
            Self::Bearer(bearer) => Box::new(BearerCaller { env, bearer }),
        }
    }

    pub(crate) fn identity(&self) -> Identity<'_> {
        match self {
            Self::Session(session, _) => session.identity(),
            Self::Bearer(bearer) => bearer.identity(),
        }
    }

    pub(super) fn token(&self) -> &Secret<String> {
        match self {
            Self::Session(_, token) => token,
            Self::Bearer(bearer) => bearer.token(),
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BearerRefusal {
    /// It brings no token. It gets no error code (RFC 6750 section 3.1).
    Missing,
    /// It brings one in a way that is not allowed.
    InvalidRequest(&'static str),
    /// The token is not (any more) good for this resource.
    InvalidToken(&'static str),
    /// The token is good, but for less.
    InsufficientScope,
    /// What the validator says about a token of Entra ID.
    Token(TokenError),
    /// The token is bad, and so were too many others from the same address.
    TooMany(Duration),
    /// It cannot be found out now.
    Unavailable,
}

impl From<RefusedBearer> for BearerRefusal {
    fn from(refused: RefusedBearer) -> Self {
        match refused {
            RefusedBearer::Token(error) => Self::Token(error),
            RefusedBearer::TooMany(after) => Self::TooMany(after),
        }
    }
}

impl Guard<'_> {
    /// Tells the operator if it is the clock of this machine that makes a token seem to be out of date.
    fn note_clock(&self, refused: &RefusedBearer) {
        if let RefusedBearer::Token(error) = refused
            && let Some(offset) = error.clock_offset(&self.env.entra)
        {
            let reason = error.reason();
            self.env
                .log
                .note(&format!("an access token was refused ({reason}), and {offset}: correct the date and time"));
        }
    }

    /// Lets a request in, or says why not.
    pub(crate) async fn admit(&self, request: &Request) -> Result<Admitted, BearerRefusal> {
        let handed_over = handed_over(self.env.site.settings, request)?;
        let of_entra = handed_over.is_some();
        let token = handed_over.map_or_else(|| presented(request), Ok)?;
        if of_entra || self.is_entras(&token) {
            let scope = &self.env.site.settings.required_scope;
            let admitted = bearer::authenticate(&self.env.entra, self.env.limiter, token, scope).await;
            let admitted = admitted.inspect_err(|refused| self.note_clock(refused))?;
            let recorded = bearer::record_acceptance(&self.env.entra, &admitted).await;
            return recorded.map(|()| Admitted::Bearer(admitted)).map_err(|_| BearerRefusal::Unavailable);
        }
        if token.reveal().len() > MAX_TOKEN_BYTES {
            return Err(self.refused(UNKNOWN, "session-unknown").await);
        }
        let (refusal, reason) = match self.session(&token).await {
            Ok(session) if session.scopes.iter().any(|scope| scope == SCOPE) => {
                return Ok(Admitted::Session(session, token));
            }
            Ok(_) => (BearerRefusal::InsufficientScope, "session-insufficient-scope"),
            Err(SessionError::Store(_)) => return Err(BearerRefusal::Unavailable),
            Err(SessionError::Unknown) => (UNKNOWN, "session-unknown"),
            Err(SessionError::Expired) => {
                // Its client has to renew it, and is told so whatever strangers at the same address send.
                let _ = self.record("session-expired").await;
                return Err(BearerRefusal::InvalidToken("The access token has expired"));
            }
            Err(SessionError::WrongResource) => {
                (BearerRefusal::InvalidToken("The access token is for another resource"), "session-wrong-resource")
            }
        };
        Err(self.refused(refusal, reason).await)
    }

    /// Records that a session's token is refused; or that it is one of too many.
    async fn refused(&self, refusal: BearerRefusal, reason: &str) -> BearerRefusal {
        let recorded = self.record(reason).await;
        recorded.map_or_else(BearerRefusal::TooMany, |()| refusal)
    }

    async fn record(&self, reason: &str) -> Result<(), Duration> {
        bearer::record_refusal(self.env.entra.trail, self.env.limiter, reason, None).await
    }

    /// Whether a token that was good before still is. A store that does not answer says nothing against it.
    pub(super) async fn is_still_good(&self, token: &Secret<String>) -> bool {
        if self.is_entras(token) {
            return bearer::is_still_good(&self.env.entra, token).await;
        }
        matches!(self.session(token).await, Ok(_) | Err(SessionError::Store(_)))
    }

    /// Whether the validator decides about a token, and not the store.
    fn is_entras(&self, token: &Secret<String>) -> bool {
        match self.env.site.settings.token_mode {
            TokenMode::Session => false,
            TokenMode::Bearer => true,
            TokenMode::Both => bearer::looks_signed(token),
        }
    }

    async fn session(&self, token: &Secret<String>) -> Result<Session, SessionError> {
        (self.authenticate)(&self.env.entra, token, &self.resources().each_ref().map(String::as_str)).await
    }

    /// The answer to a caller whose session has no way to Entra ID any more.
    pub(crate) fn sign_in_again(&self) -> Response<Vec<u8>> {
        self.refuse(BearerRefusal::InvalidToken("The sign-in has ended: sign in again"))
    }

    /// The answer to a call of which an API or a rule wants more of the person than their sign-in has brought. The access token
    /// stays good for everything else, so it is not called invalid: clients of MCP authorize anew for this one
    /// (`insufficient_scope`, step-up authorization), and that sign-in brings what is wanted.
    pub(crate) fn step_up(&self) -> Response<Vec<u8>> {
        let description = "This request needs the person to sign in once more: authorize again";
        self.challenge(403, Some("insufficient_scope"), description, "", &self.scope())
    }

    /// What a token may be for: this resource, or the server as a whole for clients that name no resource.
    fn resources(&self) -> [String; 2] {
        [self.env.site.resource(self.path), self.env.site.settings.public_url.clone()]
    }

    /// The answer to a caller who has to come with a token that satisfies `claims`, which are JSON: the form of a
    /// challenge that Entra ID defines and its client libraries know.
    pub(crate) fn claims_challenge(&self, claims: &str) -> Response<Vec<u8>> {
        if claims.len() > MAX_CLAIMS_BYTES {
            return self.sign_in_again();
        }
        let description = "Another access token is needed, with the claims of this challenge";
        let more = format!("claims=\"{}\", ", STANDARD.encode(claims));
        self.challenge(401, Some("insufficient_claims"), description, &more, &self.scope())
    }

    /// The answer to a caller whose token lacks some of `scopes`, which are in the short form: it names all that are
    /// needed, so that one new token is enough.
    pub(crate) fn insufficient_scope(&self, scopes: &[Name]) -> Response<Vec<u8>> {
        let description = "This request needs an access token with all scopes of this challenge";
        let scope = self.env.site.scopes_with(self.path, scopes);
        self.challenge(403, Some("insufficient_scope"), description, "", &scope)
    }

    /// The answer to a caller that has asked for too much.
    pub(crate) fn too_many_calls(&self, after: Duration) -> Response<Vec<u8>> {
        let message = "Too many calls of this caller, or too many requests to Microsoft Graph for it: wait a while";
        retry_after_a_while(text(429, message), after)
    }

    /// The answer to a request that was not admitted.
    pub(crate) fn refuse(&self, refusal: BearerRefusal) -> Response<Vec<u8>> {
        let (status, error, description) = match refusal {
            BearerRefusal::Unavailable => return unavailable("The session cannot be looked up now"),
            BearerRefusal::Token(error) => return self.refuse_token(&error),
            BearerRefusal::TooMany(after) => return too_many(after),
            BearerRefusal::Missing => (401, None, "Sign in first: this request has no access token"),
            BearerRefusal::InvalidRequest(description) => (400, Some("invalid_request"), description),
            BearerRefusal::InvalidToken(description) => (401, Some("invalid_token"), description),
            BearerRefusal::InsufficientScope => {
                (403, Some("insufficient_scope"), "The access token does not permit to read the profile")
            }
        };
        self.challenge(status, error, description, "", &self.scope())
    }

    /// The answer to a token of Entra ID that was not accepted.
    fn refuse_token(&self, error: &TokenError) -> Response<Vec<u8>> {
        let Some(challenge) = error.challenge() else {
            let mut response = match error.status() {
                503 => unavailable(error.public_text()),
                status => text(status, error.public_text()),
            };
            if let Some(seconds) = error.retry_after_seconds() {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            return response;
        };
        let scopes: Vec<_> = challenge.scopes.iter().map(|scope| self.env.site.qualified(self.path, scope)).collect();
        let scope = if scopes.is_empty() { self.scope() } else { scopes.join(" ") };
        self.challenge(error.status(), challenge.error, challenge.error_description, "", &scope)
    }

    /// What a client should ask for.
    fn scope(&self) -> String {
        self.env.site.requested_scope(self.path)
    }

    /// An answer with a challenge (RFC 6750 section 3). `more` are parameters of their own, each with a comma after it.
    fn challenge(
        &self,
        status: u16,
        error: Option<&'static str>,
        description: &'static str,
        more: &str,
        scope: &str,
    ) -> Response<Vec<u8>> {
        let mut challenge = String::from("Bearer ");
        if let Some(error) = error {
            challenge.push_str(&format!("error=\"{error}\", error_description=\"{description}\", "));
        }
        challenge.push_str(&format!(
            "{more}resource_metadata=\"{}\", scope=\"{scope}\"",
            self.env.site.resource_metadata_url(self.path)
        ));
        let mut body = json!({ "error_description": description, "correlation_id": self.env.correlation_id() });
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

/// The answer to one bad token of too many. It has no challenge: a client that follows one would send the next bad
/// token.
fn too_many(after: Duration) -> Response<Vec<u8>> {
    let message = "Too many access tokens from this address, or of this caller, were refused: wait a while, or \
                   come with a good one";
    retry_after_a_while(text(429, message), after)
}

fn retry_after_a_while(mut response: Response<Vec<u8>>, after: Duration) -> Response<Vec<u8>> {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    response
}

/// RFC 6750 section 2.1.
const SCHEME: &[u8] = b"Bearer";

const UNKNOWN: BearerRefusal = BearerRefusal::InvalidToken("The access token is unknown, or its session has ended");

/// The token that a gateway hands over. Where there is one, `Authorization` was for the gateway and is not looked at: a
/// token that is refused is not made good by another. The host has seen to it that it comes from a gateway.
fn handed_over(settings: &HttpSettings, request: &Request) -> Result<Option<Secret<String>>, BearerRefusal> {
    // In the mode `session` there is nothing that could be handed over.
    let name = settings.token_header.as_deref().filter(|_| settings.token_mode.takes_entra_tokens());
    let Some(name) = name else { return Ok(None) };
    let mut fields = request.headers.get_all(name).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(BearerRefusal::InvalidRequest("The token of the gateway is sent more than once"));
        }
        (Some(field), None) => field,
    };
    refuse_elsewhere(request)?;
    const MALFORMED: BearerRefusal = BearerRefusal::InvalidRequest("The token of the gateway is malformed");
    // Some gateways write the token alone, others as in `Authorization`.
    let token = after_scheme(field.as_bytes()).unwrap_or(field.as_bytes());
    b64token(token).map(Secret::from).map(Some).ok_or(MALFORMED)
}

/// A token in the URL or the body is refused, not overlooked: a client that sends it there has to stop.
fn refuse_elsewhere(request: &Request) -> Result<(), BearerRefusal> {
    if has_token_parameter(request.query.as_deref().unwrap_or_default().as_bytes()) {
        return Err(BearerRefusal::InvalidRequest("An access token must not be sent in the URL"));
    }
    if is_form(&request.headers) && has_token_parameter(&request.body) {
        return Err(BearerRefusal::InvalidRequest("An access token must not be sent in the body"));
    }
    Ok(())
}

/// The token of a request: in the `Authorization` field and nowhere else (RFC 6750 section 2.1).
fn presented(request: &Request) -> Result<Secret<String>, BearerRefusal> {
    refuse_elsewhere(request)?;
    let mut fields = request.headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Err(BearerRefusal::Missing),
        (Some(_), Some(_)) => {
            return Err(BearerRefusal::InvalidRequest("The Authorization field is sent more than once"));
        }
        (Some(field), None) => field,
    };
    const MALFORMED: BearerRefusal = BearerRefusal::InvalidRequest("The Authorization field is malformed");
    match after_scheme(field.as_bytes()) {
        Some(token) => b64token(token).map(Secret::from).ok_or(MALFORMED),
        // A token under another scheme counts as absent.
        None if field.to_str().is_ok() => Err(BearerRefusal::Missing),
        None => Err(MALFORMED),
    }
}

/// What follows the scheme `Bearer`, if that is the scheme.
fn after_scheme(field: &[u8]) -> Option<&[u8]> {
    let scheme = field.get(..SCHEME.len())?;
    let rest = field.get(SCHEME.len()..)?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (scheme.eq_ignore_ascii_case(SCHEME) && (spaces > 0 || rest.is_empty())).then(|| rest.get(spaces..))?
}

/// RFC 6750 section 2.1. A token of Entra ID has some thousand bytes, so they are all looked at, which the compiler does
/// with several at once, instead of up to the first one that is wrong.
fn b64token(token: &[u8]) -> Option<&str> {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let text = token.get(..token.len() - padding).filter(|text| !text.is_empty())?;
    let is_allowed = |byte: u8| {
        (byte | 0x20).wrapping_sub(b'a') < 26 || byte.wrapping_sub(b'-') < 13 || matches!(byte, b'+' | b'_' | b'~')
    };
    text.iter().fold(true, |all, byte| all & is_allowed(*byte)).then(|| std::str::from_utf8(token).ok())?
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_characters_of_rfc_6750_and_no_other() {
        for byte in 0..=u8::MAX {
            let allowed = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            for token in [vec![byte], [b"abc", [byte].as_slice(), b"def"].concat(), vec![b'a', byte, b'=']] {
                // `=` may stand at the end.
                let allowed = allowed || (byte == b'=' && token.len() == 3);
                assert_eq!(b64token(&token).is_some(), allowed, "{token:?}");
            }
        }
        assert_eq!((b64token(b""), b64token(b"=="), b64token(b"a==")), (None, None, Some("a==")));
    }

    #[test]
    fn a_scheme_ends_with_a_space_or_with_the_field() {
        for (field, expected) in [
            ("Bearer a", Some("a")),
            ("bEARER   a b", Some("a b")),
            ("Bearer", Some("")),
            ("Bearer ", Some("")),
            ("Bearera", None),
            ("Bearer\ta", None),
            ("Basic a", None),
            ("", None),
        ] {
            assert_eq!(after_scheme(field.as_bytes()), expected.map(str::as_bytes), "{field:?}");
        }
    }
}
