//! Entra's tokens of a session. They never leave the server.
//!
//! They are a record of their own, which ends with the session. One call at a time refreshes them, across all
//! servers on one store; the others wait for it. What Entra hands out is stored before anything else is done.
//!
//! The token for the profile is the session's own: without it there is no session. Tokens for more of Graph are got by
//! the same refresh token when a tool wants them. That nobody has consented to more says nothing against the session.

use std::collections::BTreeMap;
use std::time::Duration;

use base::Secret;
use base::audit::Outcome;
use base::encoding::digest;
use base::secret::{reveal, reveal_optional};
use entra::graph::Challenge;
use entra::graph::profile::profile_scope;
use entra::oauth::error::Refusal;
use entra::oauth::{OAuthError, TokenSet, refresh, with_openid};
use entra::{AcquireError, EntraWorld};
use serde::{Deserialize, Serialize};
use world::StoreError;
use world::single_flight::Lease;
use zeroize::Zeroizing;

use super::record::{self, IDLE_SECONDS, LIFETIME_SECONDS, Raw};
use super::{Membership, Owner, claims, lifecycle};
use crate::renewal::{LEASE, LEASE_PATIENCE, LEASE_POLL, margin};

/// How long the mark of a session's end is kept: it is removed in the next moment.
const TOMBSTONE: Duration = Duration::from_secs(60);
/// How long it is remembered that Entra gives no token for more: long enough that a client which repeats itself is no
/// flood at Entra ID, and short enough that a consent which is given now soon works.
const REFUSAL: Duration = Duration::from_secs(5);

/// What Entra gave us for a session.
#[derive(Clone, Serialize, Deserialize)]
pub struct EntraTokens {
    /// For Microsoft Graph. Opaque.
    #[serde(serialize_with = "reveal")]
    pub access_token: Secret<String>,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// Absent if Entra gave none.
    #[serde(serialize_with = "reveal_optional")]
    pub refresh_token: Option<Secret<String>>,
    /// What the ID token says that came with these, or with earlier ones.
    #[serde(default)]
    pub membership: Membership,
}

impl From<TokenSet> for EntraTokens {
    fn from(set: TokenSet) -> Self {
        Self {
            access_token: set.access_token,
            expires_at: set.expires_at,
            refresh_token: set.refresh_token,
            membership: Membership::default(),
        }
    }
}

/// The scopes that Entra is asked for: those of the profile, and those that give an ID token and a refresh token.
pub fn scopes(env: &EntraWorld<'_>) -> Vec<String> {
    with_openid(&[profile_scope(env)])
}

/// An access token that lives for a while, and what is known of its person.
#[derive(Clone)]
pub(super) struct Live {
    /// For Microsoft Graph. Opaque.
    pub(super) access_token: Secret<String>,
    /// Unix time in seconds.
    pub(super) expires_at: u64,
    pub(super) membership: Membership,
}

/// An access token for more than the profile, as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct More {
    #[serde(serialize_with = "reveal")]
    access_token: Secret<String>,
    /// Unix time in seconds.
    expires_at: u64,
}

/// The record: the tokens, and when the session ends at the latest.
#[derive(Serialize, Deserialize)]
struct Record {
    tokens: EntraTokens,
    /// Tokens for more than the profile, by their scope. The tools ask for a few scopes only, so this is small.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    more: BTreeMap<String, More>,
    /// Unix time in seconds.
    ends_at: u64,
}

impl Record {
    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        serde_json::to_vec(self).map(Zeroizing::new).map_err(|_| StoreError::TooLarge)
    }

    fn ttl(&self, now: u64) -> Duration {
        Duration::from_secs(self.ends_at.saturating_sub(now).clamp(1, IDLE_SECONDS))
    }

    /// The access token for a scope, if there is one.
    fn access(&self, scope: &Scope) -> Option<Live> {
        let (access_token, expires_at) = match scope {
            Scope::Profile => (&self.tokens.access_token, self.tokens.expires_at),
            Scope::More(scope) => self.more.get(scope).map(|more| (&more.access_token, more.expires_at))?,
        };
        let membership = self.tokens.membership.clone();
        Some(Live { access_token: access_token.clone(), expires_at, membership })
    }
}

