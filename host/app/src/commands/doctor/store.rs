//! The store as it is: nothing is made, mended, brought to another format or taken over.

use std::path::Path;
use std::sync::Arc;

use entra_mcp_plugin::Error;
use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::secret_store::{KeyError, MemoryStore, OpenError, RedisError, SecretStore};

use super::report::Finding;
use crate::composition;
use crate::composition::store::{LookedAt, StoreChange};
use crate::config::{StoreConfig, StoreLocation};

/// With less free space than this, in bytes, the store cannot be written soon: sessions have some KiB each.
#[cfg(unix)]
const LITTLE_SPACE: u64 = 64 * 1024 * 1024;

/// What is true of the store, and its records. `command` is what would make or change it.
pub(super) async fn looked_at(
    config: &StoreConfig,
    command: &str,
    clock: &Arc<dyn Clock>,
) -> (Vec<Finding>, Arc<dyn SecretStore>) {
    let none = || -> Arc<dyn SecretStore> { Arc::new(MemoryStore::new(Arc::clone(clock))) };
    let (place, space) = match &config.location {
        StoreLocation::Memory => {
            let what = "sessions are kept in memory, and end with the process";
            return (vec![Finding::good("store", what)], none());
        }
        // A link that leads nowhere is one that opening the store refuses.
        StoreLocation::File(path) if std::fs::symlink_metadata(path).is_err() => {
            let what = format!("there is no store yet: `{command}` makes {}", path.display());
            return ([vec![Finding::skipped("store", what)], space(path)].concat(), none());
        }
        StoreLocation::File(path) => (path.display().to_string(), space(path)),
        StoreLocation::Redis(options) => (options.url.to_string(), Vec::new()),
    };
    match composition::store::look(config, Arc::clone(clock)).await {
        Ok(LookedAt { records, changes }) => {
            let good = Finding::good("store", format!("the store {place} and its key can be used"));
            let changes = changes.iter().map(|change| of_change(change, command)).collect();
            ([vec![good], changes, space].concat(), records)
        }
        Err(error) => ([vec![refused(&error)], space].concat(), none()),
    }
}

/// What the next start changes.
fn of_change(change: &StoreChange, command: &str) -> Finding {
    match change {
        StoreChange::Begun => Finding::skipped("store-format", format!("nothing is in it yet: `{command}` begins it")),
        StoreChange::Format(found) => Finding::warning(
            "store-format",
            format!(
                "the store has the earlier format {found}: `{command}` of this version changes it, and earlier versions cannot \
                 open it afterwards"
            ),
            "before an upgrade that may be taken back, stop the server and copy the store and its key",
        ),
        StoreChange::NewKey => {
            Finding::skipped("store-key", format!("the store has no key yet: `{command}` makes one"))
        }
        StoreChange::TakenOver(plain) => Finding::skipped(
            "store-key",
            format!(
                "the key of the store is in {} as it is: `{command}` lets the key vault wrap it, and the file can be deleted then",
                plain.display()
            ),
        ),
    }
}

