//! The facts about one call of a tool component: the caller of its requests, and their outcome.
//!
//! It belongs to the store of the call. When the call ends, it ends, and nothing is sent in its name any more.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entra_mcp_boundary::scrub::MAX_TOKENS;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::clock::{Clock, sleep};
use crate::provided_tools::DelegationError;

/// Requests of one call that may be on their way at once; further ones wait. A request is on its way until its answer is
/// read to the end, or dropped. Browsers allow six per server.
const MAX_REQUESTS_ON_THEIR_WAY: usize = 16;

/// Requests of one call that may wait to be sent. Each is kept in memory, without its body.
const MAX_REQUESTS_WAITING: usize = 256;

/// How long a request waits for answers that are there and that the tool does not read. Many tools read answers only after
/// they have sent all requests: without an end, they would wait for themselves until their time is over.
const MAX_TIME_UNREAD: Duration = Duration::from_secs(5);

/// Lines about refused requests that one call may cause in the log.
const MAX_REFUSALS_LOGGED: u32 = 10;

/// A call that is going on.
pub(super) struct CallContext {
    /// Names the caller to [`DelegatedTokens`](super::DelegatedTokens). A tool must not get it.
    pub(super) handle: Zeroizing<String>,
    /// The tokens that its requests carry.
    pub(super) tokens: Arc<CallTokens>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    answers: Arc<Answers>,
    ended: AtomicBool,
    refusals: AtomicU32,
    /// Why a request got no token: the first reason.
    undelegated: Mutex<Option<DelegationError>>,
}

