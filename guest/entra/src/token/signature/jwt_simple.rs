//! PS256 and ES256 by jwt-simple.
//!
//! It would also judge claims, by the clock of the machine; the options turn every such judgement into one that always
//! passes, because each of these rules is applied in `validation.rs`, more strictly and by the injected clock. What
//! jwt-simple still checks on its own (the form of the token, `alg`, `typ`, the types of the registered claims) can only
//! refuse more, never accept more, and nothing relies on it.

use jwt_simple::prelude::{
    Duration, ECDSAP256PublicKeyLike as _, ES256PublicKey, NoCustomClaims, PS256PublicKey, RSAPublicKeyLike as _,
    UnixTimeStamp, VerificationOptions,
};

use super::super::compact::MAX_TOKEN_BYTES;
use super::super::error::KeyFault;
use super::super::rs256::BadSignature;
use super::{primitives, uncompressed};

/// The most that jwt-simple takes; see its `check_rsa_key_policy`.
const MAX_RSA_BYTES: usize = 4096 / 8;
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// A key for PS256.
#[derive(Debug)]
pub(in crate::token) enum Ps256 {
    /// Of at most 4096 bits and with the exponent 65537: jwt-simple knows no others.
    Common(Box<PS256PublicKey>),
    /// Within the validator's limits, and beyond those of jwt-simple.
    Large(primitives::Ps256),
}

impl Ps256 {
    pub(super) fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        if modulus.len() > MAX_RSA_BYTES || exponent != RSA_EXPONENT {
            return primitives::Ps256::new(modulus, exponent).map(Self::Large);
        }
        let key = PS256PublicKey::from_components(modulus, exponent).map_err(|_| KeyFault::Malformed)?;
        Ok(Self::Common(Box::new(key)))
    }

    pub(super) fn verify(&self, token: &str) -> Result<(), BadSignature> {
        match self {
            Self::Common(key) => {
                key.verify_token::<NoCustomClaims>(token, Some(options())).map(drop).map_err(|_| BadSignature)
            }
            Self::Large(key) => key.verify(token),
        }
    }

    #[cfg(test)]
    pub(super) fn has_good_signature(&self, token: &str) -> bool {
        match self {
            Self::Common(key) => is_good(key.verify_token::<NoCustomClaims>(token, Some(options()))),
            Self::Large(key) => key.has_good_signature(token),
        }
    }
}

/// A key for ES256.
#[derive(Debug)]
pub(in crate::token) struct Es256(ES256PublicKey);

impl Es256 {
    pub(super) fn new(x: &[u8], y: &[u8]) -> Result<Self, KeyFault> {
        ES256PublicKey::from_bytes(&uncompressed(x, y)).map(Self).map_err(|_| KeyFault::Malformed)
    }

    pub(super) fn verify(&self, token: &str) -> Result<(), BadSignature> {
        self.0.verify_token::<NoCustomClaims>(token, Some(options())).map(drop).map_err(|_| BadSignature)
    }

    #[cfg(test)]
    pub(super) fn has_good_signature(&self, token: &str) -> bool {
        is_good(self.0.verify_token::<NoCustomClaims>(token, Some(options())))
    }
}

/// Every judgement of jwt-simple about claims always passes: at time 0 without tolerance no token has expired,
/// and tokens from the future are left to the validator.
fn options() -> VerificationOptions {
    VerificationOptions {
        accept_future: true,
        artificial_time: Some(UnixTimeStamp::from_secs(0)),
        time_tolerance: Some(Duration::from_secs(0)),
        max_token_length: Some(MAX_TOKEN_BYTES),
        max_header_length: Some(MAX_TOKEN_BYTES),
        ..VerificationOptions::default()
    }
}

/// jwt-simple verifies the signature first and reads the claims afterwards. So its complaint that claims are no JSON means
/// that the signature is good.
#[cfg(test)]
fn is_good<T>(verified: Result<T, jwt_simple::Error>) -> bool {
    match verified {
        Ok(_) => true,
        Err(error) => error.downcast_ref::<serde_json::Error>().is_some(),
    }
}
