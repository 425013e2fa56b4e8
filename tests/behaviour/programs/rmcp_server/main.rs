//! A server of the Rust SDK, rmcp, on standard input and output: for tests of programs behind the gate.

use rmcp::ServiceExt as _;
use rmcp::transport::stdio;

mod server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    server::Server::default().serve(stdio()).await?.waiting().await?;
    Ok(())
}
