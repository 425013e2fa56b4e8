//! Opens a database so that every byte of its files stays as it is.
//!
//! A connection as [`schema`](super::schema) opens it makes the files of the journal, takes the journal of a process that has
//! crashed into the database, and removes both files if it is the last to close. One that is only read does so too. Here it
//! depends on what is there (<https://sqlite.org/wal.html>, "Read-Only Databases"):
//!
//! - without a journal no process has the database open, and it is read as a file that does not change;
//! - with a journal and its index, both are read as they are. Without another process, SQLite makes the index of a journal anew,
//!   in memory, because it may not write the file;
//! - with a journal alone, as in a copy, no index is made but in memory: the connection has the database for itself. A process
//!   that opens it meanwhile waits for [`BUSY_TIMEOUT`], and fails as busy. A process that was killed leaves the index as well, so
//!   no server but one that is started in a copy meets that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::BUSY_TIMEOUT;

/// What the name of the journal has behind that of the database, and that of its index.
const JOURNAL: &str = "-wal";
const INDEX: &str = "-shm";

/// What `look` finds, which [connects](connect). A process that opens the database meanwhile changes a file that is read as one
/// that does not change, and so are faults found that it has not: they are looked for once more, with the journal that is there
/// now.
pub(super) fn found<T>(path: &Path, has_faults: impl Fn(&T) -> bool, look: impl Fn() -> T) -> T {
    let had_journal = has_beside(path, JOURNAL);
    let found = look();
    if !had_journal && has_faults(&found) && has_beside(path, JOURNAL) { look() } else { found }
}

fn has_beside(path: &Path, suffix: &str) -> bool {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name).exists()
}

/// Opens the database at an absolute path.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = match (has_beside(path, JOURNAL), has_beside(path, INDEX)) {
        (false, _) => named(path, "immutable=1", OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        (true, true) => named(path, "readonly_shm=1", OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        (true, false) => {
            // It may write as far as SQLite is concerned, because it has to be able to lock out others.
            let connection = named(path, "", OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection
        }
    };
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Opens the database at an absolute path without its journal, and takes no lock. What another process writes meanwhile may be
/// seen in part.
pub(super) fn alone(path: &Path) -> rusqlite::Result<Connection> {
    named(path, "immutable=1", OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn named(path: &Path, parameters: &str, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let mut url = url_of(path).ok_or_else(|| rusqlite::Error::InvalidPath(path.to_owned()))?;
    if !parameters.is_empty() {
        url.push('?');
        url.push_str(parameters);
    }
    Connection::open_with_flags(url.as_str(), flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

#[cfg(not(windows))]
fn url_of(path: &Path) -> Option<String> {
    Some(url::Url::from_file_path(path).ok()?.into())
}

/// `url` leaves away what makes a path one that may be long, and SQLite takes all behind the scheme as the path.
#[cfg(windows)]
fn url_of(path: &Path) -> Option<String> {
    let path = crate::access_list::unlimited(path);
    let mut url = String::from("file:");
    for byte in path.to_str()?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => url.push(char::from(byte)),
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    Some(url)
}
