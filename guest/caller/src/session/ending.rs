//! What it takes to end a session: its record goes, the tokens of Entra ID behind it, and the last answer to its client.

use base::audit::Outcome;
use entra::{AcquireError, EntraWorld};
use world::StoreError;

use super::entra_tokens::stored;
use super::record::SESSIONS;
use super::{Owner, grace};

/// Ends a session. `reason` is a stable code for the audit record.
pub async fn end(env: &EntraWorld<'_>, id: &str, owner: &Owner, reason: &str) -> Result<(), AcquireError> {
    // The session ends even if that cannot be recorded.
    let removed = remove(env, id).await;
    env.trail.set_session(id);
    if let Err(error) = removed {
        record_doubt(env, owner).await;
        return Err(error.into());
    }
    let event = owner.event("session.revoked", Outcome::Success);
    Ok(env.trail.record(event.because(reason.to_owned())).await?)
}

/// Records that a session may have ended: the store may have removed it and not have said so, as one does that waits for
/// replicas. The failure of the store is what counts for the caller, whether or not this can be recorded.
pub(super) async fn record_doubt(env: &EntraWorld<'_>, owner: &Owner) {
    let event = owner.event("session.revoked", Outcome::Failure);
    let _ = env.trail.record(event.because("store".to_owned())).await;
}

/// Removes the tokens of Entra ID first: if the store fails in between, the client can ask again.
pub(super) async fn remove(env: &EntraWorld<'_>, id: &str) -> Result<(), StoreError> {
    stored::forget(&env.records, id).await?;
    if let Some(record) = env.records.take(&SESSIONS, id).await? {
        grace::forget(env, id, record.refresh_hash()).await;
    }
    Ok(())
}

/// Ends what is left of a session that has lost its tokens of Entra ID.
pub(super) async fn end_without_tokens(env: &EntraWorld<'_>, id: &str, owner: &Owner) -> Result<(), AcquireError> {
    // Another call may have ended the session in this moment; that call has recorded the end as well.
    let Some(record) = env.records.take(&SESSIONS, id).await? else { return Ok(()) };
    grace::forget(env, id, record.refresh_hash()).await;
    let event = owner.event("session.revoked", Outcome::Success);
    Ok(env.trail.record(event.because("entra-tokens-gone".to_owned())).await?)
}
