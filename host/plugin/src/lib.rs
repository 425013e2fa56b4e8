//! Embeds the entra-mcp component, which secures MCP servers with Microsoft Entra ID, in a Rust program.
//!
//! This crate has the ports through which the component sees the world (secret store, audit sink, credential, clock,
//! randomness, user agent, client channel, rate limiter, client metadata, outbound HTTP), and adapters for them behind
//! features. With the feature `pool`, [`Plugin`] is the component, loaded and ready, and [`PluginBuilder`] configures
//! its capabilities. The host provides bytes, secrets at rest, a browser, limits; the component takes every decision
//! about identity.
//!
//! An MCP server on standard input and output. It signs the person at this machine in, through the browser, when a tool
//! needs it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use entra_mcp_plugin::Plugin;
//! use entra_mcp_plugin::clock::SystemClock;
//! use entra_mcp_plugin::environment::Settings;
//! use entra_mcp_plugin::random::SystemRandomness;
//! use entra_mcp_plugin::transport::stdio::{DEFAULT_MAX_MESSAGE_BYTES, serve};
//! use entra_mcp_plugin::user_agent::{Prompts, SystemBrowser};
//! use tokio::io::{BufReader, stdin, stdout};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::local("organizations", "00000000-0000-0000-0000-000000000001");
//! let browser = SystemBrowser::new(None, true, Prompts::Log);
//! let plugin = Plugin::builder(settings).user_agent(Arc::new(browser)).build()?;
//! let (clock, random) = (SystemClock::new(), SystemRandomness::default());
//! let (input, output, stop) = (BufReader::new(stdin()), stdout(), std::future::pending());
//! # // A client that sends one message and leaves.
//! # let ping = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
//! # let (input, (output, mut client)) = (&ping[..], tokio::io::duplex(1024));
//! serve(Arc::new(plugin), Arc::new(clock), &random, input, output, DEFAULT_MAX_MESSAGE_BYTES, stop).await?;
//! # let mut said = String::new();
//! # tokio::io::AsyncReadExt::read_to_string(&mut client, &mut said).await?;
//! # assert!(said.contains(r#""result":{}"#), "{said}");
//! # Ok(())
//! # }
//! ```
//!
//! A remote MCP server behind axum, at which clients sign their users in:
//!
//! ```
//! use std::sync::Arc;
//!
//! use axum::Router;
//! use axum::body::{Body, to_bytes};
//! use axum::extract::Request;
//! use axum::http::StatusCode;
//! use axum::response::IntoResponse as _;
//! use entra_mcp_plugin::Plugin;
//! use entra_mcp_plugin::client_credential::ClientSecret;
//! use entra_mcp_plugin::environment::Settings;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = "00000000-0000-0000-0000-000000000001";
//! let settings = Settings::remote("contoso.example", id, "http://localhost:3001")?;
//! let secret = ClientSecret::File("/run/secrets/entra-mcp".into());
//! let plugin = Arc::new(Plugin::builder(settings).client_credential(Arc::new(secret)).build()?);
//! let component = move |request: Request| async move {
//!     let (head, body) = request.into_parts();
//!     match to_bytes(body, 4 * 1024 * 1024).await {
//!         Ok(body) => plugin.handle_http(Request::from_parts(head, body)).await.map(Body::new),
//!         Err(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
//!     }
//! };
//! let router = Router::new().fallback(component);
//! # // A client looks for the place where it gets tokens.
//! # let asked = axum::http::Request::get("/.well-known/oauth-protected-resource/mcp");
//! # let asked = asked.header("host", "localhost:3001").body(Body::empty())?;
//! # let answer = tower_service::Service::call(&mut router.clone(), asked).await?;
//! # assert_eq!(answer.status(), StatusCode::OK);
//! # if false {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3001").await?;
//! axum::serve(listener, router).await?;
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! A judge of access tokens:
//!
//! ```
//! use entra_mcp_plugin::environment::Settings;
//! use entra_mcp_plugin::token_validator::Requirements;
//! use entra_mcp_plugin::{Error, Plugin};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Error> {
//! # let token = "no token";
//! let id = "00000000-0000-0000-0000-000000000001";
//! let plugin = Plugin::builder(Settings::validator("contoso.example", id, id)).build()?;
//! match plugin.validate_token(token, &Requirements::default()).await {
//!     Ok(principal) => println!("{} of tenant {}", principal.object_id, principal.tenant_id),
//!     Err(Error::Token(refused)) => println!("{} (HTTP status {})", refused.code, refused.status()),
//!     Err(error) => return Err(error),
//! }
//! # let refused = plugin.validate_token(token, &Requirements::default()).await;
//! # assert!(matches!(refused, Err(Error::Token(refused)) if refused.status() == 401));
//! # Ok(())
//! # }
//! ```
//!
//! A program with its own wasmtime engine and linker uses [`imports::add_to_linker`] instead.
//!
//! Deliberately absent: a command line, a configuration file, telemetry, a listener. They belong to the program.

#![cfg_attr(not(feature = "pool"), allow(dead_code, reason = "only the pool makes instances"))]

#[cfg(windows)]
pub mod access_list;
#[cfg(all(test, not(windows)))]
mod access_list;
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
mod wasi;
#[cfg(feature = "pool")]
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
