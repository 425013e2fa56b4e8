//! Records in one SQLite file, shared by any number of processes of the same user.
//!
//! Every value is sealed with AES-256-GCM under a key derived for it alone from the data key of the store
//! ([`cipher`](super::cipher)), which is in a file beside the database that only the user can read, or elsewhere
//! ([`KeySource`]). The name of a record and its expiry are the associated data: a value that was altered, moved to
//! another name, or given a longer life does not open. The database has names as keyed hashes, because they contain
//! account ids. The store never lists them. The folder, the database and the key file belong to this user, and no other
//! user can change them or a folder above them. This does not protect against a program that runs as the same user,
//! which can read the key file. A database that is restored to an earlier state has the records of that time.
//!
//! The program refuses a database without its key, or with another key, and leaves it as it is. It sets a damaged one
//! aside under another name, and makes a new one, if a file with its key is beside it ([`aside`]). Without such a file,
//! the damaged one may be any file that the operator has named by mistake: the program refuses it before it makes a key
//! ([`mistaken`]).
//!
//! Deleted, replaced and expired records leave the files too ([`erasure`]).
//!
//! SQLite makes operations atomic across processes: `take` and `compare_and_swap` run in an IMMEDIATE transaction,
//! which holds the write lock from its first statement.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::cipher::{Cipher, HiddenName, RecordError};
use super::data_key::KEY_BYTES;
use super::{
    DataKeys, KeyError, KeyFile, KeySource, SecretBytes, SecretStore, StoreError, StoreLimits, StoreReport, same,
};
use crate::clock::Clock;
use crate::private_files::{Exposed, FILE_FIX, FOLDER_FIX, FileOwner, PrivateFolderError};

mod as_it_is;
mod aside;
mod check;
mod erasure;
mod fingerprint;
mod limits;
mod look;
mod mistaken;
mod read_only;
mod readers;
mod room;
mod schema;
mod wal_index;

pub use look::SqliteView;

use erasure::Erasure;
use readers::Readers;
use schema::{SCHEMA_VERSION, prepare};

/// The extension of the key file. The rest of its name is that of the database.
const KEY_EXTENSION: &str = "key";

/// That of the file with a key that a key vault has wrapped.
const WRAPPED_KEY_EXTENSION: &str = "wrapped-key";

/// How long a statement waits for another process's write lock. Transactions take well under a millisecond; a
/// process that was suspended in the middle of one must not hang the others forever.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Most expired records that a write removes. A write adds one record, so the file shrinks again after a flood of
/// records that expire together, and no write has to remove all of them.
const MAX_PURGED: u32 = 64;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or the database file cannot be created or read.
    #[error("cannot open the secret store {path}: {reason}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the operating system said.
        reason: String,
    },
    /// The name of the database would also be that of its key file.
    #[error("the secret store {path} needs another extension: {KEY_EXTENSION:?} is that of the file with its key")]
    NamedLikeKey {
        /// The database file.
        path: PathBuf,
    },
    /// The database was written by a newer version.
    #[error("the secret store {path} has format {found}, this version knows format {SCHEMA_VERSION}")]
    Version {
        /// The database file.
        path: PathBuf,
        /// The number found.
        found: i32,
    },
    /// The file is no database, or a part of it cannot be read.
    #[error(
        "the secret store {path} is damaged: {reason}. Restore it from a backup, or move it away and sign in again"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The key file cannot be created or read.
    #[error("cannot read or create the key of the secret store, {path}: {reason}")]
    Key {
        /// The key file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The folder, or one above it, is not this user's alone to change.
    #[error(
        "the secret store {store} cannot be used, because {path} {reason}; choose a folder that belongs to you, below \
         folders that no other user can change, or fix it ({FOLDER_FIX})"
    )]
    FolderExposed {
        /// The database file.
        store: PathBuf,
        /// The folder or link that breaks the rule.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The database file is not a regular file of this user's that no other user can read.
    #[error("the secret store {path} {reason}; fix it ({FILE_FIX}), or move it away and sign in again")]
    DatabaseExposed {
        /// The database file.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The key file is not a regular file of this user's that no other user can read.
    #[error(
        "the key of the secret store, {path}, {reason}; fix it ({FILE_FIX}), or move it away together with the store and \
         sign in again"
    )]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The size of the key file is not that of a key.
    #[error(
        "the key of the secret store, {path}, has {found} bytes, which are no key ({KEY_BYTES} bytes, or their base64); \
         restore it, or move it away together with the store and sign in again"
    )]
    KeySize {
        /// The key file.
        path: PathBuf,
        /// The size found.
        found: usize,
    },
    /// There are records, but no key.
    #[error(
        "the secret store {store} has records, but its key is not there: {place}. Nothing was changed. Restore the key; \
         without it, move the store away and sign in again"
    )]
    KeyMissing {
        /// The database file.
        store: PathBuf,
        /// Where the key was looked for.
        place: String,
    },
    /// The records are under another key.
    #[error(
        "the secret store {store} was written with another key than the one in {place}. Nothing was changed. Restore its \
         key; without it, move the store away and sign in again"
    )]
    WrongKey {
        /// The database file.
        store: PathBuf,
        /// Where the key comes from.
        place: String,
    },
    /// There is no key, for another reason.
    #[error(transparent)]
    Keys(KeyError),
}

