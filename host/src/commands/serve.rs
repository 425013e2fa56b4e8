//! `entra-mcp serve`: the remote server.

use std::sync::Arc;

use serde_json::json;

use super::{CommandError, EndRequest};
use crate::config::{ServeConfig, access};
use crate::console;
use crate::environment::confidential_client;
use crate::open_files;
use crate::service_manager::ServiceManager;
use crate::transport::http::{Certificates, HttpServer, Limits, Options};

/// Serves until the process is asked to end. Prints one JSON line once it listens.
pub async fn run(config: &ServeConfig, manager: ServiceManager) -> Result<(), CommandError> {
    let mut end = EndRequest::listen()?;
    HttpServer::check(config.listen, config.tls.is_some(), &config.trusted_proxies)?;
    let tls = match &config.tls {
        Some((certificate, key)) => Some(Certificates::read(certificate, key)?),
        None => None,
    };
    open_files::allow_connections(config.max_connections);
    let server = HttpServer::bind(config.listen).await?;
    let client = confidential_client::new(config, server.address()).await?;
    let settings = config.settings(server.address());
    for advice in [ServeConfig::app_id_uri_advice(&settings), config.trust_advice()].into_iter().flatten() {
        tracing::warn!("{advice}");
    }
    let plugin = Arc::new(client.builder.build()?);
    access::check_tools(&settings, &plugin.remote_tools().await?)?;
    let limits = Limits {
        connections: config.max_connections,
        // So that event streams leave instances for the requests that belong to them.
        event_streams: Limits::default().event_streams.min(config.common.max_instances.div_ceil(2)),
        ..Limits::default()
    };
    let options = Options {
        tls,
        trusted_proxies: config.trusted_proxies.clone(),
        token_header: config.token_header.clone(),
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
    server.serve(plugin, options, stop, cancel).await?;
    tracing::info!("ended");
    Ok(())
}
