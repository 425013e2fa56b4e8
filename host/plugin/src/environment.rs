//! The configuration of the component (`wit/environment.wit`).

use std::sync::Arc;

use crate::bindings::environment as wit;

mod settings;

pub use self::settings::{
    BrokerUse, CallerKind, ClientType, DEFAULT_MAX_STREAMS_PER_CALLER, ForwardAuthSettings, HttpSettings,
    RegisteredClient, ServerIdentity, ServerKind, ServerSettings, Settings, SignInMethod, SignInSettings, TargetKind,
    TokenMode, TokenSettings, ToolRule,
};

/// The state of an instance.
pub(crate) struct EnvironmentCtx {
    /// The settings as JSON, serialised once for all instances.
    settings: Arc<str>,
}

impl EnvironmentCtx {
    pub(crate) fn new(settings: Arc<str>) -> Self {
        Self { settings }
    }
}

impl wit::Host for EnvironmentCtx {
    fn settings(&mut self) -> wasmtime::Result<String> {
        Ok(self.settings.to_string())
    }
}
