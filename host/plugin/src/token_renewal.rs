//! Tokens of the person at this machine are renewed while a host runs (`renew-tokens` of `wit/lifecycle.wit`).

use std::time::Duration;

use crate::clock::{self, Clock};
use crate::plugin::Plugin;

/// The pause before the first renewal. A client that has just started the server is served first.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The shortest pause between two renewals, and the one after a renewal that failed.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Renews the tokens of the person at this machine before they end, so that no call waits for it. It goes on until it is
/// dropped, and ends at once if the component serves no such person.
pub async fn keep_tokens_fresh(plugin: &Plugin, clock: &dyn Clock) {
    let mut pause = FIRST_PAUSE;
    loop {
        clock::sleep(clock, pause).await;
        pause = match plugin.renew_tokens().await {
            Ok(Some(pause)) => pause.max(MIN_PAUSE),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the tokens could not be renewed now");
                PAUSE_AFTER_FAILURE
            }
        };
    }
}
