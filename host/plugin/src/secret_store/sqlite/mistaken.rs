//! Tells a file that was named by mistake from a store, before anything is made or changed.
//!
//! A client that names the operator's letter as the store starts this program again and again. A key that the first start left
//! beside the letter would make a damaged store of it, which the second start puts aside.

use std::io::{self, Read as _};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{OpenError, as_it_is, aside, is_damaged, read_only};
use crate::private_files::{self, FileOwner};

/// What every database begins with.
const HEADER: [u8; 16] = *b"SQLite format 3\0";

/// What is said of the database of another program.
pub(super) const FOREIGN: &str = "it is the database of another program. Nothing was changed; name another file";

/// Refuses a file that is there and has something else in it than a store, unless it may be a damaged one: then a key is beside
/// it. A database that another program has made is refused in any case.
///
/// A process that begins a store makes the key before it writes into the file. So `is_key_beside` is asked after the file.
pub(super) fn refuse(user: &FileOwner, path: &Path, is_key_beside: impl FnOnce() -> bool) -> Result<(), OpenError> {
    let refused = |reason: String| OpenError::Database { path: path.to_owned(), reason };
    let file = match private_files::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| refused(error.to_string()))?,
    };
    let mut head = Vec::with_capacity(HEADER.len());
    let read = (&file).take(HEADER.len() as u64).read_to_end(&mut head);
    read.map_err(|error| refused(error.to_string()))?;
    if !head.is_empty() && head != HEADER && !is_key_beside() {
        return Err(refused("file is not a database. Nothing was changed; name another file".to_owned()));
    }
    user.check_private(&file).map_err(|reason| OpenError::DatabaseExposed { path: path.to_owned(), reason })?;
    drop(file);
    if head == HEADER && is_of_another_program(path) {
        return Err(refused(FOREIGN.to_owned()));
    }
    Ok(())
}

/// What is wrong with a database that is there.
pub(super) fn damage(path: &Path) -> Option<String> {
    tables_in(path).err().filter(is_damaged).map(|error| error.to_string())
}

/// Whether the database of a connection has tables, and none of a store.
pub(super) fn is_foreign(connection: &Connection) -> bool {
    matches!(Tables::of(connection), Ok(Tables::Foreign))
}

/// The tables of a database, as far as they concern a store.
#[derive(Debug, Clone, Copy)]
enum Tables {
    /// There are none yet.
    None,
    /// Those of a store.
    Own,
    /// Others alone.
    Foreign,
}

/// Whether a file has the database of another program, as far as can be told now. Nothing is changed.
fn is_of_another_program(path: &Path) -> bool {
    match tables_in(path) {
        // Those of a database that is in use may be in its journal alone.
        Ok(Tables::None) if aside::beside(path, "-wal").exists() => {
            matches!(tables_with_journal(path), Ok(Tables::Foreign))
        }
        tables => matches!(tables, Ok(Tables::Foreign)),
    }
}

/// The tables in the file itself. No lock is taken, and no file is made.
fn tables_in(path: &Path) -> rusqlite::Result<Tables> {
    Tables::of(&as_it_is::alone(path)?)
}

/// The same with the journal, which stays as it is. The connection shares the index of the journal with others of this process,
/// so it may write as far as SQLite is concerned.
fn tables_with_journal(path: &Path) -> rusqlite::Result<Tables> {
    let connection = read_only::connect(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Tables::of(&connection)
}

impl Tables {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let all: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        let columns = "SELECT count(*) FROM pragma_table_info('record') WHERE name IN ('name', 'sealed', 'expires_at')";
        let columns: i64 = connection.query_row(columns, [], |row| row.get(0))?;
        Ok(match (all, columns) {
            (0, _) => Self::None,
            (_, 3) => Self::Own,
            _ => Self::Foreign,
        })
    }
}
