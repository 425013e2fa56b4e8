//! What stands in front of a tool in a component that `entra-mcp wrap` has made: `wasi:http/incoming-handler`.
//!
//! It reads a request of a client, has the component decide about it (`gatekeeper.admit`), and calls the tool with what the
//! component lets through ([`request`]). The tool's request and its answer are resources of the keeper (`guest/keeper`), which
//! sends the answer. It decides nothing itself: the component does.
//!
//! What does not depend on a host runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod request;
