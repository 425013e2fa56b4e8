//! Documents of the authority (metadata, key sets), fetched rarely and shared by all instances.
//!
//! Instances are many and short-lived, so a document is kept twice: parsed, in the instance, and as it was
//! fetched, in the secret store. The instance that fetches holds a lease in the store ([`world::once`]); the same
//! record remembers when the last attempt was, so that the limits hold across instances:
//!
//! - fresh for 24 hours, or as long as `Cache-Control` says if that is shorter; refreshed ahead of that;
//! - at most one fetch at a time, and at most one per 30 seconds, whichever caller asks and however often; for an ID
//!   token, which comes from the authority itself, one per 5 seconds;
//! - what cannot be refreshed is used for 48 hours after it was fetched, and the failure is audited;
//! - a document that does not parse never replaces one that did.
//!
//! Threat: an attacker who can send tokens decides which key ids the validator looks for. The attacker must not be able
//! to make it load the authority, or wait for it, at will.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use base::audit::{AuditEvent, Outcome};
use serde::{Deserialize, Serialize};
use world::once::{After, Asked, Impatient, Moment, NotAsked, Policy, Question, WithoutStore, once_with};
use world::records::{Holder, Namespace, Partition, Ttl};
use world::{HttpError, Patience, StoreError, Trail};
use zeroize::Zeroizing;

use super::deadline::Deadline;
use crate::clock_offset::{self, Sighting};
use crate::entra_world::EntraWorld;
use crate::oauth::{self, error::EntraRefusal};

/// How long a document is fresh, in seconds: Entra ID advises to look for new keys every 24 hours.
const FRESH_SECONDS: u64 = 24 * 60 * 60;

/// After this part of its fresh time a document is fetched ahead of time, while the old one still serves.
const REFRESH_AHEAD_PERCENT: u64 = 80;

/// How long a document that cannot be refreshed is used, in seconds since it was fetched. Entra ID announces new
/// keys earlier than that; a longer time would keep a revoked key alive.
const STALE_SECONDS: u64 = 48 * 60 * 60;

/// Seconds between two attempts at one document, whatever the load.
const ATTEMPT_SECONDS: u64 = 30;

/// The same for a key of a token that the authority itself has given over TLS: a key that signs at once after its
/// publication should not cost a person the sign-in. The seconds protect the authority from its own mistakes.
const ATTEMPT_SECONDS_FOR_AUTHORITY: u64 = 5;

/// Seconds between two attempts while there is no document at all: no caller is served, so try sooner.
const ATTEMPT_SECONDS_WITHOUT_DOCUMENT: u64 = 5;

/// How long a lease is honoured, in seconds. Longer than the host lets a request last; an instance that was
/// dropped in the middle holds others up no longer than this.
const LEASE_SECONDS: u64 = 60;

/// How long to wait for another instance's fetch when there is no document at all.
const WAIT_WITHOUT_DOCUMENT: Duration = Duration::from_secs(10);

/// How long to wait for another instance's fetch when only a newer document is wished for.
const WAIT_FOR_NEWER: Duration = Duration::from_secs(2);

/// Pause between two looks at the store while waiting.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// Seconds after which an instance looks into the store whether another one has a newer document. Bounds how
/// long a removed key lives on in an instance.
const STORE_CHECK_SECONDS: u64 = 60;

/// Seconds that a document's fetch time may be ahead of the clock before the clock is not believed.
const CLOCK_STEP_SECONDS: u64 = 300;

/// What kind of document; decides the name of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentKind {
    Metadata,
    Version1Metadata,
    Jwks,
}

