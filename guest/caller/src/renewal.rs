//! When a token is renewed, and how long the calls that need it wait for the one that does.

use std::time::Duration;

use world::Random;

/// A token that expires sooner than this is refreshed first.
const EXPIRY_MARGIN_SECONDS: u64 = 300;
/// Added at random to the margin, so that many clients do not refresh in the same second.
const EXPIRY_JITTER_SECONDS: u64 = 30;
/// How long one call may hold the right to refresh. Longer than a slow refresh takes.
pub const LEASE: Duration = Duration::from_secs(70);
/// A call that waited this long for another one's refresh does its own: two refreshes do no harm.
pub const LEASE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at another call's refresh.
pub const LEASE_POLL: Duration = Duration::from_millis(100);

/// How long before its end a token is refreshed, in seconds.
pub fn margin(random: &dyn Random) -> u64 {
    let mut byte = [0];
    random.fill(&mut byte);
    EXPIRY_MARGIN_SECONDS + u64::from(byte[0]) * EXPIRY_JITTER_SECONDS / 256
}
