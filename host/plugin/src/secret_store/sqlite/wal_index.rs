//! Tells whether a process has committed anything since the last look, from memory that all processes with the open
//! database share.
//!
//! In WAL mode every commit, of whichever process, ends with a new header of the WAL-index, which SQLite maps into
//! memory (<https://sqlite.org/walformat.html>, "The WAL-Index File Format"): no connection can see the commit earlier,
//! and the commit does not return earlier. SQLite's own way to ask, `PRAGMA data_version`, reads this header as well,
//! but begins a transaction for it: a mutex of the process and two file locks of the operating system, which were a
//! tenth of the cost of an authenticated request.
//!
//! This module only reads, through a pointer that SQLite's file interface hands out for the purpose, and only the
//! documented part: two copies of a header of 48 bytes. If the copies differ, the header is being written.

use std::array;
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rusqlite::{Connection, ffi};

use super::read_only::connect;

/// 32-bit words of one copy of the header.
const HEADER_WORDS: usize = 12;

/// The known layout: the first word.
const FORMAT: u32 = 3_007_000;

/// Bytes of a part of the WAL-index. The header is in the first part.
const PART_BYTES: c_int = 32 * 1024;

/// The state of the database at some moment. If two are equal, nothing was committed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalVersion([u32; HEADER_WORDS]);

#[cfg(test)]
impl WalVersion {
    pub(super) fn of(change: u32) -> Self {
        Self([change; HEADER_WORDS])
    }
}

/// The WAL-index of an open database.
pub(super) struct WalIndex {
    words: NonNull<AtomicU32>,
    /// Keeps the memory mapped. It is not used otherwise.
    _connection: Mutex<Connection>,
}

#[allow(
    unsafe_code,
    reason = "the memory stays mapped as long as the connection is open, and is only read, atomically"
)]
// SAFETY: the connection may be dropped by any thread, and the words are read atomically.
unsafe impl Send for WalIndex {}
#[allow(unsafe_code, reason = "see above")]
// SAFETY: see above; the connection is behind a lock.
unsafe impl Sync for WalIndex {}

impl WalIndex {
    /// Takes ownership of a connection that has no other use. `None`: the database is not in WAL mode, or its index is
    /// not in shared memory.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let connection = connect(path).ok()?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).ok()?;
        // The first transaction maps the index.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).ok()?;
        let words = if mode == "wal" { map(&connection)? } else { return None };
        let index = Self { words, _connection: Mutex::new(connection) };
        index.version().map(|_| index)
    }

    /// The version of the database now. `None` during a commit, or if the layout of the index is not the known one.
    pub(super) fn version(&self) -> Option<WalVersion> {
        // A commit writes the second copy first.
        let first = self.header(0);
        fence(Ordering::Acquire);
        let second = self.header(HEADER_WORDS);
        // The first byte of the fourth word says whether the index is in use.
        let [format, _, _, in_use, ..] = first;
        let known = format == FORMAT && in_use.to_ne_bytes().first() == Some(&1);
        (known && first == second).then_some(WalVersion(first))
    }

    #[allow(unsafe_code, reason = "reads memory that SQLite has mapped")]
    fn header(&self, at: usize) -> [u32; HEADER_WORDS] {
        // SAFETY: both copies are within the first part, which is mapped as long as the connection is open. All
        // processes write whole words to it, and all references to it are atomic.
        array::from_fn(|word| unsafe { self.words.add(at + word).as_ref() }.load(Ordering::Relaxed))
    }
}

/// The address of the first part of the WAL-index in memory.
#[allow(unsafe_code, reason = "rusqlite does not offer SQLite's file interface")]
fn map(connection: &Connection) -> Option<NonNull<AtomicU32>> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    let mut part: *mut c_void = ptr::null_mut();
    // SAFETY: the handle is that of an open connection which no other thread uses, and the pointers are where SQLite is
    // to write to. The file belongs to the connection. `xShmMap` is not asked to extend the index: it returns where the
    // part is already mapped, or null.
    let found = unsafe {
        let to = (&raw mut file).cast::<c_void>();
        let asked =
            ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, to);
        if asked != ffi::SQLITE_OK {
            return None;
        }
        let methods = file.as_ref()?.pMethods.as_ref()?;
        // Shared memory came with the second version of the interface.
        let map = methods.xShmMap.filter(|_| methods.iVersion >= 2)?;
        map(file, 0, PART_BYTES, 0, &raw mut part)
    };
    NonNull::new(part.cast::<AtomicU32>()).filter(|words| found == ffi::SQLITE_OK && words.is_aligned())
}
