//! Small encodings that several modules need.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes as lower-case hexadecimal digits. Every request needs some, and formatting is slow in WebAssembly.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| push_hex(&mut text, *byte));
    text
}

/// Adds a byte as two lower-case hexadecimal digits.
pub fn push_hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 0xf] {
        text.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
    }
}

/// Base64url without padding (RFC 4648 section 5).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The inverse of [`base64url`]; `None` for anything else than canonical base64url.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// SHA-256 as base64url.
pub fn digest(bytes: &[u8]) -> String {
    base64url(&Sha256::digest(bytes))
}

/// Whether two secrets, or two hashes of secrets, are the same. The time it takes says nothing of where they differ.
pub fn same_secret(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Whether two byte strings are the same, eight bytes at a time: in WebAssembly `==` is a loop over single ones.
pub fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    let ((one, one_rest), (other, other_rest)) = (one.as_chunks(), other.as_chunks());
    let same_word = |(one, other): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other);
    one.len() == other.len() && one.iter().zip(other).all(same_word) && one_rest == other_rest
}

/// A text as it stands in an element of HTML, or in a quoted attribute.
pub fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_same_only_as_a_whole() {
        assert!(same_secret(b"secret", b"secret"));
        assert!(same_secret(b"", b""));
        assert!(!same_secret(b"secret", b"secreT"));
        assert!(!same_secret(b"secret", b"secret "));
        assert!(!same_secret(b"", b"secret"));
    }

    #[test]
    fn bytes_are_the_same_only_as_a_whole() {
        let bytes: Vec<u8> = (0..40).collect();
        for length in 0..bytes.len() {
            let one = &bytes[..length];
            assert!(same_bytes(one, one));
            assert!(!same_bytes(one, &bytes[..=length]) && !same_bytes(&bytes[..=length], one));
            for changed in 0..length {
                let mut other = one.to_vec();
                other[changed] ^= 0x80;
                assert!(!same_bytes(one, &other), "{length} {changed}");
            }
        }
    }

    #[test]
    fn bytes_have_two_digits_each() {
        assert_eq!(hex(&[0x00, 0x09, 0x0a, 0x10, 0x9f, 0xf0, 0xff]), "00090a109ff0ff");
    }
}
