//! Limits the rate of operations (`wit/rate-limiter.wit`).
//!
//! The counts of [`CountingRateLimiter`] belong to this process. Where several processes share a store on the network, a
//! limiter that counts there bounds all of them together (`secret_store/redis/limiter.rs`); one that counts in records
//! does so for a store in a file (`secret_store/limiter.rs`). Counts bound abuse. Nothing that has to be exact, such as
//! the single use of a code, relies on them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::bindings::rate_limiter as wit;
use crate::clock::Clock;
use crate::networks;

/// The prefix of an operation that is the record of another operation's refusal.
pub const RECORD_OF: &str = "record:";

/// Most pairs of operation and subject that are remembered: some 3 MiB.
const MAX_SUBJECTS: usize = 100_000;

/// The shared limit of all subjects that are not remembered for want of room, as a multiple of the limit of one
/// subject.
const STRANGERS: u32 = 10;

/// Counts operations by subject. `wit/rate-limiter.wit` says what the component counts.
#[async_trait]
pub trait RateLimiter: Send + Sync + 'static {
    /// Counts one `operation` by `subject`; an error says when to try again. A subject that is an address of IPv6 has to
    /// be counted by its networks, as [`CountingRateLimiter`] does: a client has more addresses than there are bounds.
    async fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration>;
}

/// Admits everything: for hosts without unauthenticated clients.
#[derive(Debug, Default)]
pub struct NoRateLimiter;

#[async_trait]
impl RateLimiter for NoRateLimiter {
    async fn admit(&self, _: &str, _: &str) -> Result<(), Duration> {
        Ok(())
    }
}

/// A number of operations within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Operations at once, after a long enough pause. Above zero.
    pub count: u32,
    /// The time in which that many operations become free again, one after the other. Above zero.
    pub per: Duration,
}

/// Bounds operations by the generic cell rate algorithm: one number per subject, and no window at the end of which
/// everything is allowed again at once.
///
/// The limiter never discards the count of a subject while it matters, so that no client gets a fresh count by sending
/// under many other names. If there is no room, all further subjects share one count.
///
/// A subject that is an address of IPv6 counts in its /64, its /56 and its /48, which have one, four and sixteen times
/// the bound. If one of them has no room, the limiter refuses the operation, and counts it in none.
pub struct CountingRateLimiter {
    clock: Arc<dyn Clock>,
    rates: HashMap<String, Rate>,
    max_subjects: usize,
    /// Keyed with a secret of the process, so that an attacker cannot choose a subject that counts as another one.
    hasher: RandomState,
    counts: Mutex<RateCounts>,
}

#[derive(Default)]
struct RateCounts {
    /// When the count of an operation and subject is back at zero, as a reading of the monotonic clock.
    subjects: HashMap<u64, Duration>,
    strangers: HashMap<String, Duration>,
    /// When expired counts were last removed.
    purged_at: Option<Duration>,
    /// When the log last said that there is no room.
    warned_at: Option<Duration>,
}

impl CountingRateLimiter {
    /// Bounds the named operations, and the records of their refusal to one within the same time. Operations without a
    /// name here are admitted.
    pub fn new(clock: Arc<dyn Clock>, rates: HashMap<String, Rate>) -> Self {
        Self { clock, rates, max_subjects: MAX_SUBJECTS, hasher: RandomState::new(), counts: Mutex::default() }
    }

    /// The same, with another bound on the pairs of operation and subject that are remembered.
    #[cfg(feature = "sqlite")]
    pub(crate) fn remembering(self, max_subjects: usize) -> Self {
        Self { max_subjects, ..self }
    }

    pub(crate) fn rate(&self, operation: &str) -> Option<Rate> {
        let refused = |recorded| self.rates.get(recorded).map(|rate: &Rate| Rate { count: 1, per: rate.per });
        self.rates.get(operation).copied().or_else(|| operation.strip_prefix(RECORD_OF).and_then(refused))
    }
}

