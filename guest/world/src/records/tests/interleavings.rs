//! Every order of calls that change one record. The scheduler has to find the bugs that are put in.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::super::{Holder, Namespace, Next, Partition, Ttl};
use crate::testing::scheduler::{BrokenSchedule, Scenario, Scheduler, SearchReport};
use crate::testing::simulation::{Simulation, run};

const COUNTERS: Namespace<u32> = Namespace::json(Partition::Store, "counter", Ttl::Kept);
const CODES: Namespace<String> = Namespace::json(Partition::Store, "code", Ttl::Kept).hashed();
const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// Calls that count, and the check that no count is lost.
fn counting<F: Future<Output = ()> + 'static>(
    world: &Simulation,
    calls: usize,
    count: fn(Simulation) -> F,
) -> Scenario {
    let scenario =
        NAMES.iter().take(calls).fold(Scenario::new(), |scenario, name| scenario.call(name, count(world.clone())));
    let world = world.clone();
    scenario.check(move || {
        let counted = run(world.records().get(&COUNTERS, ())).and_then(Result::ok).flatten().unwrap_or_default();
        if usize::try_from(counted) == Ok(calls) { Ok(()) } else { Err(format!("a lost update: {counted} of {calls}")) }
    })
}

async fn count(world: Simulation) {
    let records = world.records();
    let counted = records.update(&COUNTERS, (), |counter| Next::Write(counter.unwrap_or_default() + 1, ())).await;
    assert_eq!(counted, Ok(()));
}

/// Without compare-and-swap.
async fn count_carelessly(world: Simulation) {
    let counter = world.records().get(&COUNTERS, ()).await.ok().flatten();
    let _ = world.records().put(&COUNTERS, (), &(counter.unwrap_or_default() + 1)).await;
}

fn explored(found: Result<SearchReport, BrokenSchedule>) -> SearchReport {
    let report = found.unwrap_or_else(|found| panic!("{found}"));
    println!("{report:?}");
    report
}

#[test]
fn no_update_is_lost_in_any_order() {
    for calls in [2, 3] {
        let report = explored(Scheduler::default().explore(|world| counting(world, calls, count)));
        assert!(report.exhaustive, "{report:?}");
    }
}

#[test]
fn no_update_of_four_calls_is_lost() {
    explored(Scheduler::default().schedules(2_000, 1_000).explore(|world| counting(world, 4, count)));
}

#[test]
fn an_update_without_compare_and_swap_is_found_to_be_lost() {
    for scheduler in [Scheduler::default(), Scheduler::default().schedules(0, 500)] {
        let found = scheduler.explore(|world| counting(world, 2, count_carelessly)).unwrap_err();
        assert_eq!(found.message, "a lost update: 1 of 2");
        let printed = found.to_string();
        println!("{printed}");
        let gets: Vec<_> = found.schedule.iter().take(2).map(|line| line.split_once(": ").unwrap().1).collect();
        assert_eq!(gets, ["get counter -> none"; 2], "{printed}");
        assert_eq!(found.schedule.iter().filter(|line| line.ends_with(": put counter")).count(), 2, "{printed}");
    }
}

#[test]
fn what_is_pruned_differs_in_nothing_that_matters() {
    /// The ends that the scheduler has seen.
    fn ends(scheduler: Scheduler) -> (SearchReport, Vec<String>) {
        let seen: Rc<RefCell<Vec<String>>> = Rc::default();
        let report = explored(scheduler.explore(|world| {
            let scenario = ["one", "two"].into_iter().fold(Scenario::new(), |scenario, name| {
                let world = world.clone();
                scenario.call(name, async move {
                    let _ = world.records().put(&CODES, name, &String::new()).await;
                    count_carelessly(world.clone()).await;
                    let _ = world.records().take(&CODES, name).await;
                })
            });
            let (world, seen) = (world.clone(), Rc::clone(&seen));
            scenario.check(move || {
                seen.borrow_mut().push(format!("{:?}", world.peek("counter")));
                Ok(())
            })
        }));
        let mut ends = seen.take();
        ends.sort();
        ends.dedup();
        (report, ends)
    }
    let (all, ends_of_all) = ends(Scheduler::default().without_pruning());
    let (some, ends_of_some) = ends(Scheduler::default());
    // Two calls of four operations each: 8! / (4! 4!) orders.
    assert_eq!(all, SearchReport { schedules: 70, pruned: 0, exhaustive: true });
    assert!(some.exhaustive && some.schedules < 20, "{some:?}");
    assert_eq!(ends_of_all, ends_of_some);
    assert_eq!(ends_of_all.len(), 2, "one update is lost, or none");
}

#[test]
fn a_code_is_taken_once_in_every_order() {
    let report = explored(Scheduler::default().crashes(1).explore(|world| {
        run(world.records().put(&CODES, "the code", &"grant".to_owned())).unwrap().unwrap();
        let taken = Rc::new(Cell::new(0));
        let scenario = NAMES.iter().take(3).fold(Scenario::new(), |scenario, name| {
            let (world, taken) = (world.clone(), Rc::clone(&taken));
            scenario.call(name, async move {
                if let Ok(Some(_)) = world.records().take(&CODES, "the code").await {
                    taken.set(taken.get() + 1);
                }
            })
        });
        scenario.check(move || if taken.get() == 1 { Ok(()) } else { Err(format!("taken {} times", taken.get())) })
    }));
    assert!(report.exhaustive, "{report:?}");
}