fn key(env: &EntraWorld<'_>, id: &str) -> String {
    env.settings.record(&format!("session-entra/{id}"))
}

/// Keeps the tokens of a session that begins.
pub(super) fn keep(env: &EntraWorld<'_>, id: &str, tokens: &EntraTokens) -> Result<(), StoreError> {
    let now = env.clock.now();
    let record = Record { tokens: tokens.clone(), more: BTreeMap::new(), ends_at: now + LIFETIME_SECONDS };
    env.store.put(&key(env, id), &record.bytes()?, Some(record.ttl(now)))
}

/// Forgets the tokens of a session.
pub(super) fn forget(env: &EntraWorld<'_>, id: &str) -> Result<(), StoreError> {
    env.store.delete(&key(env, id))
}

/// What an access token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// The profile, which every session is allowed to see.
    Profile,
    /// This, in the qualified form.
    More(String),
}

impl Scope {
    /// Of a scope in the qualified form.
    pub(super) fn of(env: &EntraWorld<'_>, scope: String) -> Self {
        if scope == profile_scope(env) { Self::Profile } else { Self::More(scope) }
    }

    fn requested(&self, env: &EntraWorld<'_>) -> Vec<String> {
        match self {
            Self::Profile => scopes(env),
            Self::More(scope) => with_openid(std::slice::from_ref(scope)),
        }
    }
}

/// What is asked of Entra's tokens.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// That they live.
    Live,
    /// That what Entra says with them of the person is recent as well, if Entra can be reached.
    Recent,
    /// That what Entra says with them of the person counts. Tokens alone are of no use.
    Confirmed,
    /// That they are not those that were refused.
    Other(&'a Challenge),
}

/// The session that a token is for.
#[derive(Clone, Copy)]
struct Of<'a> {
    id: &'a str,
    owner: &'a Owner,
}

/// A token for the profile that lives for some minutes more: [`live_for`].
pub(super) async fn live(
    env: &EntraWorld<'_>,
    id: &str,
    owner: &Owner,
    wanted: Wanted<'_>,
) -> Result<Live, AcquireError> {
    live_for(env, id, owner, &Scope::Profile, wanted).await
}

