//! JSON-RPC 2.0 messages.

use base::strict_json::{self, StrictJsonError};
use serde_json::{Map, Value, json};

pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
pub(super) const INTERNAL_ERROR: i32 = -32603;
/// The header fields of a request do not say what its body says (2026-07-28).
pub(super) const HEADER_MISMATCH: i32 = -32020;
/// The version of a request is not supported (2026-07-28).
pub(super) const UNSUPPORTED_VERSION: i32 = -32022;

/// Where HTTP carries an error that is the answer to a well-formed request, and every result.
pub(super) const OK: u16 = 200;
/// Where HTTP carries an error about the form of a message.
pub(super) const BAD_REQUEST: u16 = 400;
/// Where HTTP carries `METHOD_NOT_FOUND` in 2026-07-28.
pub(super) const NOT_FOUND: u16 = 404;

/// Values in a message from a stranger. No message of the protocol has a tenth of it; each may take 600 bytes.
const MAX_VALUES: usize = 20_000;

/// Depth of nesting of a message: what `serde_json` allows, which bounds recursion on the stack of an instance.
const MAX_DEPTH: usize = 127;

/// A request or notification.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// A string or an integer; a notification has none.
    pub(super) id: Option<Value>,
    pub(super) method: String,
    pub(super) params: Map<String, Value>,
}

/// A JSON-RPC error object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RpcError {
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) data: Option<Value>,
    /// The status that HTTP carries it with.
    pub(super) status: u16,
}

impl RpcError {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        let status = match code {
            PARSE_ERROR | INVALID_REQUEST | HEADER_MISMATCH | UNSUPPORTED_VERSION => BAD_REQUEST,
            _ => OK,
        };
        Self { code, message: message.into(), data: None, status }
    }

    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    pub(super) fn with_data(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }

    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The answer to the request `id`; `null` where the id could not be read (JSON-RPC 2.0 section 5).
    pub(super) fn answer(&self, id: Option<&Value>) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (Some(data), Some(object)) = (&self.data, error.as_object_mut()) {
            object.insert("data".to_owned(), data.clone());
        }
        json!({ "jsonrpc": "2.0", "id": id, "error": error })
    }
}

/// The answer to the request `id`. `result` is JSON.
pub(super) fn result(id: &Value, result: &str) -> String {
    [r#"{"jsonrpc":"2.0","id":"#, &id.to_string(), r#","result":"#, result, "}"].concat()
}

/// Reads JSON that a stranger sent: a small text can stand for a lot of memory, since an object of one member takes
/// a hundred times the bytes of `{"":0}`.
pub(super) fn read_bounded(text: &[u8]) -> Result<Value, RpcError> {
    read_bounded_by(text, MAX_VALUES)
}

/// The same with another bound.
pub(super) fn read_bounded_by(text: &[u8], max_values: usize) -> Result<Value, RpcError> {
    if text.len() > max_values && strict_json::structure(text).take(max_values + 1).count() > max_values {
        return Err(RpcError::invalid_request(format!("a message has at most {max_values} values")));
    }
    read(text)
}

/// Reads JSON in which no object has two members of one name: a gateway in front, or a log, may read another one of them
/// than this server does.
pub(super) fn read(text: &[u8]) -> Result<Value, RpcError> {
    strict_json::parse(text, MAX_DEPTH).map_err(|error| {
        let message = match error {
            StrictJsonError::Malformed(reason) => format!("not JSON: {reason}"),
            StrictJsonError::Duplicate(_) => "a name occurs twice in one object".to_owned(),
        };
        RpcError::new(PARSE_ERROR, message)
    })
}

/// What one JSON value is.
pub(super) enum ParsedMessage {
    /// A request or notification.
    Message(Message),
    /// Nothing to do, and never answered: an answer to a request of this server, which the host has correlated already,
    /// or a notification with malformed parameters (JSON-RPC 2.0 section 4.1).
    Ignored,
}

/// Reads a message. An error carries the id to answer with, as far as it could be read.
pub(super) fn parse(value: Value) -> Result<ParsedMessage, (Option<Value>, RpcError)> {
    let Value::Object(mut object) = value else {
        return Err((None, RpcError::invalid_request("a message has to be a JSON object")));
    };
    let id = object.remove("id");
    let readable = id.clone().filter(is_id);
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err((readable, RpcError::invalid_request("jsonrpc has to be \"2.0\"")));
    }
    let Some(method) = object.remove("method") else {
        if object.contains_key("result") || object.contains_key("error") {
            return Ok(ParsedMessage::Ignored);
        }
        return Err((readable, RpcError::invalid_request("method is missing")));
    };
    let Value::String(method) = method else {
        return Err((readable, RpcError::invalid_request("method has to be a string")));
    };
    if id.is_some() && readable.is_none() {
        return Err((None, RpcError::invalid_request("id has to be a string or an integer")));
    }
    let params = match object.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) if id.is_none() => return Ok(ParsedMessage::Ignored),
        Some(_) => return Err((readable, RpcError::invalid_params("params has to be an object"))),
    };
    Ok(ParsedMessage::Message(Message { id, method, params }))
}

pub(super) fn is_id(id: &Value) -> bool {
    match id {
        Value::String(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        _ => false,
    }
}
