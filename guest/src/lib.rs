//! The entra-mcp component: MCP, OAuth with Microsoft Entra ID, token validation and the tools.
//!
//! This file holds the exports only: it converts WIT types and delegates.

pub mod entra;
pub mod environment;
pub mod secret;
pub mod token;
