//! What strangers leave in the store: registrations without a use, and sign-ins that wait. And what people who have signed
//! in leave by the choice of their clients: the documents of these, which are bounded by themselves.
//!
//! Threat: an attacker makes such records without an account, from many addresses. So these records count together, and
//! the oldest give way; what belongs to a person who has signed in (sessions, codes, consents, the clients
//! that were used and their documents) is never among them.

#[cfg(test)]
mod tests;

use std::time::Duration;

use world::records::{Partition, Ring};

/// Lanes: with fewer, requests at the same moment would wait for each other.
const LANES: u8 = 8;
/// Places in each: 16,384 records in all. A sign-in takes two of them for ten minutes, so some ten sign-ins in each
/// second go on undisturbed. Tests fill all of them, so they have fewer.
const PLACES: u64 = if cfg!(test) { 64 } else { 2_048 };
/// Bytes that one place stands for: 64 MiB in all. Most records have a quarter of it.
const PLACE_BYTES: usize = 4 * 1024;
/// Places in each lane for documents: 4,096 and 16 MiB in all. A document takes four.
const DOCUMENT_PLACES: u64 = if cfg!(test) { 64 } else { 512 };
/// The longest of their lives: a document that is fresh for a day, and served for another while it cannot be read.
const LIFETIME: Duration = Duration::from_secs(48 * 3600);

/// The places of documents whose clients a person has signed in with. Only another person with an account takes them.
pub(super) const DOCUMENTS_RING: Ring =
    Ring::new(Partition::AuthorizationServer, "used-documents", LANES, DOCUMENT_PLACES, PLACE_BYTES, LIFETIME);
/// The places that all the others share.
pub(super) const RING: Ring = Ring::new(Partition::AuthorizationServer, "unused", LANES, PLACES, PLACE_BYTES, LIFETIME);
