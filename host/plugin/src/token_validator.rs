//! The component's verdict on an access token (`wit/token-validator.wit`, `wit/types.wit`).

use std::fmt;
use std::time::Duration;

use crate::attributes::{self, Attribute, AttributeValue};
use crate::bindings::export::token_validator as wit;

pub use crate::bindings::export::token_validator::{Principal, Requirements, TokenErrorCategory};
pub use crate::bindings::types::{AgentRole, CallerKind, Groups, PrincipalKind};

/// No requirements beyond the settings.
#[allow(clippy::derivable_impls, reason = "the type is generated")]
impl Default for Requirements {
    fn default() -> Self {
        Self { all_scopes: Vec::new(), any_role: Vec::new(), any_group: Vec::new(), kind: None, any_client: Vec::new() }
    }
}

/// Parameters of the header `WWW-Authenticate: Bearer` (RFC 6750 section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `invalid_token` or `insufficient_scope`; `None` where another token would not help.
    pub error: Option<String>,
    /// Scopes to ask for, in the short form.
    pub scopes: Vec<String>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenError {
    /// What the caller can do about it.
    pub category: TokenErrorCategory,
    /// Stable reason code, such as `audience-mismatch`.
    pub code: String,
    /// The text that a client may see.
    pub message: String,
    /// The challenge for the client.
    pub challenge: Option<Challenge>,
    /// Time until the same token may be accepted.
    pub retry_after: Option<Duration>,
    /// For the log. A client must not see it.
    pub evidence: Vec<Attribute>,
}

impl TokenError {
    /// The HTTP status of the answer to a client.
    pub fn status(&self) -> u16 {
        match self.category {
            TokenErrorCategory::Malformed | TokenErrorCategory::Untrusted | TokenErrorCategory::NotCurrent => 401,
            TokenErrorCategory::Forbidden => 403,
            TokenErrorCategory::Unavailable => 503,
            TokenErrorCategory::Misconfigured => 500,
        }
    }

    /// Whether the token was refused. Otherwise there is no verdict, and the same token may be accepted later or with
    /// other settings.
    pub fn is_refusal(&self) -> bool {
        self.status() < 500
    }

    /// An item of the evidence that is one text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match attributes::value(&self.evidence, name)? {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Number(_) | AttributeValue::Texts(_) => None,
        }
    }

    /// An item of the evidence that is several texts.
    pub fn texts(&self, name: &str) -> Option<&[String]> {
        match attributes::value(&self.evidence, name)? {
            AttributeValue::Texts(texts) => Some(texts),
            AttributeValue::Number(_) | AttributeValue::Text(_) => None,
        }
    }

    /// An item of the evidence that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match attributes::value(&self.evidence, name)? {
            AttributeValue::Number(number) => Some(*number),
            AttributeValue::Text(_) | AttributeValue::Texts(_) => None,
        }
    }
}

/// For the log: the code only, because evidence may be long.
impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)
    }
}

impl std::error::Error for TokenError {}

impl From<wit::TokenError> for TokenError {
    fn from(error: wit::TokenError) -> Self {
        let wit::TokenError { category, code, message, challenge, retry_after_seconds, evidence } = error;
        Self {
            category,
            code,
            message,
            challenge: challenge.map(|wit::Challenge { error, scopes }| Challenge { error, scopes }),
            retry_after: retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            evidence: attributes::from_wit(evidence),
        }
    }
}
