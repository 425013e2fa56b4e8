//! `entra-mcp demo`: a real MCP conversation, with everything on this machine.
//!
//! It starts the emulator, runs this same program as an MCP server over standard input and output, and is the
//! server's client. A headless user agent signs the emulator's user in, through the same `BROWSER` that a person's
//! browser would be started by. Nothing leaves the loopback interface.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use entra_mcp_tests::emulator::{Builder, Emulator, Endpoint};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::CommandError;
use crate::clock::{Clock, SystemClock};
use crate::config::Environment;
use crate::console;

/// The emulator's user who signs in.
const USER: &str = "alice@contoso.example";

/// The tool that is called.
const TOOL: &str = "GetUserDetailsFromGraph";

/// The revision of MCP that is spoken.
const PROTOCOL: &str = "2026-07-28";

/// How long one step may take. Compiling the component the first time takes a second or two.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Variables that the server inherits; the settings in the others are not meant for the demonstration.
const INHERITED: [&str; 9] =
    ["PATH", "HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "APPDATA", "SYSTEMROOT", "TMPDIR", "TEMP", "RUST_LOG"];

/// What one step of the demonstration was about, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("the demo failed at \"{step}\": {reason}")]
pub struct DemoError {
    step: &'static str,
    reason: String,
}

/// Runs the demonstration.
pub async fn run(environment: &Environment) -> Result<(), CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut demo = Demo { clock, number: 0, step: "start", since: Duration::ZERO };
    demo.since = demo.clock.monotonic();
    let begun = demo.since;
    demo.play(environment).await.map_err(|reason| DemoError { step: demo.step, reason })?;
    let total = demo.clock.monotonic().saturating_sub(begun);
    console::result(&format!("\nDone in {} ms, without leaving this machine.", total.as_millis()));
    Ok(())
}

struct Demo {
    clock: Arc<dyn Clock>,
    number: u32,
    step: &'static str,
    since: Duration,
}

impl Demo {
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

