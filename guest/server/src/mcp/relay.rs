//! Messages that go on to a server behind the component: read as strictly as the component's own, and refused in the same
//! form.
//!
//! Threat: the server behind reads the same bytes with another parser. So what parsers read differently is refused: names of
//! members that occur twice or differ from those of the protocol in case only, methods that do, and header fields that say
//! something else than the body.

use base::policy::{Denial, TargetKind};
use serde_json::{Map, Value, json};

use super::dispatch::{MAX_BATCH, refused};
use super::envelope::{
    self, BAD_REQUEST, INVALID_PARAMS, METHOD_NOT_FOUND, Message, NOT_FOUND, ParsedMessage, RpcError,
};
use super::results::finished;
use super::streamable_http::{check_name, connection, mismatch, stateless};
use super::version::{self, Era, MODERN, McpConnection, WITH_BATCHES};
use super::{Peer, RepeatedField, RepeatedFields, Reply, challenge};
use crate::tools::ToolError;

/// The members of a message.
const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// The parameters that a decision, or the form of a message, depends on.
const PARAMETERS: [&str; 9] =
    ["_meta", "name", "uri", "ref", "notifications", "taskId", "arguments", "task", "requestState"];
/// The members of a reference, and of what `subscriptions/listen` asks for.
const REFERENCE: [&str; 5] = ["type", "name", "uri", "resourceSubscriptions", "taskIds"];
/// Methods that name what they are about.
const NAMING: [&str; 7] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
    "subscriptions/listen",
];
/// Those that 2026-07-28 does not have any more. A server of that revision says so as well, whatever the parameters are.
const REMOVED: [&str; 4] = ["resources/subscribe", "resources/unsubscribe", "tasks/list", "tasks/result"];
/// What the methods about tasks begin with.
const TASKS: &str = "tasks/";
/// Methods whose answers are lists.
const LISTING: [&str; 4] = ["tools/list", "resources/list", "resources/templates/list", "prompts/list"];
/// Other methods of the protocol.
const PLAIN: [&str; 4] = ["initialize", "ping", "logging/setLevel", "server/discover"];
/// Methods that use what they name, rather than only asking about it. What they do is recorded.
const USING: [&str; 8] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "tasks/get",
    "tasks/result",
    "tasks/cancel",
];
/// Methods whose answers can be of any length, and are neither lists nor kept by clients for later requests.
const STREAMED: [&str; 4] = ["tools/call", "prompts/get", "completion/complete", "tasks/result"];
/// The same before 2026-07-28, which lets clients keep a resource: whether they may depends on what is in the whole answer.
const READ: &str = "resources/read";
/// What notifications begin with.
const NOTIFICATIONS: &str = "notifications/";
/// Those that a client sends, in one revision of the protocol or another.
const OF_CLIENTS: [&str; 5] = ["initialized", "cancelled", "progress", "roots/list_changed", "tasks/status"];

/// Bytes of the longest name of a tool or a prompt, of a method, and of the longest id of a task: what a handle and a header
/// field hold with ease.
const MAX_NAME_BYTES: usize = 1024;
/// Bytes of the longest URI (RFC 9110 section 4.1 recommends 8000).
const MAX_URI_BYTES: usize = 8 * 1024;
/// Resources, and tasks, that one request subscribes to. Each counts as a request.
const MAX_SUBSCRIPTIONS: usize = 100;
/// Bytes of the longest state of a request.
const MAX_STATE_BYTES: usize = 64 * 1024;

/// Values in an answer of a server behind: a thousand tools with schemas. Each may take 600 bytes.
const MAX_ANSWER_VALUES: usize = 50_000;

/// A body that was read.
#[derive(Debug)]
pub(crate) struct RelayedBody {
    /// In the order of the body.
    pub(crate) messages: Vec<RelayedMessage>,
    is_batch: bool,
}

/// One message of it.
#[derive(Debug)]
pub(crate) struct RelayedMessage {
    id: Option<Value>,
    /// None of an answer to a request of the server behind.
    pub(crate) method: Option<String>,
    params: Map<String, Value>,
    era: Era,
}

/// What a server behind hands out to one caller, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    /// The id of a task.
    Task,
    /// The state of a request that the caller goes on with (2026-07-28).
    State,
}

impl Handed {
    /// The answer to a caller that it was not handed out to.
    fn unknown(self) -> RpcError {
        match self {
            Self::Task => RpcError::invalid_params("Task not found"),
            Self::State => RpcError::invalid_params("requestState is not one that this caller was given"),
        }
    }

