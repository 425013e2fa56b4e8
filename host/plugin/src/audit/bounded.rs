//! Bounds how many records are written one by one, so that no caller, and no stranger, fills the files until the records
//! that matter are gone.
//!
//! The first events of a caller are written one by one. Of those that follow too fast, the first of each kind is, and the
//! others are counted: the last of them is written with their number, a minute later at most. So no kind of event is
//! hidden behind another, and lines and counts add up to what happened. What is lost when the process is killed are the
//! counts of that minute.
//!
//! While records cannot be written, nothing is counted in their place: then every event fails, as it does without this.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::{AuditRecord, AuditSink, Event, outcome};
use crate::clock::{self, Clock};
use crate::rate_limiter::{RECORD_OF, RateLimiter};

/// The operation of the rate limiter that bounds records of denied calls, by caller.
pub const DENIED_RECORDS: &str = "denied-records";

/// The same for records of calls.
pub const CALLED_RECORDS: &str = "called-records";

/// The same for records that name no caller: those of all strangers together. The bounds of single addresses are elsewhere,
/// and an attacker has many addresses.
pub const STRANGER_RECORDS: &str = "stranger-records";

/// How long events are counted before their number is written.
const COUNTED: Duration = Duration::from_secs(60);

/// Kinds of events that are counted at the same time: some 4 MiB.
const MAX_KINDS: usize = 4_096;

/// Bounds the records of another sink.
pub struct BoundedAudit {
    inner: Arc<dyn AuditSink>,
    limiter: Arc<dyn RateLimiter>,
    /// What is counted, by kind.
    counted: Mutex<HashMap<String, Counted>>,
    /// The last record could not be written.
    failing: AtomicBool,
}

/// Events of one kind that have not been written.
struct Counted {
    last: AuditRecord,
    /// How many there were before the last one.
    before: u64,
}

impl BoundedAudit {
    /// Bounds `inner` by the operations of `limiter` that are named here. What is counted is written as time passes, as
    /// long as this exists.
    pub fn start(inner: Arc<dyn AuditSink>, limiter: Arc<dyn RateLimiter>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let audit = Arc::new(Self { inner, limiter, counted: Mutex::default(), failing: AtomicBool::new(false) });
        tokio::spawn(write_counts(Arc::downgrade(&audit), clock));
        audit
    }

    /// Writes what was counted.
    pub async fn flush(&self) {
        let counted = std::mem::take(&mut *self.counted());
        for (kind, Counted { last, before }) in counted {
            let record = with_count(last.clone(), before);
            // What cannot be written is counted on.
            if self.write(record).await.is_err() {
                add(&mut self.counted(), &kind, last, before);
            }
        }
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<String, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, record: AuditRecord) -> Result<(), String> {
        let written = self.inner.record(record).await;
        self.failing.store(written.is_err(), Ordering::Relaxed);
        written
    }

    /// Writes a record, and how many like it were counted before.
    async fn write_alone(&self, kind: &str, mut record: AuditRecord) -> Result<(), String> {
        let counted = self.counted().remove(kind);
        let Some(Counted { last, before }) = counted else { return self.write(record).await };
        record = with_count(record, before.saturating_add(1));
        let written = self.write(record).await;
        if written.is_err() {
            add(&mut self.counted(), kind, last, before);
        }
        written
    }

    /// Counts an event. Returns the record if there is no room.
    fn count(&self, kind: &str, record: AuditRecord) -> Option<AuditRecord> {
        let mut counted = self.counted();
        if counted.len() >= MAX_KINDS && !counted.contains_key(kind) {
            return Some(record);
        }
        add(&mut counted, kind, record, 0);
        None
    }
}

/// Counts an event, and `before` others like it.
fn add(counted: &mut HashMap<String, Counted>, kind: &str, record: AuditRecord, before: u64) {
    match counted.get_mut(kind) {
        None => {
            counted.insert(kind.to_owned(), Counted { last: record, before });
        }
        Some(known) => {
            known.before = known.before.saturating_add(before).saturating_add(1);
            // What is counted again after a failure is older.
            if record.time >= known.last.time {
                known.last = record;
            }
        }
    }
}

#[async_trait]
impl AuditSink for BoundedAudit {
    async fn record(&self, record: AuditRecord) -> Result<(), String> {
        let Some((operation, caller)) = bound_of(&record.event) else { return self.write(record).await };
        let alone = self.failing.load(Ordering::Relaxed) || self.limiter.admit(operation, &caller).is_ok();
        if alone && self.counted().is_empty() {
            return self.write(record).await;
        }
        let kind = kind(&record.event);
        if alone || self.limiter.admit(&[RECORD_OF, operation].concat(), &kind).is_ok() {
            return self.write_alone(&kind, record).await;
        }
        match self.count(&kind, record) {
            None => Ok(()),
            Some(record) => self.write(record).await,
        }
    }
}

async fn write_counts(audit: Weak<BoundedAudit>, clock: Arc<dyn Clock>) {
    loop {
        clock::sleep(&*clock, COUNTED).await;
        let Some(audit) = audit.upgrade() else { return };
        audit.flush().await;
    }
}

fn with_count(mut record: AuditRecord, events: u64) -> AuditRecord {
    record.event.suppressed = Some(events).filter(|events| *events > 0);
    record
}

/// The operation that bounds an event, and by whom; none for an event of a caller that costs a sign-in or a token.
fn bound_of(event: &Event) -> Option<(&'static str, String)> {
    let (Some(tenant), Some(object)) = (&event.tenant_id, &event.object_id) else {
        return Some((STRANGER_RECORDS, String::new()));
    };
    let operation = match event.name.as_str() {
        "tool.denied" => DENIED_RECORDS,
        "tool.called" => CALLED_RECORDS,
        _ => return None,
    };
    Some((operation, caller(tenant, object)))
}

fn caller(tenant: &str, object: &str) -> String {
    [tenant, "/", object].concat()
}

/// Events of one kind differ in nothing that is decided by the component. A caller has few kinds: tools and reasons are
/// from fixed sets.
fn kind(event: &Event) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let who = match (&event.tenant_id, &event.object_id) {
        (Some(tenant), Some(object)) => caller(tenant, object),
        _ => event.address.as_deref().and_then(neighbourhood).unwrap_or_default(),
    };
    [event.name.as_str(), outcome(event.outcome), &text(&event.reason), &text(&event.tool), &who].join(" ")
}

/// The addresses that one attacker may well have all of: a /24, and a /48 of IPv6.
fn neighbourhood(address: &str) -> Option<String> {
    let network = match address.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::from(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    };
    Some(network.to_string())
}

#[cfg(test)]
mod tests;
