//! The record of security events (`wit/audit.wit`).
//!
//! The component says what happened; the host adds the time and the trace, and decides where it goes. By contract an
//! event holds no token, secret, name or e-mail address; the user principal name is in `username` or nowhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::bindings::audit as wit;
use crate::clock::Clock;
use crate::telemetry::TraceParent;

pub use event::{Event, Outcome};
pub use file::{AuditFileError, Rotation};
pub use journal::{Destination, JsonLinesAudit, OnFailure};

mod event;
mod file;
mod journal;
mod line;

/// An event, and what the host knows of it.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it happened: time since the Unix epoch.
    pub time: Duration,
    /// The trace that it belongs to: the one that the MCP message names, else that of the HTTP request; and in it the
    /// span of the request, if there is one.
    pub trace: Option<TraceParent>,
    /// What the component says.
    pub event: Event,
}

/// Takes records. An error makes the component refuse what it was about to do.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Records an event.
    async fn record(&self, record: Record) -> Result<(), String>;
}

/// The name of an outcome in records.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Started => "started",
    }
}

/// Records events in the log, under the target `audit`: for a local server, whose log is all that its user has. A log
/// may lose lines, so this never refuses anything.
#[derive(Debug, Default)]
pub struct LogAudit;

#[async_trait]
impl AuditSink for LogAudit {
    async fn record(&self, Record { time, trace, event }: Record) -> Result<(), String> {
        let further = (!event.further.is_empty()).then(|| serde_json::json!(event.further).to_string());
        tracing::info!(
            target: "audit",
            time = time.as_secs(),
            event = event.name,
            outcome = outcome(event.outcome),
            reason = event.reason,
            tenant_id = event.tenant_id,
            object_id = event.object_id,
            client_id = event.client_id,
            tool = event.tool,
            token_id = event.token_id,
            session = event.session,
            address = event.address,
            username = event.username,
            latency_us = event.latency_us,
            trace_id = trace.map(|trace| trace.trace_id().to_string()),
            correlation_id = event.correlation_id,
            attributes = further.as_deref(),
        );
        Ok(())
    }
}

/// Keeps events in memory, for tests and for embedders that look at them.
#[derive(Debug, Default, Clone)]
pub struct MemoryAudit {
    events: Arc<Mutex<Vec<(u64, Event)>>>,
}

impl MemoryAudit {
    /// What was recorded so far, with the time of each event in Unix seconds.
    pub fn events(&self) -> Vec<(u64, Event)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl AuditSink for MemoryAudit {
    async fn record(&self, Record { time, event, .. }: Record) -> Result<(), String> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push((time.as_secs(), event));
        Ok(())
    }
}

/// What an instance holds.
pub(crate) struct AuditCtx {
    sink: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
}

impl AuditCtx {
    pub(crate) fn new(sink: Arc<dyn AuditSink>, clock: Arc<dyn Clock>) -> Self {
        Self { sink, clock }
    }
}

impl wit::Host for AuditCtx {
    async fn record(&mut self, event: wit::Event) -> wasmtime::Result<Result<(), String>> {
        let event = Event::from(event);
        let named = event.trace_parent.as_deref().and_then(TraceParent::parse);
        let trace = named.map(TraceParent::or_our_own_in_it).or_else(TraceParent::current);
        let recorded = self.sink.record(Record { time: self.clock.now(), trace, event }).await;
        if let Err(reason) = &recorded {
            tracing::error!(%reason, "an audit event could not be recorded");
        }
        Ok(recorded)
    }
}

#[cfg(test)]
mod testing {
    use super::{Event, Outcome};

    /// An event with nothing but its name.
    pub(super) fn event(name: &str) -> Event {
        Event::new(name, Outcome::Success, "c0ffee")
    }
}
