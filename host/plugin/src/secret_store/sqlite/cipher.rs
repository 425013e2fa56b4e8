//! How values are sealed and names are hidden.
//!
//! Each value has a key of its own: HKDF-SHA256 of the data key, a random salt of 256 bits that is stored with the value,
//! and the name of the record. So no key is used twice, and a nonce need not be random: it is zero. AES-GCM under one key
//! for ever, with random nonces of 96 bits, is safe for some 2^32 values only (NIST SP 800-38D section 8.3), and a server
//! that seals a thousand values a second reaches that in 50 days. Here two of 2^112 values share a key with a chance of
//! 2^-32.
//!
//! What earlier versions sealed, under one key and with a random nonce, is opened as well; it is sealed anew when the
//! record is written the next time.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::super::{SecretBytes, StoreError};
use super::KEY_BYTES;

/// Size of what makes the key of a value different from all others, in bytes.
const SALT_BYTES: usize = 32;

/// The nonce of every value: none has the key of another.
const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// Seals values and hides names, with keys derived from the one in the key file.
pub(super) struct Cipher {
    /// What the keys of values are derived from.
    values: Zeroizing<[u8; KEY_BYTES]>,
    /// The one key of values that earlier versions have sealed.
    earlier: LessSafeKey,
    naming: hmac::Key,
    random: SystemRandom,
}

/// The length of a key, for ring.
struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

impl Cipher {
    pub(super) fn derive(key: &[u8]) -> Option<Self> {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, b"entra-mcp secret store 1").extract(key);
        let mut values = Zeroizing::new([0; KEY_BYTES]);
        derived.expand(&[b"keys of values"], KeyLength).ok()?.fill(values.as_mut_slice()).ok()?;
        let earlier: UnboundKey = derived.expand(&[b"seal values"], &AES_256_GCM).ok()?.into();
        let naming: hmac::Key = derived.expand(&[b"hide names"], hmac::HMAC_SHA256).ok()?.into();
        Some(Self { values, earlier: LessSafeKey::new(earlier), naming, random: SystemRandom::new() })
    }

    pub(super) fn hidden_name(&self, key: &str) -> Vec<u8> {
        hmac::sign(&self.naming, key.as_bytes()).as_ref().to_vec()
    }

    /// The key of one value. The name is part of it, and of the associated data.
    fn key_of(&self, key: &str, salt: &[u8]) -> Option<LessSafeKey> {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.values.as_slice());
        let sealing: UnboundKey = derived.expand(&[key.as_bytes()], &AES_256_GCM).ok()?.into();
        Some(LessSafeKey::new(sealing))
    }

    /// The salt, then the ciphertext with its tag.
    pub(super) fn seal(&self, key: &str, expires_at: Option<i64>, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |reason: &str| StoreError::Unavailable(reason.into());
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| failed("no randomness"))?;
        let sealing = self.key_of(key, &salt).ok_or_else(|| failed("the key of the value cannot be derived"))?;
        let mut buffer = Zeroizing::new(value.to_vec());
        sealing
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(NONCE),
                associated_data(key, expires_at),
                &mut *buffer,
            )
            .map_err(|_| failed("the value cannot be sealed"))?;
        Ok([&salt[..], &buffer].concat())
    }

    pub(super) fn open(&self, key: &str, expires_at: Option<i64>, sealed: &[u8]) -> Result<SecretBytes, StoreError> {
        let found = self.open_own(key, expires_at, sealed).or_else(|| self.open_earlier(key, expires_at, sealed));
        found.ok_or(StoreError::Unreadable)
    }

    fn open_own(&self, key: &str, expires_at: Option<i64>, sealed: &[u8]) -> Option<SecretBytes> {
        let (salt, ciphertext) = sealed.split_first_chunk::<SALT_BYTES>()?;
        open(&self.key_of(key, salt)?, NONCE, associated_data(key, expires_at), ciphertext)
    }

    /// The random nonce, then the ciphertext with its tag.
    fn open_earlier(&self, key: &str, expires_at: Option<i64>, sealed: &[u8]) -> Option<SecretBytes> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        open(&self.earlier, *nonce, associated_data(key, expires_at), ciphertext)
    }

    /// Seals as earlier versions did.
    #[cfg(test)]
    pub(super) fn seal_earlier(&self, key: &str, expires_at: Option<i64>, value: &[u8]) -> Vec<u8> {
        let (nonce, mut buffer) = ([7; NONCE_LEN], value.to_vec());
        let data = associated_data(key, expires_at);
        let sealed = self.earlier.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), data, &mut buffer);
        sealed.map(|()| [&nonce[..], &buffer].concat()).unwrap()
    }
}

fn open(key: &LessSafeKey, nonce: [u8; NONCE_LEN], data: Aad<Vec<u8>>, ciphertext: &[u8]) -> Option<SecretBytes> {
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce), data, &mut buffer).ok()?.len();
    buffer.truncate(plain);
    Some(SecretBytes::new(std::mem::take(&mut *buffer)))
}

/// Binds a sealed value to its name and its expiry. The expiry has a fixed length, so the two cannot run together.
fn associated_data(key: &str, expires_at: Option<i64>) -> Aad<Vec<u8>> {
    let mut data = expires_at.unwrap_or(i64::MIN).to_be_bytes().to_vec();
    data.extend_from_slice(key.as_bytes());
    Aad::from(data)
}
