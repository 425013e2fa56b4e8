//! What the component is configured to be (`wit/environment.wit`).

use std::sync::Arc;

use crate::bindings::environment as wit;

mod settings;

pub use self::settings::{
    CallerKind, ClientType, DEFAULT_MAX_STREAMS_PER_CALLER, HttpSettings, RegisteredClient, Settings, SignInMethod, SignInSettings, TokenMode,
    TokenSettings, ToolRule,
};

/// What an instance holds.
pub(crate) struct EnvironmentCtx {
    /// The settings as JSON: instances are many, and the settings are written once.
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
