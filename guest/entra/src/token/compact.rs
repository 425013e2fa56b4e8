//! The compact serialisation of a signed token (RFC 7515 section 7.1), read strictly.
//!
//! Everything that could make two readers see two different tokens is refused here, before any key is looked
//! for: other numbers of parts, padding or stray bits in the base64url, duplicate names, header parameters that
//! bring their own key or have to be understood.

use std::fmt;

use base::strict_json::{self, StrictJsonError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::error::{Part, TokenError};

/// Bytes of a whole token. Entra ID's tokens have 1 to 4 KiB, groups and all; HTTP servers take 8 to 16 KiB of
/// headers.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Bytes of a key id. Entra ID's have 27 to 43; the id ends up in logs.
const MAX_KEY_ID_BYTES: usize = 256;

/// Header parameters that end the matter (RFC 7515 section 4.1, RFC 7516, RFC 7797, RFC 8725 section 3.10).
/// `jku`, `jwk`, `x5u`, `x5c` bring or point to a key of the sender's choice; `crit` and `b64` change how the
/// token is read; `zip` and `enc` and the key-agreement parameters belong to encrypted tokens; `cty` announces a
/// nested token.
const FORBIDDEN: [&str; 14] =
    ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc", "cty", "epk", "apu", "apv", "p2s", "p2c"];

/// The algorithms that Entra ID signs with, or may (RFC 8725 section 3.1: an allow-list, no negotiation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }

    /// As in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
        }
    }
}

/// A token that is well-formed. Nothing in it can be trusted yet.
pub struct CompactToken {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: String,
    pub(super) claims: Map<String, Value>,
}

/// The claims may name a person.
impl fmt::Debug for CompactToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, key_id, claims: _ } = self;
        f.debug_struct("CompactToken").field("algorithm", algorithm).field("key_id", key_id).finish_non_exhaustive()
    }
}

/// The parts of a compact token whose form and header are acceptable.
pub(super) struct SignedToken {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: String,
    pub(super) payload: Vec<u8>,
}

/// Reads a compact token.
pub fn parse(token: &str) -> Result<CompactToken, TokenError> {
    let SignedToken { algorithm, key_id, payload } = parse_signed(token)?;
    Ok(CompactToken { algorithm, key_id, claims: object(&payload, Part::Claims)? })
}

/// Before anything is done with a token, so that a huge one costs nothing.
pub(super) fn check_length(token: &str) -> Result<(), TokenError> {
    if token.len() <= MAX_TOKEN_BYTES {
        return Ok(());
    }
    Err(TokenError::TooLarge { length: token.len() as u64, limit: MAX_TOKEN_BYTES as u64 })
}

/// Reads all but the content of the payload.
pub(super) fn parse_signed(token: &str) -> Result<SignedToken, TokenError> {
    check_length(token)?;
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::NotCompact { parts: token.split('.').count() as u64 });
    };

    let header = object(&decode(header, Part::Header)?, Part::Header)?;
    let algorithm = check_header(&header)?;
    let key_id = key_id(&header)?;
    let payload = decode(claims, Part::Claims)?;
    decode(signature, Part::Signature)?;
    Ok(SignedToken { algorithm, key_id, payload })
}

fn check_header(header: &Map<String, Value>) -> Result<Algorithm, TokenError> {
    if let Some(name) = FORBIDDEN.iter().find(|name| header.contains_key(**name)) {
        return Err(TokenError::HeaderNotAllowed { name: (*name).to_owned() });
    }
    let algorithm = match header.get("alg") {
        None => return Err(missing("alg")),
        Some(Value::String(name)) => {
            Algorithm::of(name).ok_or_else(|| TokenError::AlgorithmNotAllowed { algorithm: name.clone() })?
        }
        Some(_) => return Err(malformed("alg")),
    };
    match header.get("typ") {
        None => {}
        // Media types are compared without regard to case (RFC 7515 section 4.1.9). `at+jwt` is RFC 9068.
        Some(Value::String(typ)) if typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt") => {}
        Some(Value::String(typ)) => return Err(TokenError::TypeNotAllowed { actual: typ.clone() }),
        Some(_) => return Err(malformed("typ")),
    }
    // They only repeat `kid`, but jwt-simple reads them as text, and so would others.
    for name in ["x5t", "x5t#S256", "salt"] {
        if header.get(name).is_some_and(|value| !value.is_string()) {
            return Err(malformed(name));
        }
    }
    Ok(algorithm)
}

fn key_id(header: &Map<String, Value>) -> Result<String, TokenError> {
    match header.get("kid") {
        None => Err(missing("kid")),
        Some(Value::String(key_id)) if !key_id.is_empty() && key_id.len() <= MAX_KEY_ID_BYTES => Ok(key_id.clone()),
        Some(_) => Err(malformed("kid")),
    }
}

fn object(bytes: &[u8], which: Part) -> Result<Map<String, Value>, TokenError> {
    strict_json::parse_object(bytes).map_err(|error| match error {
        StrictJsonError::Malformed(_) => TokenError::JsonInvalid { part: which },
        StrictJsonError::Duplicate(name) => TokenError::NameDuplicate { part: which, name },
    })
}

/// This engine takes neither padding nor non-zero trailing bits, so every byte string has exactly one form.
fn decode(part: &str, which: Part) -> Result<Vec<u8>, TokenError> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(TokenError::EncodingInvalid { part: which }),
    }
}

fn missing(name: &str) -> TokenError {
    TokenError::HeaderMissing { name: name.to_owned() }
}

fn malformed(name: &str) -> TokenError {
    TokenError::HeaderMalformed { name: name.to_owned() }
}
