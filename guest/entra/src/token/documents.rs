//! Documents of the authority (metadata, key sets), fetched rarely and shared by all instances.
//!
//! Instances are many and short-lived, so a document is kept twice: parsed, in the instance, and as it was
//! fetched, in the secret store. Who fetches holds a lease in the store, taken by compare-and-swap; the same
//! record remembers when the last attempt was, so that the limits hold across instances:
//!
//! - fresh for 24 hours, or as long as `Cache-Control` says if that is shorter; refreshed ahead of that;
//! - at most one fetch at a time, and at most one per 30 seconds, whoever asks and however often; for an ID token, which
//!   comes from the authority itself, one per 5 seconds;
//! - what cannot be refreshed is used for 48 hours after it was fetched, and the failure is audited;
//! - a document that does not parse never replaces one that did.
//!
//! Threat: whoever can send us tokens decides which key ids we look for. They must not be able to make us load
//! the authority, or wait for it, at will.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use base::audit::{AuditEvent, Outcome};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use world::HttpError;

use crate::entra_world::EntraWorld;

/// How long a document is fresh, in seconds: Entra ID advises to look for new keys every 24 hours.
const FRESH_SECONDS: u64 = 24 * 60 * 60;

/// After this part of its fresh time a document is fetched ahead of time, while the old one still serves.
const REFRESH_AHEAD_PERCENT: u64 = 80;

/// How long a document that cannot be refreshed is used, in seconds since it was fetched. Entra ID announces new
/// keys earlier than that; a longer time would keep a revoked key alive.
const STALE_SECONDS: u64 = 48 * 60 * 60;

/// Seconds between two attempts at one document, whatever the load.
const ATTEMPT_SECONDS: u64 = 30;

/// The same for a key of a token that the authority itself has given us over TLS: a key that signs at once after its
/// publication should not cost anybody their sign-in. The seconds protect the authority from its own mistakes.
const ATTEMPT_SECONDS_FOR_AUTHORITY: u64 = 5;

/// Seconds between two attempts while there is no document at all: nobody is served, so try sooner.
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
pub(super) enum Kind {
    Metadata,
    Version1Metadata,
    Jwks,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Metadata => "openid-metadata",
            Self::Version1Metadata => "openid-metadata-v1",
            Self::Jwks => "jwks",
        }
    }
}

/// Which document: of which authority, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) kind: Kind,
    /// The authority with its tenant, as configured.
    pub(super) authority: &'a str,
    pub(super) url: &'a str,
}

impl Name<'_> {
    /// Authority and URL together name the record: one key set is never taken for another's.
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.authority);
        hash.update("\n");
        hash.update(self.url);
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    fn record(&self) -> String {
        format!("{}/{}", self.kind.name(), self.id())
    }

    fn attempt_record(&self) -> String {
        format!("{}-attempt/{}", self.kind.name(), self.id())
    }
}

/// Whether any document will do, or what we have was not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Whatever is in date.
    Current,
    /// One fetched after this time, if the limits allow; otherwise what there is.
    NewerThan(u64),
    /// The same for something that the authority itself has just said, so that no stranger chose what is looked for.
    NewerThanForAuthority(u64),
}

/// There is no document. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unavailable(pub(super) String);

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
            Demand::NewerThan(time) | Demand::NewerThanForAuthority(time) => {
                self.fetched_at > time && self.is_usable(now)
            }
        }
    }
}

/// One document as this instance knows it.
#[derive(Debug)]
pub(super) struct Slot<T> {
    url: RefCell<String>,
    current: RefCell<Option<Rc<Fetched<T>>>>,
    /// Unix time of the last look into the store.
    checked_at: Cell<Option<u64>>,
    /// Unix time of the last own attempt: the limit also holds when the store is out of order.
    attempted_at: Cell<Option<u64>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            url: RefCell::default(),
            current: RefCell::new(None),
            checked_at: Cell::new(None),
            attempted_at: Cell::new(None),
        }
    }
}