/// Why the store cannot be used, and what to change.
fn refused(error: &Error) -> Finding {
    let restore_key = "restore the key from where it was, or name its place (--store-key-file, --store-key-vault, \
                       ENTRA_MCP_STORE_KEY); without it the records are lost: move the store away, and everyone signs in again";
    match error {
        Error::SecretStore(error) => {
            let (what, change) = match error {
                OpenError::Damaged { path, reason } => (
                    format!("the store {} is damaged ({reason})", path.display()),
                    "stop the server, copy the store and what is beside it, and see `entra-mcp store check`; restore the store \
                     from a backup, or move it away: everyone signs in again, and a client secret that was kept there has to be \
                     set again. `serve` sets a store aside that it cannot open, and begins an empty one"
                        .to_owned(),
                ),
                OpenError::Version { path, found } => (
                    format!("the store {} has format {found}, which a newer version has made", path.display()),
                    "run the version that made it, or a newer one, or name another store with --store".to_owned(),
                ),
                OpenError::KeyMissing { store, place } => (
                    format!("the store {} has records, and its key is not there: {place}", store.display()),
                    restore_key.to_owned(),
                ),
                OpenError::WrongKey { store, place } => (
                    format!("the store {} was written with another key than the one in {place}", store.display()),
                    restore_key.to_owned(),
                ),
                OpenError::KeySize { path, found } => (
                    format!("{} has {found} bytes, which are no key", path.display()),
                    restore_key.to_owned(),
                ),
                OpenError::FolderExposed { path, reason, .. } => (
                    format!("{} {reason}, and the store is below it", path.display()),
                    format!(
                        "{}, or choose with --store a folder that belongs to you, below folders that no other user can change",
                        not_for_others(path)
                    ),
                ),
                OpenError::DatabaseExposed { path, reason } => {
                    (format!("the store {} {reason}", path.display()), owned(path))
                }
                OpenError::KeyExposed { path, reason } => {
                    (format!("the key of the store, {}, {reason}", path.display()), owned(path))
                }
                OpenError::NamedLikeKey { path } => (
                    format!("the store {} is named as the file with its key would be", path.display()),
                    "give it another extension with --store".to_owned(),
                ),
                OpenError::Database { path, reason } => (
                    format!("the store {} cannot be opened ({reason})", path.display()),
                    "correct --store, or the owner and the mode of the file and of its folder (chmod 600, chmod 700)".to_owned(),
                ),
                OpenError::Key { path, reason } => (
                    format!("the key of the store, {}, cannot be read ({reason})", path.display()),
                    "correct --store-key-file, or the owner and the mode of the file (chmod 600); of a key that a key vault \
                     wraps: --store-key-vault, --vault-identity, and what the vault lets that identity do (unwrap key)"
                        .to_owned(),
                ),
                OpenError::Keys(error) => (error.to_string(), of_key(error)),
            };
            Finding::failure("store", what, change)
        }
        Error::RedisStore(error) => {
            let change = match error {
                RedisError::WrongKey { .. } | RedisError::KeyMissing { .. } => {
                    "give this machine the key that the other servers have (--store-key-file, ENTRA_MCP_STORE_KEY), or name \
                     another prefix with --store-prefix: everyone signs in again"
                        .to_owned()
                }
                RedisError::TooOld { .. } => "upgrade the server, or name another one with --store".to_owned(),
                RedisError::Keys(error) => of_key(error),
                _ => "correct the address in --store, its password (--store-password-file) and the certificates to trust \
                      (--ca-file), or let the firewall pass connections from this machine"
                    .to_owned(),
            };
            Finding::failure("store", error.to_string(), change)
        }
        other => Finding::failure("store", other.to_string(), "report it with the log"),
    }
}

fn owned(path: &Path) -> String {
    let private = if cfg!(windows) {
        format!("icacls \"{}\" /inheritance:r /grant:r \"%USERNAME%:F\" *S-1-5-18:F", path.display())
    } else {
        format!("chmod 600 {}", path.display())
    };
    format!("{private}, and let it belong to the user that runs the server")
}

/// The command that keeps others from changing a folder.
fn not_for_others(folder: &Path) -> String {
    if cfg!(windows) {
        format!("icacls \"{}\" /inheritance:r /grant:r \"%USERNAME%:(OI)(CI)F\" *S-1-5-18:(OI)(CI)F", folder.display())
    } else {
        format!("chmod go-w {}", folder.display())
    }
}

fn of_key(error: &KeyError) -> String {
    match error {
        KeyError::Keyring { .. } | KeyError::InKeyring { .. } => {
            "unlock the keyring of the system, in the session of the user that signed in; in a service, use a key file \
             (--store-key-in file)"
        }
        KeyError::Exposed { path, .. } => return owned(path),
        KeyError::Place { .. } => {
            "correct --store-key-file, or the owner and the mode of the file; of a key that a key vault wraps: \
             --store-key-vault, --vault-identity, and what the vault lets that identity do (unwrap key)"
        }
        _ => "restore the key from where it was, or name its place (--store-key-file, --store-key-vault, ENTRA_MCP_STORE_KEY)",
    }
    .to_owned()
}

/// How much space is left where the store is, or will be.
#[cfg(unix)]
fn space(path: &Path) -> Vec<Finding> {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists());
    let Some(statistics) = folder.and_then(|folder| rustix::fs::statvfs(folder).ok()) else { return Vec::new() };
    vec![of_space(statistics.f_bavail.saturating_mul(statistics.f_frsize))]
}

#[cfg(unix)]
fn of_space(free: u64) -> Finding {
    let what = format!("{} MiB are free where the store is", free / (1024 * 1024));
    match free {
        free if free >= LITTLE_SPACE => Finding::good("space", what),
        _ => Finding::warning(
            "space",
            what,
            "make room, or move the store with --store: no person can sign in when it is full",
        ),
    }
}

