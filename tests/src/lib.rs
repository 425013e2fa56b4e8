//! What the tests share: the Entra ID and Microsoft Graph emulator, and a headless browser that signs in at it.
//!
//! The product binary uses both, for `entra-mcp emulator` and `entra-mcp demo`; so nothing here panics or prints.

pub mod emulator;
pub mod user_agent;
