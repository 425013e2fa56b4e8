//! Limits how often an operation may be done (`wit/rate-limiter.wit`).
//!
//! The counts belong to this process: with several replicas, each has its own. They bound abuse. Nothing that has to be
//! exact, such as the single use of a code, relies on them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::bindings::rate_limiter as wit;
use crate::clock::Clock;

/// The prefix of an operation that is the record of another operation's refusal.
pub const RECORD_OF: &str = "record:";

/// Most pairs of operation and subject that are remembered: some 3 MiB.
const MAX_SUBJECTS: usize = 100_000;

/// The shared limit of all subjects that are not remembered for want of room, as a multiple of the limit of one
/// subject.
const STRANGERS: u32 = 10;

/// Counts operations by subject. `wit/rate-limiter.wit` says what the component counts. An IPv6 address counts as its
/// network.
pub trait RateLimiter: Send + Sync + 'static {
    /// Counts one `operation` by `subject`; an error says when to try again.
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration>;
}

/// Admits everything: for hosts without unauthenticated clients.
#[derive(Debug, Default)]
pub struct NoRateLimiter;

impl RateLimiter for NoRateLimiter {
    fn admit(&self, _: &str, _: &str) -> Result<(), Duration> {
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
/// The count of a subject is never discarded while it matters, so that no client gets a fresh count by sending under
/// many other names: when there is no room, subjects that are not remembered share one count.
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
}

impl CountingRateLimiter {
    /// Bounds the named operations, and the records of their refusal to one within the same time. Operations without a
    /// name here are admitted.
    pub fn new(clock: Arc<dyn Clock>, rates: HashMap<String, Rate>) -> Self {
        Self { clock, rates, max_subjects: MAX_SUBJECTS, hasher: RandomState::new(), counts: Mutex::default() }
    }

