//! How values are sealed and names are hidden, in every store that others can read.
//!
//! Each value has a key of its own: HKDF-SHA256 of the data key, a random salt of 256 bits that is stored with the value,
//! and the hidden name of the record. So no key is used twice, and a nonce need not be random: it is zero. AES-GCM under one
//! key for ever, with random nonces of 96 bits, is safe for some 2^32 values only (NIST SP 800-38D section 8.3), and a
//! server that seals a thousand values a second reaches that in 50 days. Here two of 2^112 values share a key with a chance
//! of 2^-32.
//!
//! A value names the data key that seals it, and is bound to the hidden name, not to the name itself. So the program
//! can check all values without their names, which the store does not have. It also opens values of earlier versions,
//! and seals them anew at the next write of the record.

use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::data_key::{KEY_BYTES, KEY_ID_BYTES, KeyId, KeyLength, extracted, key_id};
use super::{DataKeys, KeySource, SecretBytes, StoreError};
use crate::clock::Clock;

/// Size of what makes the key of a value different from all others, in bytes.
const SALT_BYTES: usize = 32;

/// The nonce of every value: none has the key of another.
const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// What a value begins with. One in 2^32 values of earlier versions does too.
const FORMAT: [u8; 4] = *b"\x03em\x03";

/// How often the keys are looked up anew for values under a key that is not known here. An attacker that can write
/// into the store can make such values.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The same after a look that has failed. A key vault that keeps silent takes up to half a minute.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Length of a hidden name in bytes.
const NAME_BYTES: usize = 32;

/// What stands for the name of a record in the store: a keyed hash.
pub(super) type HiddenName = [u8; NAME_BYTES];

/// Seals values and hides names.
pub(super) struct Cipher {
    keys: RwLock<Arc<DerivedKeys>>,
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    /// The last look for other keys. Held while they are looked for.
    last_look: Mutex<Option<Look>>,
    random: SystemRandom,
}

/// What came of looking for other keys.
#[derive(Clone, Copy)]
struct Look {
    /// When it ended, as a reading of the monotonic clock.
    at: Duration,
    found: Found,
}

/// What a look for other keys has found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// There may be others.
    Keys,
    /// There are none, or not those of this store.
    NoKeys,
    /// They cannot be read.
    Failed,
}

/// Why a record cannot be had.
#[derive(Debug)]
pub(super) enum RecordError {
    /// It is under a key that is not known here. Another process may have replaced the keys: [`Cipher::look_for_keys`].
    UnknownKey,
    /// Looking for keys would not help.
    Store(StoreError),
}

impl From<StoreError> for RecordError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl RecordError {
    /// Where no other keys were found.
    fn into_store_error(self) -> StoreError {
        match self {
            Self::UnknownKey => StoreError::Unreadable,
            Self::Store(error) => error,
        }
    }
}

/// What is derived from the keys of a store.
struct DerivedKeys {
    naming: hmac::Key,
    sealing: Vec<DerivedKey>,
}

struct DerivedKey {
    id: KeyId,
    /// What the keys of values are derived from.
    values: Zeroizing<[u8; KEY_BYTES]>,
    /// The one key of values that the first version has sealed.
    earliest: LessSafeKey,
}

/// What a value says of itself, without its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ValueState {
    /// It is whole, and under this key.
    Good(KeyId),
    /// It is under a key that is not known here.
    UnknownKey,
    /// It was altered, or put in the place of another one.
    Damaged,
    /// An earlier version has sealed it: only with its name can it be opened.
    Earlier,
}

impl Cipher {
    /// Seals with these keys, and looks for others in `source`. `None`: nothing can be derived from them.
    pub(super) fn new(keys: &DataKeys, source: Arc<dyn KeySource>, clock: Arc<dyn Clock>) -> Option<Self> {
        let keys = RwLock::new(Arc::new(DerivedKeys::of(keys)?));
        Some(Self { keys, source, clock, last_look: Mutex::new(None), random: SystemRandom::new() })
    }

    fn keys(&self) -> Arc<DerivedKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn hidden_name(&self, key: &str) -> HiddenName {
        hidden(&self.keys().naming, key)
    }

