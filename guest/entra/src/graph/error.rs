//! What Microsoft Graph can answer other than what was asked for.

use std::time::Duration;

use serde::Deserialize;
use world::once::{Failure, OnceError};
use world::provided_tools::DelegationError;
use world::{HttpError, StoreError};

use crate::acquire::AcquireError;
use crate::oauth::OAuthError;

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

impl GraphError {
    /// What may be said to the clients of a server ([`AcquireError::public`]): not why the server cannot ask.
    pub fn public(&self) -> String {
        match self {
            Self::Token(error) => error.public(),
            // The wait is known, and tells nothing of the server.
            Self::NoToken(AcquireError::Unavailable(error @ OAuthError::Throttled(_))) => error.public(),
            Self::Unreachable(_) | Self::NoToken(_) | Self::NotAsked(_) => {
                "Microsoft Graph cannot be asked now. Try again later.".to_owned()
            }
            other => other.to_string(),
        }
    }

    /// A stable reason code for the audit record.
    pub fn reason(&self) -> String {
        let reason = match self {
            Self::Token(error) => return error.reason(),
            Self::Throttled { .. } => "graph-throttled",
            Self::Unauthorised(_) => "graph-unauthorised",
            Self::Forbidden(_) => "graph-forbidden",
            Self::NotFound(_) => "graph-not-found",
            Self::Refused { .. } => "graph-refused",
            Self::Unavailable { .. } | Self::NotAsked(_) => "graph-unavailable",
            Self::Unreachable(_) => "graph-unreachable",
            Self::Malformed(_) => "graph-malformed",
            Self::NoToken(_) => "graph-no-token",
            Self::TooMany(_) => DelegationError::TOO_MANY,
            Self::NotConsented { .. } => "graph-not-consented",
        };
        reason.to_owned()
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

#[cfg(test)]
mod tests {
    use world::http_error::NotConnected;

    use super::*;

    #[test]
    fn each_failure_has_a_stable_reason_code() {
        let evidence = Evidence::default;
        let errors: [(GraphError, &str); 13] = [
            (GraphError::Token(StoreError::Contended.into()), "store"),
            (GraphError::Throttled { after: None, evidence: evidence() }, "graph-throttled"),
            (GraphError::Unauthorised(evidence()), "graph-unauthorised"),
            (GraphError::Forbidden(evidence()), "graph-forbidden"),
            (GraphError::NotFound(evidence()), "graph-not-found"),
            (GraphError::Refused { status: 400, evidence: evidence() }, "graph-refused"),
            (GraphError::Unavailable { status: 503, evidence: evidence() }, "graph-unavailable"),
            (GraphError::Unreachable(HttpError::Connect(NotConnected::Refused)), "graph-unreachable"),
            (GraphError::Malformed(evidence()), "graph-malformed"),
            (GraphError::NoToken(StoreError::Contended.into()), "graph-no-token"),
            (GraphError::TooMany(Duration::from_secs(9)), "graph-too-many"),
            (GraphError::NotAsked(Failure::new("another call has failed")), "graph-unavailable"),
            (GraphError::NotConsented { permission: "User.Read", code: 65001 }, "graph-not-consented"),
        ];
        for (error, reason) in errors {
            assert_eq!(error.reason(), reason, "{error:?}");
        }
    }
}
