//! What a server behind the gate looks like.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_plugin::gatekeeper::{Caller, DelegationError};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use zeroize::Zeroizing;

/// The body of an answer, which streams.
pub type AnswerBody = UnsyncBoxBody<Bytes, BehindError>;

/// The usual time from a request to the head of its answer: some tools compute for long, and clients of MCP give up after
/// a minute.
pub const TIME_TO_ANSWER: Duration = Duration::from_secs(60);

/// The caller that a request is sent on for. The handle is redacted in `Debug`.
#[derive(Clone)]
pub struct Sender {
    /// The caller, as the component says.
    pub caller: Caller,
    /// Names caller, server and request to [`Plugin::delegated_token`](entra_mcp_plugin::Plugin::delegated_token). It must
    /// not leave the process: it can hold the client's token.
    pub handle: Zeroizing<String>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, handle: _ } = self;
        f.debug_struct("Sender").field("caller", caller).finish_non_exhaustive()
    }
}

/// Why a request of the server behind got no token in its caller's name. A [`Behind`] that knows it adds it to the extensions
/// of its answer; the component then decides whether the client has to bring something.
#[derive(Debug, Clone)]
pub struct NoDelegatedToken(pub DelegationError);

impl fmt::Display for NoDelegatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}): {}", self.0.code, self.0.message)
    }
}

impl PartialEq for NoDelegatedToken {
    fn eq(&self, other: &Self) -> bool {
        let parts = |Self(error): &Self| {
            let DelegationError { category, code, message, claims, retry_after_seconds } = error.clone();
            (category, code, message, claims, retry_after_seconds)
        };
        parts(self) == parts(other)
    }
}

impl Eq for NoDelegatedToken {}

/// Why a server behind has not answered, or not to the end. The texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BehindError {
    /// It cannot be reached, or could not be started.
    #[error("the server behind cannot be reached: {0}")]
    Unreachable(String),
    /// It did not begin to answer in time.
    #[error("the server behind did not answer in time")]
    TimedOut,
    /// It has no place for another request or caller now.
    #[error("the server behind has no place: {0}")]
    Busy(String),
    /// Its answer is no answer, or breaks a bound.
    #[error("the server behind answered what cannot be passed on: {0}")]
    Malformed(String),
    /// It did not answer without the token that a request of it did not get.
    #[error("the server behind got no token {0}")]
    NoToken(NoDelegatedToken),
    /// Its answer ended too early.
    #[error("the answer of the server behind broke off: {0}")]
    BrokenOff(String),
}

/// A server behind the gate.
#[async_trait]
pub trait Behind: Send + Sync + 'static {
    /// Sends an admitted request, whose header fields are already those that the component wants: no `Host`, no
    /// `Content-Length`. Its URI is the client's path, without a query. Dropping the future, or the body of the answer,
    /// cancels the request. The body fails if the server behind stops sending.
    async fn send(&self, request: Request<Bytes>, sender: Sender) -> Result<Response<AnswerBody>, BehindError>;

    /// Requests, besides event streams (GET), that it takes at the same time. `None`: one caller cannot keep others out.
    fn requests_at_once(&self) -> Option<usize> {
        None
    }

    /// Time from the request to the head of its answer. The gate keeps it, and drops the future after it.
    fn time_to_answer(&self) -> Duration {
        TIME_TO_ANSWER
    }
}
