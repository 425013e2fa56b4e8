//! `entra-mcp serve`: the remote server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{CommandError, EndRequest, ReopenRequest};
use crate::audit::{AuditSink, Destination, JsonLinesAudit};
use crate::clock::SystemClock;
use crate::config::{AuditConfig, ServeConfig};
use crate::console;
use crate::environment::confidential_client;
use crate::service_manager::ServiceManager;
use crate::transport::http::{Certificates, HttpServer, Limits, Options};

/// How long the last audit records may take to be written when nobody waits for them (`drop-and-count`).
const LAST_RECORDS: Duration = Duration::from_secs(1);

/// Serves until the process is asked to end. Prints one JSON line once it listens.
pub async fn run(config: &ServeConfig, manager: ServiceManager) -> Result<(), CommandError> {
    let mut end = EndRequest::listen()?;
    HttpServer::check(config.listen, config.tls.is_some(), &config.trusted_proxies)?;
    let tls = match &config.tls {
        Some((certificate, key)) => Some(Certificates::read(certificate, key)?),
        None => None,
    };
    let server = HttpServer::bind(config.listen).await?;
    let client = confidential_client::new(config, server.address()).await?;
    let settings = config.settings(server.address());
    let AuditConfig { destination, on_failure, .. } = &config.audit;
    let audit = Arc::new(JsonLinesAudit::open(destination, *on_failure, Arc::new(SystemClock::new()))?);
    if matches!(destination, Destination::File { .. }) {
        reopen_when_asked(Arc::clone(&audit))?;
    }
    if let Some(advice) = ServeConfig::app_id_uri_advice(&settings) {
        tracing::warn!("{advice}");
    }
    let plugin = Arc::new(client.builder.audit(Arc::clone(&audit) as Arc<dyn AuditSink>).build()?);
    let limits = Limits {
        connections: config.max_connections,
        // So that event streams leave instances for the requests that belong to them.
        event_streams: Limits::default().event_streams.min(config.common.max_instances.div_ceil(2)),
        ..Limits::default()
    };
    let options = Options {
        tls,
        trusted_proxies: config.trusted_proxies.clone(),
        path_prefix: config.path_prefix(),
        rate_limiter: client.rate_limiter,
        limits,
        ..Options::default()
    };
    let public_url = settings.http.map(|http| http.public_url).unwrap_or_default();
    let address = server.address();
    console::result(&json!({ "listening": address.to_string(), "public_url": public_url }).to_string());
    tracing::info!(%address, %public_url, "listening");
    manager.notify("READY=1");
    let (ending, cancelling) = tokio::sync::oneshot::channel();
    let stop = async {
        end.received().await;
        manager.notify("STOPPING=1");
        // The second request to end does not wait for anybody.
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
    let served = server.serve(plugin, options, stop, cancel).await;
    // The runtime has nothing else to do any more.
    audit.flush(LAST_RECORDS);
    served?;
    tracing::info!("ended");
    Ok(())
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