    fn rate(&self, operation: &str) -> Option<Rate> {
        let refused = |recorded| self.rates.get(recorded).map(|rate: &Rate| Rate { count: 1, per: rate.per });
        self.rates.get(operation).copied().or_else(|| operation.strip_prefix(RECORD_OF).and_then(refused))
    }
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

impl RateLimiter for CountingRateLimiter {
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        let Some(rate) = self.rate(operation) else { return Ok(()) };
        let now = self.clock.monotonic();
        let key = self.hasher.hash_one((operation, subject));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(back_at) = counts.subjects.get_mut(&key) {
            return count(back_at, now, rate);
        }
        // Looking for room takes a while, and finds some at most once in a second.
        let purgeable = counts.purged_at.is_none_or(|at| now.saturating_sub(at) >= Duration::from_secs(1));
        if counts.subjects.len() >= self.max_subjects && purgeable {
            counts.subjects.retain(|_, back_at| *back_at > now);
            counts.purged_at = Some(now);
        }
        if counts.subjects.len() >= self.max_subjects {
            tracing::warn!(operation, "more callers than can be told apart: their requests are counted together");
            let rate = Rate { count: rate.count.saturating_mul(STRANGERS), per: rate.per };
            return count(counts.strangers.entry(operation.to_owned()).or_default(), now, rate);
        }
        count(counts.subjects.entry(key).or_default(), now, rate)
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

/// The subject that is counted. The component passes on an address as the host named it. Any other text that looks like
/// an address is a client id that a client has made up.
fn counted(subject: String) -> String {
    match subject.parse::<IpAddr>() {
        Ok(address) => network(address.to_canonical()).to_string(),
        Err(_) => subject,
    }
}

/// The unit that counts as one client: an IPv6 client has a /64 to itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl wit::Host for RateLimiterCtx {
    async fn admit(&mut self, operation: String, subject: String) -> wasmtime::Result<Result<(), wit::Exceeded>> {
        Ok(self.limiter.admit(&operation, &counted(subject)).map_err(|after| wit::Exceeded {
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
            limiter.admit("token", "a").unwrap();
        }
        assert_eq!(limiter.admit("token", "a"), Err(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(4));
        assert_eq!(limiter.admit("token", "a"), Err(Duration::from_secs(6)));
        clock.advance(Duration::from_secs(6));
        limiter.admit("token", "a").unwrap();
        assert_eq!(limiter.admit("token", "a"), Err(Duration::from_secs(10)));
    }

    #[test]
    fn what_is_refused_does_not_count() {
        let clock = ManualClock::new(0);
        let limiter = limiter(&clock);
        for _ in 0..100 {
            let _ = limiter.admit("token", "a");
        }
        clock.advance(Duration::from_secs(30));
        for _ in 0..3 {
            limiter.admit("token", "a").unwrap();
        }
    }

    #[test]
    fn subjects_and_operations_are_counted_apart_and_unknown_operations_not_at_all() {
        let clock = ManualClock::new(0);
        let limiter = limiter(&clock);
        for _ in 0..3 {
            limiter.admit("token", "a").unwrap();
        }
        limiter.admit("token", "b").unwrap();
        for _ in 0..100 {
            limiter.admit("other", "a").unwrap();
        }
    }

    #[test]
    fn a_refusal_is_recorded_once_for_each_subject_in_the_time_of_the_bound() {
        let clock = ManualClock::new(0);
        let limiter = limiter(&clock);
        limiter.admit("record:token", "a").unwrap();
        assert_eq!(limiter.admit("record:token", "a"), Err(Duration::from_secs(30)));
        limiter.admit("record:token", "b").unwrap();
        for _ in 0..3 {
            limiter.admit("token", "a").unwrap();
        }
        clock.advance(Duration::from_secs(29));
        assert_eq!(limiter.admit("record:token", "a"), Err(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        limiter.admit("record:token", "a").unwrap();
        for operation in ["record:other", "record:", "record:record:token"] {
            for _ in 0..100 {
                limiter.admit(operation, "a").unwrap();
            }
        }
    }

    #[test]
    fn many_addresses_have_few_records_when_they_cannot_be_told_apart() {
        let clock = ManualClock::new(0);
        let mut limiter = limiter(&clock);
        limiter.max_subjects = 2;
        let recorded = (0..1_000).filter(|number| limiter.admit("record:token", &number.to_string()).is_ok()).count();
        assert_eq!(recorded, 2 + 10);
    }

    #[tokio::test]
    async fn the_addresses_of_one_ipv6_network_are_one_subject_and_client_ids_are_what_they_are() {
        let clock = ManualClock::new(0);
        let mut context = RateLimiterCtx::new(Arc::new(limiter(&clock)));
        let mut refused = async |subjects: [&str; 4]| {
            let mut refused = Vec::new();
            for subject in subjects {
                let admitted = wit::Host::admit(&mut context, "token".to_owned(), subject.to_owned()).await.unwrap();
                refused.push(admitted.err().map(|exceeded| exceeded.retry_after_seconds));
            }
            refused
        };
        let three = [None, None, None, Some(10)];
        let one = ["2001:db8::1", "2001:db8:0:0:ffff::2", "2001:DB8::3", "2001:db8::4"];
        assert_eq!(refused(one).await, three);
        assert_eq!(refused(["203.0.113.1", "::ffff:203.0.113.1", "203.0.113.1", "203.0.113.1"]).await, three);
        for others in [
            ["2001:db8:0:1::1", "2001:db8:0:2::1", "203.0.113.2", "::ffff:203.0.113.3"],
            ["https://2001:db8::/", "https://2001:db8::1/", "[2001:db8::1]", ""],
        ] {
            assert_eq!(refused(others).await, [None; 4]);
        }
    }

    #[test]
    fn nobody_gets_a_fresh_count_by_sending_under_many_names() {
        let clock = ManualClock::new(0);
        let mut limiter = limiter(&clock);
        limiter.max_subjects = 2;
        for _ in 0..3 {
            limiter.admit("token", "a").unwrap();
        }
        limiter.admit("token", "b").unwrap();
        let admitted = (0..1_000).filter(|number| limiter.admit("token", &number.to_string()).is_ok()).count();
        assert_eq!(admitted, 30, "the others share one count");
        assert!(limiter.admit("token", "a").is_err());
        assert_eq!(limiter.counts.lock().unwrap().subjects.len(), 2);

        clock.advance(Duration::from_secs(30));
        for _ in 0..3 {
            limiter.admit("token", "a new subject").unwrap();
        }
        assert!(limiter.admit("token", "a new subject").is_err());
    }
}
