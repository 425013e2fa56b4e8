//! Which destinations the requests of a tool may go to, by the rules of `entra_mcp_boundary::destinations`.
//!
//! What it cannot do is to look at the addresses of a host: only the host of the component knows them.

use entra_mcp_boundary::destinations::{self as rules, GRAPH, UrlPlace, is_ambiguous, is_risky};

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https`, else `http`.
    pub https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// What a request and a URL name. The host is compared as it is written: a name in lower case, or an address.
    fn new(scheme: &str, authority: &str) -> Option<Self> {
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = authority.to_ascii_lowercase();
        let bracketed = authority.starts_with('[');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !bracketed || host.ends_with(']') => (host, Some(port)),
            _ => (authority.as_str(), None),
        };
        let port = match port {
            None | Some("") => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            Some(_) => return None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        let is_address = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => !address.is_empty() && is_address(address),
            None => !host.is_empty() && host.bytes().all(plain),
        };
        is_host.then(|| Self { https, host: host.to_owned(), port })
    }

    /// As in a request.
    pub fn authority(&self) -> String {
        match (self.https, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

fn parse(url: &str) -> Option<UrlPlace<Origin>> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if path.contains(['?', '#']) || is_ambiguous(path) {
        return None;
    }
    Some(UrlPlace { origin: Origin::new(scheme, authority)?, path: path.trim_end_matches('/').to_owned() })
}

/// Where requests may go, and with which permissions of the caller.
#[derive(Debug)]
pub struct Destinations(rules::Destinations<Origin>);

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestTarget<'d> {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Path and query.
    pub path_with_query: String,
    /// Permissions of the token that it carries. Empty: none.
    pub permissions: &'d [String],
}

/// Why a request is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its method could make a server tell what it was sent, or open a tunnel.
    Method,
    /// Servers read its host or its path in different ways.
    Unclear,
    /// It is not configured.
    NotListed,
}

impl Destinations {
    /// From the settings. An entry that is no URL allows nothing.
    pub fn new(entries: impl IntoIterator<Item = (String, Vec<String>)>, graph: &str) -> Self {
        let mut list = rules::Destinations::new(parse(GRAPH), parse(graph));
        for (to, permissions) in entries {
            if let Some(place) = parse(&to) {
                list.add(place, permissions);
            }
        }
        Self(list)
    }

    /// Where a request goes.
    pub fn find(
        &self,
        method: &str,
        scheme: &str,
        authority: &str,
        path_with_query: &str,
    ) -> Result<RequestTarget<'_>, Refused> {
        if is_risky(method) {
            return Err(Refused::Method);
        }
        let (path, query) = match path_with_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_with_query, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        let query_is_plain =
            query.is_none_or(|query| query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        if !path.starts_with('/') || path.contains('#') || !query_is_plain {
            return Err(Refused::Unclear);
        }
        let origin = Origin::new(scheme, authority).ok_or(Refused::Unclear)?;
        let found = self.0.find(UrlPlace { origin, path: path.to_owned() });
        let (destination, place) = found.map_err(|refused| match refused {
            rules::Refused::UnclearPath => Refused::Unclear,
            rules::Refused::NotListed { .. } => Refused::NotListed,
        })?;
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path_with_query = format!("{}{query}", place.path);
        Ok(RequestTarget { path_with_query, origin: place.origin, permissions: &destination.permissions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(graph: &str) -> Destinations {
        let entries = [
            "https://api.contoso.com/v1/",
            "https://graph.microsoft.com/",
            "http://127.0.0.1:1234/",
            "https://[2001:db8::1]/",
        ];
        Destinations::new(entries.map(|to| (to.to_owned(), vec![format!("scope of {to}")])), graph)
    }

    fn find(graph: &str, url: &str) -> Result<String, Refused> {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        list(graph).find("GET", scheme, authority, path).map(|target| {
            format!(
                "{}://{}{}",
                if target.origin.https { "https" } else { "http" },
                target.origin.authority(),
                target.path_with_query
            )
        })
    }

    #[test]
    fn a_request_below_the_prefix_goes_where_it_says() {
        for url in [
            "https://api.contoso.com/v1",
            "https://api.contoso.com/v1/a?b=c",
            "http://127.0.0.1:1234/x",
            "https://[2001:db8::1]/a",
        ] {
            assert_eq!(find(GRAPH, url).as_deref(), Ok(url));
        }
        assert_eq!(find(GRAPH, "https://API.contoso.com:443/v1/x").as_deref(), Ok("https://api.contoso.com/v1/x"));
        assert_eq!(find(GRAPH, "https://graph.microsoft.com").as_deref(), Ok("https://graph.microsoft.com/"));
    }

    #[test]
    fn a_request_to_graph_goes_to_where_it_is() {
        for graph in ["https://graph.microsoft.us", "http://127.0.0.1:5/graph"] {
            assert_eq!(find(graph, "https://graph.microsoft.com/v1.0/me"), Ok(format!("{graph}/v1.0/me")));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for url in [
            "https://api.contoso.com/v10/",
            "https://api.contoso.com/",
            "http://api.contoso.com/v1/",
            "https://api.contoso.com:8443/v1/",
            "https://evil.example/",
            "http://127.0.0.1:12345/",
            "https://api.contoso.com./v1/",
            "https://[2001:db8::2]/",
            "ftp://api.contoso.com/v1/",
            "https://api.contoso.com@evil.example/v1/",
            "https://api.contoso.com%2eevil.example/v1/",
            "https://api.contoso.com\\evil/v1/",
            "https://api.contoso.com/v1/../v2",
            "https://api.contoso.com/v1/%2e%2e/v2",
            "https://api.contoso.com/v1/..;/v2",
            "https://api.contoso.com/v1/%c0%ae",
            "https://api.contoso.com/v1/%",
            "https://api.contoso.com/v1/a b",
            "https://api.contoso.com:x/v1/",
            "https://api.contoso.com/v1/a?b c",
            "https://api.contoso.com/v1#a",
            "https://api.contoso.com:99999/v1/",
            "https:///v1/",
        ] {
            assert!(find(GRAPH, url).is_err(), "{url}");
        }
        for method in ["TRACE", "connect", "Track"] {
            assert_eq!(list(GRAPH).find(method, "https", "graph.microsoft.com", "/"), Err(Refused::Method));
        }
        assert_eq!(list(GRAPH).find("GET", "https", "graph.microsoft.com", "me"), Err(Refused::Unclear));
    }
}
