//! Which destinations a tool component may send requests to (`egress`), by the rules of
//! `entra_mcp_boundary::destinations`.

use std::fmt;

use entra_mcp_boundary::destinations::{self as rules, GRAPH, UrlPlace, is_ambiguous, is_risky};
use http::{Method, Uri};
use url::{Host, Url};

use super::error::EgressError;
use super::settings::EgressEntry;
use crate::outbound_http::{OutboundPolicy, PolicyError};

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
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

fn parse(text: &str) -> Result<UrlPlace<Origin>, EgressError> {
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
    Ok(UrlPlace { origin, path: url.path().trim_end_matches('/').to_owned() })
}

/// An entry of `egress`.
pub(super) type Destination = rules::Destination<Origin>;

/// The destinations of a tool component.
#[derive(Debug)]
pub(super) struct Destinations(rules::Destinations<Origin>);

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
        let mut list = rules::Destinations::new(Some(parse(GRAPH)?), Some(parse(graph)?));
        for entry in entries {
            let place = parse(&entry.to)?;
            if list.has(&place) {
                return Err(EgressError::Twice(entry.to.clone()));
            }
            list.add(place, entry.permissions.clone());
        }
        let list = Self(list);
        list.policy()?;
        Ok(list)
    }

    /// The origins, for the client that sends the requests. It refuses those that are never safe.
    pub(super) fn policy(&self) -> Result<OutboundPolicy, EgressError> {
        let origins: Vec<String> = self.entries().map(|entry| entry.place.origin.to_string()).collect();
        Ok(OutboundPolicy::new(origins.iter().map(String::as_str))?)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Destination> {
        self.0.entries()
    }

    /// The destination of a request, and the URL that it goes to.
    pub(super) fn find(&self, method: &Method, uri: &Uri) -> Result<(&Destination, Uri), Refused> {
        if is_risky(method.as_str()) {
            return Err(Refused::Method(method.clone()));
        }
        let origin = origin_of(uri).ok_or(Refused::UnclearHost)?;
        let found = self.0.find(UrlPlace { origin, path: uri.path().to_owned() });
        let (destination, place) = found.map_err(|refused| match refused {
            rules::Refused::UnclearPath => Refused::UnclearPath,
            rules::Refused::NotListed { origin_is_listed } => Refused::NotListed { to: missing(uri, origin_is_listed) },
        })?;
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{}{}{query}", place.origin, place.path);
        Ok((destination, target.parse().map_err(|_| Refused::UnclearHost)?))
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
