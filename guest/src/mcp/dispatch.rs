//! Finds what a message asks for, and answers.

use rmcp::model::{
    CacheScope, CallToolResult, ContentBlock, DiscoverResult, Implementation, InitializeResult, JsonObject,
    ListToolsResult, ProtocolVersion, ServerCapabilities, ToolsCapability,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Caller;
use super::envelope::{self, INTERNAL_ERROR, METHOD_NOT_FOUND, Message, PARSE_ERROR, Parsed, RpcError};
use super::person::{self, Client, ClientState};
use super::request_state::{self, Opened};
use super::version::{self, Era, Session};
use crate::environment::Environment;
use crate::sign_in::{SignInError, attempt, interactive};
use crate::tools::{self, Call, Tool};

/// How long a client may keep the answer to `server/discover`: it changes with the version of this component.
const DISCOVER_TTL_MS: u64 = 3_600_000;
/// How long a client may keep the list of tools: it may depend on who asks.
const TOOLS_TTL_MS: u64 = 300_000;
/// The name of the one thing that is ever asked of a client.
const SIGN_IN_INPUT: &str = "sign-in";
/// Messages in one batch (2025-03-26 only). Enough for any client seen; a bound for the others.
const MAX_BATCH: usize = 100;

const INSTRUCTIONS: &str = "Reads the signed-in user's own profile from Microsoft Graph. If nobody is signed in, a \
                            tool asks the user to sign in to Microsoft Entra ID; repeat the call after that.";

/// Handles one message and returns the answer, if it has one.
pub async fn handle(env: &Environment, caller: &Caller, message: &str) -> Option<String> {
    // Before it is parsed: an array of four million small values takes more memory than an instance has.
    if message.trim_start().starts_with('[') && !batches_are_allowed(env) {
        let error = RpcError::invalid_request("a batch is allowed in protocol version 2025-03-26 only");
        return Some(error.answer(None).to_string());
    }
    let answer = match serde_json::from_str::<Value>(message) {
        Err(error) => Some(RpcError::new(PARSE_ERROR, format!("not JSON: {error}")).answer(None)),
        Ok(Value::Array(batch)) => handle_batch(env, caller, batch).await,
        Ok(value) => handle_one(env, caller, value).await,
    };
    answer.map(|answer| answer.to_string())
}

fn batches_are_allowed(env: &Environment) -> bool {
    session(env).is_some_and(|session| session.version == version::WITH_BATCHES)
}

/// A batch exists in 2025-03-26 only. Its messages are independent; `initialize` may not be among them.
async fn handle_batch(env: &Environment, caller: &Caller, batch: Vec<Value>) -> Option<Value> {
    if batch.is_empty() || batch.len() > MAX_BATCH {
        let error = RpcError::invalid_request(format!("a batch has 1 to {MAX_BATCH} messages"));
        return Some(error.answer(None));
    }
    let mut answers = Vec::new();
    for value in batch {
        if value.get("method").and_then(Value::as_str) == Some("initialize") {
            let error = RpcError::invalid_request("initialize cannot be part of a batch");
            answers.push(error.answer(value.get("id")));
        } else {
            answers.extend(handle_one(env, caller, value).await);
        }
    }
    (!answers.is_empty()).then_some(Value::Array(answers))
}

async fn handle_one(env: &Environment, caller: &Caller, value: Value) -> Option<Value> {
    let message = match envelope::parse(value) {
        Ok(Parsed::Message(message)) => message,
        Ok(Parsed::Ignored) => return None,
        Err((id, error)) => return Some(error.answer(id.as_ref())),
    };
    // A notification is never answered. `notifications/cancelled` is carried out by the host, which drops the
    // instance that works on the request; there is nothing to do for the others.
    let id = message.id.clone()?;
    Some(match answer(env, caller, message).await {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => error.answer(Some(&id)),
    })
}

async fn answer(env: &Environment, caller: &Caller, message: Message) -> Result<Value, RpcError> {
    let Message { method, params, .. } = message;
    let era = version::era_of(&params, session(env))?;
    match (method.as_str(), &era) {
        ("initialize", Era::Legacy(_) | Era::Unknown) => initialize(env, &params),
        ("ping", Era::Legacy(_) | Era::Unknown) => Ok(json!({})),
        ("server/discover", Era::Modern { .. }) => discover(),
        ("tools/list", Era::Modern { .. } | Era::Legacy(_)) => list_tools(&params, &era),
        ("tools/call", Era::Modern { .. } | Era::Legacy(_)) => call_tool(env, caller, &params, &era).await,
        ("server/discover" | "tools/list" | "tools/call", _) => Err(RpcError::invalid_params(format!(
            "_meta[\"{}\"] is missing, and there was no initialize",
            version::VERSION_KEY
        ))),
        _ => Err(RpcError::new(METHOD_NOT_FOUND, "Method not found").with_data(json!({ "method": method }))),
    }
}

/// What `initialize` agreed on for this connection.
fn session(env: &Environment) -> Option<Session> {
    env.channel.state().and_then(|state| serde_json::from_str(&state).ok())
}

fn server_info() -> Implementation {
    Implementation::new("entra-mcp", env!("CARGO_PKG_VERSION")).with_title("Microsoft Entra ID and Microsoft Graph")
}

fn capabilities() -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = Some(ToolsCapability::default());
    capabilities
}

