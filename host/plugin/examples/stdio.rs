//! An MCP server on standard input and output that signs its user in. Give it to an MCP client as a command.
//!
//! ```console
//! $ cargo run --example stdio -- <tenant id> <client id>
//! ```

use std::sync::Arc;

use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::random::SystemRandomness;
use entra_mcp_plugin::transport::stdio;
use entra_mcp_plugin::user_agent::{Prompts, SystemBrowser};
use tokio::io::{AsyncBufRead, AsyncWrite, BufReader};

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "standard output carries MCP here")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (tenant, client) = (arguments.next().ok_or("no tenant")?, arguments.next().ok_or("no client")?);
    let browser = SystemBrowser::new(None, true, Prompts::Log);
    let plugin = Plugin::builder(Settings::local(tenant, client)).user_agent(Arc::new(browser)).build()?;
    serve(plugin, BufReader::new(tokio::io::stdin()), tokio::io::stdout()).await
}

/// Speaks MCP until the client closes the input.
pub(crate) async fn serve(
    plugin: Plugin,
    input: impl AsyncBufRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), Box<dyn std::error::Error>> {
    let (clock, random, longest) = (SystemClock::new(), SystemRandomness::default(), stdio::DEFAULT_MAX_MESSAGE_BYTES);
    let stop = std::future::pending();
    stdio::serve(Arc::new(plugin), Arc::new(clock), &random, input, output, longest, stop).await?;
    Ok(())
}
