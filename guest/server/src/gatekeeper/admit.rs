//! The way of a request to a server behind: which caller it is of, whether the caller may do what it asks for, and with which
//! header fields it goes on.

use base::audit::{AuditEvent, Outcome};
use base::decision;
use base::policy::{EVERYTHING, Target, TargetKind};
use base::settings::{HttpSettings, ServerIdentity, ServerSettings};
use caller::Caller;
use http::{HeaderMap, HeaderValue, Method, Response};
use world::provided_tools::ToolCaller;
use world::{BodyOnce, StoreError};

use super::event_ids::{self, LastEvent};
use super::handle::{self, HandleContent, Use};
use super::identity::{self, Addressed, IdentityError};
use super::session_id::{self, MCP_SESSION_ID, Presented};
use super::{Admission, Grant, fields, handed};
use crate::access::Access;
use crate::http::relay::{self, Relayed};
use crate::http::{Guard, forward_auth};
use crate::mcp::Peer;
use crate::mcp::relay::{Handed, RelayedBody, read};
use crate::message::{Request, json, text};
use crate::server_world::ServerWorld;

/// What may have lists in the answer.
const LISTED: [TargetKind; 3] = [TargetKind::Tool, TargetKind::Resource, TargetKind::Prompt];

/// Decides about a request.
#[inline(never)]
pub fn admit<'f>(env: &'f ServerWorld<'_>, request: Request) -> BodyOnce<'f, Admission> {
    Box::pin(async move { admission(relay::admit(env, request, decide).await) })
}

pub(super) fn admission(relayed: Relayed<Box<Grant>>) -> Admission {
    match relayed {
        Relayed::OwnPath => Admission::OwnPath,
        Relayed::Answer(answer) => Admission::Answer(answer),
        Relayed::On(grant) => Admission::Forward(grant),
    }
}

/// Decides about a request that has passed the checks of HTTP.
pub(super) async fn decide(
    guard: &Guard<'_>,
    server: &ServerSettings,
    request: &Request,
) -> Result<Box<Grant>, Response<Vec<u8>>> {
    let env = guard.env;
    let admitted = guard.admit(request).await.map_err(|refusal| guard.refuse(refusal))?;
    let caller = admitted.caller(&env.entra);
    let peer = Peer::Remote(env, &*caller);
    let Some(who) = caller.identity() else { return Err(text(403, NO_IDENTITY)) };
    let (asked, session) = match request.method {
        Method::POST => {
            let body = read_body(guard, request);
            // What is refused counts as well.
            let count = body.as_ref().map_or(1, RelayedBody::count);
            peer.count(count).await.map_err(|after| guard.too_many_calls(after))?;
            let body = body.map_err(|refusal| *refusal)?;
            let session = session_of(env, server, &*caller, request).await?;
            (permitted(guard, server, &*caller, &body, &request.headers).await?, session)
        }
        // What comes on a stream that is opened or resumed, and the end of a session.
        _ => {
            if !request.body.is_empty() {
                return Err(text(400, "A body is for POST only"));
            }
            peer.count(1).await.map_err(|after| guard.too_many_calls(after))?;
            let session = session_of(env, server, &*caller, request).await?;
            let judge = request.method == Method::GET && is_restricted(env, server, &*caller);
            // What a stream was to say before it broke off may hand something out.
            (Asked { judge, note: request.method == Method::GET, ..Asked::default() }, session)
        }
    };
    let key = event_ids::key(&env.entra.records, &session_id::bound(&server.name, who, &caller.reference())).await;
    let event_key = key.map_err(|_| text(503, "The request cannot be sent on now"))?;
    let last_event = match event_ids::presented(&event_key, &request.headers) {
        LastEvent::None => None,
        LastEvent::Own(id) => Some(id),
        LastEvent::Unknown => return Err(not_found("Event not found")),
    };
    let Asked { judge, note, streams, modern, method, uses } = asked;
    let note = note && (request.method == Method::POST || last_event.is_some());
    let tool = match uses.as_slice() {
        [Use { kind: TargetKind::Tool, name }] => Some(name.clone()),
        _ => None,
    };
    let origin = relay::reader(&env.site, request);
    let of = HandleContent { server: server.name.clone(), uses, modern, origin, session: session.clone() };
    let unsealed = |error| match error {
        StoreError::TooLarge => text(413, "The messages name more than can be kept of one request: send fewer at once"),
        _ => text(503, "The request cannot be sent on now"),
    };
    let handle = handle::make(&env.entra, &*caller, &of).await.map_err(unsealed)?;
    let addressed = Addressed {
        caller: &*caller,
        method: method.as_deref(),
        tool: tool.as_deref().filter(|_| method.is_some()),
        body: Some(&request.body),
    };
    let (told, mut set_headers) = match tell(env, server, &addressed).await {
        Ok(told) => told,
        Err(error) => {
            let everything = [Target { server: &server.name, kind: TargetKind::Tool, name: EVERYTHING }];
            let targets: Vec<_> = of.targets().collect();
            for target in if targets.is_empty() { &everything } else { targets.as_slice() } {
                identity::record_refusal(env, &*caller, target, &error).await;
            }
            return Err(forward_auth::refuse(guard, &error));
        }
    };
    if let Some(id) = session.and_then(|session| HeaderValue::from_str(&session.id).ok()) {
        set_headers.insert(MCP_SESSION_ID, id);
    }
    if let Some(id) = last_event {
        event_ids::set(&mut set_headers, id);
    }
    Ok(Box::new(Grant {
        server: server.name.clone(),
        caller: told,
        handle,
        set_headers,
        drop_headers: fields::to_drop(env.site.settings, &request.headers),
        judge_answer: judge,
        note_answer: note,
        answer_may_stream: judge && streams,
        event_key,
        report_answer: true,
    }))
}

