//! Bounds of how often something may be done (`wit/rate-limiter.wit`).

use std::sync::Arc;
use std::time::Duration;

use crate::bindings::rate_limiter as wit;

/// Counts operations by subject.
pub trait RateLimiter: Send + Sync + 'static {
    /// Counts one `operation` by `subject`; an error says after which time to try again.
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration>;
}

/// Admits everything: for hosts without strangers.
#[derive(Debug, Default)]
pub struct NoRateLimiter;

impl RateLimiter for NoRateLimiter {
    fn admit(&self, _: &str, _: &str) -> Result<(), Duration> {
        Ok(())
    }
}

/// What an instance holds.
pub(crate) struct RateLimiterCtx {
    limiter: Arc<dyn RateLimiter>,
}

impl RateLimiterCtx {
    pub(crate) fn new(limiter: Arc<dyn RateLimiter>) -> Self {
        Self { limiter }
    }
}

impl wit::Host for RateLimiterCtx {
    async fn admit(&mut self, operation: String, subject: String) -> wasmtime::Result<Result<(), wit::Exceeded>> {
        Ok(self.limiter.admit(&operation, &subject).map_err(|after| wit::Exceeded {
            retry_after_seconds: u32::try_from(after.as_secs()).unwrap_or(u32::MAX).max(1),
        }))
    }
}
