//! The time as Redis has it, so that the life of a record does not depend on the clock of the machine that reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// How long the server's time is counted on from one reading. A monotonic clock is some hundredths of a second off then.
const READ_EVERY: Duration = Duration::from_secs(600);

/// The same after a reading that has failed.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// By how much this machine's clock may differ from the server's without a warning, and leap without a new reading.
const TOLERATED: Duration = Duration::from_secs(5);

/// The server's time, counted on by this machine's monotonic clock. After a suspension, the wall clock has leapt beside it.
pub(super) struct ServerClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reading: Option<Reading>,
    /// When the server is asked again, as a reading of the monotonic clock.
    due: Duration,
    /// What was true when it was asked the last time.
    asked: Option<Asked>,
    warned: bool,
}

#[derive(Clone, Copy)]
struct Reading {
    server: Duration,
    /// The monotonic clock at that moment.
    at: Duration,
}

#[derive(Clone, Copy)]
struct Asked {
    /// How many connections had been made: a server that took over has a clock of its own.
    connections: u64,
    /// By how many milliseconds the wall clock was ahead of the monotonic one.
    gap: i64,
}

impl ServerClock {
    /// Without a reading, it shows the time of this machine.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Whether the server has been asked with success.
    pub(super) fn is_read(&self) -> bool {
        self.lock().reading.is_some()
    }

    /// Unix time in whole seconds.
    pub(super) fn now_seconds(&self) -> i64 {
        let reading = self.lock().reading;
        let now = match reading {
            Some(Reading { server, at }) => server.saturating_add(self.clock.monotonic().saturating_sub(at)),
            None => self.clock.now(),
        };
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    }

    /// The moment of a question that is due now, for [`note`](Self::note). One caller is told; others go on with the reading
    /// of before.
    pub(super) fn question(&self, connections: u64) -> Option<Duration> {
        let now = self.clock.monotonic();
        let asked = Asked { connections, gap: millis(self.clock.now()).saturating_sub(millis(now)) };
        let mut state = self.lock();
        let is_as_before = state.asked.is_some_and(|before| {
            before.connections == connections && asked.gap.abs_diff(before.gap) <= millis(TOLERATED).unsigned_abs()
        });
        if is_as_before && now < state.due {
            return None;
        }
        state.asked = Some(asked);
        state.due = now.saturating_add(READ_AGAIN);
        Some(now)
    }

    /// Notes what the server has answered. Returns by how many seconds the clock of this machine is ahead (or, below
    /// zero, behind), where that is more than is tolerated and was not returned before.
    pub(super) fn note(&self, asked_at: Duration, server: Duration) -> Option<i64> {
        let answered_at = self.clock.monotonic();
        let half = answered_at.saturating_sub(asked_at) / 2;
        let server_now = server.saturating_add(half);
        let ahead = millis(self.clock.now()).saturating_sub(millis(server_now));
        let mut state = self.lock();
        state.reading = Some(Reading { server: server_now, at: answered_at });
        state.due = answered_at.saturating_add(READ_EVERY);
        if state.warned || ahead.unsigned_abs() <= millis(TOLERATED).unsigned_abs() {
            return None;
        }
        state.warned = true;
        Some(ahead / 1_000)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const SERVER: Duration = Duration::from_secs(1_000_000);

    fn clock(unix_seconds: u64) -> (ManualClock, ServerClock) {
        let clock = ManualClock::new(unix_seconds);
        (clock.clone(), ServerClock::new(Arc::new(clock)))
    }

    #[test]
    fn the_time_of_the_server_is_counted_on_whatever_becomes_of_the_wall_clock() {
        let (clock, time) = clock(5_000);
        assert_eq!(time.now_seconds(), 5_000, "until the server was asked");
        let asked = time.question(1).unwrap();
        clock.advance(Duration::from_secs(2));
        time.note(asked, SERVER);
        assert_eq!(time.now_seconds(), 1_000_001, "the answer took half of the time");
        clock.advance(Duration::from_secs(9));
        clock.set_back(Duration::from_secs(3_600));
        assert_eq!(time.now_seconds(), 1_000_010);
    }

    #[test]
    fn the_server_is_asked_now_and_then_on_a_new_connection_and_after_a_leap_of_the_clock() {
        let (clock, time) = clock(1_000_000);
        let asked = time.question(1).unwrap();
        assert!(time.question(1).is_none(), "one call asks");
        time.note(asked, SERVER);
        clock.advance(READ_EVERY - Duration::from_secs(1));
        assert!(time.question(1).is_none());
        clock.advance(Duration::from_secs(1));
        assert!(time.question(1).is_some());
        // That one has failed.
        clock.advance(READ_AGAIN);
        let asked = time.question(1).unwrap();
        time.note(asked, SERVER);
        assert!(time.question(2).is_some());
        assert!(time.question(2).is_none());
        clock.set_back(TOLERATED);
        assert!(time.question(2).is_none());
        clock.set_back(Duration::from_secs(1));
        assert!(time.question(2).is_some());
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_once() {
        for (here, told) in [(1_000_005, None), (1_000_006, Some(6)), (999_995, None), (996_400, Some(-3_600))] {
            let (_, time) = clock(here);
            assert_eq!(time.note(Duration::ZERO, SERVER), told, "{here}");
            assert_eq!(time.note(Duration::ZERO, SERVER), None, "{here}");
        }
    }
}
