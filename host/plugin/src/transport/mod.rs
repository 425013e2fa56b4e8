//! How MCP messages come in and answers go out.

use std::sync::Arc;

use async_trait::async_trait;

use crate::client_channel::ClientChannel;
use crate::plugin::{MessageContext, Plugin};

pub mod stdio;

/// Handles the messages of a transport: the [`Plugin`], or something simpler in tests.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one message and returns the answer, if it has one. Dropping the future cancels the call.
    async fn handle(&self, message: &str, context: &MessageContext, channel: Arc<dyn ClientChannel>) -> Option<String>;
}

#[async_trait]
impl Handler for Plugin {
    async fn handle(&self, message: &str, context: &MessageContext, channel: Arc<dyn ClientChannel>) -> Option<String> {
        Self::handle(self, message, context, channel).await
    }
}
