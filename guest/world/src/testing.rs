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

pub mod scheduler;
pub mod simulation;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use base::Secret;
use base::audit::AuditEvent;
use base::settings::{HttpSettings, LocalSettings, Mode, Settings, SignInMethod, TokenMode, TokenSettings};

use crate::capabilities::*;
use crate::records::{Keep, Partitions, Records};
use crate::store::{Store, StoreError};
use crate::trail::{KEY_NAME, Recorder, SessionNames, Trail};

/// 2026-01-01T00:00:00Z.
pub const START: u64 = 1_767_225_600;
/// The tenant of the default settings.
pub const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
/// The application of the default settings.
pub const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

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
type Record = (Vec<u8>, Option<u64>);

/// What a scripted server answers.
pub type Responder = Box<dyn FnMut(&http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>>;

/// What happens between two operations of a store.
type Interruption = Box<dyn FnOnce()>;

/// Handles that a test keeps on the fakes.
#[derive(Clone, Default)]
pub struct World(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// Seconds and nanoseconds since [`START`].
    elapsed: Cell<Duration>,
    responders: RefCell<VecDeque<Responder>>,
    fallback: RefCell<Option<Responder>>,
    sent: RefCell<Vec<http::Request<Vec<u8>>>>,
    records: RefCell<HashMap<String, Record>>,
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
    documents: RefCell<HashMap<String, Result<Document, FetchError>>>,
    fetched: RefCell<Vec<String>>,
    exceeded: RefCell<HashMap<String, Duration>>,
    bounds: RefCell<HashMap<String, (usize, Duration)>>,
    /// When what was counted, and of whom.
    counted: RefCell<Vec<(String, String, Duration)>>,
    credential: RefCell<Option<String>>,
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

    /// The names of the stored records, in order.
    pub fn record_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.records.borrow().keys().cloned().collect();
        // It names sessions in audit records, and outlives them all.
        names.retain(|name| !name.ends_with(KEY_NAME));
        names.sort();
        names
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
        self.0.records.borrow_mut().insert(key.to_owned(), (value.to_vec(), expires));
    }

    fn now(&self) -> u64 {
        START + self.0.elapsed.get().as_secs()
    }
}

/// What a record of the application is called in the store.
pub fn record(settings: &Settings, name: &str) -> String {
    let Settings { authority, tenant, client_id, .. } = settings;
    ["account", authority, tenant, client_id, name].join("/")
}

/// A public client of one tenant.
pub fn settings() -> Settings {
    Settings {
        tenant: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        authority: "https://login.microsoftonline.com".to_owned(),
        graph: "https://graph.microsoft.com".to_owned(),
        graph_resource: "https://graph.microsoft.com".to_owned(),
        token: TokenSettings {
            audiences: vec![CLIENT.to_owned()],
            allowed_tenants: Vec::new(),
            clock_tolerance: Duration::from_secs(60),
        },
        profile_cache: Duration::from_secs(60),
        audit_usernames: false,
        mode: Mode::Local(local_settings()),
    }
}

/// How people sign in.
pub fn local_settings() -> LocalSettings {
    LocalSettings { method: SignInMethod::Automatic, timeout: Duration::from_secs(300), account: None }
}

/// How long a replaced refresh token gets the same answer again, unless a test changes it.
pub const REFRESH_GRACE: Duration = Duration::from_secs(30);

/// Where the remote server of the tests is.
pub const PUBLIC_URL: &str = "https://mcp.example.com";

/// How the remote server is reached.
pub fn http_settings() -> HttpSettings {
    HttpSettings {
        public_url: PUBLIC_URL.to_owned(),
        allowed_hosts: vec!["mcp.example.com".to_owned()],
        allowed_origins: vec!["https://app.example.com".to_owned()],
        client_address_header: Some("x-entra-mcp-client-address".to_owned()),
        legacy_sse: true,
        clients: Vec::new(),
        dynamic_registration: true,
        client_id_metadata_documents: true,
        token_mode: TokenMode::Session,
        app_id_uri: None,
        required_scope: "access_as_user".to_owned(),
        access: None,
        token_header: None,
        rewrite_authority_metadata: false,
        refresh_grace: REFRESH_GRACE,
    }
}

/// A confidential client of the same tenant, served at [`PUBLIC_URL`].
pub fn remote_settings() -> Settings {
    Settings { mode: Mode::Remote(http_settings()), ..settings() }
}

/// A JSON response.
pub fn json(status: u16, body: &serde_json::Value) -> http::Response<Vec<u8>> {
    http::Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap()
}

#[async_trait(?Send)]
impl Http for World {
    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError> {
        self.0.sent.borrow_mut().push(request.clone());
        let next = self.0.responders.borrow_mut().pop_front();
        match next {
            Some(mut responder) => responder(&request),
            None => match self.0.fallback.borrow_mut().as_mut() {
                Some(responder) => responder(&request),
                None => panic!("unexpected request: {} {}", request.method(), request.uri()),
            },
        }
    }
}

#[async_trait(?Send)]
impl Store for World {
    async fn get(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        self.operate()?;
        Ok(self.read(key))
    }

