//! Keys in a keyring, if the key file says so.
//!
//! The file beside the store has either the key or the name of an entry of the keyring in it. So the store itself says
//! where its key is. A setting decides about new stores only, and an existing one keeps its key where it is. The
//! program never takes a store whose keyring does not answer for a new one. The name is random, so that a store that is
//! moved or copied finds its key, and two stores never share one by accident.
//!
//! Why a store uses a keyring: a copy of the user's files, such as a backup, does not have the key. A program that runs as
//! the user can ask the keyring as this one does.

use std::fs::File;
use std::time::Duration;
use std::{fmt, sync::Arc};

use base16ct::lower;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::{DataKeys, KeyError, KeyFile, KeySource};

/// What a key file begins with whose key is in the keyring. The name of the entry follows.
const MARK: &str = "keyring:";

/// Random bytes of the name of an entry.
const NAME_BYTES: usize = 16;

/// Whether a person may be asked to unlock the keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlock {
    /// Yes, and the answer is awaited for a while.
    ByPerson,
    /// No: a locked keyring is an error.
    Unattended,
}

/// Why a keyring does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// This system has none, or none answers.
    #[error("no keyring answers here ({0})")]
    Absent(String),
    /// It is locked, and was not unlocked.
    #[error("the keyring is locked, and was not unlocked")]
    Locked,
    /// It took too long.
    #[error("the keyring has not answered within {} s", .0.as_secs())]
    TooLate(Duration),
    /// Something else.
    #[error("the keyring refuses: {0}")]
    Refused(String),
}

/// Named secrets that a system keeps for its user. The functions may block, but not for ever.
pub trait Keyring: Send + Sync + 'static {
    /// Reads a secret.
    fn get(&self, name: &str, unlock: Unlock) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError>;
    /// Writes a secret. `label` is for people that look at their keyring.
    fn set(&self, name: &str, label: &str, secret: &[u8], unlock: Unlock) -> Result<(), KeyringError>;
    /// Deletes a secret.
    fn delete(&self, name: &str) -> Result<(), KeyringError>;
    /// The entry in words.
    fn place(&self, name: &str) -> String;
}

/// The place of a new store's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewKey {
    /// In the file beside it.
    #[default]
    File,
    /// In the keyring. Without one, there is no store.
    Keyring,
    /// In the keyring if one answers without a person, else in the file.
    KeyringOrFile,
}

/// The key file beside a store, or the keyring where the file names an entry of it.
pub struct KeyBeside {
    file: KeyFile,
    keyring: Arc<dyn Keyring>,
    new: NewKey,
    /// Is told why a new key is in the file after all.
    told: Box<Told>,
}

/// Gets the name of a key file, and why a new key is in it.
type Told = dyn Fn(&str, &KeyringError) + Send + Sync;

impl KeyBeside {
    /// The key in or named by `file`. A new one is put where `new` says.
    pub fn new(file: KeyFile, keyring: Arc<dyn Keyring>, new: NewKey) -> Self {
        Self { file, keyring, new, told: Box::new(|_, _| {}) }
    }

    /// Tells `told` the key file, and why a new key is there and not in the keyring.
    #[must_use]
    pub fn telling(mut self, told: impl Fn(&str, &KeyringError) + Send + Sync + 'static) -> Self {
        self.told = Box::new(told);
        self
    }

    /// The entry that the file names.
    fn entry(&self) -> Result<Option<String>, KeyError> {
        Ok(self.file.content()?.as_deref().and_then(|content| entry_named_in(content)).map(str::to_owned))
    }

    fn failed(&self, name: &str, error: KeyringError) -> KeyError {
        KeyError::Keyring { place: self.place_of(name), error }
    }

    fn place_of(&self, name: &str) -> String {
        format!("{}, which {} names", self.keyring.place(name), self.file.path().display())
    }

    fn at(&self, name: &str) -> Result<Option<DataKeys>, KeyError> {
        let found = self.keyring.get(name, Unlock::ByPerson).map_err(|error| self.failed(name, error))?;
        let Some(found) = found else { return Ok(None) };
        let wrong = || KeyError::Size { place: self.place_of(name), found: found.len() };
        DataKeys::parse(&found).map(Some).ok_or_else(wrong)
    }

    fn put(&self, name: &str, keys: &DataKeys, unlock: Unlock) -> Result<(), KeyringError> {
        let label = format!("Key of the sign-ins in {}", self.file.path().with_extension("db").display());
        self.keyring.set(name, &label, keys.to_text().as_bytes(), unlock)
    }

