//! Entra's tokens of a session. They never leave the server.
//!
//! They are a record of their own, which ends with the session. One call at a time refreshes them, across all
//! servers on one store; the others wait for it. What Entra hands out is stored before anything else is done.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::{self, IDLE_SECONDS, LIFETIME_SECONDS, Raw};
use super::{Membership, Owner, claims, lifecycle};
use crate::audit;
use crate::environment::{Environment, Outcome, StoreError};
use crate::graph::profile::profile_scope;
use crate::oauth::{OAuthError, TokenSet, refresh};
use crate::secret::Secret;
use crate::sign_in::SignInError;
use crate::sign_in::accounts::{self, reveal, reveal_optional};
use crate::sign_in::attempt::with_openid;
use crate::sign_in::silent::{Challenge, LEASE, LEASE_PATIENCE, LEASE_POLL, margin};
use crate::single_flight::Lease;

/// How long the mark of a session's end is kept: it is removed in the next moment.
const TOMBSTONE: Duration = Duration::from_secs(60);

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
pub fn scopes(env: &Environment) -> Vec<String> {
    with_openid(&[profile_scope(env)])
}

/// The record: the tokens, and when the session ends at the latest.
#[derive(Serialize, Deserialize)]
struct Record {
    tokens: EntraTokens,
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
}

fn key(env: &Environment, id: &str) -> String {
    accounts::record(env, &format!("session-entra/{id}"))
}

/// Keeps the tokens of a session that begins.
pub(super) fn keep(env: &Environment, id: &str, tokens: &EntraTokens) -> Result<(), StoreError> {
    let now = env.clock.now();
    let record = Record { tokens: tokens.clone(), ends_at: now + LIFETIME_SECONDS };
    env.store.put(&key(env, id), &record.bytes()?, Some(record.ttl(now)))
}

/// Forgets the tokens of a session.
pub(super) fn forget(env: &Environment, id: &str) -> Result<(), StoreError> {
    env.store.delete(&key(env, id))
}

/// What is asked of Entra's tokens.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// That they live.
    Live,
    /// That what Entra says with them of the person is recent as well, if Entra can be reached.
    Recent,
    /// That they are not those that were refused.
    Other(&'a Challenge),
}

/// Tokens that live for some minutes more: those in the store, refreshed first if they are about to expire or are not
/// what is wanted.
///
/// [`SignInError::InteractionRequired`] means that the session has ended, and that it was removed.
pub(super) async fn live(
    env: &Environment,
    id: &str,
    owner: &Owner,
    wanted: Wanted<'_>,
    correlation_id: &str,
) -> Result<EntraTokens, SignInError> {
    let challenge = match wanted {
        Wanted::Live | Wanted::Recent => None,
        Wanted::Other(challenge) => Some(challenge),
    };
    let began = env.clock.monotonic();
    let lease_record = accounts::record(env, &format!("session-refreshing/{id}"));
    loop {
        let Some((Record { tokens, ends_at }, raw)) = record::read::<Record>(env, &key(env, id))? else {
            lifecycle::end_without_tokens(env, id, owner, correlation_id)?;
            return Err(ended(challenge));
        };
        let now = env.clock.now();
        let refused = challenge.is_some_and(|challenge| challenge.refused.reveal() == tokens.access_token.reveal());
        let outdated = matches!(wanted, Wanted::Recent) && !tokens.membership.is_recent(now);
        if !refused && !outdated && tokens.expires_at > now + margin(env) {
            return Ok(tokens);
        }
        let usable = !refused && tokens.expires_at > now;
        let Some(refresh_token) = &tokens.refresh_token else {
            if usable {
                return Ok(tokens);
            }
            want(env, owner, challenge);
            lifecycle::end(env, id, owner, "no-refresh-token", correlation_id)?;
            return Err(ended(challenge));
        };
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
        let answer = refresh::refresh(env, refresh_token, &scopes(env), claims).await;
        let result = match answer {
            Ok(set) => {
                let membership = tokens.membership.clone().renewed(env, owner, set.id_token.as_ref()).await;
                let fresh = EntraTokens { membership, ..set.into() };
                took(env, id, owner, (refresh_token, ends_at, &raw), fresh, correlation_id).map(Some)
            }
            Err(OAuthError::Refused(refusal)) if refusal.needs_interaction() => {
                refused_for_good(env, id, owner, &raw, &refusal, claims, correlation_id)
            }
            // Entra is out of reach, but the token at hand is still good for a while.
            Err(_) if usable => Ok(Some(tokens.clone())),
            Err(error) => Err(error.into()),
        };
        lease.into_iter().for_each(Lease::release);
        match result {
            Ok(Some(tokens)) => return Ok(tokens),
            // Somebody has refreshed while Entra refused the token that we had.
            Ok(None) => continue,
            Err(error) => return Err(error),
        }
    }
}

