//! Unmodified MCP clients that know nothing but the address of `entra-mcp serve`: they discover, register, have their
//! person sign in, call, refresh once their token has expired, and stop when it is revoked.
//!
//! As with the clients of the local server, a client's program plays it all and prints what it saw (see
//! `tests/clients/typescript/remote.mjs`); the assertions are here.

mod bridge;
pub(crate) mod conformance;
mod conversation;
mod entra_metadata;
mod entra_tokens;
mod gateway;
mod inspector;
mod mcp_client_2;
mod mcp_python;
mod mcp_sdk_1;
pub(crate) mod office;
mod pages;
mod programs;
