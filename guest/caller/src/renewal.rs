//! When a token is renewed.

use world::Random;

/// A token that expires sooner than this is refreshed first.
const EXPIRY_MARGIN_SECONDS: u64 = 300;
/// Added at random to the margin, so that many clients do not refresh in the same second.
const EXPIRY_JITTER_SECONDS: u64 = 30;

/// How long before its end a token is refreshed, in seconds.
pub fn margin(random: &dyn Random) -> u64 {
    let mut byte = [0];
    random.fill(&mut byte);
    EXPIRY_MARGIN_SECONDS + u64::from(byte[0]) * EXPIRY_JITTER_SECONDS / 256
}
