//! Randomness as a parameter: the component's `wasi:random`, correlation ids, handles.

use std::cell::RefCell;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use zeroize::{Zeroize as _, Zeroizing};

/// Most bytes that the component may request at once. It needs a few dozen.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

/// A source of cryptographically secure randomness.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes`, or fails if there is no randomness now.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The source has no randomness. The caller must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no secure randomness is available")]
pub struct NoRandomness;

/// Longest value in bytes that may be drawn ahead of its use: an id, such as the correlation id of every request. Keys
/// and tokens are longer.
const MAX_DRAWN_AHEAD: usize = 16;

/// Bytes that each thread draws ahead at once: a call into the operating system for 32 ids.
const DRAWN_BYTES: usize = 32 * MAX_DRAWN_AHEAD;

/// The operating system's generator.
#[derive(Debug)]
pub struct SystemRandomness(SystemRandom);

/// Random bytes that were not handed out yet.
struct Drawn {
    bytes: Zeroizing<[u8; DRAWN_BYTES]>,
    left: usize,
}

thread_local! {
    static DRAWN: RefCell<Drawn> = RefCell::new(Drawn { bytes: Zeroizing::new([0; DRAWN_BYTES]), left: 0 });
}

impl Drawn {
    /// Fills `bytes`, of which there are at most [`MAX_DRAWN_AHEAD`], and forgets the bytes that it gave.
    fn give(&mut self, bytes: &mut [u8], source: &SystemRandom) -> Result<(), NoRandomness> {
        if self.left < bytes.len() {
            self.left = 0;
            source.fill(&mut *self.bytes).map_err(|_| NoRandomness)?;
            self.left = DRAWN_BYTES;
        }
        let rest = self.left.saturating_sub(bytes.len());
        let given = self.bytes.get_mut(rest..self.left).ok_or(NoRandomness)?;
        bytes.copy_from_slice(given);
        given.zeroize();
        self.left = rest;
        Ok(())
    }
}

impl Default for SystemRandomness {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Random for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        if bytes.len() > MAX_DRAWN_AHEAD {
            return self.0.fill(bytes).map_err(|_| NoRandomness);
        }
        DRAWN.with_borrow_mut(|drawn| drawn.give(bytes, &self.0))
    }
}

/// 128 random bits as 32 hexadecimal digits: ids that an attacker cannot guess.
pub fn unguessable_id(random: &dyn Random) -> Result<String, NoRandomness> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    Ok(base16ct::lower::encode_string(&bytes))
}

/// `wasi:random` on a [`Random`]. The insecure interfaces, from which the Rust standard library seeds hash maps, are
/// answered securely too.
pub(crate) struct RandomCtx {
    source: Arc<dyn Random>,
}

impl RandomCtx {
    pub(crate) fn new(source: Arc<dyn Random>) -> Self {
        Self { source }
    }

    pub(crate) fn bytes(&self, length: u64) -> wasmtime::Result<Vec<u8>> {
        if length > MAX_RANDOM_BYTES {
            return Err(wasmtime::Error::msg("too many random bytes were asked for at once"));
        }
        let mut bytes = vec![0; usize::try_from(length)?];
        self.source.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&self) -> wasmtime::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.fill(&mut bytes)?;
        Ok(bytes)
    }
}

impl random::Host for RandomCtx {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

impl insecure::Host for RandomCtx {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

impl insecure_seed::Host for RandomCtx {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.array().map(u64::from_le_bytes)?, self.array().map(u64::from_le_bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_hexadecimal_digits_and_differ() {
        let random = SystemRandomness::default();
        let (a, b) = (unguessable_id(&random).unwrap(), unguessable_id(&random).unwrap());
        assert_eq!(a.len(), 32);
        assert!(a.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(a, b);
    }

    #[test]
    fn what_is_drawn_ahead_is_given_once() {
        let (mut drawn, source) = (Drawn { bytes: Zeroizing::new([0; DRAWN_BYTES]), left: 0 }, SystemRandom::new());
        let mut given = std::collections::HashSet::new();
        for length in [16, 12, 8].into_iter().cycle().take(300) {
            let mut bytes = vec![0; length];
            drawn.give(&mut bytes, &source).unwrap();
            assert!(drawn.bytes[drawn.left..].iter().all(|byte| *byte == 0));
            assert!(given.insert(bytes));
        }
        drawn.give(&mut [], &source).unwrap();
    }

    #[test]
    fn asking_for_more_than_the_limit_is_refused() {
        let ctx = RandomCtx::new(Arc::new(SystemRandomness::default()));
        assert!(ctx.bytes(MAX_RANDOM_BYTES).is_ok());
        assert!(ctx.bytes(MAX_RANDOM_BYTES + 1).is_err());
    }

    struct Empty;

    impl Random for Empty {
        fn fill(&self, _: &mut [u8]) -> Result<(), NoRandomness> {
            Err(NoRandomness)
        }
    }

    #[test]
    fn without_randomness_there_is_no_id() {
        assert_eq!(unguessable_id(&Empty), Err(NoRandomness));
    }
}
