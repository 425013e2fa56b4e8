//! Records in the memory of an instance, for as long as the instance lives.
//!
//! Threat: an instance that a host keeps gathers records until the memory of all callers is used up. So expired ones go first,
//! and beyond a bound no record is added.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use world::{Clock, Store, StoreError};

/// Records at most: a few for each of some hundred callers.
const MAX_RECORDS: usize = 1_000;

/// The store.
pub struct Memory<C> {
    clock: C,
    records: RefCell<HashMap<String, Record>>,
}

struct Record {
    value: Secret<Vec<u8>>,
    /// By the monotonic clock. `None`: it stays.
    expires_at: Option<Duration>,
}

impl<C: Clock> Memory<C> {
    /// An empty one.
    pub fn new(clock: C) -> Self {
        Self { clock, records: RefCell::default() }
    }

    fn read(&self, key: &str) -> Option<Secret<Vec<u8>>> {
        let now = self.clock.monotonic();
        let records = self.records.borrow();
        records.get(key).filter(|record| record.is_alive(now)).map(|record| record.value.clone())
    }

    fn write(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        let now = self.clock.monotonic();
        let mut records = self.records.borrow_mut();
        if records.len() >= MAX_RECORDS {
            records.retain(|_, record| record.is_alive(now));
        }
        if records.len() >= MAX_RECORDS && !records.contains_key(key) {
            return Err(StoreError::Full(format!("there are {MAX_RECORDS} records")));
        }
        let expires_at = ttl.map(|ttl| now.saturating_add(ttl));
        records.insert(key.to_owned(), Record { value: Secret::new(value.to_vec()), expires_at });
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.records.borrow_mut().remove(key);
    }
}

impl Record {
    fn is_alive(&self, now: Duration) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

#[async_trait(?Send)]
impl<C: Clock> Store for Memory<C> {
    async fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        Ok(self.read(key))
    }

    async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        self.write(key, value, ttl)
    }

    async fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        let found = self.read(key);
        self.remove(key);
        Ok(found)
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let known = self.read(key);
        if known.as_ref().map(|known| known.reveal().as_slice()) != expected {
            return Ok(false);
        }
        self.write(key, value, ttl).map(|()| true)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use world::testing::{World, run};

    use super::*;

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    fn value(memory: &Memory<World>, key: &str) -> Option<Vec<u8>> {
        run(memory.get(key)).unwrap().map(|value| value.reveal().clone())
    }

    #[test]
    fn a_record_is_there_until_its_time_has_passed() {
        let world = World::default();
        let memory = Memory::new(world.clone());
        run(memory.put("a", b"1", MINUTE)).unwrap();
        run(memory.put("b", b"2", None)).unwrap();
        world.advance(Duration::from_secs(59));
        assert_eq!(value(&memory, "a"), Some(b"1".to_vec()));
        world.advance(Duration::from_secs(1));
        assert_eq!((value(&memory, "a"), value(&memory, "b")), (None, Some(b"2".to_vec())));
        assert!(run(memory.take("b")).unwrap().is_some());
        assert_eq!(value(&memory, "b"), None);
    }

    #[test]
    fn a_record_is_swapped_only_if_it_is_what_was_read() {
        let world = World::default();
        let memory = Memory::new(world.clone());
        let swap =
            |expected: Option<&[u8]>, to: &[u8]| run(memory.compare_and_swap("a", expected, to, MINUTE)).unwrap();
        assert!(!swap(Some(b"0"), b"1"));
        assert!(swap(None, b"1"));
        assert!(!swap(None, b"2"));
        assert!(swap(Some(b"1"), b"2"));
        world.advance(Duration::from_secs(60));
        assert!(swap(None, b"3"));
        run(memory.delete("a")).unwrap();
        assert_eq!(value(&memory, "a"), None);
    }

    #[test]
    fn beyond_the_bound_expired_records_make_room_and_no_others() {
        let world = World::default();
        let memory = Memory::new(world.clone());
        for number in 0..MAX_RECORDS {
            run(memory.put(&number.to_string(), b"1", MINUTE)).unwrap();
        }
        assert!(matches!(run(memory.put("more", b"1", MINUTE)), Err(StoreError::Full(_))));
        // One that is there can be changed.
        run(memory.put("0", b"2", MINUTE)).unwrap();
        world.advance(Duration::from_secs(60));
        run(memory.put("more", b"1", MINUTE)).unwrap();
        assert_eq!(value(&memory, "more"), Some(b"1".to_vec()));
    }
}
