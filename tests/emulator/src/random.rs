//! Random values that repeat when the emulator is started with the same seed.
//!
//! This is xoshiro256++ seeded through SplitMix64: fast, uniform and **not** secret. Nothing the emulator protects is
//! worth protecting, and a developer who replays a seed wants the same codes, token ids and lifetimes again.

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A seeded generator, shared by all requests.
#[derive(Debug)]
pub(crate) struct Random {
    state: Mutex<[u64; 4]>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut split = seed;
        let state = std::array::from_fn(|_| {
            split = split.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = split;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let [mut s0, mut s1, mut s2, mut s3] = *state;
        let result = s0.wrapping_add(s3).rotate_left(23).wrapping_add(s0);
        let t = s1 << 17;
        s2 ^= s0;
        s3 ^= s1;
        s1 ^= s2;
        s0 ^= s3;
        s2 ^= t;
        s3 = s3.rotate_left(45);
        *state = [s0, s1, s2, s3];
        result
    }

    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            for (byte, random) in chunk.iter_mut().zip(self.next().to_le_bytes()) {
                *byte = random;
            }
        }
        bytes
    }

    /// `N` random bytes as base64url text.
    pub(crate) fn text<const N: usize>(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes::<N>())
    }

    /// A version 4 GUID.
    pub(crate) fn guid(&self) -> String {
        let value = u128::from_le_bytes(self.bytes::<16>());
        let value = value & !(0xf000 << 64) | 0x4000 << 64;
        let value = value & !(0xc000 << 48) | 0x8000 << 48;
        guid_text(value)
    }

    /// A value of the range; the modulo bias is far below anything a test could see.
    pub(crate) fn within(&self, range: RangeInclusive<i64>) -> i64 {
        let span = range.end().saturating_sub(*range.start()).saturating_add(1).max(1);
        let drawn = self.next() % u64::try_from(span).unwrap_or(1);
        range.start().saturating_add(i64::try_from(drawn).unwrap_or(0))
    }
}

/// A version 4 GUID that is the same for the same text in every run.
pub(crate) fn derived_guid(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let value = digest.as_ref().iter().take(16).fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    guid_text(value & !(0xf000 << 64 | 0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48)
}

/// Writes a number in the 8-4-4-4-12 form of a GUID.
pub(crate) fn guid_text(value: u128) -> String {
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        value >> 96,
        value >> 80 & 0xffff,
        value >> 64 & 0xffff,
        value >> 48 & 0xffff,
        value & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values() {
        let (one, other) = (Random::new(42), Random::new(42));
        assert_eq!(one.text::<32>(), other.text::<32>());
        assert_eq!(one.guid(), other.guid());
        assert_ne!(Random::new(43).guid(), Random::new(42).guid());
    }

    #[test]
    fn guids_are_version_four() {
        let guid = Random::new(1).guid();
        assert_eq!(guid.len(), 36);
        assert_eq!(&guid[14..15], "4");
        assert!("89ab".contains(&guid[19..20]));
    }

    #[test]
    fn a_range_includes_both_ends_and_nothing_else() {
        let random = Random::new(7);
        let drawn: std::collections::BTreeSet<i64> = (0..200).map(|_| random.within(3..=6)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
    }
}
