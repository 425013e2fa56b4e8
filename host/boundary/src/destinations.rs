//! The destinations to which the requests of a tool may go.
//!
//! Scheme, host and port are compared exactly, after one parser has read both sides; the prefix of the path is compared
//! segment by segment, as it is written. A path that servers read in different ways (dot segments, encoded dots and
//! slashes, backslashes) fits no prefix but the empty one. A request goes to the configured origin with the path as the
//! tool wrote it: no second parser can find another host in it.
//!
//! The caller parses the origin: the program has a library for it, which is too large for the keeper.

use std::fmt;

/// Microsoft Graph as tools name it, in every cloud.
pub const GRAPH: &str = "https://graph.microsoft.com";

/// Whether a method could make a server repeat the request, or open a tunnel.
pub fn is_risky(method: &str) -> bool {
    ["TRACE", "TRACK", "CONNECT"].iter().any(|risky| method.eq_ignore_ascii_case(risky))
}

/// A URL without query: an origin (scheme, host and port), and the path below it. The path of a destination has no
/// slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPlace<O> {
    /// Scheme, host and port.
    pub origin: O,
    /// The path as it is written.
    pub path: String,
}

/// The destination of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Destination<O> {
    /// The origin and the prefix of the path.
    pub place: UrlPlace<O>,
    /// The permissions of the token that is added. Empty: no token is added.
    pub permissions: Vec<String>,
}

impl<O> Destination<O> {
    /// Whether the path is the prefix or below it.
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.place.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl<O: fmt::Display> fmt::Display for Destination<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/", self.place.origin, self.place.path)
    }
}

/// The destinations of a tool.
#[derive(Debug)]
pub struct Destinations<O> {
    entries: Vec<Destination<O>>,
    /// Where tools name Microsoft Graph, and where it is, if it is not there.
    graph: Option<(O, UrlPlace<O>)>,
}

/// Why a request is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Servers read its path in different ways, and the destination has a prefix.
    UnclearPath,
    /// No entry has this destination.
    NotListed {
        /// One has its origin.
        origin_is_listed: bool,
    },
}

impl<O: Clone + PartialEq> Destinations<O> {
    /// None, for now. `known` is what [`GRAPH`] is parsed to, and `graph` the base URL of Microsoft Graph that is configured.
    pub fn new(known: Option<UrlPlace<O>>, graph: Option<UrlPlace<O>>) -> Self {
        let moved = known.zip(graph).filter(|(known, graph)| known != graph);
        Self { entries: Vec::new(), graph: moved.map(|(known, graph)| (known.origin, graph)) }
    }

    /// Adds a destination.
    pub fn add(&mut self, place: UrlPlace<O>, permissions: Vec<String>) {
        let place = self.moved(place);
        self.entries.push(Destination { place, permissions });
    }

    /// Whether there is a destination with this very place.
    pub fn has(&self, place: &UrlPlace<O>) -> bool {
        let place = self.moved(place.clone());
        self.entries.iter().any(|entry| entry.place == place)
    }

    /// All of them.
    pub fn entries(&self) -> impl Iterator<Item = &Destination<O>> {
        self.entries.iter()
    }

    /// The destination of a request to this place, and where it goes.
    pub fn find(&self, place: UrlPlace<O>) -> Result<(&Destination<O>, UrlPlace<O>), Refused> {
        let place = self.moved(place);
        let at_origin = || self.entries.iter().filter(|entry| entry.place.origin == place.origin);
        let unclear = is_ambiguous(&place.path);
        let fitting =
            at_origin().filter(|entry| entry.covers(&place.path) && (!unclear || entry.place.path.is_empty()));
        match fitting.max_by_key(|entry| entry.place.path.len()) {
            Some(destination) => Ok((destination, place)),
            None => {
                let origin_is_listed = at_origin().next().is_some();
                let unclear_path = unclear && origin_is_listed;
                Err(if unclear_path { Refused::UnclearPath } else { Refused::NotListed { origin_is_listed } })
            }
        }
    }

    /// Requests to Microsoft Graph go to where it is.
    fn moved(&self, place: UrlPlace<O>) -> UrlPlace<O> {
        match &self.graph {
            Some((known, graph)) if place.origin == *known => {
                UrlPlace { origin: graph.origin.clone(), path: format!("{}{}", graph.path, place.path) }
            }
            _ => place,
        }
    }
}

/// Whether servers may read a path in different ways.
pub fn is_ambiguous(path: &str) -> bool {
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

    const GRAPH: &str = "graph";

    fn place(origin: &'static str, path: &str) -> UrlPlace<&'static str> {
        UrlPlace { origin, path: path.to_owned() }
    }

    fn list() -> Destinations<&'static str> {
        let mut list = Destinations::new(Some(place(GRAPH, "")), Some(place("elsewhere", "/graph")));
        for entry in [place("api", "/v1"), place("api", "/v1/admin"), place("open", ""), place(GRAPH, "")] {
            let permissions = vec![entry.path.clone()];
            list.add(entry, permissions);
        }
        list
    }

    #[test]
    fn the_longest_prefix_decides_and_ends_at_a_segment() {
        let list = list();
        for (path, prefix) in [("/v1", "/v1"), ("/v1/administrators", "/v1"), ("/v1/admin/x", "/v1/admin")] {
            let (found, target) = list.find(place("api", path)).unwrap();
            assert_eq!((found.permissions.as_slice(), target), (&[prefix.to_owned()][..], place("api", path)));
        }
        let listed = Err(Refused::NotListed { origin_is_listed: true });
        assert_eq!(list.find(place("api", "/v10")), listed);
        assert_eq!(list.find(place("other", "/v1")), Err(Refused::NotListed { origin_is_listed: false }));
    }

    #[test]
    fn a_path_that_servers_read_in_different_ways_fits_no_prefix_but_the_empty_one() {
        let list = list();
        for path in ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/..;/admin", "/v1/%c0%ae", "/v1/%", "/v1/a b", "/v1\\x"] {
            assert_eq!(list.find(place("api", path)), Err(Refused::UnclearPath), "{path}");
            assert!(list.find(place("open", path)).is_ok(), "{path}");
            assert_eq!(list.find(place("other", path)), Err(Refused::NotListed { origin_is_listed: false }), "{path}");
        }
    }

    #[test]
    fn requests_to_graph_go_to_where_it_is() {
        let (list, here) = (list(), place("elsewhere", "/graph/me"));
        assert_eq!(list.find(place(GRAPH, "/me")).unwrap().1, here);
        assert_eq!(list.find(here.clone()).unwrap().1, here);
        assert!(list.has(&place(GRAPH, "")) && list.has(&place("elsewhere", "/graph")));
        assert!(!list.has(&place("elsewhere", "")));
    }

    #[test]
    fn methods_that_reflect_requests_or_open_tunnels_are_risky() {
        assert!(["TRACE", "connect", "Track"].into_iter().all(is_risky));
        assert!(!is_risky("GET"));
    }
}
