//! Turns at the handler: how many requests each client address, and each network, has at work at the same time.
//!
//! The rule is one comparison: an address that has something at work gets a further turn only while it has fewer than are
//! left. So one address has half at most, two have a third each, four a fifth each, and as many again are always free for
//! others. An address that has nothing at work always gets a turn, and then competes at the handler itself. A request that
//! gets no turn waits for one, behind those of its own address: what it waits for is the making of that address. The same
//! holds for a /56 and a /48 of IPv6.
//!
//! What may not be in it: who the caller is, or how long a turn lasts. Nothing is displaced, because what is at work has
//! effects already.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::shares::{Networks, networks};

/// The turns of all clients.
pub(super) struct Turns {
    /// Turns at the same time.
    most: usize,
    /// Requests that wait for one. An address, or a network, has half of these places at most.
    most_waiting: usize,
    /// For how long a request waits at most.
    wait: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    taken: usize,
    networks: HashMap<(usize, IpAddr), usize>,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    networks: Networks,
    go: oneshot::Sender<Turn>,
}

/// The right of one request to be at work. Dropping it gives it to another one.
pub(super) struct Turn {
    turns: Arc<Turns>,
    networks: Networks,
}

/// A turn that the handler may give back before it answers.
pub(super) struct HeldTurn(Arc<Mutex<Option<Turn>>>);

/// That a request is at work ([`Limits::at_work`](super::Limits::at_work)). It is in the extensions of every request that
/// the handler gets.
#[derive(Clone)]
pub struct AtWork(Weak<Mutex<Option<Turn>>>);

impl HeldTurn {
    pub(super) fn new(turn: Turn) -> Self {
        Self(Arc::new(Mutex::new(Some(turn))))
    }

    /// What the handler gets. It keeps no turn.
    pub(super) fn at_work(&self) -> AtWork {
        AtWork(Arc::downgrade(&self.0))
    }

    /// The turn, unless the handler has given it back.
    pub(super) fn into_turn(self) -> Option<Turn> {
        taken(&self.0)
    }
}

impl AtWork {
    /// Gives the turn of the request back before its answer: from now on, it occupies nothing of the handler.
    pub fn end(&self) {
        drop(self.0.upgrade().and_then(|turn| taken(&turn)));
    }
}

fn taken(turn: &Mutex<Option<Turn>>) -> Option<Turn> {
    turn.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Turns {
    /// Nothing is at work yet.
    pub(super) fn new(most: usize, most_waiting: usize, wait: Duration) -> Arc<Self> {
        Arc::new(Self { most, most_waiting, wait, table: Mutex::default() })
    }

    /// A turn for a request of `client`, at once or as soon as there is one. `None`: too many of its address wait already,
    /// or it has waited for too long.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub(super) async fn take(self: &Arc<Self>, client: IpAddr) -> Option<Turn> {
        let networks = networks(client);
        let granted = {
            let mut table = self.table();
            if table.may_go(networks, self.most) {
                table.begin(networks);
                return Some(Turn { turns: Arc::clone(self), networks });
            }
            table.waiting.retain(|waiting| !waiting.go.is_closed());
            if table.waiting.len() >= self.most_waiting || table.waits_of(networks) >= self.most_waiting.div_ceil(2) {
                return None;
            }
            let (go, granted) = oneshot::channel();
            table.waiting.push_back(Waiting { networks, go });
            granted
        };
        // Whatever is granted from now on is in the channel, and dropped with it.
        tokio::time::timeout(self.wait, granted).await.ok()?.ok()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut granted = Vec::new();
        {
            let mut table = self.turns.table();
            table.end(self.networks);
            for waiting in std::mem::take(&mut table.waiting) {
                if waiting.go.is_closed() {
                    continue;
                }
                if table.may_go(waiting.networks, self.turns.most) {
                    table.begin(waiting.networks);
                    granted.push(waiting);
                } else {
                    table.waiting.push_back(waiting);
                }
            }
        }
        // The lock is free: a turn that is taken by no request any more is dropped here.
        for Waiting { networks, go } in granted {
            let _ = go.send(Turn { turns: Arc::clone(&self.turns), networks });
        }
    }
}

impl Table {
    fn may_go(&self, networks: Networks, most: usize) -> bool {
        let left = most.saturating_sub(self.taken);
        networks.into_iter().enumerate().all(|network| {
            let taken = self.networks.get(&network).copied().unwrap_or(0);
            taken == 0 || taken < left
        })
    }

    /// How many requests of the address wait, or of the network of it that has most.
    fn waits_of(&self, networks: Networks) -> usize {
        let of = |(place, network): (usize, IpAddr)| {
            self.waiting.iter().filter(|waiting| waiting.networks.get(place) == Some(&network)).count()
        };
        networks.into_iter().enumerate().map(of).max().unwrap_or(0)
    }

    fn begin(&mut self, networks: Networks) {
        self.taken = self.taken.saturating_add(1);
        for network in networks.into_iter().enumerate() {
            let taken = self.networks.entry(network).or_default();
            *taken = taken.saturating_add(1);
        }
    }

    fn end(&mut self, networks: Networks) {
        self.taken = self.taken.saturating_sub(1);
        for network in networks.into_iter().enumerate() {
            if let Some(taken) = self.networks.get_mut(&network) {
                *taken = taken.saturating_sub(1);
                if *taken == 0 {
                    self.networks.remove(&network);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
