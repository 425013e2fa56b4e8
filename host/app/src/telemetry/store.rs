//! A secret store whose errors are counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_plugin::secret_store::{SecretBytes, SecretStore, StoreError};
use opentelemetry::KeyValue;

use super::Telemetry;

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
                StoreError::Damaged { .. } => "damaged",
                StoreError::Full(_) => "full",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::TelemetryConfig;

    /// A store that cannot be reached.
    struct Gone;

    #[async_trait]
    impl SecretStore for Gone {
        async fn get(&self, _: &str) -> Result<Option<SecretBytes>, StoreError> {
            Err(StoreError::Unavailable("gone".to_owned()))
        }

        async fn put(&self, _: &str, _: SecretBytes, _: Option<Duration>) -> Result<(), StoreError> {
            Err(StoreError::TooLarge)
        }

        async fn take(&self, _: &str) -> Result<Option<SecretBytes>, StoreError> {
            Err(StoreError::Unreadable)
        }

        async fn compare_and_swap(
            &self,
            _: &str,
            _: Option<SecretBytes>,
            _: SecretBytes,
            _: Option<Duration>,
        ) -> Result<bool, StoreError> {
            Ok(false)
        }

        async fn delete(&self, _: &str) -> Result<(), StoreError> {
            Err(StoreError::Full("the disk has no room".to_owned()))
        }
    }

    #[tokio::test]
    async fn errors_are_counted_by_operation_and_without_the_name_of_a_record() {
        let telemetry = Telemetry::start(&TelemetryConfig { prometheus: true, ..TelemetryConfig::default() }).unwrap();
        let store = ObservedStore::over(Arc::new(Gone), &telemetry);
        let value = SecretBytes::new(Vec::new());
        for _ in 0..2 {
            store.get("sessions/1").await.unwrap_err();
        }
        assert_eq!(store.put("sessions/1", value.clone(), None).await, Err(StoreError::TooLarge));
        store.take("sessions/1").await.unwrap_err();
        assert_eq!(store.compare_and_swap("sessions/1", None, value, None).await, Ok(false));
        store.delete("sessions/1").await.unwrap_err();
        let text = String::from_utf8(telemetry.text().unwrap()).unwrap();
        let counted: Vec<_> = text.lines().filter(|line| line.starts_with("entra_mcp_store_errors_total{")).collect();
        assert_eq!(
            counted,
            [
                r#"entra_mcp_store_errors_total{error_type="full",operation="delete"} 1"#,
                r#"entra_mcp_store_errors_total{error_type="too-large",operation="put"} 1"#,
                r#"entra_mcp_store_errors_total{error_type="unavailable",operation="get"} 2"#,
                r#"entra_mcp_store_errors_total{error_type="unreadable",operation="take"} 1"#,
            ]
        );
        assert!(!text.contains("sessions/1"));
    }
}
