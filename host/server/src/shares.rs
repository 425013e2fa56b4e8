//! Shares a bounded amount among clients, so that no client, and no network of clients, occupies everything.
//!
//! Two rules. No address occupies more than half, and neither does a /56 or a /48, which is what one customer of a
//! provider of IPv6 gets. And when there is no room left, the greediest gives way: the one that occupies most loses what
//! has stood still for longest, as long as it then still has more than the newcomer. So the share of each shrinks with
//! the number of those that want one, down to equal parts, and a client that occupies little is served whatever the
//! others do.
//!
//! What may not be in it: what is shared (connections, bytes of request bodies), and how it is given up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::activity::{Activity, Standing};

/// Bits of the networks that an IPv6 address is counted in, the widest first. A provider gives a customer a /48 or a
/// /56 (RFC 6177), and a client has a /64 to itself.
const NETWORKS: [u32; 3] = [48, 56, 64];

/// The networks of an address, the widest first. An IPv4 address stands for itself in all of them.
type Networks = [IpAddr; NETWORKS.len()];

/// The address that stands for all clients counted together: an IPv6 client has a /64 to itself.
pub(super) fn of(address: IpAddr) -> IpAddr {
    let [.., client] = networks(address);
    client
}

fn networks(address: IpAddr) -> Networks {
    NETWORKS.map(|bits| match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let kept = u128::MAX.checked_shl(u128::BITS.saturating_sub(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & kept).into()
        }
    })
}

/// What is shared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of all clients together.
    pub(super) most: usize,
    /// Of one address, and of one network.
    pub(super) most_each: usize,
    /// Whether a client that occupies nothing yet displaces even one that occupies as little as it is going to.
    pub(super) newcomers_first: bool,
}

/// An amount that clients share. What occupies nothing is not remembered.
pub(super) struct Shares {
    bounds: Bounds,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    occupied: usize,
    networks: HashMap<(usize, IpAddr), Arc<AtomicUsize>>,
    holders: HashMap<u64, Holder>,
    next: u64,
}

/// A connection, or a body that is being sent: what can be displaced.
struct Holder {
    client: Option<Client>,
    amount: usize,
    activity: Arc<Activity>,
    displaced: Arc<Notify>,
}

/// Whose it is, and what the networks of that client occupy. The numbers change under the lock of the table only.
struct Client {
    networks: Networks,
    occupied: [Arc<AtomicUsize>; NETWORKS.len()],
}

/// What stands in the way of a larger share.
#[derive(Clone, Copy)]
enum Obstacle {
    /// There is no room at all.
    Full,
    /// This network, by its place in [`NETWORKS`], occupies its part already.
    Network(usize),
}

/// What one connection or request occupies. Dropping it gives the amount back.
pub(super) struct Share {
    shares: Arc<Shares>,
    /// `None` for a proxy, which stands for all its clients.
    networks: Option<Networks>,
    activity: Arc<Activity>,
    displaced: Arc<Notify>,
    /// Its holder in the table, while it can be displaced.
    id: Option<u64>,
    /// What it occupies besides, which is not displaced.
    settled: usize,
}

