//! Where people may be sent back to.

/// Why a redirect URI cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// Not a URI with scheme and host.
    #[error("the redirect URI is not an absolute URI with a host")]
    NotAbsolute,
}

/// Whether a client may register the redirect URI.
pub fn check(_uri: &str) -> Result<(), RedirectUriError> {
    Err(RedirectUriError::NotAbsolute)
}

/// Whether the redirect URI of a request is the registered one: the same, or for a loopback redirect the same but
/// for the port (RFC 8252 section 7.3).
pub fn matches(_registered: &str, _requested: &str) -> bool {
    false
}

/// Whether the redirect goes to a program on the person's own machine.
pub fn is_loopback(_uri: &str) -> bool {
    false
}

/// The host of a redirect URI, for people: with the port, if it is not the scheme's.
pub fn host(_uri: &str) -> String {
    String::new()
}
