//! Records in one SQLite file, shared by any number of processes of the same user.
//!
//! Every value is sealed with AES-256-GCM under a key derived for it alone from one that lies beside the database, in a
//! file only the user can read ([`cipher`]). The name of a record and its expiry are the associated data: a value that was
//! altered, moved to another name, or given a longer life does not open. Names are stored as keyed hashes, because they
//! contain account ids; they are never listed. The folder, the database and the key file belong to this user, and no other
//! user can change them or a folder above them. What this does not protect against: a program that runs as the same user
//! can read the key file, and a database that is put back as it was earlier has the records that it had. The operating
//! system's keyring is to hold the key in a later version.
//!
//! What was deleted, replaced or has expired leaves the files too ([`erasure`]).
//!
//! SQLite makes operations atomic across processes: `take` and `compare_and_swap` run in an IMMEDIATE transaction,
//! which holds the write lock from its first statement.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use zeroize::Zeroizing;

use super::{SecretBytes, SecretStore, StoreError, same};
use crate::clock::Clock;
use crate::private_files::{self, Exposed, FolderError, User};

mod cipher;
mod erasure;
mod fingerprint;
mod readers;
mod wal_index;

use cipher::Cipher;
use erasure::Erasure;
use readers::Readers;

/// Size of the data key in bytes (AES-256).
const KEY_BYTES: usize = 32;

/// The extension of the key file. The rest of its name is that of the database.
const KEY_EXTENSION: &str = "key";

/// How long a statement waits for another process's write lock. Transactions take well under a millisecond; a
/// process that was suspended in the middle of one must not hang the others forever.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between attempts to prepare a database that another process is preparing, and the number of attempts: together
/// [`BUSY_TIMEOUT`]. SQLite itself does not wait while the journal mode changes.
const PREPARE_PAUSE: Duration = Duration::from_millis(10);
const PREPARE_ATTEMPTS: u32 = 500;

/// Bytes of the journal that stay when it begins anew: none, since they are of records that may be gone by now.
const JOURNAL_SIZE_LIMIT: i64 = 0;

/// Most expired records that a write removes. A write adds one record, so the file shrinks again after a flood of
/// records that expire together, and no write has to remove all of them.
const MAX_PURGED: u32 = 64;

/// Layout of the table and of sealed values. A file with a later number is refused. The values of version 1 are under one
/// key; they are opened as they are.
const SCHEMA_VERSION: i32 = 2;

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
         folders that no other user can change, or fix it (chmod go-w)"
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
    #[error("the secret store {path} {reason}; fix it (chmod 600) or remove it and sign in again")]
    DatabaseExposed {
        /// The database file.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The key file is not a regular file of this user's that no other user can read.
    #[error("the key of the secret store, {path}, {reason}; fix it (chmod 600) or remove it and sign in again")]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The size of the key file is not that of a key.
    #[error(
        "the key of the secret store, {path}, has {found} bytes instead of {KEY_BYTES}; remove it and sign in again"
    )]
    KeySize {
        /// The key file.
        path: PathBuf,
        /// The size found.
        found: usize,
    },
}

/// The store.
pub struct SqliteStore {
    inner: Arc<OpenDatabase>,
}

struct OpenDatabase {
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
        Self::open_as(&User::of_process(), path, clock)
    }

    fn open_as(user: &User, path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
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
            Err(FolderError::Exposed(Exposed { path: exposed, rule })) => {
                return Err(OpenError::FolderExposed { store: path.clone(), path: exposed, reason: rule });
            }
            Err(FolderError::Io(error)) => return Err(database_error(error.to_string())),
        };
        let cipher = Cipher::from_key_file(user, &path.with_extension(KEY_EXTENSION))?;
        // SQLite gives its side files the mode of the database file, so the database file has to be private from the
        // start.
        let file = private_files::open_append(path).map_err(|error| database_error(error.to_string()))?;
        user.check_private(&file).map_err(|reason| OpenError::DatabaseExposed { path: path.clone(), reason })?;
        drop(file);
        let (connection, found) = prepare(path).map_err(|error| database_error(error.to_string()))?;
        if found != SCHEMA_VERSION {
            return Err(OpenError::Version { path: path.to_owned(), found });
        }
        fingerprint::check(&connection, &cipher.hidden_name(fingerprint::NAME), path)
            .map_err(|error| database_error(error.to_string()))?;
        let readers = Readers::open(path).map_err(|error| database_error(error.to_string()))?;
        let (connection, erasure) = (Mutex::new(connection), Erasure::default());
        Ok(Self { inner: Arc::new(OpenDatabase { clock, connection, readers, cipher, erasure }) })
    }

    /// Runs `work` in one IMMEDIATE transaction on a thread that may block.
    async fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, now) = (Arc::clone(&self.inner), self.inner.clock.now_seconds());
        let run = move || {
            let mut connection = inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&StoreTransaction { connection: &transaction, cipher: &inner.cipher, now })?;
            transaction.commit()?;
            erasure::after_a_write(&inner);
            Ok(result)
        };
        tokio::task::spawn_blocking(run).await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

