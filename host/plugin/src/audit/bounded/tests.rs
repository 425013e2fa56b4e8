//! Tests of `audit/bounded.rs`.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::audit::{MemoryAudit, Outcome};
use crate::clock::ManualClock;
use crate::rate_limiter::{CountingRateLimiter, Rate};

/// How many events of a caller are written one by one.
const ALONE: u32 = 3;
/// In which time they are that many again.
const PER: Duration = Duration::from_secs(900);

/// A memory that can be full.
#[derive(Default)]
struct Disk {
    memory: MemoryAudit,
    full: AtomicBool,
    /// Records that were to be written.
    attempts: AtomicUsize,
}

#[async_trait]
impl AuditSink for Disk {
    async fn record(&self, record: AuditRecord) -> Result<(), String> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if self.full.load(Ordering::Relaxed) {
            return Err("no space left".to_owned());
        }
        self.memory.record(record).await
    }
}

struct Bench {
    audit: Arc<BoundedAudit>,
    disk: Arc<Disk>,
    clock: ManualClock,
}

impl Bench {
    /// Within a runtime.
    fn new() -> Self {
        let (disk, clock) = (Arc::new(Disk::default()), ManualClock::new(0));
        let rate = |operation: &str, count| (operation.to_owned(), Rate { count, per: PER });
        let rates = [rate(DENIED_RECORDS, ALONE), rate(CALLED_RECORDS, ALONE)];
        let more = [rate(REFRESH_RECORDS, ALONE), rate(STRANGER_RECORDS, 2 * ALONE)];
        let limiter = CountingRateLimiter::new(Arc::new(clock.clone()), rates.into_iter().chain(more).collect());
        let inner: Arc<dyn AuditSink> = disk.clone();
        let audit = BoundedAudit::start(inner, Arc::new(limiter), Arc::new(clock.clone()));
        Self { audit, disk, clock }
    }

    async fn record(&self, event: Event) -> Result<(), String> {
        self.audit.record(AuditRecord { time: self.clock.now(), event }).await
    }

    /// The reason, or else the tool, of every record that was written, and how many it stands for besides itself.
    fn written(&self) -> Vec<(String, u64)> {
        let events = self.disk.memory.events().into_iter().map(|(_, event)| event);
        events.map(|event| (event.reason.or(event.tool).unwrap_or_default(), event.suppressed.unwrap_or(0))).collect()
    }

    fn stands_for(&self) -> u64 {
        self.written().iter().map(|(_, suppressed)| suppressed + 1).sum()
    }
}

fn denied(object: &str, reason: &str) -> Event {
    Event {
        tenant_id: Some("tenant".to_owned()),
        object_id: Some(object.to_owned()),
        tool: Some("findUser".to_owned()),
        reason: Some(reason.to_owned()),
        ..Event::new("tool.denied", Outcome::Failure, "c0ffee")
    }
}

fn called(object: &str, tool: &str) -> Event {
    let outcome = Outcome::Success;
    Event { tool: Some(tool.to_owned()), reason: None, name: "tool.called".to_owned(), outcome, ..denied(object, "") }
}

fn refused(address: &str) -> Event {
    Event { address: Some(address.to_owned()), ..Event::new("token.refused", Outcome::Failure, "c0ffee") }
}

#[tokio::test]
async fn of_a_flood_the_first_events_are_written_and_the_last_with_the_number_of_the_others() {
    let bench = Bench::new();
    for _ in 0..1_000 {
        bench.record(denied("a", "role-missing")).await.unwrap();
    }
    // One more than the bound: the first that is over it.
    let alone = vec![("role-missing".to_owned(), 0); 4];
    assert_eq!(bench.written(), alone);
    bench.audit.flush().await;
    assert_eq!(bench.written(), [alone, vec![("role-missing".to_owned(), 995)]].concat());
    assert_eq!(bench.stands_for(), 1_000);
    bench.audit.flush().await;
    assert_eq!(bench.written().len(), 5, "nothing is written twice");
}

#[tokio::test]
async fn the_counts_are_written_a_minute_later_without_another_event() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.record(denied("a", "role-missing")).await.unwrap();
    }
    // The task that writes counts waits for the clock.
    while bench.written().len() < 5 {
        bench.clock.advance(COUNTED);
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.stands_for(), 10);
}

#[tokio::test]
async fn no_kind_of_event_is_hidden_behind_a_flood_of_another_one() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.record(called("a", "getUserDetails")).await.unwrap();
    }
    let before = bench.written().len();
    for event in [called("a", "findUser"), Event { outcome: Outcome::Failure, ..called("a", "getUserDetails") }] {
        bench.record(event).await.unwrap();
    }
    for reason in ["role-missing", "guest-not-allowed"] {
        bench.record(denied("a", reason)).await.unwrap();
    }
    let written = bench.written().split_off(before);
    let names: Vec<_> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["findUser", "getUserDetails", "role-missing", "guest-not-allowed"]);
}

