//! The record of security events (`wit/audit.wit`).
//!
//! The component says what happened. The host adds the time, and decides where the event goes. By contract an event
//! holds no token, secret, name or e-mail address; the user principal name is in `username` or nowhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::bindings::audit as wit;
use crate::clock::Clock;

pub use bounded::{BoundedAudit, CALLED_RECORDS, DENIED_RECORDS, REFRESH_RECORDS, STRANGER_RECORDS};
pub use event::{Event, Outcome};

mod bounded;
mod event;

/// An event, and what the host knows about it.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// Time of the event since the Unix epoch.
    pub time: Duration,
    /// The events of the component.
    pub event: Event,
}

/// Takes records. After an error, the component refuses what it was about to do.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Records an event, in the task of the call that it belongs to.
    async fn record(&self, record: AuditRecord) -> Result<(), String>;
}

/// The name of an outcome in records.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Started => "started",
    }
}

/// Records events in the log, under the target `audit`: for a local server, whose user has no other records. A log may
/// lose lines, so this sink never refuses anything.
#[derive(Debug, Default)]
pub struct LogAudit;

#[async_trait]
impl AuditSink for LogAudit {
    async fn record(&self, AuditRecord { time, event }: AuditRecord) -> Result<(), String> {
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
            agent = event.agent,
            agent_blueprint = event.agent_blueprint,
            suppressed = event.suppressed,
            latency_us = event.latency_us,
            trace_id = event.trace_parent.as_deref().and_then(trace_id),
            correlation_id = event.correlation_id,
            attributes = further.as_deref(),
        );
        Ok(())
    }
}

/// The trace that an event names (W3C Trace Context, section 3.2): the second of the fields that hyphens part.
fn trace_id(trace_parent: &str) -> Option<&str> {
    let is_id = |text: &&str| {
        text.len() == 32
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && text.contains(|c| c != '0')
    };
    trace_parent.split('-').nth(1).filter(is_id)
}

/// Keeps events in memory, for tests and for embedders that read them.
#[derive(Debug, Default, Clone)]
pub struct MemoryAudit {
    events: Arc<Mutex<Vec<(u64, Event)>>>,
}

impl MemoryAudit {
    /// The events so far, each with its time in Unix seconds.
    pub fn events(&self) -> Vec<(u64, Event)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl AuditSink for MemoryAudit {
    async fn record(&self, AuditRecord { time, event, .. }: AuditRecord) -> Result<(), String> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push((time.as_secs(), event));
        Ok(())
    }
}

/// The state of an instance.
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
        let recorded = self.sink.record(AuditRecord { time: self.clock.now(), event }).await;
        if let Err(reason) = &recorded {
            tracing::error!(%reason, "an audit event could not be recorded");
        }
        Ok(recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::trace_id;

    #[test]
    fn the_log_names_the_trace_of_an_event_and_nothing_else_that_stands_in_its_place() {
        const ID: &str = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&format!("00-{ID}-b7ad6b7169203331-01")), Some(ID));
        for text in ["", ID, "00", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "00-\u{1b}[31m-x-01"] {
            assert_eq!(trace_id(text), None, "{text}");
        }
        assert_eq!(trace_id("00-00000000000000000000000000000000-b7ad6b7169203331-01"), None);
    }
}