/// The part of a stored document before the first line break; the body follows as it was fetched.
#[derive(Serialize, Deserialize)]
struct Envelope {
    authority: String,
    url: String,
    fetched_at: u64,
    fresh_until: u64,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum AttemptState {
    Running,
    Succeeded,
    Failed,
}

/// The lease, and after the fetch the memory of it.
#[derive(Serialize, Deserialize, Clone, Copy)]
struct Attempt {
    at: u64,
    state: AttemptState,
}

enum Turn {
    /// This instance fetches.
    Ours,
    /// Another instance is fetching.
    Others,
    /// The last attempt is too recent.
    TooSoon {
        /// Unix time in seconds.
        attempted_at: u64,
    },
}

/// How a document is read; the error is for the log.
pub(super) type Parse<'a, T> = &'a dyn Fn(&[u8]) -> Result<T, String>;

impl<T> Slot<T> {
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
        name: Name<'_>,
        parse: Parse<'_, T>,
        demand: Demand,
    ) -> Result<Rc<Fetched<T>>, Unavailable> {
        if *self.url.borrow() != name.url {
            *self.current.borrow_mut() = None;
            self.checked_at.set(None);
            self.attempted_at.set(None);
            name.url.clone_into(&mut self.url.borrow_mut());
        }
        let now = env.clock.now();
        if self.checked_at.get().is_none_or(|at| now.abs_diff(at) >= STORE_CHECK_SECONDS) {
            self.look_into_store(env, name, parse);
        }
        if let Some(current) = self.satisfying(demand, now) {
            return Ok(current);
        }
        // Another instance may have fetched since our last look. A second is as exact as the records are.
        if self.checked_at.get().is_none_or(|at| now > at) {
            self.look_into_store(env, name, parse);
            if let Some(current) = self.satisfying(demand, now) {
                return Ok(current);
            }
        }
        let mut reason = "the last attempt failed, the next one is not due yet".to_owned();
        match self.turn(env, name, demand) {
            Turn::Ours => match self.fetch(env, name, parse).await {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => reason = failure,
            },
            Turn::Others => {
                if let Some(current) = self.wait_for_others(env, name, parse, demand).await {
                    return Ok(current);
                }
                "another instance is still fetching".clone_into(&mut reason);
            }
            // The last attempt may be younger than our last look, and its document the one that is wished for.
            Turn::TooSoon { attempted_at } if self.checked_at.get().is_none_or(|at| at <= attempted_at) => {
                self.look_into_store(env, name, parse);
            }
            Turn::TooSoon { .. } => {}
        }
        self.usable(env.clock.now()).ok_or(Unavailable(reason))
    }

    fn satisfying(&self, demand: Demand, now: u64) -> Option<Rc<Fetched<T>>> {
        self.current.borrow().as_ref().filter(|current| current.satisfies(demand, now)).cloned()
    }

    fn usable(&self, now: u64) -> Option<Rc<Fetched<T>>> {
        self.current.borrow().as_ref().filter(|current| current.is_usable(now)).cloned()
    }

    /// Takes a newer document from the store. A store that fails, or holds something else, is no store.
    fn look_into_store(&self, env: &EntraWorld<'_>, name: Name<'_>, parse: Parse<'_, T>) {
        self.checked_at.set(Some(env.clock.now()));
        let Ok(Some(record)) = env.store.get(&name.record()) else {
            return;
        };
        let Some(at) = record.reveal().iter().position(|byte| *byte == b'\n') else {
            return;
        };
        let (envelope, body) = record.reveal().split_at(at);
        let Ok(envelope) = serde_json::from_slice::<Envelope>(envelope) else {
            return;
        };
        if envelope.authority != name.authority || envelope.url != name.url {
            return;
        }
        let known = self.current.borrow().as_ref().map(|current| current.fetched_at);
        if known.is_some_and(|known| known >= envelope.fetched_at) {
            return;
        }
        if let Ok(value) = parse(body.get(1..).unwrap_or_default()) {
            let Envelope { fetched_at, fresh_until, .. } = envelope;
            *self.current.borrow_mut() = Some(Rc::new(Fetched { value, fetched_at, fresh_until }));
        }
    }

    fn turn(&self, env: &EntraWorld<'_>, name: Name<'_>, demand: Demand) -> Turn {
        let now = env.clock.now();
        let pause = match (demand, self.usable(now)) {
            (Demand::NewerThanForAuthority(_), Some(_)) => ATTEMPT_SECONDS_FOR_AUTHORITY,
            (_, Some(_)) => ATTEMPT_SECONDS,
            (_, None) => ATTEMPT_SECONDS_WITHOUT_DOCUMENT,
        };
        // Absolute differences: a clock that is set back must not make the pause longer.
        if let Some(attempted_at) = self.attempted_at.get().filter(|at| now.abs_diff(*at) < pause) {
            return Turn::TooSoon { attempted_at };
        }
        let record = name.attempt_record();
        // Without a store there is nobody to coordinate with; the instance's own memory is the limit then.
        let Ok(found) = env.store.get(&record) else {
            return Turn::Ours;
        };
        let attempt =
            found.as_ref().and_then(|found| serde_json::from_slice::<Attempt>(found.reveal().as_slice()).ok());
        if let Some(Attempt { at, state }) = attempt {
            let age = now.abs_diff(at);
            match state {
                AttemptState::Running if age < LEASE_SECONDS => return Turn::Others,
                AttemptState::Succeeded | AttemptState::Failed if age < pause => {
                    return Turn::TooSoon { attempted_at: at };
                }
                _ => {}
            }
        }
        let lease = encode_attempt(now, AttemptState::Running);
        let expected = found.as_ref().map(|found| found.reveal().as_slice());
        match env.store.compare_and_swap(&record, expected, &lease, Some(Duration::from_secs(LEASE_SECONDS))) {
            Ok(true) | Err(_) => Turn::Ours,
            Ok(false) => Turn::Others,
        }
    }

