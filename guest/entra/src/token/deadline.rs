//! How long a call waits for the metadata and the keys of Entra ID together.

use std::time::Duration;

use base::settings::Mode;

use crate::entra_world::EntraWorld;

/// How long a remote server waits for the documents without which it can judge no token, all of them together. Its clients
/// get 503, and the next of them asks again.
const COLD_PATIENCE: Duration = Duration::from_secs(4);

/// Until when a call waits for documents that it cannot do without, by the monotonic clock; always, if there is no end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<Duration>);

impl Deadline {
    /// For a call that waits for nothing, or for as long as it takes.
    pub(super) const NONE: Self = Self(None);

    /// For a call that begins to look for documents now.
    pub(super) fn begin(env: &EntraWorld<'_>) -> Self {
        let is_server = matches!(env.settings.mode, Mode::Remote(_));
        Self(is_server.then(|| env.clock.monotonic() + COLD_PATIENCE))
    }

    /// What is left, if there is an end.
    pub(super) fn left(self, env: &EntraWorld<'_>) -> Option<Duration> {
        self.0.map(|end| end.saturating_sub(env.clock.monotonic()))
    }
}
