//! `/sse` and `/message`: the deprecated HTTP+SSE transport of 2024-11-05.
//!
//! A client holds an event stream open and posts its messages elsewhere, perhaps to another replica. So what a stream
//! has to deliver is a record in the store: a message is handled where it arrives, its answer is put into the queue of
//! the stream, and the stream looks there. Everything belongs to one user and one client; a message of another user or
//! client finds nothing. When a client goes away its stream is dropped with the instance, and the records expire.

use std::time::Duration;

use async_trait::async_trait;
use base::{Identity, Secret};
use http::{HeaderValue, Response};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use world::StoreError;
use world::random::random_token;
use world::records::{Namespace, Next, Partition, Ttl};

use super::bearer::{Admitted, Guard};
use super::negotiation::{is_json, takes_event_stream};
use super::streamable::{X_ACCEL_BUFFERING, event};
use super::{Authenticate, empty, json_text, retry_later, unavailable};
use crate::mcp::{self, McpConnection, Peer, Reply};
use crate::message::{BodyStream, HttpResponse, Request, text, with_body};
use crate::server_world::ServerWorld;
use crate::site::SSE_PATH;

/// Silence after which proxies and clients take a stream for dead is 30 s and more; a comment every 15 s prevents it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream whose replica died is forgotten after this: two keep-alives may be late.
const RECORD_LIFETIME: Duration = Duration::from_secs(45);
/// Pause between two looks at the queue while messages come; short enough not to be noticed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// The same while nothing comes: doubled up to this, so that idle streams cost the store two reads a second.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Answers that wait for their stream. More than any client asks for at once.
const MAX_QUEUED: usize = 32;
/// Bytes of all of them, as stored: a record of the store holds 256 KiB.
const MAX_QUEUED_BYTES: usize = 192 * 1024;
/// How long the list of a caller's streams is kept: longer than an access token, with which a stream ends.
const LIST_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Characters of the id of a stream (256 bits as base64url).
const ID_LENGTH: usize = 43;
/// Bytes of the longest state of a connection that is kept. It holds a version and a flag.
const MAX_STATE: usize = 4096;

/// A stream, as its replicas see it.
#[derive(Serialize, Deserialize)]
struct StreamRecord {
    tenant_id: String,
    object_id: String,
    client_id: String,
    /// What `initialize` agreed on.
    state: Option<String>,
}

impl StreamRecord {
    fn belongs_to(&self, who: Identity<'_>) -> bool {
        let Self { tenant_id, object_id, client_id, state: _ } = self;
        who == Identity { tenant_id, object_id, client_id }
    }
}

/// Streams by id.
const STREAMS: Namespace<StreamRecord> = Namespace::json(Partition::Store, "sse", Ttl::For(RECORD_LIFETIME));
/// What they have to deliver, by the same id.
const QUEUES: Namespace<Vec<String>> =
    Namespace::json(Partition::Store, "sse", Ttl::For(RECORD_LIFETIME)).ending_with("/queue").absent_if_malformed();
/// The ids of the streams that a caller holds open, by tenant and object. Of all its clients: a caller has as many client
/// ids as it likes.
const LISTS: Namespace<Vec<String>> =
    Namespace::json(Partition::Store, "sse-of", Ttl::For(LIST_LIFETIME)).absent_if_malformed();

/// Why something could not be done with a record.
enum StreamRecordError {
    /// The bound is reached.
    Full,
    /// There is no such record any more.
    Gone,
    Store,
}

impl From<StoreError> for StreamRecordError {
    fn from(_: StoreError) -> Self {
        Self::Store
    }
}

/// Opens a stream.
pub(super) async fn open(guard: &Guard<'_>, request: &Request) -> HttpResponse {
    let admitted = match guard.admit(request).await {
        Ok(admitted) => admitted,
        Err(refusal) => return HttpResponse::Full(guard.refuse(refusal)),
    };
    if !takes_event_stream(&request.headers) {
        return HttpResponse::Full(text(406, "This is an event stream: accept text/event-stream"));
    }
    match begin(guard, &admitted).await {
        Ok(stream) => {
            let head = with_body(200, "text/event-stream", Vec::new());
            let mut head = Response::from_parts(head.into_parts().0, ());
            head.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
            HttpResponse::Stream(head, Box::new(stream))
        }
        Err(StreamRecordError::Full) => {
            HttpResponse::Full(retry_later(text(429, "You hold too many event streams open: close one")))
        }
        Err(StreamRecordError::Gone | StreamRecordError::Store) => {
            HttpResponse::Full(unavailable("The stream cannot be opened now"))
        }
    }
}

