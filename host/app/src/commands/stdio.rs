//! `entra-mcp stdio`: the MCP server for one client.

use std::sync::Arc;

use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::random::SystemRandomness;
use entra_mcp_plugin::transport::stdio::serve;
use tokio::io::{BufReader, stdin, stdout};

use super::{CommandError, EndRequest, compile};
use crate::composition::public_client;
use crate::config::Config;

#[allow(clippy::disallowed_methods, reason = "this is the command whose standard output carries MCP")]
/// Serves until the client closes the connection or the process is asked to end.
pub async fn run(config: &Config) -> Result<(), CommandError> {
    let mut end = EndRequest::listen()?;
    let compiler = compile::command(&config.host.code_cache);
    let plugin = Arc::new(public_client::builder(config)?.compiler(compiler).build()?);
    let (clock, random) = (Arc::new(SystemClock::new()), SystemRandomness::default());
    let input = BufReader::new(stdin());
    let end = serve(plugin, clock, &random, input, stdout(), config.max_message_bytes, end.received()).await?;
    tracing::debug!(?end, "the connection ended");
    Ok(())
}
