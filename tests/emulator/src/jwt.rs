//! Compact JWS: writing the emulator's own, and reading the assertions clients send.
//!
//! Only what Entra ID accepts is here: RS256 for tokens, PS256 and RS256 for client assertions, RS256 for federated
//! ones. Nothing is decided by a token's own header; each caller says which algorithms it allows.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Map, Value};

/// A token taken apart, its signature not yet looked at.
#[derive(Clone, Debug)]
pub(crate) struct Unverified {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    pub(crate) signing_input: String,
    pub(crate) signature: Vec<u8>,
}

/// Why a text is not a compact JWS.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a compact JSON web signature")]
pub(crate) struct Malformed;

/// Takes a compact JWS apart.
pub(crate) fn parse(token: &str) -> Result<Unverified, Malformed> {
    let (signing_input, signature) = token.rsplit_once('.').ok_or(Malformed)?;
    let (header, claims) = signing_input.split_once('.').ok_or(Malformed)?;
    Ok(Unverified {
        header: decode_object(header)?,
        claims: decode_object(claims)?,
        signing_input: signing_input.to_owned(),
        signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| Malformed)?,
    })
}

fn decode_object(part: &str) -> Result<Map<String, Value>, Malformed> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Malformed)
}

impl Unverified {
    pub(crate) fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    pub(crate) fn seconds(&self, claim: &str) -> Option<i64> {
        // Some libraries write numeric dates with a fraction.
        self.claims.get(claim).and_then(|value| value.as_i64().or_else(|| value.as_f64().map(|float| float as i64)))
    }

    /// Whether `aud` is, or as a list contains, exactly this value.
    pub(crate) fn has_audience(&self, audience: &str) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    /// Whether the signature is RS256 by this key.
    pub(crate) fn is_signed_rs256(&self, modulus: &[u8], exponent: &[u8]) -> bool {
        self.header_text("alg") == Some("RS256")
            && RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, self.signing_input.as_bytes(), &self.signature)
                .is_ok()
    }

    /// Whether the signature is PS256 or RS256 by the key of this certificate (DER).
    pub(crate) fn is_signed_by_certificate(&self, certificate: &[u8]) -> bool {
        let algorithm = match self.header_text("alg") {
            Some("PS256") => webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            Some("RS256") => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
            _ => return false,
        };
        let certificate = rustls::pki_types::CertificateDer::from(certificate);
        webpki::EndEntityCert::try_from(&certificate).is_ok_and(|parsed| {
            parsed.verify_signature(algorithm, self.signing_input.as_bytes(), &self.signature).is_ok()
        })
    }
}

/// Signs with RS256. `None` only if the system has no randomness for blinding.
pub(crate) fn sign_rs256(key: &RsaKeyPair, header: &Value, claims: &Value) -> Option<String> {
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature).ok()?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Some(token)
}
