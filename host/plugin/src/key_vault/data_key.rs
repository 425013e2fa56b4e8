//! Keys in a file that Azure Key Vault alone can open.
//!
//! The file has the keys of the store, sealed with a key of their own (AES-256-GCM), and that key, wrapped by one in the vault
//! (RSA-OAEP-256), which never leaves it. It is unwrapped when a process reads it for the first time, and again if the file has changed.
//!
//! Threat: a copy of the disk, of a backup or of the store opens nothing without the identity that the vault lets in. A
//! process that has been let in has the keys in its memory.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KeyVault, VaultCollection, VaultFault, VaultObject};
use crate::private_files::{self, FileOwner, PrivateFolderError};
use crate::secret_store::{DataKeys, KEY_BYTES, KeyError, KeyFile, KeySource, OF_URLS, lock_beside};

/// Binds what is sealed to its purpose and form.
const PURPOSE: &[u8] = b"entra-mcp store keys 1";

/// Longest file in bytes: the keys have 1 KiB at most, and what wraps them less.
const MAX_FILE_BYTES: usize = 8 * 1024;

/// The file, as JSON.
#[derive(Serialize, Deserialize)]
struct Envelope {
    /// The key in the vault, with its version.
    key: String,
    algorithm: String,
    /// The key of the seal, as base64url.
    wrapped: String,
    /// Nonce, ciphertext and tag, as base64url.
    sealed: String,
}

/// What a file holds that was opened before.
struct Opened {
    content: Vec<u8>,
    keys: DataKeys,
}

/// A file with wrapped keys.
pub struct VaultKeyFile {
    path: PathBuf,
    /// Where the keys are as they are, before they are wrapped for the first time.
    plain: Option<PathBuf>,
    key: VaultObject,
    vault: Result<KeyVault, VaultFault>,
    opened: Mutex<Option<Opened>>,
}

