//! The key: missing, of the wrong kind, created by several at once, replaced, and what a check counts under it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use self::patience::PATIENCE;
use super::*;

#[allow(dead_code, reason = "of what bounds a wait, the time alone is needed")]
#[path = "../../../../../../tests/behaviour/all/support/patience.rs"]
mod patience;

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

/// Replaces the key as `entra-mcp store rotate-key` does.
fn rotate(fixture: &Fixture) {
    let file = KeyFile::new(&fixture.key_path());
    let _turn = file.hold().unwrap().expect("there are keys");
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
    // No record is under the first key. It stays all the same: another process may have missed both rotations.
    rotate(&fixture);
    assert_eq!(KeyFile::new(&fixture.key_path()).read().unwrap().unwrap().keys().count(), 3);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(text(there.get("third").await.unwrap()).as_deref(), Some("3"));
}

#[test]
fn of_rotations_at_the_same_time_none_loses_the_key_of_another() {
    for _ in 0..20 {
        let fixture = Fixture::new();
        drop(fixture.open());
        let barrier = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    barrier.wait();
                    rotate(&fixture);
                });
            }
        });
        assert_eq!(KeyFile::new(&fixture.key_path()).read().unwrap().unwrap().keys().count(), 4);
    }
}

#[test]
fn where_there_are_no_keys_none_are_held_and_no_file_is_made() {
    let fixture = Fixture::new();
    assert!(KeyFile::new(&fixture.key_path()).hold().unwrap().is_none());
    fs::create_dir(fixture.path().parent().unwrap()).unwrap();
    assert!(KeyFile::new(&fixture.key_path()).hold().unwrap().is_none());
    assert!(content(&fixture).is_empty());
}

/// The process of a person who has signed out: there is no record by which it could learn of another key.
#[tokio::test]
async fn what_a_process_seals_that_has_missed_the_last_rotations_is_read_by_others() {
    let fixture = Fixture::new();
    let idle = fixture.open();
    idle.inner.erasure.begin_no_task();
    for _ in 0..3 {
        rotate(&fixture);
    }
    idle.put("account", bytes("refresh token"), None).await.unwrap();
    let other = fixture.open();
    assert_eq!(text(other.get("account").await.unwrap()).as_deref(), Some("refresh token"));
    other.put("second account", bytes("another"), None).await.unwrap();
    // It learns of the new keys, and can still read what it has sealed itself.
    assert_eq!(text(idle.get("second account").await.unwrap()).as_deref(), Some("another"));
    assert_eq!(text(idle.get("account").await.unwrap()).as_deref(), Some("refresh token"));
}

/// A key file that answers when it is told to, as a key vault on a slow network does.
struct SlowFile {
    file: KeyFile,
    is_slow: AtomicBool,
    reads: AtomicUsize,
    asked: tokio::sync::Notify,
    answers: Mutex<mpsc::Receiver<bool>>,
}

impl SlowFile {
    fn new(fixture: &Fixture) -> (Arc<Self>, mpsc::Sender<bool>) {
        let (tell, answers) = mpsc::channel();
        let (is_slow, reads, asked) = Default::default();
        let file = KeyFile::new(&fixture.key_path());
        (Arc::new(Self { file, is_slow, reads, asked, answers: Mutex::new(answers) }), tell)
    }

    /// From now on it waits for a word before each answer.
    fn slow_down(&self) {
        self.is_slow.store(true, Ordering::SeqCst);
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl KeySource for SlowFile {
    fn read(&self) -> Result<Option<DataKeys>, KeyError> {
        if self.is_slow.load(Ordering::SeqCst) {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.asked.notify_one();
            // A runtime whose threads wait here never gives the word.
            let told = self.answers.lock().unwrap().recv_timeout(PATIENCE);
            if told != Ok(true) {
                return Err(KeyError::Missing { place: self.place() });
            }
        }
        self.file.read()
    }

    fn create(&self) -> Result<DataKeys, KeyError> {
        self.file.create()
    }

    fn replace(&self, keys: &DataKeys) -> Result<(), KeyError> {
        self.file.replace(keys)
    }

    fn place(&self) -> String {
        self.file.place()
    }
}

/// A store that has not seen the new key, under which another process has written `record`.
async fn behind(fixture: &Fixture) -> (Arc<SqliteStore>, Arc<SlowFile>, mpsc::Sender<bool>) {
    let (source, tell) = SlowFile::new(fixture);
    let store =
        SqliteStore::open_with(&fixture.path(), Arc::clone(&source) as _, Arc::new(fixture.clock.clone())).unwrap();
    store.inner.erasure.begin_no_task();
    store.put("known", bytes("k"), None).await.unwrap();
    rotate(fixture);
    fixture.open().put("record", bytes("v"), None).await.unwrap();
    source.slow_down();
    (Arc::new(store), source, tell)
}

/// On a runtime of one thread, which nothing may hold.
#[tokio::test]
async fn while_a_key_is_looked_for_other_calls_go_on_and_it_is_looked_for_once() {
    let fixture = Fixture::new();
    let (store, source, tell) = behind(&fixture).await;
    let read = |store: &Arc<SqliteStore>| {
        let store = Arc::clone(store);
        tokio::spawn(async move { text(store.get("record").await.unwrap()) })
    };
    let calls: Vec<_> = (0..4).map(|_| read(&store)).collect();
    let swap = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.compare_and_swap("record", Some(bytes("v")), bytes("w"), None).await })
    };
    source.asked.notified().await;
    // Neither this thread, nor the connection, nor the database is held meanwhile.
    assert_eq!(text(store.get("known").await.unwrap()).as_deref(), Some("k"));
    store.put("other", bytes("o"), None).await.unwrap();
    fixture.open().put("another", bytes("o"), None).await.unwrap();
    // It takes long, so that a look which begins after this one would not be for nothing.
    fixture.clock.advance(Duration::from_secs(20));
    tell.send(true).unwrap();
    for call in calls {
        assert!(matches!(call.await.unwrap().as_deref(), Some("v" | "w")));
    }
    assert_eq!(swap.await.unwrap(), Ok(true));
    assert_eq!(source.reads(), 1);
}

