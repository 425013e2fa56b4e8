//! The tool components of `tests/tools`, which the build script of this package has built.

use std::path::PathBuf;

/// Reads Graph as its caller.
pub(crate) const MAIL: &str = "mail";
/// Tries what the host has to deny, one tool for each attack.
pub(crate) const HOSTILE: &str = "hostile";
/// Tries sockets.
pub(crate) const SOCKETS: &str = "sockets";
/// A whole MCP server behind `wasi:http/incoming-handler`.
pub(crate) const HTTP_SERVER: &str = "http_server";
/// The same, and tries what a component made by `entra-mcp wrap` has to deny.
pub(crate) const WRAPPED_SERVER: &str = "wrapped_server";

/// The same behind `wasi:http/handler` of WASI 0.3.
pub(crate) const HTTP_SERVICE: &str = "http_service";

/// The file of a component.
pub(crate) fn file(name: &str) -> PathBuf {
    let file = PathBuf::from(env!("ENTRA_MCP_TEST_TOOLS")).join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing: it is built with the tests", file.display());
    file
}
