//! The signature check, and nothing else: the policy is in `validation.rs`, and by now the token and the key have passed it.
//!
//! RS256 is in `rs256.rs` for speed, PS256 is the `rsa` crate's, ES256 the `p256` crate's. Each of them gets the signing input
//! as it was sent and the bytes of the signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa;
use p256::ecdsa::signature::Verifier as _;
use rsa::signature::Verifier as _;
use rsa::{BigUint, RsaPublicKey, pss};
use sha2::Sha256;

use super::compact::Algorithm;
use super::error::KeyFault;
use super::rs256::{self, BadSignature};

/// Bits that the `rsa` crate is told to allow; the key set parser has already applied this limit.
const MAX_RSA_BITS: usize = 8192;

/// The numbers that make a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256 { x: Vec<u8>, y: Vec<u8> },
}

/// A public key bound to one algorithm.
#[derive(Debug)]
pub(super) enum VerifyingKey {
    Rs256(rs256::PublicKey),
    Ps256(Box<pss::VerifyingKey<Sha256>>),
    Es256(ecdsa::VerifyingKey),
}

impl VerifyingKey {
    /// Constructs a key; for P-256 that includes the check that the point is on the curve.
    pub(super) fn new(algorithm: Algorithm, material: &Material) -> Result<Self, KeyFault> {
        match (algorithm, material) {
            (Algorithm::Rs256, Material::Rsa { modulus, exponent }) => {
                rs256::PublicKey::new(modulus, exponent).map(Self::Rs256).ok_or(KeyFault::Malformed)
            }
            (Algorithm::Ps256, Material::Rsa { modulus, exponent }) => {
                let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
                let key = RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).map_err(|_| KeyFault::Malformed)?;
                // The salt is as long as the hash (RFC 7518 section 3.5).
                Ok(Self::Ps256(Box::new(pss::VerifyingKey::new(key))))
            }
            (Algorithm::Es256, Material::P256 { x, y }) => {
                let uncompressed: Vec<u8> = [&[4], x.as_slice(), y.as_slice()].concat();
                let key = ecdsa::VerifyingKey::from_sec1_bytes(&uncompressed);
                key.map(Self::Es256).map_err(|_| KeyFault::Malformed)
            }
            _ => Err(KeyFault::Type),
        }
    }

    /// Verifies the signature of a compact token.
    pub(super) fn verify(&self, token: &str) -> Result<(), BadSignature> {
        let (signed, signature) = split(token)?;
        match self {
            Self::Rs256(key) => key.verify(signed, &signature),
            Self::Ps256(key) => {
                let signature = pss::Signature::try_from(signature.as_slice()).map_err(|_| BadSignature)?;
                key.verify(signed, &signature).map_err(|_| BadSignature)
            }
            // Two numbers of 32 bytes each (RFC 7518 section 3.4), neither of them zero nor beyond the order of the curve.
            Self::Es256(key) => {
                let signature = ecdsa::Signature::from_slice(&signature).map_err(|_| BadSignature)?;
                key.verify(signed, &signature).map_err(|_| BadSignature)
            }
        }
    }
}

/// The signing input and the signature (RFC 7515 section 5.2).
fn split(token: &str) -> Result<(&[u8], Vec<u8>), BadSignature> {
    let (signed, signature) = token.rsplit_once('.').ok_or(BadSignature)?;
    Ok((signed.as_bytes(), URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadSignature)?))
}
