//! `entra_mcp.wassette.wasm` in a host that does with it what wassette does.

mod failures;
mod host;
mod session;