/// What is counted: a subject, or all those that are not remembered.
enum Counted {
    Subject(u64),
    Strangers,
}

/// Counts one operation, or says when there is room for it. `back_at` is when the count would be back at zero.
pub(crate) fn count(back_at: &mut Duration, now: Duration, rate: Rate) -> Result<(), Duration> {
    let next = (*back_at).max(now).saturating_add(rate.per / rate.count.max(1));
    let limit = now.saturating_add(rate.per);
    if next > limit {
        return Err(next.saturating_sub(limit));
    }
    *back_at = next;
    Ok(())
}

impl CountingRateLimiter {
    /// [`admit`](RateLimiter::admit), which has nothing to wait for.
    pub fn admit_here(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        self.admit_if_remembered(operation, subject).map(drop)
    }

    /// The same, and whether the subject is remembered: not if it is counted with others for want of room.
    pub(crate) fn admit_if_remembered(&self, operation: &str, subject: &str) -> Result<bool, Duration> {
        let Some(of_one) = self.rate(operation) else { return Ok(true) };
        let now = self.clock.monotonic();
        // An id that a client has made up may look like an address; then it counts as one.
        let subjects: Vec<(u64, Rate)> = match subject.parse::<IpAddr>() {
            Err(_) => vec![(self.hasher.hash_one((operation, subject)), of_one)],
            Ok(address) => networks::of(address)
                .map(|network| {
                    let rate = Rate { count: of_one.count.saturating_mul(network.factor), ..of_one };
                    (self.hasher.hash_one((operation, network.to_string())), rate)
                })
                .collect(),
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.make_room(subjects.len(), self.max_subjects, now);
        let mut admitted = Vec::with_capacity(subjects.len());
        let mut is_stranger = false;
        for (key, rate) in subjects {
            let known = counts.subjects.get(&key).copied();
            let has_room = counts.subjects.len().saturating_add(admitted.len()) < self.max_subjects;
            let (counted, mut back_at, rate) = match known {
                Some(back_at) => (Counted::Subject(key), back_at, rate),
                None if has_room => (Counted::Subject(key), Duration::ZERO, rate),
                // It is one stranger, however many networks it is in.
                None if is_stranger => continue,
                None => {
                    is_stranger = true;
                    counts.warn(operation, now);
                    let rate = Rate { count: of_one.count.saturating_mul(STRANGERS), ..of_one };
                    (Counted::Strangers, counts.strangers.get(operation).copied().unwrap_or_default(), rate)
                }
            };
            count(&mut back_at, now, rate)?;
            admitted.push((counted, back_at));
        }
        for (counted, back_at) in admitted {
            match counted {
                Counted::Subject(key) => counts.subjects.insert(key, back_at),
                Counted::Strangers => counts.strangers.insert(operation.to_owned(), back_at),
            };
        }
        Ok(!is_stranger)
    }
}

#[async_trait]
impl RateLimiter for CountingRateLimiter {
    async fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        self.admit_here(operation, subject)
    }
}

impl RateCounts {
    /// Says that there is no room, once a second at most.
    fn warn(&mut self, operation: &str, now: Duration) {
        if self.warned_at.is_none_or(|at| now.saturating_sub(at) >= Duration::from_secs(1)) {
            self.warned_at = Some(now);
            tracing::warn!(operation, "more callers than can be told apart: their requests are counted together");
        }
    }

    /// Forgets what does not matter any more, if there is no room for so many. Looking for room takes a while, and finds
    /// none more often than once in a second.
    fn make_room(&mut self, wanted: usize, max_subjects: usize, now: Duration) {
        let purgeable = self.purged_at.is_none_or(|at| now.saturating_sub(at) >= Duration::from_secs(1));
        if self.subjects.len().saturating_add(wanted) > max_subjects && purgeable {
            self.subjects.retain(|_, back_at| *back_at > now);
            self.purged_at = Some(now);
        }
    }
}

