//! `entra_mcp.standard.wasm`: the component with its adapter, in hosts that know WASI and nothing of this program.

mod composition;
mod concurrency;
mod failures;
pub(crate) mod host;
pub(crate) mod jco;
mod session;
mod settings;
