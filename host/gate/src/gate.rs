//! One request to a server behind: admitted by the component, sent on, answered.
//!
//! The component sees exactly the header fields that may go on: what is about the connection, or could be read as another
//! field, is removed before it is asked. Nothing here fails open: where the component fails, the answer is a 500 or 503,
//! and where the server behind fails or breaks a bound, a 502, 503 or 504.
//!
//! Answers stream: nothing is held back, except for what may have a list that the component judges, which are events and the
//! answers to requests for lists. An answer does not outlive the permission of its request (see `life.rs`).
//!
//! What the server behind says about anything but its answer is not believed: it shares an origin with the sign-in pages,
//! so it can neither set a cookie, nor name another place, nor ask the client for another token (see `answer.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entra_mcp_plugin::Error;
use entra_mcp_plugin::gatekeeper::{Admission, AnswerHead, Grant, Header, Request as Asked, Response as Answered};
use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::behind::{AnswerBody, Behind, BehindError, NoDelegatedToken, Sender};
use crate::gatekeeper::Gatekeeper;
use crate::process::printable;

use answer::Clean;
use callers::Callers;
use judged::{MessageJudge, Room};

mod answer;
mod callers;
mod event_ids;
mod failure;
mod judged;
mod life;
mod names;
mod noted;
mod request;
mod streamed;

pub use life::PERMITTED;

/// Makes unguessable ids: each names a request in its answer, in the log and in audit records.
pub type CorrelationIds = Arc<dyn Fn() -> String + Send + Sync>;

/// Event streams (GET) that one caller may hold open at the same time, unless set otherwise.
pub const STREAMS_PER_CALLER: usize = 16;

/// Requests of one caller at the same time, streams of answers among them: half of what a server behind takes at once, so
/// that no caller keeps the others out.
pub const REQUESTS_PER_CALLER: usize = 256;

/// Time that the component may take for its part of a request, besides that of the server behind.
const TIME_TO_DECIDE: Duration = Duration::from_secs(20);

/// How often the component is asked to record a request, if it fails at it.
const TRIES_TO_RECORD: u32 = 6;

/// Pause before it is asked again. It doubles with each one: all of them take some 30 s, in which a burst is over, and are
/// within the life of the handle.
const PAUSE_TO_RECORD: Duration = Duration::from_secs(1);

/// The methods of MCP over HTTP. `TRACE` would tell a client what the component has added for the server behind.
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::DELETE];

/// The body of an answer.
pub enum Body {
    /// All of it. The caller has its place until it is sent: a client of HTTP/2 that takes nothing keeps it in memory.
    Whole(Bytes, HeldPlace),
    /// One message, written while it is read.
    Message(AnswerBody),
    /// Events, for as long as the server behind has some.
    Events(AnswerBody),
}

impl Body {
    /// All of it, which occupies no place.
    fn free(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(bytes.into(), HeldPlace::default())
    }

    fn whole(bytes: Bytes, place: callers::CallerPlace) -> Self {
        Self::Whole(bytes, HeldPlace { _place: Some(place) })
    }
}

/// The place of a caller, given back when this is dropped.
#[derive(Default)]
pub struct HeldPlace {
    _place: Option<callers::CallerPlace>,
}

/// What becomes of a request.
pub enum GateOutcome {
    /// This is the answer.
    Answer(Response<Body>),
    /// The component serves the path itself.
    OwnPath(Request<Bytes>),
}

/// How a gate is set up.
#[derive(Clone)]
pub struct GateOptions {
    /// Source of correlation ids.
    pub correlation_ids: CorrelationIds,
    /// Request header fields that the host sets: a client cannot have them removed by naming them in `Connection`.
    pub host_fields: Vec<HeaderName>,
    /// Clients reach the server by https: answers say that they always have to (`Strict-Transport-Security`).
    pub https: bool,
    /// Event streams (GET) that one caller may hold open at the same time.
    pub streams_per_caller: usize,
    /// Requests of one caller at the same time.
    pub requests_per_caller: usize,
}

impl GateOptions {
    /// Plain http, with the usual bounds.
    pub fn new(correlation_ids: CorrelationIds) -> Self {
        Self {
            correlation_ids,
            host_fields: Vec::new(),
            https: false,
            streams_per_caller: STREAMS_PER_CALLER,
            requests_per_caller: REQUESTS_PER_CALLER,
        }
    }
}

/// Asks the component about requests, and sends on what it admits.
pub struct Gate {
    keeper: Arc<dyn Gatekeeper>,
    servers: HashMap<String, Server>,
    options: GateOptions,
}

/// A server, and how much of it is occupied.
struct Server {
    behind: Arc<dyn Behind>,
    callers: Arc<Callers>,
    room: Room,
}

