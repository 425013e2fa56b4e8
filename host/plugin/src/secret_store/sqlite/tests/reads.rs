//! What is read from memory is what was committed.

use super::*;

#[tokio::test]
async fn what_another_process_deletes_or_replaces_is_seen_by_the_next_read() {
    let fixture = Fixture::new();
    let (here, there) = (fixture.open(), fixture.open());
    here.put("session", bytes("1"), None).await.unwrap();
    here.put("other", bytes("o"), None).await.unwrap();
    for number in 1..50 {
        // Read twice: the second time from memory.
        for _ in 0..2 {
            assert_eq!(text(here.get("session").await.unwrap()), Some(number.to_string()));
            assert_eq!(text(there.get("session").await.unwrap()), Some(number.to_string()));
        }
        let (one, other) = if number % 2 == 0 { (&here, &there) } else { (&there, &here) };
        one.put("session", bytes(&(number + 1).to_string()), None).await.unwrap();
        assert_eq!(text(other.get("other").await.unwrap()).as_deref(), Some("o"));
    }
    there.delete("session").await.unwrap();
    assert_eq!(text(here.get("session").await.unwrap()), None);
    assert_eq!(text(there.get("session").await.unwrap()), None);
}

#[tokio::test]
async fn the_version_of_the_database_changes_with_every_commit_and_with_nothing_else() {
    let fixture = Fixture::new();
    let (here, there) = (fixture.open(), fixture.open());
    let index = wal_index::WalIndex::open(&fixture.path()).expect("the database has a WAL-index");
    let mut before = index.version().expect("no commit is going on");
    for number in 0..20 {
        let store = if number % 2 == 0 { &here } else { &there };
        store.put("record", bytes(&number.to_string()), None).await.unwrap();
        let after = index.version().expect("no commit is going on");
        assert_ne!(after, before, "{number}");
        assert!(here.get("record").await.unwrap().is_some() && there.get("missing").await.unwrap().is_none());
        assert_eq!(index.version(), Some(after));
        before = after;
    }
}

#[tokio::test]
async fn what_was_committed_is_seen_when_the_journal_begins_anew() {
    let fixture = Fixture::new();
    let (here, there) = (fixture.open(), fixture.open());
    for number in 0..10 {
        there.put("record", bytes(&number.to_string()), None).await.unwrap();
        for _ in 0..2 {
            assert_eq!(text(here.get("record").await.unwrap()), Some(number.to_string()));
        }
        let mode = if number % 2 == 0 { "TRUNCATE" } else { "RESTART" };
        let raw = fixture.raw();
        raw.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
        drop(raw);
        assert_eq!(text(here.get("record").await.unwrap()), Some(number.to_string()));
        fixture.raw().execute("DELETE FROM record", []).unwrap();
        assert_eq!(text(here.get("record").await.unwrap()), None);
    }
}

#[tokio::test]
async fn what_is_remembered_expires_too() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("session", bytes("v"), Some(Duration::from_secs(10))).await.unwrap();
    for _ in 0..2 {
        assert!(store.get("session").await.unwrap().is_some());
    }
    fixture.clock.advance(Duration::from_secs(10));
    assert!(store.get("session").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_never_answers_with_less_than_was_committed_before_it_began() {
    never_less_than_committed(|fixture| Box::new(fixture.open())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_that_share_a_memory_never_answer_with_less_than_was_committed_before_they_began() {
    let shared = std::sync::OnceLock::new();
    never_less_than_committed(move |fixture| Arc::clone(shared.get_or_init(|| Arc::new(fixture.open())))).await;
}

/// Reads in four tasks while another connection writes.
async fn never_less_than_committed<S>(open: impl Fn(&Fixture) -> S)
where
    S: std::ops::Deref<Target = SqliteStore> + Send + Sync + 'static,
{
    let fixture = Fixture::new();
    let written = Arc::new(std::sync::atomic::AtomicU32::new(0));
    fixture.open().put("counter", bytes("0"), None).await.unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, written) = (open(&fixture), Arc::clone(&written));
            tokio::spawn(async move {
                loop {
                    let least = written.load(std::sync::atomic::Ordering::SeqCst);
                    let found: u32 = text(store.get("counter").await.unwrap()).unwrap().parse().unwrap();
                    assert!(found >= least, "{found} < {least}");
                    if found == 100 {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let writer = fixture.open();
    for number in 1..=100_u32 {
        writer.put("counter", bytes(&number.to_string()), None).await.unwrap();
        written.store(number, std::sync::atomic::Ordering::SeqCst);
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn more_records_than_are_remembered_are_read_right() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for number in 0..50 {
        store.put(&format!("large-{number}"), bytes(&format!("{number}").repeat(20_000)), None).await.unwrap();
    }
    for number in 0..50 {
        let value = text(store.get(&format!("large-{number}")).await.unwrap()).unwrap();
        assert_eq!(value, format!("{number}").repeat(20_000));
    }
}