impl DocumentKind {
    fn name(self) -> &'static str {
        match self {
            Self::Metadata => "openid-metadata",
            Self::Version1Metadata => "openid-metadata-v1",
            Self::Jwks => "jwks",
        }
    }

    /// The documents as they were fetched, by [`DocumentName::key`].
    fn documents(self) -> Namespace<StoredDocument> {
        let ttl = Ttl::For(Duration::from_secs(STALE_SECONDS));
        Namespace::with_encoding(Partition::Store, self.name(), ttl, StoredDocument::encode, StoredDocument::decode)
            .hashed()
            .absent_if_unreadable()
    }

    /// The attempts to fetch them, by the same key.
    fn attempts(self) -> Namespace<Holder> {
        let prefix = match self {
            Self::Metadata => "openid-metadata-attempt",
            Self::Version1Metadata => "openid-metadata-v1-attempt",
            Self::Jwks => "jwks-attempt",
        };
        Namespace::leases(Partition::Store, prefix).hashed()
    }
}

/// Which document: of which authority, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct DocumentName<'a> {
    pub(super) kind: DocumentKind,
    /// The authority with its tenant, as configured.
    pub(super) authority: &'a str,
    pub(super) url: &'a str,
}

impl DocumentName<'_> {
    /// Authority and URL together name the record: one key set is never taken for another's.
    fn key(&self) -> String {
        [self.authority, "\n", self.url].concat()
    }
}

/// Whether any document will do, or the cached one was not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Whatever is in date.
    Current,
    /// One fetched for this call, if the limits allow; otherwise what there is.
    Anew,
    /// One fetched after this time, if the limits allow; otherwise what there is.
    NewerThan(u64),
    /// The same for something that the authority itself has just said, so that no stranger chose what is looked for.
    NewerThanForAuthority(u64),
}

/// There is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unavailable {
    /// For the log.
    pub(super) reason: String,
    pub(super) fault: AuthorityFault,
}

impl Unavailable {
    /// What is there cannot be used.
    pub(super) fn unusable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), fault: AuthorityFault::Unusable }
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        Self { reason: error.to_string(), fault: AuthorityFault::NotAsked }
    }
}

/// Why a document of the authority cannot be read, for the person who has to do something about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityFault {
    /// Entra ID answered with an error, such as that it does not know the tenant.
    #[error("{}", .0.advice())]
    Refused(Box<EntraRefusal>),
    /// No answer arrived.
    #[error("Microsoft Entra ID cannot be reached: {0}")]
    Unreachable(HttpError),
    /// It answered with another status.
    #[error("Microsoft Entra ID is not available now (HTTP status {0}); try again later")]
    Status(u16),
    /// The answer is not that of an Entra ID.
    #[error(
        "what answers at the configured authority is not Microsoft Entra ID; check the authority, and whether a proxy is in between"
    )]
    Unusable,
    /// Another call has asked a moment ago, or is still asking.
    #[error("Microsoft Entra ID cannot be asked now; try again in a few seconds")]
    NotAsked,
    /// The settings name no authority.
    #[error("the setting {0} is wrong")]
    Misconfigured(String),
}

impl AuthorityFault {
    /// A stable code, as [`crate::oauth::OAuthError::reason`].
    pub fn reason(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Unreachable(_) | Self::Status(_) | Self::NotAsked => "entra-unavailable".to_owned(),
            Self::Unusable => "entra-malformed".to_owned(),
            Self::Misconfigured(_) => "misconfigured".to_owned(),
        }
    }
}

/// A document in its parsed form.
#[derive(Debug)]
pub(super) struct Fetched<T> {
    pub(super) value: T,
    /// Unix time in seconds.
    pub(super) fetched_at: u64,
    fresh_until: u64,
}

impl<T> Fetched<T> {
    fn is_due(&self, now: u64) -> bool {
        let ahead = self.fresh_until.saturating_sub(self.fetched_at) * REFRESH_AHEAD_PERCENT / 100;
        now >= self.fetched_at + ahead || now + CLOCK_STEP_SECONDS < self.fetched_at
    }

    fn is_usable(&self, now: u64) -> bool {
        now < self.fetched_at + STALE_SECONDS
    }

