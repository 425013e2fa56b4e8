//! What the benchmarks of calls have in common: a native MCP server (rmcp behind axum) whose tool answers without sending a
//! request, as a process of its own, and how figures are printed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{CallToolResult, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::processors;

pub(crate) const PROTOCOL: &str = "2026-07-28";
pub(crate) const TOOL: &str = "getUserDetails";
pub(crate) const CONNECTIONS: [usize; 2] = [1, 32];

/// Names the variable with the milliseconds that the tool takes: as long as Graph would. Without it, none.
pub(crate) const TOOL_DELAY: &str = "ENTRA_MCP_BENCH_TOOL_DELAY_MS";

static TOOL_WAITS: LazyLock<Option<Duration>> =
    LazyLock::new(|| Some(Duration::from_millis(std::env::var(TOOL_DELAY).ok()?.parse().unwrap())));

/// What a server says when it is ready.
#[derive(Deserialize, Serialize)]
struct Served {
    url: String,
}

/// What the tool answers, wherever it runs.
pub(crate) fn profile() -> Value {
    json!({
        "displayName": "Alice Anderson",
        "mail": "alice@contoso.example",
        "userPrincipalName": "alice@contoso.example",
    })
}

/// A server in a process of its own, ended with this value.
pub(crate) struct Native {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Native {
    /// Starts this program with arguments that make it [`serve`].
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments);
        Self::of(command)
    }

    /// Starts a server that says where it listens, as [`serve`] does.
    pub(crate) fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = processors::of_servers(|| command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Served { url } = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the server says {line:?}"));
        Self { child, url }
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Prints its address, and serves until the process is ended.
pub(crate) async fn serve(router: axum::Router) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    println!("{}", serde_json::to_string(&Served { url }).unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// A stateless MCP server that answers in JSON, without any check of the caller.
pub(crate) fn mcp() -> StreamableHttpService<Profile, NeverSessionManager> {
    StreamableHttpService::new(|| Ok(Profile::new()), Arc::default(), {
        let mut config = StreamableHttpServerConfig::default();
        config.legacy_session_mode = false;
        config.json_response = true;
        config
    })
}

/// The one tool.
#[derive(Clone)]
pub(crate) struct Profile {
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Profile {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(name = "getUserDetails", description = "Get user details from Microsoft Graph")]
    async fn get_user_details(&self) -> Result<CallToolResult, ErrorData> {
        if let Some(delay) = *TOOL_WAITS {
            tokio::time::sleep(delay).await;
        }
        Ok(CallToolResult::structured(profile()))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Profile {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[allow(clippy::cast_precision_loss, reason = "megabytes, for people")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
