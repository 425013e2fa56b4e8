//! Protocol versions, and which of them a request is in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::envelope::{BAD_REQUEST, RpcError, UNSUPPORTED_VERSION};

/// The newest revision: stateless, without `initialize`.
pub(super) const MODERN: &str = "2026-07-28";
/// The revisions with `initialize`, newest first.
pub(super) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The revisions with `initialize` in which a client can have its user fill in a form.
const WITH_FORMS: [&str; 2] = ["2025-11-25", "2025-06-18"];
/// The one revision in which a batch is legal.
pub(super) const WITH_BATCHES: &str = "2025-03-26";

pub(super) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// The context of a request: what the client speaks and can do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Era {
    /// 2026-07-28; the request brought its context along.
    Modern {
        /// By `clientCapabilities` of the request.
        can_show_url: bool,
        /// The same.
        can_show_form: bool,
    },
    /// An earlier revision, agreed on by `initialize`.
    Legacy(Agreed),
    /// Neither: no `initialize` on this connection yet, and no context in the request.
    Unknown,
}

/// What `initialize` agreed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Agreed {
    pub(super) version: String,
    pub(super) capabilities: Value,
}

/// What the messages of one connection have in common: in the revisions with `initialize`, what that agreed on.
#[derive(Debug, Clone, Default)]
pub struct McpConnection {
    agreed: Option<Agreed>,
    /// The account (home account id) that the person at this machine has chosen.
    account: Option<String>,
    changed: bool,
}

/// A connection as it is remembered.
#[derive(Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    agreed: Option<Agreed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

impl McpConnection {
    /// A connection of which `state` is remembered. What cannot be read is as good as nothing.
    pub fn restore(state: Option<&str>) -> Self {
        let remembered: Option<Remembered> = state.and_then(|state| serde_json::from_str(state).ok());
        let Some(Remembered { agreed, account }) = remembered else { return Self::default() };
        Self { agreed, account, changed: false }
    }

    /// A connection without memory, whose messages say which revision with `initialize` they are in; `None` if this
    /// server does not know that revision.
    pub fn stateless(version: &str) -> Option<Self> {
        let version = LEGACY.into_iter().find(|known| *known == version)?;
        let agreed = Agreed { version: version.to_owned(), capabilities: json!({}) };
        Some(Self { agreed: Some(agreed), ..Self::default() })
    }

    /// What is to be remembered, if that has changed.
    pub fn changed(&self) -> Option<String> {
        let remembered = Remembered { agreed: self.agreed.clone(), account: self.account.clone() };
        self.changed.then(|| serde_json::to_string(&remembered).ok()).flatten()
    }

    pub(super) fn agree(&mut self, agreed: Agreed) {
        *self = Self { agreed: Some(agreed), account: None, changed: true };
    }

    /// The account that was chosen.
    pub(super) fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Remembers the account that was chosen.
    pub(super) fn choose(&mut self, account: &str) {
        self.account = Some(account.to_owned());
        self.changed = true;
    }

    pub(super) fn has_batches(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| agreed.version == WITH_BATCHES)
    }
}

impl Era {
    /// Whether results have the form of 2026-07-28.
    pub(super) fn is_modern(&self) -> bool {
        matches!(self, Self::Modern { .. })
    }

    /// Whether the client can show its user a page to open (elicitation in URL mode, since 2025-11-25).
    pub(super) fn can_show_url(&self) -> bool {
        match self {
            Self::Modern { can_show_url, .. } => *can_show_url,
            Self::Legacy(agreed) if agreed.version == "2025-11-25" => declares_url(&agreed.capabilities),
            _ => false,
        }
    }

    /// Whether the client can have its user fill in a form (elicitation, since 2025-06-18).
    pub(super) fn can_show_form(&self) -> bool {
        match self {
            Self::Modern { can_show_form, .. } => *can_show_form,
            Self::Legacy(agreed) if WITH_FORMS.contains(&agreed.version.as_str()) => {
                declares_form(&agreed.capabilities)
            }
            _ => false,
        }
    }

    /// Whether a choice in a form is `oneOf` with titles, rather than `enum` with `enumNames`.
    pub(super) fn has_titled_choices(&self) -> bool {
        !matches!(self, Self::Legacy(agreed) if agreed.version == "2025-06-18")
    }
}

/// A client that names no mode has forms: there was no other mode before 2025-11-25.
fn declares_form(capabilities: &Value) -> bool {
    let elicitation = capabilities.get("elicitation").and_then(Value::as_object);
    elicitation.is_some_and(|modes| modes.get("form").is_some_and(Value::is_object) || !modes.contains_key("url"))
}

fn declares_url(capabilities: &Value) -> bool {
    capabilities.get("elicitation").and_then(|elicitation| elicitation.get("url")).is_some_and(Value::is_object)
}

/// What of a client's capabilities a connection remembers: a client may declare more than the host keeps.
pub(super) fn that_matter(capabilities: &Value) -> Value {
    let mut modes = Map::new();
    for (mode, is_declared) in [("url", declares_url(capabilities)), ("form", declares_form(capabilities))] {
        if is_declared {
            modes.insert(mode.to_owned(), json!({}));
        }
    }
    if modes.is_empty() { json!({}) } else { json!({ "elicitation": modes }) }
}

/// All supported versions, newest first.
pub(super) fn supported() -> Vec<&'static str> {
    std::iter::once(MODERN).chain(LEGACY).collect()
}

/// Answers `initialize`: the requested version if it is one with `initialize`, else the newest such that the server
/// supports.
pub(super) fn negotiate(requested: &str) -> &'static str {
    LEGACY.into_iter().find(|version| *version == requested).unwrap_or(LEGACY[0])
}

/// The version that a request of the new era names.
pub(super) fn named(params: &Map<String, Value>) -> Option<&Value> {
    params.get("_meta").and_then(|meta| meta.get(VERSION_KEY))
}

/// An error for a version that this server does not know.
pub(super) fn unsupported(requested: &str) -> RpcError {
    RpcError::new(UNSUPPORTED_VERSION, "Unsupported protocol version")
        .with_data(json!({ "supported": supported(), "requested": requested }))
}

/// Finds out which era a request is in.
pub(super) fn era_of(params: &Map<String, Value>, connection: &McpConnection) -> Result<Era, RpcError> {
    let malformed = |message: String| RpcError::invalid_params(message).with_status(BAD_REQUEST);
    if params.get("_meta").is_some_and(|meta| !meta.is_object()) {
        return Err(malformed("_meta has to be an object".to_owned()));
    }
    let Some(version) = named(params) else {
        return Ok(connection.agreed.clone().map_or(Era::Unknown, Era::Legacy));
    };
    let Some(version) = version.as_str() else {
        return Err(malformed(format!("_meta[\"{VERSION_KEY}\"] has to be a string")));
    };
    if version != MODERN {
        return Err(unsupported(version));
    }
    match params.get("_meta").and_then(|meta| meta.get(CAPABILITIES_KEY)) {
        Some(capabilities @ Value::Object(_)) => {
            Ok(Era::Modern { can_show_url: declares_url(capabilities), can_show_form: declares_form(capabilities) })
        }
        _ => Err(malformed(format!("_meta[\"{CAPABILITIES_KEY}\"] is missing or not an object"))),
    }
}
