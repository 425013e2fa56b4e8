//! Unmodified MCP clients: over stdio with the built binary, as their users' configuration would start it, with a remote
//! server (`remote`), and with unmodified servers of others behind the gate (`behind`).
//!
//! A client's program plays one scenario and prints what it saw (see `tests/clients/typescript/scenarios.mjs`); the
//! assertions are here, on that and on the requests which the emulator counted.

mod behind;
mod bundle;
mod inspector;
mod machine;
mod mcp_client_2;
mod mcp_python;
mod mcp_sdk_1;
mod person;
mod profile;
mod remote;
mod report;
mod scenarios;
