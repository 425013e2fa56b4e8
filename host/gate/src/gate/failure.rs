//! Answers of the gate itself. They tell a client no more than necessary; the log has the rest under the correlation id.

use entra_mcp_plugin::Error;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::Body;
use crate::behind::BehindError;

/// Seconds after which a client may repeat a request that found no place.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The answer where the component has failed.
pub(super) fn of_component(error: &Error, correlation_id: &str) -> Response<Body> {
    let correlation_id = error.correlation_id().unwrap_or(correlation_id);
    match error {
        Error::Busy { .. } => later("the server is busy, try again in a moment", correlation_id),
        _ => plain_text(StatusCode::INTERNAL_SERVER_ERROR, "internal error", correlation_id),
    }
}

/// The answer where the server behind has failed.
pub(super) fn of_server(error: &BehindError, correlation_id: &str) -> Response<Body> {
    match error {
        BehindError::Busy(_) => later("the server is busy, try again in a moment", correlation_id),
        BehindError::TimedOut => {
            plain_text(StatusCode::GATEWAY_TIMEOUT, "the MCP server did not answer in time", correlation_id)
        }
        BehindError::Unreachable(_) => {
            plain_text(StatusCode::BAD_GATEWAY, "the MCP server cannot be reached", correlation_id)
        }
        BehindError::NoToken(_) | BehindError::Malformed(_) | BehindError::BrokenOff(_) => {
            plain_text(StatusCode::BAD_GATEWAY, "the MCP server gave no usable answer", correlation_id)
        }
    }
}

fn later(reason: &str, correlation_id: &str) -> Response<Body> {
    let mut response = plain_text(StatusCode::SERVICE_UNAVAILABLE, reason, correlation_id);
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    response
}

/// A text for people.
pub(super) fn plain_text(status: StatusCode, reason: &str, correlation_id: &str) -> Response<Body> {
    let text = format!("{reason} (correlation id {correlation_id})\n");
    let mut response = Response::new(Body::free(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
