//! Which destinations a tool component may send requests to (`egress`).
//!
//! Scheme, host and port are compared exactly, after one parser has read both sides; the prefix of the path is compared
//! segment by segment, as it is written. A path that servers read in different ways (dot segments, encoded dots and
//! slashes, backslashes) fits no prefix but the empty one. What is sent goes to the configured origin with the path as the
//! component wrote it: no second parser can find another host in it.

use std::fmt;

use http::{Method, Uri};
use url::{Host, Url};

use super::error::EgressError;
use super::settings::EgressEntry;
use crate::outbound_http::{OutboundPolicy, PolicyError};

/// Microsoft Graph as tools name it, in every cloud.
const GRAPH: &str = "https://graph.microsoft.com";

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: Host<String>,
    port: u16,
}

impl Origin {
    fn of(url: &Url) -> Option<Self> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { https, host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// A URL without query: an origin and the path below it, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    origin: Origin,
    path: String,
}

impl Place {
    fn parse(text: &str) -> Result<Self, EgressError> {
        let not_a_url = || EgressError::Destination(PolicyError::NotAUrl(text.to_owned()));
        let url = Url::parse(text).map_err(|_| not_a_url())?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EgressError::NotAPrefix(text.to_owned()));
        }
        // As it is written: the parser has removed dot segments.
        let below_host = text.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        if below_host.is_some_and(|(_, path)| is_ambiguous(path)) {
            return Err(EgressError::Ambiguous(text.to_owned()));
        }
        let origin = Origin::of(&url).ok_or_else(not_a_url)?;
        Ok(Self { origin, path: url.path().trim_end_matches('/').to_owned() })
    }
}

/// An entry of `egress`.
#[derive(Debug)]
pub(super) struct Destination {
    place: Place,
    /// The permissions of the token that is added; none: no token is added.
    pub(super) permissions: Vec<String>,
}

/// The destinations of a tool component.
#[derive(Debug)]
pub(super) struct Destinations {
    entries: Vec<Destination>,
    /// Where Microsoft Graph is, if it is not where tools name it.
    graph: Option<Place>,
}

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its method could make a server tell what it was sent, or open a tunnel.
    Method(Method),
    /// Its URL names its host in a way that parsers read differently.
    UnclearHost,
    /// No entry has this destination. Carries what is missing.
    NotListed {
        /// The value of `to` that would allow it.
        to: String,
    },
    /// Servers read its path in different ways, and the destination has a prefix.
    UnclearPath,
}

impl Destinations {
    /// `graph` is the base URL of Microsoft Graph that is configured.
    pub(super) fn new(entries: &[EgressEntry], graph: &str) -> Result<Self, EgressError> {
        let graph = Some(Place::parse(graph)?).filter(|graph| Place::parse(GRAPH).is_ok_and(|known| known != *graph));
        let mut list = Self { entries: Vec::new(), graph };
        for entry in entries {
            let place = list.moved(Place::parse(&entry.to)?);
            if list.entries.iter().any(|known| known.place == place) {
                return Err(EgressError::Twice(entry.to.clone()));
            }
            list.entries.push(Destination { place, permissions: entry.permissions.clone() });
        }
        list.policy()?;
        Ok(list)
    }

