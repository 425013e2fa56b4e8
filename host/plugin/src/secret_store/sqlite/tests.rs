//! Tests of `sqlite.rs`.

use std::fs;

use super::*;
use crate::clock::ManualClock;
use crate::private_files;

mod erased;
mod faults;
mod files;
mod key;
mod look;
mod reads;
mod sealed;

struct Fixture {
    folder: tempfile::TempDir,
    clock: ManualClock,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::new(1_000) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store").join("secrets.db")
    }

    fn key_path(&self) -> PathBuf {
        self.path().with_extension("key")
    }

    /// Another connection, as another process would have.
    fn open(&self) -> SqliteStore {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(&self.path(), Arc::new(self.clock.clone()))
    }

    fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn bytes(value: &str) -> SecretBytes {
    SecretBytes::new(value.into())
}

fn text(value: Option<SecretBytes>) -> Option<String> {
    value.map(|value| String::from_utf8(value.reveal().to_vec()).unwrap())
}

/// All files of the store and what is in them, but for the key and the empty file that is locked in its place.
fn content(fixture: &Fixture) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(fixture.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let keys = [fixture.key_path(), fixture.key_path().with_extension("turn")];
    files.filter(|path| !keys.contains(path)).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A cipher with one key.
fn cipher(key: &[u8]) -> Cipher {
    let keys = DataKeys::parse(key).unwrap();
    let source = Arc::new(super::super::GivenDataKeys::new(keys.clone(), "the test"));
    Cipher::new(&keys, source, Arc::new(ManualClock::new(0))).unwrap()
}

#[tokio::test]
async fn a_record_written_by_one_connection_is_read_by_another() {
    let fixture = Fixture::new();
    fixture.open().put("account", bytes("refresh token"), None).await.unwrap();
    assert_eq!(text(fixture.open().get("account").await.unwrap()).as_deref(), Some("refresh token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_connections_that_take_a_record_exactly_one_gets_it() {
    let fixture = Fixture::new();
    fixture.open().put("code", bytes("once"), None).await.unwrap();
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let store = fixture.open();
            tokio::spawn(async move { store.take("code").await.unwrap().is_some() })
        })
        .collect();

    let mut winners = 0;
    for taker in takers {
        winners += usize::from(taker.await.unwrap());
    }

    assert_eq!(winners, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_swaps_lose_no_update() {
    let fixture = Fixture::new();
    fixture.open().put("counter", bytes("0"), None).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let store = fixture.open();
            tokio::spawn(async move {
                let mut done = 0;
                while done < 5 {
                    let current = store.get("counter").await.unwrap();
                    let next = text(current.clone()).unwrap().parse::<u32>().unwrap() + 1;
                    let value = bytes(&next.to_string());
                    done += u32::from(store.compare_and_swap("counter", current, value, None).await.unwrap());
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(text(fixture.open().get("counter").await.unwrap()).as_deref(), Some("20"));
}

#[tokio::test]
async fn a_swap_that_expects_nothing_succeeds_once() {
    let store = Fixture::new().open();
    assert!(store.compare_and_swap("lock", None, bytes("a"), None).await.unwrap());
    assert!(!store.compare_and_swap("lock", None, bytes("b"), None).await.unwrap());
    assert_eq!(text(store.get("lock").await.unwrap()).as_deref(), Some("a"));
}

#[tokio::test]
async fn an_expired_record_is_gone_and_leaves_the_file() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("code", bytes("value"), Some(Duration::from_secs(10))).await.unwrap();
    fixture.clock.advance(Duration::from_secs(9));
    assert!(store.get("code").await.unwrap().is_some());
    fixture.clock.advance(Duration::from_secs(1));

    assert!(store.get("code").await.unwrap().is_none());
    assert!(store.take("code").await.unwrap().is_none());
    store.put("other", bytes("value"), None).await.unwrap();
    let rows: i64 = fixture.raw().query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn many_records_that_expire_together_leave_the_file_by_and_by() {
    const MANY: u32 = MAX_PURGED * 3;
    let fixture = Fixture::new();
    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    for number in 0..MANY {
        store.put(&format!("code/{number}"), bytes("value"), Some(Duration::from_secs(10))).await.unwrap();
    }
    fixture.clock.advance(Duration::from_secs(10));
    let rows = || fixture.raw().query_row("SELECT count(*) FROM record", [], |row| row.get::<_, u32>(0)).unwrap();
    for write in 1..=3 {
        store.put("other", bytes("value"), None).await.unwrap();
        assert_eq!(rows(), MANY - write * MAX_PURGED + 1, "one write removes so many");
        assert!(
            store.get(&format!("code/{}", MANY - 1)).await.unwrap().is_none(),
            "whether removed or not, it is gone"
        );
    }
}