    fn satisfies(&self, demand: Demand, now: u64) -> bool {
        match demand {
            Demand::Current => !self.is_due(now),
            Demand::Anew => false,
            Demand::NewerThan(time) | Demand::NewerThanForAuthority(time) => {
                self.fetched_at > time && self.is_usable(now)
            }
        }
    }
}

/// One document as this instance knows it.
#[derive(Debug)]
pub(super) struct DocumentSlot<T> {
    url: RefCell<String>,
    current: RefCell<Option<Rc<Fetched<T>>>>,
    /// Unix time of the last look into the store.
    checked_at: Cell<Option<u64>>,
    /// Unix time of the last own attempt: the limit also holds when the store is out of order.
    attempted_at: Cell<Option<u64>>,
    /// Why the last own attempt failed.
    fault: RefCell<Option<AuthorityFault>>,
}

impl<T> Default for DocumentSlot<T> {
    fn default() -> Self {
        Self {
            url: RefCell::default(),
            current: RefCell::new(None),
            checked_at: Cell::new(None),
            attempted_at: Cell::new(None),
            fault: RefCell::new(None),
        }
    }
}

/// A document as it is stored.
struct StoredDocument {
    envelope: DocumentHeader,
    /// As it was fetched.
    body: Vec<u8>,
}

/// The part of a stored document before the first line break; the body follows.
#[derive(Serialize, Deserialize)]
struct DocumentHeader {
    authority: String,
    url: String,
    fetched_at: u64,
    fresh_until: u64,
    /// How wrong the clock of the machine was that fetched it, as the answer showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock: Option<Sighting>,
}

impl StoredDocument {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let mut record = serde_json::to_vec(&self.envelope).map_err(|_| StoreError::TooLarge)?;
        record.push(b'\n');
        record.extend_from_slice(&self.body);
        Ok(Zeroizing::new(record))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let at = bytes.iter().position(|byte| *byte == b'\n')?;
        let (envelope, body) = bytes.split_at(at);
        let envelope = serde_json::from_slice(envelope).ok()?;
        Some(Self { envelope, body: body.get(1..)?.to_vec() })
    }
}

/// How a document is read; the error is for the log.
pub(super) type Parse<'a, T> = &'a dyn Fn(&[u8]) -> Result<T, String>;

impl<T> DocumentSlot<T> {
    /// The document as this instance has it, if there is nothing to do about it: neither due for a refresh nor
    /// for a look into the store.
    pub(super) fn fresh(&self, now: u64) -> Option<Rc<Fetched<T>>> {
        let checked = self.checked_at.get().is_some_and(|at| now.abs_diff(at) < STORE_CHECK_SECONDS);
        if checked { self.satisfying(Demand::Current, now) } else { None }
    }

    /// The document, from the instance, the store or the authority.
    pub(super) async fn get(
        &self,
        env: &EntraWorld<'_>,
        name: DocumentName<'_>,
        parse: Parse<'_, T>,
        demand: Demand,
        deadline: Deadline,
    ) -> Result<Rc<Fetched<T>>, Unavailable> {
        self.turn_to(name);
        let key = name.key();
        let wait = deadline.left(env).map_or(WAIT_WITHOUT_DOCUMENT, |left| left.min(WAIT_WITHOUT_DOCUMENT));
        let mut refresh = DocumentQuestion { slot: self, env, name, key: &key, parse, demand, deadline, wait };
        // In a box, so that a call which finds the document in the instance is not as large as one that fetches it.
        let asked = Box::pin(once_with(&env.records, &name.kind.attempts(), &key, &mut refresh)).await;
        // What cannot be refreshed still serves for a while.
        asked.or_else(|unavailable| self.usable(env.clock.now()).ok_or(unavailable))
    }

