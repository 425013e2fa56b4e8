//! RS256: RSASSA-PKCS1-v1_5 with SHA-256, verification only (RFC 8017 section 8.2.2).
//!
//! jwt-simple could verify this as well, as it does everything else. But almost every token of Entra ID is RS256,
//! and the library that jwt-simple calls raises to the exponent 65537 as if it were a private one: 93 modular
//! multiplications, where 19 do. So there is this module: those 19, with the arithmetic of `crypto-bigint`, and one
//! comparison. It does not sign and holds no secret, so nothing in it has to take constant time.
//!
//! Threat: parsing what comes out of the exponentiation has a history of forgeries (Bleichenbacher 2006,
//! CVE-2014-1568), so nothing is parsed. The one encoded message that the signing input can have is built, and
//! compared whole.

use std::fmt;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd, SquareAssign as _};
use sha2::{Digest as _, Sha256};
use world::Signatures;

#[cfg(test)]
mod tests;

/// Bytes of the longest modulus, 8192 bits. The key set parser has applied this limit already.
const MAX_MODULUS_BYTES: usize = 8192 / 8;

/// Bytes of the shortest modulus that an encoded message fits into. The key set parser wants far more.
const MIN_MODULUS_BYTES: usize = PADDING_BYTES + DIGEST_INFO.len() + DIGEST_BYTES;

/// `00 01`, at least eight times `FF`, `00` (RFC 8017 section 9.2 steps 3 and 5).
const PADDING_BYTES: usize = 11;

/// The DER encoding of a DigestInfo with SHA-256 up to the digest (RFC 8017 section 9.2, note 1).
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// Bytes of the digest.
const DIGEST_BYTES: usize = 32;

/// The exponent of the keys that the host verifies with: that of almost every key, and of all keys of Entra ID.
const HOST_EXPONENT: u64 = 65537;

/// The signature does not verify. There is nothing more to say about a bad signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadSignature;

/// An RSA public key, made ready: what is computed from the modulus alone is computed once.
pub(super) struct PublicKey {
    modulus: BoxedMontyParams,
    /// The same as it came: big-endian, in the shortest form.
    number: Vec<u8>,
    /// Bytes of the modulus, and thus of every signature.
    bytes: usize,
    exponent: u64,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { modulus: _, number: _, bytes, exponent } = self;
        f.debug_struct("PublicKey").field("bytes", bytes).field("exponent", exponent).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// A key of big-endian numbers in their shortest form; `None` if they cannot be one. Which keys are good
    /// enough is decided by the key set parser.
    pub(super) fn new(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let is_shortest = |number: &[u8]| number.first().is_some_and(|first| *first != 0);
        let bytes = modulus.len();
        if !is_shortest(modulus) || !(MIN_MODULUS_BYTES..=MAX_MODULUS_BYTES).contains(&bytes) {
            return None;
        }
        if !is_shortest(exponent) || exponent.len() > size_of::<u64>() {
            return None;
        }
        let exponent = exponent.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
        if exponent < 3 || exponent & 1 == 0 {
            return None;
        }
        // Montgomery arithmetic is defined for odd moduli only.
        let odd: Odd<BoxedUint> = Option::from(Odd::new(number(modulus)))?;
        Some(Self { modulus: BoxedMontyParams::new_vartime(odd), number: modulus.to_vec(), bytes, exponent })
    }

    /// Lets the host verify; `None` if it cannot be asked for this key, or cannot tell.
    pub(super) fn ask(&self, host: &dyn Signatures, signed: &[u8], signature: &[u8]) -> Option<bool> {
        if self.exponent != HOST_EXPONENT {
            return None;
        }
        host.is_good_rs256(&self.number, signed, signature)
    }

    /// Verifies a signature over `signed`. The steps are those of RFC 8017 section 8.2.2.
    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        // 1. Length checking.
        if signature.len() != self.bytes {
            return Err(BadSignature);
        }
        // 2. RSA verification, a and b.
        let representative = self.power(number(signature)).ok_or(BadSignature)?;
        // 3. EMSA-PKCS1-v1_5 encoding.
        let expected = self.encode(signed);
        // 2c and 4. Compared as numbers of equal length, which is to compare the messages.
        if representative == number(&expected) { Ok(()) } else { Err(BadSignature) }
    }

    /// RSAVP1 (RFC 8017 section 5.2.2): `base` to the power of the exponent. `None` if `base` is not below the
    /// modulus; without this every signature would have others that are as good.
    fn power(&self, base: BoxedUint) -> Option<BoxedUint> {
        if base >= *self.modulus.modulus().as_ref() {
            return None;
        }
        let base = BoxedMontyForm::new(base, &self.modulus);
        let mut power = base.clone();
        // From the second highest bit of the exponent down: the highest is `base` itself.
        for bit in (0..self.exponent.ilog2()).rev() {
            power.square_assign();
            if (self.exponent >> bit) & 1 == 1 {
                power *= &base;
            }
        }
        Some(power.retrieve())
    }

    /// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2): `00 01 FF … FF 00`, DigestInfo, digest.
    fn encode(&self, signed: &[u8]) -> Vec<u8> {
        let tail = [&[0], DIGEST_INFO.as_slice(), Sha256::digest(signed).as_slice()].concat();
        let mut message = vec![0, 1];
        message.resize(self.bytes.saturating_sub(tail.len()), 0xFF);
        message.extend(tail);
        message
    }
}

/// A big-endian number, exactly as wide as its bytes. With a width of its own choosing, like that of the modulus
/// in bits, `crypto-bigint` would silently drop what is beyond.
fn number(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(bytes)
}
