//! Audit records, counted and sent to a collector besides being written.
//!
//! Whether an event is recorded is decided by the sink below alone: a collector may be down, and is never waited for.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use entra_mcp_plugin::audit::{AuditRecord, AuditSink, Outcome, outcome};
use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, Severity};
use opentelemetry_sdk::logs::SdkLogger;

use super::Telemetry;
use crate::audit::trace;

/// Counts and exports the events that another sink records.
pub(crate) struct ObservedAudit {
    inner: Arc<dyn AuditSink>,
    telemetry: Telemetry,
}

impl ObservedAudit {
    /// The sink itself, if nothing is observed.
    pub(crate) fn over(inner: Arc<dyn AuditSink>, telemetry: &Telemetry) -> Arc<dyn AuditSink> {
        match &telemetry.0 {
            None => inner,
            Some(_) => Arc::new(Self { inner, telemetry: telemetry.clone() }),
        }
    }
}

#[async_trait]
impl AuditSink for ObservedAudit {
    async fn record(&self, record: AuditRecord) -> Result<(), String> {
        if let Some(metrics) = self.telemetry.metrics() {
            let event = KeyValue::new("event", record.event.name.clone());
            let events = record.event.suppressed.unwrap_or(0).saturating_add(1);
            metrics.audit_events.add(events, &[event, KeyValue::new("outcome", outcome(record.event.outcome))]);
        }
        if let Some(logger) = self.telemetry.logger() {
            export(logger, &record);
        }
        let recorded = self.inner.record(record).await;
        if let (Err(_), Some(metrics)) = (&recorded, self.telemetry.metrics()) {
            metrics.audit_failures.add(1, &[]);
        }
        recorded
    }
}

/// The same fields as in a line of JSON.
fn export(logger: &SdkLogger, record: &AuditRecord) {
    let event = &record.event;
    let mut log = logger.create_log_record();
    log.set_target("audit");
    if let Some(time) = UNIX_EPOCH.checked_add(record.time) {
        log.set_timestamp(time);
        log.set_observed_timestamp(time);
    }
    let (number, text) = match event.outcome {
        Outcome::Failure => (Severity::Warn, "WARN"),
        Outcome::Success | Outcome::Started => (Severity::Info, "INFO"),
    };
    log.set_severity_number(number);
    log.set_severity_text(text);
    log.set_body(AnyValue::from(event.name.clone()));
    log.add_attribute("event", event.name.clone());
    log.add_attribute("outcome", outcome(event.outcome));
    log.add_attribute("correlation_id", event.correlation_id.clone());
    let fields = [
        ("reason", &event.reason),
        ("tenant_id", &event.tenant_id),
        ("object_id", &event.object_id),
        ("client_id", &event.client_id),
        ("token_id", &event.token_id),
        ("session", &event.session),
        ("tool", &event.tool),
        ("server", &event.server),
        ("kind", &event.kind),
        ("address", &event.address),
        ("username", &event.username),
        ("agent", &event.agent),
        ("agent_blueprint", &event.agent_blueprint),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            log.add_attribute(name, value.clone());
        }
    }
    let numbers = [
        ("latency_us", event.latency_us),
        ("suppressed", event.suppressed),
        ("upstream_status", event.upstream_status),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            log.add_attribute(name, i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
    if let Some(trace) = trace(event) {
        log.set_trace_context(trace.trace_id(), trace.parent_id(), Some(trace.flags()));
    }
    logger.emit(log);
}
