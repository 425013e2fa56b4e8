//! How a session continues: its refresh token changes with every use.
//!
//! The record of a session names one refresh token, the *current* one. All others that it ever had share its family. What
//! a presented refresh token does depends on what it is, and on nothing that an instance remembers:
//!
//! | presented | what happens | then |
//! | --- | --- | --- |
//! | the current one, R1 | a new one, R2, takes its place | R2 is the current one |
//! | the one before R1, within the grace, by its client | the answer that brought R1, once more | unchanged |
//! | any other of the family | `session.reused` | the session has ended |
//! | anything else | unknown | unchanged |
//!
//! "Within the grace" means that the request arrived while the answer that brought R1 counted (`grace`), and R1 has not
//! been used. A call that itself has seen its token as the current one, and was overtaken until nothing is kept for it any
//! more, is no reuse: where there is a grace, its client may try again, and nothing has changed. So a session never has two
//! refresh tokens that work, and no refresh token is ever followed by two different ones.
//!
//! A use of R1 takes these steps. A call may vanish between any two, and others may do all of theirs meanwhile:
//!
//! 1. Read the session. R1 is current.
//! 2. See to it that the tokens of Entra ID behind it live ([`entra_tokens`]). Nothing of the client's is used up.
//! 3. Make R2. No other call knows it.
//! 4. Record `session.refreshed`.
//! 5. Keep the answer under the name of R2, sealed under the secret of R1. No session names R2 yet, so it is not found.
//! 6. Swap the session from what was read in step 1 to one with R2. This is the one moment at which anything changes.
//! 7. Forget the answer that brought R1: R1 has been used.
//!
//! Until 6, R1 is current, and a client that repeats itself begins anew. From 6 on, the answer of step 5 is there, and the
//! client gets that. A call that loses the swap forgets its own answer and reads again: another call has used R1, and it
//! gets that call's answer. A swap whose outcome is unknown, because the store failed, leaves both ways open, so its answer
//! stays. A call that vanishes between 5 and 6 leaves an answer behind that no session names; one that vanishes between 6
//! and 7, an answer that no session names any more. Both end by themselves.
//!
//! Threat: a thief has one of the tokens.
//!
//! - *An old one.* Within the grace it brings the tokens that the client has; afterwards it ends the session. The thief is
//!   then where one is who has stolen the current one. A holder of the family alone cannot open the answer.
//! - *The current one.* The thief uses it first, and the client's own use comes within the grace or ends the session; or
//!   the client uses it first, and the thief's comes within the grace or ends the session. Without a grace, one of the two
//!   always ends it. With a grace, a thief who comes shortly before or after the client, each time, shares the session
//!   until it ends by its age. Each repeated answer is recorded (`session.refresh-repeated`), and a grace of zero switches
//!   this off.
//! - *A made-up one.* The holder of an old access token knows the session's id, not the family, and must not be able to
//!   sign its owner out: nothing ends.
//!
//! A client id is public. An old token ends the session under any: its holder could name the right one just as well. The
//! current token is of no use to another client, and unknown to it; it ends nothing, as a client may mix up the tokens of
//! its own registrations.

use base::Secret;
use base::audit::{AuditEvent, Outcome};
use entra::{AcquireError, EntraWorld};
use world::records::{Stored, Version};
use world::{BodyOnce, StoreError, Unrecorded};

use super::entra_tokens::{self, Wanted};
use super::record::{PresentedToken, RefreshToken, SESSIONS, SessionRecord};
use super::{IssuedTokens, Owner, ending, grace, lifecycle};

/// How often a change is tried again when others change the same session.
const MAX_SWAPS: usize = 8;

/// Why a session is not continued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// No refresh token of a session that lives, or one of another client.
    #[error("the refresh token is unknown, or its session has ended")]
    Unknown,
    /// The refresh token was used before. The session has ended now.
    #[error("the refresh token was used before, so the session was ended")]
    Reused,
    /// More was asked for than the person has consented to.
    #[error("the scope is wider than what was granted")]
    WiderScope,
    /// The session is for another resource.
    #[error("the session is for another resource")]
    WrongResource,
    /// The tokens of Entra ID behind the session cannot be refreshed.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
}

impl From<Unrecorded> for RefreshError {
    fn from(error: Unrecorded) -> Self {
        Self::Acquire(error.into())
    }
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        Self::Acquire(error.into())
    }
}

/// What a client asks for with a refresh token.
#[derive(Clone, Copy)]
struct Asked<'a> {
    scopes: Option<&'a [String]>,
    resource: Option<&'a str>,
}

