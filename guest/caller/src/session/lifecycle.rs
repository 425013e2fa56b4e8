//! How a session begins and ends. How it continues is in [`refresh`](super::refresh).

use base::Secret;
use entra::{AcquireError, EntraWorld};
use world::records::{Records, Stored};
use world::{BodyOnce, StoreError};

use super::entra_tokens::{self, EntraTokens, Wanted, stored};
use super::record::{self, ACCESS_LIFETIME_SECONDS, Family, PresentedToken, SESSIONS, SessionRecord};
use super::{IssuedTokens, Membership, Owner, Session, ending};

pub use super::ending::end;

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

/// Begins a session and returns its id and the client's first tokens. The tokens of Entra ID are stored before the
/// session, so that no session is ever without.
#[inline(never)]
pub fn begin<'f>(
    env: &'f EntraWorld<'_>,
    beginning: Beginning,
) -> BodyOnce<'f, Result<(String, IssuedTokens), AcquireError>> {
    Box::pin(async move {
        let Beginning { owner, resource, scopes, tokens, username } = beginning;
        let id = record::fresh_id(env.random);
        env.trail.set_session(&id);
        env.trail.set_user(username.as_deref());
        stored::keep(env, &id, &tokens).await?;
        let begun = match entra_tokens::live(env, &id, &owner, Wanted::Live).await {
            Ok(live) => {
                let family = Family::fresh(env.random);
                let mut record = SessionRecord::new(env.clock, owner, resource, scopes.clone(), username, &family);
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
            let _ = ending::remove(env, &id).await;
        }
        begun.map(|tokens| (id, tokens))
    })
}

/// Notes what Entra ID says of the person now, if that is not what the session says. What is changed at this moment, or
/// cannot be written, is noted with the next refresh.
pub(super) async fn note(records: &Records<'_>, session: &Session, membership: &Membership) {
    if session.membership == *membership {
        return;
    }
    // A client may have refreshed the session since this call began, and what it was told then is newer.
    if let Ok(Some(Stored { value: mut record, version })) = records.read(&SESSIONS, &session.id).await
        && membership.replaces(&record.membership)
    {
        record.membership = membership.clone();
        let _ = records.replace(&SESSIONS, &session.id, &version, &record).await;
    }
}

/// Makes tokens and puts their hashes into the record.
pub(super) fn issue(
    env: &EntraWorld<'_>,
    id: &str,
    record: &mut SessionRecord,
    scopes: Vec<String>,
    entra_expires_at: u64,
    family: &Family,
) -> IssuedTokens {
    let now = env.clock.now();
    let expires_at = entra_expires_at.min(now + ACCESS_LIFETIME_SECONDS);
    let (access_token, access_hash) = record::mint(env.random, id, None);
    let (refresh_token, refresh_hash) = record::mint(env.random, id, Some(family));
    record.renew(now, access_hash, (scopes.clone(), expires_at), refresh_hash);
    IssuedTokens { access_token, refresh_token, expires_in: expires_at.saturating_sub(now), scopes }
}

/// Ends the session that a token of `client_id` belongs to (RFC 7009); whether there was one. A refresh token that was
/// replaced ends it as well: its family proves that the client had it. A token of another client ends nothing.
#[inline(never)]
pub fn revoke<'f>(
    env: &'f EntraWorld<'_>,
    token: &'f Secret<String>,
    client_id: &'f str,
) -> BodyOnce<'f, Result<bool, AcquireError>> {
    Box::pin(async move {
        let Some(presented) = PresentedToken::read(token) else { return Ok(false) };
        let Some(record) = env.records.get(&SESSIONS, &presented.id).await? else { return Ok(false) };
        let genuine = record.was_refresh_token(&presented) || record.access(&presented).is_some();
        if !genuine || record.owner.client_id != client_id {
            return Ok(false);
        }
        env.trail.set_user(record.username.as_deref());
        end(env, &presented.id, &record.owner, "revoked-by-client").await?;
        Ok(true)
    })
}

/// Ends the session of an access token that was authenticated, as far as the server is concerned.
pub async fn end_session(env: &EntraWorld<'_>, session: &Session, reason: &str) -> Result<(), AcquireError> {
    end(env, &session.id, &session.owner(), reason).await
}

/// The owner of the session whose refresh token, the current one or an earlier one, a client presents that was given it.
/// Changes nothing: [`refresh`](super::refresh) decides what follows.
pub async fn given_to(
    records: &Records<'_>,
    refresh_token: &Secret<String>,
    client_id: &str,
) -> Result<Option<Owner>, StoreError> {
    let Some(presented) = PresentedToken::read(refresh_token) else { return Ok(None) };
    let found = records.get(&SESSIONS, &presented.id).await?;
    let given = found.filter(|record| record.owner.client_id == client_id && record.was_refresh_token(&presented));
    Ok(given.map(|record| record.owner))
}
