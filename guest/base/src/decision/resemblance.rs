//! Whether a server that does not compare names exactly could take one name for another.
//!
//! Threat: an attacker calls `Delete_Record`, or `delete_record` with a space, an invisible character or a full-width
//! letter in it, and the server behind trims names, ignores their case or normalises them. This check is coarser than any
//! of that, and has no tables of Unicode: letters differ in case at most, or there is something in the name that is no
//! visible ASCII character, in which case it could be anything. A name of other letters needs a rule of its own where
//! others have one.
//!
//! URIs of resources have more forms, and the SDKs of MCP normalise them in different ways before a server sees them
//! (`https:crm/x`, `https://crm:443/x` and `https://@crm/x` are one). So a URI counts as another one only in the form that
//! no program changes, see [`is_canonical`].

use std::borrow::Cow;
use std::net::Ipv4Addr;

use crate::policy::TargetKind;

/// Schemes whose hosts are read as those of the web are (numbers are addresses), and their default ports. After the first
/// six, those whose default ports some libraries know.
const DEFAULT_PORTS: [(&str, Option<u16>); 12] = [
    ("file", None),
    ("ftp", Some(21)),
    ("http", Some(80)),
    ("https", Some(443)),
    ("ws", Some(80)),
    ("wss", Some(443)),
    ("gopher", Some(70)),
    ("ldap", Some(389)),
    ("ldaps", Some(636)),
    ("nntp", Some(119)),
    ("ssh", Some(22)),
    ("telnet", Some(23)),
];
/// What stands between the scheme and the authority.
const AUTHORITY: &str = "://";
/// What a variable of a URI template begins and ends with (RFC 6570).
const VARIABLE: (char, char) = ('{', '}');
/// What ASCII-compatible encodings of other letters begin with (RFC 5890). Some programs decode them.
const ENCODED_LABEL: &str = "xn--";

/// A name that is asked for, and what is known of it without a look at any rule.
pub(super) struct AskedName<'a> {
    kind: TargetKind,
    name: &'a str,
    /// It could be anything.
    is_opaque: bool,
    /// As a URI it could be another one.
    is_loose_uri: bool,
}

impl<'a> AskedName<'a> {
    pub(super) fn new(kind: TargetKind, name: &'a str) -> Self {
        let is_opaque = !name.bytes().all(|byte| byte.is_ascii_graphic());
        let is_loose_uri = match kind {
            TargetKind::Resource | TargetKind::Completion => !is_canonical(name) || name.contains(['%', '?', '#', ';']),
            TargetKind::Tool | TargetKind::Prompt | TargetKind::Task => false,
        };
        Self { kind, name, is_opaque, is_loose_uri }
    }

    /// Whether a server could take the name for `ruled`, which has rules.
    pub(super) fn resembles(&self, ruled: &str) -> bool {
        if self.is_opaque || self.name.eq_ignore_ascii_case(ruled) {
            return true;
        }
        match self.kind {
            TargetKind::Resource => self.resembles_uri(ruled),
            // A prompt, unless one of the two is a URI.
            TargetKind::Completion if ruled.contains([':', VARIABLE.0]) || self.name.contains(AUTHORITY) => {
                self.resembles_uri(ruled)
            }
            TargetKind::Completion | TargetKind::Tool | TargetKind::Prompt | TargetKind::Task => false,
        }
    }

    fn resembles_uri(&self, ruled: &str) -> bool {
        if self.is_loose_uri {
            return true;
        }
        // What a template stands for is read by the server only.
        if let Some((literal, _)) = ruled.split_once(VARIABLE.0) {
            return self.name.get(..literal.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(literal));
        }
        let ((scheme, rest), (ruled_scheme, ruled_rest)) = (bare(self.name), bare(ruled));
        scheme.eq_ignore_ascii_case(ruled_scheme)
            && (rest.eq_ignore_ascii_case(ruled_rest) || (ruled.contains(':') && !is_canonical(ruled)))
    }
}

