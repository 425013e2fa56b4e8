//! Why sign-ins and tokens are refused, in the log, where audit records go to a file.
//!
//! A person who looks for a fault reads the log first. A line names the event, its code and the correlation id, and
//! neither a person nor a client nor an address: those are in the record.

use std::sync::Arc;

use async_trait::async_trait;
use entra_mcp_plugin::audit::{AuditRecord, AuditSink, Outcome};

/// Logs the failures among the events that another sink records. There are no more of them than records.
pub struct LoggedRefusals {
    inner: Arc<dyn AuditSink>,
}

impl LoggedRefusals {
    /// Before another sink.
    pub fn over(inner: Arc<dyn AuditSink>) -> Arc<dyn AuditSink> {
        Arc::new(Self { inner })
    }
}

#[async_trait]
impl AuditSink for LoggedRefusals {
    async fn record(&self, record: AuditRecord) -> Result<(), String> {
        if let (Outcome::Failure, Some(reason)) = (record.event.outcome, &record.event.reason) {
            let (event, correlation_id) = (&record.event.name, &record.event.correlation_id);
            tracing::info!(%event, %reason, %correlation_id, "refused");
        }
        self.inner.record(record).await
    }
}
