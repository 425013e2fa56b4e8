//! What the host does for `signatures` of the contract (`host/plugin/src/signatures.rs`), with the same library: its
//! verdicts and those of `rs256.rs` have to be the same.

use std::cell::Cell;

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use world::Signatures;

/// Counts what it is asked.
#[derive(Default)]
pub(in crate::token) struct Host {
    pub(in crate::token) asked: Cell<u32>,
}

impl Signatures for Host {
    fn is_good_rs256(&self, modulus: &[u8], signed: &[u8], signature: &[u8]) -> Option<bool> {
        self.asked.set(self.asked.get() + 1);
        let key = RsaPublicKeyComponents { n: modulus, e: &[1, 0, 1] };
        Some(key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok())
    }
}
