//! Why a request has no result.

use super::Reply;
use super::envelope::{INTERNAL_ERROR, RpcError};

/// An error for the client, or what the transport has to say in place of one.
pub(super) enum RequestError {
    Rpc(RpcError),
    Transport(Reply),
}

impl From<Reply> for RequestError {
    fn from(reply: Reply) -> Self {
        Self::Transport(reply)
    }
}

impl From<RpcError> for RequestError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

/// Something that no request can be the reason of.
pub(super) fn internal(error: impl std::fmt::Display) -> RpcError {
    RpcError::new(INTERNAL_ERROR, format!("internal error: {error}"))
}
