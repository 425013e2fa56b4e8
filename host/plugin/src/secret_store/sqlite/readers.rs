//! Reads without a thread switch: read-only connections, and the records that they have read lately.
//!
//! A remembered record is true as long as no process has committed anything since. Every answer checks that
//! ([`WalIndex`]) after the read has begun, so a record that was deleted or replaced before a read began is never
//! answered from memory.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::read_only::connect;
use super::wal_index::{WalIndex, WalVersion};
use super::{Cipher, StoreTransaction};
use crate::secret_store::cipher::RecordError;
use crate::secret_store::{SecretBytes, StoreError};

/// Readers, so that threads do not wait for each other. Machines have more cores, but a read takes microseconds.
const READERS: usize = 4;

/// Parts of the memory. Each has a lock of its own.
const SHARDS: usize = 16;

/// Most records in one part of the memory. A record of a session has some KiB.
const MAX_REMEMBERED: usize = 128;

/// Largest record in bytes that is remembered.
const MAX_REMEMBERED_BYTES: usize = 16 * 1024;

/// All readers of a store.
pub(super) struct Readers {
    readers: Vec<Mutex<Connection>>,
    /// Without one, nothing is remembered.
    index: Option<WalIndex>,
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

/// A part of the remembered records.
#[derive(Default)]
struct Shard {
    /// The version of the database when the first of the records was read.
    version: Option<WalVersion>,
    records: HashMap<String, Remembered>,
}

struct Remembered {
    value: SecretBytes,
    expires_at: Option<i64>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let readers = (0..READERS).map(|_| connect(path).map(Mutex::new)).collect::<rusqlite::Result<_>>()?;
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Ok(Self { readers, index: WalIndex::open(path), shards, hasher: RandomState::new() })
    }

    /// Reads a record. `None`: the database cannot be read at once, or the record is under a key that is not known here. The
    /// store's own connection then waits for it, looks for the key, or reports the error.
    pub(super) fn get(&self, cipher: &Cipher, key: &str, now: u64) -> Option<Result<Option<SecretBytes>, StoreError>> {
        let hash = self.hasher.hash_one(key);
        let now_as_column = i64::try_from(now).unwrap_or(i64::MAX);
        let version = self.index.as_ref().and_then(WalIndex::version);
        let shard = self.shards.get(place(hash, self.shards.len())).zip(version);
        if let Some((shard, version)) = shard
            && let Some(remembered) = lock(shard).at(version).get(key)
        {
            let expired = remembered.expires_at.is_some_and(|expires_at| expires_at <= now_as_column);
            return Some(Ok((!expired).then(|| remembered.value.clone())));
        }
        let reader = self.reader(hash)?;
        let found = StoreTransaction { connection: &reader, cipher, now }.find(key);
        drop(reader);
        let (value, expires_at) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Some(Ok(None)),
            Err(RecordError::UnknownKey) => return None,
            Err(RecordError::Store(StoreError::Unavailable(_) | StoreError::Damaged { .. } | StoreError::Full(_))) => {
                return None;
            }
            Err(RecordError::Store(error)) => return Some(Err(error)),
        };
        if let Some((shard, version)) = shard {
            lock(shard).remember(version, key, Remembered { value: value.clone(), expires_at });
        }
        Some(Ok(Some(value)))
    }

    /// A reader that is not in use, if there is one.
    fn reader(&self, hash: u64) -> Option<MutexGuard<'_, Connection>> {
        let order = self.readers.iter().cycle().skip(place(hash, self.readers.len())).take(self.readers.len());
        let free = order.clone().find_map(|reader| reader.try_lock().ok());
        free.or_else(|| order.into_iter().next().map(lock))
    }
}

fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash % places.max(1) as u64).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// The records that are true of the database at `version`.
    fn at(&mut self, version: WalVersion) -> &HashMap<String, Remembered> {
        if self.version != Some(version) {
            self.records.clear();
            self.version = Some(version);
        }
        &self.records
    }

    /// Remembers a record that was read after the database was at `version`. If anything was committed since, the
    /// record may be older or newer than what other reads have found: it is not kept.
    fn remember(&mut self, version: WalVersion, key: &str, record: Remembered) {
        if self.version != Some(version) || record.value.reveal().len() > MAX_REMEMBERED_BYTES {
            return;
        }
        if self.records.len() >= MAX_REMEMBERED {
            self.records.clear();
        }
        self.records.insert(key.to_owned(), record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str) -> Remembered {
        Remembered { value: SecretBytes::new(value.into()), expires_at: None }
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_remembered_after_it() {
        let (before, after) = (WalVersion::of(1), WalVersion::of(2));
        let mut shard = Shard::default();
        assert!(shard.at(before).is_empty());
        // Another read has seen the commit before this one ended.
        assert!(shard.at(after).is_empty());
        shard.remember(before, "session", record("old"));
        assert!(shard.at(after).is_empty());
        shard.remember(after, "session", record("new"));
        assert_eq!(shard.at(after)["session"].value.reveal(), b"new");
        assert!(shard.at(before).is_empty());
    }
}
