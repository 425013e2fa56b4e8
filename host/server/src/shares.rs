//! Shares a bounded amount among clients, so that no client, and no network of clients, occupies everything.
//!
//! Two rules. No address occupies more than half, and neither does a /56 or a /48, which is what one customer of a
//! provider of IPv6 gets. And when there is no room left, the greediest gives way: the one that occupies most loses the
//! largest of what it has, and among equals what has stood still for longest, as long as it then still has more than the
//! newcomer. So the share of each shrinks with the number of those that want one, down to equal parts. A client that
//! occupies little gets in, unless it shares its network with the greediest.
//!
//! A body that is whole is at work, and nothing displaces it. So a further one of an address becomes whole only while the
//! address occupies no more than the whole ones of all leave: those of one address have half, those of four a fifth each. And
//! where they leave nothing, there is room to spare for one small body of each client.
//!
//! What may not be in it: what is shared (connections, bytes of request bodies), and how it is given up.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::activity::{Activity, Standing};

/// Bits of the networks that an IPv6 address is counted in, the widest first. A provider gives a customer a /48 or a
/// /56 (RFC 6177), and a client has a /64 to itself.
const NETWORKS: [u32; 3] = [48, 56, 64];

/// How many make room for one newcomer at most. Each is looked for among all, under the lock.
const MOST_DISPLACED: usize = 8;

/// The networks of an address, the widest first. An IPv4 address stands for itself in all of them.
pub(super) type Networks = [IpAddr; NETWORKS.len()];

/// The address that stands for all clients counted together: an IPv6 client has a /64 to itself.
pub(super) fn of(address: IpAddr) -> IpAddr {
    let [.., client] = networks(address);
    client
}

