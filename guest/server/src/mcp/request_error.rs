//! Why a request has no result.

use std::time::Duration;

use base::policy::Name;

use super::envelope::{INTERNAL_ERROR, RpcError};

/// An error for the client, or what the transport has to say in place of one (see `Reply`).
pub(super) enum RequestError {
    Rpc(RpcError),
    SignInAgain,
    StepUp,
    ClaimsChallenge(String),
    InsufficientScope(Vec<Name>),
    TooMany(Duration),
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
