//! `/mcp`, and the paths of servers behind the component whose tools it speaks for: Streamable HTTP.
//!
//! Stateless in both eras: no session id is issued and one that a client sends is ignored, so any replica answers any
//! request. `GET` (unsolicited notifications) and `DELETE` (the end of a session) are not offered.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Response};

use super::bearer::Guard;
use super::negotiation::{ResponseFormat, acceptable, field, is_json};
use super::{empty, json_text};
use crate::mcp::{self, Peer, RepeatedFields, Reply};
use crate::message::{Request, text, with_body};

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Tells reverse proxies to pass an event stream on as it comes.
pub(super) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Answers a `POST`.
pub(super) async fn serve(guard: &Guard<'_>, request: &Request) -> Response<Vec<u8>> {
    let admitted = match guard.admit(request).await {
        Ok(admitted) => admitted,
        Err(refusal) => return guard.refuse(refusal),
    };
    if !is_json(&request.headers) {
        return text(415, "A message has to be sent as application/json");
    }
    let Some(form) = acceptable(&request.headers) else {
        return text(406, "An answer is application/json or text/event-stream: accept both");
    };
    let caller = admitted.caller(&guard.env.entra);
    let reply = mcp::handle_http(&Peer::Remote(guard.env, &*caller), &fields(&request.headers), &request.body).await;
    respond(guard, reply, form)
}

/// What the header fields of a request say of its message.
pub(super) fn fields(headers: &HeaderMap) -> RepeatedFields<'_> {
    RepeatedFields {
        version: field(headers, &PROTOCOL_VERSION),
        method: field(headers, &METHOD),
        name: field(headers, &NAME),
    }
}

/// The answer of HTTP.
pub(super) fn respond(guard: &Guard<'_>, reply: Reply, form: ResponseFormat) -> Response<Vec<u8>> {
    match reply {
        Reply::Nothing => empty(202),
        // A refusal of the request is no event of its answer.
        Reply::Message { status: 200, json } if form == ResponseFormat::EventStream => {
            let mut response = with_body(200, "text/event-stream", event("message", &json).into_bytes());
            response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
            response
        }
        Reply::Message { status, json } => json_text(status, json),
        Reply::SignInAgain => guard.sign_in_again(),
        Reply::StepUp => guard.step_up(),
        Reply::ClaimsChallenge(claims) => guard.claims_challenge(&claims),
        Reply::InsufficientScope(scopes) => guard.insufficient_scope(&scopes),
        Reply::TooMany(after) => guard.too_many_calls(after),
    }
}

/// One server-sent event. `data` is one line.
pub(super) fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
