//! How a test waits for another task, process or machine: until something is the case.
//!
//! This is the only place in the tests with a bound on the time of the machine and with a pause: `.ci/check-waits` finds others.
//! Tests of other packages include this file. The bound decides nothing: a test that works never reaches it. It makes a test
//! that waits in vain end with a message instead of hanging. What is to happen after some time is tested with a clock that the
//! test moves.
//!
//! What tests talk to takes its time all the same: clients and servers of others, and what stands for a slow disk. No test
//! asks how long that was. `.ci/check-waits` lists these places, each with its reason.

use std::fmt;
use std::future::ready;
use std::time::Duration;

/// Upper bound on any wait. The first start of the program in a run compiles the component with a compiler that is not
/// optimised, which takes half a minute on a machine that does other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How often a condition is looked at that only another process can change. Nothing tells a test of such a change.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// The wait was in vain.
#[derive(Debug)]
pub(crate) struct InVain;

impl fmt::Display for InVain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {} s", PATIENCE.as_secs())
    }
}

/// The result of a future that becomes ready if everything works.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> Result<T, InVain> {
    tokio::time::timeout(PATIENCE, future).await.map_err(|_| InVain)
}

/// Looks until there is something to see.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> Result<T, InVain> {
    soon(async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            pause().await;
        }
    })
    .await
}

/// Looks until a condition holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) -> Result<(), InVain> {
    eventually(|| ready(condition().then_some(()))).await
}

/// What passes between two looks.
#[allow(clippy::disallowed_methods, reason = "the one pause in the tests: see above")]
pub(crate) async fn pause() {
    tokio::time::sleep(BETWEEN_LOOKS).await;
}
