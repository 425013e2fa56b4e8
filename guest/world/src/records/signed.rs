//! Values that are authenticated (BLAKE3 with a key), so that only this server alters or makes them. Their holder can read them:
//! they are for the host, which keeps what the component has to find again in a later call, and sees every request anyway.
//! What goes to clients is [`Sealed`](super::Sealed).
//!
//! Why not the same for both: in WebAssembly, AES-GCM takes some 30 µs for a kilobyte, and BLAKE3 takes 2 µs.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::encoding::Encoding;
use super::{KeyRecord, Namespace, Partition, Records, Ttl};
use crate::sealing::KEY_BYTES;
use crate::store::StoreError;
use base::encoding::{base64url, same_secret};

/// Characters of the authentication code (256 bits, as base64url), which stands before the value.
const CODE_LENGTH: usize = 43;

/// Values of one kind that are handed to the host, and the record of the key that authenticates them.
pub struct Signed<T> {
    key: KeyRecord,
    /// Keeps values of other kinds apart.
    purpose: &'static str,
    encoding: Encoding<T>,
    max_length: usize,
}

impl<T: Serialize + DeserializeOwned> Signed<T> {
    /// Values of at most `max_length` characters with their code, authenticated for this purpose with the key in the record
    /// `key` of the partition.
    pub const fn json(partition: Partition, key: &'static str, purpose: &'static str, max_length: usize) -> Self {
        let key = Namespace::bytes(partition, key, Ttl::Kept);
        Self { key, purpose, encoding: Encoding::json(), max_length }
    }
}

impl Records<'_> {
    /// Puts the code before a value. One that would be too long to be read again is [`StoreError::TooLarge`].
    pub async fn sign<T>(&self, signed: &Signed<T>, value: &T) -> Result<String, StoreError> {
        let plain = (signed.encoding.encode)(value)?;
        let text = std::str::from_utf8(&plain).map_err(|_| StoreError::Unreadable)?;
        let length = CODE_LENGTH + text.len();
        if length > signed.max_length {
            return Err(StoreError::TooLarge);
        }
        let mut whole = String::with_capacity(length);
        whole.push_str(&self.code(signed, &plain).await?);
        whole.push_str(text);
        Ok(whole)
    }

    /// Reads what [`Records::sign`] has made of the same kind; `None` for anything else.
    pub async fn verified<T>(&self, signed: &Signed<T>, text: &str) -> Result<Option<T>, StoreError> {
        let parts = (text.len() <= signed.max_length).then(|| text.split_at_checked(CODE_LENGTH)).flatten();
        let Some((code, plain)) = parts else { return Ok(None) };
        let expected = self.code(signed, plain.as_bytes()).await?;
        let genuine = same_secret(code.as_bytes(), expected.as_bytes());
        Ok(genuine.then(|| (signed.encoding.decode)(plain.as_bytes())).flatten())
    }

    async fn code<T>(&self, signed: &Signed<T>, plain: &[u8]) -> Result<String, StoreError> {
        let key = self.key(&signed.key).await?;
        if key.reveal().len() != KEY_BYTES {
            return Err(StoreError::Unreadable);
        }
        let derived = Zeroizing::new(blake3::derive_key(signed.purpose, key.reveal()));
        Ok(base64url(blake3::keyed_hash(&derived, plain).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, run, settings};

    const VALUES: Signed<String> = Signed::json(Partition::Application, "key", "tests", 100);
    const OTHERS: Signed<String> = Signed::json(Partition::Application, "key", "others", 100);

    #[test]
    fn a_value_is_read_as_it_was_signed_and_for_its_purpose_only() {
        let records = World::default().records(&settings());
        let signed = run(records.sign(&VALUES, &"the value".to_owned())).unwrap();
        assert_eq!(run(records.verified(&VALUES, &signed)).unwrap().as_deref(), Some("the value"));
        assert_eq!(run(records.verified(&OTHERS, &signed)).unwrap(), None);
    }

    #[test]
    fn nothing_can_be_altered_added_or_made_up() {
        let records = World::default().records(&settings());
        let signed = run(records.sign(&VALUES, &"the value".to_owned())).unwrap();
        for at in 0..signed.len() {
            let mut altered = signed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(run(records.verified(&VALUES, &altered)).unwrap(), None, "character {at}");
        }
        let cut = signed.strip_suffix('"').unwrap().to_owned();
        for made_up in ["", "\"the value\"", &cut, &format!("{signed} "), &signed.replace('v', "ä"), &"A".repeat(101)]
        {
            assert_eq!(run(records.verified(&VALUES, made_up)).unwrap(), None, "{made_up}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_signed() {
        let records = World::default().records(&settings());
        let longest = "x".repeat(100 - CODE_LENGTH - 2);
        let signed = run(records.sign(&VALUES, &longest)).unwrap();
        assert_eq!(run(records.verified(&VALUES, &signed)).unwrap(), Some(longest.clone()));
        let longer = run(records.sign(&VALUES, &(longest + "x")));
        assert!(matches!(longer, Err(StoreError::TooLarge)), "{longer:?}");
    }

    #[test]
    fn another_store_has_another_key() {
        let records = World::default().records(&settings());
        let signed = run(records.sign(&VALUES, &"the value".to_owned())).unwrap();
        let other = World::default();
        crate::Random::fill(&other, &mut [0; 7]);
        assert_eq!(run(other.records(&settings()).verified(&VALUES, &signed)).unwrap(), None);
    }
}