    /// A stable reason code for the audit record.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Task => "foreign-task",
            Self::State => "foreign-state",
        }
    }
}

/// Reads the body of a `POST`. An error is the answer.
pub(crate) fn read(fields: &RepeatedFields<'_>, body: &[u8]) -> Result<RelayedBody, Reply> {
    if body.trim_ascii_start().starts_with(b"[") {
        return read_batch(fields, body).map_err(|error| refused(&error, None));
    }
    let value = envelope::read_bounded(body).map_err(|error| refused(&error, None))?;
    let message = read_one(value).map_err(|(id, error)| refused(&error, id.as_ref()))?;
    let id = message.id.clone();
    let message = agree(fields, message).map_err(|error| refused(&error, id.as_ref()))?;
    Ok(RelayedBody { messages: vec![message], is_batch: false })
}

/// A batch exists in 2025-03-26 only, and no header field is about it.
fn read_batch(fields: &RepeatedFields<'_>, body: &[u8]) -> Result<RelayedBody, RpcError> {
    if !matches!(fields.version, RepeatedField::Absent | RepeatedField::Value(WITH_BATCHES)) {
        return Err(RpcError::invalid_request("a batch is allowed in protocol version 2025-03-26 only"));
    }
    if fields.method != RepeatedField::Absent || fields.name != RepeatedField::Absent {
        return Err(mismatch("Mcp-Method and Mcp-Name are about one message"));
    }
    let Value::Array(batch) = envelope::read_bounded(body)? else {
        return Err(RpcError::invalid_request("a batch has to be a JSON array"));
    };
    if batch.is_empty() || batch.len() > MAX_BATCH {
        return Err(RpcError::invalid_request(format!("a batch has 1 to {MAX_BATCH} messages")));
    }
    let connection = stateless(fields)?;
    let mut messages = Vec::with_capacity(batch.len());
    for value in batch {
        let mut message = read_one(value).map_err(|(_, error)| error)?;
        if message.method.as_deref() == Some("initialize") {
            return Err(RpcError::invalid_request("initialize cannot be part of a batch"));
        }
        if version::named(&message.params).is_some() {
            return Err(RpcError::invalid_request("a request of 2026-07-28 cannot be part of a batch"));
        }
        message.era = version::era_of(&message.params, &connection)?;
        messages.push(message);
    }
    Ok(RelayedBody { messages, is_batch: true })
}

/// Reads one message. Its era is not known yet.
fn read_one(value: Value) -> Result<RelayedMessage, (Option<Value>, RpcError)> {
    let Some(object) = value.as_object() else {
        return Err((None, RpcError::invalid_request("a message has to be a JSON object")));
    };
    let params = object.get("params");
    let of_reference = |name: &str| params.and_then(|params| params.get(name)).and_then(Value::as_object);
    let unambiguous = check_members(object, &MEMBERS)
        .and_then(|()| params.and_then(Value::as_object).map_or(Ok(()), |params| check_members(params, &PARAMETERS)))
        .and_then(|()| of_reference("ref").map_or(Ok(()), |of| check_members(of, &REFERENCE)))
        .and_then(|()| of_reference("notifications").map_or(Ok(()), |of| check_members(of, &REFERENCE)));
    unambiguous.map_err(|error| (None, error))?;
    // An answer to a request of the server behind: it is for that server to know its id.
    if !object.contains_key("method") {
        let is_answer = object.contains_key("result") != object.contains_key("error")
            && object.get("id").is_some_and(envelope::is_id)
            && object.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
        let error = || (None, RpcError::invalid_request("a message has to be a request, a notification or an answer"));
        let answer = RelayedMessage { id: None, method: None, params: Map::new(), era: Era::Unknown };
        return is_answer.then_some(answer).ok_or_else(error);
    }
    match envelope::parse(value)? {
        ParsedMessage::Message(Message { id, method, params }) => {
            Ok(RelayedMessage { id, method: Some(method), params, era: Era::Unknown })
        }
        ParsedMessage::Ignored => Err((None, RpcError::invalid_request("params has to be an object"))),
    }
}

/// Refuses names that a parser without regard to case takes for one of these. Some fold letters beyond ASCII as well.
fn check_members(object: &Map<String, Value>, known: &[&str]) -> Result<(), RpcError> {
    let is_ambiguous =
        |name: &String| !name.is_ascii() || known.iter().any(|known| known.eq_ignore_ascii_case(name) && known != name);
    match object.keys().any(is_ambiguous) {
        true => Err(RpcError::invalid_request("the name of a member may be taken for another one")),
        false => Ok(()),
    }
}

