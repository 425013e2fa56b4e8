//! Compact JSON Web Tokens, as far as a client of Entra ID makes or looks at them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Longest token in bytes. Those of managed identities and of Kubernetes have 1 to 3 KiB.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The header (0) or the claims (1) of a token. The signature is not looked at: Entra ID judges it.
pub(super) fn part(token: &str, index: usize) -> Option<Value> {
    if token.len() > MAX_TOKEN_BYTES || token.split('.').count() != 3 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index)?).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

/// When a token expires, in seconds since 1970.
pub(super) fn expiry(token: &str) -> Option<u64> {
    part(token, 1)?.get("exp")?.as_u64()
}

/// A part of a token as it is written.
pub(super) fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}