#[cfg(not(unix))]
fn space(_: &Path) -> Vec<Finding> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use entra_mcp_plugin::clock::ManualClock;
    use entra_mcp_plugin::secret_store::{NewKey, SecretBytes, SqliteStore, StoreLimits};

    use super::*;
    use crate::commands::doctor::report::Severity;
    use crate::config::StoreKeyPlace;

    struct Bench {
        folder: tempfile::TempDir,
        clock: Arc<dyn Clock>,
    }

    impl Bench {
        /// A store with a record.
        async fn new() -> Self {
            let bench = Self { folder: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new(1_000)) };
            let store = SqliteStore::open(&bench.path(), Arc::clone(&bench.clock)).unwrap();
            store.put("account", SecretBytes::new(b"value".to_vec()), None).await.unwrap();
            bench
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("private").join("server.db")
        }

        async fn look(&self) -> (Vec<Finding>, Arc<dyn SecretStore>) {
            let config = StoreConfig {
                location: StoreLocation::File(self.path()),
                key: StoreKeyPlace::Beside(NewKey::File),
                limits: StoreLimits::default(),
            };
            looked_at(&config, "entra-mcp serve", &self.clock).await
        }

        /// Every file, and what is in it.
        fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
            let files = std::fs::read_dir(self.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
            files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
        }
    }

    #[tokio::test]
    async fn a_store_that_can_be_used_is_read() {
        let bench = Bench::new().await;
        let before = bench.files();
        let (findings, records) = bench.look().await;
        assert!(findings.iter().all(|finding| finding.severity == Severity::Good), "{findings:?}");
        assert_eq!(records.get("account").await.unwrap().unwrap().reveal(), b"value");
        drop(records);
        assert!(bench.files() == before);
    }

    #[tokio::test]
    async fn each_fault_of_a_store_is_said_with_its_remedy_and_nothing_is_changed() {
        /// What spoils the store, what is said of it, and what to change.
        type Case = (fn(&Path), &'static str, &'static str);
        let cases: [Case; 5] = [
            (
                |path| std::fs::write(path, "no database any more, but long enough").unwrap(),
                "is damaged",
                "store check",
            ),
            (
                |path| std::fs::remove_file(path.with_extension("key")).unwrap(),
                "its key is not there",
                "restore the key",
            ),
            (
                |path| std::fs::write(path.with_extension("key"), [9; 32]).unwrap(),
                "with another key",
                "restore the key",
            ),
            (|path| std::fs::write(path.with_extension("key"), [9; 5]).unwrap(), "has 5 bytes", "restore the key"),
            (
                // The head of a database has its format at byte 60.
                |path| {
                    let mut content = std::fs::read(path).unwrap();
                    content[60..64].copy_from_slice(&99_u32.to_be_bytes());
                    std::fs::write(path, content).unwrap();
                },
                "has format 99",
                "run the version that made it",
            ),
        ];
        for (spoil, what, change) in cases {
            let bench = Bench::new().await;
            spoil(&bench.path());
            let before = bench.files();
            let (findings, _) = bench.look().await;
            let failures: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Failure).collect();
            let [failure] = failures.as_slice() else { panic!("{what}: {findings:?}") };
            assert!(failure.what.contains(what), "{failure:?}");
            assert!(failure.change.as_deref().unwrap_or_default().contains(change), "{failure:?}");
            assert!(bench.files() == before, "{what}");
        }
    }

    #[tokio::test]
    async fn what_the_next_start_changes_is_said_and_not_done() {
        let bench = Bench::new().await;
        let mut content = std::fs::read(bench.path()).unwrap();
        content[60..64].copy_from_slice(&4_u32.to_be_bytes());
        std::fs::write(bench.path(), content).unwrap();
        let before = bench.files();
        let (findings, _) = bench.look().await;
        let warnings: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Warning).collect();
        let [warning] = warnings.as_slice() else { panic!("{findings:?}") };
        assert!(warning.id == "store-format" && warning.what.contains("earlier format 4"), "{warning:?}");
        assert!(bench.files() == before);
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_not_made() {
        let bench = Bench { folder: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new(1_000)) };
        let (findings, _) = bench.look().await;
        assert_eq!((findings[0].id, findings[0].severity), ("store", Severity::Skipped));
        assert!(!bench.path().parent().unwrap().exists());
    }

    #[cfg(unix)]
    #[test]
    fn little_space_is_a_warning() {
        assert_eq!(of_space(LITTLE_SPACE).severity, Severity::Good);
        let little = of_space(LITTLE_SPACE - 1);
        assert_eq!((little.id, little.severity), ("space", Severity::Warning));
        assert!(little.what.starts_with("63 MiB are free") && little.change.is_some(), "{little:?}");
    }
}
