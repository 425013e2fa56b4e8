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

/// The call that holds a lease: a name that no other call has.
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
        let holder = Holder(random_token(self.random));
        let mut taken = false;
        // None that was taken, or one that was given back.
        for free in [None, Some(RELEASED)] {
            taken = taken || self.store.compare_and_swap(&raw_key, free, holder.0.as_bytes(), Some(time)).await?;
        }
        Ok(taken.then_some(Lease { records: *self, raw_key, holder }))
    }
}

impl Lease<'_> {
    /// Gives the lease back, unless it has run out and another call holds it. A store that fails here costs the others a
    /// wait, nothing else.
    pub async fn release(self) {
        let held = Some(self.holder.0.as_bytes());
        let _ = self.records.store.compare_and_swap(&self.raw_key, held, RELEASED, Some(RELEASED_FOR)).await;
    }
}
