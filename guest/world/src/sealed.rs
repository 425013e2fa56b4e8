//! Values that go out and come back: sealed (AES-256-GCM), so that nobody else can read, alter or make them.
//!
//! What is sealed is bound to its purpose and whatever else the caller names. That it is not too old, and not used
//! twice, is for the caller to see to.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base::Secret;
use base::encoding::{base64url, from_base64url};

use crate::capabilities::{Keep, StoreError};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Longer than anything that is sealed here, in characters: a longer text is not one of ours.
const MAX_LENGTH: usize = 4096;

/// Seals `plain` with the key in the record `key`, which is made on first use. `bound` is not part of the text, but
/// has to be the same to open it. The text is base64url.
pub fn seal(world: &dyn Keep, key: &str, bound: &[u8], plain: &[u8]) -> Result<String, StoreError> {
    let mut nonce = [0; NONCE_BYTES];
    world.random().fill(&mut nonce);
    let sealed = cipher(&read_key(world, key)?)?
        .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: bound })
        .map_err(|_| StoreError::TooLarge)?;
    Ok(base64url(&[nonce.as_slice(), &sealed].concat()))
}

/// Opens what [`seal`] has made with the same key and the same `bound`; `None` for anything else.
pub fn open(world: &dyn Keep, key: &str, bound: &[u8], sealed: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
    let bytes = (sealed.len() <= MAX_LENGTH).then(|| from_base64url(sealed)).flatten();
    let Some((nonce, sealed)) = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk::<NONCE_BYTES>()) else {
        return Ok(None);
    };
    let plain = cipher(&read_key(world, key)?)?.decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: bound });
    Ok(plain.ok().map(Secret::new))
}

fn cipher(key: &Secret<Vec<u8>>) -> Result<Aes256Gcm, StoreError> {
    Aes256Gcm::new_from_slice(key.reveal()).map_err(|_| StoreError::Unreadable)
}

/// The key, made on first use. Kept in the store: what was sealed may come back to another instance.
pub fn read_key(world: &dyn Keep, record: &str) -> Result<Secret<Vec<u8>>, StoreError> {
    if let Some(key) = world.store().get(record)? {
        return Ok(key);
    }
    let mut key = zeroize::Zeroizing::new([0; KEY_BYTES]);
    world.random().fill(key.as_mut_slice());
    if world.store().compare_and_swap(record, None, key.as_slice(), None)? {
        return Ok(Secret::new(key.to_vec()));
    }
    world.store().get(record)?.ok_or(StoreError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn plain(opened: Option<Secret<Vec<u8>>>) -> Option<Vec<u8>> {
        opened.map(|secret| secret.reveal().clone())
    }

    #[test]
    fn what_was_sealed_is_opened_for_the_same_purpose_only() {
        let world = World::default();
        let sealed = seal(&world, "key", b"purpose", b"plain").unwrap();
        assert_eq!(plain(open(&world, "key", b"purpose", &sealed).unwrap()), Some(b"plain".to_vec()));
        assert_eq!(plain(open(&world, "key", b"another", &sealed).unwrap()), None);
        assert_eq!(plain(open(&world, "another key", b"purpose", &sealed).unwrap()), None);
    }

    #[test]
    fn sealing_twice_shows_nothing_of_what_is_the_same() {
        let world = World::default();
        assert_ne!(seal(&world, "key", b"", b"plain").unwrap(), seal(&world, "key", b"", b"plain").unwrap());
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let world = World::default();
        let bytes = from_base64url(&seal(&world, "key", b"", b"plain").unwrap()).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(plain(open(&world, "key", b"", &base64url(&changed)).unwrap()), None);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let world = World::default();
        for sealed in ["", "x", "====", "AAAA", "ä", &"A".repeat(5000)] {
            assert_eq!(plain(open(&world, "key", b"", sealed).unwrap()), None);
        }
    }
}
