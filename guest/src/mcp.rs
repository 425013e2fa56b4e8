//! The Model Context Protocol, server side.
//!
//! Two eras are served on the same connection: the revisions that start with `initialize` (2024-11-05 to
//! 2025-11-25), and 2026-07-28, in which every request carries what is needed to answer it.

mod dispatch;
mod envelope;
mod person;
mod request_state;
mod version;

#[cfg(test)]
mod tests;

pub use dispatch::handle;

/// Where a message comes from.
#[derive(Debug, Clone)]
pub struct Caller {
    /// `stdio`, or the name of another local transport.
    pub transport: String,
    /// Names the call in logs and audit records.
    pub correlation_id: String,
}
