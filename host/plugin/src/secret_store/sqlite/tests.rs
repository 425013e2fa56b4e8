//! Tests of `sqlite.rs`.

use super::*;
use crate::clock::ManualClock;

mod erased;
mod faults;

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

#[tokio::test]
async fn a_record_written_by_one_connection_is_read_by_another() {
    let fixture = Fixture::new();
    fixture.open().put("account", bytes("refresh token"), None).await.unwrap();
    assert_eq!(text(fixture.open().get("account").await.unwrap()).as_deref(), Some("refresh token"));
}

#[tokio::test]
async fn neither_names_nor_values_can_be_read_in_the_files() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("recognisable-name", bytes("recognisable-value"), None).await.unwrap();
    for entry in fs::read_dir(fixture.path().parent().unwrap()).unwrap() {
        let content = fs::read(entry.unwrap().path()).unwrap();
        assert!(!content.windows(12).any(|window| window == b"recognisable"));
    }
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
async fn an_altered_record_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("account", bytes("value"), None).await.unwrap();
    let mut sealed: Vec<u8> = fixture.raw().query_row("SELECT sealed FROM record", [], |row| row.get(0)).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    fixture.raw().execute("UPDATE record SET sealed = ?1", [sealed]).unwrap();

    assert_eq!(store.get("account").await.unwrap_err(), StoreError::Unreadable);
    assert_eq!(store.take("account").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn a_truncated_record_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("account", bytes("value"), None).await.unwrap();
    fixture.raw().execute("UPDATE record SET sealed = x'0102'", []).unwrap();
    assert_eq!(store.get("account").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn records_that_were_swapped_are_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("alice", bytes("token of alice"), None).await.unwrap();
    let hers: Vec<u8> = fixture.raw().query_row("SELECT sealed FROM record", [], |row| row.get(0)).unwrap();
    store.put("bob", bytes("token of bob"), None).await.unwrap();
    fixture.raw().execute("UPDATE record SET sealed = ?1", [hers]).unwrap();

    assert_eq!(text(store.get("alice").await.unwrap()).as_deref(), Some("token of alice"));
    assert_eq!(store.get("bob").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn a_record_whose_life_was_prolonged_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("code", bytes("value"), Some(Duration::from_secs(10))).await.unwrap();
    fixture.raw().execute("UPDATE record SET expires_at = expires_at + 1000", []).unwrap();
    assert_eq!(store.get("code").await.unwrap_err(), StoreError::Unreadable);
}

#[tokio::test]
async fn an_unreadable_record_can_be_replaced_and_deleted() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("account", bytes("old"), None).await.unwrap();
    fixture.raw().execute("UPDATE record SET sealed = x'00'", []).unwrap();

    store.put("account", bytes("new"), None).await.unwrap();
    assert_eq!(text(store.get("account").await.unwrap()).as_deref(), Some("new"));
    fixture.raw().execute("UPDATE record SET sealed = x'00'", []).unwrap();
    store.delete("account").await.unwrap();
    assert!(store.get("account").await.unwrap().is_none());
}

/// All files of the store and what is in them, but for the key.
fn content(fixture: &Fixture) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(fixture.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| *path != fixture.key_path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[tokio::test]
async fn without_its_key_a_store_is_refused_and_nothing_is_changed() {
    let fixture = Fixture::new();
    fixture.open().put("account", bytes("value"), None).await.unwrap();
    let (before, key) = (content(&fixture), fs::read(fixture.key_path()).unwrap());
    fs::remove_file(fixture.key_path()).unwrap();
    assert!(matches!(fixture.try_open().err().unwrap(), OpenError::KeyMissing { .. }));
    assert_eq!((content(&fixture), fixture.key_path().exists()), (before.clone(), false));

    KeyFile::new(&fixture.key_path()).create().unwrap();
    assert!(matches!(fixture.try_open().err().unwrap(), OpenError::WrongKey { .. }));
    assert_eq!(content(&fixture), before);

    fs::write(fixture.key_path(), key).unwrap();
    assert_eq!(text(fixture.open().get("account").await.unwrap()).as_deref(), Some("value"));
}

#[tokio::test]
async fn a_record_sealed_with_another_key_is_unreadable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let name = store.inner.cipher.hidden_name("account");
    let foreign = cipher(&[9; KEY_BYTES]).seal(&name, None, b"value").unwrap();
    fixture.raw().execute("INSERT INTO record (name, sealed) VALUES (?1, ?2)", params![name, foreign]).unwrap();
    assert_eq!(store.get("account").await.unwrap_err(), StoreError::Unreadable);
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

#[test]
fn a_file_that_is_no_database_is_refused() {
    // There is no key beside it: it is not a damaged store, but something else that was named by mistake.
    let fixture = Fixture::new();
    fs::create_dir(fixture.path().parent().unwrap()).unwrap();
    let other = fixture.path().with_file_name("letter.txt");
    private_files::create_new(&other).unwrap();
    fs::write(&other, b"this is not a database, but long enough to look at").unwrap();
    let error = SqliteStore::open(&other, Arc::new(fixture.clock.clone())).err().unwrap();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    assert_eq!(fs::read(&other).unwrap(), b"this is not a database, but long enough to look at");
}

#[tokio::test]
async fn a_store_that_is_damaged_is_set_aside_and_never_deleted() {
    let fixture = Fixture::new();
    fixture.open().put("account", bytes("value"), None).await.unwrap();
    let damaged = b"this is not a database any more, but long enough to look at";
    fs::write(fixture.path(), damaged).unwrap();
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                drop(fixture.open());
            });
        }
    });
    let store = fixture.open();
    assert!(store.get("account").await.unwrap().is_none());
    store.put("account", bytes("new"), None).await.unwrap();
    let files = content(&fixture);
    let aside: Vec<_> = files.iter().filter(|(path, _)| path.to_string_lossy().contains("damaged-")).collect();
    let [(path, kept)] = aside.as_slice() else { panic!("{:?}", files.keys()) };
    assert_eq!(
        (path.file_name().unwrap().to_str().unwrap(), kept.as_slice()),
        ("secrets.db.damaged-1000", &damaged[..])
    );
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    fixture.raw().pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    assert!(
        matches!(fixture.try_open().err().unwrap(), OpenError::Version { found, .. } if found == SCHEMA_VERSION + 1)
    );
}

