//! The signature check. The policy is not here: by now the token and the key have passed it.
//!
//! jwt-simple verifies (`signature/jwt_simple.rs`), except RS256: that is in `rs256.rs` for speed, or the host does it,
//! which is faster still. In a component without the feature `jwt-simple`, which has to be small, the crates that
//! jwt-simple calls do it alone (`signature/primitives.rs`).

#[cfg(feature = "jwt-simple")]
mod jwt_simple;
pub(super) mod primitives;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use world::Signatures;

#[cfg(feature = "jwt-simple")]
use self::jwt_simple as library;
#[cfg(not(feature = "jwt-simple"))]
use self::primitives as library;
use super::compact::Algorithm;
use super::error::KeyFault;
use super::rs256::{self, BadSignature};

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
    Ps256(library::Ps256),
    Es256(library::Es256),
}

impl VerifyingKey {
    /// Constructs a key; for P-256 that includes the check that the point is on the curve.
    pub(super) fn new(algorithm: Algorithm, material: &Material) -> Result<Self, KeyFault> {
        match (algorithm, material) {
            (Algorithm::Rs256, Material::Rsa { modulus, exponent }) => {
                rs256::PublicKey::new(modulus, exponent).map(Self::Rs256).ok_or(KeyFault::Malformed)
            }
            (Algorithm::Ps256, Material::Rsa { modulus, exponent }) => {
                library::Ps256::new(modulus, exponent).map(Self::Ps256)
            }
            (Algorithm::Es256, Material::P256 { x, y }) => library::Es256::new(x, y).map(Self::Es256),
            _ => Err(KeyFault::Type),
        }
    }

    /// Verifies the signature of a compact token; that of RS256, which almost every token has, with the host's arithmetic
    /// if there is one.
    pub(super) fn verify(&self, token: &str, host: Option<&dyn Signatures>) -> Result<(), BadSignature> {
        match self {
            Self::Rs256(key) => {
                let (signed, signature) = split(token)?;
                match host.and_then(|host| key.ask(host, signed, &signature)) {
                    Some(true) => Ok(()),
                    Some(false) => Err(BadSignature),
                    None => key.verify(signed, &signature),
                }
            }
            Self::Ps256(key) => key.verify(token),
            Self::Es256(key) => key.verify(token),
        }
    }

    /// Whether the signature is good, of whatever is signed: test vectors are no tokens.
    #[cfg(test)]
    pub(super) fn has_good_signature(&self, token: &str) -> bool {
        match self {
            Self::Rs256(_) => self.verify(token, None).is_ok(),
            Self::Ps256(key) => key.has_good_signature(token),
            Self::Es256(key) => key.has_good_signature(token),
        }
    }
}

/// The coordinates of a point as SEC 1 section 2.3.3 writes it, uncompressed.
fn uncompressed(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

/// The signing input and the signature (RFC 7515 section 5.2).
fn split(token: &str) -> Result<(&[u8], Vec<u8>), BadSignature> {
    let (signed, signature) = token.rsplit_once('.').ok_or(BadSignature)?;
    Ok((signed.as_bytes(), URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadSignature)?))
}
