//! Middleware of `wasi:http` 0.3: a component that imports and exports `wasi:http/handler`, which hosts and `wac plug` put in
//! front of another one.
//!
//! Every request needs an access token of Entra ID. The component behind never sees it: the header fields of Azure App Service
//! ("Easy Auth", [`identity`]) name the caller to it, and the same fields from outside are removed ([`request`]). A client
//! without a token is told where to get one (RFC 9728, [`answers`]). There is no store and no session: for those, wrap the
//! component (`entra-mcp wrap`).
//!
//! Threat: hosts give one instance several requests at once. Nothing that belongs to one request is kept anywhere but in its
//! own future; what all of them share, the keys of the authority, is behind a lock, so that one request at a time is judged.
//! Requests and answers that are admitted stream past each other, and are not read.
//!
//! Everything but the bindings runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod answers;
pub mod identity;
pub mod request;
pub mod settings;