/// The body, or the answer to one that is not read.
fn read_body(guard: &Guard<'_>, request: &Request) -> Result<RelayedBody, Box<Response<Vec<u8>>>> {
    relay::check_body(&request.headers).map_err(|unfit| Box::new(text(415, unfit)))?;
    let respond = |reply| Box::new(relay::respond(guard, &request.headers, reply));
    read(&relay::message_fields(&request.headers), &request.body).map_err(respond)
}

/// What the server behind learns of the caller, and the fields that tell it.
async fn tell(
    env: &ServerWorld<'_>,
    server: &ServerSettings,
    request: &Addressed<'_>,
) -> Result<(ToolCaller, HeaderMap), IdentityError> {
    let told = identity::told_of(env, server, request.caller).await?;
    let fields = identity::headers(env, server, &told, request).await?;
    Ok((told, fields))
}

/// What a permitted request asks for.
#[derive(Default)]
struct Asked {
    /// Whether the answer may have to be changed for the caller.
    judge: bool,
    /// Whether the answer may hand something out to the caller.
    note: bool,
    /// Whether an answer in JSON may pass without a look at the whole of it.
    streams: bool,
    modern: bool,
    /// The method, if there is one message.
    method: Option<String>,
    uses: Vec<Use>,
}

/// Whether the caller may have everything that the messages ask for.
async fn permitted(
    guard: &Guard<'_>,
    server: &ServerSettings,
    caller: &dyn Caller,
    body: &RelayedBody,
    headers: &HeaderMap,
) -> Result<Asked, Response<Vec<u8>>> {
    let env = guard.env;
    let access = Access::new(env, caller);
    let respond = |reply| relay::respond(guard, headers, reply);
    let method = match body.messages.as_slice() {
        [message] => message.method.clone(),
        _ => None,
    };
    // A server may send a list as part of any answer, and a client may take it. In an answer that streams, the host stops it.
    let streams = matches!(body.messages.as_slice(), [message] if message.answer_may_stream());
    let mut asked = Asked { judge: is_restricted(env, server, caller), streams, method, ..Asked::default() };
    // An agent may do only what a rule says, and no rule is about methods that MCP does not have.
    let known_only = env.site.settings.deny_unlisted || caller.facts().is_some_and(|facts| facts.agent);
    for (at, message) in body.messages.iter().enumerate() {
        let targets = message.targets(known_only).map_err(|error| respond(body.malformed(at, error)))?;
        let first = targets.first().copied();
        for (kind, name) in targets {
            let decided = access.admit_to(&Target { server: &server.name, kind, name }).await;
            decided.map_err(|denial| respond(body.denied(&Peer::Remote(env, caller), at, (kind, name), denial)))?;
            if message.is_use() {
                asked.uses.push(Use { kind, name: name.to_owned() });
            }
        }
        for (handed, name) in message.handed().map_err(|error| respond(body.malformed(at, error)))? {
            if !is_own(env, server, caller, (handed, name)).await? {
                let about = first.unwrap_or((TargetKind::Task, message.method.as_deref().unwrap_or_default()));
                record_foreign(env, server, caller, handed, about).await;
                return Err(respond(body.foreign(at, handed)));
            }
        }
        asked.note |= message.may_be_handed();
        asked.judge |= message.lists_tasks();
        asked.judge |= message.is_list() || (message.is_modern() && server.identity != ServerIdentity::None);
        asked.modern |= message.is_modern();
    }
    Ok(asked)
}

