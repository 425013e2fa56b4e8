//! Protects MCP servers that are not part of the component: who may send which request there, with which identity the
//! server behind sees the caller, and which tokens a call may get.
//!
//! Nothing is remembered between the calls of the host: what a later call has to know is sealed in the handle.

pub mod identity;

use base::Secret;
use http::{HeaderMap, HeaderName, Response};
use world::provided_tools::{DelegationError, DelegationErrorCategory, ToolCaller};

use crate::message::Request;
use crate::server_world::ServerWorld;

/// How an admitted request goes on.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The server.
    pub server: String,
    /// The caller.
    pub caller: ToolCaller,
    /// Names caller, server and request to the other functions.
    pub handle: Secret<String>,
    /// Fields to set.
    pub set_headers: HeaderMap,
    /// Fields to remove.
    pub drop_headers: Vec<HeaderName>,
    /// Whether messages of the answer go through [`judge_answer`].
    pub judge_answer: bool,
    /// Whether [`answered`] is called.
    pub report_answer: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Admission {
    /// This is the answer.
    Answer(Response<Vec<u8>>),
    /// It goes on.
    Forward(Box<Grant>),
    /// The component serves the path itself.
    OwnPath,
}

/// The head of the answer of a server behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    /// HTTP status; 0 if there is no answer.
    pub status: u16,
    /// Microseconds since the request was admitted.
    pub latency_us: u64,
    /// `Mcp-Session-Id`.
    pub session_id: Option<String>,
}

/// A claims challenge of an API.
#[derive(Debug, Clone)]
pub struct TokenChallenge {
    /// The refused token.
    pub refused_token: Secret<String>,
    /// JSON; empty if the API named none.
    pub claims: String,
}

/// Decides about a request.
pub async fn admit(_env: &ServerWorld<'_>, _request: Request) -> Admission {
    Admission::OwnPath
}

/// Records the call, and says which header fields to set on the answer.
pub async fn answered(
    _env: &ServerWorld<'_>,
    _handle: &str,
    _head: &AnswerHead,
) -> Result<HeaderMap, Response<Vec<u8>>> {
    Ok(HeaderMap::new())
}

/// Takes out of a message what the caller may not see.
pub async fn judge_answer(_env: &ServerWorld<'_>, _handle: &str, message: String) -> String {
    message
}

/// An access token in the name of the handle's caller.
pub async fn delegated_token(
    _env: &ServerWorld<'_>,
    _handle: &str,
    _permissions: &[String],
    _challenge: Option<&TokenChallenge>,
) -> Result<Secret<String>, DelegationError> {
    Err(handle_invalid())
}

/// The answer to a handle that this server has not sealed, or not lately.
pub fn handle_invalid() -> DelegationError {
    DelegationError {
        category: DelegationErrorCategory::HandleInvalid,
        code: "handle-invalid".to_owned(),
        message: "The handle of the call is not valid any more".to_owned(),
        claims: None,
        retry_after: None,
    }
}
