//! Answers that are records of their own.

use std::cell::Cell;
use std::time::Duration;

use super::super::{Failure, OnceError, Policy, once};
use crate::capabilities::Clock as _;
use crate::records::{Namespace, Partition, Records, Ttl};
use crate::store::StoreError;
use crate::testing::simulation::{START, Simulation, run};

const NUMBERS: Namespace<u8> =
    Namespace::json(Partition::Store, "number", Ttl::For(Duration::from_secs(60))).absent_if_unreadable();

/// Why there is no number: an error with a type and evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoNumber {
    Down(String),
    Throttled { retry_at: u64 },
    NotForThisCaller,
    Store(StoreError),
}

impl From<StoreError> for NoNumber {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for NoNumber {
    fn from(Failure { reason, retry_at, .. }: Failure) -> Self {
        retry_at.map_or(Self::Down(reason), |retry_at| Self::Throttled { retry_at })
    }
}

impl OnceError for NoNumber {
    fn failure(&self, _: u64) -> Option<Failure> {
        match self {
            Self::Down(reason) => Some(Failure::new(reason.clone())),
            Self::Throttled { retry_at } => Some(Failure { retry_at: Some(*retry_at), ..Failure::new("busy") }),
            Self::NotForThisCaller | Self::Store(_) => None,
        }
    }
}

/// Asks for a number; how often the service was asked.
#[derive(Default)]
struct Service {
    world: Simulation,
    asked: Cell<u8>,
}

impl Service {
    fn ask(&self, answer: Result<u8, NoNumber>) -> Result<u8, NoNumber> {
        self.ask_for(|_| true, answer)
    }

