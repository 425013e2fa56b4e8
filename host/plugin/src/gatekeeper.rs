//! The decisions of the component about servers that are not its own (`wit/gatekeeper.wit`).

use std::sync::Arc;

use crate::client_channel::{ClientChannel, NoChannel};
use crate::error::Error;
use crate::plugin::Plugin;

pub use crate::bindings::delegation::{DelegationError, DelegationErrorCategory};
pub use crate::bindings::export::gatekeeper::{Admission, AnswerHead, Challenge, Grant, Request, Response};
pub use crate::bindings::tool_types::Caller;

/// A header field: name in lower case, and value.
pub type Header = (String, Vec<u8>);

impl Plugin {
    /// Decides about a request to a server behind the component.
    pub async fn admit(&self, request: &Request) -> Result<Admission, Error> {
        let correlation_id = Some(request.correlation_id.clone()).filter(|id| !id.is_empty());
        self.call(correlation_id, Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_gatekeeper().call_admit(store, request).await
        })
        .await
    }

    /// Says that the server behind has answered. The result is what to set on the answer, or an answer in its place. Works
    /// while every other instance is busy.
    pub async fn answered(&self, handle: &str, head: &AnswerHead) -> Result<Result<Vec<Header>, Response>, Error> {
        self.call_to_record(async |exports, store| {
            exports.entra_mcp_plugin_gatekeeper().call_answered(store, handle, head).await
        })
        .await
    }

    /// Takes out of a JSON-RPC message what the caller may not see.
    pub async fn judge_answer(&self, handle: &str, message: &str) -> Result<String, Error> {
        self.call(None, Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_gatekeeper().call_judge_answer(store, handle, message).await
        })
        .await
    }

    /// An access token in the name of the handle's caller. `channel` is that of the call, if it has one. Works while every
    /// other instance is busy.
    pub async fn delegated_token(
        &self,
        handle: &str,
        permissions: &[String],
        challenge: Option<Challenge>,
        channel: Arc<dyn ClientChannel>,
    ) -> Result<Result<String, DelegationError>, Error> {
        self.delegations().token(handle, permissions, challenge, channel).await
    }
}
