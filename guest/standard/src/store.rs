//! Records in a folder that any number of instances and processes share.
//!
//! # How a record lies in the folder
//!
//! ```text
//! ab/cdef…/7f3a…/12/v        shard / record / incarnation / version / bytes
//! tmp/1767225600-5c1e…/…     what is not published yet, and what is on its way out
//! ```
//!
//! The first two names are a keyed hash of the record's key. A record has no folder, or one with one *incarnation*, whose
//! name is random and never comes again. In it are *versions*, numbered one after the other; the highest one counts. It is
//! a value with its expiry, or says that the record is gone.
//!
//! # What is atomic
//!
//! Everything that is published is made complete below `tmp` first, and then moved to its place as a folder. A move onto a
//! folder with something in it fails, so of any number of instances that make version `n + 1`, or the first one, one
//! succeeds; the others look again. So
//! - a write is a new version, or a record with its first version;
//! - `take` and `delete` are a last version that says *gone*. It cannot be followed by another. An instance that sees it moves
//!   the incarnation away, by its unique name: to do that twice or late changes nothing;
//! - `compare_and_swap` is a new version after the one that it has compared.
//!
//! An instance may end between any two operations on files: what it has published counts, and the rest is swept. No
//! instance waits for another one. `store/tests` goes through the orders that operations of two instances can have.
//!
//! # What it relies on
//!
//! - The folder is moved in one step and not onto another (POSIX `rename`; local file systems, NFS, SMB).
//! - Versions before the last are removed after `PRUNE_AFTER`. An instance that stood still for longer in the middle of
//!   an operation could make one of them again. It counts for nothing, because the highest one counts, but the instance
//!   must not take it for success: an operation that took longer than `LONGEST` by its own clocks has failed.
//! - Values are sealed under a key that is not in the folder, bound to key, expiry, incarnation and number. An attacker
//!   who writes into the folder cannot make or alter a record; to remove one, or to put the whole folder back as it was, is
//!   possible.

use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::encoding::{hex, same_secret};
use world::{Clock, Random, Store, StoreError, sealing};

use self::version::{RecordPlace, VersionContent, WrittenVersion};
use crate::folder::{Folder, FolderError};

mod sweep;
mod version;

#[cfg(test)]
mod tests;

/// Longest key and value in bytes (from the WIT contract).
const MAX_KEY_BYTES: usize = 512;
const MAX_VALUE_BYTES: usize = 256 * 1024;
/// Bytes of the longest file: a value, and what belongs to it.
const MAX_FILE_BYTES: usize = MAX_VALUE_BYTES + 256;
/// How often an operation looks again because other instances were faster. Each time, one of them has made progress.
const ATTEMPTS: u32 = 100;
/// How long an operation may take from its look at the record to what it has published. Hosts end requests after a minute
/// at most, and files answer in milliseconds.
const LONGEST: Duration = Duration::from_secs(20);
/// How long a version that was replaced keeps its number. Six times [`LONGEST`], for clocks that do not agree.
const PRUNE_AFTER: Duration = Duration::from_secs(120);
/// Where folders are made and removed.
const TMP: &str = "tmp";
/// The file with the bytes of a version.
const BYTES: &str = "v";
/// What names of records are derived for.
const NAMES: &str = "entra-mcp folder names 1";

/// The key that seals values and hides names.
pub type StoreKey = Secret<Vec<u8>>;

/// The store.
pub struct FolderStore<'w, F> {
    folder: &'w F,
    key: &'w StoreKey,
    clock: &'w dyn Clock,
    random: &'w dyn Random,
}

/// What a look at a record finds.
#[allow(clippy::large_enum_variant, reason = "one of them, for the time of an operation")]
enum Found {
    /// There is no record.
    Nothing,
    /// Its last version.
    Last(Last),
}

struct Last {
    place: RecordPlace,
    /// Versions before it, of which some may be removed.
    earlier: Vec<u64>,
    version: WrittenVersion,
}

/// Where a record is, and whose it is.
struct Record<'k> {
    key: &'k str,
    path: String,
}

/// When an operation began to look, by both clocks: one of them stands still while a machine sleeps, the other one may be
/// set.
struct Began {
    at: u64,
    monotonic: Duration,
}

