//! Results of requests, in the form of the era.

use std::fmt::Write as _;

use base::settings::Settings;
use caller::local::SignInError;
use rmcp::model::Implementation;
use serde::Serialize;
use serde_json::{Value, json};

use super::Peer;
use super::envelope::RpcError;
use super::request_error::internal;
use super::version::Era;
use crate::tools::{ToolAnswer, ToolError};

/// Bytes that most results of a tool fit into.
const RESULT_CAPACITY: usize = 1024;
/// Names the server in every result of 2026-07-28; what [`server_info`] is as JSON.
const SERVER_INFO: &str = concat!(
    r#"{"name":"entra-mcp","title":"Microsoft Entra ID and Microsoft Graph","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

pub(super) fn server_info() -> Implementation {
    Implementation::new("entra-mcp", env!("CARGO_PKG_VERSION")).with_title("Microsoft Entra ID and Microsoft Graph")
}

/// The result of a call, in the form of the era. A structured answer is a JSON object, and content a JSON array.
pub(super) fn finished(result: Result<&ToolAnswer, &ToolError>, peer: &Peer<'_>, era: &Era) -> String {
    let mut json = String::with_capacity(RESULT_CAPACITY);
    json.push_str(r#"{"content":"#);
    match result {
        Ok(ToolAnswer::Structured(structured)) => {
            push_text(&mut json, structured);
            json.push_str(r#","structuredContent":"#);
            json.push_str(structured);
        }
        Ok(ToolAnswer::Text(text)) => push_text(&mut json, text),
        Ok(ToolAnswer::Blocks(blocks)) => json.push_str(blocks),
        Err(error) => push_text(&mut json, &explain(error, peer)),
    }
    json.push_str(if result.is_ok() { r#","isError":false"# } else { r#","isError":true"# });
    if era.is_modern() {
        json.push_str(r#","resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":"#);
        json.push_str(SERVER_INFO);
        json.push('}');
    }
    json.push('}');
    json
}

/// The content of a result that is one text.
fn push_text(json: &mut String, text: &str) {
    json.push_str(r#"[{"type":"text","text":"#);
    // A string can always be written as JSON.
    json.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()));
    json.push_str("}]");
}

/// What went wrong, and what the person can do, for a model to pass on.
fn explain(error: &ToolError, peer: &Peer<'_>) -> String {
    if let Some(text) = error.own_words() {
        return text.to_owned();
    }
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
        (_, Peer::Local(_)) if !matches!(error, ToolError::Provided(_) | ToolError::Answer(_)) => error.to_string(),
        _ => format!("{} (correlation id {})", error.public(), peer.entra().trail.id()),
    }
}

/// Gives a result the form of the era: 2026-07-28 names the server in each, earlier ones know no `resultType`.
pub(super) fn in_era(mut result: Value, era: &Era) -> Value {
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

pub(super) fn to_value(result: &impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(result).map_err(internal)
}
