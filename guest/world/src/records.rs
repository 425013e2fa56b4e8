//! Typed records in the secret store.
//!
//! A [`Namespace`] says of one kind of record where it is, what it holds, how long it lives, and what a damaged one means.
//! [`Records`] reads and writes them. Key schemes, times to live and compare-and-swap live here and nowhere else.
//!
//! Threat: several processes change the same record at the same moment, and any of them may vanish between two steps. So
//! every change that depends on what was read is a compare-and-swap: [`Records::update`], or [`Records::read`] followed by
//! [`Records::replace`].

pub mod derived;
mod encoding;
mod for_host;
mod key;
mod known_keys;
mod lease;
mod namespace;
mod parsed;
mod ring;
mod sealed;

use crate::capabilities::{Clock, Random};
use crate::store::{NoStore, Store, StoreError};
use base::encoding::same_bytes;
use base::secret::Secret;

pub use for_host::SealedForHost;
pub use key::{Key, Partition, Partitions};
#[cfg(any(test, feature = "testing"))]
pub(crate) use lease::RELEASED;
pub use lease::{Holder, Lease};
pub use namespace::{Namespace, Ttl};
pub use parsed::ParsedRecords;
pub use ring::Ring;
pub use sealed::{KeyRecord, Sealed, SealedUnder};

pub(crate) use encoding::{from_json, to_json};

use namespace::Tolerance;

#[cfg(test)]
mod tests;

/// How often [`Records::update`] tries again when other calls change the same record. Each failed try is another call's
/// success, so this is only reached when more than this many calls change one record at once.
pub const MAX_SWAPS: usize = 32;

/// How long the mark is kept that [`Records::retire`] leaves: its caller deletes it in the next moment.
const TOMBSTONE: std::time::Duration = std::time::Duration::from_secs(60);

/// The records of an instance. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Records<'w> {
    store: &'w dyn Store,
    clock: &'w dyn Clock,
    random: &'w dyn Random,
    partitions: &'w Partitions,
}

/// A record as it was read: its value, and the version that [`Records::replace`] compares with.
pub struct Stored<T> {
    /// What the record says.
    pub value: T,
    /// Which record it was.
    pub version: Version,
}

/// A record as it was read or written: its bytes.
#[derive(Clone)]
pub struct Version(Secret<Vec<u8>>);

/// What [`Records::update`] does with a record.
pub enum Next<T, R> {
    /// Writes this value and returns the result.
    Write(T, R),
    /// Leaves the record as it is and returns the result.
    Leave(R),
}

impl<'w> Records<'w> {
    /// The records in `store`.
    pub fn new(store: &'w dyn Store, clock: &'w dyn Clock, random: &'w dyn Random, partitions: &'w Partitions) -> Self {
        Self { store, clock, random, partitions }
    }

