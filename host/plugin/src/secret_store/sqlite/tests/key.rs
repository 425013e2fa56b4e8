//! The key: missing, of the wrong kind, created by several at once, replaced, and what a check counts under it.

use super::*;

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