    /// The origins, for the client that sends the requests. It refuses those that are never safe.
    pub(super) fn policy(&self) -> Result<OutboundPolicy, EgressError> {
        let origins: Vec<String> = self.entries.iter().map(|entry| entry.place.origin.to_string()).collect();
        Ok(OutboundPolicy::new(origins.iter().map(String::as_str))?)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Destination> {
        self.entries.iter()
    }

    /// The destination of a request, and the URL that it goes to.
    pub(super) fn find(&self, method: &Method, uri: &Uri) -> Result<(&Destination, Uri), Refused> {
        let risky = ["TRACE", "TRACK", "CONNECT"];
        if risky.iter().any(|risky| method.as_str().eq_ignore_ascii_case(risky)) {
            return Err(Refused::Method(method.clone()));
        }
        let place =
            self.moved(Place { origin: origin_of(uri).ok_or(Refused::UnclearHost)?, path: uri.path().to_owned() });
        let origin = &place.origin;
        let at_origin = || self.entries.iter().filter(move |entry| entry.place.origin == *origin);
        let unclear = is_ambiguous(&place.path);
        let fitting =
            at_origin().filter(|entry| entry.covers(&place.path) && (!unclear || entry.place.path.is_empty()));
        let Some(destination) = fitting.max_by_key(|entry| entry.place.path.len()) else {
            return Err(if unclear && at_origin().next().is_some() {
                Refused::UnclearPath
            } else {
                Refused::NotListed { to: missing(uri, at_origin().next().is_some()) }
            });
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{}{}{query}", place.origin, place.path);
        Ok((destination, target.parse().map_err(|_| Refused::UnclearHost)?))
    }

    /// Requests to Microsoft Graph go to where it is.
    fn moved(&self, place: Place) -> Place {
        match &self.graph {
            Some(graph) if place.origin.to_string() == GRAPH => {
                Place { origin: graph.origin.clone(), path: format!("{}{}", graph.path, place.path) }
            }
            _ => place,
        }
    }
}

impl Destination {
    /// Whether the path is the prefix or below it.
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.place.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/", self.place.origin, self.place.path)
    }
}

/// The origin that a request names, unless parsers could disagree about it.
fn origin_of(uri: &Uri) -> Option<Origin> {
    let authority = uri.authority()?;
    if authority.as_str().contains(['@', '\\', '%']) {
        return None;
    }
    let url = Url::parse(&format!("{}://{authority}/", uri.scheme_str()?)).ok()?;
    // The parser reads numbers as addresses and normalises names. What it would have to change is refused.
    url.host_str().filter(|host| host.eq_ignore_ascii_case(authority.host()))?;
    Origin::of(&url)
}

/// What to write into `egress` for a request. Where the origin has an entry already, the first segment belongs to it.
fn missing(uri: &Uri, origin_is_listed: bool) -> String {
    let origin =
        format!("{}://{}", uri.scheme_str().unwrap_or("https"), uri.authority().map_or("", |known| known.as_str()));
    match uri.path().split('/').nth(1).filter(|first| origin_is_listed && !first.is_empty()) {
        Some(first) => format!("{origin}/{first}/"),
        None => origin,
    }
}

/// Whether servers may read a path in different ways.
fn is_ambiguous(path: &str) -> bool {
    // Some servers cut parameters off a segment before they look at it.
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.contains('\\')
        || path.bytes().any(|byte| !byte.is_ascii_graphic())
        || path.split('/').any(is_dots)
        || is_ambiguously_encoded(path)
}

/// Whether servers may decode a path in different ways: bytes that separate or have a meaning of their own, a percent sign
/// that begins nothing (`%u002e`) or something after it is decoded, and bytes that are no UTF-8 (`%c0%ae`).
fn is_ambiguously_encoded(path: &str) -> bool {
    let mut decoded = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else { return true };
        if b"./\\%;\0".contains(&byte) {
            return true;
        }
        decoded.push(byte);
        decoded.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    std::str::from_utf8(&decoded).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(to: &str) -> EgressEntry {
        EgressEntry { to: to.to_owned(), permissions: vec![format!("scope of {to}")] }
    }

    fn destinations(to: &[&str], graph: &str) -> Destinations {
        Destinations::new(&to.iter().copied().map(entry).collect::<Vec<_>>(), graph).unwrap()
    }

    fn api() -> Destinations {
        destinations(&["https://api.contoso.com/v1/", "https://graph.microsoft.com"], GRAPH)
    }

    fn found(list: &Destinations, uri: &str) -> Result<String, Refused> {
        list.find(&Method::GET, &uri.parse().unwrap()).map(|(_, target)| target.to_string())
    }

    #[test]
    fn a_request_below_the_prefix_goes_where_it_says() {
        for uri in [
            "https://api.contoso.com/v1",
            "https://api.contoso.com/v1/orders?$top=1&q=../x",
            "https://api.contoso.com/v1//orders",
            "https://api.contoso.com/v1/a%20b/%C3%A4/x;y",
            "https://graph.microsoft.com/v1.0/me/drive/root:/100%25:/content",
            "https://graph.microsoft.com/v1.0/me/drive/root:/a%20b:/content",
            "https://graph.microsoft.com/v1.0/me/messages('a%2Fb')",
        ] {
            assert_eq!(found(&api(), uri).as_deref(), Ok(uri));
        }
        assert_eq!(found(&api(), "https://API.contoso.com:443/v1/x").as_deref(), Ok("https://api.contoso.com/v1/x"));
    }

    #[test]
    fn another_host_scheme_port_or_path_is_refused_and_the_missing_line_named() {
        for (uri, to) in [
            ("https://evil.example/v1/x", "https://evil.example"),
            ("https://api.contoso.com.evil.example/v1/x", "https://api.contoso.com.evil.example"),
            ("https://evil.api.contoso.com/v1/x", "https://evil.api.contoso.com"),
            ("https://api.contoso.com./v1/x", "https://api.contoso.com."),
            ("http://api.contoso.com/v1/x", "http://api.contoso.com"),
            ("http://api.contoso.com:443/v1/x", "http://api.contoso.com:443"),
            ("https://api.contoso.com:8443/v1/x", "https://api.contoso.com:8443"),
            ("https://api.contoso.com/v2/x", "https://api.contoso.com/v2/"),
            ("https://api.contoso.com/v10/x", "https://api.contoso.com/v10/"),
            ("https://api.contoso.com/V1/x", "https://api.contoso.com/V1/"),
            ("https://api.contoso.com//v1/x", "https://api.contoso.com"),
            ("https://api.contoso.com/%76%31/x", "https://api.contoso.com/%76%31/"),
            ("https://203.0.113.1/v1/x", "https://203.0.113.1"),
            ("https://[2001:db8::1]/v1/x", "https://[2001:db8::1]"),
        ] {
            assert_eq!(found(&api(), uri), Err(Refused::NotListed { to: to.to_owned() }), "{uri}");
        }
    }

    #[test]
    fn a_host_that_parsers_read_differently_is_refused() {
        let list = destinations(&["http://127.0.0.1:8080", "https://api.contoso.com"], GRAPH);
        for uri in [
            "https://api.contoso.com@evil.example/",
            "https://user@api.contoso.com/",
            "http://2130706433:8080/",
            "http://127.1:8080/",
            "http://0x7f.0.0.1:8080/",
            "/relative",
        ] {
            assert_eq!(found(&list, uri), Err(Refused::UnclearHost), "{uri}");
        }
    }

    #[test]
    fn a_path_that_leaves_the_prefix_for_some_servers_is_refused() {
        for path in [
            "/v1/../admin",
            "/v1/..",
            "/v1/./x",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/..%2fadmin",
            "/v1/%5c..%5cadmin",
            "/v1/..;/admin",
            "/v1/..;x=y/admin",
            "/v1/%252e%252e/admin",
            "/v1/x%00",
            "/v1/%25x",
            "/v1/%u002e%u002e/admin",
            "/v1/%",
            "/v1/%2",
            "/v1/%zz",
            "/v1/..%3b/admin",
            "/v1/x%3B",
            "/v1/%5c",
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/%ff",
            "/../v1/x",
        ] {
            assert_eq!(found(&api(), &format!("https://api.contoso.com{path}")), Err(Refused::UnclearPath), "{path}");
        }
    }

    #[test]
    fn the_longest_prefix_decides_which_token_is_added() {
        let list = destinations(&["https://api.contoso.com", "https://api.contoso.com/v1/admin"], GRAPH);
        for (path, to) in [
            ("/v1/admin/x", "https://api.contoso.com/v1/admin"),
            ("/v1/administrators", "https://api.contoso.com"),
            ("/v1/x/../admin", "https://api.contoso.com"),
        ] {
            let uri = format!("https://api.contoso.com{path}").parse().unwrap();
            assert_eq!(list.find(&Method::GET, &uri).unwrap().0.permissions, [format!("scope of {to}")], "{path}");
        }
    }

    #[test]
    fn methods_that_reflect_requests_or_open_tunnels_are_refused() {
        for method in ["TRACE", "trace", "TRACK", "CONNECT"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let refused = api().find(&method, &"https://graph.microsoft.com/".parse().unwrap()).unwrap_err();
            assert_eq!(refused, Refused::Method(method));
        }
    }

    #[test]
    fn graph_is_where_it_is_configured() {
        for (graph, expected) in [
            ("https://graph.microsoft.us", "https://graph.microsoft.us/v1.0/me?$select=id"),
            ("http://127.0.0.1:9/graph/", "http://127.0.0.1:9/graph/v1.0/me?$select=id"),
        ] {
            for to in ["https://graph.microsoft.com", graph] {
                let list = destinations(&[to], graph);
                assert_eq!(found(&list, "https://graph.microsoft.com/v1.0/me?$select=id").as_deref(), Ok(expected));
                assert_eq!(found(&list, expected).as_deref(), Ok(expected));
            }
        }
        let list = destinations(&["https://graph.microsoft.com"], "http://127.0.0.1:9/graph");
        assert_eq!(found(&list, "https://graph.microsoft.com/../x"), Err(Refused::UnclearPath));
        assert!(matches!(found(&list, "http://127.0.0.1:9/other"), Err(Refused::NotListed { .. })));
    }

    #[test]
    fn entries_that_cannot_be_granted_are_refused_at_once() {
        let refusal =
            |to: &[&str]| Destinations::new(&to.iter().copied().map(entry).collect::<Vec<_>>(), GRAPH).unwrap_err();
        let policy = EgressError::Destination;
        assert_eq!(refusal(&["http://a.example"]), policy(PolicyError::Insecure("http://a.example".into())));
        assert_eq!(refusal(&["https://10.0.0.1"]), policy(PolicyError::ProhibitedAddress("https://10.0.0.1".into())));
        assert_eq!(refusal(&["a.example"]), policy(PolicyError::NotAUrl("a.example".into())));
        for to in ["https://a.example/?x", "https://a.example/#x"] {
            assert_eq!(refusal(&[to]), EgressError::NotAPrefix(to.into()));
        }
        for to in ["https://a.example/x/../y", "https://a.example/%2e%2e/y", "https://a.example/a%2fb"] {
            assert_eq!(refusal(&[to]), EgressError::Ambiguous(to.into()));
        }
        assert_eq!(
            refusal(&["https://a.example/x", "https://A.example/x/"]),
            EgressError::Twice("https://A.example/x/".into())
        );
    }
}
