//! The server's own answer to a request that does not reach the handler.

use std::time::Duration;

use http::StatusCode;

/// Why a request does not reach the handler.
pub(super) struct RequestRefusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    pub(super) retry_after: Option<Duration>,
    /// What is left of the request is not read: the connection is of no more use.
    pub(super) closes: bool,
}

impl RequestRefusal {
    pub(super) fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, retry_after: None, closes: false }
    }

    pub(super) fn later(status: StatusCode, reason: &'static str, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(status, reason) }
    }

    pub(super) fn busy(reason: &'static str) -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, reason, Duration::from_secs(1))
    }

    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}
