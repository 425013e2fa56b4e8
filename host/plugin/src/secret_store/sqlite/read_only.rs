//! Connections that only read, and wait for no one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// The page cache of a reader, in KiB. SQLite's default is 2 MB for each connection, and this memory already holds the
/// records that are read often, deciphered.
const PAGE_CACHE_KIB: i64 = 256;

/// Opens a read-only connection that does not wait.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Readers share the side files of the journal with the writers, so they open the file in the same mode.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[cfg(windows)]
    let path = crate::access_list::unlimited(path);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB)?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}
