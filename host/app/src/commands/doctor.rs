//! `entra-mcp doctor`: looks at every layer live, in the order in which they fail in practice, and says of each fault what
//! it is, what to change, and where.
//!
//! It changes nothing: it makes no store, keeps no token, and registers no client.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::clock::{Clock, SystemClock};
use entra_mcp_plugin::environment::Settings;
use url::Url;

use self::deployed::Visit;
use self::report::{Finding, Report, Severity};
use super::CommandError;
use crate::config::{ConfigError, ServeConfig, Sources};
use crate::console;
use crate::probe::Probe;

mod clients;
mod deployed;
mod entra;
mod local;
mod network;
mod registration;
mod report;
mod token;

/// The arguments besides the settings of the remote server.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A deployed server to visit, as clients know it, or the URL of its MCP endpoint
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// A file with an access token to explain; it is not shown
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
}

/// The configuration of this machine, with the component that it gives.
struct Here {
    settings: Settings,
    plugin: Option<Plugin>,
}

/// Looks at everything, and prints what it finds. Fails with the severity of the worst.
pub async fn run(arguments: &Arguments, sources: Result<Sources, ConfigError>) -> Result<(), CommandError> {
    if let Some(url) = arguments.url.as_ref().filter(|url| !["https", "http"].contains(&url.scheme())) {
        return Err(CommandError::Usage(format!("--url is {url}: an https URL is expected")));
    }
    let token = arguments.token.as_deref().map(token::read).transpose()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut report = Report::default();
    let config = sources.and_then(|sources| {
        report.add("Settings", local::settings(&sources));
        let config = sources.serve()?;
        report.add("Files", local::files(&sources, &config));
        Ok(config)
    });
    let here = match &config {
        Ok(config) => here(config, &clock, &mut report).await,
        // A server of others is visited from a machine that is not configured.
        Err(ConfigError::Missing { .. }) if arguments.url.is_some() && token.is_none() => {
            let what = "no tenant id and no client id are set, so only the deployed server is looked at";
            report.add("This machine", vec![Finding::skipped("settings", what)]);
            None
        }
        Err(error) => {
            report.add("What is wrong with them", vec![local::unusable(error)]);
            None
        }
    };
    if let Some(url) = &arguments.url {
        let ca_file = config.as_ref().ok().and_then(|config| config.common.ca_file.as_deref());
        match Probe::new(ca_file) {
            Ok(probe) => {
                let visit = Visit::new(&probe, here.as_ref().map(|here| &here.settings));
                let (findings, facts) = visit.to(url, clock.now_seconds()).await;
                report.add("The deployed server", findings);
                report.add("What clients do with it", facts.as_ref().map(clients::predictions).unwrap_or_default());
            }
            Err(reason) => report.add("The deployed server", vec![Finding::of_sentence("tls", &reason)]),
        }
    }
    if let Some(token) = &token {
        let mut findings = token::described(token, clock.now_seconds());
        if let Some(Here { settings, plugin: Some(plugin) }) = &here
            && findings.iter().all(|finding| finding.severity != Severity::Failure)
        {
            findings.push(token::judged(token, plugin, settings).await);
        }
        report.add("The token", findings);
    }
    console::result(&if arguments.json { report.json().to_string() } else { report.text() });
    match (report.count(Severity::Failure), report.count(Severity::Warning)) {
        (0, 0) => Ok(()),
        (failures, warnings) => Err(CommandError::Found { failures, warnings }),
    }
}

/// The store, Entra ID and the credential.
async fn here(config: &ServeConfig, clock: &Arc<dyn Clock>, report: &mut Report) -> Option<Here> {
    let settings = config.settings(config.listen);
    let (findings, store) = local::store(config, clock).await;
    report.add("Store", findings);
    let (found, credential) = entra::credential(config, &settings, &store, clock).await;
    report.add("Credential", found);
    let probe = match Probe::new(config.common.ca_file.as_deref()) {
        Ok(probe) => probe,
        Err(reason) => {
            report.add("Entra ID", vec![Finding::of_sentence("tls", &reason)]);
            return Some(Here { settings, plugin: None });
        }
    };
    let (mut findings, reached) = entra::way(&probe, &settings, clock.now_seconds()).await;
    let has_credential = credential.is_some();
    let plugin = entra::plugin(config, settings.clone(), credential.clone(), clock);
    let plugin = match plugin {
        Ok(plugin) => Some(plugin),
        Err(error) => {
            findings.push(Finding::failure(
                "component",
                error.to_string(),
                "correct what it names, or report it with the log",
            ));
            None
        }
    };
    if let Some(plugin) = plugin.as_ref().filter(|_| reached) {
        findings.extend(entra::authority(plugin, &settings, has_credential).await);
    }
    if let Some(advice) = ServeConfig::app_id_uri_advice(&settings) {
        findings.push(Finding::of_sentence("app-id-uri", &advice));
    }
    report.add("Entra ID", findings);
    if let Some(credential) = credential.filter(|_| reached) {
        let findings = registration::findings(&probe, &settings, &*credential).await;
        report.add("App registration", findings);
    }
    Some(Here { settings, plugin })
}
