//! Opens every record of a database, and changes nothing: neither the files nor the place of the key.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::look::DatabaseHead;
use super::{BUSY_TIMEOUT, OpenError, SCHEMA_VERSION, as_it_is, fingerprint, is_damaged, read_only};
use crate::clock::Clock;
use crate::secret_store::cipher::{Cipher, HiddenName, key_named_in};
use crate::secret_store::data_key::{KeyError, KeyId, Unchanged, key_id};
use crate::secret_store::{DataKeys, KeySource, StoreReport};

/// Most faults of the file that are told.
const MAX_FAULTS: usize = 10;

/// See [`SqliteStore::check`](super::SqliteStore::check).
pub(super) fn check(
    path: &Path,
    source: &Arc<dyn KeySource>,
    clock: &Arc<dyn Clock>,
) -> Result<StoreReport, OpenError> {
    let has_faults = |found: &Result<StoreReport, OpenError>| match found {
        Ok(report) => !report.is_sound(),
        Err(error) => matches!(error, OpenError::Damaged { .. }),
    };
    as_it_is::found(path, has_faults, || check_once(path, source, clock))
}

fn check_once(path: &Path, source: &Arc<dyn KeySource>, clock: &Arc<dyn Clock>) -> Result<StoreReport, OpenError> {
    let failed = |error: rusqlite::Error| match is_damaged(&error) {
        true => OpenError::Damaged { path: path.to_owned(), reason: error.to_string() },
        false => OpenError::Database { path: path.to_owned(), reason: error.to_string() },
    };
    let missing = || OpenError::KeyMissing { store: path.to_owned(), place: source.place() };
    let absolute = std::path::absolute(path)
        .map_err(|error| OpenError::Database { path: path.to_owned(), reason: error.to_string() })?;
    let connection = as_it_is::connect(&absolute).map_err(failed)?;
    let DatabaseHead { format: found, fingerprint: noted } = DatabaseHead::of(&connection).map_err(failed)?;
    let source: Arc<dyn KeySource> = Arc::new(Unchanged(Arc::clone(source)));
    let keys = source.read()?.ok_or_else(missing)?;
    let newest = keys.keys().next().and_then(|key| key_id(key.as_slice()));
    let cipher = Cipher::new(&keys, Arc::clone(&source), Arc::clone(clock));
    let cipher = cipher.ok_or(OpenError::Keys(KeyError::NoRandomness))?;
    let mut report = StoreReport::default();
    let mine = fingerprint::of(&cipher.hidden_name(fingerprint::NAME));
    if noted != 0 && noted != mine {
        return Err(OpenError::WrongKey { store: path.to_owned(), place: source.place() });
    }
    if found > SCHEMA_VERSION {
        return Err(OpenError::Version { path: path.to_owned(), found });
    }
    report.problems = faults(&connection).map_err(failed)?;
    let now = i64::try_from(clock.now_seconds()).unwrap_or(i64::MAX);
    let counted = examine(&connection, |name, sealed, expires_at| {
        report.records = report.records.saturating_add(1);
        report.bytes = report.bytes.saturating_add(sealed.len() as u64);
        if expires_at.is_some_and(|expires_at| expires_at <= now) {
            report.expired = report.expired.saturating_add(1);
        }
        report.count(cipher.examine(&name, expires_at, sealed), newest);
    });
    if let Err(error) = counted {
        report.problems.push(format!("not every record can be read: {error}"));
    }
    Ok(report)
}

/// Puts a new key before the present ones. Records are sealed anew with it as they are written.
pub(super) fn rotate(path: &Path, source: &dyn KeySource) -> Result<DataKeys, OpenError> {
    let failed = |error: rusqlite::Error| OpenError::Database { path: path.to_owned(), reason: error.to_string() };
    let missing = || OpenError::KeyMissing { store: path.to_owned(), place: source.place() };
    let keys = source.read()?.ok_or_else(missing)?;
    let used = used_keys(&open(path).map_err(failed)?).map_err(failed)?;
    Ok(keys.rotated(used.as_ref())?)
}

/// The keys that records are under. `None`: some records name none, so every key may be needed.
fn used_keys(connection: &Connection) -> rusqlite::Result<Option<BTreeSet<KeyId>>> {
    let mut used = Some(BTreeSet::new());
    examine(connection, |_, sealed, _| match (key_named_in(sealed), &mut used) {
        (Some(id), Some(used)) => {
            used.insert(id);
        }
        _ => used = None,
    })?;
    Ok(used)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = read_only::connect(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// What SQLite finds wrong with the file.
fn faults(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MAX_FAULTS})"))?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.into_iter().filter(|fault| fault != "ok").collect())
}

fn examine(connection: &Connection, mut look: impl FnMut(HiddenName, &[u8], Option<i64>)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT name, sealed, expires_at FROM record")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let sealed = row.get_ref(1)?.as_blob()?;
        // A name of another length is that of no record.
        let name = row.get::<_, Vec<u8>>(0)?.try_into().unwrap_or_default();
        look(name, sealed, row.get(2)?);
    }
    Ok(())
}
