//! The documents that an instance remembers, until a person has signed in with their client.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::Kept;

/// Documents in the memory of an instance. Many more clients are not begun with at the same time.
const MAX_DOCUMENTS: usize = 32;
/// Bytes of all of them: what strangers publish must not fill the memory of an instance.
const MAX_BYTES: usize = 256 * 1024;

/// Documents that were read lately, the one that was used last at the end. A cache that may vanish at any time.
#[derive(Default)]
pub struct Documents(RefCell<VecDeque<Kept>>);

impl Documents {
    pub(super) fn get(&self, client_id: &str) -> Option<Kept> {
        let mut documents = self.0.borrow_mut();
        let at = documents.iter().position(|kept| kept.client_id == client_id)?;
        let kept = documents.remove(at)?;
        documents.push_back(kept.clone());
        Some(kept)
    }

    pub(super) fn insert(&self, kept: Kept) {
        self.remove(&kept.client_id);
        let mut documents = self.0.borrow_mut();
        documents.push_back(kept);
        while documents.len() > MAX_DOCUMENTS || documents.iter().map(Kept::bytes).sum::<usize>() > MAX_BYTES {
            documents.pop_front();
        }
    }

    pub(super) fn remove(&self, client_id: &str) {
        self.0.borrow_mut().retain(|kept| kept.client_id != client_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: usize, bytes: usize) -> Kept {
        let client_id = format!("https://app.example.com/{number}");
        Kept { client_id, name: "x".repeat(bytes), redirect_uris: Vec::new(), fresh_until: 0 }
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
