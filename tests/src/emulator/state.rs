//! What the emulator remembers between requests: codes, refresh tokens, browser sessions, consents.
//!
//! Everything is in memory and bounded: the oldest entry makes room for the newest, so that a load test which runs for
//! hours cannot exhaust the machine.

use std::collections::{HashMap, HashSet, VecDeque};

use super::authorize::Transaction;
use super::device_code::DeviceCode;

/// Entries kept of each kind; far more than a test holds, some 100 MB at the very most.
const KEPT: usize = 100_000;

/// A map that forgets its oldest entry when it is full.
#[derive(Debug)]
pub(crate) struct Bounded<V> {
    entries: HashMap<String, V>,
    order: VecDeque<String>,
}

impl<V> Default for Bounded<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Bounded<V> {
    pub(crate) fn insert(&mut self, key: String, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Removes an entry. Its place in the order stays until it is the oldest, which bounds the map all the same.
    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        self.entries.remove(key)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }

    /// The first entry that fits, with its key.
    pub(crate) fn find(&self, fits: impl Fn(&V) -> bool) -> Option<(String, V)>
    where
        V: Clone,
    {
        self.entries.iter().find(|(_, value)| fits(value)).map(|(key, value)| (key.clone(), value.clone()))
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
}

/// An account signed in in a browser.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) user: String,
    pub(crate) at: i64,
    pub(crate) with_mfa: bool,
    pub(crate) session: String,
}

/// Who signed in to what, when and how: the root of codes and tokens.
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
    pub(crate) session: String,
    pub(crate) epoch: u64,
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

/// Whom an access token for Graph speaks for.
#[derive(Clone, Debug)]
pub(crate) struct GraphToken {
    pub(crate) subject: GraphSubject,
    /// Scopes or roles.
    pub(crate) permissions: Vec<String>,
    pub(crate) expires: i64,
    /// The client can handle claims challenges, so that revocation takes effect at once.
    pub(crate) continuous: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum GraphSubject {
    User(Grant),
    Application { tenant: String },
}
