//! The head of an answer of a server behind: what of it a client gets.
//!
//! The server behind shares an origin with the pages on which people sign in and consent, and its clients hold tokens of
//! this server. So it says what it answers, and nothing else:
//!
//! - Only the fields of [`PASSED`] and those of MCP pass. No `Set-Cookie`, no CORS (the component sets it), no challenge,
//!   no `Location`, `Link`, `Refresh`, `Clear-Site-Data`, `Alt-Svc`, `Server`.
//! - The types are JSON, events and plain text. An error of another type, such as a page of a proxy, keeps its status and
//!   loses its body; any other answer of another type is refused. 202 and 204 have no body.
//! - Redirects and upgrades are refused. So are 401 and 407, which would send clients to sign in anew although it is the
//!   gate whose credentials the server behind refuses.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE,
    REFERRER_POLICY, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use entra_mcp_plugin::gatekeeper::Grant;

use super::Unfinished;
use crate::behind::{AnswerBody, BehindError};

/// The header that names the correlation id of an error.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Most fields of an answer. Servers send some ten.
const MAX_FIELDS: usize = 100;

/// Most bytes of all fields of an answer: as many as this server accepts of clients.
const MAX_FIELD_BYTES: usize = 32 * 1024;

/// Most bytes of a session id. Usual are 36; some servers keep a signed state in it.
const MAX_SESSION_ID_BYTES: usize = 4 * 1024;

/// Fields that pass, besides those whose names begin with [`MCP`].
const PASSED: [HeaderName; 6] = [ALLOW, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, DATE, RETRY_AFTER];

/// How the fields of MCP begin. Except for the session id, which the component seals, they pass.
const MCP: &str = "mcp-";
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What may be passed on of an answer.
pub(super) struct Clean {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) session_id: Option<String>,
    pub(super) content: Content,
}

/// What an answer consists of.
pub(super) enum Content {
    Nothing,
    Json(AnswerBody),
    Events(AnswerBody),
    Text(AnswerBody),
}

/// What the type of an answer says.
enum Media {
    None,
    Json,
    Events,
    Text,
    Other,
}

/// What is read of an answer besides its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads {
    /// The component judges its messages: what it cannot read does not pass.
    pub(super) judged: bool,
    /// The component sees its messages.
    pub(super) messages: bool,
    /// Its events are tied to the caller.
    pub(super) events: bool,
}

impl Reads {
    pub(super) fn of(grant: &Grant) -> Self {
        let messages = grant.judge_answer || grant.note_answer;
        Self { judged: grant.judge_answer, messages, events: messages || !grant.event_key.is_empty() }
    }
}

/// Looks at the head of an answer.
pub(super) fn clean(response: Response<AnswerBody>, reads: Reads) -> Result<Clean, Unfinished> {
    let (parts, body) = response.into_parts();
    let malformed = |reason: &str| Err(BehindError::Malformed(format!("{reason} (status {})", parts.status)).into());
    let size = |total: usize, (name, value): (&HeaderName, &HeaderValue)| {
        total.saturating_add(name.as_str().len()).saturating_add(value.len())
    };
    if parts.headers.len() > MAX_FIELDS || parts.headers.iter().fold(0, size) > MAX_FIELD_BYTES {
        return malformed("its header is too large");
    }
    match parts.status {
        status if status.is_informational() => return malformed("it wants to change the protocol"),
        status if status.is_redirection() => return malformed("it redirects"),
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            return malformed("it does not accept the credentials of the gate");
        }
        _ => {}
    }
    let session_id = match one(&parts.headers, &SESSION_ID) {
        Ok(None) => None,
        Ok(Some(id)) if id.len() <= MAX_SESSION_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some(id.to_owned())
        }
        Ok(Some(_)) | Err(Several) => return malformed("its session id is none"),
    };
    let Ok(content_type) = one(&parts.headers, &CONTENT_TYPE) else { return malformed("its type is none") };
    let succeeded = parts.status.is_success();
    let empty = matches!(parts.status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    let content = match media(content_type) {
        Media::None => Content::Nothing,
        _ if empty => Content::Nothing,
        Media::Json => Content::Json(body),
        Media::Events => Content::Events(body),
        Media::Text if !(reads.judged && succeeded) => Content::Text(body),
        Media::Text | Media::Other if succeeded => return malformed("it is neither JSON nor events"),
        Media::Text | Media::Other => Content::Nothing,
    };
    if parts.headers.get_all(CONTENT_ENCODING).iter().nth(1).is_some() {
        return malformed("it says twice how it is compressed");
    }
    let is_read = match content {
        Content::Json(_) => reads.messages,
        Content::Events(_) => reads.events,
        Content::Nothing | Content::Text(_) => false,
    };
    if is_read && !parts.headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        return malformed("it is compressed, and has to be read");
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        let is_mcp = name.as_str().starts_with(MCP) && *name != SESSION_ID;
        if is_mcp || PASSED.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if matches!(content, Content::Nothing) {
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_ENCODING);
    }
    Ok(Clean { status: parts.status, headers, session_id, content })
}

/// Whether a `Content-Encoding` leaves the content as it is.
fn is_identity(codings: &HeaderValue) -> bool {
    codings.as_bytes().split(|byte| *byte == b',').all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// A field that has one value has several, or one that is no text.
struct Several;

fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Several> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Several),
        (Some(_), Some(_)) => Err(Several),
    }
}

fn media(content_type: Option<&str>) -> Media {
    let Some(content_type) = content_type else { return Media::None };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Media::Json,
        "text/event-stream" => Media::Events,
        "text/plain" => Media::Text,
        other if other.starts_with("application/") && other.ends_with("+json") => Media::Json,
        _ => Media::Other,
    }
}

/// Adds what every answer of the component has too: a browser does nothing with it but show it, and nothing keeps it.
pub(super) fn secure(headers: &mut HeaderMap, https: bool, is_stream: bool) {
    let fixed = HeaderValue::from_static;
    const STRICT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, fixed(STRICT_POLICY));
    headers.insert(CACHE_CONTROL, fixed(if is_stream { "no-store, no-transform" } else { "no-store" }));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(X_FRAME_OPTIONS, fixed("DENY"));
    headers.insert(REFERRER_POLICY, fixed("no-referrer"));
    if https {
        // A year, in seconds, as in the component's own answers.
        headers.insert(STRICT_TRANSPORT_SECURITY, fixed("max-age=31536000"));
    }
    if is_stream {
        headers.insert(X_ACCEL_BUFFERING, fixed("no"));
    }
}
