//! Metadata documents: of the protected resource (RFC 9728) and of the authorization server (RFC 8414).

use serde_json::{Value, json};

use crate::environment::HttpSettings;

/// The path of the MCP endpoint.
pub const MCP_PATH: &str = "/mcp";
/// The path of the event stream of HTTP+SSE.
pub const SSE_PATH: &str = "/sse";
/// The scope of a session, in the short form.
pub const SCOPE: &str = "User.Read";

/// The URL of the MCP endpoint, which is the resource identifier (RFC 8707) of the server.
pub fn resource(settings: &HttpSettings, path: &str) -> String {
    format!("{}{path}", settings.public_url)
}

/// Metadata of the resource at `path` (RFC 9728); an empty path is the server as a whole.
pub fn protected_resource(_settings: &HttpSettings, _path: &str) -> Value {
    json!({})
}

/// Metadata of the authorization server (RFC 8414).
pub fn authorization_server(_settings: &HttpSettings) -> Value {
    json!({})
}

/// The URL of the metadata of the resource at `path` (RFC 9728 section 3.1), for `resource_metadata` in challenges.
pub fn resource_metadata_url(_settings: &HttpSettings, _path: &str) -> String {
    String::new()
}

/// The path on the host at which the metadata of the resource at `path` is found: the well-known name stands before
/// the path prefix of the public URL, so compare it with the path of a request before the prefix is taken off.
pub fn resource_metadata_path(_settings: &HttpSettings, _path: &str) -> String {
    String::new()
}

/// The same for the metadata of the authorization server (RFC 8414 section 3.1).
pub fn authorization_server_metadata_path(_settings: &HttpSettings) -> String {
    String::new()
}