/// The scheme, and the rest without slashes around it: some programs count none, one, two and three of them as the same.
fn bare(uri: &str) -> (&str, &str) {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("", uri));
    let rest = rest.trim_matches('/');
    let is_here = scheme.eq_ignore_ascii_case("file");
    (scheme, rest.strip_prefix("localhost/").filter(|_| is_here).unwrap_or(rest))
}

/// Whether a URI, or a template of URIs, is in the form that no program changes. Scheme and authority are in lower case. There is
/// no user, no port that is the default one, and no host that is an address in another form. The path has no empty or dotted
/// segments, backslashes, letters of drives and needless escapes.
fn is_canonical(uri: &str) -> bool {
    let Some(uri) = without_variables(uri) else { return false };
    let Some((scheme, rest)) = uri.split_once(AUTHORITY) else { return false };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    is_scheme(scheme) && is_authority(scheme, authority) && is_path(scheme, path)
}

/// The URI with a letter in place of each variable. `None` if something else than a variable is in braces.
fn without_variables(uri: &str) -> Option<Cow<'_, str>> {
    let (begin, end) = VARIABLE;
    if !uri.contains([begin, end]) {
        return Some(Cow::Borrowed(uri));
    }
    let mut plain = String::with_capacity(uri.len());
    let mut rest = uri;
    while let Some((literal, after)) = rest.split_once(begin) {
        let (variable, behind) = after.split_once(end)?;
        let is_variable = |byte: u8| byte.is_ascii_alphanumeric() || b"_,*.+-/&".contains(&byte);
        if !variable.bytes().all(is_variable) {
            return None;
        }
        plain.push_str(literal);
        plain.push('x');
        rest = behind;
    }
    plain.push_str(rest);
    (!plain.contains(end)).then_some(Cow::Owned(plain))
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

fn is_authority(scheme: &str, authority: &str) -> bool {
    let known = DEFAULT_PORTS.iter().find(|(known, _)| *known == scheme);
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let is_port = |port: &str| {
        let number = port.parse::<u16>().ok().filter(|number| *number != 0 && number.to_string() == port);
        number.is_some() && known.is_none_or(|(_, default)| default.is_some() && *default != number)
    };
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if host.is_empty() {
        // For the schemes of the web the host follows, after however many slashes.
        return port.is_none() && known.is_none_or(|(known, _)| *known == "file");
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    let is_address = || host.parse::<Ipv4Addr>().is_ok_and(|address| address.to_string() == host);
    host.bytes().all(is_plain)
        && !host.split('.').any(|label| label.is_empty() || label.starts_with(ENCODED_LABEL))
        && (known.is_none() || !is_number || is_address())
        && !(scheme == "file" && host == "localhost")
        && port.is_none_or(is_port)
}

fn is_path(scheme: &str, path: &str) -> bool {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let (inner, ends) = inner.strip_suffix('/').map_or((inner, false), |inner| (inner, true));
    let is_segment = |segment: &str| !segment.is_empty() && !matches!(segment, "." | "..");
    let drives = scheme == "file" && inner.split('/').any(is_drive);
    (inner.is_empty() && !ends || inner.split('/').all(is_segment))
        && !drives
        && !path.contains('\\')
        && path.split('%').skip(1).all(is_needed_escape)
}

/// `c:` and `c|`, which some programs write alike.
fn is_drive(segment: &str) -> bool {
    matches!(segment.as_bytes(), [letter, b':' | b'|', ..] if letter.is_ascii_alphabetic())
}

/// Whether the text begins with the digits of an escape that no program resolves (RFC 3986 section 2.3), in upper case.
fn is_needed_escape(after: &str) -> bool {
    let Some(digits) = after.get(..2) else { return false };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    digits.bytes().all(is_digit) && u8::from_str_radix(digits, 16).is_ok_and(|byte| !is_unreserved(byte))
}
