//! Tools that the component offers and the host runs (`wit/provided-tools.wit`).

use std::sync::Arc;

use async_trait::async_trait;

use crate::bindings::provided_tools as wit;

pub use crate::bindings::delegation::{DelegationError, DelegationErrorCategory};
pub use crate::bindings::provided_tools::ProviderError;
pub use crate::bindings::tool_types::{Caller as ToolCaller, Content, Hints, Tool, ToolError};

/// A call that the component has admitted. `Debug` leaves out the handle and the arguments.
pub struct ToolCall {
    /// The server, by its name in the settings.
    pub server: String,
    /// The tool.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
    /// The caller.
    pub caller: ToolCaller,
    /// The handle for [`Plugin::delegated_token`](crate::Plugin::delegated_token), for requests of this call.
    pub handle: String,
}

impl std::fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { server, name, arguments: _, caller: _, handle: _ } = self;
        f.debug_struct("ToolCall").field("server", server).field("name", name).finish_non_exhaustive()
    }
}

/// Runs tools.
#[async_trait]
pub trait ProvidedTools: Send + Sync + 'static {
    /// The tools of a server. They never change.
    async fn list_tools(&self, server: &str) -> Result<Vec<Tool>, ProviderError>;

    /// Calls a tool. Dropping the future ends the call.
    async fn call(&self, call: ToolCall) -> Result<Content, ProviderError>;
}

/// There are no tools besides the component's own.
#[derive(Debug, Default)]
pub struct NoProvidedTools;

#[async_trait]
impl ProvidedTools for NoProvidedTools {
    async fn list_tools(&self, _: &str) -> Result<Vec<Tool>, ProviderError> {
        Err(none())
    }

    async fn call(&self, _: ToolCall) -> Result<Content, ProviderError> {
        Err(none())
    }
}

fn none() -> ProviderError {
    ProviderError::Unavailable("this host runs no tools".to_owned())
}

/// The state of an instance.
pub(crate) struct ProvidedToolsCtx {
    tools: Arc<dyn ProvidedTools>,
}

impl ProvidedToolsCtx {
    pub(crate) fn new(tools: Arc<dyn ProvidedTools>) -> Self {
        Self { tools }
    }
}

impl wit::Host for ProvidedToolsCtx {
    async fn list_tools(&mut self, server: String) -> wasmtime::Result<wit::Listed> {
        Ok(self.tools.list_tools(&server).await)
    }

    async fn call(
        &mut self,
        server: String,
        name: String,
        arguments: String,
        caller: ToolCaller,
        handle: String,
    ) -> wasmtime::Result<wit::Called> {
        Ok(self.tools.call(ToolCall { server, name, arguments, caller, handle }).await)
    }
}
