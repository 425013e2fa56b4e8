//! The decisions of the component about servers that are not its own (`wit/gatekeeper.wit`).

use std::sync::Arc;

use crate::client_channel::{ClientChannel, NoChannel};
use crate::error::Error;
use crate::instance_pool::{InstancePool, PoolLimits};
use crate::plugin::{Plugin, call_in};
use crate::random::Random;

pub use crate::bindings::delegation::{DelegationError, DelegationErrorCategory};
pub use crate::bindings::export::gatekeeper::{Admission, AnswerHead, Challenge, Grant, Request, Response};
pub use crate::bindings::tool_types::Caller;

/// A header field: name in lower case, and value.
pub type Header = (String, Vec<u8>);

/// Instances that do nothing but supply tokens to requests of tools. A tool that waits for a token holds one of the other
/// instances, so these must not be taken by calls of tools. Most answers come from a cache in a millisecond.
const MAX_DELEGATING_INSTANCES: usize = 64;

/// Of these, how many stay warm.
const MAX_IDLE_DELEGATING_INSTANCES: usize = 8;

/// Supplies tokens in callers' names, in instances of its own.
pub(crate) struct Delegations {
    pool: Arc<InstancePool>,
    random: Arc<dyn Random>,
}

impl Delegations {
    pub(crate) fn new(calls: &InstancePool, limits: PoolLimits, random: Arc<dyn Random>) -> Self {
        let limits = PoolLimits {
            max_instances: limits.max_instances.min(MAX_DELEGATING_INSTANCES),
            max_idle_instances: limits.max_idle_instances.min(MAX_IDLE_DELEGATING_INSTANCES),
            // The calls that may ask are bounded themselves, in number and time.
            max_queue: usize::MAX,
            max_wait: None,
            ..limits
        };
        Self { pool: Arc::new(calls.beside(limits)), random }
    }

    pub(crate) async fn token(
        &self,
        handle: &str,
        permissions: &[String],
        challenge: Option<Challenge>,
        channel: Arc<dyn ClientChannel>,
    ) -> Result<Result<String, DelegationError>, Error> {
        let permissions = permissions.to_vec();
        call_in(&self.pool, &*self.random, None, channel, async |exports, store| {
            exports.entra_mcp_plugin_gatekeeper().call_delegated_token(store, handle, &permissions, &challenge).await
        })
        .await
    }
}

impl Plugin {
    /// Decides about a request to a server behind the component.
    pub async fn admit(&self, request: &Request) -> Result<Admission, Error> {
        let correlation_id = Some(request.correlation_id.clone()).filter(|id| !id.is_empty());
        self.call(correlation_id, Arc::new(NoChannel), async |exports, store| {
            exports.entra_mcp_plugin_gatekeeper().call_admit(store, request).await
        })
        .await
    }

    /// Says that the server behind has answered. The result is what to set on the answer, or an answer in its place.
    pub async fn answered(&self, handle: &str, head: &AnswerHead) -> Result<Result<Vec<Header>, Response>, Error> {
        self.call(None, Arc::new(NoChannel), async |exports, store| {
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
