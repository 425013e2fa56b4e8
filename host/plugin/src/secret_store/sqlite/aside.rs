//! A damaged database is put aside under another name, and a new one begins in its place.
//!
//! The key file is locked meanwhile, and wherever a database begins: a new one beside the journal of a damaged one would make
//! SQLite delete that journal.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::prepare;
use super::{is_damaged, is_missing};
use crate::clock::Clock;
use crate::private_files;
pub(super) use crate::secret_store::data_key::hold;

/// The files of a database, the one with the records first.
const FILES: [&str; 3] = ["", "-wal", "-shm"];

/// A file of a database, or one that is named like it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens the file of a database, and makes it where there is none. `key`: the key file beside it.
pub(super) fn begin(path: &Path, key: Option<&Path>, clock: &dyn Clock) -> io::Result<File> {
    match private_files::open_append_existing(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    // Another process may be putting a damaged one aside, and have come to its journal.
    let _turn = key.map(hold).transpose()?;
    let journal = beside(path, "-wal");
    if key.is_some() && !path.exists() && journal.exists() {
        tracing::warn!(journal = %journal.display(), "a journal is there without its secret store: it is set aside");
        set_aside(path, clock)?;
    }
    private_files::open_append(path)
}

/// Puts a damaged database aside and begins a new one, unless another process has done so meanwhile.
pub(super) fn replace_damaged(
    path: &Path,
    key: &Path,
    clock: &dyn Clock,
    error: &rusqlite::Error,
) -> io::Result<rusqlite::Result<(Connection, i32)>> {
    let _turn = hold(key)?;
    match prepare(path) {
        // If it is missing, another process has put it aside, and was stopped before it made another one.
        Err(error) if is_damaged(&error) || is_missing(&error) => {}
        prepared => return Ok(prepared),
    }
    if let Some(aside) = set_aside(path, clock)? {
        tracing::error!(
            database = %path.display(), aside = %aside.display(), %error,
            "the secret store is damaged: it was set aside, and an empty one takes its place. Everyone has to sign in again, and \
             a client secret that was kept there has to be set again"
        );
    }
    private_files::open_append(path)?;
    Ok(prepare(path))
}

/// Renames the files of a database to names that no file has. Returns that of the one with the records, if it was there.
fn set_aside(path: &Path, clock: &dyn Clock) -> io::Result<Option<PathBuf>> {
    let aside = free_name(path, clock.now_seconds());
    let mut was_there = false;
    for suffix in FILES {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => {
                renamed?;
                was_there |= suffix.is_empty();
            }
        }
    }
    Ok(was_there.then_some(aside))
}

/// A name with the time in it. A database that is damaged again within the second gets a number too.
fn free_name(path: &Path, now: u64) -> PathBuf {
    let is_free = |name: &PathBuf| FILES.iter().all(|suffix| fs::symlink_metadata(beside(name, suffix)).is_err());
    let first = beside(path, &format!(".damaged-{now}"));
    let numbered = (2_u32..).map(|number| beside(path, &format!(".damaged-{now}-{number}")));
    std::iter::once(first.clone()).chain(numbered).find(is_free).unwrap_or(first)
}