    /// Whether the document is at hand, in the instance or in the store.
    pub(super) async fn is_known(&self, env: &EntraWorld<'_>, name: DocumentName<'_>, parse: Parse<'_, T>) -> bool {
        self.turn_to(name);
        if self.usable(env.clock.now()).is_none() {
            let (key, demand, deadline) = (name.key(), Demand::Current, Deadline::NONE);
            let wait = Duration::ZERO;
            DocumentQuestion { slot: self, env, name, key: &key, parse, demand, deadline, wait }
                .look_into_store()
                .await;
        }
        self.usable(env.clock.now()).is_some()
    }

    /// Forgets what was known of another document.
    fn turn_to(&self, name: DocumentName<'_>) {
        if *self.url.borrow() != name.url {
            *self.current.borrow_mut() = None;
            self.checked_at.set(None);
            self.attempted_at.set(None);
            *self.fault.borrow_mut() = None;
            name.url.clone_into(&mut self.url.borrow_mut());
        }
    }

    fn satisfying(&self, demand: Demand, now: u64) -> Option<Rc<Fetched<T>>> {
        self.current.borrow().as_ref().filter(|current| current.satisfies(demand, now)).cloned()
    }

    fn usable(&self, now: u64) -> Option<Rc<Fetched<T>>> {
        self.current.borrow().as_ref().filter(|current| current.is_usable(now)).cloned()
    }
}

/// One call's question for a document.
struct DocumentQuestion<'r, T> {
    slot: &'r DocumentSlot<T>,
    env: &'r EntraWorld<'r>,
    name: DocumentName<'r>,
    /// Names the records.
    key: &'r str,
    parse: Parse<'r, T>,
    demand: Demand,
    deadline: Deadline,
    /// How long to wait for another instance's fetch when there is no document at all.
    wait: Duration,
}