impl<'w, F: Folder> FolderStore<'w, F> {
    /// The records in a folder. The key has to have 32 bytes.
    pub fn new(folder: &'w F, key: &'w StoreKey, clock: &'w dyn Clock, random: &'w dyn Random) -> Self {
        Self { folder, key, clock, random }
    }

    fn record<'k>(&self, key: &'k str) -> Result<Record<'k>, StoreError> {
        if key.len() > MAX_KEY_BYTES {
            return Err(StoreError::TooLarge);
        }
        let name = hex(&sealing::hidden_name(self.key.reveal(), NAMES, key));
        let (shard, rest) = name.split_at(2);
        Ok(Record { key, path: format!("{shard}/{rest}") })
    }

    /// A name that no other folder has.
    fn unique(&self) -> String {
        let mut random = [0; 16];
        self.random.fill(&mut random);
        hex(&random)
    }

    /// A folder of this operation. Its name says when it may be swept.
    fn temporary(&self) -> String {
        format!("{TMP}/{}-{}", self.clock.now(), self.unique())
    }

    fn began(&self) -> Began {
        Began { at: self.clock.now(), monotonic: self.clock.monotonic() }
    }

    fn is_in_time(&self, began: &Began) -> bool {
        let by_wall = Duration::from_secs(self.clock.now().saturating_sub(began.at));
        let by_monotonic = self.clock.monotonic().saturating_sub(began.monotonic);
        by_wall.max(by_monotonic) <= LONGEST
    }

    /// The last version of a record.
    async fn look(&self, record: &Record<'_>) -> Result<Found, StoreError> {
        let mut was_empty = None;
        for _ in 0..ATTEMPTS {
            let incarnations = match self.folder.list(&record.path).await {
                Ok(names) => names,
                Err(FolderError::Missing) => return Ok(Found::Nothing),
                Err(error) => return Err(unavailable(error)),
            };
            let incarnation = match incarnations.as_slice() {
                [] => return Ok(Found::Nothing),
                [one] => one.clone(),
                _ => return Err(StoreError::Unreadable),
            };
            let versions = match self.folder.list(&format!("{}/{incarnation}", record.path)).await {
                Ok(names) => names,
                // It was moved away meanwhile.
                Err(FolderError::Missing) => continue,
                Err(error) => return Err(unavailable(error)),
            };
            let mut numbers: Vec<u64> = versions.iter().filter_map(|name| name.parse().ok()).collect();
            numbers.sort_unstable();
            let Some(number) = numbers.pop() else { return Err(StoreError::Unreadable) };
            let place = RecordPlace { record: record.path.clone(), incarnation, number };
            let bytes = match self.folder.read(&place.file(), MAX_FILE_BYTES).await {
                Ok(bytes) => bytes,
                Err(FolderError::Missing) => continue,
                Err(error) => return Err(unavailable(error)),
            };
            // A version that was replaced is empty, and there is a higher one now. If there is none, the machine has lost its
            // power before the bytes were on the disk.
            if bytes.is_empty() && was_empty != Some(number) {
                was_empty = Some(number);
                continue;
            }
            return Ok(Found::Last(Last { place, earlier: numbers, version: WrittenVersion::read(&bytes) }));
        }
        Err(contended())
    }

    /// The value of a version, if it has one that has not expired.
    fn value(&self, record: &Record<'_>, last: &Last) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        let (expires_at, sealed) = match &last.version.content {
            VersionContent::Value { expires_at, sealed } => (expires_at, sealed),
            VersionContent::Gone => return Ok(None),
            VersionContent::Damaged => return Err(StoreError::Unreadable),
        };
        // The expiry is believed only after the seal has proved it.
        let value =
            version::open(self.key, record.key, &last.place, *expires_at, sealed).ok_or(StoreError::Unreadable)?;
        let is_live = expires_at.is_none_or(|at| self.clock.now() < at);
        Ok(is_live.then(|| Secret::from(value)))
    }

    /// Publishes a value after what was found; whether this instance was the first.
    async fn write(
        &self,
        record: &Record<'_>,
        found: &Found,
        began: &Began,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let expires_at = ttl.map(|ttl| now.saturating_add(ttl.as_secs()));
        let (place, checkpoint) = match found {
            Found::Nothing => {
                let place = RecordPlace { record: record.path.clone(), incarnation: self.unique(), number: 1 };
                (place, version::Checkpoint { number: 1, at: now })
            }
            Found::Last(last) => (last.place.next(), last.version.checkpoint_after(&last.place, now, PRUNE_AFTER)),
        };
        let sealed = version::seal(self.random, self.key, record.key, &place, expires_at, value)?;
        let version = WrittenVersion { checkpoint, content: VersionContent::Value { expires_at, sealed } };
        let durable = ttl.is_none();
        match found {
            Found::Nothing => self.begin(&place, &version, durable).await,
            Found::Last(last) => {
                let first = self.publish(&place, &version, durable).await?;
                if !self.is_in_time(began) {
                    return Err(StoreError::Unavailable(format!(
                        "an operation on a record took longer than {} seconds",
                        LONGEST.as_secs()
                    )));
                }
                if first {
                    self.retire(last, now).await;
                }
                Ok(first)
            }
        }
    }

    /// Publishes that the record is gone; whether this instance was the first.
    async fn end(&self, last: &Last, began: &Began) -> Result<bool, StoreError> {
        let place = last.place.next();
        let now = self.clock.now();
        let version = WrittenVersion {
            checkpoint: last.version.checkpoint_after(&last.place, now, PRUNE_AFTER),
            content: VersionContent::Gone,
        };
        let first = self.publish(&place, &version, false).await?;
        if !self.is_in_time(began) {
            return Err(StoreError::Unavailable("an operation on a record took too long".to_owned()));
        }
        if first {
            self.clear(&place).await;
        }
        Ok(first)
    }

    /// Moves the first version of a record into its place.
    async fn begin(&self, place: &RecordPlace, version: &WrittenVersion, durable: bool) -> Result<bool, StoreError> {
        let temporary = self.temporary();
        let incarnation = format!("{temporary}/{}", place.incarnation);
        let number = format!("{incarnation}/{}", place.number);
        self.make_temporary(&temporary).await?;
        let made = async {
            self.folder.make(&incarnation).await?;
            self.folder.make(&number).await?;
            self.folder.write_new(&format!("{number}/{BYTES}"), &version.bytes(), durable).await
        };
        if let Err(error) = made.await {
            self.discard(&temporary).await;
            return Err(unavailable(error));
        }
        let mut moved = self.folder.rename(&temporary, &place.record).await;
        if moved == Err(FolderError::Missing) {
            let shard = place.record.split('/').next().unwrap_or_default();
            match self.folder.make(shard).await {
                Ok(()) | Err(FolderError::Exists) => {}
                Err(error) => {
                    self.discard(&temporary).await;
                    return Err(unavailable(error));
                }
            }
            moved = self.folder.rename(&temporary, &place.record).await;
        }
        self.was_first(moved, &temporary).await
    }

    /// Moves a version into its place behind another one.
    async fn publish(&self, place: &RecordPlace, version: &WrittenVersion, durable: bool) -> Result<bool, StoreError> {
        let temporary = self.temporary();
        self.make_temporary(&temporary).await?;
        let file = format!("{temporary}/{BYTES}");
        if let Err(error) = self.folder.write_new(&file, &version.bytes(), durable).await {
            self.discard(&temporary).await;
            return Err(unavailable(error));
        }
        let moved = self.folder.rename(&temporary, &place.folder()).await;
        self.was_first(moved, &temporary).await
    }

    async fn make_temporary(&self, temporary: &str) -> Result<(), StoreError> {
        let made = match self.folder.make(temporary).await {
            Err(FolderError::Missing) => match self.folder.make(TMP).await {
                Ok(()) | Err(FolderError::Exists) => self.folder.make(temporary).await,
                Err(error) => Err(error),
            },
            made => made,
        };
        made.map_err(|error| match error {
            FolderError::Missing => StoreError::Unavailable("the folder does not exist, or is not granted".to_owned()),
            error => unavailable(error),
        })
    }

    /// What a move into a place has come to. What was not moved is removed.
    async fn was_first(&self, moved: Result<(), FolderError>, temporary: &str) -> Result<bool, StoreError> {
        match moved {
            Ok(()) => Ok(true),
            // Another instance was faster, or has moved the incarnation away.
            Err(FolderError::Exists | FolderError::Missing) => {
                self.discard(temporary).await;
                Ok(false)
            }
            Err(error) => {
                self.discard(temporary).await;
                Err(unavailable(error))
            }
        }
    }

    /// Removes the bytes of a version that was replaced, and the numbers before the checkpoint, if it is old enough. What
    /// fails here is done by a later write, or never has to be.
    async fn retire(&self, last: &Last, now: u64) {
        let _ = self.folder.empty(&last.place.file()).await;
        let Some(below) = last.version.prunable(now, PRUNE_AFTER) else { return };
        for number in last.earlier.iter().copied().filter(|number| *number < below) {
            let old = RecordPlace { number, ..last.place.clone() };
            let _ = self.folder.remove_file(&old.file()).await;
            let _ = self.folder.remove_folder(&old.folder()).await;
        }
    }

    /// Moves an incarnation away whose last version says that it is gone, and removes it. Any instance may do it, at any
    /// time and more than once: no other incarnation ever has its name.
    async fn clear(&self, place: &RecordPlace) {
        let temporary = self.temporary();
        let mut moved = self.folder.rename(&place.incarnation_folder(), &temporary).await;
        if moved == Err(FolderError::Missing) && self.folder.make(TMP).await.is_ok() {
            moved = self.folder.rename(&place.incarnation_folder(), &temporary).await;
        }
        // It fails if the record began again.
        let _ = self.folder.remove_folder(&place.record).await;
        if moved.is_ok() {
            self.discard(&temporary).await;
        }
    }

    /// Removes a folder below `tmp`. What is left is swept later.
    async fn discard(&self, folder: &str) {
        let Ok(names) = self.folder.list(folder).await else { return };
        for name in names {
            let path = format!("{folder}/{name}");
            if name == BYTES {
                let _ = self.folder.remove_file(&path).await;
            } else {
                Box::pin(self.discard(&path)).await;
            }
        }
        let _ = self.folder.remove_folder(folder).await;
    }

    /// A look that has moved away what is gone.
    async fn look_for_write(&self, record: &Record<'_>) -> Result<Found, StoreError> {
        for _ in 0..ATTEMPTS {
            match self.look(record).await? {
                Found::Last(last) if matches!(last.version.content, VersionContent::Gone) => {
                    self.clear(&last.place).await
                }
                found => return Ok(found),
            }
        }
        Err(contended())
    }
}

