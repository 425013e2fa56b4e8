//! Leases: the right to do what one call at a time should do.

use std::time::Duration;

use super::{Key, Namespace, Records};
use crate::random::random_token;
use crate::store::StoreError;

/// What a lease is replaced by that was given back. No holder has this name: theirs are longer.
///
/// A store has no delete that depends on the value, so between a look and a delete the lease of another call could come. A
/// compare-and-swap has no such gap.
pub(crate) const RELEASED: &[u8] = b"released";

/// How long that is kept: the shortest time that every store has. Nothing waits for its end.
const RELEASED_FOR: Duration = Duration::from_secs(1);

/// The call that holds a lease: a name that no other call has, and since when it holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder(pub(super) String);

/// The right to do what one call at a time should do. It ends by itself after its time, so a call that was cancelled in
/// the middle holds the others up no longer than that.
#[must_use = "a lease that is not released holds the others up until its time has passed"]
pub struct Lease<'w> {
    records: Records<'w>,
    raw_key: String,
    pub(super) holder: Holder,
}

impl<'w> Records<'w> {
    /// Takes a lease for `time`, if no call holds it.
    pub async fn lease(
        &self,
        namespace: &Namespace<Holder>,
        key: impl Into<Key<'_>>,
        time: Duration,
    ) -> Result<Option<Lease<'w>>, StoreError> {
        let raw_key = self.raw_key(namespace, key.into());
        let holder = self.new_holder();
        let mut taken = false;
        // None that was taken, or one that was given back.
        for free in [None, Some(RELEASED)] {
            taken = taken || self.store.compare_and_swap(&raw_key, free, holder.0.as_bytes(), Some(time)).await?;
        }
        Ok(taken.then_some(Lease { records: *self, raw_key, holder }))
    }

    /// Takes a lease over that another call has held for `patience` or longer: that call is gone, or slow. Of any number of
    /// calls that do so at once, one gets it. None is left alone, nor one that was given back.
    pub async fn take_over(
        &self,
        namespace: &Namespace<Holder>,
        key: impl Into<Key<'_>>,
        time: Duration,
        patience: Duration,
    ) -> Result<Option<Lease<'w>>, StoreError> {
        let raw_key = self.raw_key(namespace, key.into());
        let Some(found) = self.store.get(&raw_key).await? else { return Ok(None) };
        let held = found.reveal().as_slice();
        // Absolute differences: a clock that is set back must not make the wait longer.
        let is_recent = |at| self.clock.now().abs_diff(at) < patience.as_secs();
        if held == RELEASED || taken_at(held).is_some_and(is_recent) {
            return Ok(None);
        }
        let holder = self.new_holder();
        let taken = self.store.compare_and_swap(&raw_key, Some(held), holder.0.as_bytes(), Some(time)).await?;
        Ok(taken.then_some(Lease { records: *self, raw_key, holder }))
    }

    /// A name for a call that takes a lease now.
    fn new_holder(&self) -> Holder {
        Holder(format!("{}.{}", random_token(self.random), self.clock.now()))
    }
}

/// When the holder of this name took its lease. Unix time in seconds. The names of earlier versions do not say it.
fn taken_at(holder: &[u8]) -> Option<u64> {
    let (_, at) = std::str::from_utf8(holder).ok()?.rsplit_once('.')?;
    at.parse().ok()
}

impl Lease<'_> {
    /// Gives the lease back, unless it has run out and another call holds it. A store that fails here costs the others a
    /// wait, nothing else.
    pub async fn release(self) {
        let held = Some(self.holder.0.as_bytes());
        let _ = self.records.store.compare_and_swap(&self.raw_key, held, RELEASED, Some(RELEASED_FOR)).await;
    }
}
