//! Counts in the records of a store, so that several processes on one file admit no more than one would.
//!
//! Each process counts for itself first, with the same bounds. So what one process refuses costs the store nothing, and
//! the number of subjects that strangers can make the store remember is bounded. What the store cannot count now, this
//! process has counted.
//!
//! Every count is a read and a write of a record, for each network of the subject. In a file, one process writes at a
//! time: it is for a few processes on one machine. Processes on Redis count there by a script.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

use super::{COUNTS_PREFIX, SecretBytes, SecretStore, StoreError, StoreLimits};
use crate::clock::Clock;
use crate::networks;
use crate::rate_limiter::{CountingRateLimiter, Rate, RateLimiter, count};

/// Most pairs of operation and subject that one process counts in the store: as many as the other records that
/// strangers leave. Others are counted in the process alone.
const MAX_STORED: usize = 16_384;

/// The part of the records of a store that the counts of one process may be.
const SHARE: u64 = 8;

/// How often a count is tried that another process is faster with.
const MAX_ATTEMPTS: usize = 8;

/// Bounds operations over all processes on one store, which have the same clock.
pub struct StoreRateLimiter {
    store: Arc<dyn SecretStore>,
    clock: Arc<dyn Clock>,
    local: CountingRateLimiter,
}

/// A record that counts, with the bound.
struct Counted {
    key: String,
    rate: Rate,
}

impl StoreRateLimiter {
    /// Bounds the named operations as [`CountingRateLimiter`] does.
    pub fn new(store: Arc<dyn SecretStore>, clock: Arc<dyn Clock>, rates: HashMap<String, Rate>) -> Self {
        let local = CountingRateLimiter::new(Arc::clone(&clock), rates).remembering(MAX_STORED);
        Self { store, clock, local }
    }

    /// The same in a store with these limits: the counts of this process are an eighth of its records at most, and others are
    /// counted in the process alone.
    #[must_use]
    pub fn in_store_of(self, limits: StoreLimits) -> Self {
        let share = usize::try_from(limits.records / SHARE).unwrap_or(MAX_STORED);
        Self { local: self.local.remembering(share.min(MAX_STORED)), ..self }
    }

    /// Counts in all records, or in none where one has no room.
    async fn count_all(&self, counted: &[Counted]) -> Result<Result<(), Duration>, StoreError> {
        if counted.len() > 1 {
            for counted in counted {
                let (_, next) = self.looked_up(counted).await?;
                if let Err(after) = next {
                    return Ok(Err(after));
                }
            }
        }
        for counted in counted {
            if let Err(after) = self.count_one(counted).await? {
                return Ok(Err(after));
            }
        }
        Ok(Ok(()))
    }

    /// What a record says now, and what it says once the operation is counted.
    async fn looked_up(
        &self,
        Counted { key, rate }: &Counted,
    ) -> Result<(Option<SecretBytes>, Result<Duration, Duration>), StoreError> {
        let before = self.store.get(key).await?;
        let now = self.clock.now();
        let noted = before.as_ref().and_then(|noted| <[u8; 8]>::try_from(noted.reveal()).ok()).map(u64::from_be_bytes);
        // No count is further ahead than its bound: the clock was set back since, and the count begins anew.
        let can_be = |back_at: &Duration| *back_at <= now.saturating_add(rate.per);
        let mut back_at = noted.map(Duration::from_micros).filter(can_be).unwrap_or_default();
        let next = count(&mut back_at, now, *rate).map(|()| back_at);
        Ok((before, next))
    }

    async fn count_one(&self, counted: &Counted) -> Result<Result<(), Duration>, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let (before, next) = self.looked_up(counted).await?;
            let back_at = match next {
                Ok(back_at) => back_at,
                Err(after) => return Ok(Err(after)),
            };
            let micros = u64::try_from(back_at.as_micros()).unwrap_or(u64::MAX);
            let left = back_at.saturating_sub(self.clock.now()).as_secs();
            let ttl = Some(Duration::from_secs(left.saturating_add(1)));
            let value = SecretBytes::new(micros.to_be_bytes().to_vec());
            if self.store.compare_and_swap(&counted.key, before, value, ttl).await? {
                return Ok(Ok(()));
            }
        }
        Err(StoreError::Unavailable("other processes count all the time".to_owned()))
    }
}

/// The records of a subject, with their bounds.
fn counted(operation: &str, subject: &str, rate: Rate) -> Vec<Counted> {
    let key = |subject: &str| {
        // A subject may be longer than the name of a record, and holds no secret.
        let hash = digest::digest(&digest::SHA256, format!("{operation}\n{subject}").as_bytes());
        format!("{COUNTS_PREFIX}{}", URL_SAFE_NO_PAD.encode(hash))
    };
    match subject.parse::<IpAddr>() {
        Err(_) => vec![Counted { key: key(subject), rate }],
        Ok(address) => networks::of(address)
            .map(|network| {
                let rate = Rate { count: rate.count.saturating_mul(network.factor), ..rate };
                Counted { key: key(&network.to_string()), rate }
            })
            .collect(),
    }
}

