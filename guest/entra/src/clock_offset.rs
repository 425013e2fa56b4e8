//! How far this machine's clock is from that of Entra ID.
//!
//! Every answer of Entra ID says what time it is there (`Date`, RFC 9110 section 6.6.1). A token that seems to be out of
//! date is most often a clock that is wrong, and that can be said.

use std::cell::RefCell;
use std::time::SystemTime;

use http::HeaderMap;

use crate::entra_world::EntraWorld;

/// From this difference on, in seconds, it is worth a word. A header is exact to a second, and the answer takes some.
pub const NOTICEABLE_SECONDS: u64 = 30;

/// A noticeable difference between the clock of this machine and that of Entra ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockOffset {
    /// This machine is behind by so many seconds.
    #[error("this machine's clock is {0} s behind that of Microsoft Entra ID")]
    Behind(u64),
    /// This machine is ahead by so many seconds.
    #[error("this machine's clock is {0} s ahead of that of Microsoft Entra ID")]
    Ahead(u64),
}

impl ClockOffset {
    /// What an answer that arrives `now` (Unix time in seconds) says about the difference.
    fn of(headers: &HeaderMap, now: u64) -> Option<Option<Self>> {
        let date = headers.get(http::header::DATE)?.to_str().ok()?;
        let there = httpdate::parse_http_date(date).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let difference = there.abs_diff(now);
        let noticeable = difference > NOTICEABLE_SECONDS;
        let offset = if there > now { Self::Behind(difference) } else { Self::Ahead(difference) };
        Some(noticeable.then_some(offset))
    }
}

thread_local! {
    // A component instance has one thread, so this is the instance's: the authority that answered last, and the difference.
    static OBSERVED: RefCell<Option<(String, ClockOffset)>> = const { RefCell::new(None) };
}

/// The difference, as the last answer of Entra ID showed it to this instance.
pub fn current(env: &EntraWorld<'_>) -> Option<ClockOffset> {
    let of_this =
        |(authority, offset): &(String, ClockOffset)| (*authority == env.settings.authority).then_some(*offset);
    OBSERVED.with_borrow(|observed| observed.as_ref().and_then(of_this))
}

/// Reads the time in an answer of Entra ID. One without is none.
pub(crate) fn observe(env: &EntraWorld<'_>, headers: &HeaderMap) {
    if let Some(offset) = ClockOffset::of(headers, env.clock.now()) {
        let observed = offset.map(|offset| (env.settings.authority.clone(), offset));
        OBSERVED.with_borrow_mut(|current| *current = observed);
    }
}

/// Forgets the difference, as a new instance would.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn forget() {
    OBSERVED.with_borrow_mut(|current| *current = None);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use world::testing::START;

    use super::*;

    fn at(date: &'static str) -> Option<Option<ClockOffset>> {
        let headers = HeaderMap::from_iter([(http::header::DATE, HeaderValue::from_static(date))]);
        ClockOffset::of(&headers, START)
    }

    #[test]
    fn the_date_of_an_answer_tells_how_wrong_the_clock_is() {
        assert_eq!(at("Thu, 01 Jan 2026 00:00:30 GMT"), Some(None));
        assert_eq!(at("Thu, 01 Jan 2026 00:02:00 GMT"), Some(Some(ClockOffset::Behind(120))));
        assert_eq!(at("Wed, 31 Dec 2025 23:00:00 GMT"), Some(Some(ClockOffset::Ahead(3600))));
        assert_eq!(at("yesterday"), None);
        assert_eq!(at("Thu, 01 Jan 1960 00:00:00 GMT"), None);
    }
}