/// A token that lives for some minutes more: the one in the store, refreshed first if it is about to expire or is not
/// what is wanted.
///
/// [`AcquireError::NeedsPerson`] means that the session has ended, and that it was removed;
/// [`AcquireError::Refused`] that there is no token for this scope.
pub(super) async fn live_for(
    env: &EntraWorld<'_>,
    id: &str,
    owner: &Owner,
    scope: &Scope,
    wanted: Wanted<'_>,
) -> Result<Live, AcquireError> {
    let challenge = match wanted {
        Wanted::Live | Wanted::Recent | Wanted::Confirmed => None,
        Wanted::Other(challenge) => Some(challenge),
    };
    let of = Of { id, owner };
    let began = env.clock.monotonic();
    let lease_record = env.settings.record(&format!("session-refreshing/{id}"));
    loop {
        let Some((record, raw)) = record::read::<Record>(env, &key(env, id))? else {
            lifecycle::end_without_tokens(env, id, owner)?;
            return Err(ended(challenge));
        };
        let now = env.clock.now();
        let was_refused = |live: &Live| challenge.is_some_and(|it| it.refused.reveal() == live.access_token.reveal());
        let usable = record.access(scope).filter(|live| !was_refused(live) && live.expires_at > now);
        let unconfirmed = matches!(wanted, Wanted::Confirmed) && !record.tokens.membership.counts(now);
        let outdated = unconfirmed || matches!(wanted, Wanted::Recent) && !record.tokens.membership.is_recent(now);
        if let Some(live) = usable.as_ref().filter(|live| !outdated && live.expires_at > now + margin(env.random)) {
            return Ok(live.clone());
        }
        let Some(refresh_token) = record.tokens.refresh_token.clone() else {
            // Roles must not live on for as long as a token of continuous access evaluation, which is a day.
            if let Some(live) = usable.filter(|live| !outdated || !live.membership.names_something()) {
                return Ok(live);
            }
            // Nobody has consented to `offline_access`. Without more than the profile a session can live until it expires.
            if *scope != Scope::Profile && challenge.is_none() {
                return Err(Refusal::new("consent_required", &[], None).into());
            }
            want(env, owner, challenge);
            lifecycle::end(env, id, owner, "no-refresh-token")?;
            return Err(ended(challenge));
        };
        if let Some(refusal) = remembered_refusal(env, id, scope)? {
            return Err(refusal.into());
        }
        let lease = Lease::take(env, &lease_record, LEASE)?;
        if lease.is_none() && env.clock.monotonic().saturating_sub(began) < LEASE_PATIENCE {
            env.clock.sleep(LEASE_POLL).await;
            continue;
        }
        // Another call may have refreshed between our look and our lease.
        if lease.is_some() && !is_still(env, id, &raw)? {
            lease.into_iter().for_each(Lease::release);
            continue;
        }
        let claims = challenge.and_then(|challenge| challenge.claims.as_deref());
        let answer = refresh::refresh(env, &refresh_token, &scope.requested(env), claims).await;
        let result = match answer {
            Ok(set) => {
                let membership = record.tokens.membership.clone().renewed(env, owner, set.id_token.as_ref()).await;
                took(env, of, scope, (record, &raw), (set, membership)).map(Some)
            }
            Err(OAuthError::Refused(refusal)) if *scope != Scope::Profile && refusal.needs_consent() => {
                Err(no_more(env, of, scope, refusal))
            }
            Err(OAuthError::Refused(refusal)) if refusal.needs_interaction() => {
                refused_for_good(env, of, &raw, &refusal, claims).map(|()| None)
            }
            // Entra is out of reach, but the token at hand is still good for a while.
            Err(error) => usable.filter(|_| !unconfirmed).map(Some).ok_or_else(|| error.into()),
        };
        lease.into_iter().for_each(Lease::release);
        match result {
            Ok(Some(live)) => return Ok(live),
            // Somebody has refreshed while Entra refused the token that we had.
            Ok(None) => continue,
            Err(error) => return Err(error),
        }
    }
}

/// Stores what a refresh answered, unless the session has ended or was refreshed by another call meanwhile.
fn took(
    env: &EntraWorld<'_>,
    of: Of<'_>,
    scope: &Scope,
    before: (Record, &Raw),
    answer: (TokenSet, Membership),
) -> Result<Live, AcquireError> {
    let Of { id, owner } = of;
    let ((mut record, raw), (set, membership)) = (before, answer);
    let live = Live { access_token: set.access_token, expires_at: set.expires_at, membership };
    record.tokens.membership = live.membership.clone();
    match scope {
        Scope::Profile => {
            record.tokens.access_token = live.access_token.clone();
            record.tokens.expires_at = live.expires_at;
        }
        Scope::More(scope) => {
            let more = More { access_token: live.access_token.clone(), expires_at: live.expires_at };
            record.more.insert(scope.clone(), more);
        }
    }
    if set.refresh_token.is_some() {
        record.tokens.refresh_token = set.refresh_token;
    }
    // What Entra has rotated must not be lost, so it is stored first. Nobody gets it before it is on record.
    let expected = Some(raw.reveal().as_slice());
    let ttl = Some(record.ttl(env.clock.now()));
    let stored = env.store.compare_and_swap(&key(env, id), expected, &record.bytes()?, ttl)?;
    env.trail.record(owner.event("token.refreshed", Outcome::Success))?;
    // A session that was ended meanwhile stays so: its token is not used any more.
    if !stored && record::read::<Record>(env, &key(env, id))?.is_none() {
        return Err(ended(None));
    }
    Ok(live)
}

