//! The keys that seal the records of a store, and where they are kept.
//!
//! A store has one or several data keys of 256 bits. The newest seals; the others open what was sealed before. When the
//! keys are replaced ([`DataKeys::rotated`]), records are sealed anew as they are written. The names of records are hidden
//! with a key of their own, which stays: otherwise a process that has not seen the new keys yet would not find the records.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::private_files::{Exposed, FOLDER_FIX};

mod file;
mod keyring;
#[cfg(feature = "keyring")]
mod system_keyring;

pub use file::KeyFile;
#[cfg(feature = "sqlite")]
pub(crate) use file::hold;
#[cfg(feature = "credentials")]
pub(crate) use file::lock_beside;
pub use keyring::{KeyBeside, Keyring, KeyringError, NewKey, Unlock};
#[cfg(feature = "keyring")]
pub use system_keyring::SystemKeyring;

/// Size of a data key in bytes (AES-256).
pub const KEY_BYTES: usize = 32;

/// Most data keys of a store. A rotation leaves out the keys that no record needs any more.
const MAX_KEYS: usize = 8;

/// Keys before a new one that stay whether or not records are under them. A process seals with the key that it has until it meets a
/// record under a newer one. In a store that is hardly used it may have missed as many rotations.
const KEPT_KEYS: usize = 3;

/// Longest text of keys in bytes: [`MAX_KEYS`], and the key of the names.
const MAX_TEXT_BYTES: usize = 1024;

/// What the key of the names begins with in a text of keys.
const NAMES: &str = "names:";

/// Bytes of the mark by which a value names its key.
pub(super) const KEY_ID_BYTES: usize = 4;

/// Names a key without telling it.
pub(super) type KeyId = [u8; KEY_ID_BYTES];

/// Reads base64 in both alphabets, with and without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_encode_padding(false);
pub(crate) const OF_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
const OF_TEXTS: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The keys of a store, the newest first. Redacted in `Debug`, zeroised on drop.
#[derive(Clone)]
pub struct DataKeys {
    newest: Key,
    older: Vec<Key>,
    /// Hides the names of records. Without it, the oldest key does.
    names: Option<Key>,
}

/// Why there are no keys. The text names no part of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The place of the keys cannot be read or written.
    #[error("the key of the secret store cannot be read or created in {place}: {reason}")]
    Place {
        /// Where the keys are kept.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// The key file is not a regular file of this user's that no other user can read.
    #[error("the key of the secret store, {path}, {reason}")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A folder above the key file is not this user's or the administrator's alone to change.
    #[error(
        "the key of the secret store, {key}, cannot be used, because {path} {reason}; put it below folders that no other \
         user can change, or fix it ({FOLDER_FIX})"
    )]
    FolderExposed {
        /// The key file.
        key: PathBuf,
        /// The folder or link that breaks the rule.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// What is there is no key.
    #[error(
        "the key of the secret store in {place} is neither {KEY_BYTES} bytes nor their base64: it has {found} bytes"
    )]
    Size {
        /// Where the keys are kept.
        place: String,
        /// The size found.
        found: usize,
    },
    /// The key file says that the key is in the keyring of the system, and the keyring is not asked here.
    #[error(
        "the key of the secret store is in the keyring of the system, as {path} says, which this program does not ask"
    )]
    InKeyring {
        /// The key file.
        path: PathBuf,
    },
    /// The keyring of the system does not give or take the key.
    #[error("the key of the secret store is in {place}, but {error}. Nothing was changed")]
    Keyring {
        /// The entry.
        place: String,
        /// What is wrong with the keyring.
        error: KeyringError,
    },
    /// There is no key.
    #[error("there is no key of the secret store in {place}")]
    Missing {
        /// Where it was looked for.
        place: String,
    },
    /// The keys cannot be replaced there.
    #[error("the key of the secret store comes from {place}, which this program cannot change")]
    Fixed {
        /// Where the keys come from.
        place: String,
    },
    /// The store has records under too many keys.
    #[error("the records of the secret store are under {MAX_KEYS} keys already; sign-ins that end make room")]
    TooMany,
    /// No new key was announced.
    #[error("no new key was announced: the last key of the secret store is its only one, or records are under it")]
    NotAnnounced,
    /// The system gives no randomness.
    #[error("the system gives no randomness for a key")]
    NoRandomness,
}

