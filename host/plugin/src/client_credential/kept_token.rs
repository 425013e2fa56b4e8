//! Keeps tokens until shortly before they end, and bounds what a source of tokens may cost the calls that need one.
//!
//! One call at a time asks the source, and holds nothing meanwhile that others need: they use the present token as long
//! as it is good at all. Calls without a token wait, and share the answer. No call asks a source that has failed for
//! some seconds, so calls do not wait for it one after the other. While the present token is good for longer, the
//! asking call waits for a moment only. It gives a silent source up, and no call asks that source for half a minute.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::Credential;
use crate::clock::{Clock, sleep};

/// How long a source is left alone that has failed. A question to one that keeps silent takes up to half a minute.
pub(super) const FAILED: Duration = Duration::from_secs(5);

/// How long the call that asks waits for a source while it could use the token at hand. Longer than the pause before a second
/// try, and than the Azure CLI needs, which is ended then.
const PATIENCE: Duration = Duration::from_secs(5);

/// A token that is good for so long can be used in the place of a new one, and the source be asked later.
const GOOD_FOR_LONGER: Duration = Duration::from_secs(60);

/// How long a source is left alone that kept silent, as long as there is such a token.
const SILENT: Duration = Duration::from_secs(30);

/// A token is asked for anew when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);

/// The right to ask a source, which one call at a time has, and why the source was of no use just now.
pub(super) struct SourceTurn<E> {
    clock: Arc<dyn Clock>,
    asking: tokio::sync::Mutex<()>,
    /// With the time, as a reading of the monotonic clock.
    failed: Mutex<Option<(Duration, E)>>,
    /// When a question to it was given up.
    silent: Mutex<Option<Duration>>,
}

impl<E: Clone> SourceTurn<E> {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, asking: tokio::sync::Mutex::default(), failed: Mutex::default(), silent: Mutex::default() }
    }

    /// What is at hand, or else what the source says to `ask`. `fresh` is what needs no renewal, `good` what can be used
    /// where there is none, if it is good for longer than it is told; neither waits.
    pub(super) async fn take<T>(
        &self,
        fresh: impl Fn() -> Option<T>,
        good: impl Fn(Duration) -> Option<T>,
        ask: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if let Some(fresh) = fresh() {
            return Ok(fresh);
        }
        if let Some(fault) = self.failed() {
            return good(Duration::ZERO).ok_or(fault);
        }
        if self.was_silent()
            && let Some(good) = good(GOOD_FOR_LONGER)
        {
            return Ok(good);
        }
        let _asking = match self.asking.try_lock() {
            Ok(asking) => asking,
            // Another call asks the source.
            Err(_) => match good(Duration::ZERO) {
                Some(good) => return Ok(good),
                None => self.asking.lock().await,
            },
        };
        // What another call has found out while this one waited for it.
        if let Some(fresh) = fresh() {
            return Ok(fresh);
        }
        if let Some(fault) = self.failed() {
            return good(Duration::ZERO).ok_or(fault);
        }
        let asked = match good(GOOD_FOR_LONGER) {
            None => ask.await,
            Some(good) => tokio::select! {
                biased;
                asked = ask => asked,
                () = sleep(&*self.clock, PATIENCE) => {
                    tracing::warn!("a source of tokens keeps silent, so the one at hand is used for now");
                    *lock(&self.silent) = Some(self.clock.monotonic());
                    return Ok(good);
                }
            },
        };
        // A source that does not answer for a moment is no reason to refuse.
        self.noted(asked).or_else(|fault| good(Duration::ZERO).ok_or(fault))
    }

    /// Whether a question to the source was given up just now.
    fn was_silent(&self) -> bool {
        let at = *lock(&self.silent);
        at.is_some_and(|at| self.clock.monotonic().saturating_sub(at) < SILENT)
    }

    /// Waits for the right to ask.
    pub(super) async fn wait(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.asking.lock().await
    }

    /// Why the source was of no use just now.
    pub(super) fn failed(&self) -> Option<E> {
        let since = |at: &Duration| self.clock.monotonic().saturating_sub(*at);
        lock(&self.failed).as_ref().filter(|(at, _)| since(at) < FAILED).map(|(_, fault)| fault.clone())
    }

    /// Notes whether the source is of use. The caller has the right to ask it.
    pub(super) fn noted<T>(&self, asked: Result<T, E>) -> Result<T, E> {
        *lock(&self.failed) = asked.as_ref().err().map(|fault| (self.clock.monotonic(), fault.clone()));
        asked
    }
}

/// A token.
pub(super) struct Token {
    pub(super) text: Zeroizing<String>,
    /// Unix time in seconds; 0 if nothing says when it ends. Then it serves the calls that have waited for it.
    pub(super) expires: u64,
}

#[derive(Default)]
struct State {
    kept: Option<Token>,
    /// How many tokens the source has given.
    given: u64,
}

/// The token of one source.
pub(super) struct KeptToken<E> {
    /// The owner of the token, for the log.
    of: &'static str,
    clock: Arc<dyn Clock>,
    turn: SourceTurn<E>,
    /// Never held while the source is asked.
    state: Mutex<State>,
}

impl<E: Clone + std::fmt::Display> KeptToken<E> {
    pub(super) fn new(of: &'static str, clock: Arc<dyn Clock>) -> Self {
        Self { of, turn: SourceTurn::new(Arc::clone(&clock)), clock, state: Mutex::default() }
    }

    /// A token that is good for some more minutes; if the source gives none now, for as long as the last one is good.
    pub(super) async fn token(&self, ask: impl Future<Output = Result<Token, E>>) -> Result<Zeroizing<String>, E> {
        let before = lock(&self.state).given;
        let kept = |is_wanted: &dyn Fn(&State, &Token) -> bool| {
            let state = lock(&self.state);
            state.kept.as_ref().filter(|token| is_wanted(&state, token)).map(|token| token.text.clone())
        };
        let lasts =
            |token: &Token, margin: Duration| token.expires > self.clock.now_seconds().saturating_add(margin.as_secs());
        let ask = async {
            let token =
                ask.await.inspect_err(|fault| tracing::warn!(%fault, "there is no new token of {}", self.of))?;
            let text = token.text.clone();
            let mut state = lock(&self.state);
            state.given = state.given.wrapping_add(1);
            state.kept = Some(token);
            Ok(text)
        };
        // However long a token lasts that was given while this call waited: the source has no better one.
        let fresh = || kept(&|state, token| state.given != before || lasts(token, RENEW_BEFORE));
        self.turn.take(fresh, |margin| kept(&|_, token| lasts(token, margin)), ask).await
    }

    /// Forgets the token if it is this one, which was refused.
    pub(super) fn forget(&self, refused: &Credential) {
        let Credential::Assertion(refused) = refused else { return };
        lock(&self.state).kept.take_if(|token| token.text == *refused);
    }
}

/// What was poisoned was left whole: every change of it is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
