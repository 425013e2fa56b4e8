//! The authorization server that MCP clients talk to: it stands before Entra ID, which knows neither their clients
//! nor their protocol extensions.
//!
//! A client's user consents here, signs in at Entra ID, and the client gets a session of this server (`session.rs`).

mod answers;
pub mod authority_metadata;
mod authorize;
pub mod browser;
mod callback;
pub mod client;
mod client_metadata_document;
pub mod clients;
mod code;
pub mod consent;
#[cfg(test)]
mod faults;
pub mod metadata;
pub mod offer;
pub mod pages;
mod parameters;
pub mod redirect_uri;
pub mod registration;
mod revoke;
#[cfg(test)]
mod testing;
mod text;
mod token;
mod unused;

use http::Response;

use crate::message::Request;
use crate::server_world::ServerWorld;

/// What can be asked of the authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/authorize` (RFC 6749 section 3.1), and the answer to the server's consent page.
    Authorize,
    /// `/auth/callback`: where Entra ID sends the person back to.
    Callback,
    /// `/token` (RFC 6749 section 3.2).
    Token,
    /// `/register` (RFC 7591).
    Register,
    /// `/revoke` (RFC 7009).
    Revoke,
}

/// Answers a request to an endpoint.
pub async fn handle(env: &ServerWorld<'_>, endpoint: Endpoint, request: &Request) -> Response<Vec<u8>> {
    match endpoint {
        Endpoint::Authorize => authorize::handle(env, request).await,
        Endpoint::Callback => callback::handle(env, request).await,
        Endpoint::Token => token::handle(env, request).await,
        Endpoint::Register => registration::handle(env, request).await,
        Endpoint::Revoke => revoke::handle(env, request).await,
    }
}
