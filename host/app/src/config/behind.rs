//! The MCP servers that the program protects and that are not the component's own: `[[tools]]` and `[[upstream]]` in the
//! configuration file, or the flags for them.
//!
//! Everything is checked here, before anything is started: a server that starts reaches nothing that was not meant. What
//! only the files themselves can tell, such as the tools of a component, is checked once they are loaded
//! ([`access::check_tools`](super::access::check_tools)).

use entra_mcp_plugin::environment::{ServerKind, ServerSettings, ToolRule};

use self::names::Names;
use super::setting::settings;
use super::{ConfigError, Environment};

mod egress;
mod names;
mod tools;
mod upstream;
mod variables;

pub use egress::{EgressConfig, EgressEntry, TokenChoice};
pub use names::Place;
pub use tools::{ToolsConfig, ToolsEntry};
pub use upstream::{CommandLines, IdentityName, ProcessConfig, UpstreamConfig, UpstreamEntry, UpstreamTarget};
pub use variables::{VariableEntries, Variables};

settings! {
    /// What one source says about the MCP servers that the program protects.
    pub struct BehindLayer checked as BehindValues, under "MCP servers to protect" {
        /// A component with tools, which gets no token and reaches nothing: the configuration file says as `[[tools]]`
        /// where its requests may go; may be repeated. Its tools take the place of the program's own
        tools: Vec<ToolsEntry>, value("FILE");
        /// An MCP server over HTTP to protect, for the command `serve`; in the configuration file `[[upstream]]`; may be
        /// repeated
        upstream: Vec<UpstreamEntry>, value("URL");
        /// The command of an MCP server on standard input and output to protect, for the command `serve`; each caller has a
        /// process of its own, in the current directory; in the configuration file `command` of an `[[upstream]]`; may be
        /// repeated, in the variable one a line
        upstream_command: CommandLines, value("COMMAND"), not_in_file();
    }
}

/// What the checks depend on.
pub(super) struct Context<'a> {
    /// The variables of this process.
    pub(super) environment: &'a Environment,
    /// Base URL of Microsoft Graph, as it is configured.
    pub(super) graph: &'a str,
    /// Qualifies its scopes.
    pub(super) graph_resource: &'a str,
}

/// The servers, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behind {
    /// Components with tools.
    pub tools: Vec<ToolsConfig>,
    /// Whole MCP servers.
    pub upstreams: Vec<UpstreamConfig>,
}

impl Behind {
    pub(super) fn new(values: BehindValues, context: &Context<'_>) -> Result<Self, ConfigError> {
        let tools = values.tools.unwrap_or_default();
        let commands = values.upstream_command.unwrap_or_default().entries()?;
        let upstreams: Vec<_> = values.upstream.into_iter().flatten().chain(commands).collect();
        let mut names = Names::new(tools.len().saturating_add(upstreams.len()));
        Ok(Self {
            tools: tools.into_iter().map(|entry| entry.checked(&mut names, context)).collect::<Result<_, _>>()?,
            upstreams: upstreams
                .into_iter()
                .map(|entry| entry.checked(&mut names, context))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether the component's own tools are served.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.upstreams.is_empty()
    }

    /// What the component is told.
    pub fn settings(&self) -> Vec<ServerSettings> {
        let tools = self.tools.iter().map(ToolsConfig::settings);
        tools.chain(self.upstreams.iter().map(UpstreamConfig::settings)).collect()
    }

    /// For a local server: it has tools only.
    pub(super) fn local(self) -> Result<Self, ConfigError> {
        match self.upstreams.first() {
            None => Ok(self),
            Some(UpstreamConfig { place, .. }) => Err(ConfigError::Conflict(format!(
                "stdio serves tool components only (--tools, [[tools]]), and the server {:?} is an MCP server of its own: \
                 use entra-mcp serve for it, or name a configuration file without [[upstream]] with --config",
                place.name
            ))),
        }
    }
}

/// A line for each server about callers that no rule restricts, or that no rule lets in.
pub fn openness(servers: &[ServerSettings], rules: &[ToolRule], deny_unlisted: bool) -> Vec<String> {
    let unruled = servers
        .iter()
        .filter(|server| !rules.iter().any(|rule| rule.server.as_deref().is_none_or(|name| name == server.name)));
    let line = |ServerSettings { name, kind, .. }: &ServerSettings| {
        let what = match kind {
            ServerKind::Tools => "every tool",
            ServerKind::Upstream => "every tool, resource and prompt",
        };
        match deny_unlisted {
            false => format!(
                "every caller that is let in may use {what} of {name}: write [[access]] rules, or set deny-unlisted"
            ),
            true => {
                format!("no caller may use any tool of {name}: deny-unlisted is set, and no [[access]] rule is for it")
            }
        }
    };
    unruled.map(line).collect()
}

#[cfg(test)]
mod tests;