    /// The format, the name of the key, the salt, then the ciphertext with its tag.
    pub(super) fn seal(&self, name: &HiddenName, expires_at: Option<i64>, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |reason: &str| StoreError::Unavailable(reason.into());
        let keys = self.keys();
        let key = keys.sealing.first().ok_or_else(|| failed("there is no key"))?;
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| failed("no randomness"))?;
        let sealing = key.of_value(name, &salt).ok_or_else(|| failed("the key of the value cannot be derived"))?;
        let mut buffer = Zeroizing::new(value.to_vec());
        sealing
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(NONCE),
                associated_data(name, expires_at),
                &mut *buffer,
            )
            .map_err(|_| failed("the value cannot be sealed"))?;
        Ok([&FORMAT[..], &key.id, &salt, &buffer].concat())
    }

    /// Opens a value.
    pub(super) fn open(
        &self,
        key: &str,
        name: &HiddenName,
        expires_at: Option<i64>,
        sealed: &[u8],
    ) -> Result<SecretBytes, RecordError> {
        let keys = self.keys();
        let is_unknown = || key_named_in(sealed).is_some_and(|id| keys.sealing.iter().all(|key| key.id != id));
        keys.open(key, name, expires_at, sealed).ok_or_else(|| match is_unknown() {
            true => RecordError::UnknownKey,
            false => StoreError::Unreadable.into(),
        })
    }

    /// Why a record cannot be had. As long as the keys cannot be read, or are not there, one under another key is not damaged:
    /// what is damaged may be replaced.
    pub(super) fn store_error(&self, error: RecordError) -> StoreError {
        // It is held while another call looks, which may last: then it is not known either.
        let are_unread = || match self.last_look.try_lock() {
            Ok(last) => last.is_some_and(|look| look.found != Found::Keys),
            Err(TryLockError::Poisoned(last)) => last.into_inner().is_some_and(|look| look.found != Found::Keys),
            Err(TryLockError::WouldBlock) => true,
        };
        match error {
            RecordError::UnknownKey if are_unread() => {
                StoreError::Unavailable("the keys of the secret store cannot be read now".to_owned())
            }
            error => error.into_store_error(),
        }
    }

    /// Reads the keys anew, because a record is under one that is not known here. Returns whether there may be others now.
    ///
    /// It may ask another machine. So it is called on a thread that may block, and with nothing held that other calls need.
    pub(super) fn look_for_keys(&self) -> bool {
        let mut last = self.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        // Another call has done so while this one waited, or just before.
        let pause = |look: &Look| if look.found == Found::Failed { FAILURE_PAUSE } else { LOOK_PAUSE };
        if let Some(look) = last.filter(|look| now.saturating_sub(look.at) < pause(look)) {
            return look.found == Found::Keys;
        }
        let found = self.read_keys();
        *last = Some(Look { at: self.clock.monotonic(), found });
        found == Found::Keys
    }

    fn read_keys(&self) -> Found {
        let found = match self.source.read() {
            Ok(Some(found)) => DerivedKeys::of(&found),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "the keys of the secret store cannot be read anew");
                return Found::Failed;
            }
        };
        let present = self.keys();
        // With other names it is the key of another store.
        let Some(found) = found.filter(|found| hidden(&found.naming, "") == hidden(&present.naming, "")) else {
            return Found::NoKeys;
        };
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
        Found::Keys
    }

    /// Examines a value whose name is not known.
    pub(super) fn examine(&self, name: &HiddenName, expires_at: Option<i64>, sealed: &[u8]) -> ValueState {
        let Some(id) = key_named_in(sealed) else { return ValueState::Earlier };
        let keys = self.keys();
        let Some(key) = keys.sealing.iter().find(|key| key.id == id) else { return ValueState::UnknownKey };
        match key.open(name, expires_at, sealed) {
            Some(_) => ValueState::Good(id),
            None => ValueState::Damaged,
        }
    }

    /// Seals as the first version did.
    #[cfg(test)]
    pub(super) fn seal_earliest(&self, key: &str, expires_at: Option<i64>, value: &[u8]) -> Vec<u8> {
        let (nonce, mut buffer) = ([7; NONCE_LEN], value.to_vec());
        let data = associated_data(key.as_bytes(), expires_at);
        let keys = self.keys();
        let sealing = &keys.sealing[0].earliest;
        let sealed = sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), data, &mut buffer);
        sealed.map(|()| [&nonce[..], &buffer].concat()).unwrap()
    }

    /// Seals as the second version did: bound to the name itself, without the name of the key.
    #[cfg(test)]
    pub(super) fn seal_earlier(&self, key: &str, expires_at: Option<i64>, value: &[u8]) -> Vec<u8> {
        let (salt, mut buffer) = ([7; SALT_BYTES], value.to_vec());
        let data = associated_data(key.as_bytes(), expires_at);
        let sealing = self.keys().sealing[0].of_value(key.as_bytes(), &salt).unwrap();
        let sealed = sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(NONCE), data, &mut buffer);
        sealed.map(|()| [&salt[..], &buffer].concat()).unwrap()
    }
}

