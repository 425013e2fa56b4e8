//! Protects MCP servers that are not part of the component: which caller may send which request there, with which identity the
//! server behind sees the caller, and which tokens a call may get.
//!
//! Nothing is remembered between the calls of the host: what a later call has to know is in the handle, which is sealed.
//! `admit` is the way of a request, and `fields` says what of its header goes on. `session_id` and `event_ids` have what a client
//! gets in place of the ids of the server behind, and `handed` knows to which caller tasks and states belong. `answered` and
//! `judge` are the way of the answer. `tokens` are what a call may ask APIs with.
//!
//! Threat: the server behind or a client is malicious, and the two may work together. The server sees no token of the client,
//! tells of an identity only what the component says, and its session ids are of use to the caller that they were given to.

mod admit;
mod answered;
pub(crate) mod callers;
mod delegation;
mod event_ids;
mod fields;
mod handed;
pub mod handle;
mod judge;
pub mod local;
mod session_id;
mod tokens;

#[cfg(test)]
mod tests;

pub use admit::admit;
pub use answered::answered;
pub use callers::tool_caller;
pub use handle::handle_invalid;
pub use judge::judge_answer;
pub use tokens::delegated_token;

pub mod identity;

use std::fmt;

use base::Secret;
use entra::graph::GraphChallenge;
use http::{HeaderMap, HeaderName, Response};
use world::provided_tools::{DelegationError, ToolCaller};

use crate::mcp::relay::unjudged;
use crate::message::text;

/// What a host is told that has a handle, and settings of a local server.
const NO_SERVER: &str = "the settings are not those of a remote server";

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
    /// Whether [`judge_answer`] sees messages that may hand something out to the caller. They pass as they are.
    pub note_answer: bool,
    /// Whether an answer that is one message may pass while it is read although messages are judged: no list was asked for.
    pub answer_may_stream: bool,
    /// With what the host tags the ids of events. Empty: with nothing.
    pub event_key: Secret<Vec<u8>>,
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
#[derive(Clone, PartialEq, Eq)]
pub struct AnswerHead {
    /// HTTP status; 0 if there is no answer.
    pub status: u16,
    /// Microseconds since the request was admitted.
    pub latency_us: u64,
    /// `Mcp-Session-Id`.
    pub session_id: Option<String>,
    /// Why a request of the server got no token in the caller's name.
    pub refusal: Option<DelegationError>,
}

/// Session ids are often all it takes to continue a session.
impl fmt::Debug for AnswerHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, latency_us, session_id: _, refusal } = self;
        let mut head = f.debug_struct("AnswerHead");
        head.field("status", status).field("latency_us", latency_us).field("refusal", refusal).finish_non_exhaustive()
    }
}

/// The answer in place of that of a server behind, where this is no server for others.
pub fn answer_of_no_server() -> Response<Vec<u8>> {
    text(503, NO_SERVER)
}

/// The message in place of one of a server behind, where this is no server for others.
pub fn message_of_no_server() -> String {
    unjudged(None, NO_SERVER)
}

/// A claims challenge of an API.
#[derive(Debug, Clone)]
pub struct TokenChallenge {
    /// The refused token.
    pub refused_token: Secret<String>,
    /// JSON; empty if the API named none.
    pub claims: String,
}

impl From<TokenChallenge> for GraphChallenge {
    fn from(from: TokenChallenge) -> Self {
        let TokenChallenge { refused_token, claims } = from;
        Self { refused: refused_token, claims: Some(claims) }
    }
}
