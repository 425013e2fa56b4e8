//! Values that go out and come back: sealed (AES-256-GCM), so that only this server reads, alters or makes them.
//!
//! A sealed value is bound to its purpose and whatever else the caller names. That it is not too old, and not used twice,
//! is for the caller to check.
//!
//! Records themselves are not sealed here: the host's store keeps them encrypted at rest, and a key that lies beside them
//! would add nothing.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::encoding::Encoding;
use super::{Namespace, Partition, Records, Ttl};
use crate::store::StoreError;
use base::encoding::{base64url, from_base64url};
use base::secret::Secret;

/// Bytes of a key (AES-256).
const KEY_BYTES: usize = 32;
/// Bytes of a nonce (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;
/// Characters of the longest text that is opened: longer than anything that is sealed.
const MAX_LENGTH: usize = 4096;

/// A key in the store, made on first use. Kept: what it has made may come back to another instance, at any time.
pub type KeyRecord = Namespace<Secret<Vec<u8>>>;

/// Values of one kind that go out sealed, and the record of the key that seals them.
pub struct Sealed<T> {
    key: KeyRecord,
    encoding: Encoding<T>,
}

impl<T: Serialize + DeserializeOwned> Sealed<T> {
    /// Values that are sealed as JSON, with the key in the record `key` of the partition.
    pub const fn json(partition: Partition, key: &'static str) -> Self {
        Self { key: Namespace::bytes(partition, key, Ttl::Kept), encoding: Encoding::json() }
    }
}

impl<T> Sealed<T> {
    /// Values of another kind under the same key. What they are bound to has to keep the kinds apart.
    pub const fn with_encoding<U>(
        &self,
        encode: fn(&U) -> Result<Zeroizing<Vec<u8>>, StoreError>,
        decode: fn(&[u8]) -> Option<U>,
    ) -> Sealed<U> {
        Sealed { key: self.key, encoding: Encoding { encode, decode } }
    }
}

impl Records<'_> {
    /// The key in a record, made on first use.
    pub async fn key(&self, record: &KeyRecord) -> Result<Secret<Vec<u8>>, StoreError> {
        self.get_or_insert_with(record, (), || {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            self.random.fill(key.as_mut_slice());
            Secret::new(key.to_vec())
        })
        .await
    }

    /// Seals a value. `bound` is not part of the text, but has to be the same to open it. The text is base64url.
    pub async fn seal<T>(&self, sealed: &Sealed<T>, bound: &[u8], value: &T) -> Result<String, StoreError> {
        let plain = (sealed.encoding.encode)(value)?;
        let mut nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce);
        let text = cipher(&self.key(&sealed.key).await?)?
            .encrypt(&Nonce::from(nonce), Payload { msg: &plain, aad: bound })
            .map_err(|_| StoreError::TooLarge)?;
        Ok(base64url(&[nonce.as_slice(), &text].concat()))
    }

    /// Opens what [`Records::seal`] has made of the same kind with the same `bound`; `None` for anything else.
    pub async fn open<T>(&self, sealed: &Sealed<T>, bound: &[u8], text: &str) -> Result<Option<T>, StoreError> {
        let bytes = (text.len() <= MAX_LENGTH).then(|| from_base64url(text)).flatten();
        let Some((nonce, text)) = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk::<NONCE_BYTES>()) else {
            return Ok(None);
        };
        let cipher = cipher(&self.key(&sealed.key).await?)?;
        let plain = cipher.decrypt(&Nonce::from(*nonce), Payload { msg: text, aad: bound }).map(Zeroizing::new);
        Ok(plain.ok().and_then(|plain| (sealed.encoding.decode)(&plain)))
    }
}

fn cipher(key: &Secret<Vec<u8>>) -> Result<Aes256Gcm, StoreError> {
    Aes256Gcm::new_from_slice(key.reveal()).map_err(|_| StoreError::Unreadable)
}
