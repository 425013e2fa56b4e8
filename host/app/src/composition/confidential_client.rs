//! A confidential client (RFC 6749 section 2.1): the remote server.
//!
//! It authenticates itself to Entra ID, keeps everything that outlives a request in a store that other processes may
//! share, and has no person at the machine.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_plugin::Error;
use entra_mcp_plugin::client_credential::CredentialError;
use entra_mcp_plugin::client_metadata::PublicClientMetadata;
use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::rate_limiter::RateLimiter;
use entra_mcp_plugin::{Plugin, PluginBuilder};

use super::client_credential;
use crate::composition::store;
use crate::config::{Isolation, ServeConfig};
use crate::telemetry::{ObservedRateLimiter, ObservedStore, Telemetry};

/// How long a request waits for an instance, at most. Clients give up after some ten seconds.
pub const MAX_WAIT: Duration = Duration::from_secs(5);

/// What the server and the component share.
pub struct ConfidentialClient {
    /// The component with its settings.
    pub builder: PluginBuilder,
    /// Counts by address in the server, and by client id in the component.
    pub rate_limiter: Arc<dyn RateLimiter>,
}

/// Gives the component everything that the remote server needs. Fails if no credential is available.
pub async fn new(
    config: &ServeConfig,
    settings: Settings,
    telemetry: &Telemetry,
) -> Result<ConfidentialClient, ConfidentialError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let opened = store::open(&config.common.store, Arc::clone(&clock)).await?;
    let store = Arc::clone(&opened.records);
    let chosen = client_credential::choose(&config.credential, &settings, &store, &clock).await;
    chosen.log();
    let credential = chosen.credential?;
    // Fails at the start: otherwise only the first user to sign in would learn that there is no credential.
    credential.obtain(&client_credential::token_endpoint(&settings)).await?;
    let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()]).map_err(Error::from)?;
    let ca_file = config.common.ca_file.as_deref();
    let rate_limiter = opened.rate_limiter(config.rates.clone(), config.rate_limits_in, Arc::clone(&clock));
    let rate_limiter = ObservedRateLimiter::over(rate_limiter, telemetry);
    let http = OutboundHttp::new(policy, ca_file)?.observed(telemetry.outgoing(&settings.graph));
    let metadata = PublicClientMetadata::new(config.client_metadata_allow.clone(), ca_file, Arc::clone(&clock))?;
    let mut builder = Plugin::builder(settings)
        .clock(clock)
        .secret_store(ObservedStore::over(store, telemetry))
        .client_credential(credential)
        .client_metadata(Arc::new(metadata))
        .rate_limiter(Arc::clone(&rate_limiter))
        .outbound_http(http)
        .max_instances(config.common.max_instances)
        .max_idle_instances(config.common.max_instances)
        .max_queue(config.max_queue, MAX_WAIT)
        .code_cache(config.common.host.code_cache.clone());
    if config.isolation == Isolation::PerRequest {
        builder = builder.max_calls_per_instance(1);
    }
    Ok(ConfidentialClient { builder, rate_limiter })
}

/// Why the parts of the remote server cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfidentialError {
    /// A part cannot be made.
    #[error(transparent)]
    Build(#[from] Error),
    /// There is no credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}
