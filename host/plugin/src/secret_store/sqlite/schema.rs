//! The database of a store: how it is opened, and what is in it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, limits};

/// Pause between attempts to prepare a database that another process is preparing, and the number of attempts: together
/// [`BUSY_TIMEOUT`]. SQLite itself does not wait while the journal mode changes.
const PREPARE_PAUSE: Duration = Duration::from_millis(10);
const PREPARE_ATTEMPTS: u32 = 500;

/// Bytes of the journal that stay when it begins anew: none, since they are of records that may be gone by now.
const JOURNAL_SIZE_LIMIT: i64 = 0;

/// Layout of the table and of sealed values. A file with a later number is refused. The values of version 1 are under one
/// key, those of version 2 are bound to the name itself; they are opened as they are. Version 4 counts its records, and version 5
/// also those that earlier versions replace.
pub(super) const SCHEMA_VERSION: i32 = 5;

/// Opens the database and creates the missing parts. Several processes may do so at the same time.
#[allow(clippy::disallowed_methods, reason = "it waits for another process, which no injected clock could hurry")]
pub(super) fn prepare(path: &Path) -> rusqlite::Result<(Connection, i32)> {
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
    // Not one that is not there: SQLite would make a file that others can read.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
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
             {}
             PRAGMA user_version = {SCHEMA_VERSION};
             COMMIT;",
            limits::COUNTED
        ))?;
    }
    version(connection)
}
