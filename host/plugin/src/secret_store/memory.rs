//! Records in the memory of this process: for tests, and for people that want to sign in at every start.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{SecretBytes, SecretStore, StoreError, StoreLimits, same};
use crate::clock::Clock;

/// What the store may have in it. The component stores a handful of records per account and per session. The bound guards
/// against a runaway component, and against clients that begin sign-ins and do not finish them. 256 MiB.
const LIMITS: StoreLimits = StoreLimits { records: 50_000, bytes: 256 << 20 };

/// Most expired records that a write removes. A write adds one record, so what has expired leaves by and by, and no write holds up
/// others while it removes all of them.
const MAX_SWEPT: usize = 64;

/// A store that ends with the process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    by_name: HashMap<Arc<str>, MemoryRecord>,
    /// The records that expire, the next one first.
    by_expiry: BTreeSet<(Duration, Arc<str>)>,
    /// Bytes of all values.
    bytes: u64,
}

impl Records {
    fn remove(&mut self, key: &str) -> Option<MemoryRecord> {
        let (name, record) = self.by_name.remove_entry(key)?;
        self.bytes = self.bytes.saturating_sub(record.size());
        if let Some(expires_at) = record.expires_at {
            self.by_expiry.remove(&(expires_at, name));
        }
        Some(record)
    }

    fn insert(&mut self, key: &str, record: MemoryRecord) {
        self.remove(key);
        let name: Arc<str> = key.into();
        self.bytes = self.bytes.saturating_add(record.size());
        if let Some(expires_at) = record.expires_at {
            self.by_expiry.insert((expires_at, Arc::clone(&name)));
        }
        self.by_name.insert(name, record);
    }

    /// Removes at most [`MAX_SWEPT`] records that have expired.
    fn sweep(&mut self, now: Duration) {
        for _ in 0..MAX_SWEPT {
            let next = self.by_expiry.first().filter(|(expires_at, _)| *expires_at <= now);
            let Some(name) = next.map(|(_, name)| Arc::clone(name)) else { return };
            self.remove(&name);
        }
    }

    /// Whether a new record of so many bytes has room.
    fn has_room(&self, bytes: u64, limits: StoreLimits) -> bool {
        (self.by_name.len() as u64) < limits.records && self.bytes.saturating_add(bytes) <= limits.bytes
    }
}

struct MemoryRecord {
    value: SecretBytes,
    expires_at: Option<Duration>,
}

impl MemoryRecord {
    fn size(&self) -> u64 {
        self.value.reveal().len() as u64
    }
}

impl MemoryStore {
    /// What it may have in it.
    pub const LIMITS: StoreLimits = LIMITS;

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
        let now = self.clock.now();
        let record = MemoryRecord { value, expires_at: ttl.map(|ttl| now.saturating_add(ttl)) };
        // What is there can always be written anew.
        let is_known = records.by_name.contains_key(key);
        records.sweep(now);
        if !is_known && !records.has_room(record.size(), LIMITS.for_record(key, ttl)) {
            let StoreLimits { records, bytes } = LIMITS;
            return Err(StoreError::Full(format!("{records} records or {bytes} bytes are the most")));
        }
        records.insert(key, record);
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

    /// Lives longer than what the reserve is for.
    const LONG: Option<Duration> = Some(Duration::from_secs(301));

    async fn full(clock: &ManualClock) -> MemoryStore {
        let store = MemoryStore::new(Arc::new(clock.clone()));
        for number in 0..LIMITS.records {
            store.put(&number.to_string(), bytes("v"), LONG).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn expired_records_make_room_for_others() {
        let clock = ManualClock::new(0);
        let store = full(&clock).await;
        assert!(matches!(store.put("k", bytes("v"), None).await, Err(StoreError::Full(_))));
        store.put("7", bytes("what is there is written anew"), LONG).await.unwrap();
        clock.advance(Duration::from_secs(301));
        store.put("k", bytes("v"), None).await.unwrap();
    }

    #[tokio::test]
    async fn a_write_removes_so_many_expired_records_and_no_more() {
        let clock = ManualClock::new(0);
        let store = full(&clock).await;
        clock.advance(Duration::from_secs(301));
        let most = usize::try_from(LIMITS.records).unwrap();
        for write in 1..=3 {
            store.put("k", bytes("v"), None).await.unwrap();
            let records = store.records();
            assert_eq!(records.by_name.len(), most - write * MAX_SWEPT + 1);
            assert_eq!(records.by_expiry.len(), most - write * MAX_SWEPT);
        }
        assert_eq!(text(&store, "0").await, None, "whether removed or not, it is gone");
    }

    #[tokio::test]
    async fn in_a_full_store_a_twentieth_is_left_for_what_lives_shortly() {
        let store = full(&ManualClock::new(0)).await;
        let short = Some(Duration::from_secs(300));
        for number in 0..LIMITS.records / 20 {
            store.put(&format!("lease/{number}"), bytes("v"), short).await.unwrap();
        }
        assert!(matches!(store.put("lease", bytes("v"), short).await, Err(StoreError::Full(_))));
        store.delete("lease/7").await.unwrap();
        assert!(matches!(store.put("host/limit/count", bytes("v"), short).await, Err(StoreError::Full(_))));
        store.put("lease/7", bytes("v"), short).await.unwrap();
        store.delete("7").await.unwrap();
        assert!(matches!(store.put("session", bytes("v"), None).await, Err(StoreError::Full(_))));
        store.put("lease", bytes("v"), short).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_replaced_taken_or_deleted_is_not_kept_by_its_expiry() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        for key in ["replaced", "taken", "deleted"] {
            store.put(key, bytes("v"), LONG).await.unwrap();
        }
        store.put("replaced", bytes("for ever"), None).await.unwrap();
        store.take("taken").await.unwrap();
        store.delete("deleted").await.unwrap();
        let records = store.records();
        assert_eq!((records.by_name.len(), records.by_expiry.len(), records.bytes), (1, 0, 8));
    }

    #[tokio::test]
    async fn large_records_are_bounded_together() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(0)));
        let large = || SecretBytes::new(vec![7; crate::secret_store::MAX_VALUE_BYTES]);
        let most = LIMITS.bytes / crate::secret_store::MAX_VALUE_BYTES as u64;
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
