//! Small encodings that several modules need.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::environment::Random;

/// Bytes of randomness in a `state`, a `nonce`, a PKCE verifier, an id that nobody may guess.
const TOKEN_BYTES: usize = 32;

/// 256 random bits as base64url: 43 characters, all allowed in a URL and in a PKCE verifier (RFC 7636
/// section 4.1).
pub fn random_token(random: &dyn Random) -> String {
    let mut bytes = [0; TOKEN_BYTES];
    random.fill(&mut bytes);
    base64url(&bytes)
}

/// A random UUID (RFC 9562 version 4): what Microsoft's services take as a request id.
pub fn random_uuid(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let mut value = u128::from_be_bytes(bytes);
    value = (value & !(0xf << 76)) | (4 << 76);
    value = (value & !(0b11 << 62)) | (0b10 << 62);
    let hex = format!("{value:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
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
    use crate::environment::fake::World;

    #[test]
    fn secrets_are_the_same_only_as_a_whole() {
        assert!(same_secret(b"secret", b"secret"));
        assert!(same_secret(b"", b""));
        assert!(!same_secret(b"secret", b"secreT"));
        assert!(!same_secret(b"secret", b"secret "));
        assert!(!same_secret(b"", b"secret"));
    }

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = random_uuid(&World::default());
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn two_tokens_differ() {
        let world = World::default();
        assert_ne!(random_token(&world), random_token(&world));
    }
}
