//! Values that the host keeps from one call to a later one, sealed so that only this server reads, alters or makes them
//! (`siv.rs`): each call of a server behind seals one and opens it again.
//!
//! Threat: a host writes what it keeps to a log. A value then tells nothing of its caller to a reader of the log.
//!
//! What goes to clients is [`Sealed`](super::Sealed), which also binds a value to its holder.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::encoding::Encoding;
use super::{KeyRecord, Namespace, Partition, Records, Ttl};
use crate::sealing::KEY_BYTES;
use crate::siv;
use crate::store::StoreError;
use base::encoding::{base64url, from_base64url};
use base::secret::Secret;

/// Values of one kind that are handed to the host, and the record of the key that seals them.
pub struct SealedForHost<T> {
    key: KeyRecord,
    /// Keeps values of other kinds apart.
    purpose: &'static str,
    encoding: Encoding<T>,
    max_length: usize,
}

impl<T: Serialize + DeserializeOwned> SealedForHost<T> {
    /// Values of at most `max_length` characters once they are sealed, for this purpose, with the key in the record `key` of
    /// the partition.
    pub const fn json(partition: Partition, key: &'static str, purpose: &'static str, max_length: usize) -> Self {
        let key = Namespace::bytes(partition, key, Ttl::Kept);
        Self { key, purpose, encoding: Encoding::json(), max_length }
    }
}

impl Records<'_> {
    /// Seals a value. The text is base64url. One that would be too long to be opened again is [`StoreError::TooLarge`].
    pub async fn seal_for_host<T>(&self, sealed: &SealedForHost<T>, value: &T) -> Result<String, StoreError> {
        let plain = (sealed.encoding.encode)(value)?;
        let key = self.key_for_host(sealed).await?;
        let text = base64url(&siv::seal(key.reveal(), sealed.purpose, &plain));
        if text.len() <= sealed.max_length { Ok(text) } else { Err(StoreError::TooLarge) }
    }

    /// Opens what [`Records::seal_for_host`] has made of the same kind; `None` for anything else.
    pub async fn open_from_host<T>(&self, sealed: &SealedForHost<T>, text: &str) -> Result<Option<T>, StoreError> {
        let bytes = (text.len() <= sealed.max_length).then(|| from_base64url(text)).flatten();
        let Some(bytes) = bytes else { return Ok(None) };
        let key = self.key_for_host(sealed).await?;
        let plain = siv::open(key.reveal(), sealed.purpose, &bytes);
        Ok(plain.and_then(|plain| (sealed.encoding.decode)(&plain)))
    }

    async fn key_for_host<T>(&self, sealed: &SealedForHost<T>) -> Result<Secret<Vec<u8>>, StoreError> {
        let key = self.key(&sealed.key).await?;
        if key.reveal().len() == KEY_BYTES { Ok(key) } else { Err(StoreError::Unreadable) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, run, settings};

    const VALUES: SealedForHost<String> = SealedForHost::json(Partition::Application, "key", "tests", 100);
    const OTHERS: SealedForHost<String> = SealedForHost::json(Partition::Application, "key", "others", 100);

    #[test]
    fn a_value_is_read_as_it_was_sealed_and_for_its_purpose_only() {
        let records = World::default().records(&settings());
        let sealed = run(records.seal_for_host(&VALUES, &"the value".to_owned())).unwrap();
        assert_eq!(run(records.open_from_host(&VALUES, &sealed)).unwrap().as_deref(), Some("the value"));
        assert_eq!(run(records.open_from_host(&OTHERS, &sealed)).unwrap(), None);
    }

    #[test]
    fn nothing_can_be_altered_added_or_made_up() {
        let records = World::default().records(&settings());
        let sealed = run(records.seal_for_host(&VALUES, &"the value".to_owned())).unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(run(records.open_from_host(&VALUES, &altered)).unwrap(), None, "character {at}");
        }
        for made_up in
            ["", "\"the value\"", &sealed[1..], &format!("{sealed}A"), &format!("{sealed}="), &"A".repeat(101)]
        {
            assert_eq!(run(records.open_from_host(&VALUES, made_up)).unwrap(), None, "{made_up}");
        }
    }

    /// Handles were signed once: the code of the value, then the value.
    #[test]
    fn a_value_that_is_only_signed_is_none() {
        let records = World::default().records(&settings());
        let key = run(records.key(&VALUES.key)).unwrap();
        let plain = b"\"the value\"";
        let code = blake3::keyed_hash(&blake3::derive_key("tests", key.reveal()), plain);
        let signed = base64url(code.as_bytes()) + "\"the value\"";
        assert_eq!(run(records.open_from_host(&VALUES, &signed)).unwrap(), None);
        let as_bytes = base64url(&[code.as_bytes().as_slice(), plain].concat());
        assert_eq!(run(records.open_from_host(&VALUES, &as_bytes)).unwrap(), None);
    }

    #[test]
    fn what_is_too_long_is_not_sealed() {
        let records = World::default().records(&settings());
        // 75 bytes are 100 characters: the code has 32, and the quotes of JSON are two.
        let longest = "x".repeat(75 - 32 - 2);
        let sealed = run(records.seal_for_host(&VALUES, &longest)).unwrap();
        assert_eq!(sealed.len(), 100);
        assert_eq!(run(records.open_from_host(&VALUES, &sealed)).unwrap(), Some(longest.clone()));
        let longer = run(records.seal_for_host(&VALUES, &(longest + "x")));
        assert!(matches!(longer, Err(StoreError::TooLarge)), "{longer:?}");
    }

    #[test]
    fn another_store_has_another_key() {
        let records = World::default().records(&settings());
        let sealed = run(records.seal_for_host(&VALUES, &"the value".to_owned())).unwrap();
        let other = World::default();
        crate::Random::fill(&other, &mut [0; 7]);
        assert_eq!(run(other.records(&settings()).open_from_host(&VALUES, &sealed)).unwrap(), None);
    }
}
