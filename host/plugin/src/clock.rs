//! Time as a parameter.
//!
//! All code that reads the time or waits does so through [`Clock`]: the component's `wasi:clocks`, the time to live of
//! stored secrets, the lifetime of a redirect listener. Tests use [`ManualClock`] and never sleep. Timeouts of the
//! network itself (connect, response) stay on the runtime's timer, because the peers are real.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::oneshot;

/// Wall clock, monotonic clock and timers.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Time since the Unix epoch.
    fn now(&self) -> Duration;
    /// Time since a fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Returns once [`Clock::monotonic`] has reached `deadline`. Dropping the future cancels the wait.
    async fn sleep_until(&self, deadline: Duration);

    /// The smallest step that the clocks show.
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    /// Unix time in whole seconds.
    fn now_seconds(&self) -> u64 {
        self.now().as_secs()
    }
}

/// Waits for `duration` on `clock`.
pub async fn sleep(clock: &dyn Clock, duration: Duration) {
    clock.sleep_until(clock.monotonic().saturating_add(duration)).await;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// The monotonic clock starts now.
    #[allow(clippy::disallowed_methods, reason = "this module is where the machine's clock is read")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this module is where the machine's clock is read")]
    fn now(&self) -> Duration {
        // A clock set before 1970 counts as 1970: every token is then in the future, and refused.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn sleep_until(&self, deadline: Duration) {
        match self.origin.checked_add(deadline) {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Clone)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
    arrivals: Arc<tokio::sync::Notify>,
}

#[derive(Debug)]
struct ManualState {
    start: Duration,
    elapsed: Duration,
    /// Waiters by deadline; the number keeps equal deadlines apart.
    waiters: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    next: u64,
}

impl ManualClock {
    /// A clock with the wall time `unix_seconds`.
    pub fn new(unix_seconds: u64) -> Self {
        let state = ManualState {
            start: Duration::from_secs(unix_seconds),
            elapsed: Duration::ZERO,
            waiters: BTreeMap::new(),
            next: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), arrivals: Arc::default() }
    }

    /// Moves both clocks forward and wakes every waiter that is due.
    pub fn advance(&self, by: Duration) {
        let due = {
            let mut state = self.lock();
            state.elapsed = state.elapsed.saturating_add(by);
            let first_later = state.elapsed.saturating_add(Duration::from_nanos(1));
            let later = state.waiters.split_off(&(first_later, 0));
            std::mem::replace(&mut state.waiters, later)
        };
        for waiter in due.into_values() {
            // A waiter that was dropped meanwhile needs no waking.
            let _ = waiter.send(());
        }
    }

    /// Sets the wall clock back, as a person or the network may. The monotonic clock goes on.
    pub fn set_back(&self, by: Duration) {
        let mut state = self.lock();
        state.start = state.start.saturating_sub(by);
    }

    /// Returns when at least one caller waits for a later time, with the time that the first of them still has to wait.
    pub async fn next_wait(&self) -> Duration {
        loop {
            let arrival = self.arrivals.notified();
            {
                let mut state = self.lock();
                state.waiters.retain(|_, waiter| !waiter.is_closed());
                if let Some(((deadline, _), _)) = state.waiters.first_key_value() {
                    return deadline.saturating_sub(state.elapsed);
                }
            }
            arrival.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Duration {
        let state = self.lock();
        state.start.saturating_add(state.elapsed)
    }

    fn monotonic(&self) -> Duration {
        self.lock().elapsed
    }

    async fn sleep_until(&self, deadline: Duration) {
        let due = {
            let mut state = self.lock();
            if deadline <= state.elapsed {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            let number = state.next;
            state.next = state.next.wrapping_add(1);
            state.waiters.insert((deadline, number), sender);
            receiver
        };
        self.arrivals.notify_waiters();
        self.arrivals.notify_one();
        // The sender lives in the clock, which `self` keeps alive.
        let _ = due.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_only_who_has_waited_long_enough() {
        let clock = ManualClock::new(1_000);
        let short = tokio::spawn({
            let clock = clock.clone();
            async move { sleep(&clock, Duration::from_secs(5)).await }
        });
        let long = tokio::spawn({
            let clock = clock.clone();
            async move { sleep(&clock, Duration::from_secs(6)).await }
        });
        while clock.lock().waiters.len() < 2 {
            tokio::task::yield_now().await;
        }

        clock.advance(Duration::from_secs(5));

        short.await.unwrap();
        assert!(!long.is_finished());
        assert_eq!(clock.now_seconds(), 1_005);
        assert_eq!(clock.next_wait().await, Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_deadline_in_the_past_does_not_wait() {
        let clock = ManualClock::new(0);
        clock.advance(Duration::from_secs(1));
        clock.sleep_until(Duration::from_secs(1)).await;
    }

    #[test]
    fn the_system_clock_is_after_2020() {
        assert!(SystemClock::new().now_seconds() > 1_577_836_800);
    }
}
