//! One question at a time, and its answer for all callers that share the secret store.
//!
//! Instances are many and short-lived. The call that has to ask a service takes a lease in the store; the others wait for
//! its answer. "Look into the store, take the lease, look again, ask, store the answer" is written here once:
//!
//! - [`once`] for an answer that is a record: it is cached, and so is a failure, briefly;
//! - [`once_with`] for any other [`Question`], as the refresh of a token that is part of a larger record.
//!
//! How long a lease lasts, how long a call waits and what it does then is a [`Policy`].
//!
//! Threat: a caller repeats itself, or many call at once, and a flood of calls becomes a flood of requests at a service
//! that counts them for everyone. And: the call that asks is cancelled in the middle. Then its lease or
//! the patience of the others runs out, and one of those that wait asks in its place.

mod cached;
mod turn;

use std::time::Duration;

use crate::records::{Holder, Key, Namespace, Records};
use crate::store::StoreError;

pub use cached::{Failure, OnceError, once};
use turn::Claim;

#[cfg(test)]
mod tests;

/// How often one call may find that its question was overtaken by another call's change. Each time another call has made
/// progress, so this is only reached when the record never comes to rest.
pub const MAX_ROUNDS: usize = 16;

/// How calls that have the same question share one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a call may hold the right to ask: longer than a question with its retries usually takes. After that one
    /// of the calls that wait asks in its place.
    pub lease: Duration,
    /// How long a call waits for another one's answer.
    pub patience: Duration,
    /// Pause between two looks at another call's question.
    pub poll: Duration,
    /// What a call does that has waited for too long.
    pub impatient: Impatient,
    /// What a call does when the lease cannot be looked up.
    pub without_store: WithoutStore,
    /// What is known of a question after its end.
    pub after: After,
    /// How long [`once`] remembers a failure.
    pub failure: Duration,
}

/// What a call does that has waited for longer than its patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impatient {
    /// Takes the lease over from a call that has held it for as long, and asks; the others wait for it. A call that has waited
    /// twice as long asks in any case: two questions do no harm.
    Asks,
    /// Gives up, see [`Question::instead`].
    GivesUp,
}

/// What a call does when the lease cannot be looked up or taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutStore {
    /// Fails with the store's error.
    Fails,
    /// Asks: the answer matters more than that it is asked for once.
    Asks,
}

/// What is known of a question after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing: the lease is deleted.
    Released,
    /// When it ended, and how. No call asks again within `pause`.
    Attempted {
        /// Time between two questions, in whole seconds.
        pause: Duration,
        /// How long the end is remembered: at least as long as any caller's pause.
        kept: Duration,
    },
}

impl Policy {
    /// For an answer that all callers share and that a failure of is remembered, as the groups of a user.
    pub const ANSWER: Self = Self {
        lease: Duration::from_secs(25),
        // Longer than the lease, so that a call that waits takes it over.
        patience: Duration::from_secs(30),
        poll: Duration::from_millis(100),
        impatient: Impatient::GivesUp,
        without_store: WithoutStore::Fails,
        after: After::Released,
        failure: Duration::from_secs(5),
    };

    /// For the refresh of tokens.
    pub const REFRESH: Self = Self {
        // Longer than a slow refresh takes.
        lease: Duration::from_secs(70),
        // A person's call waits so long for one holder of the lease, and twice as long for all of them.
        patience: Duration::from_secs(10),
        impatient: Impatient::Asks,
        ..Self::ANSWER
    };
}

/// When a question looks for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At first.
    Begin,
    /// After a pause, while another call asks.
    Waiting,
    /// With the right to ask: another call may have been answered between the last look and this.
    Holding,
}

/// Why a question is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAsked {
    /// Another call has been asking for longer than this one's patience.
    Impatient,
    /// The last question is too recent.
    TooSoon {
        /// When it began or ended. Unix time in seconds.
        attempted_at: u64,
    },
}

/// What came of asking.
pub enum Asked<A> {
    /// This. It is stored already, where it is to be stored.
    Answer(A),
    /// Another call has changed meanwhile what the question began from: look again.
    Overtaken,
}

/// A question that one call at a time asks.
#[allow(async_fn_in_trait, reason = "an instance has one thread, so no future has to be Send")]
pub trait Question {
    /// What the callers want.
    type Answer;
    /// Why they do not get it.
    type Error: From<StoreError>;

    /// How calls share the answer, given what the last look has found.
    fn policy(&self) -> Policy;

    /// Looks for the answer in the store. `None`: it has to be asked for. An error ends the call.
    async fn look(&mut self, moment: Moment) -> Result<Option<Self::Answer>, Self::Error>;

    /// Asks, from what the last look has found, and stores the answer.
    async fn ask(&mut self) -> Result<Asked<Self::Answer>, Self::Error>;

    /// What to say when this call does not ask. Only a policy with [`Impatient::GivesUp`] or [`After::Attempted`] comes
    /// here.
    async fn instead(&mut self, why: NotAsked) -> Result<Self::Answer, Self::Error>;
}

/// The answer to a question, asked by one call at a time: by the one that holds the lease.
pub async fn once_with<Q: Question>(
    records: &Records<'_>,
    leases: &Namespace<Holder>,
    key: impl Into<Key<'_>>,
    question: &mut Q,
) -> Result<Q::Answer, Q::Error> {
    let key = key.into();
    let began = records.clock().monotonic();
    let mut moment = Moment::Begin;
    for _ in 0..MAX_ROUNDS {
        let turn = loop {
            if let Some(answer) = question.look(moment).await? {
                return Ok(answer);
            }
            let policy = question.policy();
            match turn::claim(records, leases, key, &policy).await? {
                Claim::Granted(turn) => break Some(turn),
                Claim::TooSoon { attempted_at } => return question.instead(NotAsked::TooSoon { attempted_at }).await,
                Claim::AnotherCalls => {}
            }
            let waited = records.clock().monotonic().saturating_sub(began);
            if waited >= policy.patience {
                match policy.impatient {
                    Impatient::Asks if waited >= policy.patience * 2 => break None,
                    Impatient::Asks => match turn::take_over(records, leases, key, &policy).await {
                        Ok(Some(turn)) => break Some(turn),
                        // Another call has just begun to ask.
                        Ok(None) => {}
                        Err(_) => break None,
                    },
                    Impatient::GivesUp => return question.instead(NotAsked::Impatient).await,
                }
            }
            records.clock().sleep(policy.poll).await;
            moment = Moment::Waiting;
        };
        let asked = ask(turn.is_some(), question).await;
        if let Some(turn) = turn {
            turn.end(records, asked.is_ok()).await;
        }
        match asked? {
            Asked::Answer(answer) => return Ok(answer),
            Asked::Overtaken => moment = Moment::Begin,
        }
    }
    Err(StoreError::Contended.into())
}

async fn ask<Q: Question>(holding: bool, question: &mut Q) -> Result<Asked<Q::Answer>, Q::Error> {
    if holding && let Some(answer) = question.look(Moment::Holding).await? {
        return Ok(Asked::Answer(answer));
    }
    question.ask().await
}
