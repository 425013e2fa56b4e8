//! How a session begins, continues and ends.
//!
//! The refresh token changes with every use. A thief presents one that was used before, or a client does from which it
//! was stolen, and the server cannot tell which: the session ends. Two uses at the same moment are no exception,
//! because a thief who is fast enough would look the same. A token that never was one ends nothing: the holder of an
//! old access token knows the session's id, and must not be able to sign its owner out.

use base::Secret;
use base::audit::Outcome;
use entra::{AcquireError, EntraWorld};
use world::records::Stored;
use world::{StoreError, Unrecorded};

use super::entra_tokens::{self, EntraTokens, Wanted};
use super::record::{self, ACCESS_LIFETIME_SECONDS, Family, PresentedToken, SESSIONS, SessionRecord};
use super::{Membership, Owner, Session};

/// How often a change is tried again when others change the same session.
const MAX_SWAPS: usize = 8;

/// What a client gets.
#[derive(Debug)]
pub struct IssuedTokens {
    /// The access token.
    pub access_token: Secret<String>,
    /// The refresh token, which replaces the one before.
    pub refresh_token: Secret<String>,
    /// Seconds until the access token expires: never longer than the token of Entra ID lives.
    pub expires_in: u64,
    /// What the access token is good for.
    pub scopes: Vec<String>,
}

/// What a session is made from.
pub struct Beginning {
    /// The owner of the session.
    pub owner: Owner,
    /// The resource that its access tokens are for.
    pub resource: String,
    /// What the person has consented to.
    pub scopes: Vec<String>,
    /// What Entra ID gave for the session.
    pub tokens: EntraTokens,
    /// For audit records, if they are to name people.
    pub username: Option<String>,
}

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

