//! The keys of sealed values as an instance remembers them. Each call of a server behind seals and opens several values, and
//! would else read the same record for each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use base::secret::Secret;

/// For how long a key is taken from memory. A store that was replaced while the program runs has other keys: for so long, an
/// instance seals what others then do not open.
const MAX_AGE: Duration = Duration::from_secs(10);

/// Keys by the names of their records.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownKeys(RefCell<HashMap<String, KnownKey>>);

#[derive(Debug, Clone)]
struct KnownKey {
    key: Secret<Vec<u8>>,
    /// By the monotonic clock.
    read_at: Duration,
}

impl KnownKeys {
    /// The key, if it was read lately.
    pub(super) fn get(&self, record: &str, now: Duration) -> Option<Secret<Vec<u8>>> {
        let keys = self.0.borrow();
        let known = keys.get(record)?;
        (now.saturating_sub(known.read_at) < MAX_AGE).then(|| known.key.clone())
    }

    /// Remembers a key that the store has. There are as many as kinds of sealed values.
    pub(super) fn put(&self, record: String, now: Duration, key: &Secret<Vec<u8>>) {
        self.0.borrow_mut().insert(record, KnownKey { key: key.clone(), read_at: now });
    }
}
