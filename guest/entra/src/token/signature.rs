//! The signature check. The policy is not here: by now the token and the key have passed it.
//!
//! jwt-simple verifies, except RS256, which is in `rs256.rs` for speed. It would also judge claims, by the clock
//! of the machine; the options turn every such judgement into one that always passes, because each of these rules
//! is applied in `validation.rs`, more strictly and by the injected clock. What jwt-simple still checks on its own
//! (the form of the token, `alg`, `typ`, the types of the registered claims) can only refuse more, never accept
//! more, and nothing relies on it.
//!
//! Its RSA keys end at 4096 bits and know the exponent 65537 only. Larger PS256 keys within the validator's limits are
//! verified by the `rsa` crate, which is what jwt-simple calls too.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::prelude::{
    Duration, ECDSAP256PublicKeyLike as _, ES256PublicKey, NoCustomClaims, PS256PublicKey, RSAPublicKeyLike as _,
    UnixTimeStamp, VerificationOptions,
};
use rsa::signature::Verifier as _;
use rsa::{BigUint, RsaPublicKey, pss};
use sha2::Sha256;

use super::compact::{Algorithm, MAX_TOKEN_BYTES};
use super::error::KeyFault;
use super::rs256::{self, BadSignature};

/// The most that jwt-simple takes; see its `check_rsa_key_policy`.
const JWT_SIMPLE_MAX_RSA_BYTES: usize = 4096 / 8;
const JWT_SIMPLE_RSA_EXPONENT: [u8; 3] = [1, 0, 1];

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
    Ps256(Box<PS256PublicKey>),
    Es256(ES256PublicKey),
    LargePs256(pss::VerifyingKey<Sha256>),
}

impl VerifyingKey {
    /// Constructs a key; for P-256 that includes the check that the point is on the curve.
    pub(super) fn new(algorithm: Algorithm, material: &Material) -> Result<Self, KeyFault> {
        match (algorithm, material) {
            (Algorithm::Rs256, Material::Rsa { modulus, exponent }) => {
                rs256::PublicKey::new(modulus, exponent).map(Self::Rs256).ok_or(KeyFault::Malformed)
            }
            (Algorithm::Ps256, Material::Rsa { modulus, exponent }) => {
                if modulus.len() > JWT_SIMPLE_MAX_RSA_BYTES || *exponent != JWT_SIMPLE_RSA_EXPONENT {
                    return Self::large_ps256(modulus, exponent);
                }
                let key = PS256PublicKey::from_components(modulus, exponent).map_err(|_| KeyFault::Malformed)?;
                Ok(Self::Ps256(Box::new(key)))
            }
            (Algorithm::Es256, Material::P256 { x, y }) => {
                let uncompressed: Vec<u8> = [&[4], x.as_slice(), y.as_slice()].concat();
                ES256PublicKey::from_bytes(&uncompressed).map(Self::Es256).map_err(|_| KeyFault::Malformed)
            }
            _ => Err(KeyFault::Type),
        }
    }

    fn large_ps256(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
        let key = RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).map_err(|_| KeyFault::Malformed)?;
        Ok(Self::LargePs256(pss::VerifyingKey::new(key)))
    }

    /// Verifies the signature of a compact token.
    pub(super) fn verify(&self, token: &str) -> Result<(), BadSignature> {
        let options = Some(options());
        let verified = match self {
            Self::Rs256(key) => {
                let (signed, signature) = split(token)?;
                key.verify(signed, &signature).is_ok()
            }
            Self::Ps256(key) => key.verify_token::<NoCustomClaims>(token, options).is_ok(),
            Self::Es256(key) => key.verify_token::<NoCustomClaims>(token, options).is_ok(),
            Self::LargePs256(key) => {
                let (signed, signature) = split(token)?;
                let signature = pss::Signature::try_from(signature.as_slice()).map_err(|_| BadSignature)?;
                key.verify(signed, &signature).is_ok()
            }
        };
        if verified { Ok(()) } else { Err(BadSignature) }
    }
}

/// Every judgement of jwt-simple about claims always passes: at time 0 without tolerance no token has expired,
/// and tokens from the future are left to the validator.
pub(super) fn options() -> VerificationOptions {
    VerificationOptions {
        accept_future: true,
        artificial_time: Some(UnixTimeStamp::from_secs(0)),
        time_tolerance: Some(Duration::from_secs(0)),
        max_token_length: Some(MAX_TOKEN_BYTES),
        max_header_length: Some(MAX_TOKEN_BYTES),
        ..VerificationOptions::default()
    }
}

/// The signing input and the signature (RFC 7515 section 5.2).
fn split(token: &str) -> Result<(&[u8], Vec<u8>), BadSignature> {
    let (signed, signature) = token.rsplit_once('.').ok_or(BadSignature)?;
    Ok((signed.as_bytes(), URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadSignature)?))
}
