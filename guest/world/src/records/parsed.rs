//! What an instance remembers of records that it has parsed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{Key, Namespace, Records};
use crate::store::StoreError;
use base::encoding::same_bytes;
use base::secret::Secret;

/// Parsed records beside their bytes. It spares the parsing and never the read: a record that has changed in the store is
/// parsed anew, so nothing here can be out of date.
pub struct ParsedRecords<T> {
    /// By name in the store.
    records: RefCell<HashMap<String, Known<T>>>,
    capacity: usize,
}

/// The bytes of a record, and what they say.
type Known<T> = (Secret<Vec<u8>>, Rc<T>);

impl<T> ParsedRecords<T> {
    /// Keeps at most `capacity` records.
    pub fn new(capacity: usize) -> Self {
        Self { records: RefCell::default(), capacity }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.records.borrow().len()
    }

    fn find(&self, raw_key: &str, bytes: &[u8]) -> Option<Rc<T>> {
        let records = self.records.borrow();
        let known = records.get(raw_key).filter(|(before, _)| same_bytes(before.reveal(), bytes));
        known.map(|(_, value)| Rc::clone(value))
    }

    fn keep(&self, raw_key: String, bytes: Secret<Vec<u8>>, value: Rc<T>) {
        let mut records = self.records.borrow_mut();
        if records.len() >= self.capacity {
            records.clear();
        }
        records.insert(raw_key, (bytes, value));
    }
}

impl Records<'_> {
    /// Reads a record that is not to be changed. It is read from the store each time, and parsed only if it is not what it
    /// was the last time.
    pub async fn get_parsed<T>(
        &self,
        namespace: &Namespace<T>,
        key: impl Into<Key<'_>>,
        parsed: &ParsedRecords<T>,
    ) -> Result<Option<Rc<T>>, StoreError> {
        let raw_key = self.raw_key(namespace, key.into());
        let Some(bytes) = self.load(namespace.tolerance, &raw_key).await? else { return Ok(None) };
        if let Some(known) = parsed.find(&raw_key, bytes.reveal()) {
            return Ok(Some(known));
        }
        let Some(value) = namespace.decode(bytes.reveal())?.map(Rc::new) else { return Ok(None) };
        parsed.keep(raw_key, bytes, Rc::clone(&value));
        Ok(Some(value))
    }
}
