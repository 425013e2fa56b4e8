//! The port to the secret store: records that outlive an instance, as bytes.
//!
//! [`Records`](crate::records::Records) is its only caller. Every other module works with typed records.

use std::time::Duration;

use async_trait::async_trait;
use base::secret::Secret;

/// Why the secret store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The key or the value is over its limit.
    #[error("the record is too large")]
    TooLarge,
    /// The record was altered, sealed with another key, or written by something that is not this program.
    #[error("the record cannot be opened")]
    Unreadable,
    /// The store cannot be reached or written now. The text is for the log, and the host has logged it.
    #[error("the secret store is unavailable now: see the log")]
    Unavailable(String),
    /// The store has no room for another record. Nothing was changed. The text is for the log, and the host has logged it.
    #[error("the secret store is full: see the log")]
    Full(String),
    /// Other calls have changed the record each time this call tried to.
    #[error("other calls change the record all the time")]
    Contended,
}

/// Records that outlive an instance, shared with other instances and processes.
///
/// `take` and `compare_and_swap` are atomic for all that share the store. A record whose time to live has passed is as if
/// it had never been stored.
#[async_trait(?Send)]
pub trait Store {
    /// Reads a record.
    async fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError>;
    /// Writes a record. `None` keeps it until it is deleted.
    async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError>;
    /// Reads and deletes a record in one step.
    async fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError>;
    /// Writes a record only if it is still `expected`. Returns whether it was written.
    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError>;
    /// Deletes a record, whether or not it exists.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// The store of a host that has none.
#[derive(Debug, Clone, Copy)]
pub struct NoStore;

impl NoStore {
    fn fail<T>() -> Result<T, StoreError> {
        Err(StoreError::Unavailable("this host has no store".to_owned()))
    }
}

#[async_trait(?Send)]
impl Store for NoStore {
    async fn get(&self, _: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        Self::fail()
    }

    async fn put(&self, _: &str, _: &[u8], _: Option<Duration>) -> Result<(), StoreError> {
        Self::fail()
    }

    async fn take(&self, _: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        Self::fail()
    }

    async fn compare_and_swap(
        &self,
        _: &str,
        _: Option<&[u8]>,
        _: &[u8],
        _: Option<Duration>,
    ) -> Result<bool, StoreError> {
        Self::fail()
    }

    async fn delete(&self, _: &str) -> Result<(), StoreError> {
        Self::fail()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_store_keeps_the_reason_for_the_log() {
        let error = StoreError::Unavailable("cannot open /home/alice/.local/share/store.sqlite".to_owned());
        assert!(!error.to_string().contains("alice"));
    }
}
