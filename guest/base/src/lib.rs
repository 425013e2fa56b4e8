//! The words that every other crate of the component speaks: secrets, identities, rules, settings, security events,
//! encodings. Plain data and pure functions. Nothing here does input or output, knows a capability of the world, or
//! names a protocol.

pub mod audit;
pub mod encoding;
pub mod identity;
pub mod policy;
pub mod principal;
pub mod secret;
pub mod settings;
pub mod strict_json;

pub use identity::Identity;
pub use secret::Secret;
