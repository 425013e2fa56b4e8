//! The emulator's time: every expiry, every `iat` and every timestamp in an answer comes from here.
//!
//! A test that waits for a token to expire advances this clock instead of sleeping.
//! The system clock is read in this file only.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that can be moved forward; clones share the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Start,
    offset_seconds: Arc<AtomicI64>,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    System,
    Fixed(i64),
}

impl Default for Clock {
    fn default() -> Self {
        Self::real()
    }
}

impl Clock {
    /// Follows the system clock, plus whatever it was advanced by.
    pub fn real() -> Self {
        Self { start: Start::System, offset_seconds: Arc::default() }
    }

    /// Stands still at `unix_seconds` until it is advanced.
    pub fn manual(unix_seconds: i64) -> Self {
        Self { start: Start::Fixed(unix_seconds), offset_seconds: Arc::default() }
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[allow(clippy::disallowed_methods, reason = "the one place where the emulator asks for the time")]
    pub fn now(&self) -> i64 {
        let start = match self.start {
            Start::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            Start::Fixed(seconds) => seconds,
        };
        start.saturating_add(self.offset_seconds.load(Ordering::SeqCst))
    }

    /// Moves the clock forward. Parts of a second are dropped, as token times have whole seconds.
    pub fn advance(&self, by: Duration) {
        self.advance_seconds(i64::try_from(by.as_secs()).unwrap_or(i64::MAX));
    }

    /// Moves the clock by a signed number of seconds; negative turns it back.
    pub fn advance_seconds(&self, by: i64) {
        // Saturating, so that a hostile control request cannot wrap time around.
        let _ = self
            .offset_seconds
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |offset| Some(offset.saturating_add(by)));
    }
}

/// The `YYYY-MM-DD hh:mm:ssZ` form Entra ID prints in its errors.
pub(crate) fn entra_timestamp(unix_seconds: i64) -> String {
    let (date, time) = civil(unix_seconds);
    format!("{date} {time}Z")
}

/// The `YYYY-MM-DDThh:mm:ss` form Graph prints in `innerError.date`.
pub(crate) fn graph_timestamp(unix_seconds: i64) -> String {
    let (date, time) = civil(unix_seconds);
    format!("{date}T{time}")
}

/// Days to a civil date after Howard Hinnant's `civil_from_days`; valid for every year an `i64` of days reaches here.
fn civil(unix_seconds: i64) -> (String, String) {
    let days = unix_seconds.div_euclid(86_400);
    let second_of_day = unix_seconds.rem_euclid(86_400);
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let time = format!("{:02}:{:02}:{:02}", second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    (format!("{year:04}-{month:02}-{day:02}"), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_the_forms_entra_and_graph_print() {
        assert_eq!(entra_timestamp(1_794_996_000), "2026-11-18 10:00:00Z");
        assert_eq!(graph_timestamp(951_782_400), "2000-02-29T00:00:00");
    }

    #[test]
    fn a_manual_clock_moves_only_when_advanced() {
        let clock = Clock::manual(1_000);
        clock.clone().advance(Duration::from_secs(60));
        assert_eq!(clock.now(), 1_060);
    }
}
