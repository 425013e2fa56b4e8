//! What a server behind the gate looks like.

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_plugin::gatekeeper::Caller;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;

/// The body of an answer, which streams.
pub type AnswerBody = UnsyncBoxBody<Bytes, BehindError>;

/// Who a request is sent on for.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The caller, as the component says.
    pub caller: Caller,
    /// Names caller, server and request to [`Plugin::delegated_token`](entra_mcp_plugin::Plugin::delegated_token). It must
    /// not leave the process.
    pub handle: String,
}

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
    /// Its answer ended too early.
    #[error("the answer of the server behind broke off: {0}")]
    BrokenOff(String),
}

/// A server behind the gate.
#[async_trait]
pub trait Behind: Send + Sync + 'static {
    /// Sends an admitted request, whose header fields are already those that the component wants. Dropping the future, or
    /// the body of the answer, cancels the request.
    async fn send(&self, request: Request<Bytes>, sender: Sender) -> Result<Response<AnswerBody>, BehindError>;
}
