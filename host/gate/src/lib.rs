//! MCP servers behind entra-mcp. A request that the component admits goes on to the server that it is for; the answer
//! streams back. The component decides everything about identity; this crate moves bytes.
//!
//! - [`Gate`](gate::Gate) asks the component, sends the request on, and passes the answer back.
//! - [`Gatekeeper`](gatekeeper::Gatekeeper) is the component, as the gate sees it.
//! - [`Behind`](behind::Behind) is what a server behind looks like; an MCP server over HTTP
//!   ([`HttpUpstream`](http_upstream::HttpUpstream)) and a process per person
//!   ([`ProcessUpstream`](process::ProcessUpstream)) are such servers.
//!
//! Deliberately absent: configuration, a listener, telemetry. They belong to the program.

pub mod behind;
pub mod gate;
pub mod gatekeeper;
pub mod http_upstream;
pub mod process;