/// See [`Networks`].
pub(super) fn networks(address: IpAddr) -> Networks {
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
pub(super) struct ShareBounds {
    /// Of all clients together.
    pub(super) most: usize,
    /// Of one address, and of one network.
    pub(super) most_each: usize,
    /// What anything that occupies something costs at least. It bounds how many there are.
    pub(super) least: usize,
    /// Whether a client that occupies nothing yet displaces even one that occupies as little as it is going to.
    pub(super) newcomers_first: bool,
    /// Of a client that occupies nothing else, so much finds room also where there is none.
    pub(super) little: usize,
    /// Of all clients together, for that.
    pub(super) spare: usize,
}

/// An amount that clients share. What occupies nothing is not remembered.
pub(super) struct Shares {
    bounds: ShareBounds,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    occupied: usize,
    /// Of it, what is not displaced.
    whole: usize,
    /// Of it, what there was no other room for.
    spared: usize,
    networks: HashMap<(usize, IpAddr), Arc<AtomicUsize>>,
    /// How many of the widest networks occupy how much.
    ranks: BTreeMap<usize, usize>,
    holders: HashMap<u64, Holder>,
    next: u64,
}

/// A connection, a body, or a large answer.
struct Holder {
    client: Option<Client>,
    amount: usize,
    /// It is not displaced: a request with this body is at work, or it is an answer.
    is_whole: bool,
    /// There was no other room for it, see [`Bounds::little`].
    is_spared: bool,
    activity: Arc<Activity>,
    displaced: Arc<Displaced>,
}

/// Says that something has to give way.
#[derive(Default)]
struct Displaced {
    told: Notify,
    was_idle: AtomicBool,
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
    displaced: Arc<Displaced>,
    /// What it was grown by. It may cost more.
    used: usize,
    /// Its holder in the table, as long as it was not displaced.
    id: Option<u64>,
}

impl Shares {
    /// Nothing is occupied yet.
    pub(super) fn new(bounds: ShareBounds) -> Arc<Self> {
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
            used: 0,
            id: None,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// So much more finds room in one step, if enough can be displaced at all: all that is held costs the least at least.
    pub(super) fn step(&self) -> usize {
        self.shares.bounds.least.saturating_mul(MOST_DISPLACED)
    }

    /// Whether there is, or is made, room for so much more. If not, nothing changes. `wanted` is what the share is going
    /// to need, as far as that is known; that much at least its client will occupy, when it is compared with others.
    pub(super) fn grow(&mut self, more: usize, wanted: usize) -> bool {
        self.enlarge(more, wanted, false)
    }

    /// The same for the last of it: the whole is not displaced any more.
    pub(super) fn grow_to_the_end(&mut self, more: usize) -> bool {
        self.enlarge(more, more, true)
    }

    fn enlarge(&mut self, more: usize, wanted: usize, to_the_end: bool) -> bool {
        let shares = Arc::clone(&self.shares);
        let mut table = shares.table();
        let cost = self.cost_of(more);
        if !self.is_held(&table) || (to_the_end && !self.may_be_whole(&table, cost)) {
            return false;
        }
        // What is paid for needs no room.
        let has_room = cost == 0 || self.make_room(&mut table, cost, wanted);
        if !has_room && !self.is_little(&table, cost, wanted) {
            return false;
        }
        self.used = self.used.saturating_add(more);
        if cost > 0 && self.id.is_none() {
            self.id = Some(table.enter(self.networks, &self.activity, &self.displaced));
        }
        if let Some(id) = self.id.filter(|_| cost > 0 || to_the_end) {
            table.change(id, |holder| {
                holder.amount = holder.amount.saturating_add(cost);
                holder.is_whole |= to_the_end;
                holder.is_spared |= !has_room;
            });
        }
        true
    }

    /// What so much more costs, beyond what is paid for.
    fn cost_of(&self, more: usize) -> usize {
        self.cost(self.used.saturating_add(more)).saturating_sub(self.cost(self.used))
    }

    fn cost(&self, used: usize) -> usize {
        if used == 0 { 0 } else { used.max(self.shares.bounds.least) }
    }

    /// Whether nothing was displaced.
    fn is_held(&self, table: &Table) -> bool {
        self.id.is_none_or(|id| table.holders.contains_key(&id))
    }

    /// Whether it becomes whole with so much more: if its client occupies nothing else, or, with it, no more than is left of
    /// what is whole already.
    fn may_be_whole(&self, table: &Table, more: usize) -> bool {
        let own = self.cost(self.used);
        let holder = self.id.and_then(|id| table.holders.get(&id));
        if own.saturating_add(more) == 0 || holder.is_some_and(|holder| holder.is_whole) {
            return true;
        }
        let left = self.shares.bounds.most.saturating_sub(table.whole);
        self.networks.into_iter().flatten().enumerate().all(|network| {
            let occupied = table.occupied_by(network);
            occupied <= own || occupied.saturating_add(more) <= left
        })
    }

    /// Whether it is little, and all that its client occupies, and there is room to spare for it.
    fn is_little(&self, table: &Table, more: usize, wanted: usize) -> bool {
        let bounds = self.shares.bounds;
        let Some([widest, ..]) = self.networks else { return false };
        let own = self.cost(self.used);
        let holder = self.id.and_then(|id| table.holders.get(&id));
        let spared = holder.filter(|holder| holder.is_spared).map_or(0, |holder| holder.amount);
        let others = table.spared.saturating_sub(spared);
        self.used.saturating_add(wanted.max(more)) <= bounds.little
            && table.occupied_by((0, widest)) == own
            && others.saturating_add(own).saturating_add(more) <= bounds.spare
    }

    /// Displaces as few as there have to be, or none.
    fn make_room(&self, table: &mut Table, more: usize, wanted: usize) -> bool {
        let bounds = self.shares.bounds;
        let mut chosen = Vec::new();
        while let Some(obstacle) = table.obstacle(bounds, self.networks, more) {
            let next = (chosen.len() < MOST_DISPLACED && !table.is_greediest(self.networks, obstacle))
                .then(|| table.greediest(self.networks, obstacle, bounds, wanted.max(more)))
                .flatten();
            let Some((id, standing)) = next else {
                chosen.into_iter().rev().for_each(|(id, _, holder)| table.put_back(id, holder));
                return false;
            };
            chosen.extend(table.remove(id).map(|holder| (id, standing, holder)));
        }
        for (_, standing, holder) in chosen {
            holder.displaced.was_idle.store(standing == Standing::Idle, Ordering::Relaxed);
            holder.displaced.told.notify_one();
        }
        true
    }

    /// Completes when the share is given to another client, and returns whether nothing was going on then. Its amount is
    /// not occupied any more.
    pub(super) async fn displaced(&self) -> bool {
        self.displaced.told.notified().await;
        self.displaced.was_idle.load(Ordering::Relaxed)
    }

    /// Occupies so much from now on, whether or not there is room, and is not displaced.
    pub(super) fn settle(&mut self, amount: usize) {
        if self.id.is_none() && amount == 0 {
            return;
        }
        let shares = Arc::clone(&self.shares);
        let mut table = shares.table();
        if let Some(id) = self.id.take() {
            table.remove(id);
        }
        if amount > 0 {
            let id = table.enter(self.networks, &self.activity, &self.displaced);
            table.change(id, |holder| (holder.amount, holder.is_whole) = (amount, true));
            self.id = Some(id);
        }
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
    fn obstacle(&self, bounds: ShareBounds, networks: Option<Networks>, more: usize) -> Option<Obstacle> {
        let has_its_part = |network| self.occupied_by(network).saturating_add(more) > bounds.most_each;
        let network = networks.into_iter().flatten().enumerate().find(|network| has_its_part(*network));
        let full = || (self.occupied.saturating_add(more) > bounds.most).then_some(Obstacle::Full);
        network.map(|(place, _)| Obstacle::Network(place)).or_else(full)
    }

    /// Whether nothing gives way to a newcomer because no client occupies more, as is known without looking at all that is
    /// occupied.
    fn is_greediest(&self, newcomer: Option<Networks>, obstacle: Obstacle) -> bool {
        let Some([widest, .., client]) = newcomer else { return false };
        let occupied = self.occupied_by((0, widest));
        // In a network with other clients, these are compared.
        let is_alone = occupied > 0 && occupied == self.occupied_by((NETWORKS.len().saturating_sub(1), client));
        let most = self.ranks.last_key_value().map_or(0, |(most, _)| *most);
        is_alone && (matches!(obstacle, Obstacle::Network(_)) || occupied >= most)
    }

    /// What has to give way to a newcomer, if anything has to.
    fn greediest(
        &self,
        newcomer: Option<Networks>,
        obstacle: Obstacle,
        bounds: ShareBounds,
        wanted: usize,
    ) -> Option<(u64, Standing)> {
        let in_the_way = |holder: &Holder| match (obstacle, &holder.client, newcomer) {
            (Obstacle::Full, ..) => true,
            (Obstacle::Network(place), Some(client), Some(newcomer)) => {
                client.networks.get(place) == newcomer.get(place)
            }
            (Obstacle::Network(_), ..) => false,
        };
        let displaceable = self.holders.iter().filter(|(_, holder)| !holder.is_whole).filter_map(|(id, holder)| {
            let standing = holder.activity.standing();
            let may_go = match &holder.client {
                Some(_) => standing != Standing::Busy,
                // The connection of a proxy belongs to many clients while it is in use.
                None => standing <= Standing::Pausing,
            };
            (may_go && in_the_way(holder)).then_some((*id, holder, standing))
        });
        let (id, holder, standing) = displaceable.max_by_key(|(_, holder, standing)| {
            let occupied = holder.client.as_ref().map(|client| client.occupied.each_ref().map(load));
            (occupied, holder.amount, Reverse(*standing), Reverse(holder.activity.progressed()))
        })?;
        let (Some(newcomer), Some(client)) = (newcomer, &holder.client) else { return Some((id, standing)) };
        // Within a network that both are in, its parts are compared.
        let apart = newcomer.iter().zip(&client.networks).position(|(newcomer, other)| newcomer != other)?;
        let others = client.occupied.get(apart).map_or(0, load);
        let before = self.occupied_by((apart, *newcomer.get(apart)?));
        let gives_way = before.saturating_add(wanted) < others || (before == 0 && bounds.newcomers_first);
        gives_way.then_some((id, standing))
    }

    fn enter(&mut self, networks: Option<Networks>, activity: &Arc<Activity>, displaced: &Arc<Displaced>) -> u64 {
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
        let holder = Holder {
            client,
            amount: 0,
            is_whole: false,
            is_spared: false,
            activity: Arc::clone(activity),
            displaced: Arc::clone(displaced),
        };
        self.holders.insert(id, holder);
        id
    }

    /// Changes a holder, and counts it anew.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Holder)) {
        let Some(mut holder) = self.holders.remove(&id) else { return };
        self.take_back(&holder);
        change(&mut holder);
        self.put_back(id, holder);
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.holders.remove(&id)?;
        self.take_back(&holder);
        Some(holder)
    }

    /// The amount of a holder is not occupied any more.
    fn take_back(&mut self, holder: &Holder) {
        self.occupied = self.occupied.saturating_sub(holder.amount);
        self.whole = self.whole.saturating_sub(if holder.is_whole { holder.amount } else { 0 });
        self.spared = self.spared.saturating_sub(if holder.is_spared { holder.amount } else { 0 });
        let Some(client) = &holder.client else { return };
        self.rank(client, |occupied| occupied.saturating_sub(holder.amount));
        for (place, (network, occupied)) in client.networks.iter().zip(&client.occupied).enumerate() {
            if occupied.fetch_sub(holder.amount, Ordering::Relaxed) == holder.amount {
                self.networks.remove(&(place, *network));
            }
        }
    }

    /// The opposite.
    fn put_back(&mut self, id: u64, holder: Holder) {
        self.occupied = self.occupied.saturating_add(holder.amount);
        self.whole = self.whole.saturating_add(if holder.is_whole { holder.amount } else { 0 });
        self.spared = self.spared.saturating_add(if holder.is_spared { holder.amount } else { 0 });
        if let Some(client) = &holder.client {
            self.rank(client, |occupied| occupied.saturating_add(holder.amount));
            for (place, (network, occupied)) in client.networks.iter().zip(&client.occupied).enumerate() {
                occupied.fetch_add(holder.amount, Ordering::Relaxed);
                self.networks.entry((place, *network)).or_insert_with(|| Arc::clone(occupied));
            }
        }
        self.holders.insert(id, holder);
    }

    /// Notes what the widest network of a client is going to occupy.
    fn rank(&mut self, client: &Client, changed: impl Fn(usize) -> usize) {
        let [widest, ..] = &client.occupied;
        let before = load(widest);
        if let Some(networks) = self.ranks.get_mut(&before) {
            *networks = networks.saturating_sub(1);
            if *networks == 0 {
                self.ranks.remove(&before);
            }
        }
        let after = changed(before);
        if after > 0 {
            let networks = self.ranks.entry(after).or_default();
            *networks = networks.saturating_add(1);
        }
    }
}

fn load(occupied: &Arc<AtomicUsize>) -> usize {
    occupied.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
