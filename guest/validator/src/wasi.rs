//! The capabilities of `world` on WASI.

use std::time::Duration;

use async_trait::async_trait;
use world::{Clock, Random};

pub(crate) struct Wasi;

#[async_trait(?Send)]
impl Clock for Wasi {
    fn now(&self) -> u64 {
        wasip2::clocks::wall_clock::now().seconds
    }

    #[cfg(feature = "http")]
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(wasip2::clocks::monotonic_clock::now())
    }

    #[cfg(feature = "http")]
    async fn sleep(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        wasip2::clocks::monotonic_clock::subscribe_duration(nanoseconds).block();
    }

    /// Nothing is fetched, and without a store there is no other call to wait for: no time passes within a call.
    #[cfg(not(feature = "http"))]
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    #[cfg(not(feature = "http"))]
    async fn sleep(&self, _: Duration) {}
}

impl Random for Wasi {
    fn fill(&self, bytes: &mut [u8]) {
        let random = wasip2::random::random::get_random_bytes(bytes.len() as u64);
        for (to, from) in bytes.iter_mut().zip(random) {
            *to = from;
        }
    }
}
