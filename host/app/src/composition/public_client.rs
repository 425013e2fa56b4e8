//! A public client (RFC 6749 section 2.1): a local server on the user's own machine.
//!
//! It holds no credential, keeps sign-ins in a file of the user's, and reaches the person through the browser.

use std::sync::Arc;

use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::identity_broker::SystemBroker;
use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy};
use entra_mcp_plugin::secret_store::SecretStore;
use entra_mcp_plugin::user_agent::{Prompts, SystemBrowser};
use entra_mcp_plugin::{Error, Plugin, PluginBuilder};

use crate::composition::applications::{self, Application, ApplicationsError};
use crate::composition::store;
use crate::config::{Config, LogFormat};
use crate::prompt;

/// The open store of a person. Public clients of several applications may have their records in it.
pub struct PersonStore {
    clock: Arc<dyn Clock>,
    records: Arc<dyn SecretStore>,
}

impl PersonStore {
    /// Opens the configured store.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let records = store::open(&config.store, Arc::clone(&clock)).await?.records;
        Ok(Self { clock, records })
    }

    /// Gives the component what a public client needs: that of the configuration, but of this application.
    pub fn builder(&self, config: &Config, application: &Application) -> Result<PluginBuilder, Error> {
        let settings = application.in_settings(&config.settings);
        let policy = OutboundPolicy::new([settings.authority.as_str(), settings.graph.as_str()])?;
        let http = OutboundHttp::new(policy, config.ca_file.as_deref())?;
        Ok(Plugin::builder(settings)
            .clock(Arc::clone(&self.clock))
            .secret_store(Arc::clone(&self.records))
            .outbound_http(http)
            .user_agent(Arc::new(browser(config)))
            .identity_broker(Arc::new(SystemBroker))
            .max_instances(config.max_instances)
            .code_cache(config.host.code_cache.clone()))
    }

    /// Notes that people may sign in to an application.
    pub async fn note(&self, application: &Application) {
        applications::note_if_possible(&*self.records, application).await;
    }

    /// The applications that people may have signed in to.
    pub async fn applications(&self) -> Result<Vec<Application>, ApplicationsError> {
        applications::noted(&*self.records).await
    }
}

/// Gives the component what a public client of the configured application needs.
pub async fn builder(config: &Config) -> Result<PluginBuilder, Error> {
    PersonStore::open(config).await?.builder(config, &Application::of(&config.settings))
}

/// The browser of the person at this machine.
pub fn browser(config: &Config) -> SystemBrowser {
    let prompts = match config.host.log_format {
        LogFormat::Text => Prompts::Terminal(prompt::show),
        LogFormat::Json => Prompts::Log,
    };
    SystemBrowser::new(config.browser.as_deref(), config.display, prompts)
}
