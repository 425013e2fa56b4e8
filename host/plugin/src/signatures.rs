//! Verifies signatures for the component (`wit/signatures.wit`), with ring, which is faster than the component in
//! WebAssembly. Nothing is decided here, and nothing is remembered.

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

use crate::bindings::signatures as wit;

/// 65537, big-endian.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// Has no state.
pub(crate) struct SignaturesCtx;

impl wit::Host for SignaturesCtx {
    fn judge_rs256(&mut self, modulus: Vec<u8>, signed: Vec<u8>, signature: Vec<u8>) -> wasmtime::Result<wit::Verdict> {
        let key = RsaPublicKeyComponents { n: modulus.as_slice(), e: EXPONENT.as_slice() };
        let is_good = key.verify(&RSA_PKCS1_2048_8192_SHA256, &signed, &signature).is_ok();
        Ok(if is_good { wit::Verdict::Good } else { wit::Verdict::Bad })
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};

    use super::*;
    use crate::bindings::signatures::Host as _;

    /// The key of the fixtures, which is public and protects nothing.
    const KEY: &str = include_str!("../../../tests/fixtures/confidential-client.key.pem");

    fn judge(modulus: &[u8], signed: &[u8], signature: &[u8]) -> wit::Verdict {
        SignaturesCtx.judge_rs256(modulus.to_vec(), signed.to_vec(), signature.to_vec()).unwrap()
    }

    #[test]
    fn a_signature_is_good_for_its_key_and_text_alone() {
        let key = RsaKeyPair::from_pkcs8(rcgen::KeyPair::from_pem(KEY).unwrap().serialized_der()).unwrap();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"header.claims", &mut signature).unwrap();
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
        assert_eq!(public.e, EXPONENT);
        let modulus = public.n;

        assert_eq!(judge(&modulus, b"header.claims", &signature), wit::Verdict::Good);
        assert_eq!(judge(&modulus, b"header.others", &signature), wit::Verdict::Bad);
        let mut other = modulus.clone();
        other[9] ^= 1;
        assert_eq!(judge(&other, b"header.claims", &signature), wit::Verdict::Bad);
        assert_eq!(judge(&[&[0], modulus.as_slice()].concat(), b"header.claims", &signature), wit::Verdict::Bad);
        assert_eq!(judge(&modulus, b"header.claims", &signature[1..]), wit::Verdict::Bad);
        assert_eq!(judge(&[], b"", &[]), wit::Verdict::Bad);
    }
}
