//! The host's side of the contract on WASI alone: composed with the component, it makes `entra_mcp.standard.wasm`, which
//! any host of `wasi:http/incoming-handler` serves.
//!
//! Settings and secrets come from variables ([`settings`]), records are sealed in a folder ([`store`] on [`folder`]),
//! audit records go to standard error ([`audit`]), and bounds count in the instance ([`limiter`]). It denies what takes
//! a host of its own: metadata documents at addresses that clients choose, a person at the machine, tools of other
//! components.
//!
//! It decides nothing about identity. Everything here but the bindings runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod audit;
pub mod folder;
pub mod limiter;
pub mod settings;
pub mod store;
