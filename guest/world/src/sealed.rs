//! Values that go out and come back: sealed (AES-256-GCM), so that nobody else can read, alter or make them.
//!
//! What is sealed is bound to its purpose and whatever else the caller names. That it is not too old, and not used
//! twice, is for the caller to see to.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};

use crate::encoding::{base64url, from_base64url};
use crate::environment::{Environment, StoreError};
use crate::secret::Secret;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Longer than anything that is sealed here, in characters: a longer text is not one of ours.
const MAX_LENGTH: usize = 4096;

/// Seals `plain` with the key in the record `key`, which is made on first use. `bound` is not part of the text, but
/// has to be the same to open it. The text is base64url.
pub(crate) fn seal(env: &Environment, key: &str, bound: &[u8], plain: &[u8]) -> Result<String, StoreError> {
    let mut nonce = [0; NONCE_BYTES];
    env.random.fill(&mut nonce);
    let sealed = cipher(&read_key(env, key)?)?
        .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: bound })
        .map_err(|_| StoreError::TooLarge)?;
    Ok(base64url(&[nonce.as_slice(), &sealed].concat()))
}

/// Opens what [`seal`] has made with the same key and the same `bound`; `None` for anything else.
pub(crate) fn open(
    env: &Environment,
    key: &str,
    bound: &[u8],
    sealed: &str,
) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
    let bytes = (sealed.len() <= MAX_LENGTH).then(|| from_base64url(sealed)).flatten();
    let Some((nonce, sealed)) = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk::<NONCE_BYTES>()) else {
        return Ok(None);
    };
    let plain = cipher(&read_key(env, key)?)?.decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: bound });
    Ok(plain.ok().map(Secret::new))
}

fn cipher(key: &Secret<Vec<u8>>) -> Result<Aes256Gcm, StoreError> {
    Aes256Gcm::new_from_slice(key.reveal()).map_err(|_| StoreError::Unreadable)
}

/// The key, made on first use. Kept in the store: what was sealed may come back to another instance.
pub(crate) fn read_key(env: &Environment, record: &str) -> Result<Secret<Vec<u8>>, StoreError> {
    if let Some(key) = env.store.get(record)? {
        return Ok(key);
    }
    let mut key = zeroize::Zeroizing::new([0; KEY_BYTES]);
    env.random.fill(key.as_mut_slice());
    if env.store.compare_and_swap(record, None, key.as_slice(), None)? {
        return Ok(Secret::new(key.to_vec()));
    }
    env.store.get(record)?.ok_or(StoreError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::fake::World;

    fn plain(opened: Option<Secret<Vec<u8>>>) -> Option<Vec<u8>> {
        opened.map(|secret| secret.reveal().clone())
    }

    #[test]
    fn what_was_sealed_is_opened_for_the_same_purpose_only() {
        let env = World::default().environment();
        let sealed = seal(&env, "key", b"purpose", b"plain").unwrap();
        assert_eq!(plain(open(&env, "key", b"purpose", &sealed).unwrap()), Some(b"plain".to_vec()));
        assert_eq!(plain(open(&env, "key", b"another", &sealed).unwrap()), None);
        assert_eq!(plain(open(&env, "another key", b"purpose", &sealed).unwrap()), None);
    }

    #[test]
    fn sealing_twice_shows_nothing_of_what_is_the_same() {
        let env = World::default().environment();
        assert_ne!(seal(&env, "key", b"", b"plain").unwrap(), seal(&env, "key", b"", b"plain").unwrap());
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let env = World::default().environment();
        let bytes = from_base64url(&seal(&env, "key", b"", b"plain").unwrap()).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(plain(open(&env, "key", b"", &base64url(&changed)).unwrap()), None);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let env = World::default().environment();
        for sealed in ["", "x", "====", "AAAA", "ä", &"A".repeat(5000)] {
            assert_eq!(plain(open(&env, "key", b"", sealed).unwrap()), None);
        }
    }
}