/// The streams of a list that have not ended.
async fn still_open(env: &ServerWorld<'_>, listed: Option<Vec<String>>) -> Vec<String> {
    let mut open = Vec::new();
    for id in listed.unwrap_or_default() {
        // One that cannot be looked up counts.
        if env.entra.records.exists(&STREAMS, &id).await.unwrap_or(true) {
            open.push(id);
        }
    }
    open
}

async fn begin(guard: &Guard<'_>, admitted: &Admitted) -> Result<Stream, StreamRecordError> {
    let (env, who) = (guard.env, admitted.identity());
    let id = random_token(env.entra.random);
    let of = [who.tenant_id, who.object_id];
    // Each of them occupies an instance.
    let most = usize::try_from(env.site.settings.max_streams_per_caller).unwrap_or(usize::MAX);
    // What is refused writes nothing.
    if still_open(env, env.entra.records.get(&LISTS, &of).await?).await.len() >= most {
        return Err(StreamRecordError::Full);
    }
    // Before it is listed: what is listed and has no record is taken for a stream that has ended, and not counted.
    let record = StreamRecord {
        tenant_id: who.tenant_id.to_owned(),
        object_id: who.object_id.to_owned(),
        client_id: who.client_id.to_owned(),
        state: None,
    };
    env.entra.records.put(&STREAMS, &id, &record).await?;
    let listed = env.entra.records.update_with(&LISTS, &of, async |listed: Option<Vec<String>>| {
        let mut open = still_open(env, listed).await;
        if open.len() >= most {
            return Next::Leave(Err(StreamRecordError::Full));
        }
        open.push(id.clone());
        Next::Write(open, Ok(()))
    });
    if let Err(error) = listed.await.map_err(StreamRecordError::from).flatten() {
        let _ = env.entra.records.delete(&STREAMS, &id).await;
        return Err(error);
    }
    Ok(Stream {
        endpoint: Some(format!("{}/message?sessionId={id}", guard.env.site.prefix)),
        id,
        token: admitted.token().clone(),
        authenticate: guard.authenticate,
        pause: SHORTEST_PAUSE,
        kept: env.entra.clock.monotonic(),
        ended: false,
    })
}

/// The stream of one client.
struct Stream {
    id: String,
    /// Where messages are posted; said once.
    endpoint: Option<String>,
    /// What the stream was opened with: it ends with its session.
    token: Secret<String>,
    authenticate: Authenticate,
    pause: Duration,
    /// When it was last made sure that the session goes on.
    kept: Duration,
    ended: bool,
}

#[async_trait(?Send)]
impl BodyStream for Stream {
    async fn next(&mut self, env: &ServerWorld<'_>) -> Option<Vec<u8>> {
        if let Some(endpoint) = self.endpoint.take() {
            return Some(event("endpoint", &endpoint).into_bytes());
        }
        while !self.ended {
            let silent = env.entra.clock.monotonic().saturating_sub(self.kept);
            if silent >= KEEP_ALIVE {
                if !self.goes_on(env).await {
                    break;
                }
                self.kept = env.entra.clock.monotonic();
                return Some(b": keep-alive\n\n".to_vec());
            }
            if let Some(events) = self.queued(env).await {
                self.pause = SHORTEST_PAUSE;
                return Some(events);
            }
            env.entra.clock.sleep(self.pause.min(KEEP_ALIVE.saturating_sub(silent))).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        if !self.ended {
            self.ended = true;
            // What cannot be deleted expires.
            let _ = env.entra.records.delete(&STREAMS, &self.id).await;
            let _ = env.entra.records.delete(&QUEUES, &self.id).await;
        }
        None
    }
}

impl Stream {
    /// Whether the session that the stream was opened with still lives; if so, so does the record.
    async fn goes_on(&self, env: &ServerWorld<'_>) -> bool {
        let guard = Guard { env, path: SSE_PATH, authenticate: self.authenticate };
        if !guard.is_still_good(&self.token).await {
            return false;
        }
        let kept = change(env, &self.id, |record| record).await;
        // A store that does not answer now is asked again before the record expires.
        !matches!(kept, Err(StreamRecordError::Gone))
    }