impl From<KeyError> for OpenError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Place { place, reason } => Self::Key { path: place.into(), reason },
            KeyError::Exposed { path, reason } => Self::KeyExposed { path, reason },
            KeyError::Size { place, found } => Self::KeySize { path: place.into(), found },
            error => Self::Keys(error),
        }
    }
}

/// The store.
pub struct SqliteStore {
    inner: Arc<OpenDatabase>,
    limits: StoreLimits,
}

struct OpenDatabase {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    connection: Mutex<Connection>,
    readers: Readers,
    cipher: Cipher,
    erasure: Erasure,
}

impl SqliteStore {
    /// Opens the database at `path`, creating it, its folder and its key file (`path` with the extension `key`)
    /// if they do not exist.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_as(FileOwner::of_process(), path, |file| Arc::new(file), clock)
    }

    /// The same, where the key file may name another place for the key. `keys` is given the key file, and says where the
    /// key is.
    pub fn open_beside(
        path: &Path,
        keys: impl FnOnce(KeyFile) -> Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_as(FileOwner::of_process(), path, keys, clock)
    }

    /// The same with the key from elsewhere.
    pub fn open_with(path: &Path, keys: Arc<dyn KeySource>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_as(FileOwner::of_process(), path, |_| keys, clock)
    }

    /// Looks at the database at `path` as [`open`](Self::open) would, and changes nothing: no byte of its files, and nothing
    /// beside them.
    pub fn look(path: &Path, keys: &Arc<dyn KeySource>, clock: &Arc<dyn Clock>) -> Result<SqliteView, OpenError> {
        look::look(&FileOwner::of_process(), path, keys, clock)
    }

    /// Opens every record of the database at `path`, and changes nothing.
    pub fn check(path: &Path, keys: &Arc<dyn KeySource>, clock: &Arc<dyn Clock>) -> Result<StoreReport, OpenError> {
        check::check(path, keys, clock)
    }

    /// The keys of the database at `path` with a new one before them, which seals from the time on that `keys` has it. The
    /// caller puts them there. Processes that have the database open find the new key when they meet a record under it.
    pub fn rotated_keys(path: &Path, keys: &dyn KeySource) -> Result<DataKeys, OpenError> {
        check::rotate(path, keys)
    }

    fn open_as(
        user: FileOwner,
        path: &Path,
        source: impl FnOnce(KeyFile) -> Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let database_error = |reason: String| OpenError::Database { path: path.to_owned(), reason };
        // SQLite gives some names a meaning, such as `:memory:` and `file:x`, but never an absolute path.
        let path = &std::path::absolute(path).map_err(|error| database_error(error.to_string()))?;
        if path.with_extension(KEY_EXTENSION) == *path {
            return Err(OpenError::NamedLikeKey { path: path.clone() });
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(database_error("it is not the name of a file".into()));
        };
        // From here on by the folder's real path, on which no other user can put another one in its place.
        let path = &match user.folder(folder) {
            Ok(folder) => folder.join(name),
            Err(PrivateFolderError::Exposed(Exposed { path: exposed, rule })) => {
                return Err(OpenError::FolderExposed { store: path.clone(), path: exposed, reason: rule });
            }
            Err(PrivateFolderError::Io(error)) => return Err(database_error(error.to_string())),
        };
        let own_key = path.with_extension(KEY_EXTENSION);
        let find_key =
            || [own_key.clone(), path.with_extension(WRAPPED_KEY_EXTENSION)].into_iter().find(|key| key.exists());
        mistaken::refuse(&user, path, || find_key().is_some())?;
        let key_beside = find_key();
        let source = source(KeyFile::of(user.clone(), &own_key));
        let keys = keys_of(path, &*source, key_beside.is_some())?;
        // SQLite gives its side files the mode of the database file, so the database file has to be private from the
        // start.
        let file = aside::begin(path, find_key().as_deref(), &*clock);
        let file = file.map_err(|error| database_error(error.to_string()))?;
        user.check_private(&file).map_err(|reason| OpenError::DatabaseExposed { path: path.clone(), reason })?;
        drop(file);
        let prepared = match (prepare(path), &key_beside) {
            // A file without a key beside it may be anything that the operator has named by mistake.
            (Err(error), Some(key)) if is_damaged(&error) || is_missing(&error) => {
                aside::replace_damaged(path, key, &*clock, &error).map_err(|error| database_error(error.to_string()))?
            }
            (prepared, _) => prepared,
        };
        let failed = |error: rusqlite::Error| database_error(room::reason(path, &error));
        let (connection, found) = prepared.map_err(failed)?;
        if found != SCHEMA_VERSION {
            return Err(OpenError::Version { path: path.to_owned(), found });
        }
        let place = source.place();
        let cipher = Cipher::new(&keys, source, Arc::clone(&clock)).ok_or(OpenError::Keys(KeyError::NoRandomness))?;
        let is_its_key = fingerprint::check(&connection, &cipher.hidden_name(fingerprint::NAME));
        if !is_its_key.map_err(failed)? {
            return Err(OpenError::WrongKey { store: path.to_owned(), place });
        }
        let readers = Readers::open(path).map_err(failed)?;
        let (connection, erasure) = (Mutex::new(connection), Erasure::default());
        let path = path.clone();
        let inner = Arc::new(OpenDatabase { path, clock, connection, readers, cipher, erasure });
        Ok(Self { inner, limits: StoreLimits::default() })
    }

    /// The same store with other limits. They hold for what this process writes.
    #[must_use]
    pub fn limited(self, limits: StoreLimits) -> Self {
        Self { limits, ..self }
    }

    /// Runs `work` in one IMMEDIATE transaction on a thread that may block.
    async fn transaction<T: Send + 'static>(
        &self,
        work: impl Fn(&StoreTransaction<'_>) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, now) = (Arc::clone(&self.inner), self.inner.clock.now_seconds());
        let once = move |inner: &Arc<OpenDatabase>| {
            let mut connection = inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&StoreTransaction { connection: &transaction, cipher: &inner.cipher, now });
            // A write for which there is no room has removed what had expired, and nothing else. That stays so.
            if matches!(&result, Ok(_) | Err(RecordError::Store(StoreError::Full(_)))) {
                let committed = transaction.commit();
                erasure::after_a_write(inner);
                return result.and_then(|result| Ok(committed.map(|()| result)?));
            }
            result
        };
        let run = move || inner.with_known_keys(|| once(&inner));
        tokio::task::spawn_blocking(run).await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

