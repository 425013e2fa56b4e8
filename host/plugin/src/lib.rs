//! Embeds the entra-mcp component, which secures MCP servers with Microsoft Entra ID, in a Rust program.
//!
//! This crate has the ports through which the component sees the world (secret store, audit sink, credential, clock,
//! randomness, user agent, client channel, rate limiter, client metadata, outbound HTTP), and adapters for them behind
//! features. With the feature `pool`, [`Plugin`] is the component, loaded and ready, and [`PluginBuilder`] configures
//! its capabilities. The host provides bytes, secrets at rest, a browser, limits; the component takes every decision
//! about identity.
//!
//! ```no_run
//! use entra_mcp_plugin::environment::Settings;
//! use entra_mcp_plugin::token_validator::Requirements;
//! use entra_mcp_plugin::{Error, Plugin};
//!
//! # async fn judge(token: &str) -> Result<(), Error> {
//! let id = "00000000-0000-0000-0000-000000000001";
//! let plugin = Plugin::builder(Settings::validator("contoso.example", id, id)).build()?;
//! match plugin.validate_token(token, &Requirements::default()).await {
//!     Ok(principal) => println!("{} of tenant {}", principal.object_id, principal.tenant_id),
//!     Err(Error::Token(refused)) => println!("{} (HTTP status {})", refused.code, refused.status()),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A program with its own wasmtime engine and linker uses [`imports::add_to_linker`] instead.
//!
//! Deliberately absent: a command line, a configuration file, telemetry, a listener. They belong to the program.

#![cfg_attr(not(feature = "pool"), allow(dead_code, reason = "only the pool makes instances"))]

pub mod attributes;
pub mod audit;
pub mod bindings;
pub mod client_channel;
pub mod client_credential;
pub mod client_metadata;
pub mod clock;
#[cfg(feature = "code-cache")]
pub mod code_cache;
mod component;
#[cfg(feature = "pool")]
mod component_call;
#[cfg(feature = "pool")]
mod delegations;
pub mod environment;
pub mod error;
#[cfg(feature = "pool")]
pub mod gatekeeper;
mod guest_output;
#[cfg(feature = "pool")]
mod http_call;
pub mod identity_broker;
pub mod imports;
mod instance;
#[cfg(feature = "pool")]
mod instance_pool;
#[cfg(feature = "credentials")]
pub mod key_vault;
pub mod lifecycle;
mod networks;
pub mod outbound;
#[cfg(feature = "outbound-http")]
pub mod outbound_http;
#[cfg(feature = "pool")]
mod plugin;
#[cfg(any(feature = "code-cache", feature = "redis", feature = "sqlite"))]
mod private_files;
pub mod provided_tools;
pub mod random;
pub mod rate_limiter;
pub mod secret_store;
pub mod sign_in;
mod signatures;
#[cfg(feature = "pool")]
pub mod token_renewal;
pub mod token_validator;
#[cfg(feature = "tools")]
pub mod tool_components;
#[cfg(feature = "pool")]
pub mod transport;
pub mod user_agent;
#[cfg(feature = "pool")]
mod wasi;
mod whole_request;

#[cfg(feature = "portable-component")]
pub use component::PORTABLE_COMPONENT;
pub use component::{BUNDLED_COMPONENT, configure, engine};
pub use error::Error;
#[cfg(feature = "pool")]
pub use http_call::{BrokenOff, HttpBody};
pub use instance::grant;
#[cfg(feature = "pool")]
pub use instance_pool::{DEFAULT_MAX_INSTANCES, PoolStatistics};
#[cfg(feature = "pool")]
pub use plugin::{AccessToken, MessageContext, Plugin, PluginBuilder};
