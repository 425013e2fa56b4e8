//! Values that are sealed (AES-256-GCM), so that only this server reads, alters or makes them.
//!
//! [`Sealed`] is for values that go out and come back; their key is in the store. [`SealedUnder`] is for values that are
//! kept for the holder of a secret which the store does not have. A sealed value is bound to its purpose and whatever else
//! the caller names. That it is not too old, and not used twice, is for the caller to check.
//!
//! Each text has a key and a nonce of its own ([`sealing`](crate::sealing)).
//!
//! Other records are not sealed here: the host's store keeps them encrypted at rest, and a key that lies beside them would
//! add nothing.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::encoding::Encoding;
use super::{Namespace, Next, Partition, Records, Tolerance, Ttl};
use crate::sealing::{self, KEY_BYTES};
use crate::store::StoreError;
use base::encoding::{base64url, from_base64url};
use base::secret::Secret;

/// Bytes of a nonce that earlier versions have put before their texts.
const NONCE_BYTES: usize = 12;
/// Characters of the longest text that is made and opened, unless its kind says otherwise: longer than most of what is sealed.
const MAX_LENGTH: usize = 4096;
/// What the keys of texts that go out are derived for.
const TEXTS: &str = "entra-mcp sealed text";

/// A key in the store, made on first use. Kept: what it has made may come back to another instance, at any time.
pub type KeyRecord = Namespace<Secret<Vec<u8>>>;

/// Values of one kind that go out sealed, and the record of the key that seals them.
pub struct Sealed<T> {
    key: KeyRecord,
    encoding: Encoding<T>,
    max_length: usize,
}

impl<T: Serialize + DeserializeOwned> Sealed<T> {
    /// Values that are sealed as JSON, with the key in the record `key` of the partition.
    pub const fn json(partition: Partition, key: &'static str) -> Self {
        Self { key: Namespace::bytes(partition, key, Ttl::Kept), encoding: Encoding::json(), max_length: MAX_LENGTH }
    }

    /// The same, whose texts may have so many characters. A longer one is neither made nor opened.
    pub const fn at_most(mut self, characters: usize) -> Self {
        self.max_length = characters;
        self
    }

    /// The same, where a new key takes the place of a damaged one. What the lost key has sealed is opened no more: only where
    /// it would have counted for minutes.
    pub const fn with_replaceable_key(mut self) -> Self {
        self.key = self.key.replaced_if_unreadable();
        self
    }
}

impl<T> Sealed<T> {
    /// Values of another kind under the same key. What they are bound to has to keep the kinds apart.
    pub const fn with_encoding<U>(
        &self,
        encode: fn(&U) -> Result<Zeroizing<Vec<u8>>, StoreError>,
        decode: fn(&[u8]) -> Option<U>,
    ) -> Sealed<U> {
        Sealed { key: self.key, encoding: Encoding { encode, decode }, max_length: self.max_length }
    }
}

impl Records<'_> {
    /// The key in a record, made on first use. The instance remembers it for some seconds.
    pub async fn key(&self, record: &KeyRecord) -> Result<Secret<Vec<u8>>, StoreError> {
        let (name, now) = (self.raw_key(record, ()), self.clock.monotonic());
        if let Some(known) = self.partitions.keys.get(&name, now) {
            return Ok(known);
        }
        let make = || {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            self.random.fill(key.as_mut_slice());
            Secret::new(key.to_vec())
        };
        let key = match record.tolerance {
            Tolerance::Replaced => self.replaceable_key(record, make).await?,
            _ => self.get_or_insert_with(record, (), make).await?,
        };
        self.partitions.keys.put(name, now, &key);
        Ok(key)
    }

    /// The same where a new key takes the place of a damaged one. Of two calls that replace it at the same moment, one may
    /// replace the key of the other: what that one has just sealed is opened no more.
    async fn replaceable_key(
        &self,
        record: &KeyRecord,
        make: impl Fn() -> Secret<Vec<u8>>,
    ) -> Result<Secret<Vec<u8>>, StoreError> {
        let update = self.update(record, (), |found| match found {
            Some(key) if key.reveal().len() == KEY_BYTES => Next::Leave(key),
            _ => {
                let key = make();
                Next::Write(key.clone(), key)
            }
        });
        update.await
    }

    /// Seals a value. `bound` is not part of the text, but has to be the same to open it. The text is base64url. One that
    /// would be too long to be opened is [`StoreError::TooLarge`].
    pub async fn seal<T>(&self, sealed: &Sealed<T>, bound: &[u8], value: &T) -> Result<String, StoreError> {
        let plain = (sealed.encoding.encode)(value)?;
        let key = self.key(&sealed.key).await?;
        if key.reveal().len() != KEY_BYTES {
            return Err(StoreError::Unreadable);
        }
        let text = base64url(&sealing::seal(self.random, key.reveal(), TEXTS, bound, &plain)?);
        if text.len() <= sealed.max_length { Ok(text) } else { Err(StoreError::TooLarge) }
    }

    /// Opens what [`Records::seal`] has made of the same kind with the same `bound`; `None` for anything else.
    pub async fn open<T>(&self, sealed: &Sealed<T>, bound: &[u8], text: &str) -> Result<Option<T>, StoreError> {
        let bytes = (text.len() <= sealed.max_length).then(|| from_base64url(text)).flatten();
        let Some(bytes) = bytes.filter(|bytes| bytes.len() >= NONCE_BYTES) else { return Ok(None) };
        let key = self.key(&sealed.key).await?;
        let plain =
            sealing::open(key.reveal(), TEXTS, bound, &bytes).or_else(|| decrypt_earlier(key.reveal(), bound, &bytes));
        Ok(plain.and_then(|plain| (sealed.encoding.decode)(&plain)))
    }

    /// Seals a value for the holder of `secret`, which has to be random and of 256 bits.
    pub fn seal_under<T>(
        &self,
        sealed: &SealedUnder<T>,
        secret: &[u8],
        bound: &[u8],
        value: &T,
    ) -> Result<Secret<Vec<u8>>, StoreError> {
        let plain = (sealed.encoding.encode)(value)?;
        sealing::seal(self.random, secret, sealed.purpose, bound, &plain).map(Secret::new)
    }
}

/// Values of one kind that are kept sealed under a secret of their reader, which no record holds.
pub struct SealedUnder<T> {
    purpose: &'static str,
    encoding: Encoding<T>,
}

impl<T: Serialize + DeserializeOwned> SealedUnder<T> {
    /// Values that are sealed as JSON. The purpose keeps keys apart that are derived from one secret.
    pub const fn json(purpose: &'static str) -> Self {
        Self { purpose, encoding: Encoding::json() }
    }
}

impl<T> SealedUnder<T> {
    /// Opens what [`Records::seal_under`] has made with the same secret and the same `bound`; `None` for anything else.
    pub fn open(&self, secret: &[u8], bound: &[u8], sealed: &[u8]) -> Option<T> {
        sealing::open(secret, self.purpose, bound, sealed).and_then(|plain| (self.encoding.decode)(&plain))
    }
}

/// As earlier versions have sealed: the nonce, then the ciphertext with its tag, all under the one key. Their cookies come
/// back for 90 days.
fn decrypt_earlier(key: &[u8], bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let cipher = Aes256Gcm::new_from_slice(key).ok()?;
    cipher.decrypt(&Nonce::from(*nonce), Payload { msg: text, aad: bound }).ok().map(Zeroizing::new)
}
