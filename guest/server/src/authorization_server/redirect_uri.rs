//! Where people may be sent back to: which redirect URIs a client may register, and which one a request may name.
//!
//! MCP allows https, and http to the person's own machine; another scheme only if the operator lets it in
//! ([`private_use`]). A registered URI is in the one form in which
//! every parser reads it the same way, so what the consent page shows is where the browser goes. Requests are compared
//! with it as strings (RFC 9700 section 4.1.3); only the port of a loopback redirect may differ (RFC 8252 section 7.3).

use url::{Host, Url};

pub mod private_use;
#[cfg(test)]
mod tests;

/// The longest redirect URI, in bytes: as long as browsers and proxies take a URL without doubt.
pub const MAX_LENGTH: usize = 2048;
/// The hosts of the person's own machine, as they are written in a URI. None stands for another.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Parameters of the answer to an authorization request: of this server's (RFC 6749 section 4.1.2, RFC 9207), and of others
/// that a client may take for one (OpenID Connect, JARM). A client that finds one of them twice may read the one that
/// was registered: a code or an issuer that an attacker chose.
const ANSWER_PARAMETERS: [&str; 10] = [
    "code",
    "state",
    "iss",
    "error",
    "error_description",
    "error_uri",
    "response",
    "access_token",
    "id_token",
    "session_state",
];

/// Why a redirect URI cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// Over [`MAX_LENGTH`].
    #[error("a redirect URI is too long: at most 2048 bytes")]
    TooLong,
    /// A character that no URI has, or that parsers read differently.
    #[error("a redirect URI has a character that is not allowed (write it percent-encoded, a host in Punycode)")]
    Character,
    /// `*`.
    #[error("a redirect URI must not have a wildcard: register each one")]
    Wildcard,
    /// `#`.
    #[error("a redirect URI must not have a fragment")]
    Fragment,
    /// Neither http nor https.
    #[error("a redirect URI must be https, or http to localhost, unless the operator of the server admits its scheme")]
    Scheme,
    /// `user@host`.
    #[error("a redirect URI must not have a user name or password")]
    UserInfo,
    /// Not a URI with scheme and host.
    #[error("a redirect URI must be an absolute URI with a host")]
    NotAbsolute,
    /// http to another machine.
    #[error("a redirect URI must be https, unless its host is localhost, 127.0.0.1 or [::1]")]
    Insecure,
    /// Port 0, which no program listens on.
    #[error(
        "a redirect URI must not have the port 0: leave the port out, a request may name any for http to localhost"
    )]
    Port,
    /// One of the parameters that the server adds.
    #[error(
        "a redirect URI must not have a parameter of an authorization response in its query, such as code or state"
    )]
    AnswerParameter,
    /// Another spelling of the same.
    #[error("a redirect URI must be in its normal form: lower case host, no default port, no `.` or `..` in the path")]
    NotNormal,
}

/// Whether the host is spelt with percent escapes. What comes out of them need not be ASCII, and then the parser of URLs
/// here, which knows no international names, asserts more than holds (idna_adapter 1.0.0).
pub(super) fn has_escaped_host(uri: &str) -> bool {
    let rest = uri.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default().contains('%')
}

/// Whether a client may register the redirect URI.
pub fn check(uri: &str) -> Result<(), RedirectUriError> {
    check_form(uri)?;
    let (scheme, rest) = uri.split_once(':').ok_or(RedirectUriError::NotAbsolute)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(RedirectUriError::Scheme);
    }
    let rest = rest.strip_prefix("//").ok_or(RedirectUriError::NotAbsolute)?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(RedirectUriError::UserInfo);
    }
    if has_escaped_host(uri) {
        return Err(RedirectUriError::NotNormal);
    }
    let url = Url::parse(uri).map_err(|_| RedirectUriError::NotAbsolute)?;
    // A URI without a path is the only other spelling that is let through: many clients register one.
    if url.as_str() != uri && url.as_str().strip_suffix('/') != Some(uri) {
        return Err(RedirectUriError::NotNormal);
    }
    match url.host() {
        Some(Host::Domain(domain)) if domain.ends_with('.') => return Err(RedirectUriError::NotNormal),
        Some(_) => {}
        None => return Err(RedirectUriError::NotAbsolute),
    }
    if url.scheme() == "http" && !is_loopback(uri) {
        return Err(RedirectUriError::Insecure);
    }
    if url.port() == Some(0) {
        return Err(RedirectUriError::Port);
    }
    Ok(())
}

