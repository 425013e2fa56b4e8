//! Runs calls in every order that they could have.
//!
//! Calls of several instances change the same records. Between any two operations of one call, the others may do
//! anything, and a call may be cancelled at any of them. [`Scheduler::explore`] runs a [`Scenario`] again and again, each
//! time in another order of the operations, and checks what has come of it. It searches depth-first and goes through all
//! orders, but for those that differ in nothing but the order of operations that do not touch (sleep sets, after
//! Godefroid). Where there are more orders than it may try, it goes on with orders drawn at random from a seed.
//!
//! What it finds is a [`BrokenSchedule`]: the schedule, one line for each operation. Calls share nothing but the store,
//! the clock and what [`Simulation::service`] stands for; time passes when all calls sleep.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::simulation::{Operation, SimulatedCall, Simulation};

/// Operations of one schedule after which the calls are taken to never end.
const MAX_STEPS: usize = 2_000;

/// A call under the scheduler.
pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What was wrong, in the words of the check.
type ScenarioCheck = Box<dyn FnOnce() -> Result<(), String>>;

/// Calls that happen at once, and what has to be true of what comes of them.
#[derive(Default)]
pub struct Scenario {
    calls: Vec<(&'static str, Task)>,
    check: Option<ScenarioCheck>,
}

impl Scenario {
    /// No call.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a call. It shares with others what it has a handle on, and should change none of that but the store.
    #[must_use]
    pub fn call(mut self, name: &'static str, call: impl Future<Output = ()> + 'static) -> Self {
        self.calls.push((name, Box::pin(call)));
        self
    }

    /// What is checked at the end of every schedule.
    #[must_use]
    pub fn check(mut self, check: impl FnOnce() -> Result<(), String> + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }
}

/// How far to search.
#[derive(Debug, Clone, Copy)]
pub struct Scheduler {
    schedules: usize,
    random: usize,
    seed: u64,
    crashes: usize,
    faults: usize,
    delays: usize,
    prunes: bool,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { schedules: 20_000, random: 500, seed: 1, crashes: 0, faults: 0, delays: 0, prunes: true }
    }
}

/// What was searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchReport {
    /// Schedules that were run to their end, those at random included.
    pub schedules: usize,
    /// Schedules that were given up because they differ from others in nothing that matters.
    pub pruned: usize,
    /// Whether all orders were gone through.
    pub exhaustive: bool,
}

/// A schedule that breaks what has to be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenSchedule {
    /// What was wrong.
    pub message: String,
    /// What has happened, in order.
    pub schedule: Vec<String>,
}

impl fmt::Display for BrokenSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        self.schedule.iter().enumerate().try_for_each(|(at, line)| write!(f, "\n{:4}. {line}", at + 1))
    }
}

impl std::error::Error for BrokenSchedule {}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The call goes on.
    Run(usize),
    /// The call goes on, and its operation of the store fails.
    Fail(usize),
    /// The call is cancelled before its operation.
    Crash(usize),
    /// Time passes.
    Pass,
}

impl Action {
    fn call(self) -> Option<usize> {
        match self {
            Self::Run(call) | Self::Fail(call) | Self::Crash(call) => Some(call),
            Self::Pass => None,
        }
    }
}

/// An action, and the operation that it comes with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Transition {
    action: Action,
    operation: Operation,
}

impl Transition {
    /// Whether the order of the two makes no difference, whatever comes afterwards.
    fn is_independent_of(&self, other: &Self) -> bool {
        if self.action.call() == other.action.call() {
            return false;
        }
        match (self.action, other.action) {
            (Action::Run(_), Action::Run(_)) => {
                let (one, other) = (&self.operation, &other.operation);
                one.on != other.on || (one.reads_only && other.reads_only)
            }
            // Whatever comes afterwards, it comes later.
            (Action::Pass, _) | (_, Action::Pass) => false,
            // One of them does not touch the store.
            (Action::Run(_), _) | (_, Action::Run(_)) => true,
            // Both are of a bounded number.
            _ => false,
        }
    }
}

/// A point of the search at which something was chosen.
struct Choice {
    possible: Vec<Transition>,
    /// Those that need not be tried here: what they lead to was seen elsewhere.
    asleep: Vec<Transition>,
    chosen: usize,
}

