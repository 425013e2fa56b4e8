//! A link of the chain of handlers that `wasmcp compose` makes: it answers for the tool `getUserDetails`, and hands every other
//! message on.
//!
//! The caller's token is in the context that wasmcp's transport makes of a request. It is judged here as well ([`profile`]),
//! because a server may be composed without our component `authorization`, and exchanged at Entra ID for one for Microsoft
//! Graph. The handlers behind get the context without the token: they are told who calls, and no more.
//!
//! What is kept between calls of an instance is the keys of the authority and tokens for Graph ([`memory`]).
//!
//! Everything but the bindings runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod memory;
pub mod profile;
pub mod settings;
pub mod tool;