impl OpenDatabase {
    /// Does something with records, and once more if it has met one under a key that is not known here. The key is looked for in
    /// between, where neither the connection nor the database is held.
    fn with_known_keys<T>(&self, work: impl Fn() -> Result<T, RecordError>) -> Result<T, StoreError> {
        let done = match work() {
            Err(RecordError::UnknownKey) if self.cipher.look_for_keys() => work(),
            done => done,
        };
        done.map_err(|error| self.cipher.store_error(error).of_file(&self.path))
    }
}

/// The keys of the database. There is a first key only where there is nothing yet that needs another one.
///
/// Looks once whether there are keys, and before reading them: another process may create them at any moment, and a
/// [`KeySource`] leaves existing ones alone.
fn keys_of(path: &Path, source: &dyn KeySource, is_key_beside: bool) -> Result<DataKeys, OpenError> {
    match source.read()? {
        Some(keys) => Ok(keys),
        None if noted_fingerprint(path) != 0 => {
            // Another process may have made both in the meantime.
            let missing = || OpenError::KeyMissing { store: path.to_owned(), place: source.place() };
            source.read()?.ok_or_else(missing)
        }
        None => match mistaken::damage(path).filter(|_| !is_key_beside) {
            // Another process may have made both in the meantime, and be writing.
            Some(reason) => source.read()?.ok_or_else(|| OpenError::Database { path: path.to_owned(), reason }),
            None => Ok(source.create()?),
        },
    }
}

/// The fingerprint of the key that a database was written with; 0 where there is none.
fn noted_fingerprint(path: &Path) -> i32 {
    let connection = read_only::connect(path);
    let noted = connection.and_then(|connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.query_row("PRAGMA application_id", [], |row| row.get(0))
    });
    noted.unwrap_or_default()
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// The file is not there: another process has just put it aside.
fn is_missing(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::CannotOpen))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full(format!("the disk has no room ({error})")),
            _ if is_damaged(&error) => Self::Damaged { path: PathBuf::new(), reason: error.to_string() },
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl StoreError {
    /// The same with the file that is damaged, which SQLite does not name.
    fn of_file(self, path: &Path) -> Self {
        match self {
            Self::Damaged { reason, .. } => Self::Damaged { path: path.to_owned(), reason },
            error => error,
        }
    }
}

