//! Tokens for the requests of tools, in instances that serve nothing else.

use std::sync::Arc;

use crate::bindings::delegation::DelegationError;
use crate::bindings::export::gatekeeper::Challenge;
use crate::client_channel::ClientChannel;
use crate::component_call::call_in;
use crate::error::Error;
use crate::instance_pool::{InstancePool, PoolLimits};
use crate::random::Random;

/// Instances that do nothing but supply tokens to requests of tools. A tool that waits for a token holds one of the other
/// instances, so these must not be taken by calls of tools. Most answers come from a cache in a millisecond.
const MAX_DELEGATING_INSTANCES: usize = 64;

/// Supplies tokens in callers' names, in instances of its own.
pub(crate) struct Delegations {
    pool: Arc<InstancePool>,
    random: Arc<dyn Random>,
}

impl Delegations {
    pub(crate) fn new(calls: &InstancePool, limits: PoolLimits, random: Arc<dyn Random>) -> Self {
        Self { pool: Arc::new(calls.beside(limits.beside(MAX_DELEGATING_INSTANCES))), random }
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
