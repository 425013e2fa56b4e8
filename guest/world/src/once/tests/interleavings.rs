//! Every order of calls: one asks, all get the answer, and a call that vanishes holds up no other for longer than its lease.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::super::{After, Asked, Moment, NotAsked, Policy, Question, WithoutStore, once, once_with};
use super::cached::NoNumber;
use super::refresh::{Authority, NoToken, Refresh, TOKENS, store};
use crate::capabilities::Clock as _;
use crate::records::{Holder, Namespace, Partition, Ttl};
use crate::testing::scheduler::{Scenario, Scheduler, SearchReport};
use crate::testing::simulation::{Simulation, run};

const NUMBERS: Namespace<u32> =
    Namespace::json(Partition::Store, "number", Ttl::For(Duration::from_secs(600))).absent_if_unreadable();
const ASKING: Namespace<Holder> = Namespace::leases(Partition::Store, "number").ending_with("/asking");
const NAMES: [&str; 3] = ["one", "two", "three"];

/// [`Policy::ANSWER`] with a longer pause between two looks: fewer of them say the same.
const ANSWER: Policy = Policy { poll: Duration::from_secs(5), ..Policy::ANSWER };
/// The same for a refresh.
const REFRESH: Policy = Policy { poll: Duration::from_secs(5), ..Policy::REFRESH };

/// What the service was asked, and the callers were told.
#[derive(Default)]
struct Seen {
    asked: Cell<u32>,
    told: RefCell<Vec<Result<u32, NoNumber>>>,
}

impl Seen {
    /// Asks a service that takes `seconds` to answer with how often it was asked.
    async fn ask(&self, world: &Simulation, seconds: u64) -> Result<u32, NoNumber> {
        world.service("numbers").await;
        self.asked.set(self.asked.get() + 1);
        let answer = self.asked.get();
        if seconds > 0 {
            world.sleep(Duration::from_secs(seconds)).await;
        }
        Ok(answer)
    }

    /// One call asks and all get its answer. Where a call was so slow that the lease ran out, another one asks as well, and
    /// all get an answer, unless one has lost its patience meanwhile.
    fn check_of(self: &Rc<Self>, world: &Simulation, calls: usize) -> impl FnOnce() -> Result<(), String> + use<> {
        let (world, seen) = (world.clone(), Rc::clone(self));
        move || {
            let once = seen.asked.get() == 1 && *seen.told.borrow() == vec![Ok(1); calls];
            let told = seen.told.borrow();
            let impatient = world.elapsed() >= ANSWER.patience && told.iter().any(Result::is_ok);
            let all_told = told.len() == calls && (impatient || told.iter().all(Result::is_ok));
            let slow = world.elapsed() >= ANSWER.lease && all_told;
            if once || slow { Ok(()) } else { seen.wrong("a double question") }
        }
    }

    fn wrong(&self, what: &str) -> Result<(), String> {
        Err(format!("{what}: asked {} times, told {:?}", self.asked.get(), self.told.borrow()))
    }
}

fn callers(world: &Simulation, count: usize, policy: Policy, seconds: u64, seen: &Rc<Seen>) -> Scenario {
    NAMES.iter().take(count).fold(Scenario::new(), |scenario, name| {
        let (world, seen) = (world.clone(), Rc::clone(seen));
        scenario.call(name, async move {
            let records = world.records();
            let told = once(&records, &NUMBERS, (), &policy, |_| true, async |_| seen.ask(&world, seconds).await).await;
            seen.told.borrow_mut().push(told);
        })
    })
}

fn explored(found: Result<SearchReport, crate::testing::scheduler::BrokenSchedule>) -> SearchReport {
    let report = found.unwrap_or_else(|found| panic!("{found}"));
    assert!(report.schedules > 1, "{report:?}");
    println!("{report:?}");
    report
}

#[test]
fn of_two_calls_one_asks_in_every_order() {
    for seconds in [0, 3] {
        let report = explored(Scheduler::default().delays(1).explore(|world| {
            let seen = Rc::new(Seen::default());
            callers(world, 2, ANSWER, seconds, &seen).check(seen.check_of(world, 2))
        }));
        assert!(report.exhaustive, "{report:?}");
    }
}

#[test]
fn of_three_calls_one_asks() {
    explored(Scheduler::default().schedules(5_000, 500).delays(1).explore(|world| {
        let seen = Rc::new(Seen::default());
        callers(world, 3, ANSWER, 3, &seen).check(seen.check_of(world, 3))
    }));
}

