//! `entra-mcp stdio`: the MCP server for one client.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::random::SystemRandomness;
use entra_mcp_plugin::token_renewal::keep_tokens_fresh;
use entra_mcp_plugin::transport::stdio::serve;
use tokio::io::{BufReader, stdin, stdout};

use super::{CommandError, EndRequest, notices};
use crate::compiler;
use crate::composition::applications::Application;
use crate::composition::behind::Tools;
use crate::composition::public_client::PersonStore;
use crate::config::Config;
use crate::telemetry::Telemetry;

/// How long the sign-in may take to be given up at the end. Clients do not wait long for a server to end.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[allow(clippy::disallowed_methods, reason = "this is the command whose standard output carries MCP")]
/// Serves until the client closes the connection or the process is asked to end.
pub async fn run(config: &Config) -> Result<(), CommandError> {
    let mut end = EndRequest::listen()?;
    let compiler = compiler::of_component(&config.host.code_cache);
    let tools = Tools::load(config, &Telemetry::default()).await?;
    tools.check_local(config)?;
    let (person, application) = (PersonStore::open(config).await?, Application::of(&config.settings));
    let builder = person.builder(config, &application)?;
    let plugin = Arc::new(tools.provide(builder).compiler(compiler).build()?);
    // A sign-in happens in a call, of which this program sees nothing.
    person.note(&application).await;
    tools.connect(&plugin);
    notices::of_bare_tools(config);
    let (clock, random) = (Arc::new(SystemClock::new()), SystemRandomness::default());
    let fresh = tokio::spawn({
        let (plugin, clock) = (Arc::clone(&plugin), Arc::clone(&clock));
        async move { keep_tokens_fresh(&plugin, &*clock).await }
    });
    let input = BufReader::new(stdin());
    let handler = Arc::clone(&plugin);
    let end = serve(handler, clock, &random, input, stdout(), config.max_message_bytes, end.received()).await;
    // A renewal that is going on is carried on by the next process: its lease ends by itself.
    fresh.abort();
    let end = end?;
    tracing::debug!(?end, "the connection ended");
    // The next client would be shown a page whose answer nothing receives any more.
    match tokio::time::timeout(LAST_WORDS, plugin.give_up_sign_in()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the sign-in was not given up"),
        Err(_) => tracing::debug!("the sign-in was not given up in time"),
    }
    Ok(())
}
