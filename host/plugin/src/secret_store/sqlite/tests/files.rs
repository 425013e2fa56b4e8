//! The files of the store: whose they are, and which of them are refused as a store.

use super::*;

/// A client starts a server that ends at once again and again.
#[test]
fn a_file_that_is_no_database_is_refused_each_time_and_nothing_is_made() {
    // There is no key beside it: it is not a damaged store, but something else that was named by mistake.
    for letter in
        [&b"this is not a database, but long enough to look at"[..], b"short", b"SQLite format 3\0, says a letter"]
    {
        let fixture = Fixture::new();
        fs::create_dir(fixture.path().parent().unwrap()).unwrap();
        private_files::create_new(&fixture.path()).unwrap();
        fs::write(fixture.path(), letter).unwrap();
        for _ in 0..2 {
            let error = fixture.try_open().err().unwrap();
            assert!(matches!(error, OpenError::Database { .. }), "{error}");
            assert_eq!((content(&fixture).len(), fixture.key_path().exists()), (1, false));
            assert_eq!(content(&fixture)[&fixture.path()], letter);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_refused_before_a_key_is_made() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    fs::create_dir(fixture.path().parent().unwrap()).unwrap();
    fs::write(fixture.path(), b"").unwrap();
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(fixture.try_open().err().unwrap(), OpenError::DatabaseExposed { .. }));
    assert!(!fixture.key_path().exists());
}

#[test]
fn the_database_of_another_program_is_refused_and_not_changed() {
    for journal in ["DELETE", "WAL"] {
        for is_open in [false, true] {
            let fixture = Fixture::new();
            fs::create_dir(fixture.path().parent().unwrap()).unwrap();
            private_files::create_new(&fixture.path()).unwrap();
            let other = fixture.raw();
            other.pragma_update_and_check(None, "journal_mode", journal, |_| Ok(())).unwrap();
            // Its table has the name of that of a store, and other columns.
            other.execute_batch("CREATE TABLE record (artist TEXT); INSERT INTO record VALUES ('Schubert');").unwrap();
            let other = is_open.then_some(other);
            let before = content(&fixture);
            for with_key in [false, true] {
                if with_key {
                    KeyFile::new(&fixture.key_path()).create().unwrap();
                }
                let keys: Arc<dyn KeySource> = Arc::new(KeyFile::new(&fixture.key_path()));
                let look = SqliteStore::look(&fixture.path(), &keys, &(Arc::new(fixture.clock.clone()) as _));
                for error in [fixture.try_open().err().unwrap(), look.err().unwrap()] {
                    assert!(error.to_string().contains("it is the database of another program"), "{error}");
                }
                assert_eq!(fixture.key_path().exists(), with_key, "{journal} {is_open}");
                let after = content(&fixture);
                assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{journal} {is_open}");
                // The index of the journal, in which processes note what they read, is theirs together.
                for (path, bytes) in before.iter().filter(|(path, _)| !path.to_string_lossy().ends_with("-shm")) {
                    assert!(after[path] == *bytes, "{path:?} {journal} {is_open}");
                }
            }
            drop(other);
        }
    }
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

#[tokio::test]
async fn a_store_that_is_damaged_twice_within_a_second_is_kept_twice() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let damaged = ["the first of two that are no database", "the second of two that are no database"];
    for text in damaged {
        fs::write(fixture.path(), text).unwrap();
        drop(fixture.open());
    }
    let files = content(&fixture);
    for (name, text) in [".damaged-1000", ".damaged-1000-2"].into_iter().zip(damaged) {
        assert_eq!(files[&aside::beside(&fixture.path(), name)], text.as_bytes(), "{name}");
    }
}

/// A process that puts a damaged store aside has renamed the database, and not yet its journal. Another one starts.
#[test]
fn no_store_begins_beside_the_journal_of_a_damaged_one() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let (journal, text) = (aside::beside(&fixture.path(), "-wal"), b"the journal of a damaged store");
    private_files::create_new(&journal).unwrap();
    fs::write(&journal, text).unwrap();
    let turn = aside::hold(&fixture.key_path()).unwrap();
    fs::rename(fixture.path(), aside::beside(&fixture.path(), ".damaged-999")).unwrap();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| fixture.open());
        // That process is stopped here.
        drop(turn);
        drop(started.join().unwrap());
    });
    assert_eq!(content(&fixture)[&aside::beside(&fixture.path(), ".damaged-1000-wal")], text);
}

