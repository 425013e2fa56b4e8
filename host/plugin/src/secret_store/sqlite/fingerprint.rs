//! Tells that the key beside a database is not the one that it was written with.
//!
//! A record under another key has another name, so what was written with the lost key looks as if it had never been
//! there. The database keeps some bits of a keyed hash, in the header field that SQLite leaves to applications
//! (`application_id`): enough to notice another key, and nothing that helps to find one.

use std::path::Path;

use rusqlite::Connection;

/// What is hashed: the name of a record that does not exist.
pub(super) const NAME: &str = "host/key-fingerprint";

/// Compares and notes the fingerprint of the key, and warns once if it is another one. `hash` is a keyed hash of
/// [`NAME`].
pub(super) fn check(connection: &Connection, hash: &[u8], database: &Path) -> rusqlite::Result<()> {
    let mine = fingerprint(hash);
    let noted: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if noted == mine {
        return Ok(());
    }
    // A database of an earlier version has none.
    if noted != 0 {
        tracing::warn!(
            database = %database.display(),
            "the key of the secret store was replaced: nothing that was kept there can be read any more. Everyone has to \
             sign in again, and a client secret that was kept there has to be set again. To get it back, stop the program \
             and restore the key file from a backup"
        );
    }
    connection.pragma_update(None, "application_id", mine)
}

/// 31 bits, and never 0.
fn fingerprint(hash: &[u8]) -> i32 {
    let bits = hash.iter().take(4).fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
    i32::try_from(bits >> 1).unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_is_noticed_once() {
        let connection = Connection::open_in_memory().unwrap();
        let noted = || connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0)).unwrap();
        for (hash, expected) in [([0, 0, 0, 2], 1), ([0, 0, 0, 2], 1), ([255; 4], i32::MAX), ([0; 4], 1)] {
            check(&connection, &hash, Path::new("x")).unwrap();
            assert_eq!(noted(), expected);
        }
    }
}