impl<T> Question for DocumentQuestion<'_, T> {
    type Answer = Rc<Fetched<T>>;
    type Error = Unavailable;

    fn policy(&self) -> Policy {
        let patience = match (self.demand, self.slot.usable(self.env.clock.now())) {
            // What is there serves until the other instance is done.
            (Demand::Current, Some(_)) => Duration::ZERO,
            // Another instance's fetch tells as much as this one's.
            (Demand::Anew | Demand::NewerThan(_) | Demand::NewerThanForAuthority(_), Some(_)) => WAIT_FOR_NEWER,
            (_, None) => self.wait,
        };
        Policy {
            lease: Duration::from_secs(LEASE_SECONDS),
            patience,
            poll: WAIT_STEP,
            impatient: Impatient::GivesUp,
            // Without a store there is no instance to coordinate with; the instance's own memory is the limit then.
            without_store: WithoutStore::Asks,
            after: After::Attempted {
                pause: Duration::from_secs(self.pause_seconds()),
                kept: Duration::from_secs(ATTEMPT_SECONDS),
            },
            ..Policy::ANSWER
        }
    }

    async fn look(&mut self, moment: Moment) -> Result<Option<Rc<Fetched<T>>>, Unavailable> {
        let now = self.env.clock.now();
        match moment {
            Moment::Begin => {
                if self.slot.checked_at.get().is_none_or(|at| now.abs_diff(at) >= STORE_CHECK_SECONDS) {
                    self.look_into_store().await;
                }
                if let Some(current) = self.slot.satisfying(self.demand, now) {
                    return Ok(Some(current));
                }
                // Another instance may have fetched since the last look. A second is as exact as the records are.
                if self.slot.checked_at.get().is_none_or(|at| now > at) {
                    self.look_into_store().await;
                    if let Some(current) = self.slot.satisfying(self.demand, now) {
                        return Ok(Some(current));
                    }
                }
                // The documents before this one have taken all the time. The next call finds them, and asks for this one.
                let late = self.deadline.left(self.env).is_some_and(|left| left.is_zero());
                if late && self.slot.usable(now).is_none() {
                    let reason = "no time is left to ask for it".to_owned();
                    return Err(Unavailable { reason, fault: AuthorityFault::NotAsked });
                }
                // Absolute differences: a clock that is set back must not make the pause longer.
                let pause = self.pause_seconds();
                match self.slot.attempted_at.get().filter(|at| now.abs_diff(*at) < pause) {
                    Some(attempted_at) => self.instead(NotAsked::TooSoon { attempted_at }).await.map(Some),
                    None => Ok(None),
                }
            }
            Moment::Waiting => {
                self.look_into_store().await;
                Ok(self.slot.satisfying(self.demand, now))
            }
            // The record that grants the right to ask is the one that tells of another call's attempt.
            Moment::Holding => Ok(None),
        }
    }

    async fn ask(&mut self) -> Result<Asked<Rc<Fetched<T>>>, Unavailable> {
        let Self { slot, env, name, .. } = *self;
        slot.attempted_at.set(Some(env.clock.now()));
        // What is there serves meanwhile, and may do so for long; but not a call that wants to know the time.
        let awaited = self.demand == Demand::Anew || slot.usable(env.clock.now()).is_none();
        let patience = if awaited { self.deadline.left(env) } else { None };
        let result = download(env, name.url, patience).await.and_then(|(body, fresh_seconds)| {
            let invalid = |reason| ("document-invalid", Unavailable::unusable(reason));
            (self.parse)(&body).map(|value| (body, fresh_seconds, value)).map_err(invalid)
        });
        let now = env.clock.now();
        // The pause counts from the end, or a slow endpoint would be asked again at once.
        slot.attempted_at.set(Some(now));
        match result {
            Ok((body, fresh_seconds, value)) => {
                let fresh_until = now + fresh_seconds;
                // Stored before the attempt ends: a call that sees its success looks for the document, and once only.
                self.store(now, fresh_until, body).await;
                let fetched = Rc::new(Fetched { value, fetched_at: now, fresh_until });
                *slot.current.borrow_mut() = Some(Rc::clone(&fetched));
                *slot.fault.borrow_mut() = None;
                slot.checked_at.set(Some(now));
                if matches!(name.kind, DocumentKind::Jwks) {
                    report(env.trail, Outcome::Success, None).await;
                }
                Ok(Asked::Answer(fetched))
            }
            Err((code, Unavailable { reason, fault })) => {
                report(env.trail, Outcome::Failure, Some(format!("{}-{code}", name.kind.name()))).await;
                *slot.fault.borrow_mut() = Some(fault.clone());
                Err(Unavailable { reason: format!("{}: {reason}", name.url), fault })
            }
        }
    }

    async fn instead(&mut self, why: NotAsked) -> Result<Rc<Fetched<T>>, Unavailable> {
        let reason = match why {
            NotAsked::Impatient => "another instance is still fetching",
            NotAsked::TooSoon { attempted_at } => {
                // The last attempt may be younger than the last look, and its document the one that is wished for.
                if self.slot.checked_at.get().is_none_or(|at| at <= attempted_at) {
                    self.look_into_store().await;
                }
                "the last attempt failed, the next one is not due yet"
            }
        };
        let current = self.slot.satisfying(self.demand, self.env.clock.now());
        current.ok_or_else(|| {
            let fault = self.slot.fault.borrow().clone().unwrap_or(AuthorityFault::NotAsked);
            Unavailable { reason: reason.to_owned(), fault }
        })
    }
}

