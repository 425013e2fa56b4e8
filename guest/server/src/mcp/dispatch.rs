//! Finds what a message asks for, and answers.

use std::borrow::Cow;

use rmcp::model::{CacheScope, DiscoverResult, InitializeResult, ProtocolVersion, ServerCapabilities, ToolsCapability};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use world::{BodyOnce, Channel};

use super::calls::{call_tool, list_tools, servers};
use super::envelope::{
    self, BAD_REQUEST, INTERNAL_ERROR, METHOD_NOT_FOUND, Message, NOT_FOUND, OK, ParsedMessage, RpcError,
};
use super::request_error::{RequestError, internal};
use super::results::{server_info, to_value};
use super::version::{self, Agreed, Era, McpConnection};
use super::{Peer, Reply};
use crate::local_world::LocalWorld;

/// How long a client may keep the answer to `server/discover`: it changes with the version of this component.
const DISCOVER_TTL_MS: u64 = 3_600_000;
/// The trace of a message, in its `_meta` (SEP-414, W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";
/// Messages in one batch (2025-03-26 only). Enough for any client seen; a bound for the others.
pub(super) const MAX_BATCH: usize = 20;

const INSTRUCTIONS: &str = "Reads the signed-in user's own profile from Microsoft Graph. If no account is signed in, a \
                            tool asks the user to sign in to Microsoft Entra ID; repeat the call after that.";
const REMOTE_INSTRUCTIONS: &str = "Reads from Microsoft Graph: the signed-in user's own profile and groups, and people \
                                   of the organization by name.";
/// Said of tools of servers behind the component, at this machine.
const PROVIDED_INSTRUCTIONS: &str = "If no account is signed in, a tool asks the user to sign in to Microsoft Entra ID; \
                                     repeat the call after that.";

/// Handles one message of the person at this machine. The host remembers the connection.
#[inline(never)]
pub fn handle<'f>(env: &'f LocalWorld<'_>, message: &'f str) -> BodyOnce<'f, Option<String>> {
    Box::pin(async move {
        match on_connection(&Peer::Local(env), env.person.channel, message).await {
            Reply::Message { json, .. } => Some(json),
            Reply::Nothing
            | Reply::SignInAgain
            | Reply::StepUp
            | Reply::ClaimsChallenge(_)
            | Reply::InsufficientScope(_)
            | Reply::TooMany(_) => None,
        }
    })
}

/// Handles one message of a connection that the host remembers.
pub async fn on_connection(peer: &Peer<'_>, channel: &dyn Channel, message: &str) -> Reply {
    let mut connection = McpConnection::restore(channel.state().as_deref());
    let reply = receive(peer, &mut connection, message.as_bytes()).await;
    if let Some(state) = connection.changed() {
        channel.set_state(&state);
    }
    reply
}

/// The answer to every message where the component is not set up for the person at this machine.
pub fn not_set_up() -> String {
    RpcError::new(INTERNAL_ERROR, "this component is not set up as a local server").answer(None).to_string()
}

/// Handles one message of a connection that has a memory.
pub async fn receive(peer: &Peer<'_>, connection: &mut McpConnection, message: &[u8]) -> Reply {
    // Before it is parsed: an array of four million small values takes more memory than an instance has.
    if message.trim_ascii_start().starts_with(b"[") && !connection.has_batches() {
        let error = RpcError::invalid_request("a batch is allowed in protocol version 2025-03-26 only");
        return refused(&error, None);
    }
    let read = match *peer {
        Peer::Local(_) => envelope::read(message),
        Peer::Remote(..) => envelope::read_bounded(message),
    };
    match read {
        Err(error) => refused(&error, None),
        Ok(Value::Array(batch)) => handle_batch(peer, connection, batch, message).await,
        Ok(value) => match envelope::parse(value) {
            Ok(ParsedMessage::Message(parsed)) => handle_message(peer, connection, parsed, message).await,
            Ok(ParsedMessage::Ignored) => Reply::Nothing,
            Err((id, error)) => refused(&error, id.as_ref()),
        },
    }
}

/// The answer to a request that failed.
pub(super) fn refused(error: &RpcError, id: Option<&Value>) -> Reply {
    Reply::Message { status: error.status, json: error.answer(id).to_string() }
}

/// A batch exists in 2025-03-26 only. Its messages are independent; `initialize` may not be among them. `text` is what it was
/// parsed from.
pub(super) async fn handle_batch(
    peer: &Peer<'_>,
    connection: &mut McpConnection,
    batch: Vec<Value>,
    text: &[u8],
) -> Reply {
    if batch.is_empty() || batch.len() > MAX_BATCH {
        return refused(&RpcError::invalid_request(format!("a batch has 1 to {MAX_BATCH} messages")), None);
    }
    // All of them before the first is answered: what a batch would cost is known.
    let requests = batch.iter().filter(|value| value.get("id").is_some()).count();
    if let Err(after) = peer.count(requests).await {
        return Reply::TooMany(after);
    }
    let texts = serde_json::from_slice::<Vec<&RawValue>>(text).unwrap_or_default();
    let texts = texts.into_iter().map(|text| text.get().as_bytes());
    let mut answers = String::new();
    for (value, text) in batch.into_iter().zip(texts) {
        let reply = if value.get("method").and_then(Value::as_str) == Some("initialize") {
            refused(&RpcError::invalid_request("initialize cannot be part of a batch"), value.get("id"))
        } else {
            match envelope::parse(value) {
                Ok(ParsedMessage::Message(message)) => answer_message(peer, connection, message, text).await,
                Ok(ParsedMessage::Ignored) => Reply::Nothing,
                Err((id, error)) => refused(&error, id.as_ref()),
            }
        };
        match reply {
            Reply::Nothing => {}
            Reply::Message { json, .. } => {
                answers.push(if answers.is_empty() { '[' } else { ',' });
                answers.push_str(&json);
            }
            reply @ (Reply::SignInAgain
            | Reply::StepUp
            | Reply::ClaimsChallenge(_)
            | Reply::InsufficientScope(_)
            | Reply::TooMany(_)) => return reply,
        }
    }
    if answers.is_empty() {
        return Reply::Nothing;
    }
    answers.push(']');
    Reply::Message { status: OK, json: answers }
}

