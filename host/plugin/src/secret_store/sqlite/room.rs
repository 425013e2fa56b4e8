//! Says of a database that cannot be opened whether the disk has no room.
//!
//! SQLite then speaks of an I/O error: it cannot make the memory that processes share.

use std::path::Path;

use rusqlite::ErrorCode;

/// What opening a database takes at least, in bytes: the memory that processes share.
#[cfg(unix)]
const NEEDED_BYTES: u64 = 32 * 1024;

/// Why the database at `path` cannot be opened, in words.
pub(super) fn reason(path: &Path, error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) if is_full(path) => {
            format!("the disk has no room ({error})")
        }
        _ => error.to_string(),
    }
}

#[cfg(unix)]
fn is_full(path: &Path) -> bool {
    let room = path.parent().and_then(|folder| rustix::fs::statvfs(folder).ok());
    room.is_some_and(|room| room.f_bavail.saturating_mul(room.f_frsize) < NEEDED_BYTES)
}

#[cfg(not(unix))]
fn is_full(_: &Path) -> bool {
    false
}