/// Without a lease. The scheduler has to find that both ask.
#[test]
fn a_question_without_a_lease_is_found_to_be_asked_twice() {
    let found = Scheduler::default().explore(|world| {
        let seen = Rc::new(Seen::default());
        let scenario = NAMES.iter().take(2).fold(Scenario::new(), |scenario, name| {
            let (world, seen) = (world.clone(), Rc::clone(&seen));
            scenario.call(name, async move {
                if let Ok(None) = world.records().get(&NUMBERS, ()).await
                    && let Ok(answer) = seen.ask(&world, 0).await
                {
                    let _ = world.records().put(&NUMBERS, (), &answer).await;
                }
            })
        });
        scenario.check(move || if seen.asked.get() == 1 { Ok(()) } else { seen.wrong("a double refresh") })
    });
    let found = found.unwrap_err();
    println!("{found}");
    assert!(found.message.starts_with("a double refresh"), "{found}");
    let questions = found.schedule.iter().filter(|line| line.ends_with("ask numbers")).count();
    assert_eq!(questions, 2, "{found}");
    assert!(found.to_string().contains("   1. one: get number -> none"), "{found}");
}

/// A question that does not look again once it holds the lease.
struct Careless {
    world: Simulation,
    seen: Rc<Seen>,
}

impl Question for Careless {
    type Answer = u32;
    type Error = NoNumber;

    fn policy(&self) -> Policy {
        ANSWER
    }

    async fn look(&mut self, moment: Moment) -> Result<Option<u32>, NoNumber> {
        match moment {
            Moment::Holding => Ok(None),
            Moment::Begin | Moment::Waiting => Ok(self.world.records().get(&NUMBERS, ()).await?),
        }
    }

    async fn ask(&mut self) -> Result<Asked<u32>, NoNumber> {
        let answer = self.seen.ask(&self.world, 0).await?;
        self.world.records().put(&NUMBERS, (), &answer).await?;
        Ok(Asked::Answer(answer))
    }

    async fn instead(&mut self, _: NotAsked) -> Result<u32, NoNumber> {
        Err(NoNumber::NotForThisCaller)
    }
}

#[test]
fn a_question_that_does_not_look_again_under_its_lease_is_found_to_be_asked_twice() {
    let found = Scheduler::default().explore(|world| {
        let seen = Rc::new(Seen::default());
        let scenario = NAMES.iter().take(2).fold(Scenario::new(), |scenario, name| {
            let mut question = Careless { world: world.clone(), seen: Rc::clone(&seen) };
            scenario.call(name, async move {
                let world = question.world.clone();
                let told = once_with(&world.records(), &ASKING, (), &mut question).await;
                question.seen.told.borrow_mut().push(told);
            })
        });
        scenario.check(seen.check_of(world, 2))
    });
    let found = found.unwrap_err();
    println!("{found}");
    assert!(found.message.starts_with("a double question: asked 2 times"), "{found}");
    let changes = found.schedule.iter().take_while(|line| !line.ends_with("two: ask numbers"));
    let changes = changes.filter(|line| line.ends_with("compare-and-swap number/asking -> written")).count();
    assert_eq!(changes, 3, "each holds the lease when it asks, and one gives it back: {found}");
}

#[test]
fn a_call_that_vanishes_holds_up_the_others_no_longer_than_its_lease() {
    explored(Scheduler::default().schedules(5_000, 2_000).crashes(1).explore(|world| {
        let seen = Rc::new(Seen::default());
        let (clock, counted) = (world.clone(), Rc::clone(&seen));
        callers(world, 2, ANSWER, 3, &seen).check(move || {
            let told = seen.told.borrow();
            let in_time = clock.elapsed() <= ANSWER.lease + Duration::from_secs(3);
            if in_time && !told.is_empty() && told.iter().all(Result::is_ok) && counted.asked.get() <= 2 {
                Ok(())
            } else {
                seen.wrong("held up")
            }
        })
    }));
}

#[test]
fn a_question_that_outlives_its_lease_is_taken_over() {
    let report = explored(Scheduler::default().explore(|world| {
        let seen = Rc::new(Seen::default());
        let store = world.clone();
        callers(world, 2, ANSWER, 28, &seen).check(move || {
            let all_told = seen.told.borrow().iter().filter(|told| told.is_ok()).count() == 2;
            if seen.asked.get() == 2 && all_told && store.names() == ["number"] {
                Ok(())
            } else {
                seen.wrong("not taken over")
            }
        })
    }));
    assert!(report.exhaustive, "{report:?}");
}

