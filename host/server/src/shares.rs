//! Counts what each client address occupies, so that no single address occupies everything.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An amount by address. Addresses that occupy nothing are not remembered.
pub(super) struct Shares {
    most: usize,
    occupied: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// What one client address occupies. Dropping it gives the amount back.
pub(super) struct Share {
    most: usize,
    occupied: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
    amount: usize,
}

/// The address that stands for all clients counted together: an IPv6 client has a /64 to itself.
pub(super) fn of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl Shares {
    /// No address occupies more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, occupied: Arc::default() }
    }

    /// `None` if the address occupies too much already.
    pub(super) fn take(&self, address: IpAddr, amount: usize) -> Option<Share> {
        let occupied = Arc::clone(&self.occupied);
        let mut share = Share { most: self.most, occupied, address: of(address), amount: 0 };
        share.grow(amount).then_some(share)
    }
}

impl Share {
    fn occupied(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.occupied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for so much more. If not, nothing changes.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let mut occupied = self.occupied();
        let before = occupied.get(&self.address).copied().unwrap_or(0);
        let after = before.saturating_add(more);
        let fits = after <= self.most;
        if fits && after > 0 {
            occupied.insert(self.address, after);
        }
        drop(occupied);
        if fits {
            self.amount = self.amount.saturating_add(more);
        }
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut occupied = self.occupied();
        let left = occupied.get(&self.address).copied().unwrap_or(0).saturating_sub(self.amount);
        if left == 0 {
            occupied.remove(&self.address);
        } else {
            occupied.insert(self.address, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_others_have_theirs() {
        let shares = Shares::new(3);
        let address = |text: &str| text.parse().unwrap();
        let mut first = shares.take(address("203.0.113.1"), 2).unwrap();
        assert!(shares.take(address("203.0.113.1"), 2).is_none());
        assert!(!first.grow(2));
        assert!(first.grow(1));
        let _other = shares.take(address("203.0.113.2"), 3).unwrap();
        drop(first);
        assert!(shares.take(address("203.0.113.1"), 3).is_some());
        assert_eq!(shares.occupied.lock().unwrap().len(), 1, "an address that occupies nothing is forgotten");
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let shares = Shares::new(1);
        let _first = shares.take("2001:db8::1".parse().unwrap(), 1).unwrap();
        assert!(shares.take("2001:db8::ffff:2".parse().unwrap(), 1).is_none());
        assert!(shares.take("2001:db8:0:1::1".parse().unwrap(), 1).is_some());
    }
}