    /// Makes the first key in the keyring, and links a file that names it. An entry that no file names is removed.
    fn create_entry(&self, unlock: Unlock) -> Result<(), KeyError> {
        let mut name = [0; NAME_BYTES];
        SystemRandom::new().fill(&mut name).map_err(|_| KeyError::NoRandomness)?;
        let (name, keys) = (lower::encode_string(&name), DataKeys::generate()?);
        self.put(&name, &keys, unlock).map_err(|error| self.failed(&name, error))?;
        let kept = self.keyring.get(&name, unlock).map_err(|error| self.failed(&name, error))?;
        if kept.is_none_or(|kept| kept.as_slice() != keys.to_text().as_bytes()) {
            let error = KeyringError::Refused("it does not return what it was given".to_owned());
            return Err(self.failed(&name, error));
        }
        let linked = self.file.link(format!("{MARK}{name}\n").as_bytes());
        if (linked.is_err() || self.entry()?.is_none_or(|entry| entry != name))
            && let Err(error) = self.keyring.delete(&name)
        {
            tracing::debug!(%error, "an entry without a store stays in the keyring");
        }
        linked
    }
}

impl KeySource for KeyBeside {
    fn read(&self) -> Result<Option<DataKeys>, KeyError> {
        let Some(content) = self.file.content()? else { return Ok(None) };
        match entry_named_in(&content) {
            Some(name) => self.at(name),
            None => self.file.parsed(&content).map(Some),
        }
    }

    fn create(&self) -> Result<DataKeys, KeyError> {
        if let Some(name) = self.entry()? {
            // The entry was lost, and there is no record that would need it.
            let _lock = self.file.lock()?;
            if self.at(&name)?.is_none() {
                self.put(&name, &DataKeys::generate()?, Unlock::ByPerson).map_err(|error| self.failed(&name, error))?;
            }
            return self.read()?.ok_or_else(|| KeyError::Missing { place: self.place() });
        }
        match self.new {
            NewKey::File => self.file.link_new()?,
            NewKey::Keyring => self.create_entry(Unlock::ByPerson)?,
            NewKey::KeyringOrFile => match self.create_entry(Unlock::Unattended) {
                Err(KeyError::Keyring { error, .. }) => {
                    self.file.link_new()?;
                    (self.told)(&self.file.place(), &error);
                }
                created => created?,
            },
        }
        self.read()?.ok_or_else(|| KeyError::Missing { place: self.place() })
    }

    fn hold(&self) -> Result<Option<File>, KeyError> {
        self.file.hold()
    }

    fn replace(&self, keys: &DataKeys) -> Result<(), KeyError> {
        match self.entry()? {
            Some(name) => self.put(&name, keys, Unlock::ByPerson).map_err(|error| self.failed(&name, error)),
            None => self.file.replace(keys),
        }
    }

    fn place(&self) -> String {
        match self.entry() {
            Ok(Some(name)) => self.place_of(&name),
            _ => self.file.place(),
        }
    }
}

impl fmt::Debug for KeyBeside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyBeside").field("file", &self.file.path()).field("new", &self.new).finish_non_exhaustive()
    }
}

