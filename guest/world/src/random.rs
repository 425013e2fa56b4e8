//! Random texts that cannot be guessed, and random ids.

use base::encoding::{base64url, push_hex};

use crate::capabilities::Random;

/// Bytes of randomness in a `state`, a `nonce`, a PKCE verifier, an id that an attacker must not guess.
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
    let mut text = String::with_capacity(36);
    for (index, byte) in value.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        push_hex(&mut text, byte);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        let uuid = random_uuid(&World::default());
        let parts: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(uuid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn two_tokens_differ() {
        let world = World::default();
        assert_ne!(random_token(&world), random_token(&world));
    }
}
