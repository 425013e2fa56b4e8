//! PS256 by the crate `rsa` and ES256 by the crate `p256`, which jwt-simple calls as well.
//!
//! The component uses PS256 of this file for keys beyond the limits of jwt-simple. The validators of `guest/validator`,
//! which have to be small, use all of it.

#[cfg(any(test, not(feature = "jwt-simple")))]
use p256::ecdsa;
use rsa::signature::Verifier as _;
use rsa::{BigUint, RsaPublicKey, pss};
use sha2::Sha256;

use super::super::error::KeyFault;
use super::super::rs256::BadSignature;
use super::split;
#[cfg(any(test, not(feature = "jwt-simple")))]
use super::uncompressed;

/// Bits that the `rsa` crate is told to allow; the key set parser has already applied this limit.
const MAX_RSA_BITS: usize = 8192;

/// A key for PS256. The salt is as long as the hash (RFC 7518 section 3.5).
#[derive(Debug)]
pub(in crate::token) struct Ps256(pss::VerifyingKey<Sha256>);

impl Ps256 {
    pub(in crate::token) fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
        let key = RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).map_err(|_| KeyFault::Malformed)?;
        Ok(Self(pss::VerifyingKey::new(key)))
    }

    pub(in crate::token) fn verify(&self, token: &str) -> Result<(), BadSignature> {
        let (signed, signature) = split(token)?;
        let signature = pss::Signature::try_from(signature.as_slice()).map_err(|_| BadSignature)?;
        self.0.verify(signed, &signature).map_err(|_| BadSignature)
    }

    #[cfg(test)]
    pub(super) fn has_good_signature(&self, token: &str) -> bool {
        self.verify(token).is_ok()
    }
}

/// A key for ES256.
#[cfg(any(test, not(feature = "jwt-simple")))]
#[derive(Debug)]
pub(in crate::token) struct Es256(ecdsa::VerifyingKey);

#[cfg(any(test, not(feature = "jwt-simple")))]
impl Es256 {
    pub(in crate::token) fn new(x: &[u8], y: &[u8]) -> Result<Self, KeyFault> {
        ecdsa::VerifyingKey::from_sec1_bytes(&uncompressed(x, y)).map(Self).map_err(|_| KeyFault::Malformed)
    }

    /// The signature is two numbers of 32 bytes each (RFC 7518 section 3.4), neither of them zero nor beyond the order of the
    /// curve.
    pub(in crate::token) fn verify(&self, token: &str) -> Result<(), BadSignature> {
        use p256::ecdsa::signature::Verifier as _;
        let (signed, signature) = split(token)?;
        let signature = ecdsa::Signature::from_slice(&signature).map_err(|_| BadSignature)?;
        self.0.verify(signed, &signature).map_err(|_| BadSignature)
    }

    #[cfg(all(test, not(feature = "jwt-simple")))]
    pub(super) fn has_good_signature(&self, token: &str) -> bool {
        self.verify(token).is_ok()
    }
}