/// A page in the middle of the tree of records is met when a record below it is wanted, not when the store is opened.
#[tokio::test]
async fn a_damaged_page_is_told_with_what_to_do_and_the_file_stays_as_it_is() {
    const PAGE: usize = 4096;
    let fixture = Fixture::new();
    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    for number in 0..200 {
        store.put(&format!("account/{number}"), bytes(&"v".repeat(300)), None).await.unwrap();
    }
    drop(store);
    let root = "SELECT rootpage FROM sqlite_master WHERE name = 'record'";
    let root: u32 = fixture.raw().query_row(root, [], |row| row.get(0)).unwrap();
    let start = (usize::try_from(root).unwrap() - 1) * PAGE;
    let mut damaged = fs::read(fixture.path()).unwrap();
    assert_eq!(damaged[start], 2, "there are pages below it");
    damaged[start..start + PAGE].fill(0xff);
    fs::write(fixture.path(), &damaged).unwrap();

    let store = fixture.open();
    store.inner.erasure.begin_no_task();
    for error in [
        store.get("account/7").await.err(),
        store.put("account/7", bytes("new"), None).await.err(),
        store.take("account/7").await.err(),
        store.compare_and_swap("account/7", None, bytes("new"), None).await.err(),
        store.delete("account/7").await.err(),
    ] {
        let error = error.expect("the page is needed");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("secrets.db is damaged: database disk image is malformed. `entra-mcp store check`"),
            "{text}"
        );
    }
    drop(store);
    assert_eq!(content(&fixture).into_iter().collect::<Vec<_>>(), [(fixture.path(), damaged)]);
}

/// The key is not beside the store, but in a file of its own that a key vault has wrapped.
#[tokio::test]
async fn a_damaged_store_whose_key_a_vault_has_wrapped_is_set_aside_too() {
    let fixture = Fixture::new();
    let keys = DataKeys::generate().unwrap();
    let open = || {
        let given = Arc::new(crate::secret_store::GivenDataKeys::new(keys.clone(), "the test"));
        SqliteStore::open_with(&fixture.path(), given, Arc::new(fixture.clock.clone()))
    };
    open().unwrap().put("account", bytes("value"), None).await.unwrap();
    fs::write(fixture.path(), b"this is not a database any more, but long enough to look at").unwrap();
    assert!(matches!(open().err().unwrap(), OpenError::Database { .. }), "it may be anything");
    fs::write(fixture.path().with_extension("wrapped-key"), b"{}").unwrap();
    assert!(open().unwrap().get("account").await.unwrap().is_none());
    assert!(content(&fixture).keys().any(|path| path.to_string_lossy().contains("damaged-")));
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

/// Longer than 260 characters, where Windows ends the usual form of a path.
#[tokio::test]
async fn a_store_may_have_a_long_path() {
    let fixture = Fixture::new();
    let folder = (0..3).fold(fixture.folder.path().to_owned(), |path, _| path.join("folder".repeat(16)));
    let path = folder.join("a store & more.db");
    let clock: Arc<dyn Clock> = Arc::new(fixture.clock.clone());
    let open = || SqliteStore::open(&path, Arc::clone(&clock)).unwrap();
    open().put("account", bytes("value"), None).await.unwrap();
    assert_eq!(text(open().get("account").await.unwrap()).as_deref(), Some("value"));
    let keys: Arc<dyn KeySource> = Arc::new(KeyFile::new(&path.with_extension("key")));
    assert!(SqliteStore::look(&path, &keys, &clock).is_ok());
    assert_eq!(SqliteStore::check(&path, &keys, &clock).unwrap().records, 1);
    assert!(SqliteStore::rotated_keys(&path, &*keys).is_ok());
}
