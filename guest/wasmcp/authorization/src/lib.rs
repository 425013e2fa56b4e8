//! The component `authorization` for `wasmcp compose`, in place of wasmcp's own: clients need an access token of Entra ID for
//! this application.
//!
//! What wasmcp's transport calls is `decode`: it judges a token as the program does that admits tokens of Entra ID, and says
//! what is in it ([`claims`]). Transport (0.1.7) never calls `authorize`, but a component of the chain may: it is handed claims
//! that nothing proves, and judges of them what can be judged without a signature ([`policy`]).
//!
//! It keeps nothing but the keys of the authority. A component that cannot be configured refuses every token.
//!
//! Everything but the bindings runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod claims;
pub mod policy;
pub mod settings;
