//! The entra-mcp component: MCP, OAuth with Microsoft Entra ID, token validation and the tools.
//!
//! This file holds the exports only: it converts WIT types and delegates.

pub mod environment;
pub mod secret;
#[cfg(target_family = "wasm")]
mod bindings;