impl Choice {
    fn chosen(&self) -> Option<&Transition> {
        self.possible.get(self.chosen)
    }

    /// Goes on to the next transition that is to be tried.
    fn next(&mut self) -> bool {
        self.asleep.extend(self.possible.get(self.chosen).cloned());
        self.rest(self.chosen + 1)
    }

    fn rest(&mut self, from: usize) -> bool {
        let next =
            self.possible.iter().enumerate().skip(from).find(|(_, transition)| !self.asleep.contains(transition));
        self.chosen = next.map_or(self.possible.len(), |(at, _)| at);
        next.is_some()
    }
}

/// How one schedule has ended.
enum ScheduleEnd {
    Done,
    Pruned,
}

impl Scheduler {
    /// Tries at most so many schedules in order, and then so many at random.
    #[must_use]
    pub fn schedules(mut self, in_order: usize, at_random: usize) -> Self {
        (self.schedules, self.random) = (in_order, at_random);
        self
    }

    /// Draws random schedules from this.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Cancels at most so many calls in a schedule, each before any of its operations.
    #[must_use]
    pub fn crashes(mut self, crashes: usize) -> Self {
        self.crashes = crashes;
        self
    }

    /// Lets at most so many operations of the store fail in a schedule.
    #[must_use]
    pub fn faults(mut self, faults: usize) -> Self {
        self.faults = faults;
        self
    }

    /// Lets time pass at most so often in a schedule although calls could go on, each time until the next call wakes or the
    /// next record expires: as when a process is slow.
    #[must_use]
    pub fn delays(mut self, delays: usize) -> Self {
        self.delays = delays;
        self
    }

    /// Goes through orders as well that differ from others in nothing that matters.
    #[must_use]
    pub fn without_pruning(mut self) -> Self {
        self.prunes = false;
        self
    }

    /// Runs the scenario in every order, until a check fails.
    pub fn explore(&self, scenario: impl Fn(&Simulation) -> Scenario) -> Result<SearchReport, BrokenSchedule> {
        let mut report = SearchReport { schedules: 0, pruned: 0, exhaustive: false };
        let mut path: Vec<Choice> = Vec::new();
        while report.schedules + report.pruned < self.schedules {
            match self.follow(&scenario, &mut path)? {
                ScheduleEnd::Done => report.schedules += 1,
                ScheduleEnd::Pruned => report.pruned += 1,
            }
            while path.last_mut().is_some_and(|choice| !choice.next()) {
                path.pop();
            }
            if path.is_empty() {
                report.exhaustive = true;
                return Ok(report);
            }
        }
        let mut random = self.seed;
        for _ in 0..self.random {
            self.run(&scenario, |possible| {
                random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let drawn = usize::try_from(mixed(random) >> 33).unwrap_or_default();
                drawn.checked_rem(possible.len())
            })?;
            report.schedules += 1;
        }
        Ok(report)
    }

    /// Runs the schedule of a path, and on from its end in the first order that is to be tried.
    fn follow(
        &self,
        scenario: &impl Fn(&Simulation) -> Scenario,
        path: &mut Vec<Choice>,
    ) -> Result<ScheduleEnd, BrokenSchedule> {
        let mut depth = 0;
        self.run(scenario, |possible| {
            if path.len() == depth {
                let asleep = match path.last() {
                    Some(before) if self.prunes => before
                        .asleep
                        .iter()
                        .filter(|asleep| before.chosen().is_some_and(|chosen| asleep.is_independent_of(chosen)))
                        .cloned()
                        .collect(),
                    _ => Vec::new(),
                };
                let mut choice = Choice { possible, asleep, chosen: 0 };
                choice.rest(0);
                path.push(choice);
            }
            let choice = path.get(depth)?;
            depth += 1;
            choice.chosen().map(|_| choice.chosen)
        })
    }

