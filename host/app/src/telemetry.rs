//! Metrics and traces: how much is asked, how long it takes, and what it leads to.
//!
//! Every metric is declared once, with OpenTelemetry's API; Prometheus reads it from a listener of its own
//! ([`MetricsServer`]), a collector is sent it over OTLP. Without either, nothing is counted and no thread runs.
//!
//! What this does not do: no label, span or attribute holds an id of a person, a token, a path that a client chose, or
//! a query. Only audit records identify a user.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use crate::config::OtlpConfig;
use metrics::Metrics;

mod audit;
mod behind;
mod client_request;
mod limits;
mod message;
mod metrics;
mod otlp;
mod process;
mod prometheus;
mod server_request;
mod store;
#[cfg(test)]
mod testing;
pub(crate) mod trace_parent;
mod trace_state;

pub use prometheus::{MetricsError, MetricsServer};
pub use trace_parent::TraceParent;

pub(crate) use audit::ObservedAudit;
pub(crate) use limits::ObservedRateLimiter;
pub(crate) use store::ObservedStore;

/// What the instruments and spans are attributed to.
const SCOPE: &str = "entra-mcp";

/// What is observed, and where it goes.
#[derive(Debug, Clone, Default)]
pub struct TelemetryConfig {
    /// Prometheus reads metrics.
    pub prometheus: bool,
    /// What is sent to a collector.
    pub otlp: OtlpConfig,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Tells this process from others of the same service.
    pub instance_id: String,
}

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The registry of metrics refuses them.
    #[error("metrics cannot be collected: {0}")]
    Metrics(String),
    /// The collector's address or headers cannot be used. The message does not repeat them: they may hold a secret.
    #[error(
        "telemetry cannot be exported: the OTEL_EXPORTER_OTLP_… variables are not an http or https URL and headers"
    )]
    Exporter,
    /// The roots of trust cannot be set up.
    #[error("telemetry cannot be exported: {0}")]
    Tls(String),
}

/// The program's telemetry. Clones share their state; the default observes nothing.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Observers>>);

struct Observers {
    metrics: Option<Metrics>,
    tracer: Option<SdkTracer>,
    logger: Option<SdkLogger>,
    registry: Option<::prometheus::Registry>,
    providers: Providers,
}

#[derive(Default)]
struct Providers {
    metrics: Option<SdkMeterProvider>,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Starts the configured telemetry. The caller has to be inside a runtime, which then carries the exports.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let OtlpConfig { traces, metrics, logs, timeout } = config.otlp;
        if !config.prometheus && !traces && !metrics && !logs {
            return Ok(Self::default());
        }
        let resource = resource(&config.instance_id);
        let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let collector = match config.otlp.any() {
            true => Some(otlp::Collector::new(timeout, config.ca_file.as_deref())?),
            false => None,
        };
        let registry = config.prometheus.then(::prometheus::Registry::new);
        let mut providers = Providers::default();
        if registry.is_some() || metrics {
            let mut provider = SdkMeterProvider::builder().with_resource(resource.clone());
            if let Some(registry) = &registry {
                provider = provider.with_reader(prometheus::reader(registry)?);
            }
            if let Some(collector) = collector.as_ref().filter(|_| metrics) {
                provider = provider.with_periodic_exporter(collector.metrics()?);
            }
            providers.metrics = Some(provider.build());
        }
        if let Some(collector) = collector.as_ref().filter(|_| traces) {
            let provider = SdkTracerProvider::builder().with_resource(resource.clone());
            providers.traces = Some(provider.with_batch_exporter(collector.traces()?).build());
        }
        if let Some(collector) = collector.as_ref().filter(|_| logs) {
            let provider = SdkLoggerProvider::builder().with_resource(resource);
            providers.logs = Some(provider.with_batch_exporter(collector.logs()?).build());
        }
        use opentelemetry::logs::LoggerProvider as _;
        Ok(Self(Some(Arc::new(Observers {
            metrics: providers.metrics.as_ref().map(|provider| Metrics::new(provider.meter_with_scope(scope.clone()))),
            tracer: providers.traces.as_ref().map(|provider| provider.tracer_with_scope(scope.clone())),
            logger: providers.logs.as_ref().map(|provider| provider.logger_with_scope(scope)),
            registry,
            providers,
        }))))
    }

    /// The metrics in Prometheus' text format; `None` if it does not read any.
    pub(crate) fn text(&self) -> Option<Vec<u8>> {
        prometheus::text(self.0.as_ref()?.registry.as_ref()?)
    }

    /// Sends everything that is not sent yet, within `patience`, and observes nothing more.
    pub async fn shut_down(&self, patience: Duration) {
        let Some(observers) = self.0.clone() else { return };
        let ending = tokio::task::spawn_blocking(move || observers.providers.shut_down(patience));
        if tokio::time::timeout(patience, ending).await.is_err() {
            tracing::warn!("the last telemetry could not be exported in time");
        }
    }

    fn metrics(&self) -> Option<&Metrics> {
        self.0.as_ref()?.metrics.as_ref()
    }

    fn tracer(&self) -> Option<&SdkTracer> {
        self.0.as_ref()?.tracer.as_ref()
    }

    fn logger(&self) -> Option<&SdkLogger> {
        self.0.as_ref()?.logger.as_ref()
    }
}

impl Providers {
    /// Ignores failures: the SDK has logged them already.
    fn shut_down(&self, patience: Duration) {
        if let Some(logs) = &self.logs {
            let _ = logs.shutdown_with_timeout(patience);
        }
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown_with_timeout(patience);
        }
        if let Some(metrics) = &self.metrics {
            let _ = metrics.shutdown_with_timeout(patience);
        }
    }
}

/// The name of this service. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` override it.
fn resource(instance_id: &str) -> Resource {
    let given = Resource::builder().build();
    let own = [
        ("service.name", "entra-mcp"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance_id),
    ];
    let missing = own.into_iter().filter(|(name, _)| {
        let value = given.get(&opentelemetry::Key::new(*name));
        value.is_none_or(|value| value.as_str().starts_with("unknown_service"))
    });
    let missing = missing.map(|(name, value)| KeyValue::new(name, value.to_owned()));
    Resource::builder().with_attributes(missing).build()
}
