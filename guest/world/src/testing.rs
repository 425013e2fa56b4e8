//! A world for unit tests: scripted HTTP, a manual clock, seeded randomness, a store in memory.
//!
//! The [scheduler] runs calls on a [simulation] in every order that they could have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod broker;
mod fakes;
mod provided_tools;
pub mod scheduler;
mod settings;
pub mod simulation;

pub use broker::GivenTokens;
pub use provided_tools::{CalledTool, provided_tool};
pub use settings::*;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base::Secret;
use base::audit::AuditEvent;
use base::settings::Settings;

use crate::capabilities::*;
use crate::http_error::HttpError;
use crate::records::{Partitions, RELEASED, Records};
use crate::store::{Store, StoreError};
use crate::trail::{KEY_NAME, Recorder, SessionNames, Trail};

/// 2026-01-01T00:00:00Z.
pub const START: u64 = 1_767_225_600;

/// The correlation id of every call.
pub const CALL: &str = "c-1";

/// A value that is never freed, so that a test can pass references to it around.
pub fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Runs a future that never really waits: every fake is ready at once.
pub fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a fake environment never waits"),
    }
}

/// A value, and the Unix time at which it expires.
type StoredValue = (Vec<u8>, Option<u64>);

/// What a scripted server answers.
pub type Responder = Box<dyn FnMut(&http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>>;

/// What happens between two operations of a store.
type Interruption = Box<dyn FnOnce()>;

/// Handles that a test keeps on the fakes.
#[derive(Clone, Default)]
pub struct World(Rc<Fakes>);

#[derive(Default)]
struct Fakes {
    /// Seconds and nanoseconds since [`START`].
    elapsed: Cell<Duration>,
    responders: RefCell<VecDeque<Responder>>,
    fallback: RefCell<Option<Responder>>,
    sent: RefCell<Vec<http::Request<Vec<u8>>>>,
    records: RefCell<HashMap<String, StoredValue>>,
    /// The names of records that the store cannot open.
    unreadable: RefCell<HashSet<String>>,
    /// Operations of the store so far.
    operations: Cell<usize>,
    /// The operation that fails, and whether all later ones do as well.
    failing: Cell<Option<(usize, bool)>>,
    interruption: RefCell<Option<(usize, Interruption)>>,
    random: Cell<u64>,
    audited: RefCell<Vec<AuditEvent>>,
    audit_refused: Cell<bool>,
    notes: RefCell<Vec<String>>,
    listens: Cell<bool>,
    detached: RefCell<Vec<String>>,
    prompts: RefCell<Vec<String>>,
    state: RefCell<Option<String>>,
    /// What the client was asked, and how it answers.
    asked: RefCell<Vec<(String, serde_json::Value)>>,
    answers: RefCell<VecDeque<serde_json::Value>>,
    documents: RefCell<HashMap<String, Result<Document, FetchError>>>,
    fetched: RefCell<Vec<String>>,
    exceeded: RefCell<HashMap<String, Duration>>,
    bounds: RefCell<HashMap<String, (usize, Duration)>>,
    /// When an operation was counted, and for which subject.
    counted: RefCell<Vec<(String, String, Duration)>>,
    credential: RefCell<Option<String>>,
    provided: provided_tools::FakeProvider,
    broker: broker::FakeBroker,
}

impl World {
    /// The trail of a call that is named [`CALL`], under these settings. It is never freed.
    pub fn trail(&self, settings: &'static Settings) -> &'static Trail<'static> {
        let world = forever(self.clone());
        let names = forever(SessionNames::default());
        let recorder = Recorder { audit: world, records: world.records(settings), random: world, settings, names };
        forever(Trail::new(recorder, CALL.to_owned()))
    }

    /// The records of the store under these settings. The world and they are never freed.
    pub fn records(&self, settings: &Settings) -> Records<'static> {
        let world = forever(self.clone());
        Records::new(world, world, world, forever(Partitions::of(settings)))
    }

    /// Reads a record of the store, at once.
    pub fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        run(Store::get(self, key))
    }

    /// Writes a record of the store, at once.
    pub fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        run(Store::put(self, key, value, ttl))
    }

    /// Changes a record of the store, at once.
    pub fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError> {
        run(Store::compare_and_swap(self, key, expected, value, ttl))
    }

    /// Deletes a record of the store, at once.
    pub fn delete(&self, key: &str) -> Result<(), StoreError> {
        run(Store::delete(self, key))
    }

    /// Gives the application a client secret.
    pub fn has_client_secret(&self) {
        *self.0.credential.borrow_mut() = Some("the client secret".to_owned());
    }

    /// What is found at `url` when a client metadata document is fetched.
    pub fn publish(&self, url: &str, document: Result<Document, FetchError>) {
        self.0.documents.borrow_mut().insert(url.to_owned(), document);
    }

    /// The client metadata documents that were asked for.
    pub fn fetched(&self) -> Vec<String> {
        self.0.fetched.borrow().clone()
    }

    /// Lets `operation` exceed its rate from now on.
    pub fn exhaust(&self, operation: &str, retry_after: Duration) {
        self.0.exceeded.borrow_mut().insert(operation.to_owned(), retry_after);
    }

    /// Admits `operation` so many times within `per`, by subject; and one record of what is refused.
    pub fn bound(&self, operation: &str, count: usize, per: Duration) {
        let mut bounds = self.0.bounds.borrow_mut();
        bounds.insert(operation.to_owned(), (count, per));
        bounds.insert(format!("record:{operation}"), (1, per));
    }

    /// The operations and subjects that were counted because of [`World::bound`].
    pub fn counted(&self) -> Vec<(String, String)> {
        let counted = self.0.counted.borrow();
        counted.iter().map(|(operation, subject, _)| (operation.clone(), subject.clone())).collect()
    }

    /// Forgets everything that has happened, but not how requests are answered: for fuzz targets, which use one world many
    /// times.
    pub fn restart(&self) {
        let inner = &*self.0;
        inner.elapsed.take();
        inner.responders.take();
        inner.sent.take();
        inner.records.take();
        inner.operations.take();
        inner.failing.take();
        inner.interruption.take();
        inner.random.take();
        inner.audited.take();
        inner.notes.take();
        inner.detached.take();
        inner.prompts.take();
        inner.state.take();
        inner.documents.take();
        inner.fetched.take();
        inner.counted.take();
        inner.provided.forget_calls();
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        self.0.elapsed.set(self.0.elapsed.get() + duration);
    }

    /// Sets the clocks back, as a correction of the machine's time does.
    pub fn set_back(&self, duration: Duration) {
        self.0.elapsed.set(self.0.elapsed.get() - duration);
    }

    /// The time that has passed.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed.get()
    }

    /// Answers the next request that no earlier `once` answers.
    pub fn once(
        &self,
        responder: impl FnMut(&http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> + 'static,
    ) {
        self.0.responders.borrow_mut().push_back(Box::new(responder));
    }

    /// Answers every request that no `once` answers.
    pub fn always(
        &self,
        responder: impl FnMut(&http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> + 'static,
    ) {
        *self.0.fallback.borrow_mut() = Some(Box::new(responder));
    }

    /// The requests sent so far, as `METHOD url`.
    pub fn sent(&self) -> Vec<String> {
        self.0.sent.borrow().iter().map(|r| format!("{} {}", r.method(), r.uri())).collect()
    }

    /// Something of each request sent so far.
    pub fn sent_with<T>(&self, what: impl FnMut(&http::Request<Vec<u8>>) -> T) -> Vec<T> {
        self.0.sent.borrow().iter().map(what).collect()
    }

    /// The bodies of the requests sent so far.
    pub fn sent_bodies(&self) -> Vec<String> {
        self.0.sent.borrow().iter().map(|r| String::from_utf8_lossy(r.body()).into_owned()).collect()
    }

    /// The events recorded so far.
    pub fn audited(&self) -> Vec<AuditEvent> {
        self.0.audited.borrow().clone()
    }

    /// What the operator was told.
    pub fn notes(&self) -> Vec<String> {
        self.0.notes.borrow().clone()
    }

    /// Lets the user agent listen for redirects.
    pub fn can_listen(&self) {
        self.0.listens.set(true);
    }

    /// The client answers its next request with this result.
    pub fn client_answers(&self, result: serde_json::Value) {
        self.0.answers.borrow_mut().push_back(result);
    }

    /// What the client was asked: methods and parameters.
    pub fn asked_of_client(&self) -> Vec<(String, serde_json::Value)> {
        self.0.asked.borrow().clone()
    }

    /// The listeners that were left running.
    pub fn detached(&self) -> Vec<String> {
        self.0.detached.borrow().clone()
    }

    /// What the person was told outside of the conversation.
    pub fn prompts(&self) -> Vec<String> {
        self.0.prompts.borrow().clone()
    }

    /// Makes the audit sink fail, or work again.
    pub fn refuse_audit(&self, refused: bool) {
        self.0.audit_refused.set(refused);
    }

    /// The names of the stored records, in order. A lease that was given back is none.
    pub fn record_names(&self) -> Vec<String> {
        let records = self.0.records.borrow();
        let kept = records.iter().filter(|(_, (value, _))| value != RELEASED);
        let mut names: Vec<String> = kept.map(|(name, _)| name.clone()).collect();
        // It names sessions in audit records, and outlives them all.
        names.retain(|name| !name.ends_with(KEY_NAME));
        names.sort();
        names
    }

    /// Makes a record one that the store cannot open, until it is written or deleted.
    pub fn damage(&self, key: &str) {
        self.0.unreadable.borrow_mut().insert(key.to_owned());
    }

    /// Refuses a record that the store cannot open.
    fn open(&self, key: &str) -> Result<(), StoreError> {
        if self.0.unreadable.borrow().contains(key) { Err(StoreError::Unreadable) } else { Ok(()) }
    }

    /// How many operations of the store there were.
    pub fn store_operations(&self) -> usize {
        self.0.operations.get()
    }

    /// Lets one operation of the store fail: the `after`-th from now, counted from 0.
    pub fn fail_store(&self, after: usize) {
        self.0.failing.set(Some((self.0.operations.get() + after, false)));
    }

    /// Lets all operations of the store fail from the `after`-th on, counted from 0, as after a crash.
    pub fn break_store(&self, after: usize) {
        self.0.failing.set(Some((self.0.operations.get() + after, true)));
    }

    /// Lets the store work again; whether the operation that was to fail has been reached.
    pub fn heal_store(&self) -> bool {
        self.0.failing.take().is_some_and(|(at, _)| at < self.0.operations.get())
    }

    /// Lets something happen right before an operation of the store: the `after`-th from now, counted from 0.
    pub fn interrupt_store(&self, after: usize, interruption: impl FnOnce() + 'static) {
        *self.0.interruption.borrow_mut() = Some((self.0.operations.get() + after, Box::new(interruption)));
    }

    /// Counts an operation of the store.
    fn operate(&self) -> Result<(), StoreError> {
        let number = self.0.operations.replace(self.0.operations.get() + 1);
        let interruption = self.0.interruption.borrow_mut().take_if(|(at, _)| *at == number);
        if let Some((_, interruption)) = interruption {
            interruption();
        }
        match self.0.failing.get() {
            Some((at, for_good)) if at == number || (for_good && at < number) => {
                Err(StoreError::Unavailable("the disk is full".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, key: &str) -> Option<Secret<Vec<u8>>> {
        let records = self.0.records.borrow();
        let current = records.get(key).filter(|(_, expires)| expires.is_none_or(|at| at > self.now()));
        current.map(|(value, _)| Secret::new(value.clone()))
    }

    fn write(&self, key: &str, value: &[u8], ttl: Option<Duration>) {
        let expires = ttl.map(|ttl| self.now() + ttl.as_secs());
        self.0.unreadable.borrow_mut().remove(key);
        self.0.records.borrow_mut().insert(key.to_owned(), (value.to_vec(), expires));
    }

    fn now(&self) -> u64 {
        START + self.0.elapsed.get().as_secs()
    }
}

/// A JSON response.
pub fn json(status: u16, body: &serde_json::Value) -> http::Response<Vec<u8>> {
    http::Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap()
}