/// Counts a message and answers it. `text` is what it was parsed from.
pub(super) async fn handle_message(
    peer: &Peer<'_>,
    connection: &mut McpConnection,
    message: Message,
    text: &[u8],
) -> Reply {
    match peer.count(message.id.iter().len()).await {
        Ok(()) => answer_message(peer, connection, message, text).await,
        Err(after) => Reply::TooMany(after),
    }
}

async fn answer_message(peer: &Peer<'_>, connection: &mut McpConnection, message: Message, text: &[u8]) -> Reply {
    // A notification is never answered. `notifications/cancelled` is carried out by the host, which drops the
    // instance that works on the request; there is nothing to do for the others.
    let Message { id: Some(id), method, params } = message else {
        return Reply::Nothing;
    };
    let meta = params.get("_meta");
    peer.entra().trail.set_trace_parent(meta.and_then(|meta| meta.get(TRACE_PARENT)).and_then(Value::as_str));
    match answer(peer, connection, &method, params, text).await {
        Ok(result) => Reply::Message { status: OK, json: envelope::result(&id, &result) },
        Err(RequestError::Rpc(error)) => refused(&error, Some(&id)),
        Err(RequestError::Transport(reply)) => reply,
    }
}

/// The result of a request, as JSON.
async fn answer(
    peer: &Peer<'_>,
    connection: &mut McpConnection,
    method: &str,
    params: Map<String, Value>,
    text: &[u8],
) -> Result<String, RequestError> {
    let era = version::era_of(&params, connection)?;
    Ok(match (method, &era) {
        ("initialize", Era::Legacy(_) | Era::Unknown) => initialize(peer, connection, &params)?.to_string(),
        ("ping", Era::Legacy(_) | Era::Unknown) => "{}".to_owned(),
        ("server/discover", Era::Modern { .. }) => discover(peer)?.to_string(),
        ("tools/list", Era::Modern { .. } | Era::Legacy(_)) => list_tools(peer, &params, &era).await?.to_string(),
        ("tools/call", Era::Modern { .. } | Era::Legacy(_)) => call_tool(peer, connection, params, text, &era).await?,
        ("server/discover" | "tools/list" | "tools/call", _) => {
            let message = format!("_meta[\"{}\"] is missing, and there was no initialize", version::VERSION_KEY);
            return Err(RpcError::invalid_params(message).with_status(BAD_REQUEST).into());
        }
        _ => {
            let status = if era.is_modern() { NOT_FOUND } else { OK };
            let error = RpcError::new(METHOD_NOT_FOUND, "Method not found").with_data(json!({ "method": method }));
            return Err(error.with_status(status).into());
        }
    })
}

fn capabilities() -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = Some(ToolsCapability::default());
    capabilities
}

/// What clients tell their model about the server.
fn instructions(peer: &Peer<'_>) -> Cow<'static, str> {
    if peer.entra().settings.servers.is_empty() {
        return Cow::Borrowed(match *peer {
            Peer::Local(_) => INSTRUCTIONS,
            Peer::Remote(..) => REMOTE_INSTRUCTIONS,
        });
    }
    let titles = servers(peer).map(|server| server.title.as_deref().unwrap_or(&server.name));
    let titles = titles.collect::<Vec<_>>().join(", ");
    Cow::Owned(match *peer {
        Peer::Local(_) => format!("The tools of {titles}. {PROVIDED_INSTRUCTIONS}"),
        Peer::Remote(..) => format!("The tools of {titles}."),
    })
}

fn initialize(peer: &Peer<'_>, connection: &mut McpConnection, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let Some(requested) = params.get("protocolVersion").and_then(Value::as_str) else {
        return Err(RpcError::invalid_params("protocolVersion is missing or not a string"));
    };
    let capabilities_of_client = match params.get("capabilities") {
        None => json!({}),
        Some(capabilities @ Value::Object(_)) => version::that_matter(capabilities),
        Some(_) => return Err(RpcError::invalid_params("capabilities has to be an object")),
    };
    let agreed = version::negotiate(requested);
    connection.agree(Agreed { version: agreed.to_owned(), capabilities: capabilities_of_client });
    let result = InitializeResult::new(capabilities())
        .with_server_info(server_info())
        .with_instructions(instructions(peer))
        .with_protocol_version(protocol_version(agreed)?);
    to_value(&result)
}

fn protocol_version(version: &str) -> Result<ProtocolVersion, RpcError> {
    serde_json::from_value(json!(version)).map_err(internal)
}

fn discover(peer: &Peer<'_>) -> Result<Value, RpcError> {
    let versions = version::supported().into_iter().map(protocol_version).collect::<Result<_, _>>()?;
    let mut result = DiscoverResult::new(versions, capabilities())
        .with_server_info(server_info())
        .with_ttl_ms(DISCOVER_TTL_MS)
        .with_cache_scope(CacheScope::Public);
    result.instructions = Some(instructions(peer).into_owned());
    to_value(&result)
}
