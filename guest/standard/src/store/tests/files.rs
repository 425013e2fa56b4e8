//! The store on a real folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use world::testing::{World, forever, run};
use world::{Store as _, StoreError};

use super::super::{FolderStore, PRUNE_AFTER, StoreKey};
use crate::folder::Files;

const TTL: Option<Duration> = Some(Duration::from_secs(60));

struct Setup {
    root: TempDir,
    world: &'static World,
}

impl Setup {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), world: forever(World::default()) }
    }

    fn with_key(&self, key: u8) -> FolderStore<'static, Files> {
        let key = forever(StoreKey::new(vec![key; 32]));
        FolderStore::new(forever(Files::new(self.root.path())), key, self.world, self.world)
    }

    fn store(&self) -> FolderStore<'static, Files> {
        self.with_key(7)
    }

    /// All files, with their bytes.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    found.push((path, bytes));
                }
            }
        }
        let mut found = Vec::new();
        walk(self.root.path(), &mut found);
        found
    }
}

fn text(store: &FolderStore<'_, Files>, key: &str) -> Option<String> {
    let value = run(store.get(key)).unwrap();
    value.map(|value| String::from_utf8(value.reveal().clone()).unwrap())
}

#[test]
fn a_record_is_written_read_replaced_taken_and_deleted() {
    let setup = Setup::new();
    let store = setup.store();
    assert_eq!(text(&store, "k"), None);
    run(store.put("k", b"1", None)).unwrap();
    run(store.put("k", b"2", TTL)).unwrap();
    assert_eq!(text(&store, "k").as_deref(), Some("2"));
    assert!(!run(store.compare_and_swap("k", None, b"3", None)).unwrap());
    assert!(!run(store.compare_and_swap("k", Some(b"1"), b"3", None)).unwrap());
    assert!(run(store.compare_and_swap("k", Some(b"2"), b"3", None)).unwrap());
    assert_eq!(run(store.take("k")).unwrap().unwrap().reveal(), b"3");
    assert!(run(store.take("k")).unwrap().is_none());
    assert!(run(store.compare_and_swap("k", None, b"4", None)).unwrap());
    run(store.delete("k")).unwrap();
    run(store.delete("k")).unwrap();
    assert_eq!(text(&store, "k"), None);
    assert_eq!(setup.files(), [], "what is deleted leaves nothing");
}

#[test]
fn a_record_that_has_expired_does_not_exist_and_is_swept() {
    let setup = Setup::new();
    let store = setup.store();
    run(store.put("k", b"1", TTL)).unwrap();
    run(store.put("kept", b"2", None)).unwrap();
    setup.world.advance(Duration::from_secs(59));
    assert_eq!(text(&store, "k").as_deref(), Some("1"));
    setup.world.advance(Duration::from_secs(1));
    assert_eq!(text(&store, "k"), None);
    assert!(run(store.take("k")).unwrap().is_none());
    assert_eq!(setup.files().len(), 2);
    for shard in 0..2 {
        run(store.sweep(shard, 0));
    }
    assert_eq!(setup.files().len(), 1);
    assert_eq!(text(&store, "kept").as_deref(), Some("2"));
    assert!(run(store.compare_and_swap("k", None, b"3", TTL)).unwrap());
}

#[test]
fn writes_sweep_so_that_the_folder_does_not_grow_with_what_has_expired() {
    let setup = Setup::new();
    let store = setup.store();
    for round in 0..40 {
        for number in 0..20 {
            run(store.put(&format!("{round}/{number}"), b"v", TTL)).unwrap();
        }
        setup.world.advance(Duration::from_secs(61));
    }
    assert!(setup.files().len() < 400, "{} of 800 are left", setup.files().len());
}

#[test]
fn neither_keys_nor_values_are_in_the_folder() {
    let setup = Setup::new();
    let store = setup.store();
    run(store.put("session/alice", b"a refresh token", TTL)).unwrap();
    run(store.put("session/alice", b"another refresh token", TTL)).unwrap();
    for (path, bytes) in setup.files() {
        let shown = format!("{} {}", path.display(), String::from_utf8_lossy(&bytes));
        assert!(!shown.contains("refresh") && !shown.contains("alice") && !shown.contains("session"), "{shown}");
    }
}

