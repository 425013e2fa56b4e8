//! A session as it is stored, and the tokens that open it.
//!
//! An access token is `base64url(session id, 16 bytes || secret, 32 bytes)`: the id finds the record with one read, the
//! secret proves that the token is genuine. A refresh token is `base64url(session id || family, 18 bytes || secret)`.
//! The family is the same in all refresh tokens of a session: a caller that presents the family with an old secret has
//! had one of the tokens, and a caller that does not present it has only heard of the session. The record holds SHA-256
//! hashes only. Ids come from the server's randomness and never from a client, so an attacker cannot prepare a session
//! for another person.

use std::rc::Rc;
use std::time::Duration;

use base::Secret;
use base::encoding::{base64url, digest, from_base64url, same_secret};
use serde::{Deserialize, Serialize};
use world::records::{Namespace, ParsedRecords, Partition, Records, Ttl};
use world::{Clock, Random, StoreError};
use zeroize::Zeroizing;

use super::{Membership, Owner};

/// Bytes of a session id.
const ID_BYTES: usize = 16;
/// Bytes of the secret in a token: 256 bits.
const SECRET_BYTES: usize = 32;
/// Bytes of what the refresh tokens of a session have in common: 144 bits, and no bits left over in base64.
const FAMILY_BYTES: usize = 18;
/// Characters of an access token.
const ACCESS_TOKEN_CHARS: usize = (ID_BYTES + SECRET_BYTES) / 3 * 4;
/// Characters of a refresh token.
const REFRESH_TOKEN_CHARS: usize = (ID_BYTES + FAMILY_BYTES + SECRET_BYTES) / 3 * 4;
/// An access token lives at most this long, in seconds. Those of Entra ID live 60 to 90 minutes.
pub(super) const ACCESS_LIFETIME_SECONDS: u64 = 3600;
/// The clocks of two servers on one store may differ by this much, in seconds.
pub(super) const CLOCK_DIFFERENCE_SECONDS: u64 = 60;
/// Access tokens that are good at the same time: requests may be under way with one while the client refreshes.
const MAX_ACCESS_TOKENS: usize = 4;
/// A session ends this long after its sign-in, in seconds: 90 days, as long as the refresh tokens of Entra ID live.
pub(super) const LIFETIME_SECONDS: u64 = 90 * 24 * 3600;
/// Sessions whose records an instance keeps as it has understood them: some 100 KiB.
const MAX_LOOKED_AT: usize = 64;
/// A session ends when it was not refreshed for this long, in seconds: 30 days.
pub(super) const IDLE_SECONDS: u64 = 30 * 24 * 3600;

/// What a client presented. It says which session it belongs to; whether it is genuine says the record.
pub(super) struct PresentedToken {
    pub(super) id: String,
    /// Of a refresh token.
    pub(super) refresh: Option<RefreshToken>,
    hash: String,
}

/// What a refresh token has besides the id of its session.
pub(super) struct RefreshToken {
    pub(super) family: Family,
    /// The part that no record holds.
    pub(super) secret: Zeroizing<Vec<u8>>,
}

/// What the refresh tokens of a session have in common.
pub(super) struct Family(Zeroizing<Vec<u8>>);

impl Family {
    /// That of a new session.
    pub(super) fn fresh(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new(vec![0; FAMILY_BYTES]);
        random.fill(&mut bytes);
        Self(bytes)
    }

    fn hash(&self) -> String {
        digest(&self.0)
    }
}

impl PresentedToken {
    /// Takes a token apart; `None` for what cannot be a token of a session.
    pub(super) fn read(token: &Secret<String>) -> Option<Self> {
        let family_bytes = match token.reveal().len() {
            ACCESS_TOKEN_CHARS => 0,
            REFRESH_TOKEN_CHARS => FAMILY_BYTES,
            _ => return None,
        };
        let bytes = Zeroizing::new(from_base64url(token.reveal())?);
        let (id, rest) = bytes.split_at_checked(ID_BYTES)?;
        let (family, secret) = rest.split_at_checked(family_bytes)?;
        let refresh = (family_bytes > 0).then(|| RefreshToken {
            family: Family(Zeroizing::new(family.to_vec())),
            secret: Zeroizing::new(secret.to_vec()),
        });
        Some(Self { id: base64url(id), refresh, hash: digest(secret) })
    }
}

/// A fresh session id.
pub(super) fn fresh_id(random: &dyn Random) -> String {
    let mut bytes = [0; ID_BYTES];
    random.fill(&mut bytes);
    base64url(&bytes)
}

/// A fresh token of the session, and the hash to recognise it by. With a family it is a refresh token.
pub(super) fn mint(random: &dyn Random, id: &str, family: Option<&Family>) -> (Secret<String>, String) {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    random.fill(secret.as_mut_slice());
    let mut bytes = Zeroizing::new(Vec::with_capacity(ID_BYTES + FAMILY_BYTES + SECRET_BYTES));
    bytes.extend(from_base64url(id).unwrap_or_default());
    bytes.extend(family.iter().flat_map(|family| family.0.iter()));
    bytes.extend_from_slice(secret.as_slice());
    (Secret::new(base64url(&bytes)), digest(secret.as_slice()))
}

