//! How a test waits for another task, process or machine: until something is the case.
//!
//! This is the only place in the behaviour tests with a bound on time and with a pause. The bound decides nothing: a
//! test that works never reaches it. It makes a test that waits in vain end with a message instead of hanging. What is
//! to happen after some time is tested with a clock that the test moves.

use std::fmt;
use std::future::ready;
use std::time::Duration;

/// Upper bound on any wait. The first start of the program in a run compiles the component with a compiler that is not
/// optimised, which takes half a minute on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(120);

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

#[allow(clippy::disallowed_methods, reason = "the one pause in the tests: see above")]
async fn pause() {
    tokio::time::sleep(BETWEEN_LOOKS).await;
}
