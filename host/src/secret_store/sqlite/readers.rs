//! Reads without a thread of their own: connections that only read, each with the records it has read lately.
//!
//! What a reader remembers is true as long as nobody, in this process or another one, has committed anything since.
//! SQLite knows: `PRAGMA data_version` of a connection changes with every commit of any *other* connection, and a
//! reader itself commits nothing. It is asked before every answer, so a record that was deleted or replaced before a
//! read began is never answered from memory.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{Cipher, Records};
use crate::secret_store::{SecretBytes, StoreError};

/// Readers, so that threads do not wait for each other. Machines have more cores, but a read takes microseconds.
const READERS: usize = 4;

/// Most records that one reader remembers. A record of a session is some KiB.
const MAX_REMEMBERED: usize = 512;

/// Largest record in bytes that is remembered.
const MAX_REMEMBERED_BYTES: usize = 16 * 1024;

/// All readers of a store.
pub(super) struct Readers {
    readers: Vec<Mutex<Reader>>,
    hasher: RandomState,
}

struct Reader {
    connection: Connection,
    /// What `PRAGMA data_version` was when the first of the records was read.
    version: i64,
    remembered: HashMap<String, Remembered>,
}

struct Remembered {
    value: SecretBytes,
    expires_at: Option<i64>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let readers = (0..READERS).map(|_| Reader::open(path).map(Mutex::new)).collect::<rusqlite::Result<_>>()?;
        Ok(Self { readers, hasher: RandomState::new() })
    }

    /// Reads a record. `None`: the database cannot be read at once. The store's own connection then waits for it, or
    /// says what is wrong.
    pub(super) fn get(&self, cipher: &Cipher, key: &str, now: u64) -> Option<Result<Option<SecretBytes>, StoreError>> {
        match self.reader(key)?.get(cipher, key, now) {
            Err(ReadError::NotNow) => None,
            Err(ReadError::Store(error)) => Some(Err(error)),
            Ok(value) => Some(Ok(value)),
        }
    }

    /// The reader that is likely to know the record, or else one that nobody uses.
    fn reader(&self, key: &str) -> Option<MutexGuard<'_, Reader>> {
        let readers = self.readers.len().max(1);
        let first = usize::try_from(self.hasher.hash_one(key) % readers as u64).unwrap_or_default();
        let order = self.readers.iter().cycle().skip(first).take(readers);
        let free = order.clone().find_map(|reader| reader.try_lock().ok());
        free.or_else(|| order.into_iter().next().map(|reader| reader.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Why a reader has no answer.
enum ReadError {
    NotNow,
    Store(StoreError),
}

impl From<rusqlite::Error> for ReadError {
    fn from(_: rusqlite::Error) -> Self {
        Self::NotNow
    }
}

impl Reader {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        // The side files of the journal are shared with the writers, so the file is opened as they do.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.busy_timeout(Duration::ZERO)?;
        // If another process is preparing the database, the first read finds out.
        let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0)).unwrap_or(-1);
        Ok(Self { connection, version, remembered: HashMap::new() })
    }

    fn get(&mut self, cipher: &Cipher, key: &str, now: u64) -> Result<Option<SecretBytes>, ReadError> {
        let version = self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if version != self.version {
            self.remembered.clear();
            self.version = version;
        }
        let now_as_column = i64::try_from(now).unwrap_or(i64::MAX);
        if let Some(remembered) = self.remembered.get(key) {
            let expired = remembered.expires_at.is_some_and(|expires_at| expires_at <= now_as_column);
            return Ok((!expired).then(|| remembered.value.clone()));
        }
        // If something is committed between the two statements, this is newer than `version`, and forgotten next time.
        let found = Records { connection: &self.connection, cipher, now }.find(key)?;
        let Some((value, expires_at)) = found else { return Ok(None) };
        if value.reveal().len() <= MAX_REMEMBERED_BYTES {
            if self.remembered.len() >= MAX_REMEMBERED {
                self.remembered.clear();
            }
            self.remembered.insert(key.to_owned(), Remembered { value: value.clone(), expires_at });
        }
        Ok(Some(value))
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::NotNow,
            error => Self::Store(error),
        }
    }
}
