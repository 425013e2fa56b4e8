//! A look at a store: what it says of each state, and that every byte of the folder stays as it is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write as _;

use super::super::as_it_is;
use super::super::look::SqliteView;
use super::*;
use crate::secret_store::{GivenDataKeys, KeyFile};

impl Fixture {
    fn look(&self) -> Result<SqliteView, OpenError> {
        self.look_with(Arc::new(KeyFile::new(&self.key_path())))
    }

    fn look_with(&self, keys: Arc<dyn KeySource>) -> Result<SqliteView, OpenError> {
        SqliteStore::look(&self.path(), &keys, &(Arc::new(self.clock.clone()) as _))
    }

    fn check(&self) -> Result<crate::secret_store::StoreReport, OpenError> {
        let keys: Arc<dyn KeySource> = Arc::new(KeyFile::new(&self.key_path()));
        SqliteStore::check(&self.path(), &keys, &(Arc::new(self.clock.clone()) as _))
    }

    /// Every file, and what is in it. The index of a journal is memory that processes share while they have the store open:
    /// within one process, it is the same memory.
    fn folder_without_index(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.folder().into_iter().filter(|(path, _)| !path.to_string_lossy().ends_with("-shm")).collect()
    }

    /// Every file, and what is in it.
    fn folder(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The files of a store as a process leaves them that is killed while it has the store open: those of `suffixes`.
    fn killed(suffixes: &[&str]) -> Self {
        let (fixture, there) = (Self::new(), Self::new());
        let store = there.open();
        store.inner.erasure.begin_no_task();
        private_files::FileOwner::of_process().folder(fixture.path().parent().unwrap()).unwrap();
        let copy = |from: PathBuf, to: PathBuf| {
            private_files::create_new(&to).unwrap().write_all(&fs::read(from).unwrap()).unwrap();
        };
        copy(there.key_path(), fixture.key_path());
        let transaction = store.inner.connection.lock().unwrap();
        let records = StoreTransaction { connection: &transaction, cipher: &store.inner.cipher, now: 1_000 };
        records.put("account", &bytes("refresh token"), None, StoreLimits::default()).unwrap();
        for suffix in suffixes {
            let of = |fixture: &Self| PathBuf::from(format!("{}{suffix}", fixture.path().display()));
            copy(of(&there), of(&fixture));
        }
        drop(transaction);
        fixture
    }
}

async fn account(view: &SqliteView) -> Option<String> {
    text(view.get("account").await.unwrap())
}

#[tokio::test]
async fn a_store_is_looked_at_and_stays_as_it_is_whether_a_process_has_it_open_or_was_killed() {
    let closed = Fixture::new();
    closed.open().put("account", bytes("refresh token"), None).await.unwrap();
    let used = Fixture::new();
    let user = used.open();
    user.inner.erasure.begin_no_task();
    user.put("account", bytes("refresh token"), None).await.unwrap();
    let killed = Fixture::killed(&["", "-wal", "-shm"]);
    let copied = Fixture::killed(&["", "-wal"]);
    for (name, fixture) in [("closed", closed), ("used", used), ("killed", killed), ("copied", copied)] {
        let files = if name == "used" { Fixture::folder_without_index } else { Fixture::folder };
        let before = files(&fixture);
        let view = fixture.look().unwrap();
        assert_eq!(account(&view).await.as_deref(), Some("refresh token"), "{name}");
        assert_eq!((view.earlier_format(), view.has_key()), (None, true), "{name}");
        drop(view);
        let report = fixture.check().unwrap();
        assert_eq!((report.records, report.is_sound()), (1, true), "{name}");
        assert!(files(&fixture) == before, "{name}");
    }
    assert_eq!(text(user.get("account").await.unwrap()).as_deref(), Some("refresh token"));
}

#[tokio::test]
async fn a_record_of_a_store_that_is_looked_at_is_neither_written_nor_taken_nor_deleted() {
    let fixture = Fixture::new();
    fixture.open().put("account", bytes("refresh token"), None).await.unwrap();
    let (before, view) = (fixture.folder(), fixture.look().unwrap());
    let refusal = StoreError::Unavailable("it is only looked at".to_owned());
    assert_eq!(view.put("account", bytes("other"), None).await, Err(refusal.clone()));
    assert_eq!(view.take("account").await.unwrap_err(), refusal);
    assert_eq!(view.compare_and_swap("other", None, bytes("x"), None).await, Err(refusal.clone()));
    assert_eq!(view.delete("account").await, Err(refusal));
    assert!(fixture.folder() == before);
}

#[tokio::test]
async fn a_store_of_an_earlier_format_is_read_and_not_brought_to_the_present_one() {
    let fixture = Fixture::new();
    fixture.open().put("account", bytes("refresh token"), None).await.unwrap();
    fixture.raw().pragma_update(None, "user_version", SCHEMA_VERSION - 1).unwrap();
    let before = fixture.folder();
    let view = fixture.look().unwrap();
    assert_eq!(view.earlier_format(), Some(SCHEMA_VERSION - 1));
    assert_eq!(account(&view).await.as_deref(), Some("refresh token"));
    drop(view);
    assert!(fixture.folder() == before);
    drop(fixture.open());
    assert_eq!(fixture.look().unwrap().earlier_format(), None);
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_said_and_nothing_is_mended() {
    type Spoil = fn(&Fixture);
    type Refused = fn(&OpenError) -> bool;
    let cases: [(&str, Spoil, Refused); 6] = [
        (
            "no database",
            |fixture| {
                fs::write(fixture.path(), b"this is not a database any more, but long enough to look at").unwrap()
            },
            |error| matches!(error, OpenError::Damaged { .. }),
        ),
        (
            "a torn page",
            |fixture| {
                let mut content = fs::read(fixture.path()).unwrap();
                // The root of the records.
                content[4_096..4_096 + 512].fill(0xff);
                fs::write(fixture.path(), content).unwrap();
            },
            |error| matches!(error, OpenError::Damaged { .. }),
        ),
        (
            "a newer format",
            |fixture| fixture.raw().pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap(),
            |error| matches!(error, OpenError::Version { found, .. } if *found == SCHEMA_VERSION + 1),
        ),
        (
            "no key",
            |fixture| fs::remove_file(fixture.key_path()).unwrap(),
            |error| matches!(error, OpenError::KeyMissing { .. }),
        ),
        (
            "another key",
            |fixture| fs::write(fixture.key_path(), [9; KEY_BYTES]).unwrap(),
            |error| matches!(error, OpenError::WrongKey { .. }),
        ),
        (
            "a key of another size",
            |fixture| fs::write(fixture.key_path(), [9; KEY_BYTES + 1]).unwrap(),
            |error| matches!(error, OpenError::KeySize { found: 33, .. }),
        ),
    ];
    for (name, spoil, is_right) in cases {
        let fixture = Fixture::new();
        fixture.open().put("account", bytes(&"refresh token".repeat(100)), None).await.unwrap();
        spoil(&fixture);
        let before = fixture.folder();
        let error = fixture.look().err().unwrap();
        assert!(is_right(&error), "{name}: {error:?}");
        assert!(fixture.folder() == before, "{name}");
    }
}

#[test]
fn faults_are_looked_for_once_more_where_a_process_has_opened_the_store_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets.db");
    let journal = PathBuf::from(format!("{}-wal", path.display()));
    // Whether a journal is there at first, whether the first look finds faults, and how many looks there are.
    for (has_journal, has_faults, expected) in [(false, true, 2), (false, false, 1), (true, true, 1), (true, false, 1)]
    {
        let _ = fs::remove_file(&journal);
        if has_journal {
            fs::write(&journal, b"").unwrap();
        }
        let looks = Cell::new(0);
        let found = as_it_is::found(
            &path,
            |faulty: &bool| *faulty,
            || {
                looks.set(looks.get() + 1);
                // A process opens the store.
                fs::write(&journal, b"").unwrap();
                has_faults && looks.get() == 1
            },
        );
        assert_eq!((looks.get(), found), (expected, has_faults && has_journal), "{has_journal} {has_faults}");
    }
    // Without one, the faults are those of the file.
    fs::remove_file(&journal).unwrap();
    assert!(as_it_is::found(&path, |faulty: &bool| *faulty, || true));
}

#[test]
fn what_is_not_there_is_not_made() {
    let fixture = Fixture::new();
    assert!(matches!(fixture.look(), Err(OpenError::Database { .. })));
    assert!(!fixture.path().parent().unwrap().exists());
    // A process was stopped before it wrote anything.
    private_files::FileOwner::of_process().folder(fixture.path().parent().unwrap()).unwrap();
    private_files::create_new(&fixture.path()).unwrap();
    let before = fixture.folder();
    let view = fixture.look().unwrap();
    assert_eq!((view.earlier_format(), view.has_key()), (Some(0), false));
    drop(view);
    assert!(fixture.folder() == before);
}

/// A key vault wraps keys that it finds as they are when they are read, and not when they are looked at.
#[tokio::test]
async fn keys_are_looked_at_where_they_are_and_not_taken_over() {
    struct TakesOver(KeyFile);
    impl KeySource for TakesOver {
        fn read(&self) -> Result<Option<DataKeys>, KeyError> {
            panic!("reading takes the keys over")
        }
        fn look(&self) -> Result<Option<DataKeys>, KeyError> {
            self.0.read()
        }
        fn create(&self) -> Result<DataKeys, KeyError> {
            panic!("no key is made")
        }
        fn replace(&self, _: &DataKeys) -> Result<(), KeyError> {
            panic!("no key is replaced")
        }
        fn place(&self) -> String {
            self.0.place()
        }
    }
    let fixture = Fixture::new();
    fixture.open().put("account", bytes("refresh token"), None).await.unwrap();
    let keys: Arc<dyn KeySource> = Arc::new(TakesOver(KeyFile::new(&fixture.key_path())));
    let view = fixture.look_with(Arc::clone(&keys)).unwrap();
    assert_eq!(account(&view).await.as_deref(), Some("refresh token"));
    assert!(SqliteStore::check(&fixture.path(), &keys, &(Arc::new(fixture.clock.clone()) as _)).unwrap().is_sound());
    // A record under a key that is not known has it looked for, too.
    let rotated = SqliteStore::rotated_keys(&fixture.path(), &KeyFile::new(&fixture.key_path())).unwrap();
    let given = Arc::new(GivenDataKeys::new(rotated, "the test"));
    let other = SqliteStore::open_with(&fixture.path(), given, Arc::new(fixture.clock.clone())).unwrap();
    other.inner.erasure.begin_no_task();
    other.put("account", bytes("newer"), None).await.unwrap();
    assert_eq!(fixture.look_with(keys).unwrap().get("account").await.unwrap_err(), StoreError::Unreadable);
}

#[cfg(unix)]
#[test]
fn a_store_that_others_can_read_or_change_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let fixture = Fixture::new();
    drop(fixture.open());
    set_mode(&fixture.path(), 0o640);
    assert!(matches!(fixture.look(), Err(OpenError::DatabaseExposed { .. })));
    set_mode(&fixture.path(), 0o600);
    set_mode(&fixture.key_path(), 0o640);
    assert!(matches!(fixture.look(), Err(OpenError::KeyExposed { .. })));
    set_mode(&fixture.key_path(), 0o600);
    set_mode(fixture.folder.path(), 0o770);
    assert!(matches!(fixture.look(), Err(OpenError::FolderExposed { .. })));
    set_mode(fixture.folder.path(), 0o700);
    assert!(fixture.look().is_ok());
}
