//! The processes of one server: how many, of which callers, and which one gives way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::owner::{Person, ProcessOwner};
use super::running::{Pin, Process, ProcessEnd};
use super::settings::{FIRST_PAUSE, LONGEST_PAUSE, MAX_REMEMBERED_CRASHES, STABLE_AFTER};
use crate::behind::BehindError;

/// The process of an owner without a session. Its lock is held while the process starts.
pub(super) type ProcessSlot = Arc<tokio::sync::Mutex<Option<Arc<Process>>>>;

/// All processes of one server.
pub(super) struct Registry {
    max: usize,
    max_per_person: usize,
    known: Mutex<Known>,
    /// A process has ended.
    freed: Notify,
}

#[derive(Default)]
struct Known {
    places: HashMap<u64, Place>,
    sessions: HashMap<String, Arc<Process>>,
    people: HashMap<ProcessOwner, ProcessSlot>,
    crashes: HashMap<ProcessOwner, Crashes>,
    next: u64,
    closed: bool,
}

struct Place {
    person: Person,
    /// `None` while it starts.
    process: Option<Arc<Process>>,
}

#[derive(Clone, Copy)]
struct Crashes {
    /// In a row, each soon after the start.
    count: u32,
    last: Duration,
}

impl Crashes {
    /// When the next process may start. The one after the first crash starts at once.
    fn pause_ends(self) -> Duration {
        let pause = match self.count {
            0 | 1 => Duration::ZERO,
            count => FIRST_PAUSE.saturating_mul(1_u32.checked_shl(count.saturating_sub(2)).unwrap_or(u32::MAX)),
        };
        self.last.saturating_add(pause.min(LONGEST_PAUSE))
    }
}

/// The right to have a process. It is given back when it is dropped.
pub(super) struct PlaceGuard {
    registry: Arc<Registry>,
    pub(super) number: u64,
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        self.registry.release(self.number);
    }
}