#[tokio::test]
async fn a_flood_of_one_caller_costs_no_other_caller_a_record() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.record(denied("a", "role-missing")).await.unwrap();
    }
    let before = bench.written().len();
    for _ in 0..3 {
        bench.record(denied("b", "role-missing")).await.unwrap();
        bench.record(called("a", "getUserDetails")).await.unwrap();
    }
    assert_eq!(bench.written().len(), before + 6);
}

#[tokio::test]
async fn the_next_event_that_is_written_alone_says_how_many_came_before_it() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.record(called("a", "getUserDetails")).await.unwrap();
    }
    bench.clock.advance(PER / ALONE);
    bench.record(called("a", "getUserDetails")).await.unwrap();
    assert_eq!(bench.written().last().map(|(_, suppressed)| *suppressed), Some(6));
    assert_eq!(bench.stands_for(), 11);
    bench.audit.flush().await;
    assert_eq!(bench.stands_for(), 11);
}

#[tokio::test]
async fn events_that_cost_a_sign_in_are_always_written() {
    let bench = Bench::new();
    for _ in 0..100 {
        let event = Event { name: "session.created".to_owned(), outcome: Outcome::Success, ..denied("a", "") };
        bench.record(event).await.unwrap();
    }
    assert_eq!((bench.written().len(), bench.stands_for()), (100, 100));
}

#[tokio::test]
async fn strangers_have_one_bound_whatever_their_addresses_and_each_network_its_number() {
    let bench = Bench::new();
    for number in 0..1_000_u16 {
        let address = format!("2001:db8:0:{number:x}::1");
        bench.record(refused(&address)).await.unwrap();
    }
    // Those of the bound, and the first over it.
    assert_eq!(bench.written().len(), 7);
    for address in ["2001:db8:1::1", "203.0.113.7", "203.0.113.8", "203.0.114.1", "unknown"] {
        bench.record(refused(address)).await.unwrap();
    }
    assert_eq!(bench.written().len(), 7, "a network is no reason to write more");
    bench.audit.flush().await;
    assert_eq!(bench.written().len(), 12, "203.0.113.8 is in the network of 203.0.113.7");
    assert_eq!(bench.stands_for(), 1_005);
}

#[tokio::test]
async fn while_records_cannot_be_written_every_event_fails_and_none_is_counted_in_its_place() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.record(denied("a", "role-missing")).await.unwrap();
    }
    bench.disk.full.store(true, Ordering::Relaxed);
    // The first is counted, because it is not known yet.
    bench.record(denied("a", "role-missing")).await.unwrap();
    bench.audit.flush().await;
    for _ in 0..3 {
        assert_eq!(bench.record(denied("a", "role-missing")).await, Err("no space left".to_owned()));
        assert_eq!(bench.record(called("b", "getUserDetails")).await, Err("no space left".to_owned()));
    }
    bench.disk.full.store(false, Ordering::Relaxed);
    bench.record(denied("a", "role-missing")).await.unwrap();
    bench.audit.flush().await;
    assert_eq!(bench.stands_for(), 12, "what was counted before is written when it can be");
}

#[tokio::test]
async fn strangers_of_any_number_of_networks_write_no_more_than_their_bound() {
    let bench = Bench::new();
    for minute in 0..15_u8 {
        for network in 0..=255_u8 {
            bench.record(refused(&format!("203.{minute}.{network}.1"))).await.unwrap();
        }
        assert!(bench.audit.counted().len() <= MAX_DETAILED + 1, "the others are one kind");
        bench.clock.advance(COUNTED);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    // The bound and what came back of it, the first over it, and one in a minute that shows that writes succeed.
    let written = bench.written().len();
    assert!(written <= 12 + 1 + 15, "{written}");
    bench.audit.flush().await;
    assert_eq!(bench.stands_for(), 15 * 256);
    assert!(bench.written().len() <= written + MAX_DETAILED + 1);
}

#[tokio::test]
async fn a_number_of_strangers_that_is_overdue_takes_the_place_of_the_next_record() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.record(refused("203.0.113.1")).await.unwrap();
    }
    bench.clock.advance(PER / (2 * ALONE));
    let before = bench.written().len();
    bench.record(refused("198.51.100.1")).await.unwrap();
    assert_eq!((bench.written().len() - before, bench.audit.counted().len()), (1, 1));
    let last = bench.disk.memory.events().pop().unwrap().1;
    assert_eq!((last.address.as_deref(), last.suppressed), (Some("203.0.113.1"), Some(2)));
}