#[tokio::test]
async fn a_database_of_the_version_before_is_read_and_its_records_are_sealed_anew_when_they_change() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let write = |store: &SqliteStore, name: &str, expires_at: Option<i64>| {
        let cipher = &store.inner.cipher;
        let sealed = match name {
            "account" => cipher.seal_earliest(name, expires_at, b"refresh token"),
            _ => cipher.seal_earlier(name, expires_at, b"refresh token"),
        };
        let row = params![cipher.hidden_name(name), sealed, expires_at];
        fixture.raw().execute("INSERT INTO record (name, sealed, expires_at) VALUES (?1, ?2, ?3)", row).unwrap();
    };
    write(&store, "account", None);
    write(&store, "session", Some(2_000));
    fixture.raw().pragma_update(None, "user_version", 1).unwrap();
    drop(store);

    let store = fixture.open();
    let version: i32 = fixture.raw().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, SCHEMA_VERSION, "an earlier version would not understand what is written now");
    for name in ["account", "session"] {
        let found = store.get(name).await.unwrap();
        assert_eq!(text(found.clone()).as_deref(), Some("refresh token"), "{name}");
        assert!(store.compare_and_swap(name, found, bytes("new"), None).await.unwrap());
        assert_eq!(text(store.get(name).await.unwrap()).as_deref(), Some("new"), "{name}");
    }
    // What the version before has sealed is bound to its name and its expiry as well.
    write(&store, "other", Some(2_000));
    fixture.raw().execute("UPDATE record SET expires_at = 3000 WHERE expires_at = 2000", []).unwrap();
    assert_eq!(store.get("other").await.unwrap_err(), StoreError::Unreadable);
}

/// A cipher with one key.
fn cipher(key: &[u8]) -> Cipher {
    let keys = DataKeys::parse(key).unwrap();
    let source = Arc::new(super::super::GivenKeys::new(keys.clone(), "the test"));
    Cipher::new(&keys, source, Arc::new(ManualClock::new(0))).unwrap()
}

