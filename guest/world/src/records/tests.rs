//! What records promise: their names, their lives, what a damaged one means, and what no order of calls can break.

mod interleavings;
mod names;
mod sealed;

use std::cell::Cell;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::testing::simulation::{START, Simulation, run};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    text: String,
    ends_at: u64,
}

fn note(text: &str) -> Note {
    Note { text: text.to_owned(), ends_at: START + 90 }
}

const NOTES: Namespace<Note> = Namespace::json(
    Partition::Store,
    "note",
    Ttl::Computed(|note, now| Duration::from_secs(note.ends_at.saturating_sub(now))),
);
const MARKS: Namespace<()> = Namespace::marks(Partition::Store, "mark", Ttl::For(Duration::from_secs(5)));

fn unavailable() -> StoreError {
    StoreError::Unavailable("out of order".to_owned())
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let world = Simulation::default();
    let records = world.records();
    assert_eq!(run(records.get(&NOTES, "a")).unwrap(), Ok(None));
    run(records.put(&NOTES, "a", &note("one"))).unwrap().unwrap();
    assert_eq!(run(records.get(&NOTES, "a")).unwrap(), Ok(Some(note("one"))));
    assert_eq!(run(records.get(&NOTES, "b")).unwrap(), Ok(None));
    assert_eq!(world.peek("note/a"), Some(format!(r#"{{"text":"one","ends_at":{}}}"#, START + 90).into_bytes()));
    assert_eq!(run(records.take(&NOTES, "a")).unwrap(), Ok(Some(note("one"))));
    assert_eq!(run(records.take(&NOTES, "a")).unwrap(), Ok(None));
    run(records.put(&NOTES, "a", &note("two"))).unwrap().unwrap();
    run(records.delete(&NOTES, "a")).unwrap().unwrap();
    assert_eq!(run(records.exists(&NOTES, "a")).unwrap(), Ok(false));
}

#[test]
fn every_operation_of_a_record_is_one_of_the_store() {
    let world = Simulation::default();
    let records = world.records();
    run(records.put(&NOTES, "a", &note("one"))).unwrap().unwrap();
    assert_eq!(world.operations(), 1);
    run(records.get(&NOTES, "a")).unwrap().unwrap();
    assert_eq!(world.operations(), 2);
    run(records.exists(&NOTES, "a")).unwrap().unwrap();
    assert_eq!(world.operations(), 3);
    let read = run(records.read(&NOTES, "a")).unwrap().unwrap().unwrap();
    assert_eq!(world.operations(), 4);
    run(records.replace(&NOTES, "a", &read.version, &note("two"))).unwrap().unwrap().unwrap();
    assert_eq!(world.operations(), 5);
    run(records.take(&NOTES, "a")).unwrap().unwrap();
    assert_eq!(world.operations(), 6);
    run(records.update(&NOTES, "a", |_| Next::Write(note("three"), ()))).unwrap().unwrap();
    assert_eq!(world.operations(), 8);
}

#[test]
fn a_time_to_live_is_constant_computed_given_or_none() {
    const KEPT: Namespace<Note> = Namespace::json(Partition::Store, "kept", Ttl::Kept);
    let world = Simulation::default();
    let records = world.records();
    world.advance(Duration::from_secs(30));
    for (written, key, ttl) in [
        (run(records.put(&MARKS, (), &())).unwrap(), "mark", Some(5)),
        (run(records.put(&NOTES, "a", &note("one"))).unwrap(), "note/a", Some(60)),
        (run(records.put(&NOTES.kept_for(Duration::from_secs(7)), "b", &note("one"))).unwrap(), "note/b", Some(7)),
        (run(records.put(&KEPT, "a", &note("one"))).unwrap(), "kept/a", None),
        (run(records.insert_new(&NOTES, "c", &note("one"))).unwrap().map(drop), "note/c", Some(60)),
        (run(records.update(&NOTES, "d", |_| Next::Write(note("one"), ()))).unwrap(), "note/d", Some(60)),
    ] {
        written.unwrap();
        assert_eq!(world.ttl(key), ttl.map(Duration::from_secs), "{key}");
    }
    world.advance(Duration::from_secs(60));
    assert_eq!(world.names(), ["kept/a"]);
}

#[test]
fn a_damaged_record_is_an_error_or_absent_as_the_namespace_says() {
    let unreadable = Err(StoreError::Unreadable);
    for (namespace, malformed, sealed) in [
        (NOTES, unreadable.clone(), unreadable.clone()),
        (NOTES.absent_if_malformed(), Ok(None), unreadable.clone()),
        (NOTES.absent_if_unreadable(), Ok(None), Ok(None)),
    ] {
        for (damage, expected) in [(false, malformed), (true, sealed)] {
            let world = Simulation::default();
            let records = world.records();
            world.plant("note/a", b"no note", None);
            if damage {
                world.damage("note/a");
            }
            assert_eq!(run(records.get(&namespace, "a")).unwrap(), expected);
            assert_eq!(run(records.read(&namespace, "a")).unwrap().map(|read| read.map(|read| read.value)), expected);
            let parsed = run(records.get_parsed(&namespace, "a", &ParsedRecords::new(4))).unwrap();
            assert_eq!(parsed.map(|parsed| parsed.map(|note| (*note).clone())), expected);
            assert_eq!(run(records.update(&namespace, "a", Next::Leave)).unwrap(), expected);
            assert_eq!(run(records.take(&namespace, "a")).unwrap(), expected);
        }
    }
}

#[test]
fn a_store_out_of_reach_is_an_error_everywhere() {
    let world = Simulation::default();
    let records = world.records();
    let tolerant = NOTES.absent_if_unreadable();
    world.set_unavailable(true);
    assert_eq!(run(records.get(&tolerant, "a")).unwrap(), Err(unavailable()));
    assert_eq!(run(records.take(&tolerant, "a")).unwrap(), Err(unavailable()));
    assert_eq!(run(records.exists(&tolerant, "a")).unwrap(), Err(unavailable()));
    assert_eq!(run(records.put(&tolerant, "a", &note("one"))).unwrap(), Err(unavailable()));
    assert_eq!(run(records.delete(&tolerant, "a")).unwrap(), Err(unavailable()));
    assert_eq!(run(records.update(&tolerant, "a", |_| Next::Write(note("one"), ()))).unwrap(), Err(unavailable()));
}

#[test]
fn a_malformed_record_that_counts_as_absent_can_be_written_anew() {
    let world = Simulation::default();
    world.plant("note/a", b"no note", None);
    let written = run(world.records().update(&NOTES.absent_if_malformed(), "a", |found| {
        assert_eq!(found, None);
        Next::Write(note("one"), ())
    }));
    assert_eq!(written.unwrap(), Ok(()));
    assert_eq!(run(world.records().get(&NOTES, "a")).unwrap(), Ok(Some(note("one"))));
}

#[test]
fn a_record_that_the_store_cannot_open_is_replaced_only_where_the_namespace_says_so() {
    for (namespace, expected) in [
        (NOTES.absent_if_malformed(), Err(StoreError::Unreadable)),
        (NOTES.absent_if_unreadable(), Err(StoreError::Unreadable)),
        (NOTES.replaced_if_unreadable(), Ok(())),
    ] {
        let world = Simulation::default();
        world.plant("note/a", b"no note", None);
        world.damage("note/a");
        assert_eq!(run(world.records().get(&NOTES.replaced_if_unreadable(), "a")).unwrap(), Ok(None));
        let left = run(world.records().update(&NOTES.replaced_if_unreadable(), "a", |_| Next::Leave(())));
        assert_eq!((left.unwrap(), world.peek("note/a").as_deref()), (Ok(()), Some(&b"no note"[..])));
        let written = run(world.records().update(&namespace, "a", |found| {
            assert_eq!(found, None);
            Next::Write(note("one"), ())
        }));
        assert_eq!(written.unwrap(), expected);
        let found = run(world.records().get(&NOTES, "a")).unwrap();
        assert_eq!(found, expected.map(|()| Some(note("one"))));
    }
}

#[test]
fn a_change_is_tried_again_until_the_record_is_as_it_was_read() {
    let world = Simulation::default();
    let tries = Cell::new(0);
    let result = run(world.records().update(&NOTES, "a", |found| {
        tries.set(tries.get() + 1);
        if tries.get() < 3 {
            world.plant("note/a", &serde_json::to_vec(&note(&format!("other {}", tries.get()))).unwrap(), None);
        }
        let text = format!("{} and mine", found.map(|note| note.text).unwrap_or_default());
        Next::Write(note(&text), tries.get())
    }));
    assert_eq!(result.unwrap(), Ok(3));
    assert_eq!(run(world.records().get(&NOTES, "a")).unwrap(), Ok(Some(note("other 2 and mine"))));
}

#[test]
fn a_record_that_never_comes_to_rest_is_given_up() {
    let world = Simulation::default();
    let tries = Cell::new(0);
    let result = run(world.records().update(&NOTES, "a", |_| {
        tries.set(tries.get() + 1);
        world.plant("note/a", &serde_json::to_vec(&note(&tries.get().to_string())).unwrap(), None);
        Next::Write(note("mine"), ())
    }));
    assert_eq!(result.unwrap(), Err(StoreError::Contended));
    assert_eq!(tries.get(), MAX_SWAPS);
}

#[test]
fn a_change_that_leaves_the_record_writes_nothing() {
    let world = Simulation::default();
    let left = run(world.records().update(&NOTES, "a", |found| Next::Leave(found.is_some())));
    assert_eq!((left.unwrap(), world.operations()), (Ok(false), 1));
}

#[test]
fn a_record_is_replaced_only_as_it_was_read() {
    let world = Simulation::default();
    let records = world.records();
    assert_eq!(run(records.insert_new(&NOTES, "a", &note("one"))).unwrap(), Ok(true));
    assert_eq!(run(records.insert_new(&NOTES, "a", &note("two"))).unwrap(), Ok(false));
    let read = run(records.read(&NOTES, "a")).unwrap().unwrap().unwrap();
    assert_eq!(run(records.is_still(&NOTES, "a", &read.version)).unwrap(), Ok(true));
    let second = run(records.replace(&NOTES, "a", &read.version, &note("two"))).unwrap().unwrap().unwrap();
    assert_eq!(run(records.is_still(&NOTES, "a", &read.version)).unwrap(), Ok(false));
    assert!(run(records.replace(&NOTES, "a", &read.version, &note("lost"))).unwrap().unwrap().is_none());
    // What was written can be replaced in turn, without another look.
    assert!(run(records.replace(&NOTES, "a", &second, &note("three"))).unwrap().unwrap().is_some());
    assert_eq!(run(records.get(&NOTES, "a")).unwrap(), Ok(Some(note("three"))));
}

#[test]
fn a_retired_record_is_absent_and_cannot_be_written_by_those_that_have_read_it() {
    let world = Simulation::default();
    let (records, notes) = (world.records(), NOTES.absent_if_malformed());
    run(records.put(&notes, "a", &note("one"))).unwrap().unwrap();
    let read = run(records.read(&notes, "a")).unwrap().unwrap().unwrap();
    assert_eq!(run(records.retire(&notes, "a", &read.version)).unwrap(), Ok(true));
    assert_eq!(run(records.get(&notes, "a")).unwrap(), Ok(None));
    assert!(run(records.replace(&notes, "a", &read.version, &note("two"))).unwrap().unwrap().is_none());
    assert_eq!(run(records.retire(&notes, "a", &read.version)).unwrap(), Ok(false));
    assert_eq!((world.peek("note/a"), world.ttl("note/a")), (Some(Vec::new()), Some(Duration::from_secs(60))));
}

#[test]
fn a_record_is_parsed_once_for_as_long_as_it_is_the_same() {
    thread_local! {
        static DECODED: Cell<usize> = const { Cell::new(0) };
    }
    const COUNTED: Namespace<String> = Namespace::with_encoding(
        Partition::Store,
        "counted",
        Ttl::Kept,
        |text| Ok(zeroize::Zeroizing::new(text.as_bytes().to_vec())),
        |bytes| {
            DECODED.set(DECODED.get() + 1);
            String::from_utf8(bytes.to_vec()).ok()
        },
    );
    let (world, parsed) = (Simulation::default(), ParsedRecords::new(2));
    let read = |key: &str| run(world.records().get_parsed(&COUNTED, key, &parsed)).unwrap().unwrap();
    world.plant("counted/a", b"one", None);
    assert_eq!(
        (read("a").as_deref(), read("a").as_deref(), DECODED.get()),
        (Some(&"one".into()), Some(&"one".into()), 1)
    );
    assert_eq!(world.operations(), 2, "it is read each time");
    world.plant("counted/a", b"two", None);
    assert_eq!((read("a").as_deref(), DECODED.get()), (Some(&"two".to_owned()), 2));
    run(world.records().delete(&COUNTED, "a")).unwrap().unwrap();
    assert_eq!(read("a"), None);
    for key in ["a", "b", "c", "d"] {
        world.plant(&format!("counted/{key}"), b"three", None);
        assert_eq!(read(key).as_deref(), Some(&"three".to_owned()));
        assert!(parsed.len() <= 2);
    }
}

#[test]
fn a_lease_is_one_calls_until_it_is_released_or_runs_out() {
    const LEASES: Namespace<Holder> = Namespace::leases(Partition::Store, "lease");
    let world = Simulation::default();
    let records = world.records();
    let time = Duration::from_secs(10);
    let lease = || run(records.lease(&LEASES, "a", time)).unwrap().unwrap();
    let first = lease().unwrap();
    assert!(lease().is_none());
    run(first.release()).unwrap();
    let second = lease().unwrap();
    world.advance(time);
    let third = lease().unwrap();
    run(second.release()).unwrap();
    assert!(lease().is_none(), "it is the third one's");
    run(third.release()).unwrap();
    assert_eq!(world.now(), START + 10);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn a_lease_is_taken_over_by_one_call_after_its_holder_had_time() {
    const LEASES: Namespace<Holder> = Namespace::leases(Partition::Store, "lease");
    let world = Simulation::default();
    let records = world.records();
    let (time, patience) = (Duration::from_secs(70), Duration::from_secs(10));
    let take_over = || run(records.take_over(&LEASES, "a", time, patience)).unwrap().unwrap();
    assert!(take_over().is_none(), "there is none");
    let first = run(records.lease(&LEASES, "a", time)).unwrap().unwrap().unwrap();
    world.advance(Duration::from_secs(9));
    assert!(take_over().is_none());
    world.advance(Duration::from_secs(1));
    let second = take_over().unwrap();
    assert!(take_over().is_none(), "the second one has just begun");
    assert_eq!(world.ttl("lease/a"), Some(time));
    run(first.release()).unwrap();
    assert!(run(records.lease(&LEASES, "a", time)).unwrap().unwrap().is_none(), "it is the second one's");
    run(second.release()).unwrap();
    assert!(take_over().is_none(), "it was given back");
    // An earlier version does not say since when.
    world.plant("lease/a", b"earlier", None);
    assert!(take_over().is_some());
}

#[test]
fn a_record_that_is_made_on_first_use_is_the_same_for_all() {
    let world = Simulation::default();
    let records = world.records();
    let made = |text| run(records.get_or_insert_with(&NOTES, "a", || note(text))).unwrap();
    assert_eq!((made("one"), made("two")), (Ok(note("one")), Ok(note("one"))));
}
