//! The host's side of the contract on WASI alone.

pub mod folder;
pub mod store;