/// The state of an instance.
pub(crate) struct RateLimiterCtx {
    limiter: Arc<dyn RateLimiter>,
}

impl RateLimiterCtx {
    pub(crate) fn new(limiter: Arc<dyn RateLimiter>) -> Self {
        Self { limiter }
    }
}

impl wit::Host for RateLimiterCtx {
    async fn admit(&mut self, operation: String, subject: String) -> wasmtime::Result<Result<(), wit::Exceeded>> {
        Ok(self.limiter.admit(&operation, &subject).await.map_err(|after| wit::Exceeded {
            retry_after_seconds: u32::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn limiter(clock: &ManualClock) -> CountingRateLimiter {
        let rate = Rate { count: 3, per: Duration::from_secs(30) };
        CountingRateLimiter::new(Arc::new(clock.clone()), HashMap::from([("token".to_owned(), rate)]))
    }

    #[test]
    fn the_bound_is_reached_and_comes_back_one_by_one() {
        let clock = ManualClock::new(0);
        let limiter = limiter(&clock);
        for _ in 0..3 {
            limiter.admit_here("token", "a").unwrap();
        }
        assert_eq!(limiter.admit_here("token", "a"), Err(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(4));
        assert_eq!(limiter.admit_here("token", "a"), Err(Duration::from_secs(6)));
        clock.advance(Duration::from_secs(6));
        limiter.admit_here("token", "a").unwrap();
        assert_eq!(limiter.admit_here("token", "a"), Err(Duration::from_secs(10)));
    }

    #[test]
    fn what_is_refused_does_not_count() {
        let clock = ManualClock::new(0);
        let limiter = limiter(&clock);
        for _ in 0..100 {
            let _ = limiter.admit_here("token", "a");
        }
        clock.advance(Duration::from_secs(30));
        for _ in 0..3 {
            limiter.admit_here("token", "a").unwrap();
        }
    }

    #[test]
    fn subjects_and_operations_are_counted_apart_and_unknown_operations_not_at_all() {
        let clock = ManualClock::new(0);
        let limiter = limiter(&clock);
        for _ in 0..3 {
            limiter.admit_here("token", "a").unwrap();
        }
        limiter.admit_here("token", "b").unwrap();
        for _ in 0..100 {
            limiter.admit_here("other", "a").unwrap();
        }
    }

    #[test]
    fn a_refusal_is_recorded_once_for_each_subject_in_the_time_of_the_bound() {
        let clock = ManualClock::new(0);
        let limiter = limiter(&clock);
        limiter.admit_here("record:token", "a").unwrap();
        assert_eq!(limiter.admit_here("record:token", "a"), Err(Duration::from_secs(30)));
        limiter.admit_here("record:token", "b").unwrap();
        for _ in 0..3 {
            limiter.admit_here("token", "a").unwrap();
        }
        clock.advance(Duration::from_secs(29));
        assert_eq!(limiter.admit_here("record:token", "a"), Err(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        limiter.admit_here("record:token", "a").unwrap();
        for operation in ["record:other", "record:", "record:record:token"] {
            for _ in 0..100 {
                limiter.admit_here(operation, "a").unwrap();
            }
        }
    }

    #[test]
    fn many_addresses_have_few_records_when_they_cannot_be_told_apart() {
        let clock = ManualClock::new(0);
        let mut limiter = limiter(&clock);
        limiter.max_subjects = 2;
        let recorded =
            (0..1_000).filter(|number| limiter.admit_here("record:token", &number.to_string()).is_ok()).count();
        assert_eq!(recorded, 2 + 10);
    }

    #[test]
    fn addresses_of_ipv6_that_cannot_be_told_apart_share_one_bound_and_one_line_in_a_second() {
        let clock = ManualClock::new(0);
        let mut limiter = limiter(&clock);
        limiter.max_subjects = 0;
        let admitted =
            (0..1_000).filter(|part| limiter.admit_here("token", &format!("2001:db8:{part:x}::1")).is_ok()).count();
        assert_eq!(admitted, 3 * 10);
        clock.advance(Duration::from_millis(999));
        assert!(limiter.admit_here("token", "2001:db8::1").is_err());
        assert_eq!(limiter.counts.lock().unwrap().warned_at, Some(Duration::ZERO));
        clock.advance(Duration::from_millis(1));
        limiter.admit_here("token", "2001:db8::1").unwrap();
        assert_eq!(limiter.counts.lock().unwrap().warned_at, Some(Duration::from_secs(1)));
    }

    /// What each of the subjects is told.
    async fn told(limiter: CountingRateLimiter, subjects: &[&str]) -> Vec<Option<u32>> {
        let mut context = RateLimiterCtx::new(Arc::new(limiter));
        let mut told = Vec::new();
        for subject in subjects {
            let admitted = wit::Host::admit(&mut context, "token".to_owned(), (*subject).to_owned()).await.unwrap();
            told.push(admitted.err().map(|exceeded| exceeded.retry_after_seconds));
        }
        told
    }

    #[tokio::test]
    async fn the_addresses_of_one_ipv6_network_are_one_subject_and_client_ids_are_what_they_are() {
        let three = [None, None, None, Some(10)];
        for (subjects, expected) in [
            (["2001:db8::1", "2001:db8:0:0:ffff::2", "2001:DB8::3", "2001:db8::4"], three),
            (["203.0.113.1", "::ffff:203.0.113.1", "203.0.113.1", "203.0.113.1"], three),
            (["2001:db8:0:1::1", "2001:db8:0:2::1", "203.0.113.2", "::ffff:203.0.113.3"], [None; 4]),
            (["https://2001:db8::/", "https://2001:db8::1/", "[2001:db8::1]", ""], [None; 4]),
        ] {
            assert_eq!(told(limiter(&ManualClock::new(0)), &subjects).await, expected, "{subjects:?}");
        }
    }

    #[test]
    fn a_larger_network_has_a_multiple_of_the_bound_and_no_more_however_many_addresses_it_has() {
        for (network, admitted) in [("2001:db8:1:2{:02x}::1", 12), ("2001:db8:1:{:02x}00::1", 48)] {
            let clock = ManualClock::new(0);
            let limiter = limiter(&clock);
            let address = |number: u32| network.replace("{:02x}", &format!("{:02x}", number % 256));
            let ok = (0..1_000).filter(|number| limiter.admit_here("token", &address(*number)).is_ok()).count();
            assert_eq!(ok, admitted, "{network}");
            // What was refused counts nowhere, so a flood of a /48 does not fill the table.
            assert!(limiter.counts.lock().unwrap().subjects.len() <= 2 * admitted + 1);
            // The neighbours are not touched.
            limiter.admit_here("token", "2001:db8:2::1").unwrap();
            // What comes back, comes back to the network.
            clock.advance(Duration::from_secs(30));
            assert!(limiter.admit_here("token", &address(0)).is_ok());
        }
    }

    #[test]
    fn nobody_gets_a_fresh_count_by_sending_under_many_names() {
        let clock = ManualClock::new(0);
        let mut limiter = limiter(&clock);
        limiter.max_subjects = 2;
        for _ in 0..3 {
            limiter.admit_here("token", "a").unwrap();
        }
        limiter.admit_here("token", "b").unwrap();
        let admitted = (0..1_000).filter(|number| limiter.admit_here("token", &number.to_string()).is_ok()).count();
        assert_eq!(admitted, 30, "the others share one count");
        assert!(limiter.admit_here("token", "a").is_err());
        assert_eq!(limiter.counts.lock().unwrap().subjects.len(), 2);

        clock.advance(Duration::from_secs(30));
        for _ in 0..3 {
            limiter.admit_here("token", "a new subject").unwrap();
        }
        assert!(limiter.admit_here("token", "a new subject").is_err());
    }
}
