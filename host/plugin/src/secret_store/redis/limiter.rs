//! Counts in Redis, so that several processes on one store admit no more than one would.
//!
//! Each process counts for itself first, with the same bounds. So an operation that one process refuses costs the store
//! nothing. The bound of a process also bounds the number of subjects that strangers can make the store remember. While
//! the store is away, each process limits its own operations.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;

use super::link::Repeat;
use super::script::Script;
use super::{OpenRedis, encoded};
use crate::clock::Clock;
use crate::networks;
use crate::rate_limiter::{CountingRateLimiter, Rate, RateLimiter};

/// The generic cell rate algorithm for one subject in all of its networks, by the clock of the server. For each key come
/// two arguments, in microseconds: how far apart operations are in the long run, and how much may be used up at once. The
/// answer is 0, or the microseconds until there is room; then nothing is counted.
static ADMIT: Script = Script::new(
    r"local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local back = {}
for i, key in ipairs(KEYS) do
  local next = math.max(tonumber(redis.call('GET', key) or '0'), now) + tonumber(ARGV[2 * i - 1])
  local over = next - now - tonumber(ARGV[2 * i])
  if over > 0 then return over end
  back[i] = next
end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.0f', back[i]), 'PX', math.max(1, math.ceil((back[i] - now) / 1000)))
end
return 0",
);

/// Bounds operations over all processes on one store.
pub struct RedisRateLimiter {
    store: Arc<OpenRedis>,
    local: CountingRateLimiter,
}

impl RedisRateLimiter {
    pub(super) fn new(store: Arc<OpenRedis>, clock: Arc<dyn Clock>, rates: HashMap<String, Rate>) -> Self {
        Self { store, local: CountingRateLimiter::new(clock, rates) }
    }

    /// The keys of a subject, with their bounds. All are in one slot of a cluster.
    fn counted(&self, operation: &str, subject: &str, rate: Rate) -> Vec<(String, Rate)> {
        let name = |subject: &str| encoded(&self.store.cipher.hidden_name(&format!("limit/{operation}/{subject}")));
        let key = |slot: &str, name: &str| format!("{}l:{{{slot}}}:{name}", self.store.prefix);
        let Ok(address) = subject.parse::<IpAddr>() else {
            let name = name(subject);
            return vec![(key(&name, ""), rate)];
        };
        let networks: Vec<_> = networks::of(address).collect();
        let slot = networks.last().map(|widest| name(&widest.to_string())).unwrap_or_default();
        let counted = |network: networks::Network| {
            let rate = Rate { count: rate.count.saturating_mul(network.factor), ..rate };
            (key(&slot, &name(&network.to_string())), rate)
        };
        networks.into_iter().map(counted).collect()
    }
}

#[async_trait]
impl RateLimiter for RedisRateLimiter {
    async fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        self.local.admit_here(operation, subject)?;
        let Some(rate) = self.local.rate(operation) else { return Ok(()) };
        let counted = self.counted(operation, subject, rate);
        let link = &self.store.link;
        let over = link.within(async {
            ADMIT
                .run::<u64>(link, Repeat::Harmless, |command: &mut Cmd| {
                    command.arg(counted.len());
                    counted.iter().for_each(|(key, _)| {
                        command.arg(key);
                    });
                    for (_, rate) in &counted {
                        // The server counts no finer: a million in a second is the most.
                        let apart = micros(rate.per / rate.count.max(1)).max(1);
                        command.arg(apart).arg(micros(rate.per));
                    }
                })
                .await
        });
        match over.await {
            Ok(0) => Ok(()),
            Ok(over) => Err(Duration::from_micros(over)),
            // This process has counted it.
            Err(error) => {
                tracing::debug!(%error, operation, "not counted in the store");
                Ok(())
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
