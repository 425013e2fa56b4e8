//! Tool components.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_gate::behind::{AnswerBody, Behind, BehindError, NoDelegatedToken, Sender};
use entra_mcp_plugin::environment::{ServerKind, ServerSettings, Settings};
use entra_mcp_plugin::provided_tools::{DelegationError, ProvidedTools, ProviderError};
use entra_mcp_plugin::tool_components::{
    ComponentSource, DelegatedTokens, EgressEntry, LoadError, PluginTokens, ServeError, Shape, ToolComponentSettings,
    ToolComponents,
};
use entra_mcp_plugin::{Plugin, PluginBuilder};
use http::{Request, Response};
use http_body_util::BodyExt as _;

use crate::compiler;
use crate::config::access::KnownTools;
use crate::config::behind::{EgressConfig, ToolsConfig};
use crate::config::{Config, ConfigError};
use crate::telemetry::Telemetry;

/// After this time without a result, the start says what it is doing. Compiled code is loaded in less.
const LONG_WORK: Duration = Duration::from_secs(2);

/// Why tools cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// A component cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A component does not say which tools it has.
    #[error("the tools of {server:?} cannot be listed: {reason}")]
    List {
        /// The server.
        server: String,
        /// Why.
        reason: String,
    },
    /// The thread that loads components has ended.
    #[error("the tool components cannot be loaded")]
    Thread,
}

/// Tool components, loaded. Their requests get tokens from [`Tools::connect`] on.
pub struct Tools {
    components: Arc<ToolComponents>,
    tokens: Arc<PluginTokens>,
    telemetry: Telemetry,
}

impl Tools {
    /// Loads the components of the configuration. Compiles them, unless the code cache has them.
    pub async fn load(config: &Config, telemetry: &Telemetry) -> Result<Self, ToolsError> {
        let tokens = PluginTokens::new();
        let settings: Vec<_> = config.behind.tools.iter().map(runtime_settings).collect();
        let names = config.behind.tools.iter().map(|tools| tools.place.name.as_str()).collect::<Vec<_>>().join(", ");
        let delegated: Arc<dyn DelegatedTokens> = Arc::clone(&tokens) as _;
        let (graph, ca_file) = (config.settings.graph.clone(), config.ca_file.clone());
        let code_cache = config.host.code_cache.clone();
        let observer = telemetry.outgoing_of_tools(&graph);
        let mut loading = tokio::task::spawn_blocking(move || {
            let cache = code_cache.clone();
            ToolComponents::builder(delegated)
                .graph(graph)
                .observer(observer)
                .ca_file(ca_file.as_deref())
                .code_cache(code_cache)
                .compiler(move |file| compiler::of_tools(&cache, file))
                .load(settings)
        });
        let loaded = match tokio::time::timeout(LONG_WORK, &mut loading).await {
            Ok(loaded) => loaded,
            Err(_) => {
                tracing::info!(
                    "compiling the tools {names}: this takes some time, and the next start finds them compiled"
                );
                loading.await
            }
        };
        let components = Arc::new(loaded.map_err(|_| ToolsError::Thread)??);
        Ok(Self { components, tokens, telemetry: telemetry.clone() })
    }

    /// Whether a server's component is a whole MCP server.
    fn is_whole_server(&self, name: &str) -> bool {
        self.components.shape(name) == Some(Shape::Http)
    }

    /// Tells the component what the servers are: a component may be a whole MCP server, which only its exports say.
    pub fn complete(&self, servers: &mut [ServerSettings]) {
        for server in servers {
            if self.is_whole_server(&server.name) {
                server.kind = ServerKind::Upstream;
            }
        }
    }

    /// For a local server: it speaks MCP for its tools.
    pub fn check_local(&self, config: &Config) -> Result<(), ConfigError> {
        match config.behind.tools.iter().find(|tools| self.is_whole_server(&tools.place.name)) {
            None => Ok(()),
            Some(tools) => Err(ConfigError::Conflict(format!(
                "the component {} is a whole MCP server (it exports wasi:http), which stdio does not serve: use entra-mcp \
                 serve, or build it with entra-mcp:plugin/tool-provider",
                tools.file.display()
            ))),
        }
    }

