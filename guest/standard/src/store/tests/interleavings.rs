//! Instances on one folder, stopped between any two operations on files, in every order that these can have. What they
//! were told has to be what some order of whole operations on records would have told them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use base::Secret;
use world::Store as _;
use world::testing::forever;
use world::testing::scheduler::{Scenario, Scheduler, SearchReport};
use world::testing::simulation::{Simulation, run};

use super::super::{FolderStore, StoreKey};
use super::simulated::{SimulatedFolder, Tree};

const KEY: &str = "record";
const NAMES: [&str; 3] = ["one", "two", "three"];
/// How long the record lives that is there in the beginning, if it expires.
const LIFE: Duration = Duration::from_secs(10);

/// An operation on the record. Values are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Get,
    Put(&'static str),
    Take,
    Swap(Option<&'static str>, &'static str),
    Delete,
    /// What a later write of another record does: nothing that another call may notice.
    Sweep,
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Done,
    Swapped(bool),
    Found(Option<String>),
}

/// An operation, when it began and ended, and what it has answered. Without an answer, its instance was killed.
#[derive(Debug, Clone)]
struct Observed {
    op: Op,
    began: usize,
    ended: usize,
    told: Option<Told>,
}

/// What the operation does to a record that changes in one step.
fn apply(op: Op, record: &mut Option<String>) -> Told {
    match op {
        Op::Get => Told::Found(record.clone()),
        Op::Put(value) => {
            *record = Some(value.to_owned());
            Told::Done
        }
        Op::Take => Told::Found(record.take()),
        Op::Swap(expected, value) => {
            let is_expected = record.as_deref() == expected;
            if is_expected {
                *record = Some(value.to_owned());
            }
            Told::Swapped(is_expected)
        }
        Op::Delete => {
            *record = None;
            Told::Done
        }
        Op::Sweep => Told::Done,
    }
}

/// Whether some order of whole operations explains what was observed, with this record before and that one after it.
fn is_explained(
    calls: &[Vec<Observed>],
    next: &mut Vec<usize>,
    record: &Option<String>,
    after: &Option<String>,
) -> bool {
    let pending = |next: &[usize]| -> Vec<(usize, Observed)> {
        let at = |call: usize| calls[call].get(next[call]).cloned().map(|observed| (call, observed));
        (0..calls.len()).filter_map(at).collect()
    };
    let left = pending(next);
    if left.is_empty() {
        return record == after;
    }
    left.iter().any(|(call, observed)| {
        // Nothing goes before what had ended when it began.
        if left.iter().any(|(_, other)| other.told.is_some() && other.ended < observed.began) {
            return false;
        }
        next[*call] += 1;
        let mut changed = record.clone();
        let told = apply(observed.op, &mut changed);
        let fits = match &observed.told {
            Some(seen) => *seen == told && is_explained(calls, next, &changed, after),
            // A killed one has had its effect, or none.
            None => is_explained(calls, next, &changed, after) || is_explained(calls, next, record, after),
        };
        next[*call] -= 1;
        fits
    })
}

async fn perform(store: &FolderStore<'_, SimulatedFolder>, op: Op) -> Told {
    let text = |value: Option<Secret<Vec<u8>>>| value.map(|value| String::from_utf8(value.reveal().clone()).unwrap());
    match op {
        Op::Get => Told::Found(text(store.get(KEY).await.unwrap())),
        Op::Put(value) => {
            store.put(KEY, value.as_bytes(), None).await.unwrap();
            Told::Done
        }
        Op::Take => Told::Found(text(store.take(KEY).await.unwrap())),
        Op::Swap(expected, value) => {
            let expected = expected.map(str::as_bytes);
            Told::Swapped(store.compare_and_swap(KEY, expected, value.as_bytes(), None).await.unwrap())
        }
        Op::Delete => {
            store.delete(KEY).await.unwrap();
            Told::Done
        }
        Op::Sweep => {
            let path = store.record(KEY).unwrap().path;
            store.sweep_record(path).await;
            Told::Done
        }
    }
}

/// The record in the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Value(&'static str),
    Expired,
}

struct Case {
    before: Before,
    calls: &'static [&'static [Op]],
}

fn store(world: &Simulation, tree: &Tree) -> &'static FolderStore<'static, SimulatedFolder> {
    let world: &'static Simulation = forever(world.clone());
    let key: &'static StoreKey = forever(StoreKey::new(vec![7; 32]));
    let folder = forever(SimulatedFolder { world: world.clone(), tree: tree.clone() });
    forever(FolderStore::new(folder, key, world, world))
}

