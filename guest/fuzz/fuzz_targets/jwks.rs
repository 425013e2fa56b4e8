//! Whatever an authority publishes as its keys: no panic, also not when a key is constructed from it.
#![no_main]

use entra::token::compact::Algorithm;
use entra::token::jwks::{KeySet, MAX_JWKS_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    if let Ok(keys) = KeySet::parse(document) {
        assert!(document.len() <= MAX_JWKS_BYTES);
        assert!(serde_json::from_slice::<serde_json::Value>(document).is_ok(), "serde_json reads it too");
        for algorithm in [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256] {
            keys.construct_all(algorithm);
        }
    }
});