#[test]
fn no_two_values_share_a_key() {
    let cipher = cipher(&[9; KEY_BYTES]);
    let (name, another) = (cipher.hidden_name("account"), cipher.hidden_name("another"));
    let sealed: Vec<_> = (0..3).map(|_| cipher.seal(&name, None, b"value").unwrap()).collect();
    // The mark of the format and of the data key is the same; then come the salt, which the key of the value is derived
    // from, and what came of it.
    assert!(sealed[0][..8] == sealed[1][..8] && sealed[1][..8] == sealed[2][..8]);
    assert!(sealed[0][8..40] != sealed[1][8..40] && sealed[1][8..40] != sealed[2][8..40]);
    assert!(sealed[0][40..] != sealed[1][40..] && sealed[1][40..] != sealed[2][40..]);
    let mixed = [&sealed[0][..40], &sealed[1][40..]].concat();
    assert!(cipher.open("account", &name, None, &mixed).is_err());
    assert_eq!(cipher.open("account", &name, None, &sealed[0]).unwrap().reveal(), b"value");
    assert!(cipher.open("another", &another, None, &sealed[0]).is_err());
}

/// Replaces the key as `entra-mcp store rotate-key` does.
fn rotate(fixture: &Fixture) {
    let file = KeyFile::new(&fixture.key_path());
    file.replace(&SqliteStore::rotated_keys(&fixture.path(), &file).unwrap()).unwrap();
}

fn check(fixture: &Fixture) -> StoreReport {
    let (file, clock) = (KeyFile::new(&fixture.key_path()), fixture.clock.clone());
    SqliteStore::check(&fixture.path(), &(Arc::new(file) as _), &(Arc::new(clock) as _)).unwrap()
}

#[tokio::test]
async fn a_key_is_replaced_while_the_store_is_open_and_old_records_stay_readable() {
    let fixture = Fixture::new();
    let (here, there) = (fixture.open(), fixture.open());
    here.put("first", bytes("1"), None).await.unwrap();
    rotate(&fixture);
    // This one has not seen the new key; a process that starts now has it.
    here.put("second", bytes("2"), None).await.unwrap();
    let renewed = fixture.open();
    renewed.put("third", bytes("3"), None).await.unwrap();
    for store in [&here, &there, &renewed] {
        for (name, value) in [("first", "1"), ("second", "2"), ("third", "3")] {
            assert_eq!(text(store.get(name).await.unwrap()).as_deref(), Some(value), "{name}");
        }
    }
    let report = check(&fixture);
    assert_eq!((report.records, report.newest_key, report.earlier_keys, report.is_sound()), (3, 1, 2, true));
    // It has met a record under the new key, so it seals with that.
    for name in ["first", "second"] {
        here.put(name, bytes("new"), None).await.unwrap();
    }
    assert_eq!((check(&fixture).newest_key, check(&fixture).earlier_keys), (3, 0));
    // The first key is of no use any more.
    rotate(&fixture);
    assert_eq!(KeyFile::new(&fixture.key_path()).read().unwrap().unwrap().keys().count(), 2);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(text(there.get("third").await.unwrap()).as_deref(), Some("3"));
}

#[tokio::test]
async fn a_check_counts_what_was_altered_moved_or_is_under_another_key_and_changes_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    for name in ["a", "b", "c", "d", "e"] {
        store.put(name, bytes(name), Some(Duration::from_secs(100))).await.unwrap();
    }
    let name = |key: &str| store.inner.cipher.hidden_name(key);
    let raw = fixture.raw();
    raw.execute(
        "UPDATE record SET sealed = (SELECT sealed FROM record WHERE name = ?1) WHERE name = ?2",
        params![name("a"), name("b")],
    )
    .unwrap();
    raw.execute("UPDATE record SET sealed = substr(sealed, 1, 50) WHERE name = ?1", params![name("c")]).unwrap();
    let foreign = cipher(&[9; KEY_BYTES]).seal(&name("d"), Some(1_100), b"value").unwrap();
    raw.execute("UPDATE record SET sealed = ?1 WHERE name = ?2", params![foreign, name("d")]).unwrap();
    let earlier = store.inner.cipher.seal_earlier("e", Some(1_100), b"value");
    raw.execute("UPDATE record SET sealed = ?1 WHERE name = ?2", params![earlier, name("e")]).unwrap();
    let before: Vec<u8> = content(&fixture).remove(&fixture.path()).unwrap();
    let report = check(&fixture);
    let counts = (report.records, report.newest_key, report.damaged, report.unknown_key, report.earlier_format);
    assert_eq!(counts, (5, 1, 2, 1, 1), "{report:?}");
    assert_eq!((report.expired, report.is_sound()), (0, false));
    fixture.clock.advance(Duration::from_secs(100));
    assert_eq!(check(&fixture).expired, 5);
    assert_eq!(content(&fixture)[&fixture.path()], before);
}