/// Finds out the era of a message. Header fields that are there have to say what the body says, in every era.
fn agree(fields: &RepeatedFields<'_>, message: RelayedMessage) -> Result<RelayedMessage, RpcError> {
    let RelayedMessage { id, method, params, .. } = message;
    let Some(method) = method else {
        if fields.version == RepeatedField::Value(MODERN) {
            return Err(RpcError::invalid_request("a message has to be a request or a notification"));
        }
        if fields.method != RepeatedField::Absent || fields.name != RepeatedField::Absent {
            return Err(mismatch("an answer has no method and no name"));
        }
        stateless(fields)?;
        return Ok(RelayedMessage { id, method: None, params, era: Era::Unknown });
    };
    let message = Message { id, method, params };
    let connection: McpConnection =
        if message.id.is_some() { connection(fields, &message)? } else { stateless(fields)? };
    if fields.method != RepeatedField::Absent && fields.method != RepeatedField::Value(&message.method) {
        return Err(mismatch("Mcp-Method is not the method of the body"));
    }
    if fields.name != RepeatedField::Absent {
        check_name(fields.name, &message)?;
    }
    let era = version::era_of(&message.params, &connection)?;
    let Message { id, method, params } = message;
    Ok(RelayedMessage { id, method: Some(method), params, era })
}

impl RelayedMessage {
    /// Whether it is one of 2026-07-28.
    pub(crate) fn is_modern(&self) -> bool {
        self.era.is_modern()
    }