/// Opens the database and creates the missing parts. Several processes may do so at the same time.
#[allow(clippy::disallowed_methods, reason = "it waits for another process, which no injected clock could hurry")]
fn prepare(path: &Path) -> rusqlite::Result<(Connection, i32)> {
    let mut attempt = 1;
    loop {
        let prepared = connect(path).and_then(|connection| {
            let found = migrate(&connection)?;
            Ok((connection, found))
        });
        match prepared {
            Err(error) if is_busy(&error) && attempt < PREPARE_ATTEMPTS => std::thread::sleep(PREPARE_PAUSE),
            prepared => return prepared,
        }
        attempt += 1;
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A crash of the machine may lose the last sign-in, never the database.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_LIMIT)?;
    // No copy of the database in a folder of temporary files.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Creates the table in an empty database; returns the resulting version of the layout.
fn migrate(connection: &Connection) -> rusqlite::Result<i32> {
    let version = |connection: &Connection| connection.query_row("PRAGMA user_version", [], |row| row.get(0));
    if version(connection)? < SCHEMA_VERSION {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS record (
                 name BLOB PRIMARY KEY,
                 sealed BLOB NOT NULL,
                 expires_at INTEGER
             ) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS record_expires_at ON record (expires_at);
             PRAGMA user_version = {SCHEMA_VERSION};
             COMMIT;"
        ))?;
    }
    version(connection)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The records inside a transaction.
struct StoreTransaction<'a> {
    connection: &'a Connection,
    cipher: &'a Cipher,
    now: u64,
}

impl StoreTransaction<'_> {
    fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.find(key)?.map(|(value, _)| value))
    }

    /// A record that has not expired, and its expiry.
    fn find(&self, key: &str) -> Result<Option<(SecretBytes, Option<i64>)>, StoreError> {
        let row = self
            .connection
            .prepare_cached("SELECT sealed, expires_at FROM record WHERE name = ?1")?
            .query_row([self.cipher.hidden_name(key)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((sealed, expires_at)): Option<(Vec<u8>, Option<i64>)> = row else {
            return Ok(None);
        };
        // The expiry is trusted only after the seal has proved it.
        let value = self.cipher.open(key, expires_at, &sealed)?;
        let expired = expires_at.is_some_and(|expires_at| expires_at <= self.now_as_column());
        Ok(if expired { None } else { Some((value, expires_at)) })
    }

    fn put(&self, key: &str, value: &SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        let expires_at = ttl.map(|ttl| i64::try_from(self.now.saturating_add(ttl.as_secs())).unwrap_or(i64::MAX));
        let sealed = self.cipher.seal(key, expires_at, value.reveal())?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO record (name, sealed, expires_at) VALUES (?1, ?2, ?3)")?
            .execute(params![self.cipher.hidden_name(key), sealed, expires_at])?;
        self.purge()
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM record WHERE name = ?1")?
            .execute([self.cipher.hidden_name(key)])?;
        Ok(())
    }

    /// Removes some expired records, so that the file does not grow with every sign-in.
    fn purge(&self) -> Result<(), StoreError> {
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
        // In WAL mode, readers and writers do not wait for each other, except for a moment when the journal is set up.
        if let Some(result) = inner.readers.get(&inner.cipher, key, now) {
            return result;
        }
        let key = key.to_owned();
        let run = move || {
            let connection = inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
            StoreTransaction { connection: &connection, cipher: &inner.cipher, now }.get(&key)
        };
        tokio::task::spawn_blocking(run).await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.transaction(move |records| records.put(&key, &value, ttl)).await
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
        let key = key.to_owned();
        self.transaction(move |records| {
            let matches = match (records.get(&key)?, &expected) {
                (None, None) => true,
                (Some(current), Some(expected)) => same(current.reveal(), expected.reveal()),
                _ => false,
            };
            if matches {
                records.put(&key, &value, ttl)?;
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

impl Cipher {
    fn from_key_file(user: &User, path: &Path) -> Result<Self, OpenError> {
        let key = read_or_create_key(user, path)?;
        Self::derive(&key)
            .ok_or_else(|| OpenError::Key { path: path.to_owned(), reason: "the keys cannot be derived".into() })
    }
}

/// Checks once whether the key exists, and before reading it: another process may create it at any moment, and
/// [`create_key`] leaves an existing one alone.
fn read_or_create_key(user: &User, path: &Path) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if matches!(path.try_exists(), Ok(false)) {
        create_key(path).map_err(|error| OpenError::Key { path: path.to_owned(), reason: error.to_string() })?;
    }
    read_key(user, path)
}

/// Writes a new key to a file of its own and links that file to `path`, which fails if another process was faster: the
/// file at `path` is complete from the first moment, and all processes use the same one.
fn create_key(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let mut suffix = [0; 8];
    let random = SystemRandom::new();
    random.fill(&mut *key).and_then(|()| random.fill(&mut suffix)).map_err(|_| io::Error::other("no randomness"))?;
    let temporary = path.with_extension(format!("key-{:016x}", u64::from_be_bytes(suffix)));
    let written = private_files::create_new(&temporary).and_then(|mut file| {
        file.write_all(&*key)?;
        file.sync_all()
    });
    let linked = written.and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    fs::remove_file(&temporary)?;
    linked
}

fn read_key(user: &User, path: &Path) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let key_error = |error: io::Error| OpenError::Key { path: path.to_owned(), reason: error.to_string() };
    let mut file = private_files::open(path).map_err(key_error)?;
    user.check_private(&file).map_err(|reason| OpenError::KeyExposed { path: path.to_owned(), reason })?;
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    (&mut file).take(KEY_BYTES as u64 + 1).read_to_end(&mut key).map_err(key_error)?;
    if key.len() != KEY_BYTES {
        return Err(OpenError::KeySize { path: path.to_owned(), found: key.len() });
    }
    Ok(key)
}

#[cfg(test)]
mod tests;
