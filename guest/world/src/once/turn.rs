//! Which of the calls that have the same question asks it.

use crate::body_once::BodyOnce;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{After, Policy, WithoutStore};
use crate::records::{Holder, Key, Lease, Namespace, Next, Partition, Records, Ttl};
use crate::store::StoreError;

/// Which part a call plays.
pub(super) enum Claim<'w, 'k> {
    /// It asks.
    Granted(Turn<'w, 'k>),
    /// Another call asks.
    AnotherCalls,
    /// None asks: the last question is too recent.
    TooSoon {
        /// Unix time in seconds.
        attempted_at: u64,
    },
}

/// The right to ask.
pub(super) enum Turn<'w, 'k> {
    /// Guarded by a lease, which is deleted after the question.
    Leased(Lease<'w>),
    /// Guarded by the record of the attempt, which tells its end.
    Attempt {
        /// Where its end is remembered.
        attempts: Namespace<AttemptRecord>,
        /// Which record of them.
        key: Key<'k>,
    },
    /// Not guarded: the store does not answer.
    Unguarded,
}

/// The lease of an attempt, and afterwards the memory of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AttemptRecord {
    /// When it began or ended. Unix time in seconds.
    at: u64,
    state: AttemptState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AttemptState {
    Running,
    Succeeded,
    Failed,
}

/// What of [`AttemptRecord`] does not depend on where it is. A record that cannot be read is no attempt.
const ATTEMPTS: Namespace<AttemptRecord> = Namespace::json(Partition::Store, "", Ttl::Kept).absent_if_malformed();

/// Claims the right to ask.
#[inline(never)]
pub(super) fn claim<'f, 'w: 'f, 'k: 'f>(
    records: &'f Records<'w>,
    leases: &'f Namespace<Holder>,
    key: Key<'k>,
    policy: &'f Policy,
) -> BodyOnce<'f, Result<Claim<'w, 'k>, StoreError>> {
    Box::pin(async move {
        let (claim, otherwise) = match policy.after {
            After::Released => (claim_lease(records, leases, key, policy.lease).await, Turn::Unguarded),
            After::Attempted { pause, kept } => {
                let attempts = leases.layout_for(ATTEMPTS);
                let turn = Turn::Attempt { attempts: attempts.kept_for(kept), key };
                match claim_attempt(records, &attempts.kept_for(policy.lease), key, policy.lease, pause).await {
                    Ok(Some(refused)) => return Ok(refused),
                    Ok(None) => return Ok(Claim::Granted(turn)),
                    Err(error) => (Err(error), turn),
                }
            }
        };
        match (claim, policy.without_store) {
            (Err(_), WithoutStore::Asks) => Ok(Claim::Granted(otherwise)),
            (claim, _) => claim,
        }
    })
}

/// Takes over the right to ask from a call that has had it for longer than a call waits.
#[inline(never)]
pub(super) fn take_over<'f, 'w: 'f, 'k: 'f>(
    records: &'f Records<'w>,
    leases: &'f Namespace<Holder>,
    key: Key<'k>,
    policy: &'f Policy,
) -> BodyOnce<'f, Result<Option<Turn<'w, 'k>>, StoreError>> {
    Box::pin(async move {
        match policy.after {
            After::Released => {
                let lease = records.take_over(leases, key, policy.lease, policy.patience).await?;
                Ok(lease.map(Turn::Leased))
            }
            // An attempt ends with its own time.
            After::Attempted { .. } => Ok(None),
        }
    })
}

async fn claim_lease<'w, 'k>(
    records: &Records<'w>,
    leases: &Namespace<Holder>,
    key: Key<'k>,
    time: Duration,
) -> Result<Claim<'w, 'k>, StoreError> {
    let lease = records.lease(leases, key, time).await?;
    Ok(lease.map_or(Claim::AnotherCalls, |lease| Claim::Granted(Turn::Leased(lease))))
}

/// Begins an attempt, or says why not.
async fn claim_attempt<'w, 'k>(
    records: &Records<'_>,
    attempts: &Namespace<AttemptRecord>,
    key: Key<'_>,
    lease: Duration,
    pause: Duration,
) -> Result<Option<Claim<'w, 'k>>, StoreError> {
    let update = records.update(attempts, key, |found| {
        let now = records.clock().now();
        // Absolute differences: a clock that is set back must not make the pause longer.
        match found.map(|AttemptRecord { at, state }| (at, state, now.abs_diff(at))) {
            Some((_, AttemptState::Running, age)) if age < lease.as_secs() => Next::Leave(Some(Claim::AnotherCalls)),
            Some((at, AttemptState::Succeeded | AttemptState::Failed, age)) if age < pause.as_secs() => {
                Next::Leave(Some(Claim::TooSoon { attempted_at: at }))
            }
            _ => Next::Write(AttemptRecord { at: now, state: AttemptState::Running }, None),
        }
    });
    update.await
}

impl Turn<'_, '_> {
    /// Ends it. A store that fails here costs other calls a wait or a question, nothing else.
    pub(super) async fn end(self, records: &Records<'_>, succeeded: bool) {
        match self {
            Self::Leased(lease) => lease.release().await,
            Self::Attempt { attempts, key } => {
                let state = if succeeded { AttemptState::Succeeded } else { AttemptState::Failed };
                let _ = records.put(&attempts, key, &AttemptRecord { at: records.clock().now(), state }).await;
            }
            Self::Unguarded => {}
        }
    }
}
