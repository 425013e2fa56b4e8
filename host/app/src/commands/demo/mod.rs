//! `entra-mcp demo`: a real MCP conversation, with everything on this machine.
//!
//! It starts the emulator, runs this same program as an MCP server, and is the server's client: over standard input
//! and output (`stdio.rs`), or over HTTP with the whole of OAuth (`http.rs`). Or it begins with a directory that knows no
//! application, and lets `entra-mcp setup` register one (`setup.rs`). A headless browser is the person. Nothing leaves the
//! loopback interface.

mod http;
mod setup;
mod stdio;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use entra_mcp_emulator::{Emulator, Endpoint};
use entra_mcp_plugin::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::process::Command;

use super::CommandError;
use crate::config::Environment;
use crate::console;

/// The emulator's user that signs in.
const USER: &str = "alice@contoso.example";

/// The revision of MCP that is spoken.
const PROTOCOL: &str = "2026-07-28";

/// How long one step may take. Compiling the component the first time takes a second or two.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Variables that the server inherits; the settings in the others are not meant for the demonstration.
const INHERITED: [&str; 8] =
    ["PATH", "HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "APPDATA", "SYSTEMROOT", "TMPDIR", "TEMP"];

/// What is shown.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Show the remote server: discovery, registration, consent, sign-in, call, refresh, revocation
    #[arg(long)]
    pub http: bool,
    /// Begin without an app registration: setup, then the first call of the local server
    #[arg(long, conflicts_with = "http")]
    pub setup: bool,
}

/// What one step of the demonstration was about, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("the demo failed at \"{step}\": {reason}")]
pub struct DemoError {
    step: &'static str,
    reason: String,
}

/// Runs the demonstration.
pub async fn run(arguments: &DemoArgs, environment: &Environment) -> Result<(), CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let begun = clock.monotonic();
    let mut steps = Steps { clock, number: 0, step: "start", since: begun };
    let played = match arguments {
        DemoArgs { http: true, .. } => http::play(&mut steps, environment).await,
        DemoArgs { setup: true, .. } => setup::play(&mut steps, environment).await,
        DemoArgs { .. } => stdio::play(&mut steps, environment).await,
    };
    played.map_err(|reason| DemoError { step: steps.step, reason })?;
    let total = steps.clock.monotonic().saturating_sub(begun);
    console::result(&format!("\nDone in {} ms, without leaving this machine.", total.as_millis()));
    Ok(())
}

/// Tells the steps of the demonstration, numbered and timed.
struct Steps {
    clock: Arc<dyn Clock>,
    number: u32,
    step: &'static str,
    since: Duration,
}

impl Steps {
    fn begin(&mut self, step: &'static str) {
        self.step = step;
        self.since = self.clock.monotonic();
    }

    /// Says what the step has shown, and how long it took.
    fn done(&mut self, text: &str) {
        let took = self.clock.monotonic().saturating_sub(self.since);
        self.number = self.number.saturating_add(1);
        console::result(&format!("{}. {text} [{} ms]", self.number, took.as_millis()));
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// How often a sign-in page was asked for.
fn sign_ins(emulator: &Emulator) -> u64 {
    emulator.control().request_count(Endpoint::Authorize)
}

/// A request of 2026-07-28, without id.
fn modern(method: &str, mut params: Value) -> Value {
    if let Some(params) = params.as_object_mut() {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": PROTOCOL,
            "io.modelcontextprotocol/clientInfo": { "name": "entra-mcp demo", "version": env!("CARGO_PKG_VERSION") },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        params.insert("_meta".into(), meta);
    }
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// This program, to be run as a server with a configuration file that holds `settings`, and with nothing of the
/// environment that could change them.
fn server_process(
    command: &str,
    settings: &[(&str, &str)],
    folder: &Path,
    environment: &Environment,
) -> Result<Command, String> {
    let config = folder.join("config.toml");
    let lines: Vec<_> =
        settings.iter().map(|(name, value)| format!("{name} = {}", toml::Value::from(*value))).collect();
    std::fs::write(&config, lines.join("\n")).map_err(text)?;
    let mut process = own_process(environment)?;
    process.args([command, "--config"]).arg(&config);
    Ok(process)
}

/// This program, with nothing of the environment that could change its settings, and with a person at the browser.
#[allow(clippy::disallowed_methods, reason = "the demonstration starts this program as its server")]
fn own_process(environment: &Environment) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(text)?;
    let browser = format!("\"{}\" headless-browser --username {USER} %s", program.display());
    let inherited = INHERITED.iter().filter_map(|name| Some((name, environment.get(name)?)));
    let mut process = Command::new(&program);
    process
        .env_clear()
        .envs(inherited)
        .env("BROWSER", browser)
        // The demonstration reports the steps; the server's own log appears between them only if `RUST_LOG` asks.
        .env("RUST_LOG", environment.get("RUST_LOG").unwrap_or_else(|| "warn".to_owned()))
        .stderr(std::process::Stdio::inherit())
        .kill_on_drop(true);
    Ok(process)
}
