//! A public client (RFC 6749 section 2.1): a local server on the user's own machine.
//!
//! It holds no credential, keeps sign-ins in a file of the user's, and reaches the person through the browser.

use std::sync::Arc;

use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::identity_broker::SystemBroker;
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::user_agent::{Prompts, SystemBrowser};
use entra_mcp_plugin::{Error, Plugin, PluginBuilder};

use crate::composition::store;
use crate::config::{Config, LogFormat};
use crate::prompt;

/// Gives the component what a public client needs.
pub async fn builder(config: &Config) -> Result<PluginBuilder, Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = store::open(&config.store, Arc::clone(&clock)).await?.records;
    let settings = config.settings.clone();
    let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()])?;
    let http = OutboundHttp::new(policy, config.ca_file.as_deref())?;
    Ok(Plugin::builder(settings)
        .clock(clock)
        .secret_store(store)
        .outbound_http(http)
        .user_agent(Arc::new(browser(config)))
        .identity_broker(Arc::new(SystemBroker))
        .max_instances(config.max_instances)
        .code_cache(config.host.code_cache.clone()))
}

/// The browser of the person at this machine.
pub fn browser(config: &Config) -> SystemBrowser {
    let prompts = match config.host.log_format {
        LogFormat::Text => Prompts::Terminal(prompt::show),
        LogFormat::Json => Prompts::Log,
    };
    SystemBrowser::new(config.browser.as_deref(), config.display, prompts)
}
