//! The capabilities of `world` on WASI, and the world of a call. `interfaces` of the module above names the bindings.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use base::settings::Settings;
use entra::EntraWorld;
use world::records::{Partitions, Records};
use world::trail::Recorder;
use world::{ClientCredential, Clock, NoAudit, Random, SessionNames, Store, Trail};

use super::fetch::Fetch;
use super::interfaces::clocks::{monotonic_clock, wall_clock};
use super::interfaces::random::random;

pub(super) struct Wasi;

#[async_trait(?Send)]
impl Clock for Wasi {
    fn now(&self) -> u64 {
        wall_clock::now().seconds
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(monotonic_clock::now())
    }

    async fn sleep(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        monotonic_clock::subscribe_duration(nanoseconds).block();
    }
}

impl Random for Wasi {
    fn fill(&self, bytes: &mut [u8]) {
        let random = random::get_random_bytes(bytes.len() as u64);
        for (to, from) in bytes.iter_mut().zip(random) {
            *to = from;
        }
    }
}

/// Does something in the world of this call.
pub(super) fn with_world<T>(
    settings: &Settings,
    store: &dyn Store,
    credential: &dyn ClientCredential,
    act: impl AsyncFnOnce(&EntraWorld<'_>) -> T,
) -> T {
    let partitions = Partitions::of(settings);
    let names = SessionNames::default();
    let records = Records::new(store, &Wasi, &Wasi, &partitions);
    let trail = Trail::unnamed(Recorder { audit: &NoAudit, records, random: &Wasi, settings, names: &names });
    block_on(act(&EntraWorld {
        settings,
        http: &Fetch,
        records,
        clock: &Wasi,
        random: &Wasi,
        signatures: None,
        credential,
        trail: &trail,
    }))
}

/// Runs a future whose capabilities block: it is ready when it is polled.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
