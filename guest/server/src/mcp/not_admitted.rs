//! The answer to a caller that is not admitted, where no HTTP carries it.

use serde_json::{Value, json};

use super::envelope::{self, RpcError};

/// The JSON-RPC error code: of the range that servers define (-32000 to -32099). 2026-07-28 uses none near it.
const NOT_ADMITTED: i32 = -32001;

/// What HTTP would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAdmitted {
    /// Its status.
    pub status: u16,
    /// For people.
    pub text: String,
    /// `WWW-Authenticate`.
    pub challenge: Option<String>,
    /// `Retry-After`.
    pub retry_after_seconds: Option<u64>,
}

/// The answer to `message`. A notification has none, and a batch is answered as one.
pub fn not_admitted(message: &str, refusal: &NotAdmitted) -> Option<String> {
    let id = match envelope::read_bounded(message.as_bytes()) {
        Ok(Value::Object(message)) if message.contains_key("method") => Some(message.get("id")?.clone()),
        Ok(_) | Err(_) => None,
    };
    let mut data = json!({ "status": refusal.status });
    if let Some(object) = data.as_object_mut() {
        object.extend(refusal.challenge.as_ref().map(|challenge| ("wwwAuthenticate".to_owned(), json!(challenge))));
        object.extend(refusal.retry_after_seconds.map(|seconds| ("retryAfterSeconds".to_owned(), json!(seconds))));
    }
    let error = RpcError::new(NOT_ADMITTED, refusal.text.as_str()).with_data(data);
    Some(error.answer(id.as_ref()).to_string())
}
