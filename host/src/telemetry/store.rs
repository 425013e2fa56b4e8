//! A secret store whose errors are counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;

use super::Telemetry;
use crate::secret_store::{SecretBytes, SecretStore, StoreError};

/// Counts the errors of another store.
pub(crate) struct ObservedStore {
    inner: Arc<dyn SecretStore>,
    telemetry: Telemetry,
}

impl ObservedStore {
    /// The store itself, if nothing is observed.
    pub(crate) fn over(inner: Arc<dyn SecretStore>, telemetry: &Telemetry) -> Arc<dyn SecretStore> {
        match telemetry.metrics() {
            None => inner,
            Some(_) => Arc::new(Self { inner, telemetry: telemetry.clone() }),
        }
    }

    fn observed<T>(&self, operation: &'static str, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let (Err(error), Some(metrics)) = (&result, self.telemetry.metrics()) {
            let error = match error {
                StoreError::TooLarge => "too-large",
                StoreError::Unreadable => "unreadable",
                StoreError::Unavailable(_) => "unavailable",
            };
            metrics.store_errors.add(1, &[KeyValue::new("operation", operation), KeyValue::new("error.type", error)]);
        }
        result
    }
}

#[async_trait]
impl SecretStore for ObservedStore {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let result = self.inner.get(key).await;
        self.observed("get", result)
    }

    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        let result = self.inner.put(key, value, ttl).await;
        self.observed("put", result)
    }

    async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let result = self.inner.take(key).await;
        self.observed("take", result)
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<SecretBytes>,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let result = self.inner.compare_and_swap(key, expected, value, ttl).await;
        self.observed("compare-and-swap", result)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let result = self.inner.delete(key).await;
        self.observed("delete", result)
    }
}
