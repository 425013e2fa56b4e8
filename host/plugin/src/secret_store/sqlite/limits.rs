//! How many records a database may have, and how large they may be together.
//!
//! The database counts them itself, in a row that triggers keep: a count of a million records takes longer than a write, and
//! several processes write.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::{HiddenName, purge};
use crate::secret_store::{StoreError, StoreLimits};

/// Statements that remove expired records to make room, each at most [`MAX_PURGED`](super::MAX_PURGED). Expired records are
/// removed when they expire ([`erasure`](super::erasure)), so there are few.
const MAX_BATCHES: usize = 32;

/// Adds the count to a database, and counts what is there.
///
/// A process of an earlier version that has the database open replaces records with `INSERT OR REPLACE`. The deletion in it
/// fires no trigger, so `record_replaced` counts the record out before. An `INSERT` with `ON CONFLICT DO UPDATE` would fire that
/// one too, and then `record_updated`; so no version writes one from format 5 on.
pub(super) const COUNTED: &str = "
    CREATE TABLE IF NOT EXISTS total (records INTEGER NOT NULL, bytes INTEGER NOT NULL);
    DELETE FROM total;
    INSERT INTO total SELECT count(*), coalesce(sum(length(sealed)), 0) FROM record;
    CREATE TRIGGER IF NOT EXISTS record_replaced BEFORE INSERT ON record BEGIN
        UPDATE total SET records = records - 1,
            bytes = bytes - (SELECT length(sealed) FROM record WHERE name = new.name)
        WHERE EXISTS (SELECT 1 FROM record WHERE name = new.name);
    END;
    CREATE TRIGGER IF NOT EXISTS record_inserted AFTER INSERT ON record BEGIN
        UPDATE total SET records = records + 1, bytes = bytes + length(new.sealed);
    END;
    CREATE TRIGGER IF NOT EXISTS record_updated AFTER UPDATE OF sealed ON record BEGIN
        UPDATE total SET bytes = bytes + length(new.sealed) - length(old.sealed);
    END;
    CREATE TRIGGER IF NOT EXISTS record_deleted AFTER DELETE ON record BEGIN
        UPDATE total SET records = records - 1, bytes = bytes - length(old.sealed);
    END;";

/// Removes what has expired until a record has room. One that is there already always has: otherwise a full store would end
/// the sessions that are in it.
pub(super) fn make_room(
    connection: &Connection,
    limits: StoreLimits,
    (key, name): (&str, &HiddenName),
    (bytes, ttl): (usize, Option<Duration>),
    now: i64,
) -> Result<(), StoreError> {
    let told = limits;
    let limits = limits.for_record(key, ttl);
    let mut known = connection.prepare_cached("SELECT 1 FROM record WHERE name = ?1")?;
    if has_room(connection, limits, bytes)? || known.exists(params![name])? {
        return Ok(());
    }
    for _ in 0..MAX_BATCHES {
        let removed = purge(connection, now)?;
        if has_room(connection, limits, bytes)? {
            return Ok(());
        }
        if removed == 0 {
            break;
        }
    }
    let StoreLimits { records, bytes } = told;
    Err(StoreError::Full(format!("{records} records and {bytes} bytes are the most, by its settings")))
}

fn has_room(connection: &Connection, limits: StoreLimits, bytes: usize) -> Result<bool, StoreError> {
    let mut total = connection.prepare_cached("SELECT records, bytes FROM total")?;
    let (records, used): (i64, i64) = total.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // A count below zero is that of a database whose triggers another program has removed.
    let (records, used) = (u64::try_from(records).unwrap_or_default(), u64::try_from(used).unwrap_or_default());
    Ok(records < limits.records && used.saturating_add(bytes as u64) <= limits.bytes)
}