impl KeyError {
    /// A key file below something that others can change.
    pub(crate) fn below(key: &Path, Exposed { path, rule }: Exposed) -> Self {
        Self::FolderExposed { key: key.to_owned(), path, reason: rule }
    }
}

/// The place of a store's keys. The functions may block for a moment.
pub trait KeySource: Send + Sync + 'static {
    /// Reads the keys. `None`: there are none yet.
    fn read(&self) -> Result<Option<DataKeys>, KeyError>;
    /// The same, and changes nothing. A source whose [`read`](Self::read) takes keys over from another place reads them there.
    fn look(&self) -> Result<Option<DataKeys>, KeyError> {
        self.read()
    }
    /// Makes the first key, unless another process was faster. Returns the keys that are kept.
    fn create(&self) -> Result<DataKeys, KeyError>;
    /// Keeps out other processes that ask for the same, until the result is dropped. Of two that read the keys, change them and
    /// [replace](Self::replace) them at once, one would lose the key of the other. `None`: there are no keys that could be replaced.
    fn hold(&self) -> Result<Option<File>, KeyError> {
        Ok(None)
    }
    /// Replaces the keys.
    fn replace(&self, keys: &DataKeys) -> Result<(), KeyError>;
    /// The place in words, for messages.
    fn place(&self) -> String;
}

/// The keys of another source, for a store that is looked at and stays as it is: it [looks](KeySource::look), and makes and
/// replaces nothing.
pub(super) struct Unchanged(pub(super) Arc<dyn KeySource>);

impl KeySource for Unchanged {
    fn read(&self) -> Result<Option<DataKeys>, KeyError> {
        self.0.look()
    }

    fn create(&self) -> Result<DataKeys, KeyError> {
        Err(KeyError::Fixed { place: self.place() })
    }

    fn replace(&self, _: &DataKeys) -> Result<(), KeyError> {
        Err(KeyError::Fixed { place: self.place() })
    }

    fn place(&self) -> String {
        self.0.place()
    }
}

/// Keys from a variable, a credential of the service manager, or an embedding program, which keeps them itself.
pub struct GivenDataKeys {
    keys: Option<DataKeys>,
    place: String,
}

impl GivenDataKeys {
    /// Keys that come from `place`.
    pub fn new(keys: DataKeys, place: &str) -> Self {
        Self { keys: Some(keys), place: place.to_owned() }
    }

    /// No keys: a store that needs them is refused, and the error names the places where they are looked for.
    pub fn none(places: &str) -> Self {
        Self { keys: None, place: places.to_owned() }
    }
}

impl KeySource for GivenDataKeys {
    fn read(&self) -> Result<Option<DataKeys>, KeyError> {
        Ok(self.keys.clone())
    }

    fn create(&self) -> Result<DataKeys, KeyError> {
        self.keys.clone().ok_or_else(|| KeyError::Missing { place: self.place() })
    }

