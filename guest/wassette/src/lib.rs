//! Tools for hosts that make a tool of each function that a component exports, as wassette does.
//!
//! A function speaks MCP to the component, as a client would: [`conversation`] has the messages. Such a host makes an
//! instance for each call. So the state of a sign-in that waits for the person stays in the store between calls.
//!
//! It decides nothing: the component does. The messages run natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod conversation;
