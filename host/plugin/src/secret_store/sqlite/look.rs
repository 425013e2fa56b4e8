//! Looks at a database without changing it: whether a store can be opened, and what its records say.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;

use super::{
    Exposed, FileOwner, KEY_EXTENSION, OpenError, PrivateFolderError, SCHEMA_VERSION, StoreTransaction, as_it_is,
    fingerprint, is_damaged, mistaken, room,
};
use crate::clock::Clock;
use crate::private_files;
use crate::secret_store::cipher::{Cipher, RecordError};
use crate::secret_store::data_key::Unchanged;
use crate::secret_store::read_only::refused;
use crate::secret_store::{KeyError, KeySource, SecretBytes, SecretStore, StoreError};

/// Largest database of which every page is looked at, in bytes: it takes about a second. `SqliteStore::check` looks at all of
/// a larger one.
const MAX_READ_BYTES: u64 = 256 * 1024 * 1024;

/// A database as it is. Its records can be read, and every function that would change one is refused.
pub struct SqliteView {
    inner: Arc<View>,
}

struct View {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Without one there is nothing yet that was sealed.
    cipher: Option<Cipher>,
    clock: Arc<dyn Clock>,
    format: i32,
}

/// See [`SqliteStore::look`](super::SqliteStore::look). What is refused is what `SqliteStore::open` refuses, and besides that a
/// damaged database and one without its key, where it would begin anew.
pub(super) fn look(
    user: &FileOwner,
    path: &Path,
    source: &Arc<dyn KeySource>,
    clock: &Arc<dyn Clock>,
) -> Result<SqliteView, OpenError> {
    let has_faults = |found: &Result<SqliteView, OpenError>| matches!(found, Err(OpenError::Damaged { .. }));
    as_it_is::found(path, has_faults, || look_once(user, path, source, clock))
}

fn look_once(
    user: &FileOwner,
    path: &Path,
    source: &Arc<dyn KeySource>,
    clock: &Arc<dyn Clock>,
) -> Result<SqliteView, OpenError> {
    let database_error = |reason: String| OpenError::Database { path: path.to_owned(), reason };
    let path = &std::path::absolute(path).map_err(|error| database_error(error.to_string()))?;
    if path.with_extension(KEY_EXTENSION) == *path {
        return Err(OpenError::NamedLikeKey { path: path.clone() });
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(database_error("it is not the name of a file".into()));
    };
    let path = &match user.existing_folder(folder) {
        Ok(folder) => folder.join(name),
        Err(PrivateFolderError::Exposed(Exposed { path: exposed, rule })) => {
            return Err(OpenError::FolderExposed { store: path.clone(), path: exposed, reason: rule });
        }
        Err(PrivateFolderError::Io(error)) => return Err(database_error(error.to_string())),
    };
    let file = private_files::open(path).map_err(|error| database_error(error.to_string()))?;
    user.check_private(&file).map_err(|reason| OpenError::DatabaseExposed { path: path.clone(), reason })?;
    let bytes = file.metadata().map_err(|error| database_error(error.to_string()))?.len();
    drop(file);
    let failed = |error: rusqlite::Error| match is_damaged(&error) {
        true => OpenError::Damaged { path: path.clone(), reason: error.to_string() },
        false => database_error(room::reason(path, &error)),
    };
    let (connection, head) = as_it_is::connect(path)
        .and_then(|connection| {
            let head = DatabaseHead::of(&connection)?;
            Ok((connection, head))
        })
        .map_err(failed)?;
    if head.format > SCHEMA_VERSION {
        return Err(OpenError::Version { path: path.clone(), found: head.format });
    }
    if mistaken::is_foreign(&connection) {
        return Err(database_error(mistaken::FOREIGN.to_owned()));
    }
    let source: Arc<dyn KeySource> = Arc::new(Unchanged(Arc::clone(source)));
    let place = source.place();
    let cipher = match source.read()? {
        Some(keys) => {
            let cipher = Cipher::new(&keys, source, Arc::clone(clock));
            Some(cipher.ok_or(OpenError::Keys(KeyError::NoRandomness))?)
        }
        None if head.fingerprint != 0 => return Err(OpenError::KeyMissing { store: path.clone(), place }),
        None => None,
    };
    let is_another =
        |cipher: &Cipher| ![0, fingerprint::of(&cipher.hidden_name(fingerprint::NAME))].contains(&head.fingerprint);
    if cipher.as_ref().is_some_and(is_another) {
        return Err(OpenError::WrongKey { store: path.clone(), place });
    }
    if bytes <= MAX_READ_BYTES {
        let fault = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).map_err(failed)?;
        if fault != "ok" {
            return Err(OpenError::Damaged { path: path.clone(), reason: fault });
        }
    }
    let (path, connection, clock) = (path.clone(), Mutex::new(connection), Arc::clone(clock));
    Ok(SqliteView { inner: Arc::new(View { path, connection, cipher, clock, format: head.format }) })
}

/// What the head of a database says.
pub(super) struct DatabaseHead {
    /// The layout; 0 where there is none yet.
    pub(super) format: i32,
    /// That of the key; 0 where there is none.
    pub(super) fingerprint: i32,
}

impl DatabaseHead {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get(0));
        Ok(Self { format: number("PRAGMA user_version")?, fingerprint: number("PRAGMA application_id")? })
    }
}

impl SqliteView {
    /// The format that opening the store changes to the one of this version: that of an earlier version, or 0 where nothing was
    /// written yet.
    pub fn earlier_format(&self) -> Option<i32> {
        (self.inner.format < SCHEMA_VERSION).then_some(self.inner.format)
    }

    /// Whether there is a key. Opening a store that has none makes it.
    pub fn has_key(&self) -> bool {
        self.inner.cipher.is_some()
    }
}

impl View {
    fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let Some(cipher) = self.cipher.as_ref().filter(|_| self.format > 0) else { return Ok(None) };
        let now = self.clock.now_seconds();
        let once = || {
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            StoreTransaction { connection: &connection, cipher, now }.get(key)
        };
        let found = match once() {
            Err(RecordError::UnknownKey) if cipher.look_for_keys() => once(),
            found => found,
        };
        found.map_err(|error| cipher.store_error(error).of_file(&self.path))
    }
}

#[async_trait]
impl SecretStore for SqliteView {
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
        let read = tokio::task::spawn_blocking(move || inner.get(&key));
        read.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
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
