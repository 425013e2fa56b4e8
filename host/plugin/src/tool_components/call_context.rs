//! What is known about one call of a tool component: for whom its requests are, and what became of them.
//!
//! It belongs to the store of the call. When the call ends, it ends, and nothing is sent in its name any more.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::provided_tools::DelegationError;

/// Requests of one call that may be on their way at once; further ones wait. A request is on its way until its answer is
/// read to the end, or dropped. Browsers allow six per server.
const MAX_REQUESTS_ON_THEIR_WAY: usize = 16;

/// Tokens that the requests of one call may carry. There is one for each destination, and another after a challenge. Every
/// byte of an answer is compared with all of them.
const MAX_TOKENS: usize = 32;

/// Lines about refused requests that one call may cause in the log.
const MAX_REFUSALS_LOGGED: u32 = 10;

/// A call that is going on.
pub(super) struct CallContext {
    /// Names the caller to [`DelegatedTokens`](super::DelegatedTokens). A tool must not get it.
    pub(super) handle: Zeroizing<String>,
    /// The tokens that its requests carry.
    pub(super) tokens: Arc<CallTokens>,
    places: Arc<Semaphore>,
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
            ended: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            undelegated: Mutex::default(),
        }
    }

    /// A place for one more request. Waits for one if there are enough. `None`: the call has ended.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
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

    /// Why a request got no token, if one did not.
    pub(super) fn take_undelegated(&self) -> Option<DelegationError> {
        self.undelegated.lock().unwrap_or_else(PoisonError::into_inner).take()
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
