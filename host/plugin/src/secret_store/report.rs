//! The findings of an examination of a store.

use serde::Serialize;

/// Counts of the records of a store, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// Records, whatever is true of them.
    pub records: u64,
    /// Bytes of the records as they are stored.
    pub bytes: u64,
    /// Records that have expired and are still there.
    pub expired: u64,
    /// Records under the newest key.
    pub newest_key: u64,
    /// Records under earlier keys, which are still known.
    pub earlier_keys: u64,
    /// Records that an earlier version has sealed. They cannot be examined without their names.
    pub earlier_format: u64,
    /// Records under a key that is not known.
    pub unknown_key: u64,
    /// Records that were altered, cut off, or put in the place of others.
    pub damaged: u64,
    /// The faults of the store as a whole.
    pub problems: Vec<String>,
}

impl StoreReport {
    /// Whether every record that can be examined can be opened, and nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.unknown_key == 0 && self.damaged == 0 && self.problems.is_empty()
    }

    #[cfg(any(feature = "redis", feature = "sqlite"))]
    pub(super) fn count(&mut self, sealed: super::cipher::ValueState, newest: Option<super::data_key::KeyId>) {
        use super::cipher::ValueState;
        let counter = match sealed {
            ValueState::Good(id) if Some(id) == newest => &mut self.newest_key,
            ValueState::Good(_) => &mut self.earlier_keys,
            ValueState::UnknownKey => &mut self.unknown_key,
            ValueState::Damaged => &mut self.damaged,
            ValueState::Earlier => &mut self.earlier_format,
        };
        *counter = counter.saturating_add(1);
    }
}
