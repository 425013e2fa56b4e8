//! Whatever is sent as a token: no panic, and what is accepted has exactly one form.
#![no_main]

use entra::token::compact::{self, MAX_TOKEN_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if compact::parse(text).is_ok() {
        assert!(text.len() <= MAX_TOKEN_BYTES);
        assert_eq!(text.split('.').count(), 3);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')));
        assert!(compact::parse(&format!("{text}=")).is_err());
        assert!(compact::parse(&format!("{text}.")).is_err());
    }
});