    async fn play(&mut self, environment: &Environment) -> Result<(), String> {
        self.begin("start the emulator");
        let emulator = Builder::new().start().await.map_err(text)?;
        self.done(&format!("Started an emulated Entra ID and Microsoft Graph at {}", emulator.endpoints().authority));

        self.begin("start the MCP server");
        let folder = tempfile::Builder::new().prefix("entra-mcp-demo-").tempdir().map_err(text)?;
        let mut server = Server::start(&emulator, folder.path(), environment)?;
        let discovered = server.request("server/discover", json!({})).await?;
        let name = discovered.pointer("/_meta/io.modelcontextprotocol~1serverInfo/name").and_then(Value::as_str);
        self.done(&format!(
            "Started `entra-mcp stdio`; its sandboxed component {} answers and speaks {}",
            name.unwrap_or("(without a name)"),
            listed(&discovered, "/supportedVersions", "")
        ));

        self.begin("list the tools");
        let tools = server.request("tools/list", json!({})).await?;
        self.done(&format!("It offers the tool {}", listed(&tools, "/tools", "/name")));

        self.begin("call the tool and sign in");
        let profile = server.profile().await?;
        let pages = sign_ins(&emulator);
        if pages == 0 {
            return Err("the profile came without a sign-in".into());
        }
        self.done(&format!(
            "Called {TOOL}: nobody was signed in, so a browser was opened, {USER} signed in, and Graph was asked"
        ));

        self.begin("call the tool again");
        let again = server.profile().await?;
        silent(&emulator, pages, &profile, &again)?;
        self.done("Called it again: answered silently, the sign-in is remembered");

        self.begin("end the MCP server");
        server.end().await?;
        self.done("Closed the connection: the server ended by itself");

        self.begin("start the MCP server anew");
        let mut server = Server::start(&emulator, folder.path(), environment)?;
        let again = server.profile().await?;
        silent(&emulator, pages, &profile, &again)?;
        server.end().await?;
        self.done("Started a new server process and called it: silent too, the sign-in is in the encrypted store");

        console::result(&format!("\nThe profile from Graph, as {TOOL} returns it:"));
        console::result(&format!("{profile:#}"));
        emulator.shutdown().await;
        Ok(())
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The strings in a list, or at `below` in the elements of a list.
fn listed(value: &Value, list: &str, below: &str) -> String {
    let elements = value.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = elements.iter().filter_map(|element| element.pointer(below)?.as_str()).collect();
    names.join(", ")
}

/// How often a sign-in page was asked for.
fn sign_ins(emulator: &Emulator) -> u64 {
    emulator.control().request_count(Endpoint::Authorize)
}

fn silent(emulator: &Emulator, pages: u64, before: &Value, now: &Value) -> Result<(), String> {
    if sign_ins(emulator) != pages {
        return Err("the person was asked to sign in again".into());
    }
    if before != now {
        return Err("the second profile is not the first".into());
    }
    Ok(())
}

/// The server as a child process, and the client's end of its connection.
struct Server {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u32,
}

impl Server {
    #[allow(clippy::disallowed_methods, reason = "the demonstration starts this program as its server")]
    fn start(emulator: &Emulator, folder: &Path, environment: &Environment) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(text)?;
        let endpoints = emulator.endpoints();
        let config = folder.join("config.toml");
        let settings = [
            ("tenant-id", endpoints.tenant_id.as_str()),
            ("client-id", &endpoints.public_client_id),
            ("authority", &endpoints.authority),
            ("graph-url", &endpoints.graph),
            ("sign-in", "browser"),
            ("store", &folder.join("secrets.db").to_string_lossy()),
        ]
        .map(|(name, value)| format!("{name} = {}", toml::Value::from(value)));
        std::fs::write(&config, settings.join("\n")).map_err(text)?;
        let browser = format!("\"{}\" headless-browser --username {USER} %s", program.display());
        let inherited = INHERITED.iter().filter_map(|name| Some((name, environment.get(name)?)));
        let mut child = Command::new(&program)
            .args(["stdio", "--config"])
            .arg(&config)
            .env_clear()
            .envs(inherited)
            .env("BROWSER", browser)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(text)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the server has no standard streams".into());
        };
        Ok(Self { child, input, output: BufReader::new(output).lines(), next: 1 })
    }

    /// Sends a request and returns its result. Notifications in between are passed over.
    async fn request(&mut self, method: &str, mut params: Value) -> Result<Value, String> {
        if let Some(params) = params.as_object_mut() {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": PROTOCOL,
                "io.modelcontextprotocol/clientInfo": { "name": "entra-mcp demo", "version": env!("CARGO_PKG_VERSION") },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            params.insert("_meta".into(), meta);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.input.write_all(format!("{message}\n").as_bytes()).await.map_err(text)?;
        self.input.flush().await.map_err(text)?;
        let answer = tokio::time::timeout(STEP_TIMEOUT, self.answer(id));
        answer.await.unwrap_or_else(|_| Err(format!("no answer to {method} within {} s", STEP_TIMEOUT.as_secs())))
    }

    async fn answer(&mut self, id: u32) -> Result<Value, String> {
        while let Some(line) = self.output.next_line().await.map_err(text)? {
            let mut message: Value = serde_json::from_str(&line).map_err(text)?;
            if message.get("id") == Some(&id.into()) {
                return match message.get_mut("result") {
                    Some(result) => Ok(result.take()),
                    None => Err(format!("the server answers {line}")),
                };
            }
        }
        Err("the server ended".into())
    }

    /// Calls the tool and returns the profile.
    async fn profile(&mut self) -> Result<Value, String> {
        let result = self.request("tools/call", json!({ "name": TOOL, "arguments": {} })).await?;
        match result.get("structuredContent") {
            Some(profile) if result.get("isError") != Some(&true.into()) => Ok(profile.clone()),
            _ => Err(format!("the tool answers {result}")),
        }
    }

    /// Closes the connection; the server has to end well.
    async fn end(mut self) -> Result<(), String> {
        drop(self.input);
        match tokio::time::timeout(STEP_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the server ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the server did not end".into()),
        }
    }
}
