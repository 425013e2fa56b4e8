//! Turns at the handler: how many requests each client address, and each network, has at work at the same time. Places of
//! event streams are turns as well, but never more than there are.
//!
//! The rule is one comparison: an address that has something at work gets a further turn only while it has fewer than are
//! left. So one address has half at most, two have a third each, four a fifth each, and as many again are always free for
//! others. An address that has nothing at work always gets a turn, and then competes at the handler itself. A request that
//! gets no turn waits for one, behind those of its own address: what it waits for is the making of that address. Of the
//! places to wait, an address gets a further one only while it has fewer than are left, too. The same holds for a /56 and a
//! /48 of IPv6.
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
    /// Whether an address that has none gets one beyond that.
    newcomers: bool,
    /// Requests that wait for one.
    most_waiting: usize,
    /// For how long a request waits at most.
    wait: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    at_work: Counts,
    waiting: Counts,
    /// One queue for each client that has a request that waits. The client that got a turn last is the last.
    queues: VecDeque<Queue>,
    /// The number of the next request that waits.
    next: u64,
}

/// How many requests there are, and how many of each network.
#[derive(Default)]
struct Counts {
    all: usize,
    networks: HashMap<(usize, IpAddr), usize>,
}

/// The requests of one client that wait, in their order.
struct Queue {
    networks: Networks,
    requests: VecDeque<Waiting>,
}

struct Waiting {
    number: u64,
    go: oneshot::Sender<HandlerTurn>,
}

/// The place of a request that waits. Dropping it gives it up, unless the request has got its turn.
struct Place<'a> {
    turns: &'a Turns,
    networks: Networks,
    number: u64,
}

/// The right of one request to be at work. Dropping it gives it to another one.
pub(super) struct HandlerTurn {
    turns: Arc<Turns>,
    networks: Networks,
}

/// A turn that the handler may give back before it answers.
pub(super) struct HeldTurn(Arc<Mutex<Option<HandlerTurn>>>);

/// That a request is at work ([`Limits::at_work`](super::Limits::at_work)). It is in the extensions of every request that
/// the handler gets.
#[derive(Clone)]
pub struct AtWork(Weak<Mutex<Option<HandlerTurn>>>);

impl HeldTurn {
    pub(super) fn new(turn: HandlerTurn) -> Self {
        Self(Arc::new(Mutex::new(Some(turn))))
    }

    /// What the handler gets. It keeps no turn.
    pub(super) fn at_work(&self) -> AtWork {
        AtWork(Arc::downgrade(&self.0))
    }

    /// The turn, unless the handler has given it back.
    pub(super) fn into_turn(self) -> Option<HandlerTurn> {
        taken(&self.0)
    }
}

impl AtWork {
    /// Gives the turn of the request back before its answer: from now on, it occupies nothing of the handler.
    pub fn end(&self) {
        drop(self.0.upgrade().and_then(|turn| taken(&turn)));
    }
}

