//! HTTP around the messages of a process: what a request says of itself, and how an answer looks.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};

use super::message::{Object, error};
use super::stream::StreamBody;
use crate::behind::AnswerBody;

/// Names the session, from `initialize` on.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The first version without sessions. Versions are dates, so the later one is the greater text.
const STATELESS: &str = "2026-07-28";

/// The first version whose clients understand an event without a message.
const PRIMED: &str = "2025-11-25";

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const SESSION_NOT_FOUND: i32 = -32001;

/// `HeaderMismatch`, `MissingRequiredClientCapability`, `UnsupportedProtocolVersion`.
const MODERN_ERRORS: std::ops::RangeInclusive<i32> = -32022..=-32020;

/// What a client says about itself and the answer that it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) session: Option<String>,
    pub(super) json: bool,
    pub(super) events: bool,
    pub(super) last_event: Option<String>,
    version: Option<String>,
}

impl Wishes {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let accepted: Vec<String> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
            .collect();
        let accepts =
            |range: &str, any: &str| accepted.iter().any(|found| found == range || found == any || found == "*/*");
        let events = accepts("text/event-stream", "text/*");
        Self {
            session: text(SESSION_ID),
            json: accepts("application/json", "application/*") || !events,
            events,
            last_event: text(LAST_EVENT_ID),
            version: text(PROTOCOL_VERSION),
        }
    }

    /// Whether the client speaks the protocol without sessions.
    pub(super) fn is_stateless(&self) -> bool {
        self.version.as_deref().is_some_and(|version| version >= STATELESS)
    }

    /// Whether the client understands an event without a message.
    pub(super) fn may_be_primed(&self) -> bool {
        self.version.as_deref().is_some_and(|version| version >= PRIMED)
    }

    /// The status of an answer that is one message: that of the version which the client speaks.
    pub(super) fn status(&self, message: &str, method: &str) -> StatusCode {
        let code = if self.is_stateless() { error_code(message) } else { None };
        match code {
            // What a server of an earlier version says to `server/discover` is an answer to look at.
            Some(METHOD_NOT_FOUND) if method != "server/discover" => StatusCode::NOT_FOUND,
            Some(code) if MODERN_ERRORS.contains(&code) => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        }
    }
}

fn error_code(message: &str) -> Option<i32> {
    Object::parse(message)?.inner(&["error"], "code")?.parse().ok()
}

/// The stream and the event in it that `Last-Event-ID` names.
pub(super) fn event_id(text: &str) -> Option<(u64, u64)> {
    let (stream, event) = text.split_once('-')?;
    Some((stream.parse().ok()?, event.parse().ok()?))
}

/// Whether the answer to `initialize` is an error.
pub(super) fn is_error(message: &str) -> bool {
    Object::parse(message).is_none_or(|object| object.get("error").is_some())
}

/// One message.
pub(super) fn json(status: StatusCode, message: String) -> Response<AnswerBody> {
    let body = Full::new(Bytes::from(message)).map_err(|never| match never {}).boxed_unsync();
    with(status, body, &[(CONTENT_TYPE, "application/json")])
}

/// A stream of messages.
pub(super) fn events(body: StreamBody) -> Response<AnswerBody> {
    let buffering = HeaderName::from_static("x-accel-buffering");
    let fields = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache, no-store"), (buffering, "no")];
    with(StatusCode::OK, body.boxed_unsync(), &fields)
}

/// No content.
pub(super) fn empty(status: StatusCode) -> Response<AnswerBody> {
    with(status, Empty::new().map_err(|never| match never {}).boxed_unsync(), &[])
}

/// The method is not one of this path.
pub(super) fn not_allowed(allowed: &'static str) -> Response<AnswerBody> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    with(StatusCode::METHOD_NOT_ALLOWED, body, &[(ALLOW, allowed)])
}

/// There is no such session, or not for this caller: the client has to begin another one.
pub(super) fn no_session() -> Response<AnswerBody> {
    json(StatusCode::NOT_FOUND, error("null", SESSION_NOT_FOUND, "Session not found"))
}

/// The body is no message.
pub(super) fn no_message(is_json: bool) -> Response<AnswerBody> {
    let (code, text) = if is_json { (INVALID_REQUEST, "Invalid Request") } else { (PARSE_ERROR, "Parse error") };
    json(StatusCode::BAD_REQUEST, error("null", code, text))
}

/// The events that the client asks for are not kept.
pub(super) fn no_events() -> Response<AnswerBody> {
    json(StatusCode::BAD_REQUEST, error("null", INVALID_REQUEST, "The events after Last-Event-ID are gone"))
}

fn with(status: StatusCode, body: AnswerBody, fields: &[(HeaderName, &'static str)]) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(fields: &[(HeaderName, &'static str)]) -> Wishes {
        let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Wishes::of(&fields.collect())
    }

    #[test]
    fn the_client_chooses_the_form_of_the_answer() {
        let form = |accept| {
            let wishes = wishes(&[(ACCEPT, accept)]);
            (wishes.json, wishes.events)
        };
        assert_eq!(form("application/json, text/event-stream"), (true, true));
        assert_eq!(form("application/json;q=0.5"), (true, false));
        assert_eq!(form("Text/Event-Stream"), (false, true));
        assert_eq!(form("*/*"), (true, true));
        assert_eq!(form("image/png"), (true, false));
    }

    #[test]
    fn errors_of_the_stateless_protocol_have_a_status() {
        let modern = wishes(&[(PROTOCOL_VERSION, "2026-07-28")]);
        let legacy = wishes(&[(PROTOCOL_VERSION, "2025-11-25")]);
        let missing = error("1", METHOD_NOT_FOUND, "m");
        assert_eq!(modern.status(&missing, "tools/x"), StatusCode::NOT_FOUND);
        assert_eq!(modern.status(&missing, "server/discover"), StatusCode::OK);
        assert_eq!(modern.status(&error("1", -32022, "m"), "server/discover"), StatusCode::BAD_REQUEST);
        assert_eq!(modern.status(&error("1", -32602, "m"), "tools/call"), StatusCode::OK);
        assert_eq!(legacy.status(&missing, "tools/x"), StatusCode::OK);
    }

    #[test]
    fn an_event_id_names_a_stream_and_an_event() {
        assert_eq!(event_id("12-3"), Some((12, 3)));
        for text in ["", "12", "-", "a-1", "1-", "1--1"] {
            assert_eq!(event_id(text), None, "{text}");
        }
    }
}
