//! Runs the entra-mcp component: the library behind the `entra-mcp` program, for embedding in other programs.
//!
//! [`Plugin`] is the component, loaded and ready; [`PluginBuilder`] says what it is given of the world. The host
//! provides bytes, secrets at rest, a browser, limits; the component takes every decision about identity.

pub mod attributes;
pub mod audit;
pub mod bindings;
pub mod client_channel;
pub mod client_credential;
pub mod client_metadata;
pub mod clock;
pub mod code_cache;
pub mod commands;
pub mod config;
mod console;
pub mod environment;
pub mod error;
mod guest_output;
mod http_call;
mod instance;
mod instance_pool;
pub mod logging;
mod open_files;
pub mod outbound_http;
mod plugin;
mod private_files;
pub mod random;
pub mod rate_limiter;
pub mod secret_store;
pub mod service_manager;
pub mod sign_in;
pub mod telemetry;
pub mod token_validator;
pub mod transport;
pub mod user_agent;

pub use http_call::{BrokenOff, HttpBody};
pub use instance::grant;
pub use instance_pool::PoolStatistics;
pub use plugin::{AccessToken, BUNDLED_COMPONENT, Caller, Plugin, PluginBuilder};

/// Gives what was written to standard error a moment to get there, before the program ends.
pub fn flush_log() {
    console::flush();
}

/// Tells the person why the program ends.
pub fn report_error(error: &dyn std::error::Error) {
    console::notice(&format!("entra-mcp: {error}"));
}
