//! `entra-mcp serve`: the remote server.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_gate::gate;
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::audit::{AuditSink, BoundedAudit};
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::environment::Settings;
use entra_mcp_plugin::lifecycle::{Problem, Subject};
use entra_mcp_plugin::random::{SystemRandomness, unguessable_id};
use entra_mcp_plugin::rate_limiter::CountingRateLimiter;
use entra_mcp_server::{Certificates, HttpServer, Limits, Options};
use serde_json::json;

use super::{CommandError, EndRequest, ReopenRequest, notices};
use crate::audit::{JournalPlace, JsonLinesAudit, LoggedRefusals};
use crate::composition::behind::{Tools, Upstreams, readiness};
use crate::composition::confidential_client;
use crate::config::access::{self, KnownTools};
use crate::config::{AuditConfig, ConfigError, ServeConfig, StartCheck};
use crate::http_handler::{CLIENT_ADDRESS_HEADER, ComponentHandler, Routes};
use crate::open_files;
use crate::service_manager::ServiceManager;
use crate::telemetry::{MetricsServer, ObservedAudit, Telemetry, TelemetryConfig};
use crate::{compiler, console};

/// How long the last audit records may take to be written: the numbers of those that were counted, and then the records
/// that no request waits for (`drop-and-count`).
const LAST_RECORDS: Duration = Duration::from_secs(1);

/// How long the processes of upstreams may take to end: they are killed after two seconds.
const LAST_PROCESSES: Duration = Duration::from_secs(3);

/// How long the last telemetry may take to be exported. With the grace for requests, less than service managers wait.
const LAST_EXPORTS: Duration = Duration::from_secs(3);