#[test]
fn a_store_that_fails_once_leaves_no_lease_behind_that_holds_up_for_longer_than_its_time() {
    explored(Scheduler::default().schedules(5_000, 1_000).faults(1).explore(|world| {
        let seen = Rc::new(Seen::default());
        let clock = world.clone();
        callers(world, 2, ANSWER, 3, &seen).check(move || {
            let failures = seen.told.borrow().iter().filter(|told| told.is_err()).count();
            let in_time = clock.elapsed() <= ANSWER.lease + Duration::from_secs(3);
            if in_time && failures <= 1 { Ok(()) } else { seen.wrong("held up") }
        })
    }));
}

#[test]
fn an_attempt_is_made_once_within_its_pause_in_every_order() {
    let pause = Duration::from_secs(30);
    let policy = Policy { after: After::Attempted { pause, kept: pause }, without_store: WithoutStore::Asks, ..ANSWER };
    let report = explored(Scheduler::default().explore(|world| {
        let seen = Rc::new(Seen::default());
        callers(world, 2, policy, 3, &seen).check(move || match seen.asked.get() {
            1 => Ok(()),
            _ => seen.wrong("a double attempt"),
        })
    }));
    assert!(report.exhaustive, "{report:?}");
}

/// Calls that refresh one account at the same moment, and what became of them.
fn refreshes(world: &Simulation, count: usize, policy: Policy) -> (Scenario, Rc<RefCell<Authority>>, Rc<Told>) {
    let (authority, told) = (Rc::new(RefCell::new(Authority::default())), Rc::<Told>::default());
    store(world, "refresh-0", ("access-0", 0));
    let scenario = NAMES.iter().take(count).fold(Scenario::new(), |scenario, name| {
        let (world, authority, told) = (world.clone(), Rc::clone(&authority), Rc::clone(&told));
        scenario.call(name, async move {
            let result = Refresh::new(&world, &authority).with(policy).acquire().await;
            told.borrow_mut().push(result);
        })
    });
    (scenario, authority, told)
}

type Told = RefCell<Vec<Result<String, NoToken>>>;

#[test]
fn a_refresh_token_is_presented_once_in_every_order() {
    let report = explored(Scheduler::default().delays(1).explore(|world| {
        let (scenario, authority, told) = refreshes(world, 2, REFRESH);
        let store = world.clone();
        scenario.check(move || {
            let stored = run(store.records().get(&TOKENS, "o.t")).and_then(Result::ok).flatten();
            let newest = stored.and_then(|tokens| tokens.refresh_token) == Some(authority.borrow().refresh_token());
            let (presented, told) = (authority.borrow().presented.clone(), told.borrow());
            let is_refreshed = |told: &Result<String, NoToken>| told.as_deref() == Ok("access-1");
            let all_refreshed = told.len() == 2 && told.iter().all(is_refreshed);
            let once = presented == ["refresh-0"] && newest && all_refreshed;
            // A call may be so slow that its lease runs out: then both present the same refresh token. This authority refuses
            // the second one. Unless the first call has stored its answer by then, the person signs in again.
            let slow = store.elapsed() >= REFRESH.lease
                && presented == ["refresh-0", "refresh-0"]
                && told.len() == 2
                && told.iter().any(is_refreshed)
                && told.iter().all(|told| is_refreshed(told) || *told == Err(NoToken::SignIn))
                && newest == all_refreshed;
            if once || slow { Ok(()) } else { Err(format!("presented {presented:?}, told {told:?}")) }
        })
    }));
    assert!(report.exhaustive, "{report:?}");
}

/// Each of those that wait would ask for itself if none took the lease over.
#[test]
fn of_calls_that_wait_for_a_refresh_that_vanishes_one_asks() {
    explored(Scheduler::default().schedules(5_000, 2_000).crashes(1).explore(|world| {
        let (scenario, authority, told) = refreshes(world, 3, REFRESH);
        let clock = world.clone();
        scenario.check(move || {
            // The call that vanishes may have asked before.
            let presented = authority.borrow().presented.len();
            if presented <= 2 && clock.elapsed() < REFRESH.patience * 2 && told.borrow().len() >= 2 {
                Ok(())
            } else {
                Err(format!("asked {presented} times in {:?}, told {:?}", clock.elapsed(), told.borrow()))
            }
        })
    }));
}

#[test]
fn a_refresh_that_vanishes_holds_up_the_others_no_longer_than_their_patience() {
    explored(Scheduler::default().schedules(5_000, 2_000).crashes(1).explore(|world| {
        let (scenario, _, told) = refreshes(world, 2, REFRESH);
        let clock = world.clone();
        scenario.check(move || {
            // A call that was cancelled between the answer and the store has taken the new refresh token with it.
            let told = told.borrow();
            if clock.elapsed() <= REFRESH.patience && !told.is_empty() {
                Ok(())
            } else {
                Err(format!("{:?} have passed, told {told:?}", clock.elapsed()))
            }
        })
    }));
}
