//! Sealing bytes (AES-256-GCM), with a key and a nonce of their own for each text.
//!
//! Both are derived with HKDF from a key, the purpose and 192 random bits that the text begins with. AES-GCM loses its
//! promises when a nonce comes twice under one key, which 96 random bits under one key for ever allow after some 2^32
//! texts; here it takes 2^80 texts for the same chance (2^-32) that two share anything.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac_sha256::{HKDF, HMAC};
use zeroize::Zeroizing;

use crate::capabilities::Random;
use crate::store::StoreError;

/// Bytes of a key (AES-256).
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;
/// Random bytes that a text begins with.
const SALT_BYTES: usize = 24;

/// Seals: the salt, then the ciphertext with its tag. `bound` is not part of the text, but has to be the same to open it.
/// Texts of one key with different purposes share nothing.
pub fn seal(random: &dyn Random, key: &[u8], purpose: &str, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt);
    let (cipher, nonce) = derive(key, purpose, &salt).ok_or(StoreError::Unreadable)?;
    let text = cipher.encrypt(&nonce, Payload { msg: plain, aad: bound }).map_err(|_| StoreError::TooLarge)?;
    Ok([salt.as_slice(), &text].concat())
}

/// Opens what [`seal`] has made with the same key, purpose and `bound`; `None` for anything else.
pub fn open(key: &[u8], purpose: &str, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, text) = sealed.split_first_chunk::<SALT_BYTES>()?;
    let (cipher, nonce) = derive(key, purpose, salt)?;
    cipher.decrypt(&nonce, Payload { msg: text, aad: bound }).ok().map(Zeroizing::new)
}

/// A name that says nothing about what it is derived from to a reader without the key, and is the same each time.
pub fn hidden_name(key: &[u8], purpose: &str, name: &str) -> [u8; 32] {
    let mut naming = Zeroizing::new([0; KEY_BYTES]);
    let extracted = Zeroizing::new(HKDF::extract([], key));
    HKDF::expand(naming.as_mut_slice(), extracted.as_slice(), purpose);
    HMAC::mac(name, naming.as_slice())
}

/// The key and the nonce of one text (RFC 5869).
fn derive(
    key: &[u8],
    purpose: &str,
    salt: &[u8; SALT_BYTES],
) -> Option<(Aes256Gcm, Nonce<aes_gcm::aead::consts::U12>)> {
    let mut derived = Zeroizing::new([0; KEY_BYTES + NONCE_BYTES]);
    let extracted = Zeroizing::new(HKDF::extract(salt, key));
    HKDF::expand(derived.as_mut_slice(), extracted.as_slice(), purpose);
    let (key, nonce) = derived.split_first_chunk::<KEY_BYTES>()?;
    let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).ok()?;
    Some((Aes256Gcm::new_from_slice(key).ok()?, Nonce::from(nonce)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

    #[test]
    fn a_text_opens_with_its_key_purpose_and_bound_only() {
        let sealed = seal(&World::default(), &KEY, "tests", b"bound", b"plain").unwrap();
        assert_eq!(open(&KEY, "tests", b"bound", &sealed).unwrap().as_slice(), b"plain");
        assert!(open(&[8; KEY_BYTES], "tests", b"bound", &sealed).is_none());
        assert!(open(&KEY, "others", b"bound", &sealed).is_none());
        assert!(open(&KEY, "tests", b"another", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(open(&KEY, "tests", b"bound", &altered).is_none(), "byte {at}");
        }
        assert!(open(&KEY, "tests", b"bound", &sealed[..10]).is_none());
    }

    #[test]
    fn a_hidden_name_is_the_same_each_time_and_another_one_with_another_key_or_purpose() {
        let name = hidden_name(&KEY, "tests", "session/1");
        assert_eq!(name, hidden_name(&KEY, "tests", "session/1"));
        assert_ne!(name, hidden_name(&KEY, "tests", "session/2"));
        assert_ne!(name, hidden_name(&KEY, "others", "session/1"));
        assert_ne!(name, hidden_name(&[8; KEY_BYTES], "tests", "session/1"));
    }
}
