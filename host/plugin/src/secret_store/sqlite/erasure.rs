//! Deleted, replaced and expired records leave the files.
//!
//! SQLite overwrites deleted records (`secure_delete`), but only in the database file, when a checkpoint carries the
//! change there from the journal. The journal keeps earlier versions of a page until it begins anew, and an expired
//! record stays until a later write removes it. So some seconds after a write, and when the next record expires, a task
//! removes expired records, carries everything to the database file, and truncates the journal
//! (`wal_checkpoint(TRUNCATE)`). The same happens when the store is closed.
//!
//! Where SQLite moves a record from page to page, a copy may stay in a gap of the old page and outlive the record: one
//! in a thousand did in an experiment. So closing the store writes a database that is not large anew (`VACUUM`).
//!
//! Threat: an attacker gets the files and the key, later. The tokens of a session that was revoked before are not in
//! them. Copies of overwritten blocks in the file system or on the disk are out of reach.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{BUSY_TIMEOUT, OpenDatabase, purge};
use crate::clock::{self, Clock};

/// Time between a write and the checkpoint, which serves all writes meanwhile: a checkpoint waits for the disk twice.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// How long a checkpoint waits for other processes' reads and writes, which it holds up in turn. Longer ones are rare, and
/// it is tried again after [`PAUSE`].
const PATIENCE: Duration = Duration::from_millis(200);

/// Statements that remove expired records in one round, each at most [`MAX_PURGED`](super::MAX_PURGED): writes of this
/// process wait meanwhile.
const MAX_BATCHES: usize = 32;

/// Longest time until it is looked for what has expired: the machine's clock may be set.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Largest database in pages of 4 KiB that is written anew when the store is closed: 4 MiB, which takes some ten
/// milliseconds.
const MAX_VACUUMED_PAGES: i64 = 1024;

/// What wakes the task.
#[derive(Default)]
pub(super) struct Erasure {
    /// Whether this process has written anything.
    written: AtomicBool,
    begun: AtomicBool,
    wake: Arc<Notify>,
}

#[cfg(test)]
impl Erasure {
    /// For tests of what writes remove by themselves: no task begins.
    pub(super) fn begin_no_task(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }
}

/// What came of one round.
pub(super) struct Round {
    /// Whether nothing is left that has expired, and the journal is empty.
    is_done: bool,
    /// When the next record expires. Unix time in seconds.
    next_expiry: Option<i64>,
}

/// Notes that something was written.
pub(super) fn after_a_write(inner: &Arc<OpenDatabase>) {
    let erasure = &inner.erasure;
    erasure.written.store(true, Ordering::Relaxed);
    erasure.wake.notify_one();
    if !erasure.begun.load(Ordering::Relaxed)
        && let Ok(runtime) = Handle::try_current()
        && !erasure.begun.swap(true, Ordering::Relaxed)
    {
        let (inner, clock, wake) = (Arc::downgrade(inner), Arc::clone(&inner.clock), Arc::clone(&erasure.wake));
        runtime.spawn(erase(inner, clock, wake));
    }
}

/// Runs until the store is closed, and does not keep it open.
async fn erase(inner: Weak<OpenDatabase>, clock: Arc<dyn Clock>, wake: Arc<Notify>) {
    let mut next_expiry = None;
    loop {
        let wait = next_expiry.map(|expiry| until(expiry, &*clock));
        tokio::select! {
            () = wake.notified() => {}
            () = clock::sleep(&*clock, wait.unwrap_or(MAX_WAIT)), if wait.is_some() => {}
        }
        if inner.strong_count() == 0 {
            return;
        }
        clock::sleep(&*clock, PAUSE).await;
        let Some(inner) = inner.upgrade() else { return };
        let round = tokio::task::spawn_blocking(move || inner.erase()).await;
        let Ok(round) = round else { return };
        if !round.is_done {
            wake.notify_one();
        }
        next_expiry = round.next_expiry;
    }
}

fn until(expiry: i64, clock: &dyn Clock) -> Duration {
    let seconds = u64::try_from(expiry).unwrap_or_default().saturating_sub(clock.now_seconds());
    Duration::from_secs(seconds).min(MAX_WAIT)
}

impl OpenDatabase {
    /// One round. What fails now is tried again.
    pub(super) fn erase(&self) -> Round {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let now = i64::try_from(self.clock.now_seconds()).unwrap_or(i64::MAX);
        let round = round(&connection, now);
        let _ = connection.busy_timeout(BUSY_TIMEOUT);
        round.unwrap_or_else(|error| {
            tracing::debug!(%error, "what was deleted is still in the journal");
            Round { is_done: false, next_expiry: None }
        })
    }
}

fn round(connection: &Connection, now: i64) -> rusqlite::Result<Round> {
    connection.busy_timeout(PATIENCE)?;
    let mut is_purged = false;
    for _ in 0..MAX_BATCHES {
        is_purged = purge(connection, now)? == 0;
        if is_purged {
            break;
        }
    }
    let is_busy = carry_over(connection)?;
    let next_expiry =
        connection.prepare_cached("SELECT min(expires_at) FROM record")?.query_row([], |row| row.get(0))?;
    Ok(Round { is_done: is_purged && !is_busy, next_expiry })
}

fn vacuum(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages > MAX_VACUUMED_PAGES {
        return Ok(());
    }
    connection.execute_batch("VACUUM")?;
    carry_over(connection).map(drop)
}

/// Carries the journal to the database file, and cuts it to nothing. Returns whether a reader or a writer was in the way.
///
/// `TRUNCATE` holds up every writer while it waits for the disk. On one that takes seconds, writers of other processes would
/// find the store locked for longer than [`BUSY_TIMEOUT`]. `PASSIVE` waits for the disk without holding them up, so that
/// nothing, or only what came meanwhile, is left to `TRUNCATE`.
fn carry_over(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    // The first column says whether a reader or a writer was in the way.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        // The task looks, and ends.
        self.erasure.wake.notify_one();
        self.erase();
        if self.erasure.written.load(Ordering::Relaxed) {
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            // What cannot be written anew now is when the next process ends.
            let _ = vacuum(&connection);
        }
    }
}
