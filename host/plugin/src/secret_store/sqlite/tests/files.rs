//! The files of the store: whose they are, and which of them are refused as a store.

use super::*;

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

/// The key is not beside the store, but in a file of its own that a key vault has wrapped.
#[tokio::test]
async fn a_damaged_store_whose_key_a_vault_has_wrapped_is_set_aside_too() {
    let fixture = Fixture::new();
    let keys = DataKeys::generate().unwrap();
    let open = || {
        let given = Arc::new(crate::secret_store::GivenKeys::new(keys.clone(), "the test"));
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
