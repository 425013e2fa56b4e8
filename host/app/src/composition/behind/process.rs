//! MCP servers that are programs.

use std::sync::Arc;

use async_trait::async_trait;
use entra_mcp_gate::process::{ProcessSettings, ProcessUpstream, TokenFileError, Tokens};
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::client_channel::NoChannel;
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::environment::ServerIdentity;
use entra_mcp_plugin::gatekeeper::DelegationErrorCategory;
use entra_mcp_plugin::random::SystemRandomness;
use zeroize::Zeroizing;

use crate::config::ConfigError;
use crate::config::behind::{ProcessConfig, UpstreamConfig};

/// Finds the program.
pub(super) fn new(
    upstream: &UpstreamConfig,
    process: &ProcessConfig,
    plugin: &Arc<Plugin>,
) -> Result<ProcessUpstream, ConfigError> {
    let settings = ProcessSettings {
        name: upstream.place.name.clone(),
        command: process.command.clone(),
        search_path: process.search_path.clone().map(Into::into),
        variables: process.variables.0.clone(),
        folder: process.folder.clone(),
        private_folders: process.private_folders.clone(),
        idle: process.idle,
        max_processes: process.max_processes,
        max_processes_per_person: process.max_processes_per_person,
        answer_within: upstream.max_time_to_answer,
    };
    if matches!(upstream.identity, ServerIdentity::Token { .. }) {
        tracing::warn!(
            server = upstream.place.name,
            "the processes of this server run as one user, each with a token of its caller in a file: a program that looks \
             for the files of others can act as every caller. Run only a program that you trust with all of their tokens, or \
             run it in a container of its own and give its url"
        );
    }
    let tokens: Option<Arc<dyn Tokens>> = match &upstream.identity {
        ServerIdentity::Token { permissions } => {
            Some(Arc::new(ProcessTokens { plugin: Arc::clone(plugin), permissions: permissions.clone() }))
        }
        ServerIdentity::None | ServerIdentity::EasyAuth | ServerIdentity::Assertion { .. } => None,
    };
    let random = Arc::new(SystemRandomness::default());
    ProcessUpstream::new(settings, tokens, Arc::new(SystemClock::new()), random).map_err(|error| {
        ConfigError::Conflict(format!("the upstream {:?} cannot be started: {error}", upstream.place.name))
    })
}

/// Tokens for the resource of one server.
struct ProcessTokens {
    plugin: Arc<Plugin>,
    permissions: Vec<String>,
}

#[async_trait]
impl Tokens for ProcessTokens {
    async fn token(&self, handle: &str) -> Result<Zeroizing<String>, TokenFileError> {
        let answer = self.plugin.delegated_token(handle, &self.permissions, None, Arc::new(NoChannel)).await;
        let answer = answer.map_err(|error| TokenFileError::Unavailable(error.to_string()))?;
        answer.map(Zeroizing::new).map_err(|error| {
            let text = format!("{} ({})", error.message, error.code);
            match error.category {
                DelegationErrorCategory::Unavailable => TokenFileError::Unavailable(text),
                DelegationErrorCategory::HandleInvalid
                | DelegationErrorCategory::NotGranted
                | DelegationErrorCategory::Refused
                | DelegationErrorCategory::NeedsPerson => TokenFileError::Refused(text),
            }
        })
    }
}
