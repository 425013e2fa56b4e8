//! The token validator as a component of its own, in hosts that are not this project's: what it imports, and that its
//! verdicts are the same everywhere.

mod artefacts;
mod authorities;
pub(crate) mod corpus;
mod hosts;
#[cfg(unix)]
mod languages;

use std::path::PathBuf;

/// With an import of `wasi:http`.
const WITH_HTTP: &str = "entra_mcp.validator.wasm";
/// Without.
const WITH_KEYS: &str = "entra_mcp.validator-keys.wasm";

/// The file of an artefact, which the build script of this package has built.
fn artefact(name: &str) -> PathBuf {
    let file = PathBuf::from(env!("ENTRA_MCP_VALIDATORS")).join(name);
    assert!(file.is_file(), "{} is missing: it is built with the tests", file.display());
    file
}