/// The entry of a keyring that the content of a key file names.
pub(super) fn entry_named_in(content: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(content).ok()?.strip_prefix(MARK)?.trim_end();
    (name.len() == 2 * NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    /// A keyring that may have a fault.
    #[derive(Default)]
    struct Fake {
        entries: Mutex<HashMap<String, Vec<u8>>>,
        fault: Mutex<Option<KeyringError>>,
    }

    impl Fake {
        fn check(&self) -> Result<(), KeyringError> {
            self.fault.lock().unwrap().clone().map_or(Ok(()), Err)
        }

        fn fail(&self, fault: Option<KeyringError>) {
            *self.fault.lock().unwrap() = fault;
        }

        fn entries(&self) -> usize {
            self.entries.lock().unwrap().len()
        }
    }

    impl Keyring for Fake {
        fn get(&self, name: &str, _: Unlock) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
            self.check()?;
            Ok(self.entries.lock().unwrap().get(name).cloned().map(Zeroizing::new))
        }

        fn set(&self, name: &str, label: &str, secret: &[u8], _: Unlock) -> Result<(), KeyringError> {
            self.check()?;
            assert!(label.ends_with("store.db"), "{label}");
            self.entries.lock().unwrap().insert(name.to_owned(), secret.to_vec());
            Ok(())
        }

        fn delete(&self, name: &str) -> Result<(), KeyringError> {
            self.entries.lock().unwrap().remove(name);
            Ok(())
        }

        fn place(&self, _: &str) -> String {
            "the fake".to_owned()
        }
    }

    struct Bench {
        folder: tempfile::TempDir,
        keyring: Arc<Fake>,
        told: Arc<Mutex<Vec<KeyringError>>>,
    }

    impl Bench {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), keyring: Arc::default(), told: Arc::default() }
        }

        fn file(&self) -> KeyFile {
            KeyFile::new(&self.folder.path().join("store.key"))
        }

        fn keys(&self, new: NewKey) -> KeyBeside {
            let told = Arc::clone(&self.told);
            let keyring = Arc::clone(&self.keyring) as Arc<dyn Keyring>;
            KeyBeside::new(self.file(), keyring, new).telling(move |_, error| told.lock().unwrap().push(error.clone()))
        }

        fn told(&self) -> Vec<KeyringError> {
            self.told.lock().unwrap().clone()
        }
    }

    fn text(keys: &DataKeys) -> String {
        keys.to_text().to_string()
    }

    #[test]
    fn a_new_key_is_in_the_keyring_and_the_file_names_it() {
        let bench = Bench::new();
        let keys = bench.keys(NewKey::KeyringOrFile);
        assert!(keys.read().unwrap().is_none());
        let made = keys.create().unwrap();
        let file = std::fs::read_to_string(bench.folder.path().join("store.key")).unwrap();
        assert!(file.starts_with(MARK) && file.len() == MARK.len() + 2 * NAME_BYTES + 1, "{file}");
        assert_eq!((bench.keyring.entries(), bench.told()), (1, vec![]));
        // The setting is about new stores.
        for new in [NewKey::File, NewKey::Keyring, NewKey::KeyringOrFile] {
            assert_eq!(text(&bench.keys(new).read().unwrap().unwrap()), text(&made));
            assert_eq!(text(&bench.keys(new).create().unwrap()), text(&made));
        }
        let rotated = made.rotated(None).unwrap();
        bench.keys(NewKey::File).replace(&rotated).unwrap();
        assert_eq!(text(&keys.read().unwrap().unwrap()), text(&rotated));
        assert_eq!(bench.file().read().unwrap_err(), KeyError::InKeyring { path: bench.file().path().to_owned() });
    }

    #[test]
    fn an_existing_key_file_stays_where_it_is() {
        let bench = Bench::new();
        let made = bench.file().create().unwrap();
        let keys = bench.keys(NewKey::Keyring);
        assert_eq!(text(&keys.read().unwrap().unwrap()), text(&made));
        keys.replace(&made.rotated(None).unwrap()).unwrap();
        assert_eq!(bench.keyring.entries(), 0);
        assert!(bench.file().read().unwrap().is_some());
    }

    #[test]
    fn without_a_keyring_a_new_key_is_in_the_file_and_that_is_told_once() {
        let bench = Bench::new();
        bench.keyring.fail(Some(KeyringError::Locked));
        let made = bench.keys(NewKey::KeyringOrFile).create().unwrap();
        assert_eq!(text(&bench.file().read().unwrap().unwrap()), text(&made));
        bench.keyring.fail(None);
        assert_eq!(text(&bench.keys(NewKey::KeyringOrFile).read().unwrap().unwrap()), text(&made));
        assert_eq!(bench.told(), [KeyringError::Locked]);
    }

    #[test]
    fn a_keyring_that_is_asked_for_and_fails_makes_nothing() {
        let bench = Bench::new();
        bench.keyring.fail(Some(KeyringError::Locked));
        let error = bench.keys(NewKey::Keyring).create().unwrap_err();
        assert!(matches!(error, KeyError::Keyring { error: KeyringError::Locked, .. }), "{error}");
        assert!(!bench.file().path().exists());
    }

    #[test]
    fn a_key_that_cannot_be_read_now_is_neither_missing_nor_replaced() {
        let bench = Bench::new();
        bench.keys(NewKey::KeyringOrFile).create().unwrap();
        let before = bench.keyring.entries.lock().unwrap().clone();
        bench.keyring.fail(Some(KeyringError::Locked));
        for made in
            [bench.keys(NewKey::KeyringOrFile).read().map(drop), bench.keys(NewKey::KeyringOrFile).create().map(drop)]
        {
            assert!(matches!(made, Err(KeyError::Keyring { error: KeyringError::Locked, .. })));
        }
        assert_eq!(*bench.keyring.entries.lock().unwrap(), before);
        bench.keyring.fail(None);
        *bench.keyring.entries.lock().unwrap().values_mut().next().unwrap() = b"no key".to_vec();
        let error = bench.keys(NewKey::KeyringOrFile).read().unwrap_err();
        assert!(matches!(error, KeyError::Size { found: 6, .. }), "{error}");
        bench.keyring.entries.lock().unwrap().clear();
        assert!(bench.keys(NewKey::KeyringOrFile).read().unwrap().is_none());
    }

    #[test]
    fn of_several_processes_that_make_the_first_key_all_use_one() {
        let bench = Bench::new();
        let made: Vec<String> = std::thread::scope(|scope| {
            let makers: Vec<_> = [NewKey::Keyring, NewKey::File, NewKey::KeyringOrFile, NewKey::Keyring]
                .into_iter()
                .map(|new| {
                    scope.spawn({
                        let bench = &bench;
                        move || text(&bench.keys(new).create().unwrap())
                    })
                })
                .collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(made.iter().all(|text| *text == made[0]));
        assert!(bench.keyring.entries() <= 1, "no entry is left without a store");
    }
}