fn scenario(case: &Case, world: &Simulation) -> Scenario {
    let tree = Tree::default();
    let outside = store(world, &tree);
    let before = match case.before {
        Before::Nothing => {
            // The shard is there.
            run(outside.put(KEY, b"earlier", None)).unwrap().unwrap();
            run(outside.delete(KEY)).unwrap().unwrap();
            None
        }
        Before::Value(value) => {
            run(outside.put(KEY, value.as_bytes(), None)).unwrap().unwrap();
            Some(value.to_owned())
        }
        Before::Expired => {
            run(outside.put(KEY, b"expired", Some(LIFE))).unwrap().unwrap();
            world.advance(LIFE);
            None
        }
    };
    let clock = Rc::<Cell<usize>>::default();
    let observed = Rc::new(RefCell::new(vec![Vec::<Observed>::new(); case.calls.len()]));
    let mut scenario = Scenario::new();
    for (at, ops) in case.calls.iter().enumerate() {
        let (store, clock, observed) = (store(world, &tree), Rc::clone(&clock), Rc::clone(&observed));
        scenario = scenario.call(NAMES[at], async move {
            for op in ops.iter().copied() {
                let tick = || clock.replace(clock.get() + 1);
                observed.borrow_mut()[at].push(Observed { op, began: tick(), ended: usize::MAX, told: None });
                let told = perform(store, op).await;
                let ended = tick();
                let mut observed = observed.borrow_mut();
                let last = observed[at].last_mut().unwrap();
                (last.told, last.ended) = (Some(told), ended);
            }
        });
    }
    scenario.check(move || {
        let Some(Told::Found(after)) = run(perform(outside, Op::Get)) else { return Err("no answer".to_owned()) };
        let calls = observed.borrow();
        if !is_explained(&calls, &mut vec![0; calls.len()], &before, &after) {
            return Err(format!("{calls:?}, then {after:?}; {:?}", tree.paths()));
        }
        // Whatever was left, the record can be used, and nothing stays when it is deleted.
        run(perform(outside, Op::Put("later"))).unwrap();
        let later = run(perform(outside, Op::Take)).unwrap();
        let path = outside.record(KEY).unwrap().path;
        let left: Vec<_> = tree.paths().into_iter().filter(|other| other.starts_with(&path)).collect();
        match (later == Told::Found(Some("later".to_owned())), left.is_empty()) {
            (true, true) => Ok(()),
            _ => Err(format!("then {later:?}, and what stays is {left:?}")),
        }
    })
}

fn explore(scheduler: Scheduler, case: &Case) -> SearchReport {
    match scheduler.explore(|world| scenario(case, world)) {
        Ok(report) => report,
        Err(broken) => panic!("{:?} {:?}: {broken}", case.before, case.calls),
    }
}

/// Pairs of instances whose operations have to exclude each other.
const PAIRS: &[Case] = &[
    Case { before: Before::Nothing, calls: &[&[Op::Swap(None, "a")], &[Op::Swap(None, "b")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Swap(Some("x"), "a")], &[Op::Swap(Some("x"), "b")]] },
    Case { before: Before::Expired, calls: &[&[Op::Swap(None, "a")], &[Op::Swap(None, "b")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Take], &[Op::Take]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Take], &[Op::Swap(Some("x"), "a")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Take], &[Op::Put("a")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Delete], &[Op::Swap(None, "a")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Put("a")], &[Op::Get, Op::Get]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Delete], &[Op::Get]] },
    Case { before: Before::Expired, calls: &[&[Op::Sweep], &[Op::Swap(None, "a")]] },
    Case { before: Before::Expired, calls: &[&[Op::Sweep], &[Op::Put("a"), Op::Get]] },
    Case { before: Before::Nothing, calls: &[&[Op::Sweep], &[Op::Put("a"), Op::Take]] },
];

/// Sequences in which a record ends and begins again while another instance has looked at the earlier one.
const RENEWED: &[Case] = &[
    Case { before: Before::Value("x"), calls: &[&[Op::Take, Op::Put("x")], &[Op::Swap(Some("x"), "a")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Delete, Op::Swap(None, "n")], &[Op::Delete]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Delete, Op::Put("n")], &[Op::Swap(None, "a")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Put("y"), Op::Put("x")], &[Op::Swap(Some("x"), "a")]] },
];

/// Three at once.
const CROWDS: &[Case] = &[
    Case {
        before: Before::Nothing,
        calls: &[&[Op::Swap(None, "a")], &[Op::Swap(None, "b")], &[Op::Swap(Some("a"), "c")]],
    },
    Case { before: Before::Value("x"), calls: &[&[Op::Take], &[Op::Take], &[Op::Put("a")]] },
    Case { before: Before::Value("x"), calls: &[&[Op::Delete], &[Op::Swap(None, "a")], &[Op::Sweep, Op::Get]] },
];

#[test]
fn whatever_order_the_operations_on_files_have_two_instances_see_whole_operations_on_records() {
    for case in PAIRS {
        let report = explore(Scheduler::default().schedules(60_000, 0), case);
        assert!(report.exhaustive, "{:?} {:?}: {report:?}", case.before, case.calls);
    }
}

#[test]
fn a_record_that_begins_again_is_not_taken_for_the_earlier_one() {
    for case in RENEWED {
        explore(Scheduler::default().schedules(5_000, 500), case);
    }
}

#[test]
fn three_instances_at_once_see_whole_operations_too() {
    for case in CROWDS {
        explore(Scheduler::default().schedules(5_000, 1_000), case);
    }
}

#[test]
fn an_instance_that_is_killed_between_two_operations_on_files_leaves_the_old_record_or_the_new_one() {
    for case in PAIRS.iter().chain(RENEWED) {
        explore(Scheduler::default().schedules(3_000, 300).crashes(1), case);
    }
}

#[test]
fn two_instances_that_are_killed_leave_a_record_that_works() {
    for case in PAIRS {
        explore(Scheduler::default().schedules(1_000, 500).crashes(2), case);
    }
}
