//! The MCP servers behind the program: what `[[tools]]` and `[[upstream]]` come to.
//!
//! Tool components are loaded before the component is: its settings depend on what they are. The gate is made after it:
//! it asks the component about every request.

use std::collections::HashMap;
use std::sync::Arc;

use entra_mcp_gate::behind::Behind;
use entra_mcp_gate::gate::{self, Gate};
use entra_mcp_gate::http_upstream::{HttpUpstream, UpstreamLimits};
use entra_mcp_gate::process::ProcessUpstream;
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::environment::{ServerKind, ServerSettings};
use serde_json::{Value, json};

pub use self::tools::{Tools, ToolsError, runtime_settings};
use crate::config::behind::{UpstreamConfig, UpstreamTarget};
use crate::config::{Config, ConfigError};
use crate::telemetry::Telemetry;

mod process;
mod tools;

/// The servers that admitted requests go on to.
pub struct Upstreams {
    /// Sends requests on. `None`: there is no such server.
    pub gate: Option<Arc<Gate>>,
    processes: Vec<Arc<ProcessUpstream>>,
}

impl Upstreams {
    /// The servers of the configuration. Programs are found, and none is started yet.
    pub fn new(
        config: &Config,
        tools: &Tools,
        plugin: &Arc<Plugin>,
        telemetry: &Telemetry,
        options: gate::GateOptions,
    ) -> Result<Self, ConfigError> {
        let mut servers: HashMap<String, Arc<dyn Behind>> = HashMap::new();
        let mut processes = Vec::new();
        for upstream in &config.behind.upstreams {
            let server: Arc<dyn Behind> = match &upstream.target {
                UpstreamTarget::Http { url } => Arc::new(over_http(upstream, url, config)?),
                UpstreamTarget::Process(settings) => {
                    let upstream = Arc::new(process::new(upstream, settings, plugin)?);
                    processes.push(Arc::clone(&upstream));
                    upstream
                }
            };
            servers.insert(upstream.place.name.clone(), server);
        }
        servers.extend(tools.whole_servers(config));
        let servers: HashMap<_, _> = servers
            .into_iter()
            .map(|(name, server)| {
                let observed = telemetry.behind(&name, server);
                (name, observed)
            })
            .collect();
        let has_servers = !servers.is_empty();
        let gate = Gate::new(Arc::clone(plugin) as Arc<_>, servers, options);
        Ok(Self { gate: has_servers.then(|| Arc::new(gate)), processes })
    }

    /// Ends all processes, and returns when they are gone.
    pub async fn end(&self) {
        let ending: Vec<_> =
            self.processes.iter().cloned().map(|upstream| tokio::spawn(async move { upstream.end().await })).collect();
        for ended in ending {
            // A task that panicked has said so.
            let _ = ended.await;
        }
    }
}

fn over_http(upstream: &UpstreamConfig, url: &str, config: &Config) -> Result<HttpUpstream, ConfigError> {
    let limits = UpstreamLimits { to_answer: upstream.max_time_to_answer, ..UpstreamLimits::default() };
    HttpUpstream::new(url, config.ca_file.as_deref(), limits)
        .map_err(|error| ConfigError::Conflict(format!("the upstream {:?}: {error}", upstream.place.name)))
}

/// The servers, for the line that says that the program is ready.
pub fn readiness(servers: &[ServerSettings]) -> Value {
    let server = |ServerSettings { name, path, kind, .. }: &ServerSettings| {
        let kind = match kind {
            ServerKind::Tools => "tools",
            ServerKind::Upstream => "upstream",
        };
        json!({ "name": name, "path": path, "kind": kind })
    };
    servers.iter().map(server).collect()
}
