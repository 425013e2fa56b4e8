//! Keys in a file that only this user can read.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::keyring::entry_named_in;
use super::{DataKeys, KeyError, KeySource, MAX_TEXT_BYTES};
use crate::private_files::{self, FileOwner, PrivateFolderError};

/// The extension of the file that a process locks while it replaces keys. The rest of its name is that of the key file, which
/// cannot be locked itself: another file takes its place.
const LOCK_EXTENSION: &str = "key-lock";

/// That of the file that a process locks in place of the key file where what is locked cannot be read.
#[cfg(windows)]
const TURN_EXTENSION: &str = "turn";

/// Waits until no other process holds the keys in a file, and holds them until the result is dropped. The file that is locked
/// stays: a process that waits may have it open.
pub(crate) fn lock_beside(key: &Path) -> io::Result<File> {
    let file = private_files::open_append(&key.with_extension(LOCK_EXTENSION))?;
    file.lock()?;
    Ok(file)
}

/// Waits until no other process moves the keys in a file or puts the database beside it aside, and holds both until the result is
/// dropped. The key file itself is locked. On Windows, another file is in its place.
#[cfg(any(windows, feature = "sqlite"))]
pub(crate) fn hold(key: &Path) -> io::Result<File> {
    #[cfg(windows)]
    let file = private_files::open_append(&key.with_extension(TURN_EXTENSION))?;
    // NFS gives a lock for one process alone only on a file that is open for writing.
    #[cfg(not(windows))]
    let file = private_files::open_append_existing(key).or_else(|_| File::open(key))?;
    file.lock()?;
    Ok(file)
}

/// A file with the keys of a store. A new one has 32 bytes, one with several keys is text.
pub struct KeyFile {
    user: FileOwner,
    path: PathBuf,
}

impl KeyFile {
    /// The file at `path`, of the user of this process.
    pub fn new(path: &Path) -> Self {
        Self::of(FileOwner::of_process(), path)
    }

    pub(in crate::secret_store) fn of(user: FileOwner, path: &Path) -> Self {
        Self { user, path: path.to_owned() }
    }

    fn failed(&self, error: &io::Error) -> KeyError {
        KeyError::Place { place: self.place(), reason: error.to_string() }
    }

    /// Writes keys to a file of its own, of which `finish` makes the one at the path.
    fn write(&self, content: &[u8], finish: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let mut suffix = [0; 8];
        SystemRandom::new().fill(&mut suffix).map_err(|_| io::Error::other("no randomness"))?;
        self.user.way_to(&self.path).map_err(io::Error::other)?;
        let temporary = self.path.with_extension(format!("key-{:016x}", u64::from_be_bytes(suffix)));
        let written = private_files::create_new(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        let finished = written.and_then(|()| finish(&temporary));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => finished.and(Err(error)),
            _ => finished,
        }
    }

    /// What is in the file. `None`: there is none.
    pub(super) fn content(&self) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
        match self.user.way_to(&self.path) {
            Ok(()) => {}
            Err(PrivateFolderError::Exposed(exposed)) => return Err(KeyError::below(&self.path, exposed)),
            Err(PrivateFolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(PrivateFolderError::Io(error)) => return Err(self.failed(&error)),
        }
        let file = match private_files::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        self.user.check_private(&file).map_err(|reason| KeyError::Exposed { path: self.path.clone(), reason })?;
        let mut content = Zeroizing::new(Vec::with_capacity(MAX_TEXT_BYTES + 1));
        file.take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut content).map_err(|error| self.failed(&error))?;
        Ok(Some(content))
    }

    /// The keys in what a file has in it.
    pub(super) fn parsed(&self, content: &[u8]) -> Result<DataKeys, KeyError> {
        if entry_named_in(content).is_some() {
            return Err(KeyError::InKeyring { path: self.path.clone() });
        }
        DataKeys::parse(content).ok_or_else(|| KeyError::Size { place: self.place(), found: content.len() })
    }

    /// Links a complete file to the path, which does nothing if another process was faster: the file at the path is complete
    /// from the first moment, and all processes use the same one.
    pub(super) fn link(&self, content: &[u8]) -> Result<(), KeyError> {
        let linked = self.write(content, |temporary| match fs::hard_link(temporary, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
        linked.map_err(|error| self.failed(&error))
    }

    /// Links a new key to the path.
    pub(super) fn link_new(&self) -> Result<(), KeyError> {
        self.link(DataKeys::generate()?.newest.as_slice())
    }

    /// Holds the file for this process, among those that ask for it.
    pub(super) fn lock(&self) -> Result<File, KeyError> {
        #[cfg(windows)]
        let locked = hold(&self.path);
        #[cfg(not(windows))]
        let locked = private_files::open(&self.path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| self.failed(&error))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl KeySource for KeyFile {
    fn read(&self) -> Result<Option<DataKeys>, KeyError> {
        self.content()?.map(|content| self.parsed(&content)).transpose()
    }

    fn create(&self) -> Result<DataKeys, KeyError> {
        self.link_new()?;
        self.read()?.ok_or_else(|| KeyError::Missing { place: self.place() })
    }

    fn hold(&self) -> Result<Option<File>, KeyError> {
        // What is wrong with the file is told when the keys are read.
        let is_there = matches!(self.content(), Ok(Some(_)));
        is_there.then(|| lock_beside(&self.path)).transpose().map_err(|error| self.failed(&error))
    }

    fn replace(&self, keys: &DataKeys) -> Result<(), KeyError> {
        let text = keys.to_text();
        let replaced = self.write(text.as_bytes(), |temporary| fs::rename(temporary, &self.path));
        replaced.map_err(|error| self.failed(&error))
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}