#[tokio::test]
async fn a_line_for_several_callers_names_none_of_them() {
    let bench = Bench::new();
    let flood = async |object: &str| {
        for _ in 0..=ALONE + 1 {
            bench.record(denied(object, "role-missing")).await.unwrap();
        }
    };
    for number in 0..MAX_KINDS {
        flood(&number.to_string()).await;
    }
    assert_eq!(bench.audit.counted().len(), MAX_KINDS);
    let before = bench.written().len();
    for object in ["one more", "and another"] {
        flood(object).await;
    }
    assert_eq!((bench.written().len() - before, bench.audit.counted().len()), (8, MAX_KINDS + 1));
    bench.audit.flush().await;
    assert_eq!(bench.stands_for(), 5 * (MAX_KINDS as u64 + 2));
    let events = bench.disk.memory.events().into_iter();
    let of_several: Vec<_> = events.filter(|(_, event)| event.suppressed.is_some()).collect();
    assert_eq!(of_several.len(), 1);
    assert_eq!((&of_several[0].1.object_id, of_several[0].1.suppressed), (&None, Some(1)));
}

#[tokio::test]
async fn what_one_client_or_session_does_is_not_counted_as_anothers() {
    let bench = Bench::new();
    let by = |client: &str, session: &str| Event {
        client_id: Some(client.to_owned()),
        session: Some(session.to_owned()),
        ..denied("a", "role-missing")
    };
    for _ in 0..ALONE + 1 {
        bench.record(by("one", "1")).await.unwrap();
    }
    let before = bench.written().len();
    for _ in 0..10 {
        for (client, session) in [("one", "1"), ("one", "2"), ("two", "3")] {
            bench.record(by(client, session)).await.unwrap();
        }
    }
    assert_eq!(bench.written().len(), before);
    bench.audit.flush().await;
    let mut counted: Vec<_> = bench.disk.memory.events().into_iter().skip(before).map(|(_, event)| event).collect();
    counted.sort_by(|one, other| one.session.cmp(&other.session));
    let said: Vec<_> = counted.iter().map(|event| (event.client_id.as_deref(), event.suppressed)).collect();
    assert_eq!(said, [(Some("one"), Some(9)), (Some("one"), Some(9)), (Some("two"), Some(9))]);
}

#[tokio::test]
async fn registrations_and_consents_of_strangers_are_always_written() {
    let bench = Bench::new();
    for (name, outcome) in [
        ("client.registered", Outcome::Success),
        ("consent.given", Outcome::Success),
        ("consent.denied", Outcome::Failure),
    ] {
        for _ in 0..100 {
            bench.record(Event::new(name, outcome, "c0ffee")).await.unwrap();
        }
    }
    assert_eq!((bench.written().len(), bench.stands_for()), (300, 300));
}

#[tokio::test]
async fn refreshes_and_refused_codes_of_a_caller_are_bounded_and_what_ends_a_session_is_not() {
    for (name, written) in [
        ("session.refreshed", 4),
        ("session.refresh-repeated", 4),
        ("token.refreshed", 4),
        ("code.refused", 4),
        ("session.reused", 100),
        ("session.revoked", 100),
    ] {
        let bench = Bench::new();
        for _ in 0..100 {
            bench.record(Event { name: name.to_owned(), ..denied("a", "") }).await.unwrap();
        }
        assert_eq!(bench.written().len(), written, "{name}");
        bench.audit.flush().await;
        assert_eq!(bench.stands_for(), 100, "{name}");
    }
}

#[tokio::test]
async fn a_disk_that_is_full_is_noticed_within_seconds_though_events_are_counted() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.record(denied("a", "role-missing")).await.unwrap();
    }
    bench.disk.full.store(true, Ordering::Relaxed);
    bench.record(denied("a", "role-missing")).await.unwrap();
    bench.clock.advance(BELIEVED);
    assert_eq!(bench.record(denied("a", "role-missing")).await, Err("no space left".to_owned()));
    bench.disk.full.store(false, Ordering::Relaxed);
    bench.record(denied("a", "role-missing")).await.unwrap();
    assert_eq!(bench.stands_for(), 12);
}

#[tokio::test]
async fn a_flush_stops_at_the_first_number_that_cannot_be_written_and_loses_none() {
    let bench = Bench::new();
    for object in ["a", "b", "c"] {
        for _ in 0..10 {
            bench.record(denied(object, "role-missing")).await.unwrap();
        }
    }
    bench.disk.full.store(true, Ordering::Relaxed);
    bench.audit.flush().await;
    assert_eq!((bench.disk.attempts.load(Ordering::Relaxed), bench.audit.counted().len()), (12 + 1, 3));
    bench.disk.full.store(false, Ordering::Relaxed);
    bench.audit.flush().await;
    assert_eq!(bench.stands_for(), 30);
}