/// Whether a client may read the parameter as part of an answer. Some frameworks read `code[]`, and some ignore case or the
/// space around a name.
fn is_answer_parameter(name: &str) -> bool {
    let name = name.split('[').next().unwrap_or_default().trim();
    ANSWER_PARAMETERS.iter().any(|parameter| name.eq_ignore_ascii_case(parameter))
}

/// What holds for a redirect URI of any scheme.
fn check_form(uri: &str) -> Result<(), RedirectUriError> {
    if uri.len() > MAX_LENGTH {
        return Err(RedirectUriError::TooLong);
    }
    if !uri.bytes().all(is_uri_character) || has_broken_escape(uri) {
        return Err(RedirectUriError::Character);
    }
    if uri.contains('*') {
        return Err(RedirectUriError::Wildcard);
    }
    if uri.contains('#') {
        return Err(RedirectUriError::Fragment);
    }
    let query = uri.split_once('?').map(|(_, query)| query).unwrap_or_default();
    // Some parsers end a parameter at `;` too (HTML 4, appendix B.2.2).
    let pieces = [query].into_iter().chain(query.split(';'));
    let mut parameters = pieces.flat_map(|piece| url::form_urlencoded::parse(piece.as_bytes()));
    if parameters.any(|(name, _)| is_answer_parameter(&name)) {
        return Err(RedirectUriError::AnswerParameter);
    }
    Ok(())
}

/// The characters of RFC 3986. Not among them: spaces, control characters, `\`, quotes, everything beyond ASCII.
fn is_uri_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn has_broken_escape(uri: &str) -> bool {
    uri.split('%').skip(1).any(|escape| {
        let mut digits = escape.bytes().take(2);
        !matches!((digits.next(), digits.next()), (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

/// Whether the redirect URI of a request is the registered one: the same, or for an http loopback redirect the same
/// but for the port.
pub fn matches(registered: &str, requested: &str) -> bool {
    if registered == requested {
        return true;
    }
    match (Loopback::of(registered), Loopback::of(requested)) {
        (Some(registered), Some(requested)) => {
            registered.host == requested.host && registered.after_port == requested.after_port
        }
        _ => false,
    }
}

/// Whether the port of the redirect URI may differ from request to request.
pub fn has_variable_port(uri: &str) -> bool {
    Loopback::of(uri).is_some()
}

/// Whether the redirect goes to a program on the person's own machine.
pub fn is_loopback(uri: &str) -> bool {
    let Ok(url) = Url::parse(uri) else { return false };
    match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Whether the redirect goes to a program on the person's own machine, by a port or by a scheme. Any other program there
/// can take its place.
pub fn leads_to_a_program(uri: &str) -> bool {
    is_loopback(uri) || private_use::scheme(uri).is_some()
}

/// The host of a redirect URI, for people: with the port, if it is not the scheme's.
pub fn host(uri: &str) -> String {
    let Ok(url) = Url::parse(uri) else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// An http redirect URI to the person's own machine, around its port.
struct Loopback<'a> {
    host: &'static str,
    /// Path and query.
    after_port: &'a str,
}

impl<'a> Loopback<'a> {
    /// Takes the text apart as it is written. A parser would forgive other spellings.
    fn of(uri: &'a str) -> Option<Self> {
        let rest = uri.strip_prefix("http://")?;
        LOOPBACK_HOSTS.into_iter().find_map(|host| {
            let after_host = rest.strip_prefix(host)?;
            let after_port = match after_host.strip_prefix(':') {
                Some(port) => {
                    let end = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
                    let (digits, after) = port.split_at(end);
                    let number: u16 = digits.parse().ok()?;
                    // The one spelling of a port: not 0, no leading zeros.
                    if number == 0 || digits.starts_with('0') {
                        return None;
                    }
                    after
                }
                None => after_host,
            };
            // Whatever else follows would belong to the host.
            let complete = after_port.is_empty() || after_port.starts_with(['/', '?']);
            complete.then_some(Self { host, after_port })
        })
    }
}
