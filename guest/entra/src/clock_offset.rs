//! How far this machine's clock is from that of Entra ID.
//!
//! Every answer of Entra ID says what time it is there (`Date`, RFC 9110 section 6.6.1). A token that seems to be out of
//! date is most often a clock that is wrong, and that can be said.

use std::cell::RefCell;
use std::time::SystemTime;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use world::Clock;

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

/// Seconds by which two readings of one beginning may differ: both clocks are read in whole seconds.
const ROUNDING_SECONDS: u64 = 2;

/// What an answer has shown, in the form in which instances tell each other: beside a document that they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sighting {
    /// When the monotonic clock of the process began, by its wall clock; Unix time in seconds. Another machine and another
    /// process have another one, and so has this process once its wall clock was set: it counts for neither of them.
    began: u64,
    /// Seconds that this machine is behind; less than 0 if it is ahead.
    behind: i64,
    /// When the answer arrived; Unix time in seconds. A record of an earlier version does not say it.
    #[serde(default)]
    at: u64,
}

impl Sighting {
    /// What an answer that arrives `now` (Unix time in seconds) says, in a process that began at `began`.
    fn of(headers: &HeaderMap, now: u64, began: u64) -> Option<Self> {
        let date = headers.get(http::header::DATE)?.to_str().ok()?;
        let there = httpdate::parse_http_date(date).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        Some(Self { began, behind: i64::try_from(i128::from(there) - i128::from(now)).ok()?, at: now })
    }

    fn counts(self, clock: &dyn Clock) -> bool {
        self.began.abs_diff(began(clock)) <= ROUNDING_SECONDS
    }

    fn offset(self) -> Option<ClockOffset> {
        let seconds = self.behind.unsigned_abs();
        let offset = if self.behind > 0 { ClockOffset::Behind(seconds) } else { ClockOffset::Ahead(seconds) };
        (seconds > NOTICEABLE_SECONDS).then_some(offset)
    }
}

thread_local! {
    // A component instance has one thread, so this is the instance's: the authority that answered last, and what it showed.
    static OBSERVED: RefCell<Option<(String, Sighting)>> = const { RefCell::new(None) };
}

fn began(clock: &dyn Clock) -> u64 {
    clock.now().saturating_sub(clock.monotonic().as_secs())
}

/// The difference, as the last answer of Entra ID showed it to this instance, or to another one of this process.
pub fn current(env: &EntraWorld<'_>) -> Option<ClockOffset> {
    sighting(env)?.offset()
}

/// Whether an answer of Entra ID showed the difference within so many seconds.
pub(crate) fn is_known_for(env: &EntraWorld<'_>, seconds: u64) -> bool {
    sighting(env).is_some_and(|seen| env.clock.now().abs_diff(seen.at) < seconds)
}

/// What the last answer of Entra ID showed, for instances that have not seen one.
pub(crate) fn sighting(env: &EntraWorld<'_>) -> Option<Sighting> {
    let of_this = |(authority, sighting): &(String, Sighting)| {
        (*authority == env.settings.authority && sighting.counts(env.clock)).then_some(*sighting)
    };
    OBSERVED.with_borrow(|observed| observed.as_ref().and_then(of_this))
}

/// Takes what another instance has seen, unless this one has seen a later answer.
pub(crate) fn learn(env: &EntraWorld<'_>, seen: Sighting) {
    if seen.counts(env.clock) && sighting(env).is_none_or(|known| known.at < seen.at) {
        OBSERVED.set(Some((env.settings.authority.clone(), seen)));
    }
}

/// Reads the time in an answer of Entra ID. One without is none.
pub(crate) fn observe(env: &EntraWorld<'_>, headers: &HeaderMap) {
    if let Some(sighting) = Sighting::of(headers, env.clock.now(), began(env.clock)) {
        OBSERVED.set(Some((env.settings.authority.clone(), sighting)));
    }
}

/// As if an answer had shown that this machine is behind by so many seconds, or ahead if the number is below 0.
#[cfg(test)]
pub(crate) fn is_behind(env: &EntraWorld<'_>, seconds: i64) {
    let sighting = Sighting { began: began(env.clock), behind: seconds, at: env.clock.now() };
    OBSERVED.set(Some((env.settings.authority.clone(), sighting)));
}

/// Forgets the difference, as a new instance would.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn forget() {
    OBSERVED.set(None);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use world::testing::{START, World};

    use super::*;
    use crate::testing::EntraWorlds as _;

    fn at(date: &'static str) -> Option<Option<ClockOffset>> {
        let headers = HeaderMap::from_iter([(http::header::DATE, HeaderValue::from_static(date))]);
        Sighting::of(&headers, START, 0).map(Sighting::offset)
    }

    #[test]
    fn the_date_of_an_answer_tells_how_wrong_the_clock_is() {
        assert_eq!(at("Thu, 01 Jan 2026 00:00:30 GMT"), Some(None));
        assert_eq!(at("Thu, 01 Jan 2026 00:02:00 GMT"), Some(Some(ClockOffset::Behind(120))));
        assert_eq!(at("Wed, 31 Dec 2025 23:00:00 GMT"), Some(Some(ClockOffset::Ahead(3600))));
        assert_eq!(at("yesterday"), None);
        assert_eq!(at("Thu, 01 Jan 1960 00:00:00 GMT"), None);
    }

    #[test]
    fn what_was_seen_counts_for_this_process_and_until_its_clock_is_set() {
        forget();
        let (world, seen) = (World::default(), |began| Sighting { began, behind: 400, at: START });
        let env = world.entra();
        for other in [START + 3, START - 3] {
            learn(&env, seen(other));
            assert_eq!(current(&env), None);
        }
        learn(&env, seen(START + 1));
        assert_eq!(current(&env), Some(ClockOffset::Behind(400)));
        world.advance(Duration::from_secs(3600));
        assert_eq!(current(&env), Some(ClockOffset::Behind(400)), "time passes on both clocks");
        learn(&env, Sighting { began: START, behind: -400, at: START });
        assert_eq!(current(&env), Some(ClockOffset::Behind(400)), "what the instance knows is not replaced");
        learn(&env, Sighting { began: START, behind: -400, at: START + 1 });
        assert_eq!(current(&env), Some(ClockOffset::Ahead(400)), "but by what was seen later");
        forget();
    }

    #[test]
    fn what_was_seen_is_known_for_so_many_seconds() {
        forget();
        let world = World::default();
        let env = world.entra();
        assert!(!is_known_for(&env, 300), "nothing was seen");
        is_behind(&env, 0);
        world.advance(Duration::from_secs(299));
        assert!(is_known_for(&env, 300));
        world.advance(Duration::from_secs(1));
        assert!(!is_known_for(&env, 300));
        forget();
    }
}
