//! The protocol of Microsoft Entra ID and Microsoft Graph: clouds, tenants and issuers, the grants, token validation,
//! requests to Graph. Nothing here knows MCP, sessions, pages or the person at this machine: a function returns the
//! answer of Entra ID or Graph, and the crates above decide what to do about it.

pub mod acquire;
pub mod check;
pub mod clock_offset;
pub mod clouds;
pub mod entra_world;
pub mod error_codes;
pub mod graph;
pub mod issuers;
pub mod oauth;
pub mod tenants;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;

pub use acquire::AcquireError;
pub use entra_world::EntraWorld;