#[async_trait]
impl RateLimiter for StoreRateLimiter {
    async fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        let is_remembered = self.local.admit_if_remembered(operation, subject)?;
        let Some(rate) = self.local.rate(operation).filter(|_| is_remembered) else { return Ok(()) };
        match self.count_all(&counted(operation, subject, rate)).await {
            Ok(admitted) => admitted,
            // This process has counted it.
            Err(error) => {
                tracing::debug!(%error, operation, "not counted in the store");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::secret_store::MemoryStore;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    /// Three within half a minute.
    fn rates() -> HashMap<String, Rate> {
        HashMap::from([("token".to_owned(), Rate { count: 3, per: Duration::from_secs(30) })])
    }

    /// Two processes on one store.
    fn processes(clock: &ManualClock) -> [StoreRateLimiter; 2] {
        let store = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        [(), ()].map(|()| {
            let store: Arc<dyn SecretStore> = Arc::<MemoryStore>::clone(&store);
            StoreRateLimiter::new(store, Arc::new(clock.clone()), rates())
        })
    }

    #[tokio::test]
    async fn two_processes_admit_together_what_one_would() {
        let clock = ManualClock::new(1_000_000);
        let [here, there] = processes(&clock);
        for limiter in [&here, &there, &here] {
            limiter.admit("token", "a").await.unwrap();
        }
        // Neither has reached the bound by itself.
        assert_eq!(there.admit("token", "a").await, Err(TEN_SECONDS));
        there.admit("token", "b").await.unwrap();
        there.admit("not bounded", "a").await.unwrap();
        clock.advance(TEN_SECONDS);
        there.admit("token", "a").await.unwrap();
        assert_eq!(here.admit("token", "a").await, Err(TEN_SECONDS));
    }

    #[tokio::test]
    async fn an_address_of_ipv6_counts_in_its_networks_and_what_one_refuses_in_none() {
        let clock = ManualClock::new(1_000_000);
        let [here, there] = processes(&clock);
        // Four subscribers of one /56, with three each, use up what it has.
        for subscriber in 0..4 {
            for limiter in [&here, &there, &here] {
                limiter.admit("token", &format!("2001:db8:0:{subscriber:x}::1")).await.unwrap();
            }
        }
        there.admit("token", "2001:db8:0:4::1").await.unwrap_err();
        // Only the /56 is used up.
        there.admit("token", "2001:db8:0:100::1").await.unwrap();
    }

    #[tokio::test]
    async fn counts_are_an_eighth_of_the_records_of_a_store_and_others_are_counted_in_the_process() {
        let [here, there] = processes(&ManualClock::new(1_000_000));
        let here = here.in_store_of(StoreLimits { records: 16, bytes: 1_000 });
        for subject in ["a", "b", "c"] {
            for _ in 0..3 {
                here.admit("token", subject).await.unwrap();
            }
        }
        // The store has two counts, and not the third.
        for subject in ["a", "b"] {
            assert_eq!(there.admit("token", subject).await, Err(TEN_SECONDS), "{subject}");
        }
        for _ in 0..3 {
            there.admit("token", "c").await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_shuts_no_subject_out() {
        let clock = ManualClock::new(1_000_000);
        let [here, there] = processes(&clock);
        for limiter in [&here, &there, &here] {
            limiter.admit("token", "a").await.unwrap();
        }
        clock.set_back(Duration::from_secs(3_600));
        there.admit("token", "a").await.unwrap();
    }

    /// A store that is away.
    struct Away;

    #[async_trait]
    impl SecretStore for Away {
        async fn get(&self, _: &str) -> Result<Option<SecretBytes>, StoreError> {
            Err(StoreError::Unavailable("away".to_owned()))
        }

        async fn put(&self, _: &str, _: SecretBytes, _: Option<Duration>) -> Result<(), StoreError> {
            Err(StoreError::Unavailable("away".to_owned()))
        }

        async fn take(&self, _: &str) -> Result<Option<SecretBytes>, StoreError> {
            Err(StoreError::Unavailable("away".to_owned()))
        }

        async fn compare_and_swap(
            &self,
            _: &str,
            _: Option<SecretBytes>,
            _: SecretBytes,
            _: Option<Duration>,
        ) -> Result<bool, StoreError> {
            Err(StoreError::Unavailable("away".to_owned()))
        }

        async fn delete(&self, _: &str) -> Result<(), StoreError> {
            Err(StoreError::Unavailable("away".to_owned()))
        }
    }

    #[tokio::test]
    async fn while_the_store_is_away_each_process_counts_for_itself() {
        let limiter = StoreRateLimiter::new(Arc::new(Away), Arc::new(ManualClock::new(1_000_000)), rates());
        for _ in 0..3 {
            limiter.admit("token", "a").await.unwrap();
        }
        assert_eq!(limiter.admit("token", "a").await, Err(TEN_SECONDS));
    }
}
