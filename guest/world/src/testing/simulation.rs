//! A store, a clock and randomness for tests, under the control of the test.
//!
//! Outside of the [scheduler](super::scheduler), every operation of the store is done at once and a sleep moves the clock.
//! Within it, a call stops before every operation until the scheduler lets it go on, and a sleep lasts until all other
//! calls sleep as well.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use crate::capabilities::{Clock, Random};
use crate::records::{Partitions, RELEASED, Records};
use crate::store::{Store, StoreError};
use base::secret::Secret;

/// 2026-01-01T00:00:00Z, when every simulation begins. Unix time in seconds.
pub const START: u64 = 1_767_225_600;

/// Runs a future that never really waits.
pub fn run<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// The name of what is no operation of the store.
const ASK: &str = "ask";

/// What a call does next that other calls can notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Operation {
    name: &'static str,
    /// The record, or the service outside.
    pub(super) on: String,
    pub(super) reads_only: bool,
}

impl Operation {
    pub(super) fn is_of_the_store(&self) -> bool {
        self.name != ASK
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.on)
    }
}

/// Where a call stands.
#[derive(Debug, Default)]
pub(super) struct SimulatedCall {
    /// It stops before this operation.
    pub(super) pending: Option<Operation>,
    /// It sleeps until then.
    pub(super) wakes_at: Option<Duration>,
    /// The operation that comes next fails.
    pub(super) fails: bool,
    /// State of its randomness: calls do not share it, so that no order of theirs changes what they draw.
    random: u64,
}

/// Handles that a test keeps on what a [`Records`] is made of.
#[derive(Clone)]
pub struct Simulation(Rc<SimulationState>);

/// The bytes of a record, and when it expires.
type SimulatedRecord = (Vec<u8>, Option<Duration>);

struct SimulationState {
    elapsed: Cell<Duration>,
    records: RefCell<BTreeMap<String, SimulatedRecord>>,
    partitions: Partitions,
    operations: Cell<usize>,
    unavailable: Cell<bool>,
    unreadable: RefCell<Vec<String>>,
    /// The calls of the scheduler.
    calls: RefCell<Vec<SimulatedCall>>,
    /// The call that runs now; none outside of the scheduler.
    running: Cell<Option<usize>>,
    /// Randomness outside of the scheduler.
    random: Cell<u64>,
    /// What has happened so far, in the scheduler.
    log: RefCell<Vec<String>>,
}

impl Default for Simulation {
    /// Of an application of one tenant.
    fn default() -> Self {
        Self::new(Partitions::new("https://login.microsoftonline.com", "tenant", "client", ""))
    }
}

impl Simulation {
    /// An empty store.
    pub fn new(partitions: Partitions) -> Self {
        Self(Rc::new(SimulationState {
            elapsed: Cell::default(),
            records: RefCell::default(),
            partitions,
            operations: Cell::default(),
            unavailable: Cell::default(),
            unreadable: RefCell::default(),
            calls: RefCell::default(),
            running: Cell::default(),
            random: Cell::default(),
            log: RefCell::default(),
        }))
    }