#[test]
fn a_file_that_was_altered_or_moved_is_refused_and_can_be_replaced() {
    let setup = Setup::new();
    let store = setup.store();
    run(store.put("a", b"1", None)).unwrap();
    let (path, bytes) = setup.files().remove(0);
    for at in 0..bytes.len() {
        // The checkpoint says nothing but when old numbers may go.
        if (2..18).contains(&at) {
            continue;
        }
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        fs::write(&path, &altered).unwrap();
        // A record that says that it is gone is gone: a process that can write it can remove the file.
        if at == 1 {
            assert!(matches!(run(store.get("a")), Ok(None)));
        } else {
            assert!(matches!(run(store.get("a")), Err(StoreError::Unreadable)), "byte {at}");
            assert!(matches!(run(store.take("a")), Err(StoreError::Unreadable)), "byte {at}");
        }
    }
    fs::write(&path, &bytes).unwrap();
    run(store.put("b", b"2", None)).unwrap();
    let (other, _) = setup.files().into_iter().find(|(other, _)| *other != path).unwrap();
    fs::copy(&path, &other).unwrap();
    assert!(matches!(run(store.get("b")), Err(StoreError::Unreadable)), "the bytes of another record");
    run(store.put("b", b"3", None)).unwrap();
    assert_eq!(text(&store, "b").as_deref(), Some("3"));
    fs::write(&path, b"").unwrap();
    assert!(matches!(run(store.get("a")), Err(StoreError::Unreadable)), "as after a loss of power");
    run(store.delete("a")).unwrap();
    assert_eq!(text(&store, "a"), None);
}

#[test]
fn an_earlier_version_does_not_pass_for_a_later_one() {
    let setup = Setup::new();
    let store = setup.store();
    run(store.put("a", b"1", None)).unwrap();
    let (path, earlier) = setup.files().remove(0);
    run(store.put("a", b"2", None)).unwrap();
    let (later, _) = setup.files().into_iter().find(|(other, bytes)| *other != path && !bytes.is_empty()).unwrap();
    fs::write(&later, &earlier).unwrap();
    assert!(matches!(run(store.get("a")), Err(StoreError::Unreadable)));
}

#[test]
fn what_was_replaced_loses_its_bytes_at_once_and_its_number_later() {
    let setup = Setup::new();
    let store = setup.store();
    for number in 0..5 {
        run(store.put("a", number.to_string().as_bytes(), None)).unwrap();
    }
    let files = setup.files();
    assert_eq!((files.len(), files.iter().filter(|(_, bytes)| !bytes.is_empty()).count()), (5, 1));
    for number in 0..50 {
        setup.world.advance(PRUNE_AFTER / 10);
        run(store.put("a", number.to_string().as_bytes(), None)).unwrap();
    }
    assert!(setup.files().len() < 25, "{}", setup.files().len());
    assert_eq!(text(&store, "a").as_deref(), Some("49"));
}

#[test]
fn another_key_is_another_store() {
    let setup = Setup::new();
    run(setup.store().put("a", b"1", None)).unwrap();
    assert_eq!(text(&setup.with_key(8), "a"), None);
    assert_eq!(text(&setup.store(), "a").as_deref(), Some("1"));
}

#[test]
fn what_an_instance_has_left_below_tmp_is_swept_after_an_hour() {
    let setup = Setup::new();
    let store = setup.store();
    run(store.put("a", b"1", None)).unwrap();
    let left = setup.root.path().join(store.temporary());
    fs::create_dir_all(left.join("f00d/1")).unwrap();
    fs::write(left.join("f00d/1/v"), b"half").unwrap();
    run(store.sweep(0, 0));
    assert!(left.exists());
    setup.world.advance(Duration::from_secs(3601));
    run(store.sweep(0, 0));
    assert!(!left.exists());
    assert_eq!(text(&store, "a").as_deref(), Some("1"));
}

#[test]
fn keys_and_values_over_their_limit_are_refused() {
    let setup = Setup::new();
    let store = setup.store();
    let long = "k".repeat(513);
    assert!(matches!(run(store.get(&long)), Err(StoreError::TooLarge)));
    assert!(matches!(run(store.put(&long, b"1", None)), Err(StoreError::TooLarge)));
    assert!(matches!(run(store.put("k", &vec![0; 256 * 1024 + 1], None)), Err(StoreError::TooLarge)));
    run(store.put("k", &vec![1; 256 * 1024], None)).unwrap();
    assert_eq!(run(store.get("k")).unwrap().unwrap().reveal().len(), 256 * 1024);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let setup = Setup::new();
    let missing = forever(Files::new(setup.root.path().join("missing")));
    let key = forever(StoreKey::new(vec![7; 32]));
    let store = FolderStore::new(missing, key, setup.world, setup.world);
    let Err(StoreError::Unavailable(reason)) = run(store.put("a", b"1", None)) else { panic!("it cannot be written") };
    assert_eq!(reason, "the folder does not exist, or is not granted");
    assert!(matches!(run(store.get("a")), Ok(None)));
}
