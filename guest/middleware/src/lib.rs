//! Middleware of `wasi:http` 0.3: a component that imports and exports `wasi:http/handler`, which hosts and `wac plug` put in
//! front of another one.
//!
//! Every request needs an access token of Entra ID. The component behind never sees it: the header fields of Azure App
//! Service ("Easy Auth", [`identity`]) name the caller to it, and the middleware removes the same fields from outside
//! ([`request`]). It tells a client without a token where to get one (RFC 9728, [`answers`]). There is no store and no
//! session: for those, wrap the component (`entra-mcp wrap`).
//!
//! Threat: hosts give one instance several requests at once. Only the future of a request keeps what belongs to it. All
//! requests share the keys of the authority, behind a lock, so the middleware judges one request at a time. Admitted
//! requests and their answers stream side by side, and the middleware does not read them.
//!
//! Everything but the bindings runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod answers;
pub mod identity;
pub mod request;
pub mod settings;