fn taken(turn: &Mutex<Option<HandlerTurn>>) -> Option<HandlerTurn> {
    turn.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Turns {
    /// Nothing is at work yet.
    pub(super) fn new(most: usize, most_waiting: usize, wait: Duration) -> Arc<Self> {
        Arc::new(Self { most, newcomers: true, most_waiting, wait, table: Mutex::default() })
    }

    /// Turns for which no request waits, and of which there are never more: an address with none gets one only if one is
    /// left.
    pub(super) fn places(most: usize) -> Arc<Self> {
        Arc::new(Self { most, newcomers: false, most_waiting: 0, wait: Duration::ZERO, table: Mutex::default() })
    }

    /// A turn for a request of `client`, if there is one now.
    pub(super) fn take_now(self: &Arc<Self>, client: IpAddr) -> Option<HandlerTurn> {
        let networks = networks(client);
        self.table().begin(networks, self).then(|| HandlerTurn { turns: Arc::clone(self), networks })
    }

    /// A turn for a request of `client`, at once or as soon as there is one. `None`: too many of its address wait already,
    /// or it has waited for too long.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub(super) async fn take(self: &Arc<Self>, client: IpAddr) -> Option<HandlerTurn> {
        let networks = networks(client);
        let (_place, granted) = {
            let mut table = self.table();
            if table.begin(networks, self) {
                return Some(HandlerTurn { turns: Arc::clone(self), networks });
            }
            if !table.waiting.has_room(networks, self.most_waiting, false) {
                return None;
            }
            let (go, granted) = oneshot::channel();
            (Place { turns: self, networks, number: table.wait(networks, go) }, granted)
        };
        // Whatever is granted from now on is in the channel, and dropped with it.
        tokio::time::timeout(self.wait, granted).await.ok()?.ok()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandlerTurn {
    fn drop(&mut self) {
        let granted = {
            let mut table = self.turns.table();
            table.at_work.end(self.networks);
            table.grant(&self.turns)
        };
        // The lock is free: a turn that is taken by no request any more is dropped here.
        for (networks, go) in granted {
            let _ = go.send(HandlerTurn { turns: Arc::clone(&self.turns), networks });
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.table().give_up(self.networks, self.number);
    }
}

impl Table {
    /// Begins a request, if it may begin now.
    fn begin(&mut self, networks: Networks, turns: &Turns) -> bool {
        let may = self.at_work.has_room(networks, turns.most, turns.newcomers);
        if may {
            self.at_work.begin(networks);
        }
        may
    }

    /// Puts a request behind those of its client. Returns its number.
    fn wait(&mut self, networks: Networks, go: oneshot::Sender<HandlerTurn>) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.waiting.begin(networks);
        let waiting = Waiting { number, go };
        match self.queues.iter_mut().find(|queue| queue.networks == networks) {
            Some(queue) => queue.requests.push_back(waiting),
            None => self.queues.push_back(Queue { networks, requests: VecDeque::from([waiting]) }),
        }
        number
    }

    /// Takes a request out of the queue of its client, if it is there still.
    fn give_up(&mut self, networks: Networks, number: u64) {
        let Some(at) = self.queues.iter().position(|queue| queue.networks == networks) else { return };
        let Some(queue) = self.queues.get_mut(at) else { return };
        let Some(waiting) = queue.requests.iter().position(|waiting| waiting.number == number) else { return };
        queue.requests.remove(waiting);
        if queue.requests.is_empty() {
            self.queues.remove(at);
        }
        self.waiting.end(networks);
    }

    /// Begins what may begin now. It looks at each client that waits, not at each of its requests.
    fn grant(&mut self, turns: &Turns) -> Vec<(Networks, oneshot::Sender<HandlerTurn>)> {
        let (mut granted, mut at) = (Vec::new(), 0_usize);
        while let Some(queue) = self.queues.get_mut(at) {
            let networks = queue.networks;
            if !self.at_work.has_room(networks, turns.most, turns.newcomers) {
                at = at.saturating_add(1);
                continue;
            }
            if let Some(next) = queue.requests.pop_front() {
                self.waiting.end(networks);
                self.at_work.begin(networks);
                granted.push((networks, next.go));
            }
            if let Some(queue) = self.queues.remove(at).filter(|queue| !queue.requests.is_empty()) {
                self.queues.push_back(queue);
            }
        }
        granted
    }
}

impl Counts {
    /// Whether there may be one more of `most`: each network has fewer than are left. With `newcomers`, one that has none
    /// gets one even if none is left.
    fn has_room(&self, networks: Networks, most: usize, newcomers: bool) -> bool {
        let left = most.saturating_sub(self.all);
        networks.into_iter().enumerate().all(|network| {
            let has = self.networks.get(&network).copied().unwrap_or(0);
            has < left || (newcomers && has == 0)
        })
    }

    fn begin(&mut self, networks: Networks) {
        self.all = self.all.saturating_add(1);
        for network in networks.into_iter().enumerate() {
            let has = self.networks.entry(network).or_default();
            *has = has.saturating_add(1);
        }
    }

    fn end(&mut self, networks: Networks) {
        self.all = self.all.saturating_sub(1);
        for network in networks.into_iter().enumerate() {
            if let Some(has) = self.networks.get_mut(&network) {
                *has = has.saturating_sub(1);
                if *has == 0 {
                    self.networks.remove(&network);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
