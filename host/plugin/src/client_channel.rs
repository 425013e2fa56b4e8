//! The connection on which the message that is being handled arrived (`wit/client-channel.wit`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use wasmtime::component::{HasData, Resource, ResourceTable};

use crate::bindings::client_channel as wit;
use crate::clock::{self, Clock};

/// Largest value in bytes that a connection remembers (from the WIT contract).
pub const MAX_STATE_BYTES: usize = 64 * 1024;

/// Why the client did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The transport cannot carry requests to the client.
    #[error("the transport cannot carry requests to the client")]
    Unsupported,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// No answer in time.
    #[error("the client did not answer in time")]
    TimedOut,
    /// The client answered with this error object (JSON).
    #[error("the client answered with an error")]
    Refused(String),
}

impl From<ChannelError> for wit::ChannelError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Unsupported => Self::Unsupported,
            ChannelError::Closed => Self::Closed,
            ChannelError::TimedOut => Self::TimedOut,
            ChannelError::Refused(error) => Self::Refused(error),
        }
    }
}

/// A connection to an MCP client. `params` and results are JSON texts.
#[async_trait]
pub trait ClientChannel: Send + Sync + 'static {
    /// Sends a notification; best effort.
    async fn notify(&self, method: &str, params: &str);
    /// Sends a request and waits for its result.
    async fn request(&self, method: &str, params: &str, timeout: Duration) -> Result<String, ChannelError>;
    /// What was last remembered for the connection.
    fn state(&self) -> Option<String>;
    /// Remembers a value for as long as the connection lasts.
    fn set_state(&self, value: String);
}

/// No connection: for a call that no MCP client made.
#[derive(Debug, Default)]
pub struct NoChannel;

#[async_trait]
impl ClientChannel for NoChannel {
    async fn notify(&self, _: &str, _: &str) {}

    async fn request(&self, _: &str, _: &str, _: Duration) -> Result<String, ChannelError> {
        Err(ChannelError::Unsupported)
    }

    fn state(&self) -> Option<String> {
        None
    }

    fn set_state(&self, _: String) {}
}

/// The state of an instance: the connection of its current call.
pub(crate) struct ClientChannelCtx {
    pub(crate) channel: Arc<dyn ClientChannel>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A view on the connection, with the resource table of its requests.
pub(crate) struct ClientChannelCtxView<'a> {
    pub(crate) ctx: &'a mut ClientChannelCtx,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct HasClientChannel;

impl HasData for HasClientChannel {
    type Data<'a> = ClientChannelCtxView<'a>;
}

/// A request to the client, and the task that waits for the answer. Dropping it ends the task.
pub struct PendingRequest {
    /// `None` after the answer was handed out.
    answer: Option<JoinHandle<Result<String, ChannelError>>>,
    clock: Arc<dyn Clock>,
}

impl PendingRequest {
    async fn wait(&mut self, timeout: Duration) -> Option<Result<String, ChannelError>> {
        let Some(answer) = self.answer.as_mut() else { return Some(Err(ChannelError::Closed)) };
        let answer = tokio::select! {
            biased;
            answer = answer => answer.unwrap_or(Err(ChannelError::Closed)),
            () = clock::sleep(self.clock.as_ref(), timeout) => return None,
        };
        self.answer = None;
        Some(answer)
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            answer.abort();
        }
    }
}

impl wit::Host for ClientChannelCtxView<'_> {
    async fn notify(&mut self, method: String, params: String) -> wasmtime::Result<()> {
        self.ctx.channel.notify(&method, &params).await;
        Ok(())
    }

    async fn request(
        &mut self,
        method: String,
        params: String,
        timeout_ms: u32,
    ) -> wasmtime::Result<Resource<PendingRequest>> {
        let timeout = Duration::from_millis(timeout_ms.into());
        let channel = Arc::clone(&self.ctx.channel);
        let answer = tokio::spawn(async move { channel.request(&method, &params, timeout).await });
        let pending = PendingRequest { answer: Some(answer), clock: Arc::clone(&self.ctx.clock) };
        Ok(self.table.push(pending)?)
    }

    fn state(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.ctx.channel.state())
    }

    fn set_state(&mut self, value: String) -> wasmtime::Result<()> {
        if value.len() > MAX_STATE_BYTES {
            return Err(wasmtime::Error::msg("the state of the connection is over its limit"));
        }
        self.ctx.channel.set_state(value);
        Ok(())
    }
}

impl wit::HostPendingRequest for ClientChannelCtxView<'_> {
    async fn wait(&mut self, pending: Resource<PendingRequest>, timeout_ms: u32) -> wasmtime::Result<wit::Answer> {
        let timeout = Duration::from_millis(timeout_ms.into());
        Ok(match self.table.get_mut(&pending)?.wait(timeout).await {
            None => wit::Answer::Pending,
            Some(Ok(result)) => wit::Answer::Received(result),
            Some(Err(error)) => wit::Answer::Failed(error.into()),
        })
    }

    fn drop(&mut self, pending: Resource<PendingRequest>) -> wasmtime::Result<()> {
        self.table.delete(pending)?;
        Ok(())
    }
}
