//! The servers, as their own projects start them.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::clients::machine::script;
use crate::support::patience::soon;
use crate::support::{process, tools};

/// A server that is reached without the gate, and writes down what it is sent.
pub(super) struct Bare {
    pub(super) url: String,
    folder: TempDir,
    _child: Child,
}

/// npm `@modelcontextprotocol/server-everything`, on standard input and output.
pub(super) fn everything() -> Vec<String> {
    let server = "server-everything/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
    vec![text(tools::client("server-everything")), text(script(server)), "stdio".to_owned()]
}

/// A server of PyPI `fastmcp`, on standard input and output.
pub(super) fn fastmcp() -> Vec<String> {
    vec![text(tools::client("fastmcp")), text(script("fastmcp/server.py")), "stdio".to_owned()]
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

impl Bare {
    /// `@modelcontextprotocol/server-everything` over Streamable HTTP.
    pub(super) async fn everything() -> Self {
        let [node, server, _]: [String; 3] = everything().try_into().unwrap();
        let loopback = text(script("server-everything/listening.mjs"));
        Self::start(&[&node, "--import", &loopback, &server, "streamableHttp"]).await
    }

    /// FastMCP over Streamable HTTP.
    pub(super) async fn fastmcp() -> Self {
        let [python, server, _]: [String; 3] = fastmcp().try_into().unwrap();
        Self::start(&[&python, &server, "http"]).await
    }

    async fn start(program: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = process::command(program[0]);
        command.args(&program[1..]).env_clear().env("PATH", process::path()).env("HOME", folder.path());
        command.env("RECORD", folder.path().join("record")).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = soon(async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the server says where it listens");
                // It may say something else before.
                let said = serde_json::from_str::<Value>(&line).unwrap_or_default();
                if let Some(port) = said["port"].as_u64() {
                    return port;
                }
            }
        });
        let port = port.await.expect("the server starts");
        // What it says later is read, so that it never waits.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { url: format!("http://127.0.0.1:{port}/mcp"), folder, _child: child }
    }

    /// What the server was sent: the path and the header fields of each request.
    pub(super) fn requests(&self) -> Vec<Vec<(String, String)>> {
        let record = std::fs::read_to_string(self.folder.path().join("record")).unwrap();
        record.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
