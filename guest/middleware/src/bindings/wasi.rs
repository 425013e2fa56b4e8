//! The capabilities of `world` on WASI.

use std::time::Duration;

use async_trait::async_trait;
use world::{Clock, Random};

use super::generated::wasi::clocks::monotonic_clock;

pub(super) struct Wasi;

#[async_trait(?Send)]
impl Clock for Wasi {
    fn now(&self) -> u64 {
        wasip2::clocks::wall_clock::now().seconds
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(monotonic_clock::now())
    }

    async fn sleep(&self, duration: Duration) {
        monotonic_clock::wait_for(nanoseconds(duration)).await;
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Random for Wasi {
    fn fill(&self, bytes: &mut [u8]) {
        let random = wasip2::random::random::get_random_bytes(bytes.len() as u64);
        for (to, from) in bytes.iter_mut().zip(random) {
            *to = from;
        }
    }
}