fn unavailable(error: FolderError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn contended() -> StoreError {
    StoreError::Unavailable("other instances change the record all the time".to_owned())
}

fn check(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > MAX_VALUE_BYTES { Err(StoreError::TooLarge) } else { Ok(()) }
}

#[async_trait(?Send)]
impl<F: Folder> Store for FolderStore<'_, F> {
    async fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        let record = self.record(key)?;
        match self.look(&record).await? {
            Found::Nothing => Ok(None),
            Found::Last(last) => self.value(&record, &last),
        }
    }

    async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        let record = self.record(key)?;
        check(value)?;
        for _ in 0..ATTEMPTS {
            let began = self.began();
            // It is not opened: what cannot be opened is replaced.
            let found = self.look_for_write(&record).await?;
            if self.write(&record, &found, &began, value, ttl).await? {
                self.sweep_now_and_then().await;
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        let record = self.record(key)?;
        for _ in 0..ATTEMPTS {
            let began = self.began();
            let Found::Last(last) = self.look_for_write(&record).await? else { return Ok(None) };
            let Some(value) = self.value(&record, &last)? else { return Ok(None) };
            if self.end(&last, &began).await? {
                return Ok(Some(value));
            }
        }
        Err(contended())
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let record = self.record(key)?;
        check(value)?;
        for _ in 0..ATTEMPTS {
            let began = self.began();
            let found = self.look_for_write(&record).await?;
            let current = match &found {
                Found::Nothing => None,
                Found::Last(last) => self.value(&record, last)?,
            };
            let is_expected = match (&current, expected) {
                (None, None) => true,
                (Some(current), Some(expected)) => same_secret(current.reveal(), expected),
                _ => false,
            };
            if !is_expected {
                return Ok(false);
            }
            if self.write(&record, &found, &began, value, ttl).await? {
                self.sweep_now_and_then().await;
                return Ok(true);
            }
        }
        Err(contended())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let record = self.record(key)?;
        for _ in 0..ATTEMPTS {
            let began = self.began();
            let Found::Last(last) = self.look_for_write(&record).await? else { return Ok(()) };
            if self.end(&last, &began).await? {
                return Ok(());
            }
        }
        Err(contended())
    }
}
