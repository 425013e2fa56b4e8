//! Runs the entra-mcp component: the library behind the `entra-mcp` program, for embedding in other programs.
//!
//! [`Plugin`] is the component, loaded and ready; [`PluginBuilder`] says what it is given of the world. The host
//! provides bytes, secrets at rest, a browser, limits; the component takes every decision about identity.

pub mod audit;
pub mod bindings;
pub mod client_channel;
pub mod client_credential;
pub mod clock;
pub mod code_cache;
mod console;
pub mod environment;
pub mod error;
mod guest_output;
mod instance;
mod instance_pool;
pub mod outbound_http;
mod plugin;
mod private_files;
pub mod random;
pub mod secret_store;
pub mod transport;
pub mod user_agent;

pub use plugin::{Caller, Plugin, PluginBuilder};
