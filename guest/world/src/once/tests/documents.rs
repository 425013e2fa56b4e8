//! Documents of the authority: at most one question in a while, a document that still serves, and a store that may fail.

use std::cell::Cell;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{After, Asked, Impatient, Moment, NotAsked, Policy, Question, WithoutStore, once_with};
use crate::capabilities::Clock as _;
use crate::records::{Holder, Namespace, Partition, Records, Ttl};
use crate::store::StoreError;
use crate::testing::simulation::{START, Simulation, run};

const DOCUMENTS: Namespace<Document> =
    Namespace::json(Partition::Store, "jwks", Ttl::For(Duration::from_secs(48 * 3600))).hashed().absent_if_unreadable();
const ATTEMPTS: Namespace<Holder> = Namespace::leases(Partition::Store, "jwks-attempt").hashed();
const NAME: &str = "https://login.microsoftonline.com/tenant\nhttps://login.microsoftonline.com/keys";
/// SHA-256 of [`NAME`], as today's records are named.
const ID: &str = "lEhNIwQWFZz5ObALD5UcLWrkUO1ZRyWe5Pv5DlnBEW4";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    keys: u32,
    fetched_at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unavailable(String);

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// An instance that has a document, or not.
struct Instance<'i> {
    world: &'i Simulation,
    records: Records<'i>,
    current: Option<Document>,
    newer_than: Option<u64>,
    fetched: &'i Cell<u32>,
    is_down: bool,
}

impl<'i> Instance<'i> {
    fn new(world: &'i Simulation, fetched: &'i Cell<u32>) -> Self {
        Self { world, records: world.records(), current: None, newer_than: None, fetched, is_down: false }
    }

    fn get(&mut self) -> Result<Document, Unavailable> {
        let records = self.records;
        let asked = run(once_with(&records, &ATTEMPTS, NAME, self)).unwrap();
        // What cannot be refreshed still serves.
        asked.or_else(|error| self.current.clone().ok_or(error))
    }

    /// A store that fails holds no document.
    async fn look_into_store(&mut self) {
        if let Ok(Some(found)) = self.records.get(&DOCUMENTS, NAME).await {
            self.current = Some(found);
        }
    }

    fn satisfying(&self) -> Option<Document> {
        let now = self.world.now();
        let is_due = |document: &Document| now >= document.fetched_at + 20 * 3600;
        let satisfies =
            |document: &&Document| self.newer_than.map_or(!is_due(document), |time| document.fetched_at > time);
        self.current.as_ref().filter(satisfies).cloned()
    }
}

impl Question for Instance<'_> {
    type Answer = Document;
    type Error = Unavailable;

    /// As `token/documents.rs` has it, for the demand and the document at hand.
    fn policy(&self) -> Policy {
        let (patience, pause) = match (self.newer_than, &self.current) {
            (None, Some(_)) => (0, 30),
            (Some(_), Some(_)) => (2, 30),
            (_, None) => (10, 5),
        };
        let (pause, kept) = (Duration::from_secs(pause), Duration::from_secs(30));
        Policy {
            lease: Duration::from_secs(60),
            patience: Duration::from_secs(patience),
            poll: Duration::from_millis(50),
            impatient: Impatient::GivesUp,
            without_store: WithoutStore::Asks,
            after: After::Attempted { pause, kept },
            ..Policy::ANSWER
        }
    }

    async fn look(&mut self, moment: Moment) -> Result<Option<Document>, Unavailable> {
        if moment != Moment::Holding {
            self.look_into_store().await;
        }
        Ok(self.satisfying())
    }

    async fn ask(&mut self) -> Result<Asked<Document>, Unavailable> {
        self.fetched.set(self.fetched.get() + 1);
        if self.is_down {
            return Err(Unavailable("down".to_owned()));
        }
        let document = Document { keys: self.fetched.get(), fetched_at: self.world.now() };
        let _ = self.records.put(&DOCUMENTS, NAME, &document).await;
        self.current = Some(document.clone());
        Ok(Asked::Answer(document))
    }

    async fn instead(&mut self, why: NotAsked) -> Result<Document, Unavailable> {
        if let NotAsked::TooSoon { .. } = why {
            self.look_into_store().await;
        }
        self.satisfying().ok_or_else(|| Unavailable(format!("{why:?}")))
    }
}

