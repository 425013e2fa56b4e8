//! The MCP servers that the program protects and that are not the component's own: `[[tools]]` and `[[upstream]]` in the
//! configuration file, or the flags for them.
//!
//! Everything is checked here, before anything is started: a server that starts reaches nothing that was not meant. What
//! only the files themselves can tell, such as the tools of a component, is checked once they are loaded
//! ([`access::check_tools`](super::access::check_tools)).

use entra_mcp_plugin::environment::{ServerKind, ServerSettings, TargetKind, ToolRule};

use self::names::GivenNames;
use super::setting::settings;
use super::{ConfigError, Environment};

mod egress;
mod names;
mod tools;
mod upstream;
mod variables;

pub use egress::{EgressConfig, EgressEntry, GivenEgress, TokenChoice};
pub use names::{ServerPlace, is_name};
pub use tools::{ToolsConfig, ToolsEntry, name_of};
pub use upstream::{CommandLines, IdentityName, ProcessConfig, UpstreamConfig, UpstreamEntry, UpstreamTarget};
pub use variables::{VariableEntries, Variables};

/// What a rule names for everything of its kind that has no rule of its own.
const EVERYTHING: &str = "*";

settings! {
    /// What one source says about the MCP servers that the program protects.
    pub struct BehindLayer checked as BehindValues, under "MCP servers to protect" {
        /// A component with tools, which take the place of the program's own. It gets no token and reaches nothing
        /// except by `--egress`, or by the `[[tools]]` of the same file in the configuration file; may be repeated
        tools: Vec<ToolsEntry>, value("FILE");
        /// Destination for requests of the only tool component, and the permissions of its caller for which they get a
        /// token: those of Microsoft Graph as `Mail.Read`, those of another API as `api://contoso/Orders.Read`; several
        /// separated by commas; in the configuration file `egress` of a `[[tools]]`, which a flag replaces; may be
        /// repeated, in the variable a JSON list
        egress: GivenEgress, value("URL=SCOPE"), not_in_file();
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
pub struct BehindConfig {
    /// Components with tools.
    pub tools: Vec<ToolsConfig>,
    /// Whole MCP servers.
    pub upstreams: Vec<UpstreamConfig>,
}

impl BehindConfig {
    pub(super) fn new(values: BehindValues, context: &Context<'_>) -> Result<Self, ConfigError> {
        let mut tools = values.tools.unwrap_or_default();
        if let Some(GivenEgress(egress)) = values.egress {
            grant_only(&mut tools, egress)?;
        }
        let commands = values.upstream_command.unwrap_or_default().entries()?;
        let upstreams: Vec<_> = values.upstream.into_iter().flatten().chain(commands).collect();
        let mut names = GivenNames::new(tools.len().saturating_add(upstreams.len()));
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

impl BehindLayer {
    /// With what the configuration file says about the tool components that are named here.
    pub(super) fn completed(self, file: &Self) -> Self {
        let known = file.tools.as_deref().unwrap_or_default();
        Self { tools: self.tools.map(|named| ToolsEntry::completed(named, known)), ..self }
    }
}

/// Gives the only tool component its destinations.
fn grant_only(tools: &mut [ToolsEntry], egress: Vec<EgressEntry>) -> Result<(), ConfigError> {
    match tools {
        [only] => {
            only.egress = egress;
            Ok(())
        }
        [] => Err(ConfigError::Conflict(
            "--egress says where the requests of a tool component may go, and there is none: name one with --tools"
                .into(),
        )),
        several => Err(ConfigError::Conflict(format!(
            "--egress is for the only tool component, and there are {}: write egress into the [[tools]] of each",
            several.len()
        ))),
    }
}

/// A line for each server: what of it no rule restricts, and who may use that; or that no rule lets a caller in.
pub fn openness(servers: &[ServerSettings], rules: &[ToolRule], deny_unlisted: bool) -> Vec<String> {
    let line = |ServerSettings { name, kind, .. }: &ServerSettings| {
        let is_about = |rule: &&ToolRule| rule.server.as_deref().is_none_or(|server| server == name);
        let rules: Vec<&ToolRule> = rules.iter().filter(is_about).collect();
        if deny_unlisted {
            return rules.is_empty().then(|| {
                format!("no caller may use any tool of {name}: deny-unlisted is set, and no [[access]] rule is for it")
            });
        }
        let kinds: &[_] = match kind {
            ServerKind::Tools => &[(TargetKind::Tool, "tool")],
            ServerKind::Upstream => {
                &[(TargetKind::Tool, "tool"), (TargetKind::Resource, "resource"), (TargetKind::Prompt, "prompt")]
            }
        };
        let open: Vec<String> = kinds.iter().filter_map(|(kind, word)| open(&rules, *kind, word)).collect();
        let open = match open.as_slice() {
            [] => return None,
            [only] => only.clone(),
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
        };
        Some(format!(
            "every admitted person and application, but no AI agent, may use {open} of {name}: write [[access]] rules, \
             or set deny-unlisted"
        ))
    };
    servers.iter().filter_map(line).collect()
}

/// What of a kind no rule restricts. `rules` are those about the server.
fn open(rules: &[&ToolRule], kind: TargetKind, word: &str) -> Option<String> {
    let mut about = rules.iter().filter(|rule| rule.kind == kind).peekable();
    if about.peek().is_none() {
        return Some(format!("every {word}"));
    }
    (!about.any(|rule| rule.tool == EVERYTHING)).then(|| format!("every {word} that no rule names"))
}

#[cfg(test)]
mod tests;