    /// Runs one schedule. `choose` says which of the transitions happens; none gives the schedule up.
    fn run(
        &self,
        scenario: &impl Fn(&Simulation) -> Scenario,
        mut choose: impl FnMut(Vec<Transition>) -> Option<usize>,
    ) -> Result<ScheduleEnd, BrokenSchedule> {
        let world = Simulation::default();
        let Scenario { calls, check } = scenario(&world);
        world.begin(calls.len());
        let mut calls: Vec<_> = calls.into_iter().map(|(name, task)| (name, Some(task))).collect();
        (0..calls.len()).for_each(|at| go_on(&world, &mut calls, at));
        // How much of each may still happen.
        let mut left = *self;
        let found = |message: String| BrokenSchedule { message, schedule: world.take_log() };
        for _ in 0..MAX_STEPS {
            let possible = left.possible(&world, calls.len());
            if possible.is_empty() {
                let wakes = next_wake(&world, calls.len());
                if pass(&world, &mut calls, wakes) {
                    continue;
                }
                if let Some((name, _)) = calls.iter().find(|(_, task)| task.is_some()) {
                    return Err(found(format!("the call {name} waits for something that never comes")));
                }
                return check.map_or(Ok(()), |check| check()).map(|()| ScheduleEnd::Done).map_err(found);
            }
            let chosen = choose(possible.clone()).and_then(|at| possible.into_iter().nth(at));
            let Some(Transition { action, operation }) = chosen else { return Ok(ScheduleEnd::Pruned) };
            let at = action.call().unwrap_or(calls.len());
            let name = calls.get(at).map_or("", |(name, _)| name);
            world.with_call(at, |call| (call.pending, call.fails) = (None, matches!(action, Action::Fail(_))));
            match action {
                Action::Run(_) | Action::Fail(_) => {
                    left.faults -= usize::from(matches!(action, Action::Fail(_)));
                    world.log(format!("{name}: {operation}"));
                    go_on(&world, &mut calls, at);
                }
                Action::Crash(_) => {
                    left.crashes -= 1;
                    world.log(format!("{name} is cancelled before: {operation}"));
                    calls.iter_mut().skip(at).take(1).for_each(|(_, task)| *task = None);
                }
                Action::Pass => {
                    left.delays -= 1;
                    let event = next_event(&world, calls.len());
                    pass(&world, &mut calls, event);
                }
            }
        }
        Err(found(format!("the calls have not ended after {MAX_STEPS} operations")))
    }

    /// What can happen next, as long as any call can go on.
    fn possible(&self, world: &Simulation, calls: usize) -> Vec<Transition> {
        let pending = (0..calls).filter_map(|at| Some((at, world.with_call(at, |call| call.pending.clone())??)));
        let pending: Vec<_> = pending.collect();
        let mut possible = Vec::with_capacity(3 * pending.len() + 1);
        for (at, operation) in &pending {
            let mut add = |action| possible.push(Transition { action, operation: operation.clone() });
            add(Action::Run(*at));
            if self.faults > 0 && operation.is_of_the_store() {
                add(Action::Fail(*at));
            }
            if self.crashes > 0 {
                add(Action::Crash(*at));
            }
        }
        if self.delays > 0 && !pending.is_empty() && next_event(world, calls).is_some() {
            possible.push(Transition { action: Action::Pass, operation: Operation::default() });
        }
        possible
    }
}

type Calls = [(&'static str, Option<Task>)];

/// Lets a call go on until its next operation.
fn go_on(world: &Simulation, calls: &mut Calls, at: usize) {
    if let Some((_, task)) = calls.get_mut(at)
        && task.as_mut().is_some_and(|running| world.poll(at, running))
    {
        *task = None;
    }
}

/// When the next call wakes.
fn next_wake(world: &Simulation, calls: usize) -> Option<Duration> {
    (0..calls).filter_map(|at| world.with_call(at, |call| call.wakes_at).flatten()).min()
}

/// When the next call wakes or the next record expires.
fn next_event(world: &Simulation, calls: usize) -> Option<Duration> {
    next_wake(world, calls).into_iter().chain(world.next_expiry()).min()
}

/// Lets time pass until then, and the calls that wake go on. Whether there is such a time.
fn pass(world: &Simulation, calls: &mut Calls, until: Option<Duration>) -> bool {
    let Some(until) = until else { return false };
    world.advance(until.saturating_sub(world.elapsed()));
    world.log(format!("{:?} have passed", world.elapsed()));
    for at in 0..calls.len() {
        let wakes = |call: &mut SimulatedCall| call.wakes_at.take_if(|at| *at <= until).is_some();
        if world.with_call(at, wakes).unwrap_or_default() {
            go_on(world, calls, at);
        }
    }
    true
}

/// The output of SplitMix64 for a state.
pub(super) fn mixed(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
