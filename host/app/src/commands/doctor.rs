//! `entra-mcp doctor`: looks at every layer live, in the order in which they fail in practice, and says of each fault what
//! it is, what to change, and where.
//!
//! It changes nothing: it makes, mends and upgrades no store, takes over no key, keeps no token, and registers no client. What
//! it finds wrong in one layer does not keep it from the next, unless that cannot be looked at without it; then it says so.

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
use crate::config::{ConfigError, Sources};
use crate::console;
use crate::probe::Probe;

mod clients;
mod deployed;
mod entra;
mod layers;
mod local;
mod network;
mod registration;
mod report;
mod store;
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

/// What is known of this machine.
#[derive(Default)]
struct Here {
    settings: Option<Settings>,
    plugin: Option<Plugin>,
    /// Certificates to trust besides the system's.
    ca_file: Option<PathBuf>,
}

/// Looks at everything, and prints what it finds. Fails with the severity of the worst.
pub async fn run(arguments: &Arguments, sources: Result<Sources, ConfigError>) -> Result<(), CommandError> {
    if let Some(url) = arguments.url.as_ref().filter(|url| !["https", "http"].contains(&url.scheme())) {
        return Err(CommandError::Usage(format!("--url is {url}: an https URL is expected")));
    }
    let token = arguments.token.as_deref().map(token::read).transpose()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut report = Report::default();
    let here = match sources {
        Ok(sources) => {
            let is_visit = arguments.url.is_some() && token.is_none();
            layers::looked_at(sources, is_visit, &clock, &mut report).await
        }
        Err(error) => {
            let what = "files, store, Entra ID and credential were not looked at: the settings cannot be read";
            report.add("Settings", vec![local::unusable(&error), Finding::skipped("settings", what)]);
            Here::default()
        }
    };
    if let Some(url) = &arguments.url {
        match Probe::new(here.ca_file.as_deref()) {
            Ok(probe) => {
                let visit = Visit::new(&probe, here.settings.as_ref());
                let (findings, facts) = visit.to(url, clock.now_seconds()).await;
                report.add("The deployed server", findings);
                report.add("What clients do with it", facts.as_ref().map(clients::predictions).unwrap_or_default());
            }
            Err(reason) => report.add("The deployed server", vec![network::no_tls(&reason)]),
        }
    }
    if let Some(token) = &token {
        let mut findings = token::described(token, clock.now_seconds());
        if let (Some(settings), Some(plugin)) = (&here.settings, &here.plugin)
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
