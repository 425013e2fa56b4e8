//! Bounds how many records are written one by one, so that no caller, and no stranger, fills the files until the records
//! that matter are gone.
//!
//! The host writes the first events of a caller one by one. If more follow too fast, it writes the first of each kind
//! and counts the others: it writes the last of them with their number, at most a minute later. So no kind of event
//! hides another, and lines and counts add up to what happened. A process that is killed loses the counts of that
//! minute.
//!
//! The number of kinds is bounded as well: beyond it, the host counts events of several kinds together, without the
//! attributes that tell them apart. The lines with counts of strangers share the bound of strangers, the oldest first,
//! so they may wait longer than a minute.
//!
//! The host counts events only for a few seconds after a successful write. Then it writes the next one, which fails if
//! writes fail. While it cannot write records, every event fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::{AuditRecord, AuditSink, Event, Outcome, outcome};
use crate::clock::{self, Clock};
use crate::networks::neighbourhood;
use crate::rate_limiter::{CountingRateLimiter, RECORD_OF};

/// The operation of the rate limiter that bounds records of denied calls and codes, by caller.
pub const DENIED_RECORDS: &str = "denied-records";

/// The same for records of calls.
pub const CALLED_RECORDS: &str = "called-records";

/// The same for records of sessions and tokens that are refreshed.
pub const REFRESH_RECORDS: &str = "refresh-records";

/// The same for records that name no caller: those of all strangers together. The bounds of single addresses are elsewhere,
/// and an attacker has many addresses.
pub const STRANGER_RECORDS: &str = "stranger-records";

/// How long events are counted before their number is written.
const COUNTED: Duration = Duration::from_secs(60);

/// How long after a write that succeeded events are counted without another write: a disk that is full is noticed by
/// then.
const BELIEVED: Duration = Duration::from_secs(5);

/// Kinds of events of callers that are counted at the same time: some 4 MiB. Beyond, the callers are not told apart.
const MAX_KINDS: usize = 4_096;

/// Kinds with a client and a session that are counted for one caller, and kinds with a network for all strangers.
/// Beyond, clients and sessions, or networks, are not told apart.
const MAX_DETAILED: usize = 16;

/// Bounds the records of another sink.
pub struct BoundedAudit {
    inner: Arc<dyn AuditSink>,
    limiter: Arc<CountingRateLimiter>,
    clock: Arc<dyn Clock>,
    counted: Mutex<Counts>,
    /// When the last record was written, as a reading of the monotonic clock.
    written_at: Mutex<Option<Duration>>,
    /// The last record could not be written.
    failing: AtomicBool,
}

/// What is counted, by kind.
#[derive(Default)]
struct Counts {
    callers: HashMap<String, Counted>,
    strangers: HashMap<String, Counted>,
    /// How many detailed kinds there are, by caller; the empty one stands for the strangers.
    detailed: HashMap<String, usize>,
}

/// Events of one kind that have not been written.
struct Counted {
    last: AuditRecord,
    /// How many there were before the last one.
    before: u64,
    /// Since when they are counted, as a reading of the monotonic clock.
    since: Duration,
    /// See [`Counts::detailed`].
    detail_of: Option<String>,
}

/// The kinds that an event may be counted as.
struct Kinds {
    is_stranger: bool,
    /// The caller, or nothing.
    of: String,
    /// With the client and the session, or the network of a stranger.
    detailed: String,
    /// Without. A caller has few of these: tools and reasons are from fixed sets.
    plain: String,
    /// Without the caller as well.
    of_all: String,
}

impl BoundedAudit {
    /// Bounds `inner` by the operations of `limiter` that are named here. Writes the counts as time passes, as long as
    /// this exists.
    pub fn start(inner: Arc<dyn AuditSink>, limiter: Arc<CountingRateLimiter>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let audit = Arc::new(Self {
            inner,
            limiter,
            clock: Arc::clone(&clock),
            counted: Mutex::default(),
            written_at: Mutex::default(),
            failing: AtomicBool::new(false),
        });
        tokio::spawn(write_counts(Arc::downgrade(&audit), clock));
        audit
    }

    /// Writes everything that was counted, until a record cannot be written.
    pub async fn flush(&self) {
        self.write_counted_where(|_| true).await;
    }

    /// Writes what was counted, one kind after the other, the oldest first, and stops at the first that cannot be
    /// written: it is counted on, as are those that may not be written yet.
    async fn write_counted_where(&self, mut may_be_written: impl FnMut(bool) -> bool + Send) {
        let kinds = self.counted().oldest_first();
        for (is_stranger, kind) in kinds {
            if may_be_written(is_stranger) && self.write_counted(is_stranger, &kind).await.is_err() {
                return;
            }
        }
    }

