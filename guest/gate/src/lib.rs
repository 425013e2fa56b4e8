//! The gate in front of a tool in a component that `entra-mcp wrap` has made: `wasi:http/incoming-handler`.
//!
//! It reads a request of a client, lets the component decide about it (`gatekeeper.admit`), and calls the tool with the
//! admitted request ([`request`]). The tool's request and its answer are resources of the keeper (`guest/keeper`),
//! which sends the answer. It decides nothing itself: the component does.
//!
//! Code that does not depend on a host runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod request;