impl<T> DocumentQuestion<'_, T> {
    /// Seconds between two attempts.
    fn pause_seconds(&self) -> u64 {
        match (self.demand, self.slot.usable(self.env.clock.now())) {
            (Demand::NewerThanForAuthority(_), Some(_)) => ATTEMPT_SECONDS_FOR_AUTHORITY,
            (_, Some(_)) => ATTEMPT_SECONDS,
            (_, None) => ATTEMPT_SECONDS_WITHOUT_DOCUMENT,
        }
    }

    /// Takes a newer document from the store. A store that fails, or holds something else, is no store.
    async fn look_into_store(&self) {
        let Self { slot, env, name, .. } = self;
        slot.checked_at.set(Some(env.clock.now()));
        let Ok(Some(StoredDocument { envelope, body })) = env.records.get(&name.kind.documents(), self.key).await
        else {
            return;
        };
        if envelope.authority != name.authority || envelope.url != name.url {
            return;
        }
        if let Some(seen) = envelope.clock {
            clock_offset::learn(env, seen);
        }
        let known = slot.current.borrow().as_ref().map(|current| current.fetched_at);
        if known.is_some_and(|known| known >= envelope.fetched_at) {
            return;
        }
        if let Ok(value) = (self.parse)(&body) {
            let DocumentHeader { fetched_at, fresh_until, .. } = envelope;
            *slot.current.borrow_mut() = Some(Rc::new(Fetched { value, fetched_at, fresh_until }));
        }
    }

    /// Stores a document. If the store fails, other instances fetch for themselves.
    async fn store(&self, fetched_at: u64, fresh_until: u64, body: Vec<u8>) {
        let DocumentName { kind, authority, url } = self.name;
        let (authority, url, clock) = (authority.to_owned(), url.to_owned(), clock_offset::sighting(self.env));
        let envelope = DocumentHeader { authority, url, fetched_at, fresh_until, clock };
        let _ = self.env.records.put(&kind.documents(), self.key, &StoredDocument { envelope, body }).await;
    }
}

/// The body and for how many seconds it is fresh; or the reason, as code and as text.
async fn download(
    env: &EntraWorld<'_>,
    url: &str,
    patience: Option<Duration>,
) -> Result<(Vec<u8>, u64), (&'static str, Unavailable)> {
    let mut request = http::Request::get(url)
        .header(http::header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|error| ("url-invalid", Unavailable::unusable(error.to_string())))?;
    if let Some(patience) = patience {
        request.extensions_mut().insert(Patience(patience));
    }
    let response = env.http.send(request).await.map_err(|error| {
        let code = match &error {
            HttpError::Denied(_) => "denied",
            HttpError::Connect(_) => "connect",
            HttpError::TimedOut => "timed-out",
            HttpError::TooLarge => "too-large",
            HttpError::Broken(_) => "broken",
        };
        (code, Unavailable { reason: error.to_string(), fault: AuthorityFault::Unreachable(error) })
    })?;
    clock_offset::observe(env, response.headers());
    if response.status() != http::StatusCode::OK {
        let status = response.status().as_u16();
        let refusal = oauth::refusal(response.body());
        let code = refusal.as_ref().map(|refusal| format!(" ({})", refusal.reason())).unwrap_or_default();
        let fault =
            refusal.map_or(AuthorityFault::Status(status), |refusal| AuthorityFault::Refused(Box::new(refusal)));
        return Err(("status", Unavailable { reason: format!("status {status}{code}"), fault }));
    }
    let fresh = fresh_seconds(response.headers());
    Ok((response.into_body(), fresh))
}

/// `Cache-Control` can only shorten the time (RFC 9111 section 5.2.2); `Age` is how much of it has passed.
fn fresh_seconds(headers: &http::HeaderMap) -> u64 {
    let mut fresh = FRESH_SECONDS;
    for value in headers.get_all(http::header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()) {
        for directive in value.split(',').map(|directive| directive.trim().to_ascii_lowercase()) {
            if directive == "no-store" || directive == "no-cache" {
                fresh = 0;
            } else if let Some(seconds) = directive.strip_prefix("max-age=") {
                fresh = fresh.min(seconds.trim_matches('"').parse().unwrap_or(0));
            }
        }
    }
    let age = headers.get(http::header::AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
    fresh.saturating_sub(age)
}

/// An outage is reported even while the old document hides it. Nothing depends on the report: the token that
/// led here is judged by what there is, and a failing sink must not turn an outage into a refusal.
async fn report(trail: &Trail<'_>, outcome: Outcome, reason: Option<String>) {
    let _ = trail.record(AuditEvent { reason, ..AuditEvent::new("signing-keys.refresh", outcome) }).await;
}