impl VaultKeyFile {
    /// The file at `path`, for the key `key` of a vault. Keys that are in the file `plain` are taken over.
    pub fn new(path: &Path, plain: Option<&Path>, key: VaultObject, vault: Result<KeyVault, VaultFault>) -> Self {
        let (path, plain) = (path.to_owned(), plain.map(Path::to_owned));
        Self { path, plain, key, vault, opened: Mutex::default() }
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> KeyError {
        KeyError::Place { place: self.place(), reason: reason.to_string() }
    }

    fn content(&self) -> Result<Option<Vec<u8>>, KeyError> {
        let user = FileOwner::of_process();
        match user.way_to(&self.path) {
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
        let private = user.check_private(&file);
        private.map_err(|reason| KeyError::Exposed { path: self.path.clone(), reason })?;
        let mut content = Vec::new();
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut content).map_err(|error| self.failed(&error))?;
        match content.len() > MAX_FILE_BYTES {
            true => Err(self.failed(&"it is too long")),
            false => Ok(Some(content)),
        }
    }

    /// Asks the vault. The store reads its keys where nothing can be waited for, so this has a thread and a runtime of its own
    /// for the moment that it takes.
    fn ask<T: Send>(
        &self,
        question: impl AsyncFnOnce(&KeyVault) -> Result<T, VaultFault> + Send,
    ) -> Result<T, KeyError> {
        let vault = self.vault.as_ref().map_err(|fault| self.failed(fault))?;
        let asked = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                runtime.block_on(question(vault)).map_err(|fault| fault.to_string())
            });
            thread.join().unwrap_or_else(|_| Err("the question broke off".to_owned()))
        });
        asked.map_err(|reason| self.failed(&reason))
    }

    fn open(&self, content: &[u8]) -> Result<DataKeys, KeyError> {
        let malformed = || self.failed(&"it is no file of wrapped keys, or was made for another vault");
        let envelope: Envelope = serde_json::from_slice(content).map_err(|_| malformed())?;
        let key = self.key.sibling(&envelope.key, VaultCollection::Keys).ok_or_else(malformed)?;
        let wrapped = OF_URLS.decode(&envelope.wrapped).map_err(|_| malformed())?;
        // It is opened in place.
        let mut sealed = Zeroizing::new(OF_URLS.decode(&envelope.sealed).map_err(|_| malformed())?);
        let secret = self.ask(async |vault| vault.unwrap(&key, &wrapped).await)?;
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN).ok_or_else(malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| malformed())?;
        let opened = seal(&secret).ok_or_else(malformed)?.open_in_place(nonce, Aad::from(PURPOSE), sealed);
        let text = Zeroizing::new(opened.map_err(|_| malformed())?.to_vec());
        DataKeys::parse(&text).ok_or_else(malformed)
    }

    /// The content of the file for these keys, under a new key.
    fn sealed(&self, keys: &DataKeys) -> Result<Vec<u8>, KeyError> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        let mut nonce = [0; NONCE_LEN];
        let random = SystemRandom::new();
        random
            .fill(secret.as_mut_slice())
            .and_then(|()| random.fill(&mut nonce))
            .map_err(|_| KeyError::NoRandomness)?;
        let mut text = Zeroizing::new(keys.to_text().as_bytes().to_vec());
        let unusable = || self.failed(&"the keys cannot be sealed");
        let tag = seal(secret.as_slice())
            .ok_or_else(unusable)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut text)
            .map_err(|_| unusable())?;
        let (wrapped, by) = self.ask(async |vault| vault.wrap(&self.key, secret.as_slice()).await)?;
        let envelope = Envelope {
            key: by.to_string(),
            algorithm: "RSA-OAEP-256".to_owned(),
            wrapped: OF_URLS.encode(wrapped),
            sealed: OF_URLS.encode([nonce.as_slice(), text.as_slice(), tag.as_ref()].concat()),
        };
        serde_json::to_vec_pretty(&envelope).map_err(|error| self.failed(&error))
    }

    /// Writes a file of its own, of which `finish` makes the one at the path.
    fn write(&self, content: &[u8], finish: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), KeyError> {
        let mut suffix = [0; 8];
        SystemRandom::new().fill(&mut suffix).map_err(|_| KeyError::NoRandomness)?;
        FileOwner::of_process().way_to(&self.path).map_err(|error| self.failed(&error))?;
        let temporary = self.path.with_extension(format!("new-{:016x}", u64::from_be_bytes(suffix)));
        let written = private_files::create_new(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        let finished = written.and_then(|()| finish(&temporary));
        let _ = fs::remove_file(&temporary);
        finished.map_err(|error| self.failed(&error))
    }

    /// Writes the first file, unless another process was faster.
    fn begin(&self, keys: &DataKeys) -> Result<DataKeys, KeyError> {
        let content = self.sealed(keys)?;
        self.write(&content, |temporary| match fs::hard_link(temporary, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        })?;
        self.kept()?.ok_or_else(|| KeyError::Missing { place: self.place() })
    }

    /// The keys in the file.
    fn kept(&self) -> Result<Option<DataKeys>, KeyError> {
        let Some(content) = self.content()? else { return Ok(None) };
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = opened.as_ref().filter(|opened| opened.content == content) {
            return Ok(Some(opened.keys.clone()));
        }
        let keys = self.open(&content)?;
        *opened = Some(Opened { content, keys: keys.clone() });
        Ok(Some(keys))
    }
}

fn seal(secret: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, secret).ok().map(LessSafeKey::new)
}

impl KeySource for VaultKeyFile {
    fn read(&self) -> Result<Option<DataKeys>, KeyError> {
        if let Some(keys) = self.kept()? {
            return Ok(Some(keys));
        }
        let Some(plain) = &self.plain else { return Ok(None) };
        let Some(keys) = KeyFile::new(plain).read()? else { return Ok(None) };
        let keys = self.begin(&keys)?;
        let (file, wrapped) = (plain.display(), self.path.display());
        tracing::warn!(%file, %wrapped, "the key of the store is wrapped by the key vault now: delete the file with the key itself");
        Ok(Some(keys))
    }

    fn look(&self) -> Result<Option<DataKeys>, KeyError> {
        match (self.kept()?, &self.plain) {
            (None, Some(plain)) => KeyFile::new(plain).read(),
            (kept, _) => Ok(kept),
        }
    }

    fn create(&self) -> Result<DataKeys, KeyError> {
        self.begin(&DataKeys::generate()?)
    }

    fn hold(&self) -> Result<Option<File>, KeyError> {
        // What is wrong with the file is told when the keys are read.
        let is_there = matches!(self.content(), Ok(Some(_))) || self.plain.as_ref().is_some_and(|plain| plain.exists());
        is_there.then(|| lock_beside(&self.path)).transpose().map_err(|error| self.failed(&error))
    }

    fn replace(&self, keys: &DataKeys) -> Result<(), KeyError> {
        let content = self.sealed(keys)?;
        self.write(&content, |temporary| fs::rename(temporary, &self.path))
    }

    fn place(&self) -> String {
        format!("{} ({})", self.path.display(), self.key)
    }
}
