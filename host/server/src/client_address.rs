//! From which address a request comes, where proxies stand between.
//!
//! Every proxy appends the address that it was connected from, so only the end of the list is its word; what stands
//! before may be the client's invention. The list is read from its end, as long as the address that named the next
//! one is a declared proxy.
//!
//! One header counts, which the operator names. A proxy writes one of the two, and passes on what a client wrote into the
//! other one: a server that read both would let the client choose, or hide its address behind the contradiction.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// In which header declared proxies say where a request comes from. The other one is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The address that is responsible for a request which came from `peer`.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet], counts: ForwardedHeader) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    match counts {
        ForwardedHeader::XForwardedFor => walk(peer, headers, X_FORWARDED_FOR, bare, trusted),
        ForwardedHeader::Forwarded => walk(peer, headers, FORWARDED.as_str(), forwarded_for, trusted),
    }
}

/// What to tell the operator of a proxy that sends the header which does not count, and not the one that does.
pub(super) fn misnamed(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
    counts: ForwardedHeader,
) -> Option<&'static str> {
    let (counted, other, advice) = match counts {
        ForwardedHeader::XForwardedFor => (
            X_FORWARDED_FOR,
            FORWARDED.as_str(),
            "a declared proxy sends Forwarded, and --forwarded-header is x-forwarded-for",
        ),
        ForwardedHeader::Forwarded => (
            FORWARDED.as_str(),
            X_FORWARDED_FOR,
            "a declared proxy sends X-Forwarded-For, and --forwarded-header is forwarded",
        ),
    };
    let is_misnamed = is_trusted(peer, trusted) && headers.contains_key(other) && !headers.contains_key(counted);
    is_misnamed.then_some(advice)
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

fn walk(
    peer: IpAddr,
    headers: &HeaderMap,
    name: &str,
    address: fn(&str) -> Option<IpAddr>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut last = peer;
    let lines: Vec<_> = headers.get_all(name).into_iter().collect();
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { return last };
        for element in line.rsplit(',') {
            let Some(address) = address(element.trim()) else { return last };
            if !is_trusted(address, trusted) {
                return address;
            }
            last = address;
        }
    }
    last
}