    fn ask_for(&self, fresh: impl Fn(&u8) -> bool, answer: Result<u8, NoNumber>) -> Result<u8, NoNumber> {
        let ask = async |_| {
            self.asked.set(self.asked.get() + 1);
            answer
        };
        run(once(&self.world.records(), &NUMBERS, (), &Policy::ANSWER, fresh, ask)).unwrap()
    }
}

fn down() -> NoNumber {
    NoNumber::Down("down".to_owned())
}

#[test]
fn an_answer_is_remembered_for_its_lifetime() {
    let service = Service::default();
    assert_eq!(service.ask(Ok(1)), Ok(1));
    service.world.advance(Duration::from_secs(59));
    assert_eq!(service.ask(Ok(2)), Ok(1));
    service.world.advance(Duration::from_secs(1));
    assert_eq!(service.ask(Ok(2)), Ok(2));
    assert_eq!(service.asked.get(), 2);
    assert_eq!(service.world.names(), ["number"], "the lease is given back");
    assert_eq!(service.world.ttl("number/asking"), Some(Duration::from_secs(1)), "and leaves nothing for long");
}

#[test]
fn an_answer_from_the_store_costs_one_operation() {
    let service = Service::default();
    service.ask(Ok(1)).unwrap();
    let before = service.world.operations();
    service.ask(Ok(2)).unwrap();
    assert_eq!(service.world.operations(), before + 1);
}

#[test]
fn a_failure_is_remembered_briefly() {
    let service = Service::default();
    assert_eq!(service.ask(Err(down())), Err(down()));
    assert_eq!(service.world.names(), ["number/failed"]);
    service.world.advance(Duration::from_secs(4));
    assert_eq!(service.ask(Ok(1)), Err(down()));
    service.world.advance(Duration::from_secs(1));
    assert_eq!(service.ask(Ok(1)), Ok(1));
    assert_eq!(service.asked.get(), 2);
}

#[test]
fn a_time_to_wait_reaches_the_callers_that_did_not_ask() {
    let service = Service::default();
    let throttled = NoNumber::Throttled { retry_at: START + 60 };
    assert_eq!(service.ask(Err(throttled.clone())), Err(throttled.clone()));
    assert_eq!(service.ask(Ok(1)), Err(throttled));
    assert_eq!(service.asked.get(), 1);
}

#[test]
fn a_failure_that_concerns_one_caller_is_not_remembered() {
    let service = Service::default();
    assert_eq!(service.ask(Err(NoNumber::NotForThisCaller)), Err(NoNumber::NotForThisCaller));
    assert_eq!(service.ask(Ok(1)), Ok(1));
}

#[test]
fn a_failure_that_an_earlier_version_has_stored_is_its_reason() {
    let service = Service::default();
    service.world.plant("number/failed", b"the service is down", None);
    assert_eq!(service.ask(Ok(1)), Err(NoNumber::Down("the service is down".to_owned())));
}

#[test]
fn a_long_reason_is_kept_in_part() {
    let service = Service::default();
    let long = "ä".repeat(1000);
    assert_eq!(service.ask(Err(NoNumber::Down(long.clone()))), Err(NoNumber::Down(long)));
    assert_eq!(service.ask(Ok(1)), Err(NoNumber::Down("ä".repeat(256))));
}

#[test]
fn a_call_that_asks_holds_the_others_up_until_its_lease_ends() {
    let service = Service::default();
    service.world.plant("number/asking", b"another call", Some(Policy::ANSWER.lease));
    assert_eq!(service.ask(Ok(1)), Ok(1));
    assert_eq!((service.asked.get(), service.world.elapsed()), (1, Duration::from_secs(25)));
}

#[test]
fn a_call_that_never_ends_is_not_waited_for_for_ever() {
    let service = Service::default();
    service.world.plant("number/asking", b"another call", None);
    let impatient = NoNumber::Down("another call has been asking for too long".to_owned());
    assert_eq!(service.ask(Ok(1)), Err(impatient));
    assert_eq!((service.asked.get(), service.world.elapsed()), (0, Duration::from_secs(30)));
}

#[test]
fn the_lease_of_a_call_that_has_taken_over_is_left_alone() {
    let service = Service::default();
    let ask = async |_| {
        service.world.plant("number/asking", b"another call", Some(Policy::ANSWER.lease));
        Ok::<_, NoNumber>(1)
    };
    let answer = run(once(&service.world.records(), &NUMBERS, (), &Policy::ANSWER, |_| true, ask));
    assert_eq!(answer.unwrap(), Ok(1));
    assert_eq!(service.world.names(), ["number", "number/asking"]);
}

#[test]
fn a_record_that_cannot_be_read_is_asked_for_again() {
    for damage in [false, true] {
        let service = Service::default();
        service.world.plant("number", b"not a number", None);
        if damage {
            service.world.damage("number");
        }
        assert_eq!(service.ask(Ok(1)), Ok(1));
        assert_eq!(service.world.peek("number"), Some(b"1".to_vec()));
    }
}

#[test]
fn the_answer_that_is_not_fresh_is_at_hand_when_another_is_asked_for() {
    let service = Service::default();
    service.ask(Ok(1)).unwrap();
    let seen = Cell::new(None);
    let ask = async |stale| {
        seen.set(stale);
        Ok::<_, NoNumber>(2)
    };
    let answer = run(once(&service.world.records(), &NUMBERS, (), &Policy::ANSWER, |number| *number > 1, ask));
    assert_eq!((answer.unwrap(), seen.get()), (Ok(2), Some(1)));
}

#[test]
fn an_answer_that_cannot_be_kept_is_an_answer_nevertheless() {
    let service = Service::default();
    let ask = async |_| {
        service.world.set_unavailable(true);
        Ok::<_, NoNumber>(1)
    };
    let answer = run(once(&service.world.records(), &NUMBERS, (), &Policy::ANSWER, |_| true, ask));
    assert_eq!(answer.unwrap(), Ok(1));
    let unavailable = StoreError::Unavailable("out of order".to_owned());
    assert_eq!(service.ask(Ok(2)), Err(NoNumber::Store(unavailable)), "without a store no call may ask");
}

/// Tokens that say themselves how long they are kept, as those of the application.
#[test]
fn an_answer_can_say_how_long_it_is_kept() {
    const TOKENS: Namespace<(String, u64)> = Namespace::json(
        Partition::Store,
        "app-token",
        Ttl::Computed(|(_, expires_at): &(String, u64), now| Duration::from_secs(expires_at.saturating_sub(now))),
    )
    .absent_if_unreadable();
    let world = Simulation::default();
    let records: Records<'_> = world.records();
    let ask = async |_| Ok::<_, NoNumber>(("token".to_owned(), world.now() + 3600));
    let key = &["https://login.microsoftonline.com", "tenant"];
    run(once(&records, &TOKENS, key, &Policy::ANSWER, |_| true, ask)).unwrap().unwrap();
    assert_eq!(world.ttl("app-token/https://login.microsoftonline.com/tenant"), Some(Duration::from_secs(3600)));
}