    fn replace(&self, _: &DataKeys) -> Result<(), KeyError> {
        Err(KeyError::Fixed { place: self.place() })
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

impl DataKeys {
    /// One new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { newest: random_key()?, older: Vec::new(), names: None })
    }

    /// Reads keys: 32 bytes as they are, or text. In a text, keys are base64 (either alphabet), separated by commas or
    /// white space, the newest first; `names:` is before the key of the names.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(key) = <[u8; KEY_BYTES]>::try_from(bytes) {
            return Some(Self { newest: Zeroizing::new(key), older: Vec::new(), names: None });
        }
        if bytes.len() > MAX_TEXT_BYTES {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let (mut keys, mut names) = (Vec::with_capacity(MAX_KEYS), None);
        for word in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
            match word.strip_prefix(NAMES) {
                Some(key) if names.is_none() => names = Some(decoded(key)?),
                Some(_) => return None,
                None => keys.push(decoded(word)?),
            }
        }
        if keys.len() > MAX_KEYS {
            return None;
        }
        let mut keys = keys.into_iter();
        Some(Self { newest: keys.next()?, older: keys.collect(), names })
    }

    /// The keys as text, as [`parse`](Self::parse) reads them.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_TEXT_BYTES));
        for key in self.keys() {
            OF_URLS.encode_string(key.as_slice(), &mut text);
            text.push('\n');
        }
        if let Some(names) = &self.names {
            text.push_str(NAMES);
            OF_URLS.encode_string(names.as_slice(), &mut text);
            text.push('\n');
        }
        text
    }

    /// A new key before the present ones, of which those remain that seal records (`used`), and the last [`KEPT_KEYS`], with
    /// which other processes may be sealing.
    ///
    /// Without `used`, all of them remain.
    pub(super) fn rotated(&self, used: Option<&BTreeSet<KeyId>>) -> Result<Self, KeyError> {
        let is_used = |id| used.is_none_or(|used| used.contains(&id));
        let is_needed = |key: &Key| key_id(key.as_slice()).is_some_and(is_used);
        let older = self.keys().enumerate().filter(|&(age, key)| age < KEPT_KEYS || is_needed(key));
        let older: Vec<_> = older.map(|(_, key)| key.clone()).collect();
        if older.len() >= MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        Ok(Self { newest: random_key()?, older, names: Some(self.naming_secret().ok_or(KeyError::NoRandomness)?) })
    }

    /// The same keys with the newest at the end: what replicas are given first, so that all of them can open what one of
    /// them is going to seal.
    pub fn announced(&self) -> Self {
        let mut keys = self.older.iter();
        let Some(newest) = keys.next() else { return self.clone() };
        let older = keys.chain([&self.newest]).cloned().collect();
        Self { newest: newest.clone(), older, names: self.names.clone() }
    }

    /// The same keys with the last one before the others, where [`announced`](Self::announced) has put it. `used`: the keys that
    /// records are under, of which the last one is none.
    #[cfg(feature = "redis")]
    pub(super) fn promoted(&self, used: &BTreeSet<KeyId>) -> Result<Self, KeyError> {
        let mut older = self.older.clone();
        let last = older.pop().filter(|key| key_id(key.as_slice()).is_some_and(|id| !used.contains(&id)));
        let newest = last.ok_or(KeyError::NotAnnounced)?;
        older.insert(0, self.newest.clone());
        // What is last from now on is not to be taken for an announced key, if this is tried again.
        let is_unused = |key: &Key| key_id(key.as_slice()).is_some_and(|id| !used.contains(&id));
        while older.len() > 1 && older.last().is_some_and(is_unused) {
            older.pop();
        }
        // Without it, the oldest key would be another one from now on.
        Ok(Self { newest, older, names: Some(self.naming_secret().ok_or(KeyError::NoRandomness)?) })
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// The key of the names.
    pub(super) fn naming(&self) -> Option<hmac::Key> {
        self.naming_secret().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_slice()))
    }

    fn naming_secret(&self) -> Option<Key> {
        if let Some(names) = &self.names {
            return Some(names.clone());
        }
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        let oldest = self.older.last().unwrap_or(&self.newest);
        extracted(oldest.as_slice()).expand(&[b"hide names"], KeyLength).ok()?.fill(secret.as_mut_slice()).ok()?;
        Some(secret)
    }
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The length of a key, for ring.
pub(super) struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// What everything is derived from that depends on one data key.
pub(super) fn extracted(key: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"entra-mcp secret store 1").extract(key)
}

/// What names a key in the values that it seals.
pub(super) fn key_id(key: &[u8]) -> Option<KeyId> {
    let mut id = Zeroizing::new([0; KEY_BYTES]);
    extracted(key).expand(&[b"name of the key"], KeyLength).ok()?.fill(id.as_mut_slice()).ok()?;
    id.first_chunk().copied()
}

fn random_key() -> Result<Key, KeyError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(key.as_mut_slice()).map_err(|_| KeyError::NoRandomness)?;
    Ok(key)
}

