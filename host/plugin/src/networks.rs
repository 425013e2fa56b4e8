//! The networks in which an address counts.
//!
//! One subscriber of IPv6 has at least a /64, often a /56, and an organisation a /48. A bound of a single address or of
//! a /64 alone does not stop an attacker with a larger network. So an address counts in all three. The larger ones have
//! a multiple of the bound of the smallest, because several subscribers may share them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Lengths of the prefixes of IPv6 by which an address is counted, each with how many times the bound of the smallest
/// network the network as a whole has. One /56 has as much as four clients, one /48 as sixteen.
static PREFIXES: [(u32, u32); 3] = [(64, 1), (56, 4), (48, 16)];

/// A network that an address is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    address: IpAddr,
    /// How many times the bound of one client it has.
    pub(crate) factor: u32,
}

impl std::fmt::Display for Network {
    /// As it is counted: an address of IPv4 or a /64 by its address alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match PREFIXES.iter().find(|(_, factor)| *factor == self.factor) {
            Some((length, factor)) if *factor > 1 => write!(f, "{}/{length}", self.address),
            _ => write!(f, "{}", self.address),
        }
    }
}

/// The networks that an address is counted in, from the smallest to the largest. An address of IPv4 stands for itself:
/// the neighbours of a shared one are other people.
pub(crate) fn of(address: IpAddr) -> impl DoubleEndedIterator<Item = Network> {
    let prefixes = match address.to_canonical() {
        IpAddr::V4(_) => PREFIXES.get(..1).unwrap_or_default(),
        IpAddr::V6(_) => PREFIXES.as_slice(),
    };
    prefixes.iter().map(move |(length, factor)| {
        let address = match address.to_canonical() {
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(Ipv6Addr::BITS - length).unwrap_or_default();
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
            address @ IpAddr::V4(_) => address,
        };
        Network { address, factor: *factor }
    })
}

/// The addresses that one attacker may well have all of, a /24 and a /48 of IPv6, by the first of them. None if this is no
/// address.
pub(crate) fn neighbourhood(address: &str) -> Option<String> {
    let network = match address.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        address @ IpAddr::V6(_) => of(address).next_back()?.address,
    };
    Some(network.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(address: &str) -> Vec<String> {
        of(address.parse().unwrap()).map(|network| network.to_string()).collect()
    }

    #[test]
    fn an_address_of_ipv6_is_in_three_networks_and_one_of_ipv4_is_itself() {
        assert_eq!(named("2001:db8:1:203:4::5"), ["2001:db8:1:203::", "2001:db8:1:200::/56", "2001:db8:1::/48"]);
        assert_eq!(named("203.0.113.1"), ["203.0.113.1"]);
        assert_eq!(named("::ffff:203.0.113.1"), ["203.0.113.1"]);
        let factors: Vec<u32> = of("2001:db8::1".parse().unwrap()).map(|network| network.factor).collect();
        assert_eq!(factors, [1, 4, 16]);
    }
}