/// Begins a session and returns its id and the client's first tokens. The tokens of Entra ID are stored before the
/// session, so that no session is ever without.
pub async fn begin(env: &EntraWorld<'_>, beginning: Beginning) -> Result<(String, IssuedTokens), AcquireError> {
    let Beginning { owner, resource, scopes, tokens, username } = beginning;
    let id = record::fresh_id(env);
    env.trail.set_session(&id);
    env.trail.set_user(username.as_deref());
    entra_tokens::keep(env, &id, &tokens).await?;
    let begun = match entra_tokens::live(env, &id, &owner, Wanted::Live).await {
        Ok(live) => {
            let family = Family::fresh(env);
            let mut record = SessionRecord::new(env, owner, resource, scopes.clone(), username, &family);
            record.membership = live.membership;
            let tokens = issue(env, &id, &mut record, scopes, live.expires_at, &family);
            match env.records.insert_new(&SESSIONS, &id, &record).await {
                Ok(true) => Ok(tokens),
                Ok(false) => Err(StoreError::Unavailable("the id of the session is taken".to_owned()).into()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error),
    };
    if begun.is_err() {
        // What cannot be removed now is sealed, no client knows its id, and it ends by itself.
        let _ = remove(env, &id).await;
    }
    begun.map(|tokens| (id, tokens))
}

/// Continues a session: new tokens for its refresh token. Nothing is consumed before the token of Entra ID behind the
/// session lives long enough, so a client may try again when Entra ID or the store was out of reach.
pub async fn refresh(
    env: &EntraWorld<'_>,
    refresh_token: &Secret<String>,
    client_id: &str,
    scopes: Option<&[String]>,
    resource: Option<&str>,
) -> Result<IssuedTokens, RefreshError> {
    let presented = PresentedToken::read(refresh_token).ok_or(RefreshError::Unknown)?;
    // A client that mixes its two tokens up is no thief.
    let family = presented.family.as_ref().ok_or(RefreshError::Unknown)?;
    for _ in 0..MAX_SWAPS {
        let found = env.records.read(&SESSIONS, &presented.id).await?.ok_or(RefreshError::Unknown)?;
        let Stored { value: mut record, version } = found;
        // Client ids are public: a wrong one says nothing about whether the token was stolen.
        if record.owner.client_id != client_id || record.is_over(env.clock.now()) {
            return Err(RefreshError::Unknown);
        }
        env.trail.set_session(&presented.id);
        env.trail.set_user(record.username.as_deref());
        if !record.is_refresh_token(&presented) {
            if !record.was_refresh_token(&presented) {
                return Err(RefreshError::Unknown);
            }
            return Err(reused(env, &presented.id, &record.owner).await?);
        }
        if !record.owner.is_let_in(env) {
            end(env, &presented.id, &record.owner, "tenant-not-allowed").await?;
            return Err(RefreshError::Unknown);
        }
        if resource.is_some_and(|resource| resource != record.resource) {
            return Err(RefreshError::WrongResource);
        }
        let narrowed = scopes.unwrap_or(&record.scopes).to_vec();
        if narrowed.iter().any(|scope| !record.scopes.contains(scope)) {
            return Err(RefreshError::WiderScope);
        }
        let owner = record.owner.clone();
        let live = entra_tokens::live(env, &presented.id, &owner, Wanted::Recent).await?;
        record.membership = live.membership;
        let tokens = issue(env, &presented.id, &mut record, narrowed, live.expires_at, family);
        // Recorded first: once the refresh token is replaced, the client must get the new one.
        env.trail.record(owner.event("session.refreshed", Outcome::Success)).await?;
        let replaced = env.records.replace(&SESSIONS, &presented.id, &version, &record).await;
        let reason = match &replaced {
            Ok(Some(_)) => return Ok(tokens),
            Ok(None) => "changed-meanwhile",
            Err(_) => "store",
        };
        let event = owner.event("session.refreshed", Outcome::Failure);
        env.trail.record(event.because(reason.to_owned())).await?;
        replaced?;
    }
    Err(StoreError::Contended.into())
}

async fn reused(env: &EntraWorld<'_>, id: &str, owner: &Owner) -> Result<RefreshError, AcquireError> {
    // The session ends even if that cannot be recorded.
    let removed = remove(env, id).await;
    env.trail.record(owner.event("session.reused", Outcome::Failure)).await?;
    removed?;
    let revoked = owner.event("session.revoked", Outcome::Success);
    env.trail.record(revoked.because("refresh-token-reused".to_owned())).await?;
    Ok(RefreshError::Reused)
}

/// Notes what Entra ID says of the person now, if that is not what the session says. What is changed at this moment, or
/// cannot be written, is noted with the next refresh.
pub(super) async fn note(env: &EntraWorld<'_>, session: &Session, membership: &Membership) {
    if session.membership == *membership {
        return;
    }
    // A client may have refreshed the session since this call began, and what it was told then is newer.
    if let Ok(Some(Stored { value: mut record, version })) = env.records.read(&SESSIONS, &session.id).await
        && membership.replaces(&record.membership)
    {
        record.membership = membership.clone();
        let _ = env.records.replace(&SESSIONS, &session.id, &version, &record).await;
    }
}

/// Makes tokens and puts their hashes into the record.
fn issue(
    env: &EntraWorld<'_>,
    id: &str,
    record: &mut SessionRecord,
    scopes: Vec<String>,
    entra_expires_at: u64,
    family: &Family,
) -> IssuedTokens {
    let now = env.clock.now();
    let expires_at = entra_expires_at.min(now + ACCESS_LIFETIME_SECONDS);
    let (access_token, access_hash) = record::mint(env, id, None);
    let (refresh_token, refresh_hash) = record::mint(env, id, Some(family));
    record.renew(now, access_hash, (scopes.clone(), expires_at), refresh_hash);
    IssuedTokens { access_token, refresh_token, expires_in: expires_at.saturating_sub(now), scopes }
}

/// Ends the session that a token of `client_id` belongs to (RFC 7009); whether there was one. A token of another
/// client ends nothing.
pub async fn revoke(env: &EntraWorld<'_>, token: &Secret<String>, client_id: &str) -> Result<bool, AcquireError> {
    let Some(presented) = PresentedToken::read(token) else { return Ok(false) };
    let Some(record) = env.records.get(&SESSIONS, &presented.id).await? else { return Ok(false) };
    let genuine = record.is_refresh_token(&presented) || record.access(&presented).is_some();
    if !genuine || record.owner.client_id != client_id {
        return Ok(false);
    }
    env.trail.set_user(record.username.as_deref());
    end(env, &presented.id, &record.owner, "revoked-by-client").await?;
    Ok(true)
}

/// Ends a session. `reason` is a stable code for the audit record.
pub async fn end(env: &EntraWorld<'_>, id: &str, owner: &Owner, reason: &str) -> Result<(), AcquireError> {
    // The session ends even if that cannot be recorded.
    remove(env, id).await?;
    env.trail.set_session(id);
    let event = owner.event("session.revoked", Outcome::Success);
    Ok(env.trail.record(event.because(reason.to_owned())).await?)
}

/// Removes the tokens of Entra ID first: if the store fails in between, the client can ask again.
async fn remove(env: &EntraWorld<'_>, id: &str) -> Result<(), StoreError> {
    entra_tokens::forget(env, id).await?;
    env.records.delete(&SESSIONS, id).await
}

/// Ends what is left of a session that has lost its tokens of Entra ID.
pub(super) async fn end_without_tokens(env: &EntraWorld<'_>, id: &str, owner: &Owner) -> Result<(), AcquireError> {
    // Another call may have ended the session in this moment; that call has recorded the end as well.
    if env.records.take(&SESSIONS, id).await?.is_none() {
        return Ok(());
    }
    let event = owner.event("session.revoked", Outcome::Success);
    Ok(env.trail.record(event.because("entra-tokens-gone".to_owned())).await?)
}

/// Ends the session of an access token that was authenticated, as far as the server is concerned.
pub async fn end_session(env: &EntraWorld<'_>, session: &Session, reason: &str) -> Result<(), AcquireError> {
    end(env, &session.id, &session.owner(), reason).await
}

/// Whether a client presents a refresh token that it was given, the current one or an earlier one. Changes nothing:
/// [`refresh`] decides what follows.
pub async fn was_given(
    env: &EntraWorld<'_>,
    refresh_token: &Secret<String>,
    client_id: &str,
) -> Result<bool, StoreError> {
    let Some(presented) = PresentedToken::read(refresh_token) else { return Ok(false) };
    let found = env.records.get(&SESSIONS, &presented.id).await?;
    Ok(found.is_some_and(|record| record.owner.client_id == client_id && record.was_refresh_token(&presented)))
}
