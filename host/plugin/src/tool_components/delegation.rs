//! Tokens in a caller's name, for requests of tools.
//!
//! The instance of the component that asked for the tool is blocked until the tool has answered. If the tool needs a
//! token, another instance of the component supplies it. These instances are a pool of their own: otherwise calls that
//! hold all instances, and wait for tools that wait for a token, would wait for each other.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::client_channel::NoChannel;
use crate::delegations::Delegations;
use crate::error::Error;
use crate::gatekeeper::{Challenge, DelegationError, DelegationErrorCategory};
use crate::plugin::Plugin;

/// Supplies tokens in the name of callers.
#[async_trait]
pub trait DelegatedTokens: Send + Sync + 'static {
    /// A token for the caller that `handle` names. With a challenge, it is another token than the refused one.
    async fn token(
        &self,
        handle: &str,
        permissions: &[String],
        challenge: Option<Challenge>,
    ) -> Result<Zeroizing<String>, DelegationError>;
}

/// There are no tokens: for components that only send requests without one, and for inspection.
#[derive(Debug, Default)]
pub struct NoTokens;

#[async_trait]
impl DelegatedTokens for NoTokens {
    async fn token(&self, _: &str, _: &[String], _: Option<Challenge>) -> Result<Zeroizing<String>, DelegationError> {
        Err(unavailable("no-tokens", "this host has no tokens for tools"))
    }
}

/// The tokens of a [`Plugin`]. The builder of a plugin takes the tools before the plugin exists, so connect it
/// afterwards.
#[derive(Default)]
pub struct PluginTokens {
    // Weak: the plugin owns the tools, and the tools own this.
    plugin: OnceLock<Weak<Delegations>>,
}

impl PluginTokens {
    /// Tokens of a plugin that is not built yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Says which plugin supplies the tokens. Only the first call has an effect.
    pub fn connect(&self, plugin: &Plugin) {
        let _ = self.plugin.set(Arc::downgrade(plugin.delegations()));
    }
}

impl std::fmt::Debug for PluginTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginTokens").field("connected", &self.plugin.get().is_some()).finish()
    }
}

#[async_trait]
impl DelegatedTokens for PluginTokens {
    async fn token(
        &self,
        handle: &str,
        permissions: &[String],
        challenge: Option<Challenge>,
    ) -> Result<Zeroizing<String>, DelegationError> {
        let Some(delegations) = self.plugin.get().and_then(Weak::upgrade) else {
            return Err(unavailable("not-ready", "the server starts or ends"));
        };
        match delegations.token(handle, permissions, challenge, Arc::new(NoChannel)).await {
            Ok(token) => token.map(Zeroizing::new),
            Err(error @ Error::Busy { .. }) => Err(unavailable("busy", &error.to_string())),
            Err(error) => Err(unavailable("internal-error", &error.to_string())),
        }
    }
}

pub(super) fn unavailable(code: &str, message: &str) -> DelegationError {
    DelegationError {
        category: DelegationErrorCategory::Unavailable,
        code: code.to_owned(),
        message: message.to_owned(),
        claims: None,
        retry_after_seconds: None,
    }
}