    async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        self.operate()?;
        self.write(key, value, ttl);
        Ok(())
    }

    async fn take(&self, key: &str) -> Result<Option<Secret<Vec<u8>>>, StoreError> {
        self.operate()?;
        let found = self.read(key);
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
        self.operate()?;
        if self.read(key).as_ref().map(|secret| secret.reveal().as_slice()) != expected {
            return Ok(false);
        }
        self.write(key, value, ttl);
        Ok(true)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.operate()?;
        self.0.records.borrow_mut().remove(key);
        Ok(())
    }
}

#[async_trait(?Send)]
impl Clock for World {
    fn now(&self) -> u64 {
        World::now(self)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed.get()
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

impl Random for World {
    /// SplitMix64: different on every call, the same in every run.
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let state = self.0.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.0.random.set(state);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

impl UserAgent for World {
    fn open_browser(&self, _url: &str) -> Result<(), UserAgentError> {
        Err(UserAgentError::Unsupported)
    }

    fn prompt(&self, message: &str) {
        self.0.prompts.borrow_mut().push(message.to_owned());
    }

    fn listen(&self) -> Result<Box<dyn LoopbackListener>, UserAgentError> {
        if self.0.listens.get() { Ok(Box::new(Listener(self.clone()))) } else { Err(UserAgentError::Unsupported) }
    }

    fn attach(&self, id: &str) -> Result<Box<dyn LoopbackListener>, UserAgentError> {
        let mut detached = self.0.detached.borrow_mut();
        let at = detached.iter().position(|known| known == id).ok_or(UserAgentError::NoSuchListener)?;
        detached.remove(at);
        Ok(Box::new(Listener(self.clone())))
    }
}

/// A listener that no redirect ever reaches.
struct Listener(World);

impl LoopbackListener for Listener {
    fn redirect_uri(&self) -> String {
        "http://localhost:49152".to_owned()
    }

    fn wait(&self, timeout: Duration) -> Option<String> {
        self.0.advance(timeout);
        None
    }

    fn respond(&self, _page: Page) {}

    fn detach(&self, _lifetime: Duration) -> String {
        let mut detached = self.0.0.detached.borrow_mut();
        let id = format!("listener-{}", detached.len() + 1);
        detached.push(id.clone());
        id
    }
}

impl Channel for World {
    fn notify(&self, _method: &str, _params: &serde_json::Value) {}

    fn request(&self, _method: &str, _params: &serde_json::Value, _timeout: Duration) -> Box<dyn PendingRequest> {
        Box::new(NoAnswer)
    }

    fn state(&self) -> Option<String> {
        self.0.state.borrow().clone()
    }

    fn set_state(&self, value: &str) {
        *self.0.state.borrow_mut() = Some(value.to_owned());
    }
}

struct NoAnswer;

impl PendingRequest for NoAnswer {
    fn wait(&self, _timeout: Duration) -> Option<Result<serde_json::Value, ChannelError>> {
        Some(Err(ChannelError::Unsupported))
    }
}

impl ClientCredential for World {
    fn obtain(&self, _audience: &str) -> Result<Credential, CredentialError> {
        let secret = self.0.credential.borrow();
        Ok(secret.as_deref().map_or(Credential::None, |secret| Credential::Secret(Secret::from(secret))))
    }
}

impl RateLimiter for World {
    fn admit(&self, operation: &str, subject: &str) -> Result<(), Duration> {
        assert!(subject.len() <= 2048, "the contract of `rate-limiter` promises hosts no more");
        if let Some(after) = self.0.exceeded.borrow().get(operation) {
            return Err(*after);
        }
        let Some((count, per)) = self.0.bounds.borrow().get(operation).copied() else { return Ok(()) };
        let now = self.elapsed();
        let mut counted = self.0.counted.borrow_mut();
        let counts =
            |(other, who, at): &&(String, String, Duration)| other == operation && who == subject && *at + per > now;
        let times: Vec<_> = counted.iter().filter(counts).map(|(_, _, at)| *at).collect();
        match times.first() {
            Some(first) if times.len() >= count => Err(*first + per - now),
            _ => {
                counted.push((operation.to_owned(), subject.to_owned(), now));
                Ok(())
            }
        }
    }
}

impl ClientMetadata for World {
    fn fetch(&self, url: &str) -> Result<Document, FetchError> {
        self.0.fetched.borrow_mut().push(url.to_owned());
        let missing = || Err(FetchError::Unavailable("no such host".to_owned()));
        self.0.documents.borrow().get(url).cloned().unwrap_or_else(missing)
    }
}

impl Audit for World {
    fn record(&self, event: AuditEvent) -> Result<(), String> {
        if self.0.audit_refused.get() {
            return Err("the sink is full".to_owned());
        }
        self.0.audited.borrow_mut().push(event);
        Ok(())
    }
}

impl Log for World {
    fn note(&self, line: &str) {
        self.0.notes.borrow_mut().push(line.to_owned());
    }
}

impl Ask for World {
    fn http(&self) -> &dyn Http {
        self
    }

    fn clock(&self) -> &dyn Clock {
        self
    }
}

impl Keep for World {
    /// Those of the default settings.
    fn records(&self) -> Records<'_> {
        World::records(self, &settings())
    }

    fn random(&self) -> &dyn Random {
        self
    }
}
