//! JSON Web Key Sets (RFC 7517), read strictly.
//!
//! A document that is not a key set is refused as a whole, so that it never replaces a good one. A single key
//! that is unfit does not spoil the set, it stays in it with its fault: the error can then say why a token that
//! names it is refused, instead of calling the key unknown.

use std::cell::OnceCell;

use base::strict_json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::compact::Algorithm;
use super::error::KeyFault;
use super::signature::{Material, VerifyingKey};

/// Bytes of a key set. Entra ID's, certificates included, has 10 to 30 KiB; the secret store takes 256 KiB.
pub const MAX_JWKS_BYTES: usize = 128 * 1024;

/// Keys of a set. Entra ID publishes 5 to 15.
pub const MAX_KEYS: usize = 100;

/// Bits of an RSA modulus. Below is weak (RFC 7518 section 3.3); above, one verification costs so much that a
/// flood of tokens would be an attack.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The smallest public exponent; small ones have a history of forgeries (RFC 8017 allows 3).
const MIN_RSA_EXPONENT: u64 = 65_537;

/// The largest public exponent, 2^33 - 1, as in the `rsa` crate and in Windows: larger ones only cost time.
const MAX_RSA_EXPONENT: u64 = (1 << 33) - 1;

/// Bytes of a coordinate on P-256.
const P256_COORDINATE_BYTES: usize = 32;

/// Why a document is not a key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than [`MAX_JWKS_BYTES`].
    #[error("the key set has {0} bytes")]
    TooLarge(usize),
    /// More than [`MAX_KEYS`].
    #[error("the key set has {0} keys")]
    TooManyKeys(usize),
    /// Not an object with an array `keys` of objects, or a name twice.
    #[error("the key set is not a JSON Web Key Set")]
    Malformed,
    /// Not one key of it could verify a token.
    #[error("the key set has no usable signing key")]
    NoUsableKey,
}

/// The keys of an authority.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<JsonWebKey>,
}

/// One key.
#[derive(Debug)]
pub struct JsonWebKey {
    key_id: String,
    algorithm: Option<String>,
    /// The key's own `issuer`: Entra ID's addition, see [`crate::issuers::key_may_sign_for`].
    pub(super) issuer: Option<String>,
    /// Identifies the key material, so that what was verified with it can be dropped together with it.
    pub(super) fingerprint: Fingerprint,
    material: Result<Material, KeyFault>,
    /// Constructed when it is first needed, then kept: it costs as much as some verifications.
    verifying: OnceCell<Result<VerifyingKey, KeyFault>>,
}

/// SHA-256 over the members of a key as they stand in the set.
pub type Fingerprint = [u8; 32];

impl KeySet {
    /// Reads a key set.
    pub fn parse(document: &[u8]) -> Result<Self, JwksError> {
        if document.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge(document.len()));
        }
        let set = strict_json::parse_object(document).map_err(|_| JwksError::Malformed)?;
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err(JwksError::Malformed);
        };
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys(keys.len()));
        }
        let keys = keys
            .iter()
            // Nothing at all is no key, and spoils no other.
            .filter(|key| !key.is_null())
            .map(|key| key.as_object().ok_or(JwksError::Malformed))
            // A key without an id cannot be named by any token.
            .filter_map(|key| key.map(JsonWebKey::read).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        if keys.iter().any(|key| key.material.is_ok()) { Ok(Self { keys }) } else { Err(JwksError::NoUsableKey) }
    }

    /// The keys with this id; usually one.
    pub(super) fn with_id<'a>(&'a self, key_id: &'a str) -> impl Iterator<Item = &'a JsonWebKey> {
        self.keys.iter().filter(move |key| key.key_id == key_id)
    }

    /// Constructs every key for an algorithm and drops the result: for fuzzing, which has to reach that code.
    #[doc(hidden)]
    pub fn construct_all(&self, algorithm: Algorithm) {
        for key in &self.keys {
            let _ = key.for_algorithm(algorithm);
        }
    }

    /// Whether this very key is in the set.
    pub(super) fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.keys.iter().any(|key| key.fingerprint == *fingerprint)
    }
}

impl JsonWebKey {
    /// The numbers that make it.
    #[cfg(test)]
    pub(super) fn material(&self) -> Result<&Material, KeyFault> {
        self.material.as_ref().map_err(|fault| *fault)
    }

