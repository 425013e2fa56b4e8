//! Keys that are derived from one in the store, for what is authenticated but need not be hidden.

use super::{KeyRecord, Records};
use crate::store::StoreError;
use base::secret::Secret;

/// HMAC-SHA256.
pub fn mac(key: &Secret<Vec<u8>>, text: &[u8]) -> [u8; 32] {
    hmac_sha256::HMAC::mac(text, key.reveal())
}

impl Records<'_> {
    /// A key of its own for what is `bound`: the same in every instance on one store, and for nothing else.
    pub async fn derived_key(&self, record: &KeyRecord, bound: &[u8]) -> Result<Secret<Vec<u8>>, StoreError> {
        let key = self.key(record).await?;
        Ok(Secret::new(mac(&key, bound).to_vec()))
    }
}