fn decoded(text: &str) -> Option<Key> {
    let bytes = Zeroizing::new(OF_URLS.decode(text).or_else(|_| OF_TEXTS.decode(text)).ok()?);
    Some(Zeroizing::new(<[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_bytes_and_as_text() {
        let raw = DataKeys::parse(&[7; KEY_BYTES]).unwrap();
        for text in ["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n"] {
            assert_eq!(DataKeys::parse(text.as_bytes()).unwrap().to_text(), raw.to_text());
        }
        for wrong in [&[][..], &[7; KEY_BYTES - 1], &[7; KEY_BYTES + 1], b"names:", b"BwcH", &[b' '; 2_000]] {
            assert!(DataKeys::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_rotation_keeps_the_names_and_the_keys_that_are_needed() {
        let first = DataKeys::generate().unwrap();
        let name = |keys: &DataKeys| hmac::sign(&keys.naming().unwrap(), b"x").as_ref().to_vec();
        let ids = |keys: &DataKeys| keys.keys().map(|key| key_id(key.as_slice()).unwrap()).collect::<Vec<_>>();
        let second = first.rotated(Some(&BTreeSet::new())).unwrap();
        assert_eq!((name(&second), ids(&second).len()), (name(&first), 2));
        assert_eq!(ids(&second)[1], ids(&first)[0]);
        // A process may have missed the last rotations, and seal with a key that no record is under.
        let mut last = second.clone();
        for kept in 3..=KEPT_KEYS + 1 {
            let before = ids(&last);
            last = last.rotated(Some(&BTreeSet::new())).unwrap();
            assert_eq!((name(&last), &ids(&last)[1..], ids(&last).len()), (name(&first), &before[..], kept));
        }
        let before = ids(&last);
        let next = last.rotated(Some(&BTreeSet::new())).unwrap();
        assert_eq!(ids(&next)[1..], before[..KEPT_KEYS], "the first key is of no use any more");
        let next = last.rotated(Some(&ids(&first).into_iter().collect())).unwrap();
        assert_eq!(ids(&next)[1..], before[..]);
        let kept = second.rotated(Some(&ids(&first).into_iter().collect())).unwrap();
        assert_eq!(ids(&kept)[1..], ids(&second));
        assert_eq!(ids(&DataKeys::parse(kept.to_text().as_bytes()).unwrap()), ids(&kept));
        let announced = second.announced();
        assert_eq!((ids(&announced), name(&announced)), (vec![ids(&first)[0], ids(&second)[0]], name(&first)));
        assert_eq!(format!("{first:?}"), "[redacted]");
    }

    #[cfg(feature = "redis")]
    #[test]
    fn an_announced_key_becomes_the_newest_and_no_other_does() {
        let first = DataKeys::generate().unwrap();
        let name = |keys: &DataKeys| hmac::sign(&keys.naming().unwrap(), b"x").as_ref().to_vec();
        let ids = |keys: &DataKeys| keys.keys().map(|key| key_id(key.as_slice()).unwrap()).collect::<Vec<_>>();
        let used = |key: &KeyId| BTreeSet::from([*key]);
        let old = ids(&first)[0];
        assert_eq!(first.promoted(&BTreeSet::new()).unwrap_err(), KeyError::NotAnnounced);
        let announced = first.rotated(Some(&used(&old))).unwrap().announced();
        let promoted = announced.promoted(&used(&old)).unwrap();
        assert_eq!(ids(&promoted), [ids(&announced)[1], old]);
        assert_eq!(name(&promoted), name(&first));
        assert_eq!(promoted.promoted(&used(&old)).unwrap_err(), KeyError::NotAnnounced, "it was promoted already");
        // Nor does a key that was kept for a process that has missed a rotation.
        let newest = ids(&promoted)[0];
        let announced = promoted.rotated(Some(&used(&newest))).unwrap().announced();
        assert_eq!(ids(&announced)[..2], [newest, old]);
        let promoted = announced.promoted(&used(&newest)).unwrap();
        assert_eq!(ids(&promoted), [ids(&announced)[2], newest]);
        assert_eq!(promoted.promoted(&used(&newest)).unwrap_err(), KeyError::NotAnnounced);
    }

    #[test]
    fn a_store_has_so_many_keys_and_no_more() {
        let mut keys = DataKeys::generate().unwrap();
        for _ in 1..MAX_KEYS {
            keys = keys.rotated(None).unwrap();
        }
        assert_eq!(keys.rotated(None).unwrap_err(), KeyError::TooMany);
    }
}
