//! Whatever is signed as claims: no panic, and nothing without the claims that decide.
#![no_main]

use entra::token::check_claims;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|claims: &[u8]| {
    if check_claims(claims).is_ok() {
        let claims: serde_json::Value = serde_json::from_slice(claims).expect("serde_json reads it too");
        for name in ["ver", "iss", "tid", "oid", "sub", "aud"] {
            assert!(claims[name].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        for name in ["iat", "nbf", "exp"] {
            assert!(claims[name].as_u64().is_some_and(|date| date < 253_402_300_800), "{name}");
        }
    }
});