/// Continues a session: new tokens for its refresh token, or the same ones again. Nothing is consumed before the token of
/// Entra ID behind the session lives long enough, so a client may try again when Entra ID or the store was out of reach.
#[inline(never)]
pub fn refresh<'f>(
    env: &'f EntraWorld<'_>,
    refresh_token: &'f Secret<String>,
    client_id: &'f str,
    scopes: Option<&'f [String]>,
    resource: Option<&'f str>,
) -> BodyOnce<'f, Result<IssuedTokens, RefreshError>> {
    Box::pin(async move {
        let presented = PresentedToken::read(refresh_token).ok_or(RefreshError::Unknown)?;
        // A client that mixes its two tokens up is no thief.
        let token = presented.refresh.as_ref().ok_or(RefreshError::Unknown)?;
        let asked = Asked { scopes, resource };
        // The grace counts to here: what a request waits for later is not its client's fault.
        let arrived = env.clock.now();
        let mut was_current = false;
        for _ in 0..MAX_SWAPS {
            let found = env.records.read(&SESSIONS, &presented.id).await?.ok_or(RefreshError::Unknown)?;
            let Stored { value: record, version } = found;
            if record.is_over(env.clock.now()) || !record.was_refresh_token(&presented) {
                return Err(RefreshError::Unknown);
            }
            let (id, is_current) = (presented.id.as_str(), record.is_refresh_token(&presented));
            let is_own = record.owner.client_id == client_id;
            if is_current && !is_own {
                return Err(RefreshError::Unknown);
            }
            env.trail.set_session(id);
            env.trail.set_user(record.username.as_deref());
            if !is_own {
                return Err(reused(env, id, &record.owner, Some("other-client")).await?);
            }
            if !is_current {
                let Some(tokens) = grace::find(env, id, token, record.refresh_hash(), arrived).await? else {
                    if was_current && grace::time(env.settings).is_some() {
                        return Err(StoreError::Contended.into());
                    }
                    return Err(reused(env, id, &record.owner, None).await?);
                };
                return repeat(env, id, &record, tokens, asked).await;
            }
            was_current = true;
            if !record.owner.is_let_in(env.settings) {
                ending::end(env, id, &record.owner, "tenant-not-allowed").await?;
                return Err(RefreshError::Unknown);
            }
            if let Some(tokens) = rotate(env, id, (record, &version), token, asked).await? {
                return Ok(tokens);
            }
        }
        Err(StoreError::Contended.into())
    })
}

impl Asked<'_> {
    /// The scopes of the access token; or why there is none.
    fn scopes(&self, record: &SessionRecord) -> Result<Vec<String>, RefreshError> {
        if self.resource.is_some_and(|resource| resource != record.resource) {
            return Err(RefreshError::WrongResource);
        }
        let scopes = self.scopes.unwrap_or(&record.scopes);
        if scopes.iter().any(|scope| !record.scopes.contains(scope)) {
            return Err(RefreshError::WiderScope);
        }
        Ok(scopes.to_vec())
    }
}

/// Puts a new refresh token in the place of the current one. `None`: another call has changed the session meanwhile.
async fn rotate(
    env: &EntraWorld<'_>,
    id: &str,
    before: (SessionRecord, &Version),
    token: &RefreshToken,
    asked: Asked<'_>,
) -> Result<Option<IssuedTokens>, RefreshError> {
    let (mut record, version) = before;
    let scopes = asked.scopes(&record)?;
    let (owner, old) = (record.owner.clone(), record.refresh_hash().to_owned());
    let live = entra_tokens::live(env, id, &owner, Wanted::Recent).await?;
    record.membership = live.membership;
    let tokens = lifecycle::issue(env, id, &mut record, scopes, live.expires_at, &token.family);
    let new = record.refresh_hash();
    // Recorded first: once the refresh token is replaced, the client must get the new one.
    env.trail.record(owner.event("session.refreshed", Outcome::Success)).await?;
    let replaced = match grace::keep(env, id, token, new, &tokens).await {
        Ok(()) => env.records.replace(&SESSIONS, id, version, &record).await,
        Err(error) => Err(error),
    };
    let reason = match &replaced {
        Ok(Some(_)) => {
            grace::forget(env, id, &old).await;
            return Ok(Some(tokens));
        }
        Ok(None) => {
            grace::forget(env, id, new).await;
            "changed-meanwhile"
        }
        // The session may have changed all the same: then the answer that is kept is the one to repeat.
        Err(_) => "store",
    };
    let event = owner.event("session.refreshed", Outcome::Failure);
    env.trail.record(event.because(reason.to_owned())).await?;
    replaced?;
    Ok(None)
}

/// Gives the last answer again to the token that it replaced.
async fn repeat(
    env: &EntraWorld<'_>,
    id: &str,
    record: &SessionRecord,
    tokens: IssuedTokens,
    asked: Asked<'_>,
) -> Result<IssuedTokens, RefreshError> {
    let owner = &record.owner;
    if !owner.is_let_in(env.settings) {
        ending::end(env, id, owner, "tenant-not-allowed").await?;
        return Err(RefreshError::Unknown);
    }
    asked.scopes(record)?;
    env.trail.record(owner.event("session.refresh-repeated", Outcome::Success)).await?;
    Ok(tokens)
}

/// Ends a session whose refresh token was used before. `reason` is a stable code for the audit record.
async fn reused(
    env: &EntraWorld<'_>,
    id: &str,
    owner: &Owner,
    reason: Option<&str>,
) -> Result<RefreshError, AcquireError> {
    // The session ends even if that cannot be recorded.
    let removed = ending::remove(env, id).await;
    let event = owner.event("session.reused", Outcome::Failure);
    env.trail.record(AuditEvent { reason: reason.map(str::to_owned), ..event }).await?;
    if let Err(error) = removed {
        ending::record_doubt(env, owner).await;
        return Err(error.into());
    }
    let revoked = owner.event("session.revoked", Outcome::Success);
    env.trail.record(revoked.because("refresh-token-reused".to_owned())).await?;
    Ok(RefreshError::Reused)
}
