//! Namespaces: what all records of one kind have in common.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::encoding::Encoding;
use super::key::{Key, KeyForm, Layout, Partition, Partitions};
use super::lease::Holder;
use crate::store::StoreError;
use base::secret::Secret;

/// How long a record is kept.
pub enum Ttl<T> {
    /// Until it is deleted.
    Kept,
    /// For this time since it was last written.
    For(Duration),
    /// As long as its value says, at this Unix time in seconds.
    Computed(fn(&T, u64) -> Duration),
}

impl<T> Clone for Ttl<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ttl<T> {}

/// Which damaged records count as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// None. All are [`StoreError::Unreadable`].
    Strict,
    /// Those with content that is not what the namespace holds.
    Malformed,
    /// Those as well that the store cannot open.
    Unreadable,
    /// The same, and a change of such a record replaces it.
    Replaced,
}

/// Records of one kind: where they are, what they hold, how long they live. A constant, mostly.
///
/// ```ignore
/// const SESSIONS: Namespace<Session> =
///     Namespace::json(Partition::Application, "session", Ttl::Computed(Session::ttl)).absent_if_unreadable();
/// ```
pub struct Namespace<T> {
    pub(super) layout: Layout,
    pub(super) tolerance: Tolerance,
    ttl: Ttl<T>,
    encoding: Encoding<T>,
}

impl<T> Clone for Namespace<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Namespace<T> {}

impl<T> fmt::Debug for Namespace<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layout, tolerance, .. } = self;
        f.debug_struct("Namespace").field("layout", layout).field("tolerance", tolerance).finish_non_exhaustive()
    }
}

impl<T: Serialize + DeserializeOwned> Namespace<T> {
    /// Records that are stored as JSON.
    pub const fn json(partition: Partition, prefix: &'static str, ttl: Ttl<T>) -> Self {
        Self::new(partition, prefix, ttl, Encoding::json())
    }
}

impl Namespace<Secret<Vec<u8>>> {
    /// Records that are stored as they are.
    pub const fn bytes(partition: Partition, prefix: &'static str, ttl: Ttl<Secret<Vec<u8>>>) -> Self {
        Self::new(partition, prefix, ttl, Encoding::bytes())
    }
}

impl Namespace<String> {
    /// Records that are stored as UTF-8. Not for secrets: what is read is not zeroised.
    pub const fn text(partition: Partition, prefix: &'static str, ttl: Ttl<String>) -> Self {
        Self::new(partition, prefix, ttl, Encoding::text())
    }
}

impl Namespace<()> {
    /// Records that hold nothing: that they are there is what they say.
    pub const fn marks(partition: Partition, prefix: &'static str, ttl: Ttl<()>) -> Self {
        Self::new(partition, prefix, ttl, Encoding::mark())
    }
}

impl Namespace<Holder> {
    /// Leases, see [`Records::lease`](super::Records::lease). Each is kept for the time that it is taken for.
    pub const fn leases(partition: Partition, prefix: &'static str) -> Self {
        Self::new(partition, prefix, Ttl::Kept, Encoding::holder())
    }
}

impl<T> Namespace<T> {
    /// Records with an encoding of their own. `decode` returns `None` for bytes that are no such record.
    pub const fn with_encoding(
        partition: Partition,
        prefix: &'static str,
        ttl: Ttl<T>,
        encode: fn(&T) -> Result<Zeroizing<Vec<u8>>, StoreError>,
        decode: fn(&[u8]) -> Option<T>,
    ) -> Self {
        Self::new(partition, prefix, ttl, Encoding { encode, decode })
    }

    const fn new(partition: Partition, prefix: &'static str, ttl: Ttl<T>, encoding: Encoding<T>) -> Self {
        let layout = Layout { partition, prefix, suffix: "", form: KeyForm::Plain };
        Self { layout, tolerance: Tolerance::Strict, ttl, encoding }
    }

    /// Every part of the key stands in the name of the record as its SHA-256.
    pub const fn hashed(mut self) -> Self {
        self.layout.form = KeyForm::Hashed;
        self
    }

    /// The last part of the key stands in the name of the record as its SHA-256.
    pub const fn last_part_hashed(mut self) -> Self {
        self.layout.form = KeyForm::LastHashed;
        self
    }

    /// The names of the records end with this.
    pub const fn ending_with(mut self, suffix: &'static str) -> Self {
        self.layout.suffix = suffix;
        self
    }

    /// A record whose content is not what the namespace holds counts as absent. Without this it is
    /// [`StoreError::Unreadable`].
    pub const fn absent_if_malformed(mut self) -> Self {
        self.tolerance = Tolerance::Malformed;
        self
    }

    /// A record counts as absent if its content is not what the namespace holds, or if the store cannot open it. Without
    /// this it is [`StoreError::Unreadable`].
    pub const fn absent_if_unreadable(mut self) -> Self {
        self.tolerance = Tolerance::Unreadable;
        self
    }

    /// As [`absent_if_unreadable`](Self::absent_if_unreadable), and [`Records::update`](super::Records::update) writes in the
    /// place of a record that the store cannot open. Only where what is lost with it can be had again, as by a sign-in.
    pub const fn replaced_if_unreadable(mut self) -> Self {
        self.tolerance = Tolerance::Replaced;
        self
    }

    /// The same namespace, whose records are kept for this time: for a time that a setting or an answer gives.
    pub const fn kept_for(mut self, time: Duration) -> Self {
        self.ttl = Ttl::For(time);
        self
    }

    /// Other records under the names of these.
    pub(crate) fn layout_for<U>(&self, other: Namespace<U>) -> Namespace<U> {
        Namespace { layout: self.layout, ..other }
    }

    /// Other records beside these: their names end with `suffix` in addition.
    pub(crate) fn beside<U>(&self, suffix: &'static str, other: Namespace<U>) -> Namespace<U> {
        debug_assert!(self.layout.suffix.is_empty(), "these names have an ending already");
        self.layout_for(other).ending_with(suffix)
    }

    pub(super) fn raw_key(&self, partitions: &Partitions, key: Key<'_>) -> String {
        self.layout.raw_key(partitions, key)
    }

    pub(super) fn encode(&self, value: &T) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        (self.encoding.encode)(value)
    }

    /// What the bytes of a record say.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Option<T>, StoreError> {
        match (self.encoding.decode)(bytes) {
            None if self.tolerance == Tolerance::Strict => Err(StoreError::Unreadable),
            found => Ok(found),
        }
    }

    /// How long the value is kept. `now` is asked for only if that depends on it.
    pub(super) fn ttl(&self, value: &T, now: impl FnOnce() -> u64) -> Option<Duration> {
        match self.ttl {
            Ttl::Kept => None,
            Ttl::For(time) => Some(time),
            Ttl::Computed(ttl) => Some(ttl(value, now())),
        }
    }
}