/// An access token of a session.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct AccessTokenRecord {
    hash: String,
    /// Some or all of those of the session.
    pub(super) scopes: Vec<String>,
    /// Unix time in seconds.
    pub(super) expires_at: u64,
}

impl AccessTokenRecord {
    /// Whether the token is in date. One that seems to live longer than any is given was issued before the clock
    /// was set back, and how much of its time has passed cannot be said.
    pub(super) fn is_current(&self, now: u64) -> bool {
        now < self.expires_at && self.expires_at <= now + ACCESS_LIFETIME_SECONDS + CLOCK_DIFFERENCE_SECONDS
    }
}

/// A session.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    pub(super) owner: Owner,
    pub(super) resource: String,
    /// What the person has consented to.
    pub(super) scopes: Vec<String>,
    /// Of the person. Sessions of earlier versions have none until they are refreshed.
    #[serde(default)]
    pub(super) membership: Membership,
    /// Kept only if audit records name people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    access: Vec<AccessTokenRecord>,
    refresh_hash: String,
    family_hash: String,
    /// Unix time in seconds: the end, whatever happens.
    ends_at: u64,
    /// Unix time in seconds: the end, if the session is not refreshed until then.
    idle_until: u64,
}

impl SessionRecord {
    /// A session that begins now. It has no token yet.
    pub(super) fn new(
        clock: &dyn Clock,
        owner: Owner,
        resource: String,
        scopes: Vec<String>,
        username: Option<String>,
        family: &Family,
    ) -> Self {
        let now = clock.now();
        Self {
            owner,
            resource,
            scopes,
            membership: Membership::default(),
            username,
            access: Vec::new(),
            refresh_hash: String::new(),
            family_hash: family.hash(),
            ends_at: now + LIFETIME_SECONDS,
            idle_until: now + IDLE_SECONDS,
        }
    }

    pub(super) fn is_over(&self, now: u64) -> bool {
        now >= self.ends_at || now >= self.idle_until
    }

    /// The access token that was presented, whether or not it is in date.
    pub(super) fn access(&self, presented: &PresentedToken) -> Option<&AccessTokenRecord> {
        let mut access = self.access.iter().filter(|_| presented.refresh.is_none());
        access.find(|access| same_secret(access.hash.as_bytes(), presented.hash.as_bytes()))
    }

    /// Names the refresh token of the session without leading to it.
    pub(super) fn refresh_hash(&self) -> &str {
        &self.refresh_hash
    }

    /// Whether the one refresh token of the session was presented.
    pub(super) fn is_refresh_token(&self, presented: &PresentedToken) -> bool {
        self.was_refresh_token(presented) && same_secret(self.refresh_hash.as_bytes(), presented.hash.as_bytes())
    }

    /// Whether the caller that presents this has, or has had, a refresh token of the session.
    pub(super) fn was_refresh_token(&self, presented: &PresentedToken) -> bool {
        let hash = presented.refresh.as_ref().map(|refresh| refresh.family.hash());
        hash.is_some_and(|hash| same_secret(self.family_hash.as_bytes(), hash.as_bytes()))
    }

    /// Gives the session new tokens. The refresh token replaces the one before it; access tokens live on.
    pub(super) fn renew(&mut self, now: u64, access_hash: String, access: (Vec<String>, u64), refresh_hash: String) {
        let (scopes, expires_at) = access;
        self.access.retain(|access| access.is_current(now));
        while self.access.len() >= MAX_ACCESS_TOKENS {
            self.access.remove(0);
        }
        self.access.push(AccessTokenRecord { hash: access_hash, scopes, expires_at });
        self.refresh_hash = refresh_hash;
        self.idle_until = now + IDLE_SECONDS;
    }

    /// How long the record is kept.
    fn ttl(&self, now: u64) -> Duration {
        Duration::from_secs(self.ends_at.min(self.idle_until).saturating_sub(now).max(1))
    }
}

/// Sessions by their id. One that cannot be opened or read is none: its client signs in again.
pub(super) const SESSIONS: Namespace<SessionRecord> =
    Namespace::json(Partition::Application, "session", Ttl::Computed(SessionRecord::ttl)).absent_if_unreadable();

thread_local! {
    /// The sessions that this instance has looked at lately. It spares the parsing and never the read, so the calls of an
    /// instance may share it.
    static LOOKED_AT: Rc<ParsedRecords<SessionRecord>> = Rc::new(ParsedRecords::new(MAX_LOOKED_AT));
}

/// Looks at a session that is not to be changed. It is read from the store each time, and parsed only if it has changed.
pub(super) async fn look(records: &Records<'_>, id: &str) -> Result<Option<Rc<SessionRecord>>, StoreError> {
    let looked_at = LOOKED_AT.with(Rc::clone);
    records.get_parsed(&SESSIONS, id, &looked_at).await
}