    /// Whether the answer is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.method.as_deref().is_some_and(|method| LISTING.contains(&method))
    }

    /// Whether an answer may pass without a look at the whole of it: nothing in it depends on the caller where it has no list.
    pub(crate) fn answer_may_stream(&self) -> bool {
        let Some(method) = self.method.as_deref() else { return false };
        STREAMED.contains(&method) || (method == READ && !self.is_modern())
    }

    /// Whether it uses what it names, rather than only asking about it.
    pub(crate) fn is_use(&self) -> bool {
        self.method.as_deref().is_some_and(|method| USING.contains(&method))
    }

    /// Whether the answer may hand something out to the caller: a task that it asks for, or, in 2026-07-28, a task or a state
    /// that the server behind decides for.
    pub(crate) fn may_be_handed(&self) -> bool {
        let Some(method) = self.method.as_deref() else { return false };
        let is_fixed = LISTING.contains(&method) || PLAIN.contains(&method) || method.starts_with(NOTIFICATIONS);
        self.params.contains_key("task") || (self.is_modern() && !is_fixed)
    }

    /// Whether the answer is a list of tasks.
    pub(crate) fn lists_tasks(&self) -> bool {
        self.method.as_deref() == Some("tasks/list")
    }

    /// What it names that the server behind has to have handed out to the caller.
    pub(crate) fn handed<'m>(&'m self) -> Result<Vec<(Handed, &'m str)>, RpcError> {
        let Some(method) = self.method.as_deref() else { return Ok(Vec::new()) };
        let mut named = Vec::new();
        // What a client notifies of are tasks of its own.
        if method.starts_with(TASKS) || self.id.is_some() {
            named.extend(self.params.get("taskId").map(|id| (Handed::Task, "taskId", id, MAX_NAME_BYTES)));
        }
        match self.listened_tasks() {
            None => {}
            Some(Value::Array(ids)) if ids.len() <= MAX_SUBSCRIPTIONS => {
                named.extend(ids.iter().map(|id| (Handed::Task, "taskIds", id, MAX_NAME_BYTES)));
            }
            Some(_) => {
                return Err(RpcError::invalid_params(format!(
                    "taskIds has to be an array of {MAX_SUBSCRIPTIONS} at most"
                )));
            }
        }
        let state = self.params.get("requestState");
        named.extend(state.map(|state| (Handed::State, "requestState", state, MAX_STATE_BYTES)));
        let text = |(handed, what, value, at_most): (Handed, &str, &'m Value, usize)| {
            let malformed = || RpcError::invalid_params(format!("{what} is not a string"));
            Ok((handed, bounded(what, value.as_str().ok_or_else(malformed)?, at_most)?))
        };
        named.into_iter().map(text).collect()
    }

    /// What it asks for, all of which the caller needs to be permitted. A method, or a notification, that the protocol does
    /// not have names nothing that rules could be about; `known_only` refuses it.
    pub(crate) fn targets(&self, known_only: bool) -> Result<Vec<(TargetKind, &str)>, RpcError> {
        let Some(method) = self.method.as_deref() else { return Ok(Vec::new()) };
        let one = |kind, parameter| self.text(parameter).map(|name| vec![(kind, name)]);
        bounded("the method", method, MAX_NAME_BYTES)?;
        // With a name, the rules say first whether the caller may have that. A task has none that rules are about.
        if self.is_modern() && REMOVED.contains(&method) && !self.params.contains_key("uri") {
            return Err(self.not_found(method));
        }
        if let Some(action) = method.strip_prefix(TASKS) {
            bounded("taskId", self.params.get("taskId").and_then(Value::as_str).unwrap_or_default(), MAX_NAME_BYTES)?;
            return Ok(vec![(TargetKind::Task, action)]);
        }
        match method {
            "tools/call" => one(TargetKind::Tool, "name"),
            "prompts/get" => one(TargetKind::Prompt, "name"),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => one(TargetKind::Resource, "uri"),
            "completion/complete" => self.completed(),
            "subscriptions/listen" => self.listened(),
            _ if LISTING.contains(&method) || PLAIN.contains(&method) => Ok(Vec::new()),
            _ if is_ambiguous(method) => Err(RpcError::invalid_request("the method may be taken for another one")),
            _ if known_only && !is_notification(method) => Err(self.not_found(method)),
            _ => Ok(Vec::new()),
        }
    }

    fn not_found(&self, method: &str) -> RpcError {
        let error = RpcError::new(METHOD_NOT_FOUND, "Method not found").with_data(json!({ "method": method }));
        if self.is_modern() { error.with_status(NOT_FOUND) } else { error }
    }

    fn text(&self, parameter: &str) -> Result<&str, RpcError> {
        let missing = || RpcError::invalid_params(format!("{parameter} is missing or not a string"));
        let text = self.params.get(parameter).and_then(Value::as_str).ok_or_else(missing)?;
        bounded(parameter, text, if parameter == "uri" { MAX_URI_BYTES } else { MAX_NAME_BYTES })
    }

    /// What an argument is completed for tells of it, so the caller has to be permitted both.
    fn completed(&self) -> Result<Vec<(TargetKind, &str)>, RpcError> {
        let reference = self.params.get("ref");
        let text = |name: &str| reference.and_then(|reference| reference.get(name)).and_then(Value::as_str);
        let (kind, name) = match text("type") {
            Some("ref/prompt") => (TargetKind::Prompt, text("name")),
            Some("ref/resource") => (TargetKind::Resource, text("uri")),
            _ => (TargetKind::Completion, None),
        };
        let malformed = || RpcError::invalid_params("ref has to name a prompt or a resource");
        let at_most = if kind == TargetKind::Prompt { MAX_NAME_BYTES } else { MAX_URI_BYTES };
        let name = bounded("ref", name.ok_or_else(malformed)?, at_most)?;
        Ok(vec![(TargetKind::Completion, name), (kind, name)])
    }

    fn subscriptions(&self) -> Option<&Value> {
        self.params.get("notifications").and_then(|wanted| wanted.get("resourceSubscriptions"))
    }

    /// As how many requests it counts.
    fn cost(&self) -> usize {
        let count = |of: Option<&Value>| of.and_then(Value::as_array).map_or(0, Vec::len);
        let subscriptions = count(self.subscriptions()).saturating_add(count(self.listened_tasks()));
        subscriptions.clamp(1, 2 * MAX_SUBSCRIPTIONS)
    }

    fn listened_tasks(&self) -> Option<&Value> {
        self.params.get("notifications").and_then(|wanted| wanted.get("taskIds"))
    }

    fn listened<'m>(&'m self) -> Result<Vec<(TargetKind, &'m str)>, RpcError> {
        let malformed = || RpcError::invalid_params("resourceSubscriptions has to be an array of strings");
        match self.subscriptions() {
            None => Ok(Vec::new()),
            Some(Value::Array(uris)) if uris.len() > MAX_SUBSCRIPTIONS => {
                Err(RpcError::invalid_params(format!("at most {MAX_SUBSCRIPTIONS} resourceSubscriptions are allowed")))
            }
            Some(Value::Array(uris)) => {
                let uri = |uri: &'m Value| {
                    let uri = bounded("resourceSubscriptions", uri.as_str().ok_or_else(malformed)?, MAX_URI_BYTES)?;
                    Ok((TargetKind::Resource, uri))
                };
                uris.iter().map(uri).collect()
            }
            Some(_) => Err(malformed()),
        }
    }

    /// The answer of the component to a request that the caller may not make. That to a notification has no id.
    fn denied(&self, peer: &Peer<'_>, kind: TargetKind, name: &str, denial: Denial) -> Reply {
        if let Some(reply) = peer.authentication().and_then(|kind| challenge::of_denial(kind, &denial)) {
            return reply;
        }
        let error = match denial {
            Denial::ScopesMissing { required } => return Reply::InsufficientScope(required),
            Denial::SessionEnded => return Reply::SignInAgain,
            // It is switched off for all callers, and looks like something that does not exist.
            Denial::NotListed => {
                RpcError::invalid_params(format!("Unknown {}", kind.name())).with_data(json!({ "name": name }))
            }
            denial => {
                let told = denial.told(kind);
                if let (TargetKind::Tool, Some(id)) = (kind, &self.id) {
                    let result = finished(Err(&ToolError::from(denial)), peer, &self.era);
                    return Reply::Message { status: envelope::OK, json: envelope::result(id, &result) };
                }
                let id = peer.entra().trail.id();
                RpcError::new(INVALID_PARAMS, format!("{told} (correlation id {id})"))
            }
        };
        self.refused(error)
    }

    fn refused(&self, error: RpcError) -> Reply {
        let error = if self.id.is_some() { error } else { error.with_status(BAD_REQUEST) };
        refused(&error, self.id.as_ref())
    }
}

