//! A store whose records can be read, and not changed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{SecretBytes, SecretStore, StoreError};

/// The records of another store. Every function that would change one is refused.
pub struct ReadOnly(Arc<dyn SecretStore>);

impl ReadOnly {
    /// The records of `store`.
    pub fn new(store: Arc<dyn SecretStore>) -> Self {
        Self(store)
    }
}

/// What a function that would change a record says.
pub(super) fn refused<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("it is only looked at".to_owned()))
}

#[async_trait]
impl SecretStore for ReadOnly {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        self.0.get(key).await
    }

    async fn put(&self, _: &str, _: SecretBytes, _: Option<Duration>) -> Result<(), StoreError> {
        refused()
    }

    async fn take(&self, _: &str) -> Result<Option<SecretBytes>, StoreError> {
        refused()
    }

    async fn compare_and_swap(
        &self,
        _: &str,
        _: Option<SecretBytes>,
        _: SecretBytes,
        _: Option<Duration>,
    ) -> Result<bool, StoreError> {
        refused()
    }

    async fn delete(&self, _: &str) -> Result<(), StoreError> {
        refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::secret_store::MemoryStore;

    #[tokio::test]
    async fn records_are_read_and_nothing_changes_them() {
        let bytes = |text: &str| SecretBytes::new(text.into());
        let records: Arc<dyn SecretStore> = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(0))));
        records.put("account", bytes("value"), None).await.unwrap();
        let looked_at = ReadOnly::new(Arc::clone(&records));
        let refusal = StoreError::Unavailable("it is only looked at".to_owned());
        assert_eq!(looked_at.put("account", bytes("other"), None).await, Err(refusal.clone()));
        assert_eq!(looked_at.take("account").await.unwrap_err(), refusal);
        assert_eq!(looked_at.compare_and_swap("other", None, bytes("x"), None).await, Err(refusal.clone()));
        assert_eq!(looked_at.delete("account").await, Err(refusal));
        assert_eq!(looked_at.get("account").await.unwrap().unwrap().reveal(), b"value");
        assert!(records.get("other").await.unwrap().is_none());
    }
}
