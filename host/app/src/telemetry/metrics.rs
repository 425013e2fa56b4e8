//! The metrics. Their names follow OpenTelemetry's conventions where there are any; Prometheus sees
//! `http.server.request.duration` as `http_server_request_duration_seconds`.
//!
//! Every label has a fixed set of values: the program names routes and endpoints, the configuration names servers, and no
//! label holds a value that a client chooses.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_plugin::Plugin;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};
use tokio::time::Instant;

use super::{Telemetry, process};
use crate::audit::JsonLinesAudit;

/// Bounds of the durations in seconds. An authenticated call takes less than a millisecond; a request 60 s at most.
const DURATIONS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The instruments.
pub(super) struct Metrics {
    meter: Meter,
    pub(super) server_duration: Histogram<f64>,
    pub(super) server_active: UpDownCounter<i64>,
    pub(super) client_duration: Histogram<f64>,
    pub(super) upstream_duration: Histogram<f64>,
    pub(super) tool_duration: Histogram<f64>,
    pub(super) rate_limited: Counter<u64>,
    pub(super) audit_events: Counter<u64>,
    pub(super) audit_failures: Counter<u64>,
    pub(super) store_errors: Counter<u64>,
}

impl Metrics {
    pub(super) fn new(meter: Meter) -> Self {
        let duration = |name: &'static str, description: &'static str| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(description);
            builder.with_boundaries(DURATIONS.to_vec()).build()
        };
        let counter = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_description(description).build()
        };
        let metrics = Self {
            server_duration: duration("http.server.request.duration", "Time from a request to the head of its answer"),
            server_active: meter
                .i64_up_down_counter("http.server.active_requests")
                .with_description("Requests that are being read or answered")
                .build(),
            client_duration: duration(
                "http.client.request.duration",
                "Time of requests to Entra ID, Graph, and the APIs that tool components ask",
            ),
            upstream_duration: duration(
                "entra_mcp.upstream.request.duration",
                "Time from a request to a server behind to the head of its answer",
            ),
            tool_duration: duration("entra_mcp.tool.call.duration", "Time of calls of tool components"),
            rate_limited: counter("entra_mcp.rate_limited", "Requests over the bound of an operation"),
            audit_events: counter("entra_mcp.audit.events", "Security events"),
            audit_failures: counter("entra_mcp.audit.failures", "Events that could not be recorded and were refused"),
            store_errors: counter("entra_mcp.store.errors", "Failed operations of the secret store"),
            meter,
        };
        metrics.observe_process();
        metrics
    }

    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    fn observe_process(&self) {
        // Instruments with a callback live as long as the meter.
        let _ = self
            .meter
            .u64_observable_gauge("process.memory.usage")
            .with_unit("By")
            .with_description("Memory that is in use (resident set)")
            .with_callback(|observer| {
                if let Some(bytes) = process::resident_bytes() {
                    observer.observe(bytes, &[]);
                }
            })
            .build();
        let started = Instant::now();
        let _ = self
            .meter
            .f64_observable_gauge("process.uptime")
            .with_unit("s")
            .with_description("Time since the start")
            .with_callback(move |observer| observer.observe(started.elapsed().as_secs_f64(), &[]))
            .build();
        let version = [KeyValue::new("version", env!("CARGO_PKG_VERSION"))];
        let _ = self
            .meter
            .u64_observable_gauge("entra_mcp.build.info")
            .with_description("Always 1; the version is the label")
            .with_callback(move |observer| observer.observe(1, &version))
            .build();
    }

    fn observe_plugin(&self, plugin: &Arc<Plugin>) {
        let watched = Arc::downgrade(plugin);
        let _ = self
            .meter
            .u64_observable_gauge("entra_mcp.instances")
            .with_description("Instances of the component")
            .with_callback(move |observer| {
                let Some(statistics) = watched.upgrade().map(|plugin| plugin.statistics()) else { return };
                observer.observe(statistics.busy as u64, &[KeyValue::new("state", "busy")]);
                observer.observe(statistics.idle as u64, &[KeyValue::new("state", "idle")]);
            })
            .build();
        let watched = Arc::downgrade(plugin);
        let _ = self
            .meter
            .u64_observable_gauge("entra_mcp.queue.length")
            .with_description("Requests that wait for an instance")
            .with_callback(move |observer| {
                if let Some(plugin) = watched.upgrade() {
                    observer.observe(plugin.statistics().waiting as u64, &[]);
                }
            })
            .build();
        let watched = Arc::downgrade(plugin);
        let _ = self
            .meter
            .u64_observable_counter("entra_mcp.instances.created")
            .with_description("Instances that were made")
            .with_callback(move |observer| {
                if let Some(plugin) = watched.upgrade() {
                    observer.observe(plugin.statistics().created, &[]);
                }
            })
            .build();
        let watched = Arc::downgrade(plugin);
        let _ = self
            .meter
            .u64_observable_counter("entra_mcp.instances.ended")
            .with_description(
                "Instances that the host has dropped: after enough calls, after a failure, or because the caller left",
            )
            .with_callback(move |observer| {
                let Some(statistics) = watched.upgrade().map(|plugin| plugin.statistics()) else { return };
                observer.observe(statistics.recycled, &[KeyValue::new("reason", "recycled")]);
                observer.observe(statistics.trapped, &[KeyValue::new("reason", "trapped")]);
                observer.observe(statistics.cancelled, &[KeyValue::new("reason", "cancelled")]);
            })
            .build();
    }

    fn observe_audit(&self, audit: &Arc<JsonLinesAudit>) {
        let watched = Arc::downgrade(audit);
        let _ = self
            .meter
            .u64_observable_counter("entra_mcp.audit.dropped")
            .with_description("Events that could not be recorded and were dropped")
            .with_callback(move |observer| {
                if let Some(audit) = watched.upgrade() {
                    observer.observe(audit.dropped(), &[]);
                }
            })
            .build();
    }
}

impl Telemetry {
    /// Observes the instances of `plugin` from now on.
    pub fn observe_plugin(&self, plugin: &Arc<Plugin>) {
        if let Some(metrics) = self.metrics() {
            metrics.observe_plugin(plugin);
        }
    }

    /// From now on, the events that `audit` drops are observed.
    pub fn observe_audit(&self, audit: &Arc<JsonLinesAudit>) {
        if let Some(metrics) = self.metrics() {
            metrics.observe_audit(audit);
        }
    }
}

/// Seconds, as durations are recorded.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A method that HTTP defines: others are a client's invention.
pub(super) fn method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "PATCH" => "PATCH",
        _ => "_OTHER",
    }
}
