//! What is kept of clients' metadata documents, and those that an instance remembers until a person has signed in with
//! their client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A document is fresh at most this long, so that a redirect URI that was withdrawn is withdrawn here too.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long a document is used that is not fresh any more, while it cannot be read.
pub(crate) const LAST_GOOD: Duration = Duration::from_secs(24 * 3600);

/// What is kept of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptDocument {
    pub(crate) client_id: String,
    pub(crate) name: String,
    pub(crate) redirect_uris: Vec<String>,
    /// Until when it need not be read again. Unix time in seconds.
    #[serde(default)]
    pub(crate) fresh_until: u64,
}

impl KeptDocument {
    /// Not if it claims to be fresh for longer than any is: then the clock was set back.
    pub(crate) fn is_fresh(&self, now: u64) -> bool {
        now < self.fresh_until && self.fresh_until <= now + MAX_LIFETIME.as_secs()
    }

    /// Whether it may stand in for one that cannot be read now. Not if the clock was set back, as above.
    pub(crate) fn is_last_good(&self, now: u64) -> bool {
        now < self.fresh_until + LAST_GOOD.as_secs() && self.fresh_until <= now + MAX_LIFETIME.as_secs()
    }

    /// How long the record is kept.
    pub(crate) fn ttl(&self, now: u64) -> Duration {
        Duration::from_secs((self.fresh_until + LAST_GOOD.as_secs()).saturating_sub(now).max(1))
    }

    fn bytes(&self) -> usize {
        let uris = self.redirect_uris.iter().map(String::len).sum::<usize>();
        self.client_id.len().saturating_add(self.name.len()).saturating_add(uris)
    }
}

/// Documents in the memory of an instance. Many more clients are not begun with at the same time.
const MAX_DOCUMENTS: usize = 32;
/// Bytes of all of them: what strangers publish must not fill the memory of an instance.
const MAX_BYTES: usize = 256 * 1024;

/// Documents that were read lately, the one that was used last at the end. A cache that may vanish at any time.
#[derive(Default)]
pub struct Documents(RefCell<VecDeque<KeptDocument>>);

impl Documents {
    pub(crate) fn get(&self, client_id: &str) -> Option<KeptDocument> {
        let mut documents = self.0.borrow_mut();
        let at = documents.iter().position(|kept| kept.client_id == client_id)?;
        let kept = documents.remove(at)?;
        documents.push_back(kept.clone());
        Some(kept)
    }

    pub(crate) fn insert(&self, kept: KeptDocument) {
        self.remove(&kept.client_id);
        let mut documents = self.0.borrow_mut();
        documents.push_back(kept);
        while documents.len() > MAX_DOCUMENTS || documents.iter().map(KeptDocument::bytes).sum::<usize>() > MAX_BYTES {
            documents.pop_front();
        }
    }

    pub(crate) fn remove(&self, client_id: &str) {
        self.0.borrow_mut().retain(|kept| kept.client_id != client_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: usize, bytes: usize) -> KeptDocument {
        let client_id = format!("https://app.example.com/{number}");
        KeptDocument { client_id, name: "x".repeat(bytes), redirect_uris: Vec::new(), fresh_until: 0 }
    }

    #[test]
    fn the_documents_of_an_instance_are_bounded_in_number_and_bytes_and_the_last_used_stay() {
        let documents = Documents::default();
        for number in 0..100 {
            documents.insert(kept(number, 1));
            assert!(documents.get("https://app.example.com/0").is_some());
        }
        assert_eq!(documents.0.borrow().len(), MAX_DOCUMENTS);
        for number in 0..100 {
            documents.insert(kept(number, 16 * 1024));
        }
        let large = documents.0.borrow().len();
        assert!((10..=16).contains(&large), "{large}");
        documents.insert(kept(100, MAX_BYTES));
        assert_eq!(documents.0.borrow().len(), 0, "one that fits never");
    }
}