impl Gate {
    /// A gate in front of these servers, by their names in the settings of the component.
    pub fn new(keeper: Arc<dyn Gatekeeper>, servers: HashMap<String, Arc<dyn Behind>>, options: GateOptions) -> Self {
        let server = |(name, behind): (String, Arc<dyn Behind>)| {
            let half = behind.requests_at_once().map_or(usize::MAX, |most| most.div_euclid(2).max(1));
            let callers = Callers::new(options.requests_per_caller.min(half), options.streams_per_caller);
            (name, Server { behind, callers: Arc::new(callers), room: Room::default() })
        };
        let servers = servers.into_iter().map(server).collect();
        Self { keeper, servers, options }
    }

    /// The longest time from a request to the head of its answer.
    pub fn time_to_answer(&self) -> Duration {
        let longest = self.servers.values().map(|server| server.behind.time_to_answer()).max();
        longest.unwrap_or_default().saturating_add(TIME_TO_DECIDE)
    }

    /// Answers one request. `decided` is called before it goes on to a server behind, whose answer may take long. Dropping
    /// the future, or the body of the answer, cancels the request to the server behind; what it was is recorded all the
    /// same.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub async fn handle(&self, mut request: Request<Bytes>, decided: impl FnOnce() + Send) -> GateOutcome {
        let begun = Instant::now();
        let correlation_id = (self.options.correlation_ids)();
        if let Err(reason) = request::screen(request.headers_mut(), &self.options.host_fields) {
            tracing::info!(%correlation_id, reason, "a request was refused");
            return GateOutcome::Answer(self.plain(StatusCode::BAD_REQUEST, reason, &correlation_id));
        }
        match self.keeper.admit(&asked(&request, &correlation_id)).await {
            Err(error) => GateOutcome::Answer(self.component_failed(&error, &correlation_id)),
            Ok(Admission::Answer(answer)) => GateOutcome::Answer(self.decided(answer, &correlation_id)),
            Ok(Admission::OwnPath) => GateOutcome::OwnPath(request),
            Ok(Admission::Forward(grant)) => {
                let report = Report::new(&self.keeper, &grant, begun);
                decided();
                GateOutcome::Answer(self.forward(request, grant, report).await)
            }
        }
    }

    async fn forward(&self, request: Request<Bytes>, grant: Grant, report: Report) -> Response<Body> {
        let correlation_id = grant.caller.correlation_id.clone();
        if !METHODS.contains(request.method()) {
            let mut refused = self.plain(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed", &correlation_id);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
            return refused;
        }
        let asked = if grant.judge_answer { judged::asked_id(request.body()) } else { None };
        let begun = self.begin(request, &grant).await;
        let (status, no_token, answer) = match begun {
            Err(Unfinished::Behind(BehindError::NoToken(no_token))) => {
                (0, Some(no_token.clone()), Err(BehindError::NoToken(no_token).into()))
            }
            Err(error) => (0, None, Err(error)),
            Ok(Begun { mut answer, occupies }) => {
                let (status, no_token) = (answer.status().as_u16(), answer.extensions_mut().remove());
                (status, no_token, answer::clean(answer, answer::reads(&grant)).map(|clean| (clean, occupies)))
            }
        };
        let admitted = report.begun;
        let session_id = answer.as_ref().ok().and_then(|(clean, ..)| clean.session_id.clone());
        let refusal = no_token.map(|NoDelegatedToken(error)| error);
        let fields = match report.made(|latency_us| AnswerHead { status, latency_us, session_id, refusal }).await {
            Err(error) => return self.component_failed(&error, &correlation_id),
            Ok(Err(instead)) => return self.decided(instead, &correlation_id),
            Ok(Ok(fields)) => fields,
        };
        let finished = match answer {
            Err(error) => Err(error),
            Ok((clean, occupies)) => self.finish(clean, occupies, admitted, (&grant, asked)).await,
        };
        let mut response = match finished {
            Ok(response) => response,
            Err(Unfinished::Component(error)) => self.component_failed(&error, &correlation_id),
            Err(Unfinished::Behind(error)) => {
                let error_text = printable(&error.to_string());
                tracing::warn!(%correlation_id, server = grant.server, status, error = error_text, "a server behind failed");
                failure::of_server(&error, &correlation_id)
            }
        };
        self.secure(&mut response, &correlation_id);
        if set_fields(response.headers_mut(), &fields).is_err() {
            tracing::error!(%correlation_id, "the component sets a header field that is none");
            return self.plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error", &correlation_id);
        }
        response
    }

    /// Sends the request on. Until here, its caller holds a place.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    async fn begin(&self, request: Request<Bytes>, grant: &Grant) -> Result<Begun, Unfinished> {
        let Some(Server { behind, callers, room }) = self.servers.get(&grant.server) else {
            return Err(BehindError::Unreachable("the host knows no server of this name".to_owned()).into());
        };
        let place = callers.enter(&grant.caller, *request.method() == Method::GET)?;
        let request = request::outgoing(request, grant)?;
        let sender = Sender { caller: grant.caller.clone(), handle: Zeroizing::new(grant.handle.clone()) };
        let deadline = Instant::now() + behind.time_to_answer();
        match tokio::time::timeout_at(deadline, behind.send(request, sender)).await {
            Err(_) => Err(BehindError::TimedOut.into()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(answer)) => {
                let occupied = room.of(&grant.caller);
                Ok(Begun { answer, occupies: Occupies { place, occupied, deadline } })
            }
        }
    }

    /// The answer as its client gets it.
    async fn finish(
        &self,
        clean: Clean,
        Occupies { place, occupied, deadline }: Occupies,
        admitted: Instant,
        (grant, asked): (&Grant, Option<Value>),
    ) -> Result<Response<Body>, Unfinished> {
        let Clean { status, headers, content, session_id: _ } = clean;
        let judge =
            || MessageJudge::new(Arc::clone(&self.keeper), Zeroizing::new(grant.handle.clone()), occupied, asked);
        let passed = |body, place, is_stream| life::limited(callers::held(body, place), admitted, is_stream);
        let body = match content {
            answer::GatedBody::Nothing => Body::free(Bytes::new()),
            answer::GatedBody::Events(body) => {
                let body = match (grant.judge_answer, grant.note_answer) {
                    (true, _) => judge().events(body),
                    (false, true) => noted::events(judge(), body),
                    (false, false) => body,
                };
                Body::Events(passed(event_ids::tied(body, &grant.event_key), place, true))
            }
            answer::GatedBody::Json(body) if grant.judge_answer && !grant.answer_may_stream => {
                let judged = tokio::time::timeout_at(deadline, judge().message(body)).await;
                Body::whole(judged.unwrap_or(Err(BehindError::TimedOut.into()))?, place)
            }
            answer::GatedBody::Json(body) if grant.judge_answer || grant.note_answer => {
                let begins = async {
                    match grant.judge_answer {
                        true => streamed::message(judge(), body).await,
                        false => noted::message(judge(), body).await,
                    }
                };
                match tokio::time::timeout_at(deadline, begins).await.unwrap_or(Err(BehindError::TimedOut.into()))? {
                    noted::Noted::Whole(bytes) => Body::whole(bytes, place),
                    noted::Noted::Passing(body) => Body::Message(passed(body, place, false)),
                }
            }
            answer::GatedBody::Json(body) | answer::GatedBody::Text(body) => {
                match streamed::unread(body, deadline).await? {
                    noted::Noted::Whole(bytes) => Body::whole(bytes, place),
                    noted::Noted::Passing(body) => Body::Message(passed(body, place, false)),
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// An answer of the component.
    fn decided(&self, answer: Answered, correlation_id: &str) -> Response<Body> {
        let Answered { status, headers, body } = answer;
        let mut response = Response::new(Body::free(body));
        let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
        let appended = append_fields(response.headers_mut(), &headers);
        match (status, appended) {
            (Some(status), Ok(())) => {
                *response.status_mut() = status;
                response
            }
            _ => {
                tracing::error!(%correlation_id, "the answer of the component is none");
                self.plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error", correlation_id)
            }
        }
    }

    fn component_failed(&self, error: &Error, correlation_id: &str) -> Response<Body> {
        let mut response = failure::of_component(error, correlation_id);
        self.secure(&mut response, correlation_id);
        response
    }

    fn plain(&self, status: StatusCode, reason: &str, correlation_id: &str) -> Response<Body> {
        let mut response = failure::plain_text(status, reason, correlation_id);
        self.secure(&mut response, correlation_id);
        response
    }

    fn secure(&self, response: &mut Response<Body>, correlation_id: &str) {
        let is_stream = matches!(response.body(), Body::Events(_));
        let failed = response.status().is_client_error() || response.status().is_server_error();
        answer::secure(response.headers_mut(), self.options.https, is_stream);
        if failed && let Ok(id) = HeaderValue::try_from(correlation_id) {
            response.headers_mut().insert(answer::CORRELATION_ID, id);
        }
    }
}

/// An answer has begun.
struct Begun {
    answer: Response<AnswerBody>,
    occupies: Occupies,
}

/// What an answer occupies.
struct Occupies {
    place: callers::CallerPlace,
    occupied: judged::Occupied,
    /// When a message that is judged has to be here.
    deadline: Instant,
}

/// Why an answer cannot be passed on.
enum Unfinished {
    Behind(BehindError),
    Component(Error),
}

impl From<BehindError> for Unfinished {
    fn from(error: BehindError) -> Self {
        Self::Behind(error)
    }
}

/// Says to the component how a request ended, exactly once or, if that was cancelled, once more: a caller that leaves does
/// not escape the record of what it called.
struct Report {
    keeper: Arc<dyn Gatekeeper>,
    handle: Zeroizing<String>,
    server: String,
    correlation_id: String,
    begun: Instant,
    /// How the request ended, once that is known.
    head: Option<AnswerHead>,
    due: bool,
}

impl Report {
    fn new(keeper: &Arc<dyn Gatekeeper>, grant: &Grant, begun: Instant) -> Self {
        Self {
            keeper: Arc::clone(keeper),
            handle: Zeroizing::new(grant.handle.clone()),
            server: grant.server.clone(),
            correlation_id: grant.caller.correlation_id.clone(),
            begun,
            head: None,
            due: grant.report_answer,
        }
    }

    /// `head` makes the head of a latency.
    async fn made(mut self, head: impl FnOnce(u64) -> AnswerHead) -> Result<Result<Vec<Header>, Answered>, Error> {
        if !self.due {
            return Ok(Ok(Vec::new()));
        }
        let head = head(self.latency_us());
        self.head = Some(head.clone());
        let made = self.keeper.answered(&self.handle, &head).await;
        // The client gets the error. What the server behind has done is recorded all the same, by the drop of this.
        self.due = made.is_err();
        made
    }

    fn latency_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.due {
            return;
        }
        let (server, correlation_id) = (std::mem::take(&mut self.server), std::mem::take(&mut self.correlation_id));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::error!(%correlation_id, %server, "a request was not recorded: the host ends");
            return;
        };
        let (keeper, handle) = (Arc::clone(&self.keeper), std::mem::take(&mut self.handle));
        let has_failed = self.head.is_some();
        let cancelled = AnswerHead { status: 0, latency_us: self.latency_us(), session_id: None, refusal: None };
        let head = self.head.take().unwrap_or(cancelled);
        runtime.spawn(async move {
            if let Err(error) = record(&*keeper, &handle, &head, has_failed).await {
                tracing::error!(%correlation_id, %server, status = head.status, error = printable(&error.to_string()), "a request was not recorded");
            }
        });
    }
}

/// Has a request recorded whose client has left, or got an error: there is no answer any more that could be refused.
#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
async fn record(keeper: &dyn Gatekeeper, handle: &str, head: &AnswerHead, has_failed: bool) -> Result<(), Error> {
    let (mut tries, mut pause) = (u32::from(has_failed), PAUSE_TO_RECORD);
    loop {
        if tries > 0 {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
        tries = tries.saturating_add(1);
        match keeper.answered(handle, head).await {
            Ok(_) => return Ok(()),
            Err(error) if tries >= TRIES_TO_RECORD => return Err(error),
            Err(_) => {}
        }
    }
}

/// The request in the form of the contract.
fn asked(request: &Request<Bytes>, correlation_id: &str) -> Asked {
    let field = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
    let mut headers: Vec<Header> = request.headers().iter().map(field).collect();
    // HTTP/2 names the host in the target.
    if let Some(authority) = request.uri().authority().filter(|_| !request.headers().contains_key(http::header::HOST)) {
        headers.push(("host".to_owned(), authority.as_str().into()));
    }
    Asked {
        correlation_id: correlation_id.to_owned(),
        method: request.method().as_str().to_owned(),
        path_with_query: request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        headers,
        body: request.body().to_vec(),
    }
}

/// A field that the component names cannot be used.
#[derive(Debug)]
struct NoField;

fn field((name, value): &Header) -> Result<(HeaderName, HeaderValue), NoField> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| NoField)?;
    Ok((name, HeaderValue::from_bytes(value).map_err(|_| NoField)?))
}

fn append_fields(headers: &mut HeaderMap, fields: &[Header]) -> Result<(), NoField> {
    for (name, value) in fields.iter().map(field).collect::<Result<Vec<_>, _>>()? {
        headers.append(name, value);
    }
    Ok(())
}

/// Sets fields, each in place of all of its name.
fn set_fields(headers: &mut HeaderMap, fields: &[Header]) -> Result<(), NoField> {
    for (name, _) in fields {
        headers.remove(name.as_str());
    }
    append_fields(headers, fields)
}

#[cfg(test)]
mod tests;
