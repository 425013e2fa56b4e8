//! The layer between a tool and its host in a component that `entra-mcp wrap` has made.
//!
//! The tool sees no resource of the host: requests, answers, their fields and bodies, and all streams are the keeper's.
//! There is no other way. The keeper cannot copy a request of the host without the token that its client sent, it
//! cannot add a field to a request that the tool has made, and all parts of a composed component share the host's
//! variables and folders. So the keeper gives the tool the request that the component admits (`bindings`), and sends on
//! what the component permits of an answer ([`answer`], [`pipe`]). It adds the tokens of the caller to requests to
//! permitted destinations ([`destinations`], [`request`]), and keeps them out of the answers ([`scrub`]). It has no
//! variables, folders or connections for the tool.
//!
//! Threat: the tool is malicious. It gets neither the token of a client nor those that its requests carry, and it
//! reaches nothing but the destinations of the operator. An instance serves one request at a time, and the tool cannot
//! use what it holds when its request ends: the present request decides which caller's token a request of the tool
//! carries.
//!
//! It decides nothing about identity. The rules for what may pass are those of the program (`host/boundary`). Everything but
//! the bindings runs natively, in tests.

#[cfg(target_family = "wasm")]
mod bindings;

pub mod answer;
pub mod destinations;
pub mod fields;
pub mod pipe;
pub mod request;
pub mod scrub;
