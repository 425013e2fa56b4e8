//! One call of the component, in an instance of a pool.

use std::sync::Arc;

use wasmtime::Store;

use crate::bindings::Bundled as Exports;
use crate::client_channel::ClientChannel;
use crate::error::Error;
use crate::instance::InstanceState;
use crate::instance_pool::{InstancePool, LeaseError};
use crate::random::{Random, unguessable_id};

/// Runs a call in an instance of `pool`.
pub(crate) async fn call_in<T>(
    pool: &Arc<InstancePool>,
    random: &dyn Random,
    correlation_id: impl Into<Option<String>>,
    channel: Arc<dyn ClientChannel>,
    call: impl AsyncFnOnce(&Exports, &mut Store<InstanceState>) -> wasmtime::Result<T>,
) -> Result<T, Error> {
    // A successful call is never asked for its id.
    let given = correlation_id.into();
    let correlation_id = || given.unwrap_or_else(|| new_correlation_id(random));
    let lease = match pool.lease(channel).await {
        Ok(lease) => lease,
        Err(error) => return Err(no_lease(error, correlation_id())),
    };
    lease.call(call).await.map_err(|error| {
        let correlation_id = correlation_id();
        tracing::error!(%correlation_id, error = format!("{error:?}"), "the component failed");
        Error::Trapped { correlation_id }
    })
}

/// A new id of a call.
pub(crate) fn new_correlation_id(random: &dyn Random) -> String {
    // Without randomness no sign-in works; the id only has to exist.
    unguessable_id(random).unwrap_or_default()
}

/// Logs why there is no instance for a call.
pub(crate) fn no_lease(error: LeaseError, correlation_id: String) -> Error {
    match error {
        LeaseError::Busy => {
            tracing::warn!(%correlation_id, "all instances are busy: a call is refused");
            Error::Busy { correlation_id }
        }
        LeaseError::Failed(error) => {
            tracing::error!(%correlation_id, error = format!("{error:#}"), "no instance can be created");
            Error::NoInstance { correlation_id }
        }
    }
}
