//! The authorization server that MCP clients talk to: it stands before Entra ID, which knows neither their clients
//! nor their protocol extensions.
//!
//! A client's user consents here, signs in at Entra, and the client gets a session of ours (`session.rs`).

pub mod clients;
pub mod metadata;
pub mod pages;

use http::Response;

use crate::environment::Environment;
use crate::transport::http::message::{Request, text};

/// What can be asked of the authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/authorize` (RFC 6749 section 3.1), and the answer to our consent page.
    Authorize,
    /// `/auth/callback`: where Entra sends the person back to.
    Callback,
    /// `/token` (RFC 6749 section 3.2).
    Token,
    /// `/register` (RFC 7591).
    Register,
    /// `/revoke` (RFC 7009).
    Revoke,
}

/// Answers a request to an endpoint.
pub async fn handle(_env: &Environment, _endpoint: Endpoint, _request: &Request) -> Response<Vec<u8>> {
    text(404, "Not found")
}
