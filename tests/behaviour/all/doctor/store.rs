//! The store as `doctor` and `store check` find it: every byte of its folder stays as it is.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Diagnosis, doctor};
use crate::host::commands::Home;
use crate::host::serve::run;
use crate::support::lab::{REMOTE, app};

/// A store with a client secret, in a folder of its own.
struct Kept {
    home: Home,
    path: PathBuf,
}

impl Kept {
    async fn new() -> Self {
        let home = Home::new().await;
        let path = home.path().join("private").join("server.db");
        let mut set = home.program(&["client-secret", "set", "--client-id", &app(REMOTE)]);
        set.arg("--store").arg(&path);
        let secret = home.emulator().endpoints().client_secret.clone();
        assert_eq!(run(set, &secret).await.0, Some(0));
        Self { home, path }
    }

    async fn doctor(&self) -> Diagnosis {
        doctor(&self.home, &["--store", self.path.to_str().unwrap()], &[("AZURE_CLIENT_SECRET", "")]).await
    }

    async fn check(&self) -> Option<i32> {
        let mut command = self.home.program(&["store", "check", "--store"]);
        command.arg(&self.path);
        run(command, "").await.0
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = std::fs::read_dir(self.path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
    }
}

/// Writes the number that the head of a database has for its format (at byte 60, <https://sqlite.org/fileformat2.html>).
fn set_format(path: &Path, format: u32) {
    let mut content = std::fs::read(path).unwrap();
    content[60..64].copy_from_slice(&format.to_be_bytes());
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_store_is_read_and_neither_mended_nor_upgraded() {
    type Spoil = fn(&Path);
    let cases: [(Spoil, Option<(&str, &str)>); 6] = [
        (|_| {}, None),
        (|path| set_format(path, 4), None),
        (|path| set_format(path, 99), Some(("has format 99", "run the version that made it"))),
        (
            |path| std::fs::write(path, "no database any more, but long enough to look at").unwrap(),
            Some(("is damaged", "restore the store from a backup")),
        ),
        (
            |path| std::fs::remove_file(path.with_extension("key")).unwrap(),
            Some(("its key is not there", "restore the key from where it was")),
        ),
        (
            |path| std::fs::write(path.with_extension("key"), [7; 32]).unwrap(),
            Some(("was written with another key", "restore the key from where it was")),
        ),
    ];
    for (number, (spoil, fault)) in cases.into_iter().enumerate() {
        let kept = Kept::new().await;
        spoil(&kept.path);
        let before = kept.files();
        let diagnosis = kept.doctor().await;
        match fault {
            None => assert_eq!(diagnosis.ids("failure"), [""; 0], "{number}: {:#}", diagnosis.report),
            Some((what, change)) => {
                let found = diagnosis.failure("store");
                assert!(found.0.contains(what) && found.1.contains(change), "{number}: {found:?}");
            }
        }
        assert!(kept.files() == before, "{number}: doctor");
        assert_eq!(kept.check().await == Some(0), fault.is_none(), "{number}");
        assert!(kept.files() == before, "{number}: store check");
    }
}

#[tokio::test]
async fn that_the_next_start_changes_the_format_is_a_warning() {
    let kept = Kept::new().await;
    let of_now = kept.doctor().await;
    assert_eq!(of_now.code, Some(0), "{:#}", of_now.report);
    set_format(&kept.path, 4);
    let earlier = kept.doctor().await;
    assert_eq!((earlier.code, earlier.ids("warning")), (Some(1), vec!["store-format"]), "{:#}", earlier.report);
    assert!(earlier.ids("good").contains(&"token"), "the secret in it is used: {:#}", earlier.report);
}

#[tokio::test]
async fn a_store_whose_key_others_can_read_is_a_fault() {
    let kept = Kept::new().await;
    let key = kept.path.with_extension("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = kept.doctor().await;
    assert!(open.failure("store").0.contains("can be read or written by other users"), "{:#}", open.report);
    assert!(open.failure("store").1.starts_with("chmod 600"), "{:#}", open.report);
}