    async fn write_counted(&self, is_stranger: bool, kind: &str) -> Result<(), String> {
        let counted = self.counted().remove(is_stranger, kind);
        let Some(counted) = counted else { return Ok(()) };
        let written = self.write(with_count(counted.last.clone(), counted.before)).await;
        if written.is_err() {
            self.counted().put(is_stranger, kind, counted);
        }
        written
    }

    fn counted(&self) -> MutexGuard<'_, Counts> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written_at(&self) -> MutexGuard<'_, Option<Duration>> {
        self.written_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, record: AuditRecord) -> Result<(), String> {
        let now = self.clock.monotonic();
        let written = self.inner.record(record).await;
        if written.is_ok() {
            *self.written_at() = Some(now);
        }
        self.failing.store(written.is_err(), Ordering::Relaxed);
        written
    }

    /// Writes a record, and how many of its kind were counted before.
    async fn write_alone(&self, kinds: &Kinds, record: AuditRecord) -> Result<(), String> {
        let counted = self.counted().remove(kinds.is_stranger, &kinds.detailed);
        let Some(counted) = counted else { return self.write(record).await };
        let record = with_count(merged(&counted.last, record), counted.before.saturating_add(1));
        let written = self.write(record).await;
        if written.is_err() {
            self.counted().put(kinds.is_stranger, &kinds.detailed, counted);
        }
        written
    }

    /// Whether a write has succeeded so recently that an event may be counted.
    fn is_believed(&self) -> bool {
        let now = self.clock.monotonic();
        self.written_at().is_some_and(|at| now.saturating_sub(at) < BELIEVED)
    }
}

impl Counts {
    #[cfg(test)]
    fn len(&self) -> usize {
        self.callers.len().saturating_add(self.strangers.len())
    }

    fn is_empty(&self) -> bool {
        self.callers.is_empty() && self.strangers.is_empty()
    }

    fn of(&mut self, is_stranger: bool) -> &mut HashMap<String, Counted> {
        if is_stranger { &mut self.strangers } else { &mut self.callers }
    }

    /// Counts an event: as the most detailed kind that there is room for.
    fn count(&mut self, kinds: Kinds, record: AuditRecord, now: Duration) {
        let Kinds { is_stranger, of, detailed, plain, of_all } = kinds;
        let has_room = is_stranger || self.callers.len() < MAX_KINDS;
        let details = self.detailed.get(&of).copied().unwrap_or(0);
        let known = |kind: &String| self.of_ref(is_stranger).contains_key(kind);
        let (kind, detail_of) = if known(&detailed) {
            (detailed, None)
        } else if has_room && details < MAX_DETAILED {
            (detailed, Some(of))
        } else if known(&plain) || has_room {
            (plain, None)
        } else {
            (of_all, None)
        };
        self.put(is_stranger, &kind, Counted { last: record, before: 0, since: now, detail_of });
    }

    fn of_ref(&self, is_stranger: bool) -> &HashMap<String, Counted> {
        if is_stranger { &self.strangers } else { &self.callers }
    }

    fn put(&mut self, is_stranger: bool, kind: &str, counted: Counted) {
        if let Some(known) = self.of(is_stranger).get_mut(kind) {
            known.before = known.before.saturating_add(counted.before).saturating_add(1);
            known.since = known.since.min(counted.since);
            // What is counted again after a failure is older.
            let is_newer = counted.last.time >= known.last.time;
            let (older, newer) =
                if is_newer { (&known.last, counted.last) } else { (&counted.last, known.last.clone()) };
            known.last = merged(older, newer);
            return;
        }
        if let Some(of) = &counted.detail_of {
            let details = self.detailed.entry(of.clone()).or_default();
            *details = details.saturating_add(1);
        }
        self.of(is_stranger).insert(kind.to_owned(), counted);
    }

    fn remove(&mut self, is_stranger: bool, kind: &str) -> Option<Counted> {
        let counted = self.of(is_stranger).remove(kind)?;
        if let Some(of) = &counted.detail_of
            && let Some(details) = self.detailed.get_mut(of)
        {
            *details = details.saturating_sub(1);
            if *details == 0 {
                self.detailed.remove(of);
            }
        }
        Some(counted)
    }

    fn oldest_first(&self) -> Vec<(bool, String)> {
        let of = |is_stranger| {
            self.of_ref(is_stranger).iter().map(move |(kind, counted)| (counted.since, is_stranger, kind))
        };
        let mut kinds: Vec<_> = of(false).chain(of(true)).collect();
        kinds.sort();
        kinds.into_iter().map(|(_, is_stranger, kind)| (is_stranger, kind.clone())).collect()
    }

