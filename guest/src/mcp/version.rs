//! Protocol versions, and which of them a request is in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::envelope::RpcError;

/// The newest revision: stateless, without `initialize`.
pub(super) const MODERN: &str = "2026-07-28";
/// The revisions with `initialize`, newest first.
pub(super) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The one revision in which a batch is legal.
pub(super) const WITH_BATCHES: &str = "2025-03-26";

pub(super) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// The context of a request: what the client speaks and can do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Era {
    /// 2026-07-28; the request brought its context along.
    Modern {
        /// `clientCapabilities` of the request.
        capabilities: Value,
    },
    /// An earlier revision, agreed on by `initialize`.
    Legacy(Session),
    /// Neither: no `initialize` on this connection yet, and no context in the request.
    Unknown,
}

/// What `initialize` agreed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) version: String,
    pub(super) capabilities: Value,
}

impl Era {
    /// Whether results have the form of 2026-07-28.
    pub(super) fn is_modern(&self) -> bool {
        matches!(self, Self::Modern { .. })
    }

    /// Whether the client can show its user a page to open (elicitation in URL mode, since 2025-11-25).
    pub(super) fn can_show_url(&self) -> bool {
        let capabilities = match self {
            Self::Modern { capabilities } => capabilities,
            Self::Legacy(session) if session.version == "2025-11-25" => &session.capabilities,
            _ => return false,
        };
        capabilities.get("elicitation").and_then(|elicitation| elicitation.get("url")).is_some_and(Value::is_object)
    }
}

/// What of a client's capabilities a session remembers: a client may declare more than the host keeps.
pub(super) fn that_matter(capabilities: &Value) -> Value {
    match capabilities.pointer("/elicitation/url") {
        Some(Value::Object(_)) => json!({ "elicitation": { "url": {} } }),
        _ => json!({}),
    }
}

/// All supported versions, newest first.
pub(super) fn supported() -> Vec<&'static str> {
    std::iter::once(MODERN).chain(LEGACY).collect()
}

/// Answers `initialize`: the requested version if it is one with `initialize`, else our newest such.
pub(super) fn negotiate(requested: &str) -> &'static str {
    LEGACY.into_iter().find(|version| *version == requested).unwrap_or(LEGACY[0])
}

/// Finds out which era a request is in.
pub(super) fn era_of(params: &Map<String, Value>, session: Option<Session>) -> Result<Era, RpcError> {
    let meta = params.get("_meta");
    if meta.is_some_and(|meta| !meta.is_object()) {
        return Err(RpcError::invalid_params("_meta has to be an object"));
    }
    let Some(version) = meta.and_then(|meta| meta.get(VERSION_KEY)) else {
        return Ok(session.map_or(Era::Unknown, Era::Legacy));
    };
    let Some(version) = version.as_str() else {
        return Err(RpcError::invalid_params(format!("_meta[\"{VERSION_KEY}\"] has to be a string")));
    };
    if version != MODERN {
        return Err(RpcError::new(-32022, "Unsupported protocol version")
            .with_data(json!({ "supported": supported(), "requested": version })));
    }
    match meta.and_then(|meta| meta.get(CAPABILITIES_KEY)) {
        Some(capabilities @ Value::Object(_)) => Ok(Era::Modern { capabilities: capabilities.clone() }),
        _ => Err(RpcError::invalid_params(format!("_meta[\"{CAPABILITIES_KEY}\"] is missing or not an object"))),
    }
}
