//! The services of the component: MCP with its tools, the rules for calling them, the authorization server for clients,
//! and HTTP around it all. It decides and answers. The crates below sign people in, keep sessions and speak to Entra
//! ID; nothing here names a generated type.

pub mod access;
pub mod authorization_server;
pub mod client_documents;
pub mod gatekeeper;
pub mod http;
pub mod local_world;
pub mod mcp;
pub mod message;
pub mod server_world;
pub mod setup;
pub mod site;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tool_lists;
pub mod tools;

pub use local_world::LocalWorld;
pub use server_world::ServerWorld;
