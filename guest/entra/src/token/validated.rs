//! Tokens that this instance has already judged, by the BLAKE3 hash of the token.
//!
//! A verification costs a thousand times more than a look-up, and clients send one token many times. Accepted
//! tokens are remembered until they expire or their key is removed; of the refused ones only those whose
//! signature failed, briefly: every other refusal is cheap, or may turn into acceptance.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::jwks::Fingerprint;
use super::validation::proof::ValidatedToken;

/// Accepted tokens remembered: some per user of a busy server.
const MAX_ENTRIES: usize = 10_000;

/// Bytes of accepted tokens remembered, whichever limit is reached first: an instance has 64 MiB or so in all.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Bad signatures remembered: about 100 KiB.
const MAX_REFUSED: usize = 1_000;

/// Seconds that a bad signature is remembered.
const REFUSED_SECONDS: u64 = 30;

/// Identifies a token without being one.
pub(super) type TokenHash = [u8; 32];

/// BLAKE3 of the compact form. As hard to find a second token for as with SHA-256; every use of a token needs one, and
/// it never leaves the instance.
pub(super) fn hash(token: &str) -> TokenHash {
    blake3::hash(token.as_bytes()).into()
}

#[derive(Debug)]
struct CacheEntry {
    token: Rc<ValidatedToken>,
    bytes: usize,
    sequence: u64,
}

/// Accepted tokens. The oldest goes first when there is no room: it is also about the first to expire.
#[derive(Debug, Default)]
pub(super) struct ValidatedTokens {
    entries: HashMap<TokenHash, CacheEntry>,
    order: VecDeque<(u64, TokenHash)>,
    bytes: usize,
    next: u64,
}

impl ValidatedTokens {
    /// The token, unless it has expired.
    pub(super) fn get(&mut self, hash: &TokenHash, now: u64) -> Option<Rc<ValidatedToken>> {
        let token = Rc::clone(&self.entries.get(hash)?.token);
        if now >= token.principal().expires_at {
            self.remove(hash);
            return None;
        }
        Some(token)
    }

    pub(super) fn insert(&mut self, hash: TokenHash, token: Rc<ValidatedToken>) {
        self.remove(&hash);
        let bytes = token.bytes() + 2 * size_of::<TokenHash>() + size_of::<CacheEntry>();
        let sequence = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.entries.insert(hash, CacheEntry { token, bytes, sequence });
        self.order.push_back((sequence, hash));
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some((sequence, oldest)) = self.order.pop_front() else {
                break;
            };
            // A removed and newly inserted token has a younger place in the order.
            if self.entries.get(&oldest).is_some_and(|entry| entry.sequence == sequence) {
                self.remove(&oldest);
            }
        }
        // Removed tokens leave their place behind; they must not pile up.
        if self.order.len() > 2 * MAX_ENTRIES {
            let entries = &self.entries;
            self.order.retain(|(sequence, hash)| entries.get(hash).is_some_and(|entry| entry.sequence == *sequence));
        }
    }

    pub(super) fn remove(&mut self, hash: &TokenHash) {
        if let Some(entry) = self.entries.remove(hash) {
            self.bytes -= entry.bytes;
        }
    }

    /// Drops the tokens of one principal.
    pub(super) fn remove_principal(&mut self, tenant_id: &str, object_id: &str) {
        let mut freed = 0;
        self.entries.retain(|_, entry| {
            let principal = entry.token.principal();
            let keep = principal.tenant_id != tenant_id || principal.object_id != object_id;
            if !keep {
                freed += entry.bytes;
            }
            keep
        });
        self.bytes -= freed;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.order.len()
    }
}

/// Tokens whose signature did not verify with a certain key.
#[derive(Debug, Default)]
pub(super) struct RefusedSignatures {
    entries: HashMap<TokenHash, (Fingerprint, u64)>,
}

impl RefusedSignatures {
    pub(super) fn contains(&self, hash: &TokenHash, key: &Fingerprint, now: u64) -> bool {
        self.entries.get(hash).is_some_and(|(refused_by, until)| refused_by == key && now < *until)
    }

    pub(super) fn insert(&mut self, hash: TokenHash, key: Fingerprint, now: u64) {
        if self.entries.len() >= MAX_REFUSED {
            self.entries.retain(|_, (_, until)| now < *until);
        }
        // A flood of different tokens: remembering cannot help against that, so start again.
        if self.entries.len() >= MAX_REFUSED {
            self.entries.clear();
        }
        self.entries.insert(hash, (key, now + REFUSED_SECONDS));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