    /// Gives the component the tools.
    #[must_use]
    pub fn provide(&self, builder: PluginBuilder) -> PluginBuilder {
        builder.provided_tools(self.telemetry.tools(Arc::clone(&self.components) as Arc<dyn ProvidedTools>))
    }

    /// Lets requests of tools get tokens from this component.
    pub fn connect(&self, plugin: &Plugin) {
        self.tokens.connect(plugin);
    }

    /// The tools of each server that has only tools.
    pub async fn known(&self, settings: &Settings) -> Result<KnownTools, ToolsError> {
        let mut known = Vec::new();
        for server in settings.servers.iter().filter(|server| server.kind == ServerKind::Tools) {
            let tools = self
                .components
                .list_tools(&server.name)
                .await
                .map_err(|error| ToolsError::List { server: server.name.clone(), reason: reason(error) })?;
            known.push((server.name.clone(), tools.into_iter().map(|tool| tool.name).collect()));
        }
        Ok(KnownTools::Behind(known))
    }

    /// The components that are whole MCP servers, for the gate.
    pub(super) fn whole_servers(&self, config: &Config) -> Vec<(String, Arc<dyn Behind>)> {
        let whole = config.behind.tools.iter().filter(|tools| self.is_whole_server(&tools.place.name));
        let server = |tools: &ToolsConfig| {
            let name = tools.place.name.clone();
            let components = Arc::clone(&self.components);
            let server =
                WholeServer { components, name, max_time: tools.max_time, max_concurrent: tools.max_concurrent };
            (tools.place.name.clone(), Arc::new(server) as Arc<dyn Behind>)
        };
        whole.map(server).collect()
    }
}

/// What the runtime is told.
pub fn runtime_settings(tools: &ToolsConfig) -> ToolComponentSettings {
    let egress = |EgressConfig { to, permissions }: &EgressConfig| EgressEntry {
        to: to.clone(),
        permissions: permissions.clone(),
    };
    ToolComponentSettings {
        egress: tools.egress.iter().map(egress).collect(),
        variables: tools.variables.0.clone(),
        reuse: tools.reuse,
        max_memory_bytes: tools.max_memory_bytes,
        max_time: tools.max_time,
        max_answer_bytes: tools.max_answer_bytes,
        max_concurrent: tools.max_concurrent,
        ..ToolComponentSettings::new(tools.place.name.clone(), ComponentSource::File(tools.file.clone()))
    }
}

fn reason(error: ProviderError) -> String {
    match error {
        ProviderError::Tool(_) => "the component answered with an error".to_owned(),
        ProviderError::Ended(reason) | ProviderError::Unavailable(reason) => reason,
        ProviderError::TimedOut => "the component did not answer in time".to_owned(),
        ProviderError::OverBytes(bound) => format!("the list is longer than {bound} bytes"),
        ProviderError::Delegation(error) => error.message,
    }
}

/// A component that is a whole MCP server, as the gate sees it.
struct WholeServer {
    components: Arc<ToolComponents>,
    name: String,
    max_time: Duration,
    max_concurrent: usize,
}

#[async_trait]
impl Behind for WholeServer {
    async fn send(&self, request: Request<Bytes>, sender: Sender) -> Result<Response<AnswerBody>, BehindError> {
        let answer = self.components.serve(&self.name, request, &sender.handle).await;
        let mut answer = answer.map_err(|error| match error {
            ServeError::Unavailable(reason) => BehindError::Busy(reason),
            ServeError::TimedOut => BehindError::TimedOut,
            ServeError::Delegation(error) => BehindError::NoToken(NoDelegatedToken(error)),
            error @ ServeError::TooLarge(_) => BehindError::Malformed(error.to_string()),
            error => BehindError::Unreachable(error.to_string()),
        })?;
        if let Some(error) = answer.extensions_mut().remove::<DelegationError>() {
            answer.extensions_mut().insert(NoDelegatedToken(error));
        }
        Ok(answer.map(|body| body.map_err(|error| BehindError::BrokenOff(error.to_string())).boxed_unsync()))
    }

    /// Every request, also one for an event stream, has an instance.
    fn requests_at_once(&self) -> Option<usize> {
        Some(self.max_concurrent)
    }

    fn time_to_answer(&self) -> Duration {
        self.max_time
    }
}
