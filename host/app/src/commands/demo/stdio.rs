//! The local server: `entra-mcp stdio`, and a client at its standard input and output.

use std::path::Path;
use std::process::Stdio;

use entra_mcp_emulator::{Builder, Emulator};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{STEP_TIMEOUT, Steps, USER, modern, server_process, sign_ins, text};
use crate::config::Environment;
use crate::console;

/// The tool that is called.
pub(super) const TOOL: &str = "GetUserDetailsFromGraph";

/// Plays the whole conversation.
pub(super) async fn play(steps: &mut Steps, environment: &Environment) -> Result<(), String> {
    steps.begin("start the emulator");
    let emulator = Builder::new().start().await.map_err(text)?;
    steps.done(&format!("Started an emulated Entra ID and Microsoft Graph at {}", emulator.endpoints().authority));

    steps.begin("start the MCP server");
    let folder = tempfile::Builder::new().prefix("entra-mcp-demo-").tempdir().map_err(text)?;
    let mut server = StdioServerProcess::start(&emulator, folder.path(), environment)?;
    let discovered = server.request("server/discover", json!({})).await?;
    let name = discovered.pointer("/_meta/io.modelcontextprotocol~1serverInfo/name").and_then(Value::as_str);
    steps.done(&format!(
        "Started `entra-mcp stdio`; its sandboxed component {} answers and speaks {}",
        name.unwrap_or("(without a name)"),
        listed(&discovered, "/supportedVersions", "")
    ));

    steps.begin("list the tools");
    let tools = server.request("tools/list", json!({})).await?;
    steps.done(&format!("It offers the tool {}", listed(&tools, "/tools", "/name")));

    steps.begin("call the tool and sign in");
    let profile = server.profile().await?;
    let pages = sign_ins(&emulator);
    if pages == 0 {
        return Err("the profile came without a sign-in".into());
    }
    steps.done(&format!(
        "Called {TOOL}: no account was signed in, so a browser opened, {USER} signed in, and Graph was asked"
    ));

    steps.begin("call the tool again");
    let again = server.profile().await?;
    silent(&emulator, pages, &profile, &again)?;
    steps.done("Called it again: answered silently, the sign-in is remembered");

    steps.begin("end the MCP server");
    server.end().await?;
    steps.done("Closed the connection: the server ended by itself");

    steps.begin("start the MCP server anew");
    let mut server = StdioServerProcess::start(&emulator, folder.path(), environment)?;
    let again = server.profile().await?;
    silent(&emulator, pages, &profile, &again)?;
    server.end().await?;
    steps.done("Started a new server process and called it: silent too, the sign-in is in the encrypted store");

    console::result(&format!("\nThe profile from Graph, as {TOOL} returns it:"));
    console::result(&format!("{profile:#}"));
    emulator.shutdown().await;
    Ok(())
}

/// The strings in a list, or at `below` in the elements of a list.
fn listed(value: &Value, list: &str, below: &str) -> String {
    let elements = value.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = elements.iter().filter_map(|element| element.pointer(below)?.as_str()).collect();
    names.join(", ")
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
pub(super) struct StdioServerProcess {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u32,
}

impl StdioServerProcess {
    fn start(emulator: &Emulator, folder: &Path, environment: &Environment) -> Result<Self, String> {
        let endpoints = emulator.endpoints();
        let store = folder.join("secrets.db").to_string_lossy().into_owned();
        let settings = [
            ("tenant-id", endpoints.tenant_id.as_str()),
            ("client-id", &endpoints.public_client_id),
            ("authority", &endpoints.authority),
            ("graph-url", &endpoints.graph),
            ("sign-in", "browser"),
            ("store", &store),
        ];
        Self::spawn(server_process("stdio", &settings, folder, environment)?)
    }

    /// Starts it from a command.
    pub(super) fn spawn(mut process: Command) -> Result<Self, String> {
        let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(text)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the server has no standard streams".into());
        };
        Ok(Self { child, input, output: BufReader::new(output).lines(), next: 1 })
    }

    /// Sends a request and returns its result. Notifications in between are passed over.
    async fn request(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let mut message = modern(method, params);
        if let Some(message) = message.as_object_mut() {
            message.insert("id".into(), id.into());
        }
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
    pub(super) async fn profile(&mut self) -> Result<Value, String> {
        let result = self.request("tools/call", json!({ "name": TOOL, "arguments": {} })).await?;
        match result.get("structuredContent") {
            Some(profile) if result.get("isError") != Some(&true.into()) => Ok(profile.clone()),
            _ => Err(format!("the tool answers {result}")),
        }
    }

    /// Closes the connection; the server has to end well.
    pub(super) async fn end(mut self) -> Result<(), String> {
        drop(self.input);
        match tokio::time::timeout(STEP_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the server ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the server did not end".into()),
        }
    }
}