fn initialize(env: &Environment, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let Some(requested) = params.get("protocolVersion").and_then(Value::as_str) else {
        return Err(RpcError::invalid_params("protocolVersion is missing or not a string"));
    };
    let capabilities_of_client = match params.get("capabilities") {
        None => json!({}),
        Some(capabilities @ Value::Object(_)) => version::that_matter(capabilities),
        Some(_) => return Err(RpcError::invalid_params("capabilities has to be an object")),
    };
    let agreed = version::negotiate(requested);
    let session = Session { version: agreed.to_owned(), capabilities: capabilities_of_client };
    env.channel.set_state(&to_value(&session)?.to_string());
    let result = InitializeResult::new(capabilities())
        .with_server_info(server_info())
        .with_instructions(INSTRUCTIONS)
        .with_protocol_version(protocol_version(agreed)?);
    to_value(&result)
}

fn protocol_version(version: &str) -> Result<ProtocolVersion, RpcError> {
    serde_json::from_value(json!(version)).map_err(internal)
}

fn discover() -> Result<Value, RpcError> {
    let versions = version::supported().into_iter().map(protocol_version).collect::<Result<_, _>>()?;
    let mut result = DiscoverResult::new(versions, capabilities())
        .with_server_info(server_info())
        .with_ttl_ms(DISCOVER_TTL_MS)
        .with_cache_scope(CacheScope::Public);
    result.instructions = Some(INSTRUCTIONS.to_owned());
    to_value(&result)
}

fn list_tools(params: &Map<String, Value>, era: &Era) -> Result<Value, RpcError> {
    if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(RpcError::invalid_params("unknown cursor: the list has one page"));
    }
    let descriptions = tools::all().iter().map(|tool| tool.describe()).collect();
    let result =
        ListToolsResult::with_all_items(descriptions).with_ttl_ms(TOOLS_TTL_MS).with_cache_scope(CacheScope::Private);
    Ok(in_era(to_value(&result)?, era))
}

async fn call_tool(
    env: &Environment,
    caller: &Caller,
    params: &Map<String, Value>,
    era: &Era,
) -> Result<Value, RpcError> {
    let Some(name) = params.get("name").and_then(Value::as_str) else {
        return Err(RpcError::invalid_params("name is missing or not a string"));
    };
    let tools = tools::all();
    let Some(tool) = tools.iter().find(|tool| tool.name() == name) else {
        return Err(RpcError::invalid_params("Unknown tool").with_data(json!({ "name": name })));
    };
    let arguments = match params.get("arguments") {
        None | Some(Value::Null) => JsonObject::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        Some(_) => return Err(RpcError::invalid_params("arguments has to be an object")),
    };
    let request = request_state::request_digest(name, params.get("arguments"));
    let round = round_of(env, params, era, &request)?;
    if let Round::Declined(attempt) = &round {
        let declined =
            interactive::decline(env, attempt, &caller.correlation_id).err().unwrap_or(SignInError::Declined);
        return finished(Err(tools::ToolError::from(crate::graph::GraphError::from(declined))), era);
    }
    let client = Client { env, era, progress_token: progress_token(params), state: ClientState::default() };
    let call = Call {
        env,
        presenter: &client,
        resumes: match &round {
            Round::Resumes(attempt) => Some(attempt),
            _ => None,
        },
        correlation_id: &caller.correlation_id,
    };
    let result = tools::call(tool.as_ref() as &dyn Tool, &call, &arguments).await;
    if let Err(error) = &result
        && let Some(SignInError::Deferred { attempt, instruction }) = error.sign_in()
    {
        let expires_at = env.clock.now() + attempt::BROWSER_LIFETIME.as_secs();
        let state = request_state::seal(env, attempt, expires_at, request).map_err(internal)?;
        return Ok(in_era(
            json!({
                "resultType": "input_required",
                "inputRequests": {
                    SIGN_IN_INPUT: { "method": "elicitation/create", "params": person::elicitation(instruction) },
                },
                "requestState": state,
            }),
            era,
        ));
    }
    finished(result, era)
}

/// Where in a multi-round call (2026-07-28) a request is.
enum Round {
    First,
    /// The person has been shown what to do, and went to do it.
    Resumes(String),
    Declined(String),
}

fn round_of(env: &Environment, params: &Map<String, Value>, era: &Era, request: &str) -> Result<Round, RpcError> {
    let Some(state) = params.get("requestState").filter(|_| era.is_modern()) else {
        return Ok(Round::First);
    };
    let refused = || RpcError::invalid_params("requestState is not one that this server gave for this request");
    let state = state.as_str().ok_or_else(refused)?;
    let attempt = match request_state::open(env, state, request).map_err(internal)? {
        Opened::Attempt(attempt) => attempt,
        Opened::Expired => return Ok(Round::First),
        Opened::Refused => return Err(refused()),
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

fn finished(result: Result<Value, tools::ToolError>, era: &Era) -> Result<Value, RpcError> {
    let result = match result {
        Ok(structured) => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(structured.to_string())]);
            result.structured_content = Some(structured);
            result
        }
        Err(error) => CallToolResult::error(vec![ContentBlock::text(explain(&error))]),
    };
    Ok(in_era(to_value(&result)?, era))
}

/// What went wrong, and what the person can do, for a model to pass on.
fn explain(error: &tools::ToolError) -> String {
    match error.sign_in() {
        Some(SignInError::TimedOut(Some(instruction))) => {
            format!("{error}. {} Then call this tool again.", instruction.sentence())
        }
        _ => error.to_string(),
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