    /// The records of the store.
    pub fn records(&self) -> Records<'_> {
        Records::new(self, self, self, &self.0.partitions)
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.0.elapsed.set(self.0.elapsed.get() + time);
    }

    /// The time that has passed.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed.get()
    }

    /// Asks a service outside, as a call can be stopped before it does: other calls may see the difference.
    pub async fn service(&self, name: &str) {
        self.step(ASK, name, false).await;
    }

    /// An operation on something that a test simulates itself: a call can be stopped before it, and whether its order among
    /// others matters follows from what it is `on`. Whether the scheduler wants it to fail.
    pub async fn operation(&self, name: &'static str, on: &str, reads_only: bool) -> bool {
        self.step(name, on, reads_only).await
    }

    /// The names of the records, in order. A lease that was given back is none.
    pub fn names(&self) -> Vec<String> {
        let records = self.0.records.borrow();
        let is_there = |(value, expires): &SimulatedRecord| self.lives(*expires) && value != RELEASED;
        records.iter().filter(|(_, record)| is_there(record)).map(|(name, _)| name.clone()).collect()
    }

    /// The bytes of a record, past the port.
    pub fn peek(&self, key: &str) -> Option<Vec<u8>> {
        let records = self.0.records.borrow();
        records.get(key).filter(|(_, expires)| self.lives(*expires)).map(|(value, _)| value.clone())
    }

    /// Writes a record past the port.
    pub fn plant(&self, key: &str, value: &[u8], ttl: Option<Duration>) {
        let expires = ttl.map(|ttl| self.0.elapsed.get() + ttl);
        self.0.records.borrow_mut().insert(key.to_owned(), (value.to_vec(), expires));
    }

    /// How long a record will live on; none for one that is kept.
    pub fn ttl(&self, key: &str) -> Option<Duration> {
        self.0.records.borrow().get(key).and_then(|(_, expires)| *expires).map(|at| at - self.0.elapsed.get())
    }

    /// How many operations of the store there were.
    pub fn operations(&self) -> usize {
        self.0.operations.get()
    }

    /// Makes every operation fail, or none.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.0.unavailable.set(unavailable);
    }

    /// Makes a record one that the store cannot open, until it is deleted.
    pub fn damage(&self, key: &str) {
        self.0.unreadable.borrow_mut().push(key.to_owned());
    }

    fn lives(&self, expires: Option<Duration>) -> bool {
        expires.is_none_or(|at| at > self.0.elapsed.get())
    }

    /// One operation: stops before it if the scheduler is at work.
    async fn step(&self, name: &'static str, on: &str, reads_only: bool) -> bool {
        let Some(call) = self.0.running.get() else { return false };
        let mut stopped = false;
        poll_fn(|_| {
            if stopped {
                return Poll::Ready(());
            }
            stopped = true;
            let operation = Operation { name, on: on.to_owned(), reads_only };
            self.with_call(call, |call| call.pending = Some(operation));
            Poll::Pending
        })
        .await;
        self.with_call(call, |call| std::mem::take(&mut call.fails)).unwrap_or_default()
    }

    async fn operate(&self, name: &'static str, key: &str) -> Result<(), StoreError> {
        let fails = self.step(name, key, name == "get").await;
        self.0.operations.set(self.0.operations.get() + 1);
        if fails || self.0.unavailable.get() {
            self.note("the store fails");
            return Err(StoreError::Unavailable("out of order".to_owned()));
        }
        if name == "delete" {
            self.0.unreadable.borrow_mut().retain(|damaged| damaged != key);
        }
        if self.0.unreadable.borrow().iter().any(|damaged| damaged == key) && !matches!(name, "put" | "delete") {
            return Err(StoreError::Unreadable);
        }
        Ok(())
    }

    fn found(&self, key: &str) -> Option<Secret<Vec<u8>>> {
        let found = self.peek(key);
        self.note(if found.is_some() { "found" } else { "none" });
        found.map(Secret::new)
    }

    /// When the next record expires.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        let records = self.0.records.borrow();
        records.values().filter_map(|(_, expires)| *expires).filter(|at| *at > self.0.elapsed.get()).min()
    }

    pub(super) fn begin(&self, calls: usize) {
        let call =
            |at| SimulatedCall { random: u64::try_from(at).unwrap_or_default() << 32, ..SimulatedCall::default() };
        *self.0.calls.borrow_mut() = (1..=calls).map(call).collect();
    }

    pub(super) fn with_call<R>(&self, call: usize, change: impl FnOnce(&mut SimulatedCall) -> R) -> Option<R> {
        self.0.calls.borrow_mut().get_mut(call).map(change)
    }

    /// Lets a call go on until it stops again; whether it has ended.
    pub(super) fn poll(&self, call: usize, task: &mut super::scheduler::Task) -> bool {
        self.0.running.set(Some(call));
        let ended = task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        self.0.running.set(None);
        ended
    }

    pub(super) fn log(&self, line: String) {
        self.0.log.borrow_mut().push(line);
    }

    /// Adds to the last line of the log. Never a value: it may be a secret.
    fn note(&self, result: &str) {
        if self.0.running.get().is_some()
            && let Some(line) = self.0.log.borrow_mut().last_mut()
        {
            line.push_str(" -> ");
            line.push_str(result);
        }
    }

    pub(super) fn take_log(&self) -> Vec<String> {
        self.0.log.take()
    }
}

#[async_trait(?Send)]
impl Store for Simulation {
    async fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        self.operate("get", key).await?;
        Ok(self.found(key))
    }

    async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        self.operate("put", key).await?;
        self.plant(key, value, ttl);
        Ok(())
    }

    async fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        self.operate("take", key).await?;
        let found = self.found(key);
        self.0.records.borrow_mut().remove(key);
        Ok(found)
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        self.operate("compare-and-swap", key).await?;
        let same = self.peek(key).as_deref() == expected;
        self.note(if same { "written" } else { "changed meanwhile" });
        if same {
            self.plant(key, value, ttl);
        }
        Ok(same)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.operate("delete", key).await?;
        self.0.records.borrow_mut().remove(key);
        Ok(())
    }
}

#[async_trait(?Send)]
impl Clock for Simulation {
    fn now(&self) -> u64 {
        START + self.0.elapsed.get().as_secs()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed.get()
    }

    async fn sleep(&self, time: Duration) {
        let Some(call) = self.0.running.get() else { return self.advance(time) };
        let until = self.0.elapsed.get() + time;
        poll_fn(|_| {
            if self.0.elapsed.get() >= until {
                return Poll::Ready(());
            }
            self.with_call(call, |call| call.wakes_at = Some(until));
            Poll::Pending
        })
        .await;
    }
}

impl Random for Simulation {
    /// SplitMix64: different on every call, the same in every run.
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let next = |state: u64| state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let state = match self.0.running.get() {
                Some(call) => self.with_call(call, |call| {
                    call.random = next(call.random);
                    call.random
                }),
                None => Some(next(self.0.random.get())).inspect(|state| self.0.random.set(*state)),
            };
            for (byte, random) in chunk.iter_mut().zip(super::scheduler::mixed(state.unwrap_or_default()).to_le_bytes())
            {
                *byte = random;
            }
        }
    }
}
