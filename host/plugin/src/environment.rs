//! What the component is configured to be (`wit/environment.wit`).

use std::sync::Arc;

use crate::bindings::environment as wit;

pub use crate::bindings::environment::{
    CallerKinds, ClientType, HttpSettings, RegisteredClient, Settings, SignInMethod, SignInSettings, TokenMode,
    TokenSettings, ToolRule,
};

/// What an instance holds.
pub(crate) struct EnvironmentCtx {
    settings: Arc<Settings>,
}

impl EnvironmentCtx {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }
}

impl wit::Host for EnvironmentCtx {
    fn get(&mut self) -> wasmtime::Result<Settings> {
        Ok((*self.settings).clone())
    }
}