/// Serves until the process is asked to end. Prints one JSON line once it listens.
pub async fn run(config: &ServeConfig, manager: ServiceManager) -> Result<(), CommandError> {
    let mut end = EndRequest::listen()?;
    HttpServer::check(config.listen, config.tls.is_some(), &config.trusted_proxies)?;
    let tls = match &config.tls {
        Some((certificate, key)) => Some(Certificates::read(certificate, key)?),
        None => None,
    };
    open_files::allow_for(config);
    let server = HttpServer::bind(config.listen).await?;
    let AuditConfig { destination, on_failure, metrics_listen, metrics_host, .. } = &config.audit;
    let metrics = match metrics_listen {
        Some(address) => Some(MetricsServer::bind(*address, metrics_host.clone()).await?),
        None => None,
    };
    let telemetry = Telemetry::start(&TelemetryConfig {
        prometheus: metrics.is_some(),
        otlp: config.otlp,
        ca_file: config.common.ca_file.clone(),
        instance_id: correlation_id(),
    })?;
    let tools = Tools::load(&config.common, &telemetry).await?;
    let mut settings = config.settings(server.address());
    tools.complete(&mut settings.servers);
    let client = confidential_client::new(config, settings.clone(), &telemetry).await?;
    let audit = Arc::new(JsonLinesAudit::open(destination, *on_failure, Arc::new(SystemClock::new()))?);
    if matches!(destination, JournalPlace::File { .. }) {
        reopen_when_asked(Arc::clone(&audit))?;
    }
    for advice in [ServeConfig::app_id_uri_advice(&settings), config.trust_advice()].into_iter().flatten() {
        tracing::warn!("{advice}");
    }
    let compiler = compiler::of_component(&config.common.host.code_cache);
    let sink = ObservedAudit::over(Arc::clone(&audit) as Arc<dyn AuditSink>, &telemetry);
    // On standard error, the records themselves are in the log.
    let sink = if matches!(destination, JournalPlace::File { .. }) { LoggedRefusals::over(sink) } else { sink };
    let clock = Arc::new(SystemClock::new());
    // With counts of its own: that a record is not written one by one is no request that was refused.
    let limiter = CountingRateLimiter::new(clock.clone(), config.rates.clone());
    let bounded = BoundedAudit::start(sink, Arc::new(limiter), clock);
    let sink = Arc::clone(&bounded) as Arc<dyn AuditSink>;
    let plugin = Arc::new(tools.provide(client.builder).audit(sink).compiler(compiler).build()?);
    tools.connect(&plugin);
    let known = match settings.servers.is_empty() {
        true => KnownTools::Own(plugin.remote_tools().await?),
        false => tools.known(&settings).await?,
    };
    access::check_tools(&settings, &known)?;
    if let Some(Problem { message, .. }) = plugin.check_settings().await?.into_iter().next() {
        return Err(ConfigError::Conflict(message).into());
    }
    let upstreams = Upstreams::new(&config.common, &tools, &plugin, &telemetry, gate_options(&settings))?;
    start_check(&plugin, config.check).await?;
    telemetry.observe_plugin(&plugin);
    telemetry.observe_audit(&audit);
    let limits = Limits {
        connections: config.max_connections,
        event_streams: event_streams(config.common.max_instances),
        // So that event streams leave connections for the requests that belong to them.
        relayed_streams: config.max_connections.div_ceil(2),
        // So that one address leaves instances for the requests of others, however long Microsoft Graph takes.
        at_work: config.common.max_instances,
        waiting: config.max_queue,
        wait: confidential_client::MAX_WAIT,
        ..Limits::default()
    };
    let options = Options {
        tls,
        trusted_proxies: config.trusted_proxies.clone(),
        forwarded_header: config.forwarded_header,
        token_header: config.token_header.clone(),
        path_prefix: config.path_prefix(),
        observer: telemetry.incoming(settings.servers.iter().map(|server| server.path.as_str())),
        limits,
        ..Options::new(http::HeaderName::from_static(CLIENT_ADDRESS_HEADER), Arc::new(correlation_id))
    };
    let routes = settings.http.as_ref().map(Routes::of).unwrap_or_default().with_servers(&settings.servers);
    let handler = ComponentHandler::new(plugin, client.rate_limiter, routes, upstreams.gate.clone());
    notices::of_remote_server(config, &settings);
    let public_url = settings.http.as_ref().map(|http| http.public_url.clone()).unwrap_or_default();
    let address = server.address();
    let mut ready = json!({ "listening": address.to_string(), "public_url": public_url });
    if let (false, Some(ready)) = (settings.servers.is_empty(), ready.as_object_mut()) {
        ready.insert("servers".to_owned(), readiness(&settings.servers));
    }
    if let Some(metrics) = metrics {
        let address = metrics.address();
        if let Some(ready) = ready.as_object_mut() {
            ready.insert("metrics".to_owned(), address.to_string().into());
        }
        tokio::spawn(metrics.serve(telemetry.clone()));
    }
    console::result(&ready.to_string());
    tracing::info!(%address, %public_url, "listening");
    manager.notify("READY=1");
    let (ending, cancelling) = tokio::sync::oneshot::channel();
    let stop = async {
        end.received().await;
        manager.notify("STOPPING=1");
        // The second request to end does not wait for requests in flight.
        tokio::spawn(async move {
            end.received().await;
            let _ = ending.send(());
        });
    };
    let cancel = async {
        if cancelling.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let served = server.serve(Arc::new(handler), options, stop, cancel).await;
    if tokio::time::timeout(LAST_PROCESSES, upstreams.end()).await.is_err() {
        tracing::warn!("not every process of an upstream has ended in time");
    }
    // The runtime has nothing else to do any more.
    if tokio::time::timeout(LAST_RECORDS, bounded.flush()).await.is_err() {
        tracing::error!("not every number of counted audit events could be written in time");
    }
    audit.flush(LAST_RECORDS);
    telemetry.shut_down(LAST_EXPORTS).await;
    served?;
    tracing::info!("ended");
    Ok(())
}

/// How many event streams there are at the same time. Each is at work until it ends, so they leave instances for the
/// requests that belong to them, also for those of an address that has half of the streams.
fn event_streams(max_instances: usize) -> usize {
    Limits::default().event_streams.min(max_instances.div_ceil(4))
}

/// How requests go on to servers behind.
fn gate_options(settings: &Settings) -> gate::GateOptions {
    let http = settings.http.as_ref();
    let fields = http.into_iter().flat_map(|http| http.client_address_header.iter().chain(&http.token_header));
    let fields = fields.filter_map(|name| http::HeaderName::try_from(name.as_str()).ok());
    let defaults = gate::GateOptions::new(Arc::new(correlation_id));
    gate::GateOptions {
        host_fields: fields.collect(),
        https: http.is_some_and(|http| http.public_url.starts_with("https:")),
        streams_per_caller: http
            .and_then(|http| http.max_streams_per_caller.try_into().ok())
            .unwrap_or(defaults.streams_per_caller),
        ..defaults
    }
}

/// Asks Entra ID whether it knows the tenant and the credential. A server that only warns does not wait for the answer.
async fn start_check(plugin: &Arc<Plugin>, check: StartCheck) -> Result<(), CommandError> {
    match check {
        StartCheck::Off => Ok(()),
        StartCheck::Fail => {
            let mut problems = plugin.check_authority().await?.into_iter();
            match problems.next() {
                None => Ok(()),
                Some(first) => {
                    problems.for_each(|problem| warn(&problem));
                    Err(CommandError::StartCheck(first.message))
                }
            }
        }
        StartCheck::Warn => {
            let plugin = Arc::clone(plugin);
            tokio::spawn(async move {
                match plugin.check_authority().await {
                    Ok(problems) => problems.iter().for_each(warn),
                    Err(error) => tracing::warn!(%error, "Entra ID was not asked whether it knows the application"),
                }
            });
            Ok(())
        }
    }
}

fn warn(Problem { about, code, message }: &Problem) {
    let about = match about {
        Subject::Settings => "settings",
        Subject::Authority => "authority",
        Subject::SigningKeys => "signing-keys",
        Subject::ClientCredential => "client-credential",
        Subject::Clock => "clock",
    };
    tracing::warn!(about, %code, "the check at the start has found a problem: {message}");
}

/// An unguessable id. Without randomness nothing else works either, so then an empty id will do.
fn correlation_id() -> String {
    unguessable_id(&SystemRandomness::default()).unwrap_or_default()
}

/// Opens the audit file anew at every SIGHUP.
fn reopen_when_asked(audit: Arc<JsonLinesAudit>) -> Result<(), CommandError> {
    let mut request = ReopenRequest::listen()?;
    tokio::spawn(async move {
        loop {
            request.received().await;
            audit.reopen();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_instances_are_for_event_streams() {
        for (instances, streams) in [(1, 1), (4, 1), (8, 2), (128, 32), (160, 40), (256, 64), (1_024, 64)] {
            assert_eq!(event_streams(instances), streams, "{instances}");
        }
    }
}
