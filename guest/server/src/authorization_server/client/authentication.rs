//! How a client names itself, and proves it (RFC 6749 section 2.3).

use base::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::{ClientError, MAX_CLIENT_ID};
use crate::message::Request;

/// The longest value of `Authorization` that is read, in bytes: a client id and a secret, each percent-encoded,
/// in base64.
const MAX_AUTHORIZATION: usize = 16 * 1024;

/// What a request says of its client.
pub(super) struct Credentials {
    pub(super) client_id: String,
    /// None of a public client.
    pub(super) secret: Option<Secret<String>>,
}

/// The client that a request to the token or revocation endpoint comes from, as it says: by HTTP Basic or by
/// `client_id` in the form. It is not authenticated yet: see [`super::Client::authenticate`].
pub fn named(request: &Request, form: &[(String, String)]) -> Result<String, ClientError> {
    Ok(credentials(request, form)?.client_id)
}

/// Whether the client used HTTP Basic: then a refusal is 401 with `WWW-Authenticate: Basic` (RFC 6749 section 5.2).
pub fn uses_basic(request: &Request) -> bool {
    request.headers.get_all(AUTHORIZATION).iter().any(|value| value.to_str().is_ok_and(|value| basic(value).is_some()))
}

/// The one way in which the request names its client. Two ways are refused, even if they agree in the secret
/// (RFC 6749 section 2.3); a `client_id` in the form beside HTTP Basic is the same name again.
pub(super) fn credentials(request: &Request, form: &[(String, String)]) -> Result<Credentials, ClientError> {
    // Authentication that is not offered is not ignored: the client would think that it is authenticated.
    if form.iter().any(|(name, _)| name == "client_assertion" || name == "client_assertion_type") {
        return Err(ClientError::Unauthenticated);
    }
    let posted_id = once(form, "client_id").map_err(|_| ClientError::Unnamed)?;
    let posted_secret = once(form, "client_secret").map_err(|_| ClientError::Unauthenticated)?;
    let mut headers = request.headers.get_all(AUTHORIZATION).iter();
    let credentials = match (headers.next(), headers.next()) {
        (None, _) => Credentials {
            client_id: posted_id.ok_or(ClientError::Unnamed)?.to_owned(),
            secret: posted_secret.map(Secret::from),
        },
        (Some(header), None) if posted_secret.is_none() => {
            let header = header.to_str().map_err(|_| ClientError::Unauthenticated)?;
            let credentials = basic(header).and_then(decode).ok_or(ClientError::Unauthenticated)?;
            if posted_id.is_some_and(|posted| posted != credentials.client_id) {
                return Err(ClientError::Unauthenticated);
            }
            credentials
        }
        _ => return Err(ClientError::Unauthenticated),
    };
    if credentials.client_id.is_empty() || credentials.client_id.len() > MAX_CLIENT_ID {
        return Err(ClientError::Unnamed);
    }
    Ok(credentials)
}

/// What follows the scheme `Basic`, which is case-insensitive (RFC 9110 section 11.1).
fn basic(header: &str) -> Option<&str> {
    let (scheme, credentials) = header.split_once(' ')?;
    (header.len() <= MAX_AUTHORIZATION && scheme.eq_ignore_ascii_case("basic")).then(|| credentials.trim_matches(' '))
}

/// `base64(form-encoded id : form-encoded secret)`.
fn decode(credentials: &str) -> Option<Credentials> {
    let plain = Zeroizing::new(STANDARD.decode(credentials).ok()?);
    let (id, secret) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(Credentials { client_id: form_decoded(id)?, secret: Some(Secret::new(form_decoded(secret)?)) })
}

/// The inverse of the encoding of `application/x-www-form-urlencoded` for one value. A stray `%`, as of a client that
/// does not encode, stays what it is.
fn form_decoded(text: &str) -> Option<String> {
    // Inside of a form, these two would end the value.
    if text.contains(['&', '=']) {
        let escaped = Zeroizing::new(text.replace('&', "%26").replace('=', "%3D"));
        return form_decoded(&escaped);
    }
    let form = Zeroizing::new(format!("v={text}"));
    let (_, value) = url::form_urlencoded::parse(form.as_bytes()).next()?;
    (!value.contains('\u{fffd}')).then(|| value.into_owned())
}

/// The value of a parameter that may occur once. Without a value it counts as omitted (RFC 6749 section 3.1).
fn once<'a>(form: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = form.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value.filter(|value| !value.is_empty())),
        _ => Err(()),
    }
}