    /// The same store, as an instance with these settings sees it.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn under(self, settings: &base::settings::Settings) -> Self {
        Self { partitions: crate::testing::forever(Partitions::of(settings)), ..self }
    }

    /// Records that are nowhere: every operation fails.
    #[must_use]
    pub fn without_store(self) -> Self {
        Self { store: &NoStore, ..self }
    }

    /// The clock that times to live are counted by.
    pub(crate) fn clock(&self) -> &'w dyn Clock {
        self.clock
    }

    /// The name of a record in the store, for tests that look there.
    #[cfg(any(test, feature = "testing"))]
    pub fn raw_key_of<'k, T>(&self, namespace: &Namespace<T>, key: impl Into<Key<'k>>) -> String {
        self.raw_key(namespace, key)
    }

    /// The name of a record in the store. Code outside of this module does not get it.
    fn raw_key<'k, T>(&self, namespace: &Namespace<T>, key: impl Into<Key<'k>>) -> String {
        namespace.raw_key(self.partitions, key.into())
    }

    /// Reads a record.
    pub async fn get<T>(&self, namespace: &Namespace<T>, key: impl Into<Key<'_>>) -> Result<Option<T>, StoreError> {
        let found = self.load(namespace.tolerance, &self.raw_key(namespace, key)).await?;
        found.map_or(Ok(None), |bytes| namespace.decode(bytes.reveal()))
    }

    /// Reads a record that may be replaced afterwards.
    pub async fn read<T>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
    ) -> Result<Option<Stored<T>>, StoreError> {
        let found = self.load(namespace.tolerance, &self.raw_key(namespace, key)).await?;
        let Some(bytes) = found else { return Ok(None) };
        Ok(namespace.decode(bytes.reveal())?.map(|value| Stored { value, version: Version(bytes) }))
    }

    /// Whether there is a record, whatever it holds.
    pub async fn exists<T>(&self, namespace: &Namespace<T>, key: impl Into<Key<'_>>) -> Result<bool, StoreError> {
        Ok(self.load(namespace.tolerance, &self.raw_key(namespace, key)).await?.is_some())
    }

    /// Whether a record is still as it was read.
    pub async fn is_still<T>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        version: &Version,
    ) -> Result<bool, StoreError> {
        let found = self.store.get(&self.raw_key(namespace, key)).await?;
        Ok(found.is_some_and(|bytes| same_bytes(bytes.reveal(), version.0.reveal())))
    }

    /// Writes a record, whatever is there.
    pub async fn put<T>(&self, namespace: &Namespace<T>, key: impl Into<Key<'_>>, value: &T) -> Result<(), StoreError> {
        let bytes = namespace.encode(value)?;
        let ttl = namespace.ttl(value, || self.clock.now());
        self.store.put(&self.raw_key(namespace, key), &bytes, ttl).await
    }

    /// Writes a record if there is none. Returns whether it was written.
    pub async fn insert_new<T>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        value: &T,
    ) -> Result<bool, StoreError> {
        let swapped = self.swap(namespace, &self.raw_key(namespace, key), None, value).await?;
        Ok(swapped.is_some())
    }

    /// Reads a record, which is made if there is none: of any number of calls that make it at once, all get the same.
    pub async fn get_or_insert_with<T>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        make: impl FnOnce() -> T,
    ) -> Result<T, StoreError> {
        let key = key.into();
        if let Some(found) = self.get(namespace, key).await? {
            return Ok(found);
        }
        let made = make();
        if self.insert_new(namespace, key, &made).await? {
            return Ok(made);
        }
        self.get(namespace, key).await?.ok_or(StoreError::Unreadable)
    }

    /// Writes a record if it is still as it was read. Returns what it is now, or `None` if it has changed meanwhile.
    pub async fn replace<T>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        version: &Version,
        value: &T,
    ) -> Result<Option<Version>, StoreError> {
        self.swap(namespace, &self.raw_key(namespace, key), Some(&version.0), value).await
    }

    /// Marks a record as gone if it is still as it was read. Returns whether it was. A call that holds another version
    /// cannot write it any more; the caller deletes the mark. Only where a malformed record counts as absent.
    pub async fn retire<T>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        version: &Version,
    ) -> Result<bool, StoreError> {
        debug_assert_ne!(namespace.tolerance, Tolerance::Strict, "the mark would be an unreadable record");
        let expected = Some(version.0.reveal().as_slice());
        self.store.compare_and_swap(&self.raw_key(namespace, key), expected, b"", Some(TOMBSTONE)).await
    }

    /// Reads and deletes a record in one step: of any number of calls at most one gets it.
    pub async fn take<T>(&self, namespace: &Namespace<T>, key: impl Into<Key<'_>>) -> Result<Option<T>, StoreError> {
        let taken = self.store.take(&self.raw_key(namespace, key)).await;
        let taken = tolerate(namespace.tolerance, taken)?;
        taken.map_or(Ok(None), |bytes| namespace.decode(bytes.reveal()))
    }

    /// Deletes a record, whether or not there is one.
    pub async fn delete<T>(&self, namespace: &Namespace<T>, key: impl Into<Key<'_>>) -> Result<(), StoreError> {
        self.store.delete(&self.raw_key(namespace, key)).await
    }

    /// Changes a record in one step. `change` is called again when another call has changed the record meanwhile, at most
    /// [`MAX_SWAPS`] times; then it is [`StoreError::Contended`].
    pub async fn update<T, R>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        mut change: impl FnMut(Option<T>) -> Next<T, R>,
    ) -> Result<R, StoreError> {
        self.update_with(namespace, key, async |found| change(found)).await
    }

    /// The same for a change that has to read or ask something first.
    pub async fn update_with<T, R>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        mut change: impl AsyncFnMut(Option<T>) -> Next<T, R>,
    ) -> Result<R, StoreError> {
        let raw_key = self.raw_key(namespace, key);
        for _ in 0..MAX_SWAPS {
            let found = self.store.get(&raw_key).await;
            let is_damaged = matches!(found, Err(StoreError::Unreadable));
            let found = tolerate(namespace.tolerance, found)?;
            let current = found.as_ref().map_or(Ok(None), |bytes| namespace.decode(bytes.reveal()))?;
            match change(current).await {
                Next::Leave(result) => return Ok(result),
                Next::Write(value, result) => {
                    // No store swaps a record that it cannot open. Another call may have replaced it meanwhile: then the
                    // swap fails, and the change begins anew.
                    if is_damaged
                        && namespace.tolerance == Tolerance::Replaced
                        && matches!(self.store.get(&raw_key).await, Err(StoreError::Unreadable))
                    {
                        self.store.delete(&raw_key).await?;
                    }
                    if self.swap(namespace, &raw_key, found.as_ref(), &value).await?.is_some() {
                        return Ok(result);
                    }
                }
            }
        }
        Err(StoreError::Contended)
    }

    async fn load(&self, tolerance: Tolerance, raw_key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        tolerate(tolerance, self.store.get(raw_key).await)
    }

    async fn swap<T>(
        &self,
        namespace: &Namespace<T>,
        raw_key: &str,
        expected: Option<&Secret<Vec<u8>>>,
        value: &T,
    ) -> Result<Option<Version>, StoreError> {
        let mut bytes = namespace.encode(value)?;
        let ttl = namespace.ttl(value, || self.clock.now());
        let expected = expected.map(|bytes| bytes.reveal().as_slice());
        let swapped = self.store.compare_and_swap(raw_key, expected, &bytes, ttl).await?;
        Ok(swapped.then(|| Version(Secret::new(std::mem::take(&mut *bytes)))))
    }
}

/// A record that the store cannot open, where that counts as absent.
fn tolerate(
    tolerance: Tolerance,
    found: Result<Option<Secret<Vec<u8>>>, StoreError>,
) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
    match found {
        Err(StoreError::Unreadable) if matches!(tolerance, Tolerance::Unreadable | Tolerance::Replaced) => Ok(None),
        found => found,
    }
}
