//! What the emulator remembers between requests: codes, refresh tokens, browser sessions, consents.
//!
//! Everything is in memory and bounded: the oldest entry makes room for the newest, so that a load test which runs for
//! hours cannot exhaust the machine.

pub(crate) mod device_code;
pub(crate) mod transaction;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use device_code::{DeviceCode, Outcome};
use transaction::Transaction;

/// Entries kept of each kind: more than a test holds at once. All kinds full take about 200 MB.
const KEPT: usize = 50_000;

/// A map that makes room by forgetting the oldest entry that was not read since it was last spared.
#[derive(Debug)]
pub(crate) struct Bounded<V> {
    entries: HashMap<String, Entry<V>>,
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// Read since it came to the front: a load test goes on using the one refresh token it started with.
    used: AtomicBool,
}

impl<V> Default for Bounded<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Bounded<V> {
    pub(crate) fn insert(&mut self, key: String, value: V) {
        if self.entries.insert(key.clone(), Entry { value, used: AtomicBool::new(false) }).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KEPT {
            let Some(oldest) = self.order.pop_front() else { return };
            match self.entries.get(&oldest) {
                Some(entry) if entry.used.swap(false, Ordering::Relaxed) => self.order.push_back(oldest),
                _ => drop(self.entries.remove(&oldest)),
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        let entry = self.entries.get(key)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(&entry.value)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(&mut entry.value)
    }

    /// Removes an entry. Its place in the order stays until it is the oldest, which bounds the map all the same.
    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        self.entries.remove(key).map(|entry| entry.value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    /// The first entry that fits, with its key.
    pub(crate) fn find(&self, fits: impl Fn(&V) -> bool) -> Option<(String, V)>
    where
        V: Clone,
    {
        let found = self.entries.iter().find(|(_, entry)| fits(&entry.value))?;
        Some((found.0.clone(), found.1.value.clone()))
    }
}

/// Everything that changes while the emulator runs, but for keys, faults and the request log.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) transactions: Bounded<Transaction>,
    pub(crate) codes: Bounded<Code>,
    pub(crate) refresh_tokens: Bounded<RefreshToken>,
    pub(crate) graph_tokens: Bounded<GraphToken>,
    pub(crate) device_codes: Bounded<DeviceCode>,
    /// Browser cookie to the accounts signed in there.
    pub(crate) browsers: Bounded<Vec<SignedIn>>,
    /// Identifiers of client assertions that were used.
    pub(crate) used_assertions: Bounded<()>,
    /// What the signed access tokens of users stand for, by their `uti`: on-behalf-of needs it again.
    pub(crate) issued: Bounded<Grant>,
    /// (home object id of the user, or `*` for the whole tenant; tenant; client id; full scope).
    pub(crate) consents: HashSet<(String, String, String, String)>,
    /// How often the sessions of a user were revoked. What was issued at a lower count is dead.
    pub(crate) revocations: HashMap<String, u64>,
}

impl State {
    /// The revocation count that new grants of this user carry.
    pub(crate) fn epoch(&self, user: &str) -> u64 {
        self.revocations.get(user).copied().unwrap_or(0)
    }

    /// Kills browser sessions, refresh tokens and (for clients that handle challenges) access tokens of a user.
    pub(crate) fn revoke(&mut self, user: &str) {
        let count = self.revocations.entry(user.to_owned()).or_default();
        *count = count.saturating_add(1);
        for accounts in self.browsers.values_mut() {
            accounts.retain(|account| account.user != user);
        }
    }

    /// Sets what became of a device code, unless it was decided before.
    pub(crate) fn decide(&mut self, device_code: &str, outcome: Outcome) {
        if let Some(code) = self.device_codes.get_mut(device_code)
            && matches!(code.outcome, Outcome::Pending)
        {
            code.outcome = outcome;
        }
    }
}

/// An account signed in in a browser.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) user: String,
    pub(crate) at: i64,
    pub(crate) with_mfa: bool,
    pub(crate) session: String,
}

/// A sign-in: user, application, time and method. The root of codes and tokens.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// Object id in the home tenant.
    pub(crate) user: String,
    /// The tenant that issues.
    pub(crate) tenant: String,
    /// The application's id.
    pub(crate) client: String,
    pub(crate) signed_in_at: i64,
    pub(crate) with_mfa: bool,
    /// Authentication contexts that the sign-in was asked for and has satisfied.
    pub(crate) contexts: Contexts,
    pub(crate) session: String,
    pub(crate) epoch: u64,
}

/// Authentication contexts, by the token that has to name them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contexts {
    pub(crate) access_token: Vec<String>,
    pub(crate) id_token: Vec<String>,
}

impl Contexts {
    pub(crate) fn is_empty(&self) -> bool {
        self.access_token.is_empty() && self.id_token.is_empty()
    }

    /// These as well.
    pub(crate) fn add(&mut self, other: Self) {
        for (known, new) in [(&mut self.access_token, other.access_token), (&mut self.id_token, other.id_token)] {
            for context in new {
                if !known.contains(&context) {
                    known.push(context);
                }
            }
        }
    }
}

/// The registration a redirect URI was found under, which decides how a code may be redeemed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Platform {
    Public,
    Web,
    SinglePage,
}

/// An authorization code.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) grant: Grant,
    pub(crate) redirect_uri: String,
    pub(crate) platform: Platform,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) nonce: Option<String>,
    pub(crate) scope: String,
    pub(crate) expires: i64,
    pub(crate) redeemed: bool,
}

/// A PKCE challenge.
#[derive(Clone, Debug)]
pub(crate) enum Challenge {
    Plain(String),
    S256(String),
}

/// A refresh token.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    pub(crate) grant: Grant,
    pub(crate) scope: String,
    pub(crate) platform: Platform,
    pub(crate) issued: i64,
    /// When the first token of this chain was issued; the life of a single-page application's chain is fixed.
    pub(crate) chain_started: i64,
    pub(crate) redeemed: bool,
}

/// The principal that an access token for Graph speaks for.
#[derive(Clone, Debug)]
pub(crate) struct GraphToken {
    pub(crate) subject: GraphSubject,
    /// Scopes or roles.
    pub(crate) permissions: Vec<String>,
    pub(crate) expires: i64,
    /// The client can handle claims challenges, so that revocation takes effect at once.
    pub(crate) continuous: bool,
    /// It satisfies the authentication context `c1`.
    pub(crate) in_context: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum GraphSubject {
    User(Grant),
    Application { tenant: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_forgets_entries_that_are_not_read() {
        let mut map = Bounded::default();
        for index in 0..KEPT + 1_000 {
            map.insert(index.to_string(), index);
            assert!(map.get("0").is_some());
        }
        assert_eq!(map.entries.len(), KEPT);
        assert!(map.get("1").is_none());
    }
}
