//! Tells that the key beside a database is not the one that it was written with.
//!
//! A record under another key has another name, so records under the lost key would seem never to have existed. The
//! database keeps some bits of a keyed hash, in the header field that SQLite leaves to applications (`application_id`):
//! enough to notice another key, and nothing that helps to find one.

use rusqlite::Connection;

/// What is hashed: the name of a record that does not exist.
pub(super) const NAME: &str = "host/key-fingerprint";

/// Notes the fingerprint of the key in a database that has none, and returns whether the key is that of the database.
/// `hash` is a keyed hash of [`NAME`]. A database with the fingerprint of another key is left as it is.
pub(super) fn check(connection: &Connection, hash: &[u8]) -> rusqlite::Result<bool> {
    let mine = of(hash);
    let noted: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    // A database of an earlier version has none.
    if noted == 0 {
        connection.pragma_update(None, "application_id", mine)?;
    }
    Ok(noted == 0 || noted == mine)
}

/// 31 bits, and never 0.
pub(super) fn of(hash: &[u8]) -> i32 {
    let bits = hash.iter().take(4).fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
    i32::try_from(bits >> 1).unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_is_noticed_and_not_noted() {
        let connection = Connection::open_in_memory().unwrap();
        let noted = || connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0)).unwrap();
        for (hash, is_its_key) in [([0, 0, 0, 2], true), ([0, 0, 0, 2], true), ([255; 4], false), ([0, 0, 0, 2], true)]
        {
            assert_eq!(check(&connection, &hash).unwrap(), is_its_key);
            assert_eq!(noted(), 1);
        }
    }
}
