//! The record of security events (`wit/audit.wit`).
//!
//! The component says what happened; the host adds the time and decides where it goes. By contract an event holds
//! no token, secret, name or e-mail address.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::bindings::audit as wit;
use crate::clock::Clock;

pub use crate::bindings::audit::{Event, Outcome};

/// Takes records. An error makes the component refuse what it was about to do.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Records `event`, which happened at `unix_seconds`.
    async fn record(&self, unix_seconds: u64, event: Event) -> Result<(), String>;
}

/// Records events in the log, under the target `audit`.
#[derive(Debug, Default)]
pub struct LogAudit;

#[async_trait]
impl AuditSink for LogAudit {
    async fn record(&self, unix_seconds: u64, event: Event) -> Result<(), String> {
        tracing::info!(
            target: "audit",
            time = unix_seconds,
            event = event.name,
            outcome = match event.outcome {
                Outcome::Success => "success",
                Outcome::Failure => "failure",
                Outcome::Started => "started",
            },
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
            correlation_id = event.correlation_id,
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
    /// What was recorded so far, with the time of each event.
    pub fn events(&self) -> Vec<(u64, Event)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl AuditSink for MemoryAudit {
    async fn record(&self, unix_seconds: u64, event: Event) -> Result<(), String> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push((unix_seconds, event));
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
    async fn record(&mut self, event: Event) -> wasmtime::Result<Result<(), String>> {
        let recorded = self.sink.record(self.clock.now_seconds(), event).await;
        if let Err(reason) = &recorded {
            tracing::error!(%reason, "an audit event could not be recorded");
        }
        Ok(recorded)
    }
}