/// There is no consent to more than the profile. The session goes on.
fn no_more(env: &EntraWorld<'_>, of: Of<'_>, scope: &Scope, refusal: Refusal) -> AcquireError {
    let Of { id, owner } = of;
    let event = owner.event("token.refreshed", Outcome::Failure);
    if let Err(error) = env.trail.record(event.because(refusal.reason())) {
        return error.into();
    }
    if let (Some(record), Ok(bytes)) = (refusal_record(env, id, scope), serde_json::to_vec(&refusal)) {
        // A refusal that cannot be remembered costs a request.
        let _ = env.store.put(&record, &bytes, Some(REFUSAL));
    }
    refusal.into()
}

fn remembered_refusal(env: &EntraWorld<'_>, id: &str, scope: &Scope) -> Result<Option<Refusal>, StoreError> {
    let Some(record) = refusal_record(env, id, scope) else { return Ok(None) };
    Ok(record::read::<Refusal>(env, &record)?.map(|(refusal, _)| refusal))
}

/// Where it is remembered that there is no consent; nowhere for the profile.
fn refusal_record(env: &EntraWorld<'_>, id: &str, scope: &Scope) -> Option<String> {
    let Scope::More(scope) = scope else { return None };
    Some(env.settings.record(&format!("session-refused/{id}/{}", digest(scope.as_bytes()))))
}

/// Entra does not accept the refresh token any more. `Ok` if there is another one now.
fn refused_for_good(
    env: &EntraWorld<'_>,
    of: Of<'_>,
    raw: &Raw,
    refusal: &Refusal,
    claims: Option<&str>,
) -> Result<(), AcquireError> {
    let Of { id, owner } = of;
    let event = owner.event("token.refreshed", Outcome::Failure);
    env.trail.record(event.because(refusal.reason()))?;
    // Replaced by what is no record: a call that refreshes at this moment finds that the session has ended.
    if !env.store.compare_and_swap(&key(env, id), Some(raw.reveal().as_slice()), b"", Some(TOMBSTONE))? {
        return Ok(());
    }
    // What Entra says now is newer than what Graph has said.
    let claims = refusal.claims.as_deref().or(claims);
    if let Some(claims) = claims {
        claims::want(env, owner, claims);
    }
    lifecycle::end(env, id, owner, &refusal.reason())?;
    Err(AcquireError::NeedsPerson { reason: refusal.public_advice(), claims: claims.map(str::to_owned) })
}

/// Graph refuses the new token too, so only the person can bring what it wants: the session ends, unless another call
/// has got other tokens meanwhile. What the caller has to be told.
pub(super) fn unsatisfied(
    env: &EntraWorld<'_>,
    id: &str,
    owner: &Owner,
    scope: &Scope,
    challenge: &Challenge,
) -> Result<AcquireError, AcquireError> {
    let found = record::read::<Record>(env, &key(env, id))?.and_then(|(record, _)| record.access(scope));
    if found.is_some_and(|live| live.access_token.reveal() == challenge.refused.reveal()) {
        want(env, owner, Some(challenge));
        lifecycle::end(env, id, owner, "claims-challenge")?;
    }
    Ok(ended(Some(challenge)))
}

fn want(env: &EntraWorld<'_>, owner: &Owner, challenge: Option<&Challenge>) {
    if let Some(claims) = challenge.and_then(|challenge| challenge.claims.as_deref()) {
        claims::want(env, owner, claims);
    }
}

fn is_still(env: &EntraWorld<'_>, id: &str, raw: &Raw) -> Result<bool, StoreError> {
    Ok(env.store.get(&key(env, id))?.is_some_and(|now| now.reveal() == raw.reveal()))
}

fn ended(challenge: Option<&Challenge>) -> AcquireError {
    AcquireError::NeedsPerson {
        reason: "The session has ended: sign in again.".to_owned(),
        claims: challenge.and_then(|challenge| challenge.claims.clone()),
    }
}
