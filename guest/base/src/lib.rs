//! The words that every other crate of the component speaks: secrets, identities, rules, settings, security events,
//! encodings. Plain data and pure functions. Nothing here does input or output, knows a capability of the world, or
//! makes or reads a message of a protocol: Microsoft Entra ID, Graph and MCP are in texts for people only.

pub mod audit;
pub mod bearer_settings;
pub mod decision;
pub mod encoding;
pub mod identity;
pub mod policy;
pub mod principal;
pub mod secret;
pub mod settings;
pub mod settings_document;
pub mod strict_json;

pub use identity::Identity;
pub use secret::Secret;