/// Stores what a refresh answered, unless the session has ended or was refreshed by another call meanwhile.
fn took(
    env: &Environment,
    id: &str,
    owner: &Owner,
    used: (&Secret<String>, u64, &Raw),
    mut tokens: EntraTokens,
    correlation_id: &str,
) -> Result<EntraTokens, SignInError> {
    let (refresh_token, ends_at, raw) = used;
    tokens.refresh_token.get_or_insert_with(|| refresh_token.clone());
    let record = Record { tokens, ends_at };
    // What Entra has rotated must not be lost, so it is stored first. Nobody gets it before it is on record.
    let expected = Some(raw.reveal().as_slice());
    let ttl = Some(record.ttl(env.clock.now()));
    let stored = env.store.compare_and_swap(&key(env, id), expected, &record.bytes()?, ttl)?;
    audit::record(env, owner.event("token.refreshed", Outcome::Success, correlation_id))?;
    // A session that was ended meanwhile stays so: its token is not used any more.
    if !stored && record::read::<Record>(env, &key(env, id))?.is_none() {
        return Err(ended(None));
    }
    Ok(record.tokens)
}

/// Entra does not accept the refresh token any more. `None` if there is another one now.
fn refused_for_good(
    env: &Environment,
    id: &str,
    owner: &Owner,
    raw: &Raw,
    refusal: &crate::oauth::error::Refusal,
    claims: Option<&str>,
    correlation_id: &str,
) -> Result<Option<EntraTokens>, SignInError> {
    let event = owner.event("token.refreshed", Outcome::Failure, correlation_id);
    audit::record(env, audit::because(event, refusal.reason()))?;
    // Replaced by what is no record: a call that refreshes at this moment finds that the session has ended.
    if !env.store.compare_and_swap(&key(env, id), Some(raw.reveal().as_slice()), b"", Some(TOMBSTONE))? {
        return Ok(None);
    }
    // What Entra says now is newer than what Graph has said.
    let claims = refusal.claims.as_deref().or(claims);
    if let Some(claims) = claims {
        claims::want(env, owner, claims);
    }
    lifecycle::end(env, id, owner, &refusal.reason(), correlation_id)?;
    Err(SignInError::InteractionRequired { reason: refusal.public_advice(), claims: claims.map(str::to_owned) })
}

/// Graph refuses the new token too, so only the person can bring what it wants: the session ends, unless another call
/// has got other tokens meanwhile. What the caller has to be told.
pub(super) fn unsatisfied(
    env: &Environment,
    id: &str,
    owner: &Owner,
    challenge: &Challenge,
    correlation_id: &str,
) -> Result<SignInError, SignInError> {
    let found = record::read::<Record>(env, &key(env, id))?;
    if found.is_some_and(|(record, _)| record.tokens.access_token.reveal() == challenge.refused.reveal()) {
        want(env, owner, Some(challenge));
        lifecycle::end(env, id, owner, "claims-challenge", correlation_id)?;
    }
    Ok(ended(Some(challenge)))
}

fn want(env: &Environment, owner: &Owner, challenge: Option<&Challenge>) {
    if let Some(claims) = challenge.and_then(|challenge| challenge.claims.as_deref()) {
        claims::want(env, owner, claims);
    }
}

fn is_still(env: &Environment, id: &str, raw: &Raw) -> Result<bool, StoreError> {
    Ok(env.store.get(&key(env, id))?.is_some_and(|now| now.reveal() == raw.reveal()))
}

fn ended(challenge: Option<&Challenge>) -> SignInError {
    SignInError::InteractionRequired {
        reason: "The session has ended: sign in again.".to_owned(),
        claims: challenge.and_then(|challenge| challenge.claims.clone()),
    }
}
