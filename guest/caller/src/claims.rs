//! Claims that Entra ID or Microsoft Graph wants to see in the next sign-in or token of a person.

use std::time::Duration;

use serde_json::{Map, Value};

/// How long claims wait for their person. A client signs in again at once. Later the claims may no longer be what is
/// wanted; a service that still wants them asks again.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// The longest claims that are kept, in bytes: they become part of a URL.
pub const MAX_BYTES: usize = 4096;

/// Whether claims can be sent along with a person.
pub fn are_usable(claims: &str) -> bool {
    claims.len() <= MAX_BYTES && serde_json::from_str::<Map<String, Value>>(claims).is_ok()
}
