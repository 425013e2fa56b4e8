//! A rate limiter whose refusals are counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_plugin::rate_limiter::{RECORD_OF, RateLimiter};
use opentelemetry::KeyValue;

use super::Telemetry;

/// Counts the refusals of another rate limiter.
pub(crate) struct ObservedRateLimiter {
    inner: Arc<dyn RateLimiter>,
    telemetry: Telemetry,
}

impl ObservedRateLimiter {
    /// The limiter itself, if nothing is observed.
    pub(crate) fn over(inner: Arc<dyn RateLimiter>, telemetry: &Telemetry) -> Arc<dyn RateLimiter> {
        match telemetry.metrics() {
            None => inner,
            Some(_) => Arc::new(Self { inner, telemetry: telemetry.clone() }),
        }
    }
}

#[async_trait]
impl RateLimiter for ObservedRateLimiter {
    async fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        let admitted = self.inner.admit(operation, subject).await;
        // For an operation that bounds records, the request itself is counted already.
        let is_request = !operation.starts_with(RECORD_OF);
        if let (true, Err(_), Some(metrics)) = (is_request, &admitted, self.telemetry.metrics()) {
            // The label has a fixed set of values: only operations that the settings name are ever refused.
            metrics.rate_limited.add(1, &[KeyValue::new("operation", operation.to_owned())]);
        }
        admitted
    }
}
