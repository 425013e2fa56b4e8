//! Which addresses belong to the public Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            // Where a gateway or an operating system would unwrap the address, the inner one counts.
            Some(Embedded::Translated(inner)) => is_public_v4(inner),
            Some(Embedded::Mapped) => false,
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast();
    let this_network = a == 0;
    let shared = a == 100 && (64..=127).contains(&b); // RFC 6598, carrier-grade NAT
    let protocol = a == 192 && b == 0 && c == 0; // RFC 6890
    let benchmark = a == 198 && (18..=19).contains(&b); // RFC 2544
    let reserved = a >= 240; // RFC 1112
    !(special || this_network || shared || protocol || benchmark || reserved)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let global = (0x2000..=0x3fff).contains(&first); // RFC 4291: all that is globally routed
    let documentation = (first == 0x2001 && second == 0x0db8) || first == 0x3fff; // RFC 3849, RFC 9637
    let tunnel = first == 0x2002 || (first == 0x2001 && second == 0); // 6to4, Teredo: wrap IPv4 addresses
    global && !documentation && !tunnel
}

enum Embedded {
    /// `::ffff:0:0/96` and `::/96`: the operating system may connect to the inner address.
    Mapped,
    /// `64:ff9b::/96` (RFC 6052): IPv6-only networks reach IPv4 servers through it.
    Translated(Ipv4Addr),
}

fn embedded_v4(address: Ipv6Addr) -> Option<Embedded> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff | 0] => Some(Embedded::Mapped),
        [0x64, 0xff9b, 0, 0, 0, 0] => {
            let [[g0, g1], [h0, h1]] = [g.to_be_bytes(), h.to_be_bytes()];
            Some(Embedded::Translated(Ipv4Addr::new(g0, g1, h0, h1)))
        }
        _ => None,
    }
}