    fn read(key: &Map<String, Value>) -> Option<Self> {
        let key_id = match key.get("kid") {
            Some(Value::String(key_id)) => key_id.clone(),
            _ => return None,
        };
        let fingerprint = Sha256::digest(Value::Object(key.clone()).to_string().as_bytes()).into();
        let (issuer, issuer_fault) = match key.get("issuer") {
            None => (None, None),
            Some(Value::String(issuer)) => (Some(issuer.clone()), None),
            Some(_) => (None, Some(KeyFault::Malformed)),
        };
        let (algorithm, algorithm_fault) = match key.get("alg") {
            None => (None, None),
            Some(Value::String(algorithm)) => (Some(algorithm.clone()), None),
            Some(_) => (None, Some(KeyFault::Malformed)),
        };
        let material = match issuer_fault.or(algorithm_fault) {
            Some(fault) => Err(fault),
            None => check_use(key).and_then(|()| material(key)),
        };
        Some(Self { key_id, algorithm, issuer, fingerprint, material, verifying: OnceCell::new() })
    }

    /// The key ready for `algorithm`. RS256 is what an RSA key is for by default; PS256 has to be named by the
    /// key, or a token could choose between two ways to read one key (RFC 8725 section 3.1).
    pub(super) fn for_algorithm(&self, algorithm: Algorithm) -> Result<&VerifyingKey, KeyFault> {
        let material = self.material.as_ref().map_err(|fault| *fault)?;
        let type_fits = match material {
            Material::Rsa { .. } => matches!(algorithm, Algorithm::Rs256 | Algorithm::Ps256),
            Material::P256 { .. } => algorithm == Algorithm::Es256,
        };
        if !type_fits {
            return Err(KeyFault::Type);
        }
        match self.algorithm.as_deref() {
            Some(named) if named == algorithm.name() => {}
            None if algorithm != Algorithm::Ps256 => {}
            _ => return Err(KeyFault::Algorithm),
        }
        // The algorithm is the key's own, or the only one of its type: one constructed key is enough.
        self.verifying.get_or_init(|| VerifyingKey::new(algorithm, material)).as_ref().map_err(|fault| *fault)
    }
}

/// `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3).
fn check_use(key: &Map<String, Value>) -> Result<(), KeyFault> {
    match key.get("use") {
        None => {}
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(_) => return Err(KeyFault::Use),
    }
    match key.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => Ok(()),
        Some(_) => Err(KeyFault::Use),
    }
}

fn material(key: &Map<String, Value>) -> Result<Material, KeyFault> {
    // Any reader of the set could sign with such a key.
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| key.contains_key(*name)) {
        return Err(KeyFault::Private);
    }
    match key.get("kty").and_then(Value::as_str) {
        Some("RSA") => rsa(key),
        Some("EC") if key.get("crv").and_then(Value::as_str) == Some("P-256") => {
            let coordinate = |name| {
                decode(key, name).filter(|bytes| bytes.len() == P256_COORDINATE_BYTES).ok_or(KeyFault::Malformed)
            };
            Ok(Material::P256 { x: coordinate("x")?, y: coordinate("y")? })
        }
        _ => Err(KeyFault::Type),
    }
}

fn rsa(key: &Map<String, Value>) -> Result<Material, KeyFault> {
    let modulus = unsigned(key, "n").ok_or(KeyFault::Malformed)?;
    let exponent = unsigned(key, "e").ok_or(KeyFault::Malformed)?;
    if !RSA_BITS.contains(&bits(&modulus)) {
        return Err(KeyFault::Size);
    }
    // A product of two odd primes is odd.
    if modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err(KeyFault::Malformed);
    }
    let value = match exponent.as_slice() {
        bytes if bytes.len() <= 8 => bytes.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte)),
        _ => return Err(KeyFault::Exponent),
    };
    if !(MIN_RSA_EXPONENT..=MAX_RSA_EXPONENT).contains(&value) || value & 1 == 0 {
        return Err(KeyFault::Exponent);
    }
    Ok(Material::Rsa { modulus, exponent })
}

/// Base64urlUInt (RFC 7518 section 2): the shortest form, so no leading zero.
fn unsigned(key: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    decode(key, name).filter(|bytes| bytes.first().is_some_and(|first| *first != 0))
}

fn decode(key: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(key.get(name)?.as_str()?).ok()
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