    /// What is to be delivered. A store that does not answer is asked again.
    async fn queued(&self, env: &ServerWorld<'_>) -> Option<Vec<u8>> {
        // A look first: it changes nothing, and mostly there is nothing.
        if !env.entra.records.exists(&QUEUES, &self.id).await.ok()? {
            return None;
        }
        let messages = env.entra.records.take(&QUEUES, &self.id).await.ok()??;
        Some(messages.iter().map(|message| event("message", message)).collect::<String>().into_bytes())
    }
}

/// Takes a message; its answer goes to the stream.
pub(super) async fn receive(guard: &Guard<'_>, request: &Request) -> Response<Vec<u8>> {
    let admitted = match guard.admit(request).await {
        Ok(admitted) => admitted,
        Err(refusal) => return guard.refuse(refusal),
    };
    let env = guard.env;
    let not_found = || text(404, "There is no such stream: open one with GET /sse");
    let Some(id) = stream_id(request) else { return not_found() };
    let record = match env.entra.records.get(&STREAMS.absent_if_unreadable(), &id).await {
        // A stream of another caller counts as absent.
        Ok(Some(record)) if record.belongs_to(admitted.identity()) => record,
        Ok(_) => return not_found(),
        Err(_) => return unavailable("The stream cannot be looked up now"),
    };
    if !is_json(&request.headers) {
        return text(415, "A message has to be sent as application/json");
    }
    let caller = admitted.caller(&env.entra);
    let mut connection = McpConnection::restore(record.state.as_deref());
    let reply = mcp::receive(&Peer::Remote(env, &*caller), &mut connection, &request.body).await;
    if let Some(state) = connection.changed().filter(|state| state.len() <= MAX_STATE) {
        let remembered = change(env, &id, |record| StreamRecord { state: Some(state.clone()), ..record });
        match remembered.await {
            Ok(()) => {}
            Err(StreamRecordError::Gone) => return not_found(),
            Err(StreamRecordError::Full | StreamRecordError::Store) => {
                return unavailable("The connection cannot be remembered now");
            }
        }
    }
    match reply {
        Reply::Nothing => empty(202),
        Reply::SignInAgain => guard.sign_in_again(),
        Reply::StepUp => guard.step_up(),
        Reply::ClaimsChallenge(claims) => guard.claims_challenge(&claims),
        Reply::InsufficientScope(scopes) => guard.insufficient_scope(&scopes),
        Reply::TooMany(after) => guard.too_many_calls(after),
        // The client does not wait on the stream for the answer to something that is no message.
        Reply::Message { status: 400, json } => json_text(400, json),
        Reply::Message { json, .. } => match deliver(env, &id, &json).await {
            Ok(()) => empty(202),
            Err(StreamRecordError::Full) => unavailable("Too many answers wait for this stream: read it"),
            Err(StreamRecordError::Gone) => not_found(),
            Err(StreamRecordError::Store) => unavailable("The answer cannot be delivered now"),
        },
    }
}

/// The id of a stream in a query that has one.
fn stream_id(request: &Request) -> Option<String> {
    let query = request.query.as_deref().unwrap_or_default();
    let mut ids = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "sessionId");
    match (ids.next(), ids.next()) {
        (Some((_, id)), None) => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (id.len() == ID_LENGTH && id.bytes().all(plain)).then(|| id.into_owned())
        }
        _ => None,
    }
}

async fn deliver(env: &ServerWorld<'_>, id: &str, json: &str) -> Result<(), StreamRecordError> {
    let delivered = env.entra.records.update(&QUEUES, id, |queued| {
        let mut queued = queued.unwrap_or_default();
        queued.push(json.to_owned());
        let bytes: usize = queued.iter().map(String::len).sum();
        if queued.len() > MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
            return Next::Leave(Err(StreamRecordError::Full));
        }
        Next::Write(queued, Ok(()))
    });
    delivered.await?
}

/// Changes the record of a stream, if there is one, which lives on for its time from now.
async fn change(
    env: &ServerWorld<'_>,
    id: &str,
    change: impl Fn(StreamRecord) -> StreamRecord,
) -> Result<(), StreamRecordError> {
    let streams = STREAMS.absent_if_malformed();
    let changed = env.entra.records.update(&streams, id, |record| match record {
        Some(record) => Next::Write(change(record), Ok(())),
        None => Next::Leave(Err(StreamRecordError::Gone)),
    });
    changed.await?
}
