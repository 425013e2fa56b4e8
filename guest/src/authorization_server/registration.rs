//! Dynamic client registration (RFC 7591).

use http::Response;

use crate::environment::Environment;
use crate::transport::http::message::{Request, text};

/// Answers a request to `/register`.
pub async fn handle(_env: &Environment, _request: &Request) -> Response<Vec<u8>> {
    text(404, "Not found")
}