impl Registry {
    pub(super) fn new(max: usize, max_per_person: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_person, known: Mutex::default(), freed: Notify::new() })
    }

    /// A place for a process of this person. The process that was idle for longest gives way: one of the same person, if
    /// that person has too many.
    pub(super) async fn place(self: &Arc<Self>, person: &Person) -> Result<PlaceGuard, BehindError> {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            {
                let mut known = self.lock();
                if known.closed {
                    return Err(BehindError::Busy("the server is ending".into()));
                }
                let theirs = known.places.values().filter(|place| place.person == *person).count();
                let too_many_of_person = theirs >= self.max_per_person;
                if known.places.len() < self.max && !too_many_of_person {
                    known.next = known.next.saturating_add(1);
                    let number = known.next;
                    known.places.insert(number, Place { person: person.clone(), process: None });
                    return Ok(PlaceGuard { registry: Arc::clone(self), number });
                }
                let may_give_way = known.places.values().filter(|place| !too_many_of_person || place.person == *person);
                let processes: Vec<&Arc<Process>> = may_give_way.filter_map(|place| place.process.as_ref()).collect();
                if !processes.iter().any(|process| process.is_over()) {
                    let idle = processes.into_iter().filter(|process| process.is_idle());
                    let Some(oldest) = idle.min_by_key(|process| process.last_used()) else {
                        let whose = if too_many_of_person { "the person's" } else { "all" };
                        return Err(BehindError::Busy(format!("{whose} processes are at work")));
                    };
                    if !oldest.stop_if_idle(true) {
                        continue;
                    }
                }
            }
            freed.await;
        }
    }

    /// The process of the place has started.
    pub(super) fn started(&self, number: u64, process: &Arc<Process>) {
        let mut known = self.lock();
        let Some(place) = known.places.get_mut(&number) else { return };
        place.process = Some(Arc::clone(process));
        if known.closed {
            process.stop();
        }
        if let Some(session) = process.session() {
            known.sessions.insert(session.to_owned(), Arc::clone(process));
        }
    }

    /// The process of a session, if it is of this owner.
    pub(super) fn session(&self, id: &str, owner: &ProcessOwner) -> Option<Pin> {
        let process = self.lock().sessions.get(id).filter(|process| process.owner() == owner).cloned()?;
        process.pin().ok()
    }

    /// Where the process of an owner without a session is.
    pub(super) fn slot(&self, owner: &ProcessOwner) -> ProcessSlot {
        Arc::clone(self.lock().people.entry(owner.clone()).or_default())
    }

    /// The process of an owner without a session, if there is one.
    pub(super) async fn of_owner(&self, owner: &ProcessOwner) -> Option<Pin> {
        let slot = self.lock().people.get(owner).cloned()?;
        let process = slot.lock().await;
        process.as_ref().and_then(|process| process.pin().ok())
    }

    /// Whether another process of this owner may start now.
    pub(super) fn may_start(&self, owner: &ProcessOwner, now: Duration) -> Result<(), BehindError> {
        let crashes = self.lock().crashes.get(owner).copied();
        match crashes {
            Some(crashes) if crashes.pause_ends() > now => {
                Err(BehindError::Busy("the last processes of this caller ended by themselves".into()))
            }
            _ => Ok(()),
        }
    }

    /// A process has ended, or could not be started.
    pub(super) fn ended(&self, owner: &ProcessOwner, end: ProcessEnd, started: Duration, now: Duration) {
        let mut known = self.lock();
        let stable = now.saturating_sub(started) >= STABLE_AFTER;
        if end == ProcessEnd::Stopped || stable {
            if stable {
                known.crashes.remove(owner);
            }
            return;
        }
        if known.crashes.len() >= MAX_REMEMBERED_CRASHES && !known.crashes.contains_key(owner) {
            let oldest = known.crashes.iter().min_by_key(|(_, crashes)| crashes.last).map(|(owner, _)| owner.clone());
            if let Some(oldest) = oldest {
                known.crashes.remove(&oldest);
            }
        }
        let crashes = known.crashes.entry(owner.clone()).or_insert(Crashes { count: 0, last: now });
        if now.saturating_sub(crashes.last) >= STABLE_AFTER.saturating_mul(2) {
            crashes.count = 0;
        }
        *crashes = Crashes { count: crashes.count.saturating_add(1), last: now };
    }

    /// Ends all processes, and starts no other.
    pub(super) fn close(&self) {
        let mut known = self.lock();
        known.closed = true;
        for process in known.places.values().filter_map(|place| place.process.as_ref()) {
            process.stop();
        }
    }

    /// Returns when there is no process.
    pub(super) async fn empty(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.lock().places.is_empty() {
                return;
            }
            freed.await;
        }
    }

    fn release(&self, number: u64) {
        {
            let mut known = self.lock();
            known.places.remove(&number);
            known.sessions.retain(|_, process| process.number() != number);
            // Slots that are in use are held by their users.
            known.people.retain(|_, slot| {
                let in_use = Arc::strong_count(slot) > 1;
                in_use
                    || slot
                        .try_lock()
                        .is_ok_and(|process| process.as_ref().is_some_and(|process| process.number() != number))
            });
        }
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(object: &str) -> ProcessOwner {
        let person = Person { tenant: "t".into(), object: object.into() };
        ProcessOwner { person, client: "c".into() }
    }

    #[test]
    fn each_crash_in_a_row_doubles_the_pause() {
        let registry = Registry::new(1, 1);
        let seconds = Duration::from_secs;
        let (alice, bob) = (owner("alice"), owner("bob"));
        let mut now = Duration::ZERO;
        for pause in [0, 1, 2, 4, 8, 16, 32, 60, 60] {
            registry.ended(&alice, ProcessEnd::Crashed, now, now);
            if pause > 0 {
                assert!(
                    matches!(registry.may_start(&alice, now + seconds(pause - 1)), Err(BehindError::Busy(_))),
                    "{pause}"
                );
            }
            now += seconds(pause);
            assert_eq!(registry.may_start(&alice, now), Ok(()), "{pause}");
            assert_eq!(registry.may_start(&bob, now), Ok(()));
        }
        registry.ended(&alice, ProcessEnd::Crashed, now, now + STABLE_AFTER);
        registry.ended(&alice, ProcessEnd::Crashed, now, now);
        assert_eq!(registry.may_start(&alice, now), Ok(()));
    }

    #[test]
    fn the_crashes_of_many_people_are_bounded() {
        let registry = Registry::new(1, 1);
        for number in 0..MAX_REMEMBERED_CRASHES + 10 {
            registry.ended(&owner(&number.to_string()), ProcessEnd::Crashed, Duration::ZERO, Duration::ZERO);
        }
        assert_eq!(registry.lock().crashes.len(), MAX_REMEMBERED_CRASHES);
    }
}