#[test]
fn a_key_of_the_wrong_size_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    for size in [0, KEY_BYTES - 1, KEY_BYTES + 1] {
        fs::write(fixture.key_path(), vec![1; size]).unwrap();
        assert!(matches!(fixture.try_open().err().unwrap(), OpenError::KeySize { found, .. } if found == size));
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    drop(fixture.open());
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(fixture.key_path(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(fixture.try_open().err().unwrap(), OpenError::KeyExposed { .. }));
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_is_a_symbolic_link_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let elsewhere = fixture.folder.path().join("elsewhere");
    fs::rename(fixture.key_path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, fixture.key_path()).unwrap();
    assert!(matches!(fixture.try_open().err().unwrap(), OpenError::Key { .. }));
}

#[cfg(unix)]
#[test]
fn a_key_and_a_store_of_another_user_are_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let key = KeyFile::of(User::another(), &fixture.key_path()).read().err().unwrap();
    assert!(matches!(key, KeyError::Exposed { reason: "belongs to another user", .. }), "{key}");
    let clock = Arc::new(fixture.clock.clone());
    let store = SqliteStore::open_as(User::another(), &fixture.path(), |file| Arc::new(file), clock).err().unwrap();
    assert!(matches!(store, OpenError::FolderExposed { reason: "belongs to another user", .. }), "{store}");
}

#[cfg(unix)]
#[test]
fn a_store_that_others_can_change_is_refused_with_the_fix() {
    use std::os::unix::fs::PermissionsExt as _;
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let fixture = Fixture::new();
    drop(fixture.open());
    let folder = fixture.path().parent().unwrap().to_owned();
    for exposed in [folder.as_path(), fixture.folder.path()] {
        for mode in [0o770, 0o707] {
            set_mode(exposed, mode);
            let error = fixture.try_open().err().unwrap();
            assert!(error.to_string().contains("chmod go-w"), "{error}");
            let real = exposed.canonicalize().unwrap();
            assert!(matches!(error, OpenError::FolderExposed { path, .. } if path == real), "{exposed:?} {mode:o}");
            set_mode(exposed, 0o700);
        }
    }
    for mode in [0o640, 0o606] {
        set_mode(&fixture.path(), mode);
        assert!(matches!(fixture.try_open().err().unwrap(), OpenError::DatabaseExposed { .. }), "{mode:o}");
    }
    set_mode(&fixture.path(), 0o600);
    drop(fixture.open());
}

#[cfg(unix)]
#[test]
fn a_database_that_is_a_symbolic_link_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let elsewhere = fixture.folder.path().join("elsewhere.db");
    fs::rename(fixture.path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, fixture.path()).unwrap();
    assert!(matches!(fixture.try_open().err().unwrap(), OpenError::Database { .. }));
}

#[cfg(unix)]
#[tokio::test]
async fn everything_that_is_created_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    let store = fixture.open();
    store.put("k", bytes("v"), None).await.unwrap();
    let folder = fixture.path().parent().unwrap().to_owned();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn stores_opened_at_the_same_time_agree_on_the_key() {
    let fixture = Fixture::new();
    let barrier = std::sync::Barrier::new(8);
    let names: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    fixture.open().inner.cipher.hidden_name("x")
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(names.iter().all(|name| name == &names[0]));
    let files = fs::read_dir(fixture.path().parent().unwrap()).unwrap();
    assert!(files.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_string_lossy().contains("key-")));
}

/// A process that opens the store while the key is being created gets that key, and no error.
#[test]
fn a_key_that_is_created_at_the_same_time_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..200 {
        let path = folder.path().join(format!("{round}.key"));
        let barrier = std::sync::Barrier::new(4);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let file = KeyFile::new(&path);
                        file.read().unwrap().unwrap_or_else(|| file.create().unwrap())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| key.to_text() == keys[0].to_text()), "{round}");
    }
}

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
