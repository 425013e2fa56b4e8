//! What Microsoft Graph can answer other than what was asked for.

use std::time::Duration;

use serde::Deserialize;
use world::once::{Failure, OnceError};
use world::{HttpError, StoreError};

use crate::acquire::AcquireError;

/// The longest error code and request id that are repeated to a client.
const MAX_EVIDENCE: usize = 128;

/// A failed request to Graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError<E: std::error::Error + 'static = AcquireError> {
    /// 429, still after the retries. Graph asked to wait this long, if it said so.
    #[error("Microsoft Graph limits the number of requests now{}{}", wait(.after), .evidence)]
    Throttled {
        /// `Retry-After`.
        after: Option<Duration>,
        /// Code and request id.
        evidence: Evidence,
    },
    /// 401, still with a new token.
    #[error("Microsoft Graph did not accept the token: sign out, and sign in again{0}")]
    Unauthorised(Evidence),
    /// 403.
    #[error("Microsoft Graph does not allow this: the application or the user lacks a permission{0}")]
    Forbidden(Evidence),
    /// 404.
    #[error("Microsoft Graph does not know this object{0}")]
    NotFound(Evidence),
    /// Any other refusal.
    #[error("Microsoft Graph refused the request with HTTP status {status}{evidence}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code and request id.
        evidence: Evidence,
    },
    /// A server error, still after the retries.
    #[error("Microsoft Graph is not available now (HTTP status {status}): try again later{evidence}")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// Code and request id.
        evidence: Evidence,
    },
    /// No answer, still after the retries.
    #[error("Microsoft Graph cannot be reached: {0}")]
    Unreachable(HttpError),
    /// An answer that is not what Graph documents.
    #[error("Microsoft Graph answered with something that is not JSON of the documented form{0}")]
    Malformed(Evidence),
    /// There is no token of the caller to ask with.
    #[error(transparent)]
    Token(#[from] E),
    /// No user or administrator with the right to consent has consented to a permission that the request needs.
    #[error(
        "the application has no consent to the permission {permission} of Microsoft Graph: ask an administrator to grant \
         it{}", aadsts(*.code)
    )]
    NotConsented {
        /// The delegated permission, in the short form.
        permission: &'static str,
        /// The AADSTS number; 0 if there is none.
        code: u32,
    },
    /// There is no token of the application to ask with.
    #[error("there is no token to ask Microsoft Graph with: {0}")]
    NoToken(AcquireError),
    /// The caller has asked for too much. Time after which to try again.
    #[error("too many requests to Microsoft Graph in a short time: try again in {} seconds", .0.as_secs().max(1))]
    TooMany(Duration),
    /// This call has not asked. Most often another one has, and failed like this.
    #[error("{}", .0.reason)]
    NotAsked(Failure),
}

impl<E: std::error::Error + 'static> GraphError<E> {
    /// Why there is no token, if that is the error; else the same error for another kind of tokens.
    pub fn into_token<F: std::error::Error + 'static>(self) -> Result<E, GraphError<F>> {
        Err(match self {
            Self::Token(error) => return Ok(error),
            Self::Throttled { after, evidence } => GraphError::Throttled { after, evidence },
            Self::Unauthorised(evidence) => GraphError::Unauthorised(evidence),
            Self::Forbidden(evidence) => GraphError::Forbidden(evidence),
            Self::NotFound(evidence) => GraphError::NotFound(evidence),
            Self::Refused { status, evidence } => GraphError::Refused { status, evidence },
            Self::Unavailable { status, evidence } => GraphError::Unavailable { status, evidence },
            Self::Unreachable(error) => GraphError::Unreachable(error),
            Self::Malformed(evidence) => GraphError::Malformed(evidence),
            Self::NotConsented { permission, code } => GraphError::NotConsented { permission, code },
            Self::NoToken(error) => GraphError::NoToken(error),
            Self::TooMany(after) => GraphError::TooMany(after),
            Self::NotAsked(failure) => GraphError::NotAsked(failure),
        })
    }
}

impl From<StoreError> for GraphError {
    fn from(error: StoreError) -> Self {
        Self::Token(error.into())
    }
}

impl From<Failure> for GraphError {
    fn from(failure: Failure) -> Self {
        if failure.unrecorded { Self::NoToken(failure.into()) } else { Self::NotAsked(failure) }
    }
}

/// The calls that wait hear of every failure but those of the store, and of the pause that Graph or Entra ID asks for.
impl OnceError for GraphError {
    fn failure(&self, now: u64) -> Option<Failure> {
        let reason = self.to_string();
        match self {
            Self::Throttled { after, .. } => {
                let retry_at = after.map(|after| now.saturating_add(after.as_secs()));
                Some(Failure { retry_at, ..Failure::new(reason) })
            }
            Self::Token(error) | Self::NoToken(error) => {
                error.failure(now).map(|failure| Failure { reason, ..failure })
            }
            Self::NotAsked(failure) => Some(failure.clone()),
            _ => Some(Failure::new(reason)),
        }
    }
}

/// What a support case needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Graph's error code, such as `Authorization_RequestDenied`.
    pub code: Option<String>,
    /// Graph's request id.
    pub request_id: Option<String>,
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.code, &self.request_id) {
            (Some(code), Some(id)) => write!(f, " (code {code}, request id {id})"),
            (Some(code), None) => write!(f, " (code {code})"),
            (None, Some(id)) => write!(f, " (request id {id})"),
            (None, None) => Ok(()),
        }
    }
}

fn wait(after: &Option<Duration>) -> String {
    match after {
        Some(after) => format!(": try again in {} seconds", after.as_secs()),
        None => ": try again later".to_owned(),
    }
}

fn aadsts(code: u32) -> String {
    if code == 0 { String::new() } else { format!(" (AADSTS{code})") }
}

impl Evidence {
    /// Reads Graph's error body (`error.code`, `error.innerError.request-id`) and the `request-id` header.
    pub(super) fn of(response: &http::Response<Vec<u8>>) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: Error,
        }
        #[derive(Deserialize)]
        struct Error {
            code: Option<String>,
            #[serde(rename = "innerError", alias = "innererror")]
            inner: Option<Inner>,
        }
        #[derive(Deserialize)]
        struct Inner {
            #[serde(rename = "request-id")]
            request_id: Option<String>,
        }
        let header = response.headers().get("request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body: Option<Body> = serde_json::from_slice(response.body()).ok();
        let (code, inner) = body.map_or((None, None), |body| (body.error.code, body.error.inner));
        Self {
            code: code.and_then(plain),
            request_id: inner.and_then(|inner| inner.request_id).or(header).and_then(plain),
        }
    }
}

/// Evidence comes from outside and goes to a language model: only what looks like a code or an id passes.
fn plain(text: String) -> Option<String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!text.is_empty() && text.len() <= MAX_EVIDENCE && text.chars().all(harmless)).then_some(text)
}
