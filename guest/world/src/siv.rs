//! Sealing bytes with BLAKE3 alone: for values that are short-lived and sealed in every call, where the time counts.
//!
//! The construction is SIV (Rogaway and Shrimpton, "Deterministic Authenticated-Encryption", 2006): the code of the whole
//! plain text comes first, and is what the key stream begins from, so there is no nonce that could come twice. Code and
//! stream have keys of their own, both derived for one purpose. BLAKE3 with a key is a pseudorandom function of any
//! length of output, which is what the proof asks for. Two equal values have equal texts; that is all a text tells, besides
//! its length.
//!
//! Why not AES-GCM, as in [`sealing`](crate::sealing): in WebAssembly without instructions for AES it takes some 30 µs for
//! a kilobyte, and BLAKE3 takes 2 µs, here twice.

use base::encoding::same_secret;
use zeroize::Zeroizing;

use crate::sealing::KEY_BYTES;

/// Bytes of the code that a text begins with (256 bits).
const CODE_BYTES: usize = 32;

/// The keys of one purpose. What hashes with them is zeroised as well: it begins from their words.
struct Keys {
    code: Zeroizing<[u8; KEY_BYTES]>,
    stream: Zeroizing<[u8; KEY_BYTES]>,
}

/// Seals: the code, then the ciphertext.
pub(crate) fn seal(key: &[u8], purpose: &str, plain: &[u8]) -> Vec<u8> {
    let keys = Keys::derive(key, purpose);
    let code = keys.code_of(plain);
    let mut sealed = vec![0_u8; CODE_BYTES.saturating_add(plain.len())];
    if let Some((begin, text)) = sealed.split_first_chunk_mut::<CODE_BYTES>() {
        *begin = code;
        keys.apply(&code, plain, text);
    }
    sealed
}

/// Opens what [`seal`] has made with the same key and purpose; `None` for anything else.
pub(crate) fn open(key: &[u8], purpose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (code, text) = sealed.split_first_chunk::<CODE_BYTES>()?;
    let keys = Keys::derive(key, purpose);
    let mut plain = Zeroizing::new(vec![0_u8; text.len()]);
    keys.apply(code, text, plain.as_mut_slice());
    same_secret(code, &keys.code_of(&plain)).then_some(plain)
}

impl Keys {
    fn derive(key: &[u8], purpose: &str) -> Self {
        let mut keys = Self { code: Zeroizing::new([0; KEY_BYTES]), stream: Zeroizing::new([0; KEY_BYTES]) };
        let mut hasher = Zeroizing::new(blake3::Hasher::new_derive_key(purpose));
        let mut derived = Zeroizing::new(hasher.update(key).finalize_xof());
        derived.fill(keys.code.as_mut_slice());
        derived.fill(keys.stream.as_mut_slice());
        keys
    }

    fn code_of(&self, plain: &[u8]) -> [u8; CODE_BYTES] {
        let mut hasher = Zeroizing::new(blake3::Hasher::new_keyed(&self.code));
        *hasher.update(plain).finalize().as_bytes()
    }

    /// Writes the bytes with the key stream of a code to a place of the same length. It is its own inverse.
    fn apply(&self, code: &[u8; CODE_BYTES], bytes: &[u8], to: &mut [u8]) {
        let mut hasher = Zeroizing::new(blake3::Hasher::new_keyed(&self.stream));
        Zeroizing::new(hasher.update(code).finalize_xof()).fill(to);
        for (stream, byte) in to.iter_mut().zip(bytes) {
            *stream ^= byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroize as _;

    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

    #[test]
    fn nothing_of_a_key_is_left_in_what_hashed_with_it() {
        let left = |key: &[u8; KEY_BYTES]| {
            let mut hasher = blake3::Hasher::new_keyed(key);
            let mut stream = hasher.update(b"the value").finalize_xof();
            hasher.zeroize();
            stream.zeroize();
            let mut bytes = [0; 64];
            stream.fill(&mut bytes);
            (hasher.finalize(), bytes)
        };
        assert_eq!(left(&KEY), left(&[8; KEY_BYTES]));
    }

    #[test]
    fn a_text_opens_with_its_key_and_purpose_only() {
        for length in [0, 1, 63, 64, 65, 1024, 5000] {
            let plain: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
            let sealed = seal(&KEY, "tests", &plain);
            assert_eq!(sealed.len(), CODE_BYTES + plain.len());
            assert_eq!(open(&KEY, "tests", &sealed).unwrap().as_slice(), plain);
            assert!(open(&[8; KEY_BYTES], "tests", &sealed).is_none());
            assert!(open(&KEY, "others", &sealed).is_none());
        }
    }

    #[test]
    fn nothing_can_be_altered_cut_or_put_together_anew() {
        let (one, other) = (seal(&KEY, "tests", b"the value"), seal(&KEY, "tests", b"a value !"));
        for at in 0..one.len() {
            for bit in 0..8 {
                let mut altered = one.clone();
                altered[at] ^= 1 << bit;
                assert!(open(&KEY, "tests", &altered).is_none(), "bit {bit} of byte {at}");
            }
            assert!(open(&KEY, "tests", &one[..at]).is_none(), "{at} bytes");
        }
        assert!(open(&KEY, "tests", &[one.as_slice(), b"x"].concat()).is_none());
        assert!(open(&KEY, "tests", &[&one[..CODE_BYTES], &other[CODE_BYTES..]].concat()).is_none());
        assert!(open(&KEY, "tests", &[&other[..CODE_BYTES], &one[CODE_BYTES..]].concat()).is_none());
    }

    #[test]
    fn two_texts_that_differ_in_one_bit_share_no_key_stream() {
        let (one, other) =
            (seal(&KEY, "tests", &[0; 64]), seal(&KEY, "tests", &[[0_u8; 63].as_slice(), &[1]].concat()));
        let same = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!(same < 16, "{same} of 96 bytes are the same, where 1 in 256 is by chance");
    }

    #[test]
    fn what_is_sealed_cannot_be_read() {
        let plain = [b'a'; 300];
        let sealed = seal(&KEY, "tests", &plain);
        assert!(!sealed.windows(4).any(|part| part == b"aaaa"));
    }
}
