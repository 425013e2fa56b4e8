//! How much one caller may ask of Microsoft Graph.
//!
//! Threat: a caller that asks without end. Graph counts what an application asks, so it would refuse all callers in the
//! end; and a call that waits until Graph may be asked again occupies an instance that others need.

use std::time::Duration;

use base::Identity;
use entra::EntraWorld;
use world::records::{Holder, Namespace, Partition};
use world::{Clock, RateLimiter, limits};

/// The operation of the rate limiter.
const GRAPH_REQUEST: &str = "graph-request";
/// Calls of one caller that wait for Graph at the same time. A person's model makes a few calls at once.
const MAX_WAITING: usize = 4;
/// Added to the time of a wait, so that the place is not given up before the wait ends.
const MARGIN: Duration = Duration::from_secs(1);

/// Places of calls that wait, by the address of Graph, application, tenant, object and number.
const WAITING: Namespace<Holder> = Namespace::leases(Partition::Store, "graph-waiting");

/// The bounds of one caller of the remote server.
#[derive(Clone, Copy)]
pub(crate) struct GraphBounds<'a> {
    env: &'a EntraWorld<'a>,
    limiter: &'a dyn RateLimiter,
    who: Identity<'a>,
}

impl<'a> GraphBounds<'a> {
    /// Those of this caller.
    pub(crate) fn of(env: &'a EntraWorld<'a>, limiter: &'a dyn RateLimiter, who: Identity<'a>) -> Self {
        Self { env, limiter, who }
    }

    /// Counts a request. An error says after which time to try again.
    pub(crate) async fn admit(&self) -> Result<(), Duration> {
        limits::admit_caller(self.limiter, self.env.trail, GRAPH_REQUEST, self.who).await
    }

    /// Waits, unless too many calls of the caller do.
    pub(crate) async fn wait(&self, clock: &dyn Clock, pause: Duration) -> bool {
        let settings = self.env.settings;
        let Identity { tenant_id, object_id, .. } = self.who;
        for place in 0..MAX_WAITING {
            let key = [&settings.graph, &settings.client_id, tenant_id, object_id, &place.to_string()];
            match self.env.records.lease(&WAITING, &key, pause + MARGIN).await {
                Ok(Some(lease)) => {
                    clock.sleep(pause).await;
                    lease.release().await;
                    return true;
                }
                Ok(None) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use async_trait::async_trait;
    use world::testing::{TENANT, World, forever, run};

    use super::*;
    use crate::testing::{OBJECT, ServerWorlds as _};

    /// While a call sleeps by this clock, the next one of the same caller wants to wait as well.
    struct Crowd<'a> {
        bounds: GraphBounds<'a>,
        others: GraphBounds<'a>,
        more: Cell<usize>,
        waited: RefCell<Vec<bool>>,
    }

    #[async_trait(?Send)]
    impl Clock for Crowd<'_> {
        fn now(&self) -> u64 {
            self.bounds.env.clock.now()
        }

        fn monotonic(&self) -> Duration {
            self.bounds.env.clock.monotonic()
        }

        async fn sleep(&self, duration: Duration) {
            let Some(more) = self.more.get().checked_sub(1) else { return };
            self.more.set(more);
            let waited = self.bounds.wait(self, duration).await;
            self.waited.borrow_mut().push(waited);
        }
    }

    #[test]
    fn four_calls_of_one_caller_wait_for_graph_and_those_of_others_are_not_held_up() {
        let env = forever(World::default().remote());
        let of = |object_id| {
            GraphBounds::of(&env.entra, env.limiter, Identity { tenant_id: TENANT, object_id, client_id: "client" })
        };
        let (bounds, others) = (of(OBJECT), of("22222222-aaaa-2222-bbbb-3333cccc4444"));
        let crowd = Crowd { bounds, others, more: Cell::new(5), waited: RefCell::default() };
        assert!(run(bounds.wait(&crowd, Duration::from_secs(5))));
        // The innermost of five is refused: four wait already.
        assert_eq!(crowd.waited.borrow().as_slice(), [false, true, true, true]);
        crowd.more.set(1);
        crowd.waited.borrow_mut().clear();
        // Every place was given back, and the places are the caller's own.
        assert!(run(crowd.others.wait(&crowd, Duration::from_secs(5))));
        assert_eq!(crowd.waited.borrow().as_slice(), [true]);
    }
}