fn attempt() -> String {
    format!("jwks-attempt/{ID}")
}

fn running(world: &Simulation) {
    let running = format!(r#"{{"at":{},"state":"running"}}"#, world.now());
    world.plant(&attempt(), running.as_bytes(), None);
}

#[test]
fn the_records_are_those_of_earlier_versions() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    Instance::new(&world, &fetched).get().unwrap();
    assert_eq!(world.names(), [format!("jwks-attempt/{ID}"), format!("jwks/{ID}")]);
    let succeeded = format!(r#"{{"at":{START},"state":"succeeded"}}"#);
    assert_eq!(world.peek(&attempt()), Some(succeeded.into_bytes()));
    assert_eq!(world.ttl(&attempt()), Some(Duration::from_secs(30)));
}

#[test]
fn an_instance_without_a_document_waits_ten_seconds_for_another_ones() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    running(&world);
    let result = Instance::new(&world, &fetched).get();
    assert_eq!(result, Err(Unavailable("Impatient".to_owned())));
    assert_eq!((fetched.get(), world.elapsed()), (0, Duration::from_secs(10)));
}

#[test]
fn an_instance_with_a_document_does_not_wait() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    let mut instance = Instance::new(&world, &fetched);
    let document = instance.get().unwrap();
    world.advance(Duration::from_secs(20 * 3600));
    running(&world);
    assert_eq!(instance.get(), Ok(document.clone()));
    assert_eq!((fetched.get(), world.elapsed()), (1, Duration::from_secs(20 * 3600)));
    instance.newer_than = Some(document.fetched_at);
    assert_eq!(instance.get(), Ok(document), "for a newer one it waits two seconds");
    assert_eq!(world.elapsed(), Duration::from_secs(20 * 3600 + 2));
}

#[test]
fn an_instance_that_begins_serves_what_is_due_while_another_one_fetches() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    let document = Instance::new(&world, &fetched).get().unwrap();
    world.advance(Duration::from_secs(20 * 3600));
    running(&world);
    assert_eq!(Instance::new(&world, &fetched).get(), Ok(document));
    assert_eq!((fetched.get(), world.elapsed()), (1, Duration::from_secs(20 * 3600)));
}

#[test]
fn an_instance_that_died_holds_others_up_for_a_minute() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    running(&world);
    world.advance(Duration::from_secs(60));
    Instance::new(&world, &fetched).get().unwrap();
    assert_eq!(fetched.get(), 1);
}

#[test]
fn a_failure_ends_the_questions_for_five_seconds_without_a_document() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    let mut instance = Instance::new(&world, &fetched);
    instance.is_down = true;
    assert_eq!(instance.get(), Err(Unavailable("down".to_owned())));
    for _ in 0..10 {
        assert!(instance.get().is_err());
    }
    assert_eq!(fetched.get(), 1);
    instance.is_down = false;
    world.advance(Duration::from_secs(5));
    assert_eq!(instance.get().unwrap().keys, 2);
}

#[test]
fn an_unknown_key_costs_one_question_in_thirty_seconds() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    let mut instance = Instance::new(&world, &fetched);
    instance.get().unwrap();
    for _ in 0..61 {
        world.advance(Duration::from_secs(1));
        instance.newer_than = Some(world.now());
        instance.get().unwrap();
    }
    assert_eq!(fetched.get(), 1 + 2);
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_questions() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    let later = format!(r#"{{"at":{},"state":"failed"}}"#, START + 3600);
    world.plant(&attempt(), later.as_bytes(), None);
    Instance::new(&world, &fetched).get().unwrap();
    assert_eq!(fetched.get(), 1);
}

#[test]
fn an_attempt_that_cannot_be_read_is_none() {
    for bytes in [b"".as_slice(), b"{}", b"\xff"] {
        let (world, fetched) = (Simulation::default(), Cell::new(0));
        world.plant(&attempt(), bytes, None);
        Instance::new(&world, &fetched).get().unwrap();
        assert_eq!(fetched.get(), 1);
    }
}

#[test]
fn without_a_store_every_instance_asks_for_itself() {
    let (world, fetched) = (Simulation::default(), Cell::new(0));
    world.set_unavailable(true);
    Instance::new(&world, &fetched).get().unwrap();
    Instance::new(&world, &fetched).get().unwrap();
    assert_eq!(fetched.get(), 2);
}
