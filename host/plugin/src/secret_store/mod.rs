//! Named secrets that outlive an instance (`wit/secret-store.wit`).
//!
//! [`SecretStore`] is the trait of a back-end. This module enforces the limits of the WIT contract, once, for all
//! back-ends. Any number of processes may share a store, so `take` and `compare_and_swap` have to be atomic in the
//! back-end itself, not under a lock of this process.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::bindings::secret_store as wit;

#[cfg(any(feature = "redis", feature = "sqlite"))]
mod cipher;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod data_key;
#[cfg(feature = "sqlite")]
mod limiter;
mod memory;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod read_only;
#[cfg(feature = "redis")]
mod redis;
mod report;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "keyring")]
pub use data_key::SystemKeyring;
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub use data_key::{
    DataKeys, GivenDataKeys, KEY_BYTES, KeyBeside, KeyError, KeyFile, KeySource, Keyring, KeyringError, NewKey, Unlock,
};
#[cfg(all(feature = "credentials", any(feature = "redis", feature = "sqlite")))]
pub(crate) use data_key::{OF_URLS, lock_beside};
#[cfg(feature = "sqlite")]
pub use limiter::StoreRateLimiter;
pub use memory::MemoryStore;
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub use read_only::ReadOnly;
#[cfg(feature = "redis")]
pub use redis::{RedisError, RedisOptions, RedisRateLimiter, RedisStore, RedisUrl};
pub use report::StoreReport;
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, SqliteStore, SqliteView};

/// Longest name of a record, in bytes (from the WIT contract).
pub const MAX_KEY_BYTES: usize = 512;

/// Longest record, in bytes (from the WIT contract). A token cache entry is a few KiB.
pub const MAX_VALUE_BYTES: usize = 256 * 1024;

/// The prefix of the names of the host's own records. The component can neither read nor write them.
pub const HOST_PREFIX: &str = "host/";

/// The prefix of the names of counts of operations, which a rate limiter keeps in the store.
const COUNTS_PREFIX: &str = "host/limit/";

/// The content of a record. Redacted in `Debug`, zeroised when the last of its clones, which share it, is dropped.
#[derive(Clone)]
pub struct SecretBytes(Arc<Zeroizing<Vec<u8>>>);

impl SecretBytes {
    /// Takes ownership of a value.
    pub fn new(value: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(value)))
    }

    /// The value itself.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why the store could not carry out an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The key or the value exceeds its limit; nothing was changed.
    #[error("the record is too large")]
    TooLarge,
    /// A record exists, but it was altered, or sealed with another key.
    #[error("the record cannot be opened")]
    Unreadable,
    /// The store cannot be reached or written now.
    #[error("the secret store is unavailable: {0}")]
    Unavailable(String),
    /// A part of the store's file cannot be read. The file stays as it is: other parts may be good.
    #[error(
        "the secret store {path} is damaged: {reason}. `entra-mcp store check` says what can be read of it; stop \
         every process that has it open, and restore it from a backup, or move it away with the files beside it and sign in \
         again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The store has no room for another record; nothing was changed.
    #[error("the secret store is full: {0}")]
    Full(String),
}

/// Most records of a store, unless set otherwise. A session has some five.
pub const DEFAULT_MAX_RECORDS: u64 = 1_000_000;

/// Most bytes of all records of a store as they are stored, unless set otherwise: 4 GiB.
pub const DEFAULT_MAX_BYTES: u64 = 4 << 30;

/// What lives no longer than this has room in a full store too: answers to refreshes (3 minutes), leases (70 s), and what says
/// that the server is ready (5 s), without which sessions would end. What strangers leave lives longer (10 minutes at least), but
/// for the lease and the failure of a document that is fetched for them, and for counts of their operations, which have no part
/// in it.
const SHORT: Duration = Duration::from_secs(5 * 60);

/// The part of the limits that is kept for that, above them.
const RESERVE: u64 = 20;

/// The size limits of a store in a file or in memory. A full store can still replace existing records, and keeps a
/// twentieth more for records that live for five minutes at most, such as leases, but not for counts of operations. So sessions
/// go on in a full store.
///
/// The component bounds what strangers leave (registrations, sign-ins that wait, documents) far below that: 16,384
/// records and 64 MiB. It also bounds the documents of clients that people have signed in with: 4,096 records and 16
/// MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Most records.
    pub records: u64,
    /// Most bytes of all of them as they are stored.
    pub bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { records: DEFAULT_MAX_RECORDS, bytes: DEFAULT_MAX_BYTES }
    }
}