/// Whether a list of the server may have to be shortened.
pub(super) fn is_restricted(env: &ServerWorld<'_>, server: &ServerSettings, caller: &dyn Caller) -> bool {
    let HttpSettings { access, deny_unlisted, .. } = env.site.settings;
    let rules = access.as_deref().unwrap_or_default();
    let facts = caller.facts();
    let restricts =
        |kind: &TargetKind| decision::is_restricted(&server.name, *kind, rules, *deny_unlisted, facts.as_ref());
    LISTED.iter().any(restricts)
}

/// The session that the request continues. An unknown one is answered as the specification says: the client begins anew.
async fn session_of(
    env: &ServerWorld<'_>,
    server: &ServerSettings,
    caller: &dyn Caller,
    request: &Request,
) -> Result<Option<handle::PresentedSession>, Response<Vec<u8>>> {
    let Some(who) = caller.identity() else { return Err(text(403, NO_IDENTITY)) };
    let presented =
        session_id::presented(&env.entra.records, &server.name, who, &caller.reference(), &request.headers).await;
    match presented {
        Ok(Presented::None) => Ok(None),
        Ok(Presented::Own(session)) => Ok(Some(session)),
        Ok(Presented::Unknown) => Err(not_found("Session not found")),
        Ok(Presented::Malformed) => Err(text(400, "Mcp-Session-Id is sent more than once")),
        Err(_) => Err(text(503, "The session cannot be looked up now")),
    }
}

/// What the SDKs of MCP answer with: a client begins anew.
const NOT_FOUND: i32 = -32001;
/// What a caller is told that no identity is known of.
const NO_IDENTITY: &str = "The caller has no identity";

fn not_found(message: &str) -> Response<Vec<u8>> {
    let error = serde_json::json!({ "code": NOT_FOUND, "message": message });
    json(404, &serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error }))
}

/// Whether the server has handed out a name to this caller.
async fn is_own(
    env: &ServerWorld<'_>,
    server: &ServerSettings,
    caller: &dyn Caller,
    name: (Handed, &str),
) -> Result<bool, Response<Vec<u8>>> {
    let Some(who) = caller.identity() else { return Err(text(403, NO_IDENTITY)) };
    let own = handed::is_own(&env.entra, &server.name, who, name).await;
    own.map_err(|_| text(503, "The request cannot be looked up now"))
}

/// Records that a request does not go on because of what it names. It is refused whether or not that can be recorded.
async fn record_foreign(
    env: &ServerWorld<'_>,
    server: &ServerSettings,
    caller: &dyn Caller,
    handed: Handed,
    (kind, name): (TargetKind, &str),
) {
    let target = Target { server: &server.name, kind, name };
    let event = AuditEvent::new("tool.denied", Outcome::Failure).because(handed.reason().to_owned()).about(&target);
    let event = caller.identity().iter().fold(event, |event, who| who.attribute(event));
    let _ = env.entra.trail.record(event).await;
}
