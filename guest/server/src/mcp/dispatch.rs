//! Finds what a message asks for, and answers.

use std::fmt::Write as _;

use std::time::Duration;

use base::policy::{Denial, Name};
use base::settings::Settings;
use caller::local::{PersonWorld, SignInError, attempt, interactive};
use caller::{Caller, CallerAuthentication, PersonCaller};
use rmcp::model::{
    CacheScope, DiscoverResult, Implementation, InitializeResult, JsonObject, ListToolsResult, ProtocolVersion,
    ServerCapabilities, Tool as Description, ToolsCapability,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use world::Channel;

use super::envelope::{
    self, BAD_REQUEST, INTERNAL_ERROR, METHOD_NOT_FOUND, Message, NOT_FOUND, OK, ParsedMessage, RpcError,
};
use super::person::{self, ClientPresenter, ClientState};
use super::request_state::{self, OpenedState};
use super::version::{self, Agreed, Connection, Era};
use super::{Peer, Reply};
use crate::access::Access;
use crate::server_world::ServerWorld;
use crate::tools::{self, AnyTool};

/// How long a client may keep the answer to `server/discover`: it changes with the version of this component.
const DISCOVER_TTL_MS: u64 = 3_600_000;
/// How long a client may keep the list of tools: it may depend on the caller.
const TOOLS_TTL_MS: u64 = 300_000;
/// The same while it cannot be found out whether the caller may call one of them: that Graph or Entra ID failed is
/// remembered as long.
const UNDECIDED_TTL_MS: u64 = 5_000;
/// The name of the one thing that is ever asked of a client.
const SIGN_IN_INPUT: &str = "sign-in";
/// Bytes that most results of a tool fit into.
const RESULT_CAPACITY: usize = 1024;
/// The trace of a message, in its `_meta` (SEP-414, W3C Trace Context).
const TRACE_PARENT: &str = "traceparent";
/// Messages in one batch (2025-03-26 only). Enough for any client seen; a bound for the others.
pub(super) const MAX_BATCH: usize = 20;

const INSTRUCTIONS: &str = "Reads the signed-in user's own profile from Microsoft Graph. If no account is signed in, a \
                            tool asks the user to sign in to Microsoft Entra ID; repeat the call after that.";
const REMOTE_INSTRUCTIONS: &str = "Reads from Microsoft Graph: the signed-in user's own profile and groups, and people \
                                   of the organization by name.";
/// Names the server in every result of 2026-07-28; what [`server_info`] is as JSON.
const SERVER_INFO: &str = concat!(
    r#"{"name":"entra-mcp","title":"Microsoft Entra ID and Microsoft Graph","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// Handles one message of the person at this machine. The host remembers the connection.
pub async fn handle(person: &PersonWorld<'_>, message: &str) -> Option<String> {
    match on_connection(&Peer::Local(person), person.channel, message).await {
        Reply::Message { json, .. } => Some(json),
        Reply::Nothing
        | Reply::SignInAgain
        | Reply::ClaimsChallenge(_)
        | Reply::InsufficientScope(_)
        | Reply::TooMany(_) => None,
    }
}

/// Handles one message of a connection that the host remembers.
pub async fn on_connection(peer: &Peer<'_>, channel: &dyn Channel, message: &str) -> Reply {
    let mut connection = Connection::restore(channel.state().as_deref());
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
pub async fn receive(peer: &Peer<'_>, connection: &mut Connection, message: &[u8]) -> Reply {
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
        Ok(Value::Array(batch)) => handle_batch(peer, connection, batch).await,
        Ok(value) => match envelope::parse(value) {
            Ok(ParsedMessage::Message(message)) => handle_message(peer, connection, message).await,
            Ok(ParsedMessage::Ignored) => Reply::Nothing,
            Err((id, error)) => refused(&error, id.as_ref()),
        },
    }
}

/// The answer to a request that failed.
pub(super) fn refused(error: &RpcError, id: Option<&Value>) -> Reply {
    Reply::Message { status: error.status, json: error.answer(id).to_string() }
}

/// A batch exists in 2025-03-26 only. Its messages are independent; `initialize` may not be among them.
pub(super) async fn handle_batch(peer: &Peer<'_>, connection: &mut Connection, batch: Vec<Value>) -> Reply {
    if batch.is_empty() || batch.len() > MAX_BATCH {
        return refused(&RpcError::invalid_request(format!("a batch has 1 to {MAX_BATCH} messages")), None);
    }
    // All of them before the first is answered: what a batch would cost is known.
    let requests = batch.iter().filter(|value| value.get("id").is_some()).count();
    if let Err(after) = peer.count(requests).await {
        return Reply::TooMany(after);
    }
    let mut answers = String::new();
    for value in batch {
        let reply = if value.get("method").and_then(Value::as_str) == Some("initialize") {
            refused(&RpcError::invalid_request("initialize cannot be part of a batch"), value.get("id"))
        } else {
            match envelope::parse(value) {
                Ok(ParsedMessage::Message(message)) => answer_message(peer, connection, message).await,
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

/// Counts a message and answers it.
pub(super) async fn handle_message(peer: &Peer<'_>, connection: &mut Connection, message: Message) -> Reply {
    match peer.count(message.id.iter().len()).await {
        Ok(()) => answer_message(peer, connection, message).await,
        Err(after) => Reply::TooMany(after),
    }
}

async fn answer_message(peer: &Peer<'_>, connection: &mut Connection, message: Message) -> Reply {
    // A notification is never answered. `notifications/cancelled` is carried out by the host, which drops the
    // instance that works on the request; there is nothing to do for the others.
    let Message { id: Some(id), method, params } = message else {
        return Reply::Nothing;
    };
    let meta = params.get("_meta");
    peer.entra().trail.set_trace_parent(meta.and_then(|meta| meta.get(TRACE_PARENT)).and_then(Value::as_str));
    match answer(peer, connection, &method, params).await {
        Ok(result) => Reply::Message { status: OK, json: envelope::result(&id, &result) },
        Err(RequestError::Rpc(error)) => refused(&error, Some(&id)),
        Err(RequestError::SignInAgain) => Reply::SignInAgain,
        Err(RequestError::ClaimsChallenge(claims)) => Reply::ClaimsChallenge(claims),
        Err(RequestError::InsufficientScope(scopes)) => Reply::InsufficientScope(scopes),
        Err(RequestError::TooMany(after)) => Reply::TooMany(after),
    }
}

/// Why a request has no result.
enum RequestError {
    Rpc(RpcError),
    SignInAgain,
    ClaimsChallenge(String),
    InsufficientScope(Vec<Name>),
    TooMany(Duration),
}

impl From<RpcError> for RequestError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

/// The result of a request, as JSON.
async fn answer(
    peer: &Peer<'_>,
    connection: &mut Connection,
    method: &str,
    params: Map<String, Value>,
) -> Result<String, RequestError> {
    let era = version::era_of(&params, connection)?;
    Ok(match (method, &era) {
        ("initialize", Era::Legacy(_) | Era::Unknown) => initialize(peer, connection, &params)?.to_string(),
        ("ping", Era::Legacy(_) | Era::Unknown) => "{}".to_owned(),
        ("server/discover", Era::Modern { .. }) => discover(peer)?.to_string(),
        ("tools/list", Era::Modern { .. } | Era::Legacy(_)) => list_tools(peer, &params, &era).await?.to_string(),
        ("tools/call", Era::Modern { .. } | Era::Legacy(_)) => call_tool(peer, params, &era).await?,
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

fn server_info() -> Implementation {
    Implementation::new("entra-mcp", env!("CARGO_PKG_VERSION")).with_title("Microsoft Entra ID and Microsoft Graph")
}

fn capabilities() -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = Some(ToolsCapability::default());
    capabilities
}

fn instructions(peer: &Peer<'_>) -> &'static str {
    match *peer {
        Peer::Local(_) => INSTRUCTIONS,
        Peer::Remote(..) => REMOTE_INSTRUCTIONS,
    }
}

fn initialize(peer: &Peer<'_>, connection: &mut Connection, params: &Map<String, Value>) -> Result<Value, RpcError> {
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
    result.instructions = Some(instructions(peer).to_owned());
    to_value(&result)
}

async fn list_tools(peer: &Peer<'_>, params: &Map<String, Value>, era: &Era) -> Result<Value, RequestError> {
    if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(RpcError::invalid_params("unknown cursor: the list has one page").into());
    }
    let (descriptions, ttl) = match access_of(peer) {
        None => (tools_of(peer).into_iter().map(|tool| tool.describe().clone()).collect(), TOOLS_TTL_MS),
        Some(access) => permitted(&access).await?,
    };
    let result = ListToolsResult::with_all_items(descriptions).with_ttl_ms(ttl).with_cache_scope(CacheScope::Private);
    Ok(in_era(to_value(&result)?, era))
}

/// What a caller may call, and how long that may be kept.
async fn permitted(access: &Access<'_>) -> Result<(Vec<Description>, u64), RequestError> {
    let (mut descriptions, mut ttl) = (Vec::new(), TOOLS_TTL_MS);
    for tool in tools::remote() {
        match access.decide(&tool.terms()).await {
            Ok(()) => descriptions.push(tool.describe().clone()),
            Err(Denial::SessionEnded) => return Err(RequestError::SignInAgain),
            Err(denial) if denial.is_undecided() => ttl = UNDECIDED_TTL_MS,
            Err(_) => {}
        }
    }
    Ok((descriptions, ttl))
}

/// What a caller of the remote server may do. The person at this machine may do everything.
fn access_of<'a>(peer: &Peer<'a>) -> Option<Access<'a>> {
    match *peer {
        Peer::Local(_) => None,
        Peer::Remote(env, caller) => Some(Access::new(env, caller)),
    }
}

/// The tools of the server that the message was sent to.
fn tools_of(peer: &Peer<'_>) -> Vec<&'static dyn AnyTool> {
    match peer {
        Peer::Local(_) => tools::local(),
        Peer::Remote(..) => tools::remote(),
    }
}

async fn call_tool(peer: &Peer<'_>, mut params: Map<String, Value>, era: &Era) -> Result<String, RequestError> {
    let arguments = params.remove("arguments");
    let Some(name) = params.get("name").and_then(Value::as_str) else {
        return Err(RpcError::invalid_params("name is missing or not a string").into());
    };
    let unknown = || RequestError::from(RpcError::invalid_params("Unknown tool").with_data(json!({ "name": name })));
    let tool = tools_of(peer).into_iter().find(|tool| tool.name() == name).ok_or_else(unknown)?;
    if let Some(access) = access_of(peer) {
        match access.admit(&tool.terms()).await {
            Ok(()) => {}
            // The tool is switched off for all callers, and looks like a tool that does not exist.
            Err(Denial::NotListed) => return Err(unknown()),
            Err(Denial::ScopesMissing { required }) => return Err(RequestError::InsufficientScope(required)),
            Err(Denial::SessionEnded) => return Err(RequestError::SignInAgain),
            Err(denial) => return Ok(finished(Err(&denial.into()), peer, era)),
        }
    }
    match *peer {
        Peer::Local(person) => call_for_person(peer, person, tool, &params, arguments, era).await,
        Peer::Remote(env, caller) => call_for_client(peer, env, caller, tool, &params, arguments, era).await,
    }
}

fn arguments_of(arguments: Option<Value>) -> Result<JsonObject, RpcError> {
    match arguments {
        None | Some(Value::Null) => Ok(JsonObject::new()),
        Some(Value::Object(arguments)) => Ok(arguments),
        Some(_) => Err(RpcError::invalid_params("arguments has to be an object")),
    }
}

/// A call of the person at this machine. The tool may ask this person to sign in.
async fn call_for_person(
    peer: &Peer<'_>,
    person: &PersonWorld<'_>,
    tool: &'static dyn AnyTool,
    params: &Map<String, Value>,
    arguments: Option<Value>,
    era: &Era,
) -> Result<String, RequestError> {
    let request = request_state::request_digest(tool.name(), arguments.as_ref());
    let arguments = arguments_of(arguments)?;
    let round = round_of(peer, params, era, &request).await?;
    let resumes = match &round {
        Round::First => None,
        Round::Resumes(attempt) => Some(attempt.as_str()),
        Round::Declined(attempt) => {
            let declined = interactive::decline(person, attempt).await.err().unwrap_or(SignInError::Declined);
            return Ok(finished(Err(&tools::ToolError::from(declined)), peer, era));
        }
    };
    let client = ClientPresenter { person, era, progress_token: progress_token(params), state: ClientState::default() };
    let caller = PersonCaller::new(person, &client, resumes);
    let result = tools::call(tool, &person.entra, &caller, None, arguments).await;
    if let Err(error) = &result
        && let Some(SignInError::Deferred { attempt, instruction }) = error.sign_in()
    {
        let expires_at = person.entra.clock.now() + attempt::BROWSER_LIFETIME.as_secs();
        let state = request_state::seal(peer, attempt, expires_at, request).await.map_err(internal)?;
        let result = json!({
            "resultType": "input_required",
            "inputRequests": {
                SIGN_IN_INPUT: { "method": "elicitation/create", "params": person::elicitation(instruction) },
            },
            "requestState": state,
        });
        return Ok(in_era(result, era).to_string());
    }
    Ok(finished(result.as_deref(), peer, era))
}

/// A call of a client of the remote server. Its user has signed in already; what is missing is for the transport to say.
async fn call_for_client(
    peer: &Peer<'_>,
    env: &ServerWorld<'_>,
    caller: &dyn Caller,
    tool: &'static dyn AnyTool,
    params: &Map<String, Value>,
    arguments: Option<Value>,
    era: &Era,
) -> Result<String, RequestError> {
    // A tool asks a remote client for nothing, so no state was ever given to one.
    if era.is_modern() && params.contains_key("requestState") {
        return Err(foreign_state().into());
    }
    let arguments = arguments_of(arguments)?;
    let result = tools::call(tool, &env.entra, caller, Some(env.limiter), arguments).await;
    if let Some(after) = result.as_ref().err().and_then(tools::ToolError::too_many) {
        return Err(RequestError::TooMany(after));
    }
    if let Err(error) = &result
        && let Some(claims) = error.needs_person()
    {
        return Err(match (caller.kind(), claims) {
            (CallerAuthentication::Bearer, Some(claims)) => RequestError::ClaimsChallenge(claims.to_owned()),
            // A session that needs more of its user has ended; the next sign-in brings the claims.
            (CallerAuthentication::Person | CallerAuthentication::Session | CallerAuthentication::Bearer, _) => {
                RequestError::SignInAgain
            }
        });
    }
    Ok(finished(result.as_deref(), peer, era))
}

/// Where in a multi-round call (2026-07-28) a request is.
enum Round {
    First,
    /// The person has been shown what to do, and went to do it.
    Resumes(String),
    Declined(String),
}

fn foreign_state() -> RpcError {
    RpcError::invalid_params("requestState is not one that this server gave for this request")
}

async fn round_of(peer: &Peer<'_>, params: &Map<String, Value>, era: &Era, request: &str) -> Result<Round, RpcError> {
    let Some(state) = params.get("requestState").filter(|_| era.is_modern()) else {
        return Ok(Round::First);
    };
    let state = state.as_str().ok_or_else(foreign_state)?;
    let attempt = match request_state::open(peer, state, request).await.map_err(internal)? {
        OpenedState::Attempt(attempt) => attempt,
        OpenedState::Expired => return Ok(Round::First),
        OpenedState::Refused => return Err(foreign_state()),
    };
    let response = params.get("inputResponses").and_then(|responses| responses.get(SIGN_IN_INPUT));
    match response.and_then(|response| response.get("action")).and_then(Value::as_str) {
        Some("accept") => Ok(Round::Resumes(attempt)),
        Some("decline" | "cancel") => Ok(Round::Declined(attempt)),
        // What was asked for is missing: it is asked for again.
        _ => Ok(Round::First),
    }
}

fn progress_token(params: &Map<String, Value>) -> Option<Value> {
    let token = params.get("_meta")?.get("progressToken")?;
    (token.is_string() || token.is_i64() || token.is_u64()).then(|| token.clone())
}

/// The result of a call, in the form of the era. `result` is a JSON object.
pub(super) fn finished(result: Result<&str, &tools::ToolError>, peer: &Peer<'_>, era: &Era) -> String {
    let mut json = String::with_capacity(RESULT_CAPACITY);
    json.push_str(r#"{"content":[{"type":"text","text":"#);
    match result {
        Ok(structured) => {
            json.push_str(&as_json_string(structured));
            json.push_str(r#"}],"structuredContent":"#);
            json.push_str(structured);
            json.push_str(r#","isError":false"#);
        }
        Err(error) => {
            json.push_str(&as_json_string(&explain(error, peer)));
            json.push_str(r#"}],"isError":true"#);
        }
    }
    if era.is_modern() {
        json.push_str(r#","resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":"#);
        json.push_str(SERVER_INFO);
        json.push('}');
    }
    json.push('}');
    json
}

fn as_json_string(text: &str) -> String {
    // A string can always be written as JSON.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// What went wrong, and what the person can do, for a model to pass on.
fn explain(error: &tools::ToolError, peer: &Peer<'_>) -> String {
    match (error.sign_in(), *peer) {
        (Some(SignInError::TimedOut(Some(instruction))), Peer::Local(_)) => {
            let mut text = format!("{error}. {} Then call this tool again.", instruction.sentence());
            if instruction.user_code.is_none() {
                // Entra ID shows what is wrong with the application on its page, and sends no answer here.
                let Settings { tenant, client_id, .. } = peer.entra().settings;
                let _ = write!(
                    text,
                    " If the page shows an error about the application, check the tenant id, {tenant}, and the client id, \
                     {client_id}."
                );
            }
            text
        }
        (_, Peer::Local(_)) => error.to_string(),
        (_, Peer::Remote(..)) => {
            format!("{} (correlation id {})", error.public(), peer.entra().trail.id())
        }
    }
}

/// Gives a result the form of the era: 2026-07-28 names the server in each, earlier ones know no `resultType`.
fn in_era(mut result: Value, era: &Era) -> Value {
    let Some(object) = result.as_object_mut() else {
        return result;
    };
    if !era.is_modern() {
        for key in ["resultType", "ttlMs", "cacheScope"] {
            object.remove(key);
        }
        return result;
    }
    object.entry("resultType").or_insert_with(|| json!("complete"));
    let meta = object.entry("_meta").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        meta.insert("io.modelcontextprotocol/serverInfo".to_owned(), json!(server_info()));
    }
    result
}

fn to_value(result: &impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(result).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> RpcError {
    RpcError::new(INTERNAL_ERROR, format!("internal error: {error}"))
}
