//! What was deleted is in no file any more.

use std::collections::HashMap;

use super::*;
use crate::secret_store::sqlite::erasure::PAUSE;

/// Bytes of a piece of a sealed value that the files are searched for: by chance, there is none that long.
const PIECE: usize = 12;

impl Fixture {
    /// The sealed values that are in the database now, as an attacker with the files has them.
    fn sealed(&self) -> Vec<Vec<u8>> {
        let raw = self.raw();
        let mut statement = raw.prepare("SELECT sealed FROM record").unwrap();
        let sealed = statement.query_map([], |row| row.get(0)).unwrap();
        sealed.collect::<Result<_, _>>().unwrap()
    }

    /// How many of these values have left something in the files of the store.
    fn left_of(&self, values: &[Vec<u8>]) -> usize {
        let mut pieces: HashMap<&[u8], usize> = HashMap::new();
        for (number, value) in values.iter().enumerate() {
            pieces.extend(value.chunks_exact(PIECE).map(|piece| (piece, number)));
        }
        let mut found: Vec<usize> = Vec::new();
        for entry in fs::read_dir(self.path().parent().unwrap()).unwrap() {
            let content = fs::read(entry.unwrap().path()).unwrap();
            found.extend(content.windows(PIECE).filter_map(|window| pieces.get(window)));
        }
        found.sort_unstable();
        found.dedup();
        found.len()
    }

    fn journal_bytes(&self) -> u64 {
        fs::metadata(self.path().with_extension("db-wal")).map_or(0, |metadata| metadata.len())
    }
}

#[tokio::test]
async fn what_is_revoked_or_replaced_leaves_the_files_some_seconds_later() {
    let fixture = Fixture::new();
    // Another process has the store open, so nothing is cleared up because the last one leaves.
    let (store, _other) = (fixture.open(), fixture.open());
    store.put("session", bytes("hashes"), None).await.unwrap();
    store.put("session-entra", bytes("refresh token"), None).await.unwrap();
    let before = fixture.sealed();
    store.put("session-entra", bytes("another refresh token"), None).await.unwrap();
    let between = fixture.sealed();
    store.delete("session").await.unwrap();
    assert!(store.take("session-entra").await.unwrap().is_some());
    assert_eq!((fixture.left_of(&before), fixture.left_of(&between)), (2, 2), "in the journal");

    assert_eq!(fixture.clock.next_wait().await, PAUSE);
    fixture.clock.advance(PAUSE);
    while fixture.journal_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((fixture.left_of(&before), fixture.left_of(&between)), (0, 0));
}

#[tokio::test]
async fn what_expires_leaves_the_files_without_another_write() {
    let fixture = Fixture::new();
    let (store, _other) = (fixture.open(), fixture.open());
    store.put("code", bytes("value"), Some(Duration::from_secs(60))).await.unwrap();
    let before = fixture.sealed();
    assert_eq!(fixture.clock.next_wait().await, PAUSE);
    fixture.clock.advance(PAUSE);
    assert_eq!(fixture.clock.next_wait().await, Duration::from_secs(60) - PAUSE);
    assert_eq!(fixture.left_of(&before), 1, "it lives");
    fixture.clock.advance(Duration::from_secs(60) - PAUSE);
    assert_eq!(fixture.clock.next_wait().await, PAUSE);
    fixture.clock.advance(PAUSE);
    while fixture.left_of(&before) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(fixture.sealed().is_empty());
}

/// As `entra-mcp logout` ends, while a server runs.
#[tokio::test]
async fn a_store_that_is_closed_leaves_nothing_that_was_deleted() {
    let fixture = Fixture::new();
    let (store, _other) = (fixture.open(), fixture.open());
    store.put("account", bytes("refresh token"), None).await.unwrap();
    store.put("kept", bytes("value"), None).await.unwrap();
    store.put("expired", bytes("value"), Some(Duration::from_secs(1))).await.unwrap();
    let before = fixture.sealed();
    fixture.clock.advance(Duration::from_secs(1));
    store.delete("account").await.unwrap();
    drop(store);
    assert_eq!((fixture.left_of(&before), fixture.journal_bytes()), (1, 0));
    assert_eq!(fixture.sealed().len(), 1, "what is kept is kept");
}

/// A store that is opened by a program without a runtime, and closed again.
#[test]
fn a_store_that_was_never_used_is_closed() {
    let fixture = Fixture::new();
    drop(fixture.open());
    assert_eq!(fixture.journal_bytes(), 0);
}

/// Pages of the database are split, merged and filled again: no copy of a value stays behind in a gap.
#[tokio::test]
async fn of_many_records_of_all_sizes_nothing_is_left_that_is_gone() {
    let fixture = Fixture::new();
    let _other = fixture.open();
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut state = 7_u64;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for round in 0..5 {
        let store = fixture.open();
        for _ in 0..80 {
            let largest = if next(8) == 0 { 9_000 } else { 900 };
            let (name, size) = (format!("record-{}", next(120)), 20 + next(largest));
            if next(3) == 0 {
                store.delete(&name).await.unwrap();
            } else {
                let value = "v".repeat(usize::try_from(size).unwrap());
                store.put(&name, bytes(&value), None).await.unwrap();
            }
        }
        all.extend(fixture.sealed());
        drop(store);
        let kept = fixture.sealed();
        let gone: Vec<Vec<u8>> = all.iter().filter(|value| !kept.contains(value)).cloned().collect();
        assert!(round == 0 || gone.len() > 10, "{round}");
        assert_eq!(fixture.left_of(&gone), 0, "round {round}: of {} values", gone.len());
    }
}
