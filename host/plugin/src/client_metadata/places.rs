//! Places of fetches that run at the same time, and the shares of those that cause them.
//!
//! Threat: an attacker names documents on sites that never answer. Each fetch occupies an instance of the component
//! until it ends, so there are few places. No client address, none of its networks and no site has all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;

use crate::networks;

/// Fetches at the same time. Each occupies an instance of the component, and strangers cause them.
const MAX_FETCHES: usize = 16;

/// Fetches of one site (host and port) at the same time. One that answers is done in some milliseconds.
const MAX_OF_SITE: usize = 4;

/// Fetches that one client address causes at the same time. Its networks have a multiple.
const MAX_OF_CLIENT: usize = 2;

/// Fetches that any network causes at the same time, however large it is: a quarter is left for the others.
const MAX_OF_NETWORK: usize = 12;

/// The places that are taken.
pub(super) struct FetchPlaces {
    total: usize,
    taken: Arc<Mutex<HashMap<Sharer, usize>>>,
}

/// What places are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sharer {
    All,
    Site(String),
    Network(networks::Network),
}

/// A place. Dropping it gives it back.
pub(super) struct FetchPlace {
    sharers: Vec<Sharer>,
    taken: Arc<Mutex<HashMap<Sharer, usize>>>,
}

impl Default for FetchPlaces {
    fn default() -> Self {
        Self { total: MAX_FETCHES, taken: Arc::default() }
    }
}

impl FetchPlaces {
    /// A place for the fetch of `url`, which `client` causes; none if one of them, or all together, have their share.
    pub(super) fn take(&self, url: &Url, client: Option<IpAddr>) -> Option<FetchPlace> {
        let site = format!("{}:{}", url.host_str()?, url.port_or_known_default().unwrap_or_default());
        let mut bounds = vec![(Sharer::All, self.total), (Sharer::Site(site), MAX_OF_SITE)];
        for network in client.into_iter().flat_map(networks::of) {
            let factor = usize::try_from(network.factor).unwrap_or(usize::MAX);
            bounds.push((Sharer::Network(network), MAX_OF_CLIENT.saturating_mul(factor).min(MAX_OF_NETWORK)));
        }
        let mut taken = lock(&self.taken);
        if bounds.iter().any(|(sharer, most)| taken.get(sharer).is_some_and(|has| has >= most)) {
            return None;
        }
        let sharers: Vec<_> = bounds.into_iter().map(|(sharer, _)| sharer).collect();
        for sharer in &sharers {
            let has = taken.entry(sharer.clone()).or_default();
            *has = has.saturating_add(1);
        }
        drop(taken);
        Some(FetchPlace { sharers, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for FetchPlace {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        for sharer in &self.sharers {
            let left = taken.get(sharer).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                taken.remove(sharer);
            } else {
                taken.insert(sharer.clone(), left);
            }
        }
    }
}

fn lock(taken: &Mutex<HashMap<Sharer, usize>>) -> MutexGuard<'_, HashMap<Sharer, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 64 fetches get a place, each of another site.
    fn got(places: &FetchPlaces, client: impl Fn(usize) -> Option<&'static str>) -> Vec<FetchPlace> {
        let take = |number: usize| {
            let url = format!("https://site-{number}.example/client.json");
            places.take(&url.parse().unwrap(), client(number).map(|address| address.parse().unwrap()))
        };
        (0..64).filter_map(take).collect()
    }

    #[test]
    fn one_client_address_has_two_places_its_networks_some_more_and_none_has_all() {
        const OF_56: [&str; 8] = [
            "2001:db8:0:1::1",
            "2001:db8:0:2::1",
            "2001:db8:0:3::1",
            "2001:db8:0:4::1",
            "2001:db8:0:5::1",
            "2001:db8:0:6::1",
            "2001:db8:0:7::1",
            "2001:db8:0:8::1",
        ];
        const OF_48: [&str; 8] = [
            "2001:db8:0:100::1",
            "2001:db8:0:200::1",
            "2001:db8:0:300::1",
            "2001:db8:0:400::1",
            "2001:db8:0:500::1",
            "2001:db8:0:600::1",
            "2001:db8:0:700::1",
            "2001:db8:0:800::1",
        ];
        assert_eq!(got(&FetchPlaces::default(), |_| Some("203.0.113.1")).len(), 2);
        assert_eq!(got(&FetchPlaces::default(), |_| Some("2001:db8::1")).len(), 2);
        assert_eq!(got(&FetchPlaces::default(), |number| Some(OF_56[number % 8])).len(), 8);
        assert_eq!(got(&FetchPlaces::default(), |number| Some(OF_48[number % 8])).len(), 12);
        assert_eq!(got(&FetchPlaces::default(), |_| None).len(), 16);
    }

    #[test]
    fn four_addresses_that_hold_what_they_can_leave_places_for_others() {
        const ATTACKERS: [&str; 4] = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"];
        let places = FetchPlaces::default();
        let held = got(&places, |number| Some(ATTACKERS[number % 4]));
        assert_eq!(held.len(), 8);
        let good = "https://client.example/client.json".parse().unwrap();
        assert!(places.take(&good, Some("198.51.100.1".parse().unwrap())).is_some());
        drop(held);
        assert!(lock(&places.taken).is_empty(), "what has no place is forgotten");
    }

    #[test]
    fn one_site_has_four_places_whoever_asks_for_it() {
        let places = FetchPlaces::default();
        let url: Url = "https://hangs.example/a".parse().unwrap();
        let other: Url = "https://hangs.example:8443/a".parse().unwrap();
        let clients = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5"];
        let held: Vec<_> = clients.iter().filter_map(|client| places.take(&url, client.parse().ok())).collect();
        assert_eq!(held.len(), 4);
        assert!(places.take(&other, None).is_some());
    }
}
