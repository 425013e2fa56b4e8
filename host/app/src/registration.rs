//! The app registration: how Microsoft Graph is asked about it, and what the server needs of it.
//!
//! `setup` makes and repairs it, `doctor` says what is wrong with it. Both find faults by the same comparison
//! (`needs.rs`), so that what one names, the other mends.

pub(crate) mod document;
pub(crate) mod graph;
pub(crate) mod needs;