/// As an authorization code: looked at first, then claimed as it was seen.
#[test]
fn a_code_is_claimed_once_in_every_order() {
    let report = explored(Scheduler::default().explore(|world| {
        run(world.records().put(&CODES, "the code", &"given".to_owned())).unwrap().unwrap();
        let claimed = Rc::new(Cell::new(0));
        let scenario = NAMES.iter().take(3).fold(Scenario::new(), |scenario, name| {
            let (world, claimed) = (world.clone(), Rc::clone(&claimed));
            scenario.call(name, async move {
                let (records, in_use, used) = (world.records(), "in use".to_owned(), "used".to_owned());
                if let Ok(Some(code)) = records.read(&CODES, "the code").await
                    && code.value == "given"
                    && let Ok(Some(claim)) = records.replace(&CODES, "the code", &code.version, &in_use).await
                    && let Ok(Some(_)) = records.replace(&CODES, "the code", &claim, &used).await
                {
                    claimed.set(claimed.get() + 1);
                }
            })
        });
        scenario
            .check(move || if claimed.get() == 1 { Ok(()) } else { Err(format!("claimed {} times", claimed.get())) })
    }));
    assert!(report.exhaustive, "{report:?}");
}

#[test]
fn a_record_that_all_make_at_once_is_one_record() {
    let report = explored(Scheduler::default().explore(|world| {
        let got: Rc<RefCell<Vec<u32>>> = Rc::default();
        let scenario = (0..3).zip(NAMES).fold(Scenario::new(), |scenario, (number, name)| {
            let (world, got) = (world.clone(), Rc::clone(&got));
            scenario.call(name, async move {
                let made = world.records().get_or_insert_with(&COUNTERS, (), || number).await;
                got.borrow_mut().extend(made.ok());
            })
        });
        scenario.check(move || {
            let got = got.borrow();
            if got.len() == 3 && got.iter().all(|one| Some(one) == got.first()) {
                Ok(())
            } else {
                Err(format!("{got:?}"))
            }
        })
    }));
    assert!(report.exhaustive, "{report:?}");
}

const LEASES: Namespace<Holder> = Namespace::leases(Partition::Store, "lease");
/// How long a lease is taken for.
const LEASE: Duration = Duration::from_secs(10);

/// How a lease is given back.
#[derive(Clone, Copy)]
enum Release {
    AsItIs,
    /// By a look and then a delete.
    Careless,
}

/// Each call takes the lease if it is free, does its work, and gives the lease back. The check is that no call takes a lease
/// which another call holds, and that the last one is free in the end.
fn leasing(world: &Simulation, release: Release) -> Scenario {
    let holders: Rc<RefCell<Vec<(&'static str, u64)>>> = Rc::default();
    let broken: Rc<Cell<bool>> = Rc::default();
    let scenario = NAMES.iter().take(3).fold(Scenario::new(), |scenario, name| {
        let (world, holders, broken) = (world.clone(), Rc::clone(&holders), Rc::clone(&broken));
        scenario.call(name, async move {
            let records = world.records();
            let Ok(Some(lease)) = records.lease(&LEASES, (), LEASE).await else { return };
            let now = records.clock().now();
            let is_held = |(_, since): &(&str, u64)| now < since + LEASE.as_secs();
            broken.set(broken.get() || holders.borrow().iter().any(is_held));
            holders.borrow_mut().push((name, now));
            // On what the others look at, so that their order matters.
            world.operation("work", "lease", true).await;
            holders.borrow_mut().retain(|(holder, _)| holder != name);
            match release {
                Release::AsItIs => lease.release().await,
                Release::Careless => {
                    let found = records.store.get("lease").await.ok().flatten();
                    if found.is_some_and(|found| found.reveal() == lease.holder.0.as_bytes()) {
                        let _ = records.store.delete("lease").await;
                    }
                }
            }
        })
    });
    let world = world.clone();
    scenario.check(move || {
        if broken.get() {
            return Err("two calls hold the lease".to_owned());
        }
        match run(world.records().lease(&LEASES, (), LEASE)) {
            Some(Ok(Some(_))) => Ok(()),
            _ => Err("a lease that was given back is not free".to_owned()),
        }
    })
}

#[test]
fn a_lease_that_has_run_out_takes_no_other_calls_lease_away() {
    let report = explored(Scheduler::default().delays(1).explore(|world| leasing(world, Release::AsItIs)));
    assert!(report.exhaustive, "{report:?}");
}

#[test]
fn a_release_that_looks_and_then_deletes_is_found_to_take_another_calls_lease_away() {
    let found = Scheduler::default().delays(1).explore(|world| leasing(world, Release::Careless)).unwrap_err();
    println!("{found}");
    assert_eq!(found.message, "two calls hold the lease");
}

#[test]
fn calls_that_never_end_are_found() {
    let stuck = Scheduler::default().explore(|_| Scenario::new().call("one", std::future::pending()));
    assert_eq!(stuck.unwrap_err().message, "the call one waits for something that never comes");
    let endless = Scheduler::default().explore(|world| {
        let world = world.clone();
        Scenario::new().call("one", async move { while world.records().get(&COUNTERS, ()).await.is_ok() {} })
    });
    assert_eq!(endless.unwrap_err().message, "the calls have not ended after 2000 operations");
}