impl DerivedKeys {
    fn of(keys: &DataKeys) -> Option<Self> {
        let sealing = keys.keys().map(|key| DerivedKey::of(key.as_slice())).collect::<Option<_>>()?;
        Some(Self { naming: keys.naming()?, sealing })
    }

    fn open(&self, key: &str, name: &HiddenName, expires_at: Option<i64>, sealed: &[u8]) -> Option<SecretBytes> {
        let named = key_named_in(sealed).and_then(|id| self.sealing.iter().find(|key| key.id == id));
        let own = named.and_then(|key| key.open(name, expires_at, sealed));
        // What earlier versions have sealed names no key.
        own.or_else(|| self.sealing.iter().find_map(|sealing| sealing.open_earlier(key, expires_at, sealed)))
    }
}

impl DerivedKey {
    fn of(key: &[u8]) -> Option<Self> {
        let derived = extracted(key);
        let mut values = Zeroizing::new([0; KEY_BYTES]);
        derived.expand(&[b"keys of values"], KeyLength).ok()?.fill(values.as_mut_slice()).ok()?;
        let earliest: UnboundKey = derived.expand(&[b"seal values"], &AES_256_GCM).ok()?.into();
        Some(Self { id: key_id(key)?, values, earliest: LessSafeKey::new(earliest) })
    }

    /// The key of one value. The name is part of it, and of the associated data.
    fn of_value(&self, name: &[u8], salt: &[u8]) -> Option<LessSafeKey> {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.values.as_slice());
        let sealing: UnboundKey = derived.expand(&[name], &AES_256_GCM).ok()?.into();
        Some(LessSafeKey::new(sealing))
    }

    fn open(&self, name: &HiddenName, expires_at: Option<i64>, sealed: &[u8]) -> Option<SecretBytes> {
        let (salt, ciphertext) = sealed.get(FORMAT.len() + KEY_ID_BYTES..)?.split_first_chunk::<SALT_BYTES>()?;
        open(&self.of_value(name, salt)?, NONCE, associated_data(name, expires_at), ciphertext)
    }

    /// A salt or a random nonce, then the ciphertext with its tag.
    fn open_earlier(&self, key: &str, expires_at: Option<i64>, sealed: &[u8]) -> Option<SecretBytes> {
        let data = || associated_data(key.as_bytes(), expires_at);
        let salted = sealed.split_first_chunk::<SALT_BYTES>();
        let value = salted
            .and_then(|(salt, ciphertext)| open(&self.of_value(key.as_bytes(), salt)?, NONCE, data(), ciphertext));
        value.or_else(|| {
            let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
            open(&self.earliest, *nonce, data(), ciphertext)
        })
    }
}

fn hidden(naming: &hmac::Key, key: &str) -> HiddenName {
    let mut name = [0; NAME_BYTES];
    let tag = hmac::sign(naming, key.as_bytes());
    name.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    name
}

/// The key that a value names.
pub(super) fn key_named_in(sealed: &[u8]) -> Option<KeyId> {
    sealed.strip_prefix(&FORMAT)?.first_chunk().copied()
}

fn open(key: &LessSafeKey, nonce: [u8; NONCE_LEN], data: Aad<Vec<u8>>, ciphertext: &[u8]) -> Option<SecretBytes> {
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce), data, &mut buffer).ok()?.len();
    buffer.truncate(plain);
    Some(SecretBytes::new(std::mem::take(&mut *buffer)))
}

/// Binds a sealed value to its name and its expiry. The expiry has a fixed length, so the two cannot run together.
fn associated_data(name: &[u8], expires_at: Option<i64>) -> Aad<Vec<u8>> {
    let mut data = expires_at.unwrap_or(i64::MIN).to_be_bytes().to_vec();
    data.extend_from_slice(name);
    Aad::from(data)
}