impl CallContext {
    pub(super) fn new(handle: &str) -> Self {
        Self {
            handle: Zeroizing::new(handle.to_owned()),
            tokens: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_REQUESTS_ON_THEIR_WAY)),
            waiting: AtomicUsize::new(0),
            answers: Arc::default(),
            ended: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            undelegated: Mutex::default(),
        }
    }

    /// A place for one more request. Waits for one if there are enough.
    pub(super) async fn place(&self, clock: &dyn Clock) -> Result<RequestPlace, NoRequestPlace> {
        let _waiting = Waiting::begin(&self.waiting)?;
        let mut acquiring = std::pin::pin!(Arc::clone(&self.places).acquire_owned());
        loop {
            let parts = self.answers.parts.load(Ordering::Relaxed);
            let permit = tokio::select! {
                biased;
                permit = &mut acquiring => permit.map_err(|_| NoRequestPlace::Ended)?,
                () = sleep(clock, MAX_TIME_UNREAD) => {
                    let all_are_answered = self.answers.unread.load(Ordering::Relaxed) >= MAX_REQUESTS_ON_THEIR_WAY;
                    if all_are_answered && self.answers.parts.load(Ordering::Relaxed) == parts {
                        return Err(NoRequestPlace::Unread);
                    }
                    continue;
                }
            };
            return Ok(RequestPlace { answers: Arc::clone(&self.answers), is_answered: false, _permit: permit });
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether another refusal of this call goes into the log.
    pub(super) fn logs_refusal(&self) -> bool {
        self.refusals.fetch_add(1, Ordering::Relaxed) < MAX_REFUSALS_LOGGED
    }

    /// A request got no token, or the API did not accept it.
    pub(super) fn not_delegated(&self, error: DelegationError) {
        self.undelegated.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Why a request got no token, if one did not until now.
    pub(super) fn undelegated(&self) -> Option<DelegationError> {
        self.undelegated.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, once.
    pub(super) fn take_undelegated(&self) -> Option<DelegationError> {
        self.undelegated.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Why a request is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRequestPlace {
    /// The call has ended.
    Ended,
    /// There are too many requests that wait.
    TooMany,
    /// The tool does not read the answers that it has got, so that none of its requests comes to an end.
    Unread,
}

/// The answers of a call.
#[derive(Default)]
struct Answers {
    /// Answers that are there and not read to the end.
    unread: AtomicUsize,
    /// How often the tool has asked for a part of an answer.
    parts: AtomicU64,
}

/// One request that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Result<Self, NoRequestPlace> {
        let counted = Self(waiting);
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        if before < MAX_REQUESTS_WAITING { Ok(counted) } else { Err(NoRequestPlace::TooMany) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of a request that is on its way.
pub(super) struct RequestPlace {
    answers: Arc<Answers>,
    is_answered: bool,
    _permit: OwnedSemaphorePermit,
}

impl RequestPlace {
    /// The answer is there.
    pub(super) fn answered(&mut self) {
        if !self.is_answered {
            self.is_answered = true;
            self.answers.unread.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The tool asks for a part of the answer.
    pub(super) fn read(&self) {
        self.answers.parts.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for RequestPlace {
    fn drop(&mut self) {
        if self.is_answered {
            self.answers.unread.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The tokens that a call has got, those that were refused included. No answer may tell one of them, whichever request it
/// answers.
#[derive(Default)]
pub(super) struct CallTokens(Mutex<Vec<Zeroizing<String>>>);

impl CallTokens {
    /// Adds a token. Returns false if there are too many to look for.
    pub(super) fn remember(&self, token: &Zeroizing<String>) -> bool {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = tokens.contains(token);
        if !is_known && tokens.len() < MAX_TOKENS {
            tokens.push(token.clone());
            return true;
        }
        is_known
    }

    /// The tokens after the first `known`, in the order in which they came.
    pub(super) fn after(&self, known: usize) -> Vec<Zeroizing<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(known..).unwrap_or_default().to_vec()
    }
}

/// Ends a call when it is dropped.
pub(super) struct EndOfCall(pub(super) Arc<CallContext>);

impl Drop for EndOfCall {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.places.close();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::clock::ManualClock;

    /// A call whose places are all taken.
    async fn full(clock: &ManualClock) -> (CallContext, Vec<RequestPlace>) {
        let call = CallContext::new("alice");
        let mut places = Vec::new();
        for _ in 0..MAX_REQUESTS_ON_THEIR_WAY {
            places.push(call.place(clock).await.unwrap_or_else(|refused| panic!("{refused:?}")));
        }
        (call, places)
    }

    #[tokio::test]
    async fn a_request_waits_for_answers_that_are_still_to_come() {
        let clock = ManualClock::new(0);
        let (call, mut places) = full(&clock).await;
        places.iter_mut().skip(1).for_each(RequestPlace::answered);
        let waiting = async {
            for _ in 0..3 {
                clock.next_wait().await;
                clock.advance(MAX_TIME_UNREAD);
            }
            clock.next_wait().await;
            places.pop();
        };
        let (place, ()) = tokio::join!(call.place(&clock), waiting);
        assert!(place.is_ok());
    }

    #[tokio::test]
    async fn a_request_is_refused_if_the_tool_reads_none_of_the_answers_that_it_has() {
        let clock = ManualClock::new(0);
        let (call, mut places) = full(&clock).await;
        places.iter_mut().for_each(RequestPlace::answered);
        let reading = async {
            clock.next_wait().await;
            places[0].read();
            clock.advance(MAX_TIME_UNREAD);
            // Something was read, so it waits once more.
            clock.next_wait().await;
            clock.advance(MAX_TIME_UNREAD);
        };
        let (place, ()) = tokio::join!(call.place(&clock), reading);
        assert_eq!(place.err(), Some(NoRequestPlace::Unread));
        places.pop();
        assert!(call.place(&clock).await.is_ok());
    }

    #[tokio::test]
    async fn the_requests_that_wait_are_bounded_and_end_with_the_call() {
        let clock = ManualClock::new(0);
        let (call, _places) = full(&clock).await;
        let call = Arc::new(call);
        let mut waiting: Vec<_> = (0..MAX_REQUESTS_WAITING).map(|_| Box::pin(call.place(&clock))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for place in &mut waiting {
            assert!(place.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(call.place(&clock).await.err(), Some(NoRequestPlace::TooMany));
        drop(EndOfCall(Arc::clone(&call)));
        assert_eq!(waiting.remove(0).await.err(), Some(NoRequestPlace::Ended));
    }
}
