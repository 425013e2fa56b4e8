//! The way to a collector: OTLP over HTTP (protobuf).
//!
//! Threads of the SDK make and send batches. A full queue drops new items, so a collector that hangs costs bounded
//! memory and no time. The SDK reads the endpoint, headers, time limits and sampling from OpenTelemetry's own
//! variables. The headers are a secret and are never shown.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_plugin::outbound_http::{read_certificates, tls_config};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use tokio::runtime::Handle;

use super::TelemetryError;

/// Longest answer of a collector in bytes. The answer only says that the collector has the batch, or how much of it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long an idle connection is kept: exports are a second to a minute apart.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

type Sender = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The HTTP client through which the SDK reaches the collector.
#[derive(Clone)]
pub(super) struct Collector {
    sender: Sender,
    runtime: Handle,
    /// Time for one export.
    timeout: Duration,
    down: Arc<AtomicBool>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    pub(super) fn new(timeout: Duration, ca_file: Option<&Path>) -> Result<Self, TelemetryError> {
        let roots = ca_file.map(read_certificates).transpose();
        let roots = roots.map_err(|error| TelemetryError::Tls(error.to_string()))?.unwrap_or_default();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(&roots).map_err(TelemetryError::Tls)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let sender = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build(https);
        Ok(Self { sender, runtime: Handle::current(), timeout, down: Arc::default() })
    }

    pub(super) fn traces(&self) -> Result<SpanExporter, TelemetryError> {
        let exporter = SpanExporter::builder().with_http().with_http_client(self.clone());
        exporter.with_protocol(Protocol::HttpBinary).build().map_err(|_| TelemetryError::Exporter)
    }

    pub(super) fn metrics(&self) -> Result<MetricExporter, TelemetryError> {
        let exporter = MetricExporter::builder().with_http().with_http_client(self.clone());
        exporter.with_protocol(Protocol::HttpBinary).build().map_err(|_| TelemetryError::Exporter)
    }

    pub(super) fn logs(&self) -> Result<LogExporter, TelemetryError> {
        let exporter = LogExporter::builder().with_http().with_http_client(self.clone());
        exporter.with_protocol(Protocol::HttpBinary).build().map_err(|_| TelemetryError::Exporter)
    }

    /// Logs once that exports fail, and once that they work again.
    fn note(&self, failure: Option<&str>) {
        let was_down = self.down.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(reason) if !was_down => {
                tracing::warn!(reason, "telemetry cannot be exported: unsent telemetry is lost")
            }
            None if was_down => tracing::info!("telemetry is exported again"),
            _ => {}
        }
    }
}

/// The threads of the SDK are none of the runtime's, and the client needs to be on one of those.
#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (sender, timeout) = (self.sender.clone(), self.timeout);
        let exchange = async move {
            let response = sender.request(request.map(Full::new)).await.map_err(|error| innermost(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(Response::from_parts(head, body.to_bytes()))
        };
        // Timers, too, are the runtime's.
        let exchange = self.runtime.spawn(async move { tokio::time::timeout(timeout, exchange).await });
        let answer = match exchange.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the collector does not answer in time".to_owned()),
            Err(_) => Err("the server ends".to_owned()),
        };
        match &answer {
            Ok(answer) if answer.status().is_success() => self.note(None),
            Ok(answer) => self.note(Some(&format!("the collector answers with {}", answer.status()))),
            Err(reason) => self.note(Some(reason)),
        }
        answer.map_err(Into::into)
    }
}

/// The cause behind all others.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
