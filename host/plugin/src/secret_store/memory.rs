//! Records in the memory of this process: for tests, and for people that want to sign in at every start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{SecretBytes, SecretStore, StoreError, same};
use crate::clock::Clock;

/// Most records that are kept. The component stores a handful per account and per session. The bound guards against a
/// runaway component, and against clients that begin sign-ins and do not finish them.
const MAX_RECORDS: usize = 50_000;

/// Most bytes of all of them: 256 MiB.
const MAX_BYTES: usize = 256 << 20;

/// A store that ends with the process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    by_name: HashMap<String, MemoryRecord>,
    /// Bytes of all values.
    bytes: usize,
}

impl Records {
    fn remove(&mut self, key: &str) -> Option<MemoryRecord> {
        let record = self.by_name.remove(key)?;
        self.bytes = self.bytes.saturating_sub(record.value.reveal().len());
        Some(record)
    }

    fn insert(&mut self, key: &str, record: MemoryRecord) {
        self.remove(key);
        self.bytes = self.bytes.saturating_add(record.value.reveal().len());
        self.by_name.insert(key.to_owned(), record);
    }

    /// Whether a new record of so many bytes has room.
    fn has_room(&self, bytes: usize) -> bool {
        self.by_name.len() < MAX_RECORDS && self.bytes.saturating_add(bytes) <= MAX_BYTES
    }
}

struct MemoryRecord {
    value: SecretBytes,
    expires_at: Option<Duration>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, records: Mutex::default() }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_live(&self, record: &MemoryRecord) -> bool {
        record.expires_at.is_none_or(|expires_at| self.clock.now() < expires_at)
    }

    fn insert(
        &self,
        records: &mut Records,
        key: &str,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        let size = value.reveal().len();
        if !records.has_room(size) && !records.by_name.contains_key(key) {
            records.by_name.retain(|_, record| self.is_live(record));
            records.bytes = records.by_name.values().map(|record| record.value.reveal().len()).sum();
            if !records.has_room(size) {
                return Err(StoreError::Full(format!("{MAX_RECORDS} records or {MAX_BYTES} bytes are the most")));
            }
        }
        let expires_at = ttl.map(|ttl| self.clock.now().saturating_add(ttl));
        records.insert(key, MemoryRecord { value, expires_at });
        Ok(())
    }
}

#[async_trait]
impl SecretStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.records().by_name.get(key).filter(|record| self.is_live(record)).map(|record| record.value.clone()))
    }

    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        self.insert(&mut self.records(), key, value, ttl)
    }

    async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.records().remove(key).filter(|record| self.is_live(record)).map(|record| record.value))
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<SecretBytes>,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let mut records = self.records();
        let matches = match (records.by_name.get(key).filter(|record| self.is_live(record)), &expected) {
            (None, None) => true,
            (Some(record), Some(expected)) => same(record.value.reveal(), expected.reveal()),
            _ => false,
        };
        if matches {
            self.insert(&mut records, key, value, ttl)?;
        }
        Ok(matches)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.records().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn bytes(value: &str) -> SecretBytes {
        SecretBytes::new(value.into())
    }

    async fn text(store: &MemoryStore, key: &str) -> Option<String> {
        let value = store.get(key).await.unwrap();
        value.map(|value| String::from_utf8(value.reveal().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn an_expired_record_is_as_if_it_had_never_been_stored() {
        let clock = ManualClock::new(1_000);
        let store = MemoryStore::new(Arc::new(clock.clone()));
        store.put("k", bytes("v"), Some(Duration::from_secs(10))).await.unwrap();

        clock.advance(Duration::from_secs(9));
        assert_eq!(text(&store, "k").await.as_deref(), Some("v"));
        clock.advance(Duration::from_secs(1));

        assert_eq!(text(&store, "k").await, None);
        assert!(store.compare_and_swap("k", None, bytes("w"), None).await.unwrap());
    }

    #[tokio::test]
    async fn expired_records_make_room_for_others() {
        let clock = ManualClock::new(0);
        let store = MemoryStore::new(Arc::new(clock.clone()));
        for number in 0..MAX_RECORDS {
            store.put(&number.to_string(), bytes("v"), Some(Duration::from_secs(1))).await.unwrap();
        }
        assert!(matches!(store.put("k", bytes("v"), None).await, Err(StoreError::Full(_))));
        store.put("7", bytes("what is there is written anew"), Some(Duration::from_secs(1))).await.unwrap();
        clock.advance(Duration::from_secs(1));
        store.put("k", bytes("v"), None).await.unwrap();
    }

    #[tokio::test]
    async fn large_records_are_bounded_together() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        let large = || SecretBytes::new(vec![7; crate::secret_store::MAX_VALUE_BYTES]);
        let most = MAX_BYTES / crate::secret_store::MAX_VALUE_BYTES;
        for number in 0..most {
            store.put(&number.to_string(), large(), None).await.unwrap();
        }
        assert!(matches!(store.put("k", bytes("v"), None).await, Err(StoreError::Full(_))));
        store.put("0", large(), None).await.unwrap();
        assert!(store.take("0").await.unwrap().is_some());
        store.put("k", bytes("v"), None).await.unwrap();
    }

    #[tokio::test]
    async fn a_record_is_taken_once() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        store.put("k", bytes("v"), None).await.unwrap();
        assert!(store.take("k").await.unwrap().is_some());
        assert!(store.take("k").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_swap_with_another_expectation_changes_nothing() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        store.put("k", bytes("v"), None).await.unwrap();

        assert!(!store.compare_and_swap("k", None, bytes("w"), None).await.unwrap());
        assert!(!store.compare_and_swap("k", Some(bytes("x")), bytes("w"), None).await.unwrap());
        assert_eq!(text(&store, "k").await.as_deref(), Some("v"));
        assert!(store.compare_and_swap("k", Some(bytes("v")), bytes("w"), None).await.unwrap());
        assert_eq!(text(&store, "k").await.as_deref(), Some("w"));
    }
}
