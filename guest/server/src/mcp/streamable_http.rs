//! What Streamable HTTP adds to a message: header fields that say the same as its body, and statuses.
//!
//! 2026-07-28 is recognised by what the body says of itself. Everything else is in a revision with `initialize`; such a
//! client gets no session, so each of its requests says in `MCP-Protocol-Version` what was agreed on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::dispatch::{handle_batch, handle_message, refused};
use super::envelope::{self, BAD_REQUEST, HEADER_MISMATCH, Message, ParsedMessage, RpcError};
use super::version::{self, MODERN, McpConnection, VERSION_KEY, WITH_BATCHES};
use super::{Peer, Reply};

/// A header field, as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatedField<'a> {
    /// It was not.
    Absent,
    /// Once, in visible ASCII.
    Value(&'a str),
    /// More than once, or with characters that a field must not have.
    Malformed,
}

/// The header fields that repeat what a message says.
#[derive(Debug, Clone, Copy)]
pub struct RepeatedFields<'a> {
    /// `MCP-Protocol-Version`.
    pub version: RepeatedField<'a>,
    /// `Mcp-Method`.
    pub method: RepeatedField<'a>,
    /// `Mcp-Name`.
    pub name: RepeatedField<'a>,
}

/// Handles the body of one `POST` to the MCP endpoint.
pub async fn handle_http(peer: &Peer<'_>, fields: &RepeatedFields<'_>, body: &[u8]) -> Reply {
    // Before it is parsed, as on other transports.
    if body.trim_ascii_start().starts_with(b"[") {
        return handle_array(peer, fields, body).await;
    }
    let value = match envelope::read_bounded(body) {
        Ok(value) => value,
        Err(error) => return refused(&error, None),
    };
    let message = match envelope::parse(value) {
        Ok(ParsedMessage::Message(message)) => message,
        Ok(ParsedMessage::Ignored) => return ignore(fields),
        Err((id, error)) => return refused(&error, id.as_ref()),
    };
    // 2026-07-28 defines no notification that a client could send over HTTP, and no header fields for one.
    if message.id.is_none() {
        return match stateless(fields) {
            Ok(_) => Reply::Nothing,
            Err(error) => refused(&error, None),
        };
    }
    match connection(fields, &message) {
        Ok(mut connection) => handle_message(peer, &mut connection, message, body).await,
        Err(error) => refused(&error, message.id.as_ref()),
    }
}

/// A batch exists in 2025-03-26 only, which knew no `MCP-Protocol-Version`.
async fn handle_array(peer: &Peer<'_>, fields: &RepeatedFields<'_>, body: &[u8]) -> Reply {
    let connection = match fields.version {
        RepeatedField::Absent | RepeatedField::Value(WITH_BATCHES) => McpConnection::stateless(WITH_BATCHES),
        RepeatedField::Value(_) | RepeatedField::Malformed => None,
    };
    let Some(mut connection) = connection else {
        let error = RpcError::invalid_request("a batch is allowed in protocol version 2025-03-26 only");
        return refused(&error, None);
    };
    let batch = match envelope::read_bounded(body) {
        Ok(Value::Array(batch)) => batch,
        // The body begins with a bracket.
        Ok(_) => return refused(&RpcError::invalid_request("a batch has to be a JSON array"), None),
        Err(error) => return refused(&error, None),
    };
    // The header fields are about one message.
    if batch.iter().any(|value| value.pointer("/params").and_then(Value::as_object).and_then(version::named).is_some())
    {
        let error = RpcError::invalid_request("a request of 2026-07-28 cannot be part of a batch");
        return refused(&error, None);
    }
    handle_batch(peer, &mut connection, batch, body).await
}

/// An answer to a request of this server, though there are none, or a notification with malformed parameters. Harmless
/// from an old client; 2026-07-28 says that a client must not send it.
fn ignore(fields: &RepeatedFields<'_>) -> Reply {
    if fields.version == RepeatedField::Value(MODERN) {
        return refused(&RpcError::invalid_request("a message has to be a request or a notification"), None);
    }
    match stateless(fields) {
        Ok(_) => Reply::Nothing,
        Err(error) => refused(&error, None),
    }
}

/// The connection that a message belongs to by its header fields alone.
pub(super) fn stateless(fields: &RepeatedFields<'_>) -> Result<McpConnection, RpcError> {
    match fields.version {
        RepeatedField::Absent => {
            McpConnection::stateless(WITH_BATCHES).ok_or_else(|| version::unsupported(WITH_BATCHES))
        }
        RepeatedField::Value(MODERN) => Ok(McpConnection::default()),
        RepeatedField::Value(version) => McpConnection::stateless(version).ok_or_else(|| version::unsupported(version)),
        RepeatedField::Malformed => Err(mismatch("MCP-Protocol-Version is malformed")),
    }
}

/// The connection that a request belongs to, if its header fields say what its body says.
pub(super) fn connection(fields: &RepeatedFields<'_>, message: &Message) -> Result<McpConnection, RpcError> {
    let Some(version) = version::named(&message.params) else {
        if fields.version == RepeatedField::Value(MODERN) {
            let error = RpcError::invalid_params(format!("_meta[\"{VERSION_KEY}\"] is missing"));
            return Err(error.with_status(BAD_REQUEST));
        }
        return stateless(fields);
    };
    // What is not a string is refused with the rest of the context.
    if let Some(version) = version.as_str() {
        if fields.version != RepeatedField::Value(version) {
            return Err(mismatch("MCP-Protocol-Version is not the version that the body names"));
        }
        if version != MODERN {
            return Err(version::unsupported(version));
        }
        if fields.method != RepeatedField::Value(&message.method) {
            return Err(mismatch("Mcp-Method is not the method of the body"));
        }
        check_name(fields.name, message)?;
    }
    Ok(McpConnection::default())
}

/// `Mcp-Name` repeats what is called, read or got. Where the method has no such parameter it means nothing.
pub(super) fn check_name(field: RepeatedField<'_>, message: &Message) -> Result<(), RpcError> {
    let parameter = match message.method.as_str() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(()),
    };
    let agrees = match (message.params.get(parameter).and_then(Value::as_str), field) {
        (None, RepeatedField::Absent) => true,
        (Some(name), RepeatedField::Value(field)) => match encoded(field) {
            Some(encoded) => STANDARD.decode(encoded).is_ok_and(|decoded| decoded == name.as_bytes()),
            None => field == name,
        },
        _ => false,
    };
    if agrees { Ok(()) } else { Err(mismatch("Mcp-Name is not the name that the body has")) }
}

/// What is in `=?base64?…?=`, the form of what a header field cannot carry as it is.
fn encoded(field: &str) -> Option<&str> {
    field.strip_prefix("=?base64?")?.strip_suffix("?=")
}

pub(super) fn mismatch(message: &'static str) -> RpcError {
    RpcError::new(HEADER_MISMATCH, format!("Header mismatch: {message}"))
}