impl From<rusqlite::Error> for RecordError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// The records inside a transaction.
struct StoreTransaction<'a> {
    connection: &'a Connection,
    cipher: &'a Cipher,
    now: u64,
}

impl StoreTransaction<'_> {
    fn get(&self, key: &str) -> Result<Option<SecretBytes>, RecordError> {
        Ok(self.find(key)?.map(|(value, _)| value))
    }

    /// A record that has not expired, and its expiry.
    fn find(&self, key: &str) -> Result<Option<(SecretBytes, Option<i64>)>, RecordError> {
        let name = self.cipher.hidden_name(key);
        let row = self
            .connection
            .prepare_cached("SELECT sealed, expires_at FROM record WHERE name = ?1")?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((sealed, expires_at)): Option<(Vec<u8>, Option<i64>)> = row else {
            return Ok(None);
        };
        // The expiry is trusted only after the seal has proved it.
        let value = self.cipher.open(key, &name, expires_at, &sealed)?;
        let expired = expires_at.is_some_and(|expires_at| expires_at <= self.now_as_column());
        Ok(if expired { None } else { Some((value, expires_at)) })
    }

    fn put(
        &self,
        key: &str,
        value: &SecretBytes,
        ttl: Option<Duration>,
        limits: StoreLimits,
    ) -> Result<(), RecordError> {
        let expires_at = ttl.map(|ttl| i64::try_from(self.now.saturating_add(ttl.as_secs())).unwrap_or(i64::MAX));
        let name: HiddenName = self.cipher.hidden_name(key);
        let sealed = self.cipher.seal(&name, expires_at, value.reveal())?;
        self.purge()?;
        limits::make_room(self.connection, limits, (key, &name), (sealed.len(), ttl), self.now_as_column())?;
        // Not in one statement: see `limits::COUNTED`.
        let update = "UPDATE record SET sealed = ?2, expires_at = ?3 WHERE name = ?1";
        if self.connection.prepare_cached(update)?.execute(params![name, sealed, expires_at])? == 0 {
            let insert = "INSERT INTO record (name, sealed, expires_at) VALUES (?1, ?2, ?3)";
            self.connection.prepare_cached(insert)?.execute(params![name, sealed, expires_at])?;
        }
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), RecordError> {
        self.connection
            .prepare_cached("DELETE FROM record WHERE name = ?1")?
            .execute([self.cipher.hidden_name(key)])?;
        Ok(())
    }

    /// Removes some expired records, so that the file does not grow with every sign-in.
    fn purge(&self) -> Result<(), RecordError> {
        purge(self.connection, self.now_as_column())?;
        Ok(())
    }

    fn now_as_column(&self) -> i64 {
        i64::try_from(self.now).unwrap_or(i64::MAX)
    }
}

/// Removes at most [`MAX_PURGED`] records that have expired; how many.
fn purge(connection: &Connection, now: i64) -> rusqlite::Result<usize> {
    let expired = "SELECT name FROM record WHERE expires_at <= ?1 LIMIT ?2";
    connection
        .prepare_cached(&format!("DELETE FROM record WHERE name IN ({expired})"))?
        .execute(params![now, MAX_PURGED])
}

#[async_trait]
impl SecretStore for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let (inner, now) = (Arc::clone(&self.inner), self.inner.clock.now_seconds());
        // In WAL mode, readers and writers do not wait for each other, except for a moment when the journal is set up. What is
        // under a key that is not known here is not found at once either.
        if let Some(result) = inner.readers.get(&inner.cipher, key, now) {
            return result;
        }
        let key = key.to_owned();
        let once = move |inner: &OpenDatabase| {
            let connection = inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
            StoreTransaction { connection: &connection, cipher: &inner.cipher, now }.get(&key)
        };
        let run = move || inner.with_known_keys(|| once(&inner));
        tokio::task::spawn_blocking(run).await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        let (key, limits) = (key.to_owned(), self.limits);
        self.transaction(move |records| records.put(&key, &value, ttl, limits)).await
    }

    async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let key = key.to_owned();
        self.transaction(move |records| {
            let value = records.get(&key)?;
            records.delete(&key)?;
            Ok(value)
        })
        .await
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<SecretBytes>,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let (key, limits) = (key.to_owned(), self.limits);
        self.transaction(move |records| {
            let matches = match (records.get(&key)?, &expected) {
                (None, None) => true,
                (Some(current), Some(expected)) => same(current.reveal(), expected.reveal()),
                _ => false,
            };
            if matches {
                records.put(&key, &value, ttl, limits)?;
            }
            Ok(matches)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.transaction(move |records| records.delete(&key)).await
    }
}

#[cfg(test)]
mod tests;