    /// The kind of strangers whose number should have been written before `now`, and has waited longest.
    fn overdue(&self, now: Duration) -> Option<String> {
        let (kind, oldest) = self.strangers.iter().min_by_key(|(_, counted)| counted.since)?;
        (now.saturating_sub(oldest.since) >= COUNTED).then(|| kind.clone())
    }
}

#[async_trait]
impl AuditSink for BoundedAudit {
    async fn record(&self, record: AuditRecord) -> Result<(), String> {
        let Some((operation, caller)) = bound_of(&record.event) else { return self.write(record).await };
        let is_failing = self.failing.load(Ordering::Relaxed);
        let alone = is_failing || self.limiter.admit_here(operation, &caller).is_ok();
        if alone && self.counted().is_empty() {
            return self.write(record).await;
        }
        let kinds = Kinds::of(&record.event, caller);
        let now = self.clock.monotonic();
        if alone {
            // What is counted must not wait for a flood to end: its number goes first, and takes the place.
            let overdue = self.counted().overdue(now).filter(|_| kinds.is_stranger && !is_failing);
            let Some(overdue) = overdue.filter(|kind| *kind != kinds.detailed) else {
                return self.write_alone(&kinds, record).await;
            };
            self.write_counted(true, &overdue).await?;
        } else if self.limiter.admit_here(&[RECORD_OF, operation].concat(), &kinds.plain).is_ok() || !self.is_believed()
        {
            return self.write_alone(&kinds, record).await;
        }
        self.counted().count(kinds, record, now);
        Ok(())
    }
}

async fn write_counts(audit: Weak<BoundedAudit>, clock: Arc<dyn Clock>) {
    loop {
        clock::sleep(&*clock, COUNTED).await;
        let Some(audit) = audit.upgrade() else { return };
        let limiter = Arc::clone(&audit.limiter);
        let may_be_written = |is_stranger: bool| !is_stranger || limiter.admit_here(STRANGER_RECORDS, "").is_ok();
        audit.write_counted_where(may_be_written).await;
    }
}

fn with_count(mut record: AuditRecord, events: u64) -> AuditRecord {
    record.event.suppressed = Some(events).filter(|events| *events > 0);
    record
}

/// The newer of two records of a kind, which is to stand for both. It names no caller, client, session or network that
/// is not that of both.
fn merged(older: &AuditRecord, mut newer: AuditRecord) -> AuditRecord {
    let (old, new) = (&older.event, &mut newer.event);
    let caller = |event: &Event| (event.tenant_id.clone(), event.object_id.clone());
    if caller(old) != caller(new) {
        (new.tenant_id, new.object_id, new.username, new.token_id) = (None, None, None, None);
        (new.agent, new.agent_blueprint) = (None, None);
    }
    if old.client_id != new.client_id {
        (new.client_id, new.token_id) = (None, None);
    }
    if old.session != new.session {
        new.session = None;
    }
    let network = |event: &Event| event.address.as_deref().and_then(neighbourhood);
    if old.address != new.address && network(old) != network(new) {
        new.address = None;
    }
    newer
}

/// The operation that bounds an event, and its subject; none for an event of a caller that costs a sign-in or a token, and for
/// what a stranger has achieved: registrations and consents have rates of their own.
fn bound_of(event: &Event) -> Option<(&'static str, String)> {
    let is_registration = event.name == "client.registered" && event.outcome == Outcome::Success;
    if is_registration || event.name.starts_with("consent.") {
        return None;
    }
    let (Some(tenant), Some(object)) = (&event.tenant_id, &event.object_id) else {
        return Some((STRANGER_RECORDS, String::new()));
    };
    let operation = match event.name.as_str() {
        "tool.denied" | "code.refused" => DENIED_RECORDS,
        "tool.called" => CALLED_RECORDS,
        "session.refreshed" | "session.refresh-repeated" | "token.refreshed" => REFRESH_RECORDS,
        _ => return None,
    };
    Some((operation, [tenant.as_str(), "/", object].concat()))
}

impl Kinds {
    /// Of an event of a caller, or of a stranger, who has none.
    fn of(event: &Event, caller: String) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let is_stranger = caller.is_empty();
        let of_all = [event.name.as_str(), outcome(event.outcome), &text(&event.reason), &text(&event.tool)].join("\n");
        let plain = if is_stranger { of_all.clone() } else { [of_all.as_str(), &caller].join("\n") };
        let detailed = if is_stranger {
            [plain.as_str(), &event.address.as_deref().and_then(neighbourhood).unwrap_or_default()].join("\n")
        } else {
            [plain.as_str(), &text(&event.client_id), &text(&event.session)].join("\n")
        };
        Self { is_stranger, of: caller, detailed, plain, of_all }
    }
}

#[cfg(test)]
mod tests;