/// A record whose key may be there later is not damaged.
fn unread() -> StoreError {
    StoreError::Unavailable("the keys of the secret store cannot be read now".to_owned())
}

#[tokio::test]
async fn a_key_that_was_not_found_is_not_looked_for_again_at_once() {
    let fixture = Fixture::new();
    let (store, source, tell) = behind(&fixture).await;
    tell.send(false).unwrap();
    for _ in 0..3 {
        assert_eq!(store.get("record").await.unwrap_err(), unread());
    }
    fixture.clock.advance(Duration::from_secs(4));
    assert_eq!(store.take("record").await.unwrap_err(), unread());
    assert_eq!(source.reads(), 1);
    fixture.clock.advance(Duration::from_secs(1));
    tell.send(true).unwrap();
    assert_eq!(text(store.take("record").await.unwrap()).as_deref(), Some("v"));
    assert_eq!(source.reads(), 2);
}

/// Keys that are not in their place for a moment keep new ones away for a second, not for longer.
#[tokio::test]
async fn after_a_look_that_found_no_keys_new_ones_are_found_within_a_second() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    rotate(&fixture);
    fixture.open().put("record", bytes("v"), None).await.unwrap();
    let aside = fixture.folder.path().join("aside");
    fs::rename(fixture.key_path(), &aside).unwrap();
    assert_eq!(store.get("record").await.unwrap_err(), unread());

    fs::rename(&aside, fixture.key_path()).unwrap();
    assert_eq!(store.get("record").await.unwrap_err(), unread());
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(text(store.get("record").await.unwrap()).as_deref(), Some("v"));
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
fn a_key_elsewhere_below_a_folder_that_others_can_change_is_neither_read_nor_made() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    let folder = fixture.folder.path().canonicalize().unwrap().join("keys");
    let path = folder.join("deep").join("store.key");
    let open =
        || SqliteStore::open_with(&fixture.path(), Arc::new(KeyFile::new(&path)), Arc::new(fixture.clock.clone()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let exposed = KeyError::FolderExposed {
        key: path.clone(),
        path: folder.clone(),
        reason: "can be written by other users than its owner",
    };
    for there in [false, true] {
        for mode in [0o770, 0o707] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            match open().err().unwrap() {
                OpenError::Keys(error) => assert_eq!(error, exposed),
                error => panic!("{error}"),
            }
            assert!(KeyFile::new(&path).create().is_err());
            assert_eq!(path.exists(), there);
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        drop(open().unwrap());
    }
}

#[cfg(unix)]
#[test]
fn a_key_below_a_folder_that_is_missing_is_missing_and_no_folder_is_made() {
    let fixture = Fixture::new();
    let path = fixture.folder.path().join("missing").join("store.key");
    assert!(KeyFile::new(&path).read().unwrap().is_none());
    assert!(matches!(KeyFile::new(&path).create().err().unwrap(), KeyError::Place { .. }));
    assert!(!path.parent().unwrap().exists());
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
    let key = KeyFile::of(FileOwner::another(), &fixture.key_path()).read().err().unwrap();
    assert!(matches!(key, KeyError::Exposed { reason: "belongs to another user", .. }), "{key}");
    let clock = Arc::new(fixture.clock.clone());
    let store =
        SqliteStore::open_as(FileOwner::another(), &fixture.path(), |file| Arc::new(file), clock).err().unwrap();
    assert!(matches!(store, OpenError::FolderExposed { reason: "belongs to another user", .. }), "{store}");
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