    async fn wait_for_others(
        &self,
        env: &EntraWorld<'_>,
        name: Name<'_>,
        parse: Parse<'_, T>,
        demand: Demand,
    ) -> Option<Rc<Fetched<T>>> {
        let limit = match (demand, self.usable(env.clock.now())) {
            // What we have serves until the other instance is done.
            (Demand::Current, Some(current)) => return Some(current),
            (Demand::NewerThan(_) | Demand::NewerThanForAuthority(_), Some(_)) => WAIT_FOR_NEWER,
            (_, None) => WAIT_WITHOUT_DOCUMENT,
        };
        let start = env.clock.monotonic();
        while env.clock.monotonic().saturating_sub(start) < limit {
            env.clock.sleep(WAIT_STEP).await;
            // In this order: whoever fetches stores the document before the end of the attempt.
            let running = matches!(env.store.get(&name.attempt_record()), Ok(Some(found))
                if serde_json::from_slice::<Attempt>(found.reveal().as_slice())
                    .is_ok_and(|attempt| attempt.state == AttemptState::Running));
            self.look_into_store(env, name, parse);
            if let Some(current) = self.satisfying(demand, env.clock.now()) {
                return Some(current);
            }
            if !running {
                break;
            }
        }
        None
    }

    async fn fetch(&self, env: &EntraWorld<'_>, name: Name<'_>, parse: Parse<'_, T>) -> Result<Rc<Fetched<T>>, String> {
        self.attempted_at.set(Some(env.clock.now()));
        let result = download(env, name.url).await.and_then(|(body, fresh_seconds)| {
            parse(&body).map(|value| (body, fresh_seconds, value)).map_err(|reason| ("document-invalid", reason))
        });
        let now = env.clock.now();
        // The pause counts from the end, or a slow endpoint would be asked again at once.
        self.attempted_at.set(Some(now));
        // The document first: who sees that the attempt has succeeded looks for it, and once only.
        if let Ok((body, fresh_seconds, _)) = &result {
            store(env, name, now, now + fresh_seconds, body);
        }
        let state = if result.is_ok() { AttemptState::Succeeded } else { AttemptState::Failed };
        let finished = encode_attempt(now, state);
        // A store that fails here costs a request more, nothing else.
        let _ = env.store.put(&name.attempt_record(), &finished, Some(Duration::from_secs(ATTEMPT_SECONDS)));
        match result {
            Ok((_, fresh_seconds, value)) => {
                let fresh_until = now + fresh_seconds;
                let fetched = Rc::new(Fetched { value, fetched_at: now, fresh_until });
                *self.current.borrow_mut() = Some(Rc::clone(&fetched));
                self.checked_at.set(Some(now));
                if matches!(name.kind, Kind::Jwks) {
                    report(env, Outcome::Success, None);
                }
                Ok(fetched)
            }
            Err((code, reason)) => {
                report(env, Outcome::Failure, Some(format!("{}-{code}", name.kind.name())));
                Err(format!("{}: {reason}", name.url))
            }
        }
    }
}

fn encode_attempt(at: u64, state: AttemptState) -> Vec<u8> {
    serde_json::to_vec(&Attempt { at, state }).unwrap_or_default()
}

fn store(env: &EntraWorld<'_>, name: Name<'_>, fetched_at: u64, fresh_until: u64, body: &[u8]) {
    let envelope = Envelope { authority: name.authority.to_owned(), url: name.url.to_owned(), fetched_at, fresh_until };
    if let Ok(mut record) = serde_json::to_vec(&envelope) {
        record.push(b'\n');
        record.extend_from_slice(body);
        // As above: other instances fetch for themselves if this fails.
        let _ = env.store.put(&name.record(), &record, Some(Duration::from_secs(STALE_SECONDS)));
    }
}

/// The body and for how many seconds it is fresh; or the reason, as code and as text.
async fn download(env: &EntraWorld<'_>, url: &str) -> Result<(Vec<u8>, u64), (&'static str, String)> {
    let request = http::Request::get(url)
        .header(http::header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|error| ("url-invalid", error.to_string()))?;
    let response = env.http.send(request).await.map_err(|error| {
        let code = match &error {
            HttpError::Denied => "denied",
            HttpError::Connect(_) => "connect",
            HttpError::TimedOut => "timed-out",
            HttpError::TooLarge => "too-large",
            HttpError::Broken(_) => "broken",
        };
        (code, error.to_string())
    })?;
    if response.status() != http::StatusCode::OK {
        return Err(("status", format!("status {}", response.status().as_u16())));
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
fn report(env: &EntraWorld<'_>, outcome: Outcome, reason: Option<String>) {
    let _ = env.trail.record(AuditEvent { reason, ..AuditEvent::new("signing-keys.refresh", outcome) });
}
