//! An answer that is a record of its own.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Asked, Moment, NotAsked, Policy, Question, once_with};
use crate::records::{Holder, Key, Namespace, Partition, Records, Ttl, from_json, to_json};
use crate::store::StoreError;

/// What ends the name of the lease beside an answer.
const ASKING: &str = "/asking";
/// What ends the name of the failure beside an answer.
const FAILED: &str = "/failed";
/// The longest reason that is kept of a failure, in bytes.
const MAX_REASON: usize = 512;

/// Leases beside answers.
const LEASES: Namespace<Holder> = Namespace::leases(Partition::Store, "");
/// Failures beside answers.
const FAILURES: Namespace<Failure> =
    Namespace::with_encoding(Partition::Store, "", Ttl::Kept, Failure::encode, Failure::decode).absent_if_unreadable();

/// A failure as the callers hear of it that did not ask themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For the log. Kept up to a length of 512 bytes.
    pub reason: String,
    /// When the service may be asked again, if it has said so. Unix time in seconds.
    pub retry_at: Option<u64>,
    /// Whether the question was answered, and the answer is of no use because its security event could not be recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrecorded: bool,
}

impl Failure {
    /// A failure that says nothing of when to ask again.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry_at: None, unrecorded: false }
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let mut kept = self.clone();
        kept.reason.truncate(kept.reason.floor_char_boundary(MAX_REASON));
        to_json(&kept)
    }

    /// Earlier versions have stored the reason alone.
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(from_json(bytes).unwrap_or_else(|| Self::new(String::from_utf8_lossy(bytes))))
    }
}

/// An error that callers can share: of the one that asks, the others hear by a [`Failure`].
pub trait OnceError: From<StoreError> + From<Failure> {
    /// What the other callers are told, at this Unix time in seconds. `None`: nothing, they ask themselves.
    fn failure(&self, now: u64) -> Option<Failure>;
}

/// The answer in the record, if it is there and `fresh`; else what `ask` answers, which gets the answer that is not. The
/// answer is kept as long as the namespace says, a failure as long as the policy says.
///
/// An answer that cannot be kept is an answer nevertheless. The lease and the failure are records beside the answer.
pub async fn once<T, E: OnceError>(
    records: &Records<'_>,
    answers: &Namespace<T>,
    key: impl Into<Key<'_>>,
    policy: &Policy,
    fresh: impl Fn(&T) -> bool,
    ask: impl AsyncFnOnce(Option<T>) -> Result<T, E>,
) -> Result<T, E> {
    let key = key.into();
    let failures = answers.beside(FAILED, FAILURES).kept_for(policy.failure);
    let leases = answers.beside(ASKING, LEASES);
    let mut question =
        Cached { records, answers, failures, key, policy, fresh, ask: Some(ask), stale: None, error: PhantomData };
    once_with(records, &leases, key, &mut question).await
}

struct Cached<'q, T, F, A, E> {
    records: &'q Records<'q>,
    answers: &'q Namespace<T>,
    failures: Namespace<Failure>,
    key: Key<'q>,
    policy: &'q Policy,
    fresh: F,
    /// Until it is asked.
    ask: Option<A>,
    /// The answer that is not fresh.
    stale: Option<T>,
    error: PhantomData<E>,
}

impl<T, F, A, E> Question for Cached<'_, T, F, A, E>
where
    F: Fn(&T) -> bool,
    A: AsyncFnOnce(Option<T>) -> Result<T, E>,
    E: OnceError,
{
    type Answer = T;
    type Error = E;

    fn policy(&self) -> Policy {
        *self.policy
    }

    async fn look(&mut self, _: Moment) -> Result<Option<T>, E> {
        match self.records.get(self.answers, self.key).await? {
            Some(answer) if (self.fresh)(&answer) => return Ok(Some(answer)),
            stale => self.stale = stale,
        }
        match self.records.get(&self.failures, self.key).await? {
            Some(failure) => Err(failure.into()),
            None => Ok(None),
        }
    }

    async fn ask(&mut self) -> Result<Asked<T>, E> {
        // A question is never overtaken here, so it is asked once.
        let ask = self.ask.take().ok_or(StoreError::Contended)?;
        let result = ask(self.stale.take()).await;
        // What cannot be kept costs another question.
        let _ = match &result {
            Ok(answer) => self.records.put(self.answers, self.key, answer).await,
            Err(error) => match error.failure(self.records.clock().now()) {
                Some(failure) => self.records.put(&self.failures, self.key, &failure).await,
                None => Ok(()),
            },
        };
        result.map(Asked::Answer)
    }

    async fn instead(&mut self, why: NotAsked) -> Result<T, E> {
        Err(Failure::new(match why {
            NotAsked::Impatient => "another call has been asking for too long",
            NotAsked::TooSoon { .. } => "the last question is too recent",
        })
        .into())
    }
}