impl Shares {
    /// Nothing is occupied yet.
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, table: Mutex::default() })
    }

    /// A share of nothing, for a client or (`None`) for a proxy, which has no bound of its own. `activity` says whether
    /// it may be displaced, and what has stood still for longest.
    pub(super) fn share(self: &Arc<Self>, client: Option<IpAddr>, activity: &Arc<Activity>) -> Share {
        Share {
            shares: Arc::clone(self),
            networks: client.map(networks),
            activity: Arc::clone(activity),
            displaced: Arc::default(),
            id: None,
            settled: 0,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Whether there is, or is made, room for so much more. If not, nothing changes. `wanted` is what the share is going
    /// to need, as far as that is known; that much at least its client will occupy, when it is compared with others.
    pub(super) fn grow(&mut self, more: usize, wanted: usize) -> bool {
        let shares = Arc::clone(&self.shares);
        let mut table = shares.table();
        if !self.is_held(&table) || !self.make_room(&mut table, more, wanted) {
            return false;
        }
        if more == 0 {
            return true;
        }
        let id = *self.id.get_or_insert_with(|| table.enter(self.networks, &self.activity, &self.displaced));
        table.add(id, more);
        true
    }

    /// The same for the last of it: the whole is not displaced any more, and counts for no client.
    pub(super) fn grow_to_the_end(&mut self, more: usize) -> bool {
        let shares = Arc::clone(&self.shares);
        let mut table = shares.table();
        if !self.is_held(&table) || !self.make_room(&mut table, more, more) {
            return false;
        }
        let held = self.id.take().map_or(0, |id| table.remove(id));
        self.settled = self.settled.saturating_add(held).saturating_add(more);
        table.occupied = table.occupied.saturating_add(held).saturating_add(more);
        true
    }

    /// Whether nothing was displaced.
    fn is_held(&self, table: &Table) -> bool {
        self.id.is_none_or(|id| table.holders.contains_key(&id))
    }

    fn make_room(&self, table: &mut Table, more: usize, wanted: usize) -> bool {
        while let Some(obstacle) = table.obstacle(self.shares.bounds, self.networks, more) {
            let displaced = table.greediest(self.networks, obstacle, self.shares.bounds, wanted.max(more));
            let Some(id) = displaced else { return false };
            if let Some(holder) = table.holders.get(&id) {
                holder.displaced.notify_one();
            }
            table.remove(id);
        }
        true
    }

    /// Completes when the share is given to another client. Its amount is not occupied any more.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }

    /// Occupies so much from now on, whether or not there is room, and is not displaced.
    pub(super) fn settle(&mut self, amount: usize) {
        if self.id.is_none() && self.settled == amount {
            return;
        }
        let shares = Arc::clone(&self.shares);
        let mut table = shares.table();
        if let Some(id) = self.id.take() {
            table.remove(id);
        }
        table.occupied = table.occupied.saturating_sub(self.settled).saturating_add(amount);
        self.settled = amount;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}

impl Table {
    fn occupied_by(&self, network: (usize, IpAddr)) -> usize {
        self.networks.get(&network).map_or(0, |occupied| occupied.load(Ordering::Relaxed))
    }

    /// The widest first: a network that has its part may have no more, even where there is room.
    fn obstacle(&self, bounds: Bounds, networks: Option<Networks>, more: usize) -> Option<Obstacle> {
        let has_its_part = |network| self.occupied_by(network).saturating_add(more) > bounds.most_each;
        let network = networks.into_iter().flatten().enumerate().find(|network| has_its_part(*network));
        let full = || (self.occupied.saturating_add(more) > bounds.most).then_some(Obstacle::Full);
        network.map(|(place, _)| Obstacle::Network(place)).or_else(full)
    }

    /// What has to give way to a newcomer, if anything has to.
    fn greediest(&self, newcomer: Option<Networks>, obstacle: Obstacle, bounds: Bounds, wanted: usize) -> Option<u64> {
        let in_the_way = |holder: &Holder| match (obstacle, &holder.client, newcomer) {
            (Obstacle::Full, ..) => true,
            (Obstacle::Network(place), Some(client), Some(newcomer)) => {
                client.networks.get(place) == newcomer.get(place)
            }
            (Obstacle::Network(_), ..) => false,
        };
        let displaceable = self.holders.iter().filter_map(|(id, holder)| {
            let standing = holder.activity.standing();
            let may_go = match &holder.client {
                Some(_) => standing != Standing::Busy,
                // The connection of a proxy belongs to many clients while it is in use.
                None => standing == Standing::Idle,
            };
            (may_go && in_the_way(holder)).then_some((*id, holder, standing))
        });
        let (id, holder, _) = displaceable.max_by_key(|(_, holder, standing)| {
            let occupied = holder.client.as_ref().map(|client| client.occupied.each_ref().map(load));
            (occupied, Reverse(*standing), Reverse(holder.activity.progressed()))
        })?;
        let (Some(newcomer), Some(client)) = (newcomer, &holder.client) else { return Some(id) };
        // Within a network that both are in, its parts are compared.
        let apart = newcomer.iter().zip(&client.networks).position(|(newcomer, other)| newcomer != other)?;
        let others = client.occupied.get(apart).map_or(0, load);
        let before = self.occupied_by((apart, *newcomer.get(apart)?));
        let gives_way = before.saturating_add(wanted) < others || (before == 0 && bounds.newcomers_first);
        gives_way.then_some(id)
    }

    fn enter(&mut self, networks: Option<Networks>, activity: &Arc<Activity>, displaced: &Arc<Notify>) -> u64 {
        let client = networks.map(|networks| {
            let mut place = 0..;
            let occupied = networks.map(|network| {
                let place = place.next().unwrap_or_default();
                Arc::clone(self.networks.entry((place, network)).or_default())
            });
            Client { networks, occupied }
        });
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let holder = Holder { client, amount: 0, activity: Arc::clone(activity), displaced: Arc::clone(displaced) };
        self.holders.insert(id, holder);
        id
    }

    fn add(&mut self, id: u64, more: usize) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        holder.amount = holder.amount.saturating_add(more);
        self.occupied = self.occupied.saturating_add(more);
        for occupied in holder.client.iter().flat_map(|client| &client.occupied) {
            occupied.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Returns what was occupied.
    fn remove(&mut self, id: u64) -> usize {
        let Some(holder) = self.holders.remove(&id) else { return 0 };
        self.occupied = self.occupied.saturating_sub(holder.amount);
        if let Some(client) = &holder.client {
            for (place, (network, occupied)) in client.networks.iter().zip(&client.occupied).enumerate() {
                if occupied.fetch_sub(holder.amount, Ordering::Relaxed) == holder.amount {
                    self.networks.remove(&(place, *network));
                }
            }
        }
        holder.amount
    }
}

fn load(occupied: &Arc<AtomicUsize>) -> usize {
    occupied.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