impl StoreLimits {
    /// The limits for a record of this name that lives so long.
    fn for_record(self, key: &str, ttl: Option<Duration>) -> Self {
        let more = |limit: u64| limit.saturating_add(limit / RESERVE);
        match ttl {
            Some(ttl) if ttl <= SHORT && !key.starts_with(COUNTS_PREFIX) => {
                Self { records: more(self.records), bytes: more(self.bytes) }
            }
            _ => self,
        }
    }
}

/// A back-end. It counts the time to live on the [`Clock`](crate::clock::Clock) that it was made with.
#[async_trait]
pub trait SecretStore: Send + Sync + 'static {
    /// Reads a record.
    async fn get(&self, key: &str) -> Result<Option<SecretBytes>, StoreError>;
    /// Writes a record; without `ttl` it stays until deleted.
    async fn put(&self, key: &str, value: SecretBytes, ttl: Option<Duration>) -> Result<(), StoreError>;
    /// Reads and deletes in one step: at most one of any number of concurrent callers gets the record.
    async fn take(&self, key: &str) -> Result<Option<SecretBytes>, StoreError>;
    /// Writes only if the record is `expected` (`None`: only if there is none), in one step.
    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<SecretBytes>,
        value: SecretBytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError>;
    /// Deletes a record, whether or not it exists.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// Compares two secrets in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The state of an instance.
pub(crate) struct SecretStoreCtx {
    store: Arc<dyn SecretStore>,
}

impl SecretStoreCtx {
    pub(crate) fn new(store: Arc<dyn SecretStore>) -> Self {
        Self { store }
    }
}

fn check_key(key: &str) -> Result<(), wit::StoreError> {
    if key.starts_with(HOST_PREFIX) {
        return Err(wit::StoreError::Unavailable(format!("names that begin with {HOST_PREFIX:?} belong to the host")));
    }
    if key.len() > MAX_KEY_BYTES { Err(wit::StoreError::TooLarge) } else { Ok(()) }
}

fn check_value(value: &[u8]) -> Result<(), wit::StoreError> {
    if value.len() > MAX_VALUE_BYTES { Err(wit::StoreError::TooLarge) } else { Ok(()) }
}

fn lifetime(ttl_seconds: Option<u32>) -> Option<Duration> {
    ttl_seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

impl From<StoreError> for wit::StoreError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge => Self::TooLarge,
            StoreError::Unreadable => Self::Unreadable,
            StoreError::Unavailable(reason) => {
                tracing::warn!(%reason, "the secret store is unavailable");
                Self::Unavailable(reason)
            }
            damaged @ StoreError::Damaged { .. } => {
                let text = damaged.to_string();
                tracing::error!("{text}");
                Self::Unavailable(text)
            }
            StoreError::Full(reason) => {
                tracing::warn!(%reason, "the secret store is full");
                Self::Full(reason)
            }
        }
    }
}

impl From<Result<Option<SecretBytes>, StoreError>> for wit::Lookup {
    fn from(read: Result<Option<SecretBytes>, StoreError>) -> Self {
        match read {
            Ok(Some(value)) => Self::Found(value.reveal().to_vec()),
            Ok(None) => Self::None,
            Err(error) => Self::Failed(error.into()),
        }
    }
}

impl wit::Host for SecretStoreCtx {
    async fn get(&mut self, key: String) -> wasmtime::Result<wit::Lookup> {
        if let Err(error) = check_key(&key) {
            return Ok(wit::Lookup::Failed(error));
        }
        Ok(self.store.get(&key).await.into())
    }