/// An address, perhaps with a port.
fn bare(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address: IpAddr = match bracketed.unwrap_or(text).parse() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

/// The address in an element of `Forwarded` (RFC 7239). Elements end at every comma, quoted or not: addresses have none,
/// and a quotation mark that a client opens must not swallow what a proxy appends.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut values = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    // Each parameter occurs once per element (RFC 7239 section 4). If there are two, one is not the proxy's.
    let value = values.next().filter(|_| values.next().is_none())?;
    bare(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// The client by the header that the first line is of.
    fn client(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let of_rfc_7239 = lines.first().is_some_and(|(name, _)| *name == "forwarded");
        client_by(if of_rfc_7239 { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor }, peer, lines)
    }

    fn client_by(counts: ForwardedHeader, peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_address(peer.parse().unwrap(), &headers, &trusted, counts).to_string()
    }

    #[test]
    fn who_is_no_declared_proxy_is_the_client_whatever_it_says() {
        let said = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")];
        assert_eq!(client("203.0.113.9", &said), "203.0.113.9");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (lines, expected) in [
            (&[("x-forwarded-for", "203.0.113.9")][..], "203.0.113.9"),
            (&[("x-forwarded-for", "6.6.6.6, 203.0.113.9")], "203.0.113.9"),
            (&[("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.2")], "203.0.113.9"),
            (&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
            (&[("x-forwarded-for", "203.0.113.9:4711")], "203.0.113.9"),
            (&[("x-forwarded-for", "2001:db8::9, fd00::1")], "2001:db8::9"),
            (&[("x-forwarded-for", "[2001:db8::9]:4711")], "2001:db8::9"),
            (&[("x-forwarded-for", "::ffff:203.0.113.9")], "203.0.113.9"),
            (&[("forwarded", "for=6.6.6.6, For=\"[2001:db8::9]:4711\";proto=https")], "2001:db8::9"),
            (&[("forwarded", "proto=https;for=203.0.113.9;by=10.0.0.1")], "203.0.113.9"),
        ] {
            assert_eq!(client(PROXY, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk_at_the_last_proxy() {
        for lines in [
            &[][..],
            &[("x-forwarded-for", "")],
            &[("x-forwarded-for", "6.6.6.6, unknown")],
            &[("x-forwarded-for", "6.6.6.6,")],
            &[("forwarded", "for=_hidden")],
            &[("forwarded", "by=6.6.6.6")],
        ] {
            assert_eq!(client(PROXY, lines), PROXY, "{lines:?}");
        }
        assert_eq!(client(PROXY, &[("x-forwarded-for", "6.6.6.6, unknown, 10.0.0.7")]), "10.0.0.7");
    }

    #[test]
    fn what_a_client_invents_does_not_reach_beyond_what_a_proxy_appends() {
        for (lines, expected) in [
            (&[("forwarded", "for=\"10.0.0.9, for=203.0.113.9")][..], "203.0.113.9"),
            (&[("forwarded", "for=\"6.6.6.6"), ("forwarded", "for=203.0.113.9")], "203.0.113.9"),
            (&[("forwarded", "for=10.0.0.9;by=\", for=203.0.113.9;proto=https, for=10.0.0.2")], "203.0.113.9"),
            (&[("x-forwarded-for", "127.0.0.1, 10.0.0.9, 203.0.113.9, 10.0.0.3, 10.0.0.2")], "203.0.113.9"),
            (&[("x-forwarded-for", "fd00::1, ::ffff:203.0.113.9, ::ffff:10.0.0.2")], "203.0.113.9"),
            (&[("x-forwarded-for", "6.6.6.6:99999, 203.0.113.9:80, [fd00::2]:443")], "203.0.113.9"),
        ] {
            assert_eq!(client(PROXY, lines), expected, "{lines:?}");
        }
        for lines in [
            &[("forwarded", "for=6.6.6.6;for=203.0.113.9")][..],
            &[("forwarded", "for=\"6.6.6.6")],
            &[("forwarded", "for=6.6.6.6 for=203.0.113.9")],
            &[("x-forwarded-for", "6.6.6.6 203.0.113.9")],
            &[("x-forwarded-for", "6.6.6.6:99999")],
            &[("x-forwarded-for", "6.6.6.6/8")],
            &[("x-forwarded-for", "[6.6.6.6")],
            &[("x-forwarded-for", "006.6.6.6")],
            &[("x-forwarded-for", "fe80::1%eth0")],
            &[("x-forwarded-for", "for=6.6.6.6")],
        ] {
            assert_eq!(client(PROXY, lines), PROXY, "{lines:?}");
        }
    }

    #[test]
    fn a_proxy_that_sends_the_other_header_alone_is_named() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let said = |counts, peer: &str, names: &[&'static str]| {
            let headers = names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")));
            misnamed(peer.parse().unwrap(), &headers.collect(), &trusted, counts)
        };
        let (counts, advice) = (ForwardedHeader::XForwardedFor, "a declared proxy sends Forwarded, and");
        assert!(said(counts, PROXY, &["forwarded"]).is_some_and(|said| said.starts_with(advice)));
        assert!(said(ForwardedHeader::Forwarded, PROXY, &["x-forwarded-for"]).is_some());
        for (peer, names) in [
            (PROXY, &[][..]),
            (PROXY, &["x-forwarded-for"]),
            (PROXY, &["x-forwarded-for", "forwarded"]),
            ("1.1.1.1", &["forwarded"]),
        ] {
            assert_eq!(said(counts, peer, names), None, "{peer} {names:?}");
        }
    }

    #[test]
    fn an_address_beyond_the_declared_network_is_no_proxy() {
        let said = [("x-forwarded-for", "6.6.6.6")];
        for (peer, expected) in
            [("10.255.255.255", "6.6.6.6"), ("11.0.0.0", "11.0.0.0"), ("fdff::1", "6.6.6.6"), ("fe00::1", "fe00::1")]
        {
            assert_eq!(client(peer, &said), expected);
        }
    }

    #[test]
    fn one_header_counts_and_the_other_is_a_clients_whatever_it_says() {
        let named = [("x-forwarded-for", "203.0.113.9")];
        for lie in ["x", "", "for=6.6.6.6", "for=203.0.113.9", "for=10.0.0.1", "for=_hidden"] {
            assert_eq!(client(PROXY, &[named[0], ("forwarded", lie)]), "203.0.113.9", "{lie}");
            assert_eq!(client_by(ForwardedHeader::XForwardedFor, PROXY, &[("forwarded", lie)]), PROXY, "{lie}");
        }
        let named = [("forwarded", "for=203.0.113.9")];
        for lie in ["x", "", "6.6.6.6", "10.0.0.1", "203.0.113.9"] {
            assert_eq!(client(PROXY, &[named[0], ("x-forwarded-for", lie)]), "203.0.113.9", "{lie}");
            assert_eq!(client_by(ForwardedHeader::Forwarded, PROXY, &[("x-forwarded-for", lie)]), PROXY, "{lie}");
        }
    }
}