impl RelayedBody {
    /// As how many requests it counts: every message is work for the server behind, whether or not it is answered.
    pub(crate) fn count(&self) -> usize {
        self.messages.iter().map(RelayedMessage::cost).sum()
    }

    /// The answer where the caller may not have what the message at this place asks for.
    pub(crate) fn denied(&self, peer: &Peer<'_>, at: usize, target: (TargetKind, &str), denial: Denial) -> Reply {
        let Some(message) = self.messages.get(at) else { return Reply::Nothing };
        self.with_others(at, message.denied(peer, target.0, target.1, denial))
    }

    /// The answer where the message at this place names what its caller was not given.
    pub(crate) fn foreign(&self, at: usize, handed: Handed) -> Reply {
        self.malformed(at, handed.unknown())
    }

    /// The answer where the message at this place is malformed.
    pub(crate) fn malformed(&self, at: usize, error: RpcError) -> Reply {
        let Some(message) = self.messages.get(at) else { return Reply::Nothing };
        self.with_others(at, message.refused(error))
    }

    /// Of a batch nothing goes on if one message of it does not.
    fn with_others(&self, at: usize, reply: Reply) -> Reply {
        let Reply::Message { status, json } = reply else { return reply };
        if !self.is_batch {
            return Reply::Message { status, json };
        }
        let other = RpcError::invalid_request("not sent on, because another message of the batch was refused");
        let others = self.messages.iter().enumerate().filter(|(index, _)| *index != at);
        let others = others.filter_map(|(_, message)| Some(other.answer(Some(message.id.as_ref()?)).to_string()));
        let answers: Vec<_> = std::iter::once(json).chain(others).collect();
        Reply::Message { status, json: format!("[{}]", answers.join(",")) }
    }
}

/// The text, if it is not too long.
fn bounded<'t>(what: &str, text: &'t str, at_most: usize) -> Result<&'t str, RpcError> {
    let too_long = || RpcError::invalid_params(format!("{what} is longer than {at_most} bytes"));
    (text.len() <= at_most).then_some(text).ok_or_else(too_long)
}

/// Whether it is a notification that clients send.
fn is_notification(method: &str) -> bool {
    method.strip_prefix(NOTIFICATIONS).is_some_and(|about| OF_CLIENTS.contains(&about))
}

/// Whether a server that is not exact could take a method for one that names what it is about.
fn is_ambiguous(method: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.$:/".contains(&byte);
    let lower = method.to_ascii_lowercase();
    !method.bytes().all(is_plain)
        || method.split('/').any(str::is_empty)
        || NAMING.iter().chain(&LISTING).any(|known| known.eq_ignore_ascii_case(&lower))
        || lower.starts_with(TASKS)
}

/// A JSON-RPC error in place of an answer that cannot be judged.
pub(crate) fn unjudged(id: Option<&Value>, message: &str) -> String {
    RpcError::new(envelope::INTERNAL_ERROR, message).answer(id).to_string()
}

/// Reads a message of a server behind, which is a stranger like a client. Its lists are longer than any message of a client.
pub(crate) fn read_answer(text: &[u8]) -> Result<Value, String> {
    envelope::read_bounded_by(text, MAX_ANSWER_VALUES).map_err(|error| error.message)
}