    async fn put(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> wasmtime::Result<Result<(), wit::StoreError>> {
        let value = SecretBytes::new(value);
        if let Err(error) = check_key(&key).and_then(|()| check_value(value.reveal())) {
            return Ok(Err(error));
        }
        Ok(self.store.put(&key, value, lifetime(ttl_seconds)).await.map_err(Into::into))
    }

    async fn take(&mut self, key: String) -> wasmtime::Result<wit::Lookup> {
        if let Err(error) = check_key(&key) {
            return Ok(wit::Lookup::Failed(error));
        }
        Ok(self.store.take(&key).await.into())
    }

    async fn compare_and_swap(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> wasmtime::Result<Result<bool, wit::StoreError>> {
        let (expected, value) = (expected.map(SecretBytes::new), SecretBytes::new(value));
        if let Err(error) = check_key(&key).and_then(|()| check_value(value.reveal())) {
            return Ok(Err(error));
        }
        let swapped = self.store.compare_and_swap(&key, expected, value, lifetime(ttl_seconds)).await;
        Ok(swapped.map_err(Into::into))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), wit::StoreError>> {
        if let Err(error) = check_key(&key) {
            return Ok(Err(error));
        }
        Ok(self.store.delete(&key).await.map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn ctx() -> SecretStoreCtx {
        SecretStoreCtx::new(Arc::new(MemoryStore::new(Arc::new(ManualClock::new(0)))))
    }

    #[tokio::test]
    async fn a_name_over_the_limit_is_refused_by_every_function() {
        use wit::Host as _;
        let (mut ctx, key) = (ctx(), "k".repeat(MAX_KEY_BYTES + 1));

        assert!(matches!(ctx.get(key.clone()).await.unwrap(), wit::Lookup::Failed(wit::StoreError::TooLarge)));
        assert!(matches!(ctx.put(key.clone(), vec![1], None).await.unwrap(), Err(wit::StoreError::TooLarge)));
        assert!(matches!(ctx.take(key.clone()).await.unwrap(), wit::Lookup::Failed(wit::StoreError::TooLarge)));
        let swapped = ctx.compare_and_swap(key.clone(), None, vec![1], None).await.unwrap();
        assert!(matches!(swapped, Err(wit::StoreError::TooLarge)));
        assert!(matches!(ctx.delete(key).await.unwrap(), Err(wit::StoreError::TooLarge)));
    }

    #[tokio::test]
    async fn the_records_of_the_host_are_out_of_reach() {
        use wit::Host as _;
        let (mut ctx, key) = (ctx(), format!("{HOST_PREFIX}client-secret/app"));
        ctx.store.put(&key, SecretBytes::new(b"secret".to_vec()), None).await.unwrap();
        let denied = |error| matches!(error, Some(wit::StoreError::Unavailable(_)));

        let failure = |lookup| match lookup {
            wit::Lookup::Failed(error) => Some(error),
            wit::Lookup::Found(_) | wit::Lookup::None => None,
        };
        assert!(denied(failure(ctx.get(key.clone()).await.unwrap())));
        assert!(denied(ctx.put(key.clone(), vec![1], None).await.unwrap().err()));
        assert!(denied(failure(ctx.take(key.clone()).await.unwrap())));
        assert!(denied(ctx.compare_and_swap(key.clone(), None, vec![1], None).await.unwrap().err()));
        assert!(denied(ctx.delete(key.clone()).await.unwrap().err()));
        assert_eq!(ctx.store.get(&key).await.unwrap().unwrap().reveal(), b"secret");
    }

    #[tokio::test]
    async fn a_value_at_the_limit_is_stored_and_one_byte_more_is_refused() {
        use wit::Host as _;
        let mut ctx = ctx();

        ctx.put("k".into(), vec![7; MAX_VALUE_BYTES], None).await.unwrap().unwrap();
        let refused = ctx.put("k".into(), vec![8; MAX_VALUE_BYTES + 1], None).await.unwrap();

        assert!(matches!(refused, Err(wit::StoreError::TooLarge)));
        let wit::Lookup::Found(value) = ctx.get("k".into()).await.unwrap() else { panic!("the record is there") };
        assert_eq!(value, vec![7; MAX_VALUE_BYTES]);
    }

    #[test]
    fn the_component_is_told_of_damage_what_the_operator_can_do() {
        let damaged = StoreError::Damaged { path: "store.db".into(), reason: "a page is malformed".to_owned() };
        let wit::StoreError::Unavailable(text) = wit::StoreError::from(damaged) else { panic!("it is unavailable") };
        assert_eq!(
            text,
            "the secret store store.db is damaged: a page is malformed. `entra-mcp store check` says what can be read of it; \
             stop every process that has it open, and restore it from a backup, or move it away with the files beside it and \
             sign in again"
        );
    }

    #[test]
    fn secrets_are_redacted_in_debug() {
        assert_eq!(format!("{:?}", SecretBytes::new(b"token".to_vec())), "[redacted]");
    }
}
