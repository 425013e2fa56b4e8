//! Processes that share a store and are killed in the middle of what they do: no record is lost, and none is had twice.
//!
//! Each process is this test program again, with [`worker`] as its only test. It notes in a file what it tries before it does
//! it, and what came of it afterwards. So the notes say what has to be in the store, and of which operations alone that is not
//! known: of those that a kill has interrupted.
//!
//! Which processes are killed, and when, is random. The seed is printed, and [`SEED`] gives one.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use entra_mcp_emulator::{Endpoint, Fault};
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::secret_store::{RedisStore, SecretStore, SqliteStore};
use futures_util::future::join_all;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::process::{Signal, getpid, kill_process};

use super::{bytes, text};
use crate::host::commands::Home;
use crate::support::patience::until;
use crate::support::process;
use crate::support::redis::{Redis, keys, options};

/// Processes at a time.
const PROCESSES: usize = 8;

/// Operations of each, whether or not it was killed in between.
const OPERATIONS: usize = 200;

/// How many kills there are: more than processes, so that one is killed twice at least.
const KILLS: usize = 12;

/// Turns of the loop that passes before the signal, at most: some milliseconds, in which a process does several operations.
const TURNS: usize = 100_000;

/// The variable that gives the seed of the kills, to repeat a run.
const SEED: &str = "ENTRA_MCP_KILL_SEED";

const STORE: &str = "STORE_OF_THE_WORKER";
const NOTES: &str = "NOTES_OF_THE_WORKER";
const MOMENT: &str = "KILL_OF_THE_WORKER";

/// When a process is killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    /// At this operation, or soon after it.
    operation: usize,
    /// So much later.
    turns: usize,
}

impl Moment {
    /// Kills this process while it goes on, so that the signal may arrive at any step of an operation.
    fn arrive(self) -> JoinHandle<()> {
        std::thread::spawn(move || {
            for _ in 0..self.turns {
                std::hint::spin_loop();
            }
            kill_process(getpid(), Signal::KILL).unwrap();
        })
    }
}

/// Opens the store that processes share.
async fn open(place: &str) -> Arc<dyn SecretStore> {
    match place.strip_prefix("file:") {
        Some(path) => Arc::new(SqliteStore::open(Path::new(path), Arc::new(SystemClock::new())).unwrap()),
        None => {
            let clock = Arc::new(SystemClock::new());
            Arc::new(RedisStore::connect(&options(place), keys(), clock).await.unwrap())
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
struct Dice(u64);

impl Dice {
    /// From the variable, or at random; it is printed.
    fn new() -> Self {
        let given = process::variable(SEED).map(|seed| seed.to_str().unwrap().parse().unwrap());
        let seed = given.unwrap_or_else(|| {
            let mut seed = [0; 8];
            SystemRandom::new().fill(&mut seed).unwrap();
            u64::from_le_bytes(seed)
        });
        println!("{SEED}={seed}");
        Self(seed)
    }

    /// A number below this one.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// The counts of all processes, as they are in one record.
fn counts(record: &str) -> Vec<usize> {
    record.split(' ').map(|count| count.parse().unwrap()).collect()
}

/// One process: puts a record of its own, takes a code that all want, and counts in a record that all change, in turn.
#[tokio::test]
#[ignore = "the other tests of this module start it"]
async fn worker() {
    let (Some(place), Some(notes)) = (process::variable(STORE), process::variable(NOTES)) else {
        panic!("a part of another test of this module, which starts it")
    };
    let moment = process::variable(MOMENT).map(|moment| {
        let (operation, turns) = moment.to_str().unwrap().split_once(' ').unwrap();
        Moment { operation: operation.parse().unwrap(), turns: turns.parse().unwrap() }
    });
    let store = open(place.to_str().unwrap()).await;
    let notes = PathBuf::from(notes);
    let name = notes.file_name().unwrap().to_str().unwrap().to_owned();
    let index: usize = name.rsplit('-').next().unwrap().parse().unwrap();
    let tried = Noted::read(&notes).tried;
    let mut file = OpenOptions::new().create(true).append(true).open(&notes).unwrap();
    let mut note = |line: String| file.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut killing = None;
    for number in tried..OPERATIONS {
        if killing.is_none() && moment.is_some_and(|moment| number >= moment.operation) {
            killing = moment.map(Moment::arrive);
        }
        match number % 3 {
            0 => {
                note(format!("try put {name}/{number}"));
                store.put(&format!("{name}/{number}"), bytes(&format!("{name} {number}")), None).await.unwrap();
                note(format!("put {name}/{number}"));
            }
            1 => {
                let code = format!("code/{number}");
                note(format!("try take {code}"));
                let taken = store.take(&code).await.unwrap().is_some();
                note(if taken { format!("took {code}") } else { format!("missed {code}") });
            }
            _ => {
                note("try count".to_owned());
                loop {
                    let current = store.get("counts").await.unwrap();
                    let mut next = counts(&text(current.clone()).unwrap());
                    next[index] += 1;
                    let next = next.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
                    if store.compare_and_swap("counts", current, bytes(&next), None).await.unwrap() {
                        break;
                    }
                }
                note("counted".to_owned());
            }
        }
    }
    // It may have been faster than the signal.
    if let Some(killing) = killing.or_else(|| moment.map(Moment::arrive)) {
        let outlived = killing.join();
        panic!("this process was to be killed: {outlived:?}");
    }
}

fn start(place: &str, notes: &Path, moment: Option<Moment>) -> Child {
    let mut command = process::blocking(std::env::current_exe().unwrap());
    command.args(["stores::killed::worker", "--exact", "--ignored", "--test-threads=1"]);
    command.env(STORE, place).env(NOTES, notes).stdin(Stdio::null()).stdout(Stdio::null());
    command.envs(moment.map(|Moment { operation, turns }| (MOMENT, format!("{operation} {turns}"))));
    command.spawn().unwrap()
}

/// What a worker has noted.
#[derive(Default)]
struct Noted {
    /// Operations that it has begun.
    tried: usize,
    /// What came of them.
    done: Vec<String>,
    /// Those of which it is not known what came of them.
    interrupted: Vec<String>,
}

impl Noted {
    fn read(notes: &Path) -> Self {
        let mut noted = Self::default();
        let mut open = None;
        for line in std::fs::read_to_string(notes).unwrap_or_default().lines() {
            match line.strip_prefix("try ") {
                Some(operation) => {
                    noted.tried += 1;
                    noted.interrupted.extend(open.replace(operation.to_owned()));
                }
                None => {
                    open.take().expect("what is noted was tried");
                    noted.done.push(line.to_owned());
                }
            }
        }
        noted.interrupted.extend(open);
        noted
    }

    /// The operations that ended like this.
    fn ended<'a>(&'a self, how: &'a str) -> impl Iterator<Item = &'a str> {
        self.done.iter().filter_map(move |line| line.strip_prefix(how))
    }

    /// Whether this operation was interrupted.
    fn may_have_done(&self, operation: &str) -> bool {
        self.interrupted.iter().any(|other| other == operation)
    }
}

/// Runs all workers to their ends. Those that are killed are started again.
async fn run(place: &str, notes: &[PathBuf]) {
    let mut dice = Dice::new();
    let mut moments: Vec<Vec<Moment>> = vec![Vec::new(); PROCESSES];
    for _ in 0..KILLS {
        // Before its last operations, so that it is at work when the signal arrives.
        let moment = Moment { operation: dice.below(OPERATIONS - 50), turns: dice.below(TURNS) };
        moments[dice.below(PROCESSES)].push(moment);
    }
    for moments in &mut moments {
        // The next one is taken from the end.
        moments.sort_unstable();
        moments.reverse();
    }
    let mut kills = 0;
    let began = notes.iter().zip(&mut moments).map(|(notes, moments)| Some(start(place, notes, moments.pop())));
    let mut running: Vec<Option<Child>> = began.collect();
    let ended = until(|| {
        for (number, slot) in running.iter_mut().enumerate() {
            let Some(status) = slot.as_mut().and_then(|child| child.try_wait().unwrap()) else { continue };
            if status.success() {
                *slot = None;
                continue;
            }
            assert_eq!(status.signal(), Some(9), "a worker failed: {status}");
            kills += 1;
            *slot = Some(start(place, &notes[number], moments[number].pop()));
        }
        running.iter().all(Option::is_none)
    });
    ended.await.expect("the workers end");
    assert_eq!(kills, KILLS);
}

async fn nothing_is_lost_or_had_twice(place: &str) {
    let store = open(place).await;
    store.put("counts", bytes(&["0"; PROCESSES].join(" ")), None).await.unwrap();
    let codes: Vec<String> = (0..OPERATIONS).filter(|number| number % 3 == 1).map(|n| format!("code/{n}")).collect();
    for code in &codes {
        store.put(code, bytes("once"), None).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let notes: Vec<PathBuf> = (0..PROCESSES).map(|number| folder.path().join(format!("worker-{number}"))).collect();
    run(place, &notes).await;

    let noted: Vec<Noted> = notes.iter().map(|notes| Noted::read(notes)).collect();
    for worker in &noted {
        assert_eq!((worker.tried, worker.done.len() + worker.interrupted.len()), (OPERATIONS, OPERATIONS));
    }
    let interrupted: Vec<&String> = noted.iter().flat_map(|worker| &worker.interrupted).collect();
    assert!(interrupted.len() <= KILLS, "{interrupted:?}");
    for name in noted.iter().flat_map(|worker| worker.ended("put ")) {
        assert_eq!(text(store.get(name).await.unwrap()), Some(name.replace('/', " ")), "{name} is lost");
    }
    for name in interrupted.iter().filter_map(|operation| operation.strip_prefix("put ")) {
        let found = text(store.get(name).await.unwrap());
        assert!(found.as_ref().is_none_or(|found| *found == name.replace('/', " ")), "{name} is {found:?}");
    }
    let taken: Vec<&str> = noted.iter().flat_map(|worker| worker.ended("took ")).collect();
    let once: BTreeSet<&str> = taken.iter().copied().collect();
    assert_eq!(once.len(), taken.len(), "a code was had twice: {taken:?}");
    let missed: BTreeSet<&str> = noted.iter().flat_map(|worker| worker.ended("missed ")).collect();
    for code in &codes {
        let (was_taken, was_missed) = (once.contains(code.as_str()), missed.contains(code.as_str()));
        if store.get(code).await.unwrap().is_some() {
            assert!(!was_taken && !was_missed, "{code} was taken or missed, and is there");
        } else if !was_taken {
            let taking = format!("take {code}");
            assert!(
                noted.iter().any(|worker| worker.may_have_done(&taking)),
                "{code} is gone, and no process has had it"
            );
        }
    }
    let counted = counts(&text(store.get("counts").await.unwrap()).unwrap());
    assert_eq!(counted.len(), PROCESSES);
    for (worker, counted) in noted.iter().zip(counted) {
        let at_least = worker.ended("counted").count();
        let at_most = at_least + worker.interrupted.iter().filter(|operation| *operation == "count").count();
        assert!((at_least..=at_most).contains(&counted), "{counted}, and {at_least} to {at_most} were noted");
    }
}

#[tokio::test]
async fn sqlite_keeps_what_processes_have_done_that_were_killed() {
    let folder = tempfile::tempdir().unwrap();
    nothing_is_lost_or_had_twice(&format!("file:{}", folder.path().join("store.db").display())).await;
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn redis_keeps_what_processes_have_done_that_were_killed() {
    let redis = Redis::start("redis-server").await;
    nothing_is_lost_or_had_twice(&redis.url()).await;
}

/// Processes that share a store find at once that their token has to be refreshed.
struct Refreshing<'a> {
    home: &'a Home,
    variables: &'a [(&'a str, &'a str)],
}

impl Refreshing<'_> {
    fn program(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = self.home.program(arguments);
        command.envs(self.variables.iter().copied());
        command
    }

    /// Signs in, with a token that has to be refreshed at its first use. Those that come later live longer.
    async fn sign_in(&self) {
        let control = self.home.emulator().control();
        let tokens_live = |seconds| {
            control.change_policy(|policy| {
                policy.access_token_shortest = seconds;
                policy.access_token_longest = seconds;
                policy.continuous_access_token = seconds;
            });
        };
        // Less than the time before its end at which a token is refreshed.
        tokens_live(200);
        let mut login = self.home.program_with_person(&["login"]);
        let output = login.envs(self.variables.iter().copied()).stdin(Stdio::null()).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        tokens_live(3_600);
        control.clear_requests();
    }

    /// All of them want it, and all get it.
    async fn all_at_once(&self) {
        let calls = (0..PROCESSES).map(|_| async { self.program(&["whoami"]).output().await.unwrap() });
        for output in join_all(calls).await {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// The refreshes that have arrived at Entra ID.
    fn refreshes(&self) -> usize {
        let requests = self.home.emulator().control().requests(Endpoint::Token);
        requests.iter().filter(|request| request.form("grant_type") == Some("refresh_token")).count()
    }

    async fn is_done_once(&self) {
        for round in 0..3 {
            self.sign_in().await;
            self.all_at_once().await;
            assert_eq!(self.refreshes(), 1, "round {round}");
        }
    }

    /// The process that refreshes is killed while Entra ID answers. One of the others does it in its place.
    async fn is_done_once_more_for_a_process_that_is_killed(&self) {
        self.sign_in().await;
        let never = Fault::on(Endpoint::Token).grant_type("refresh_token").delay_ms(3_600_000);
        self.home.emulator().control().inject(never);
        let mut holder = self.program(&["whoami"]).kill_on_drop(true).spawn().unwrap();
        until(|| self.refreshes() == 1).await.expect("it refreshes");
        holder.kill().await.unwrap();
        self.all_at_once().await;
        assert_eq!(self.refreshes(), 2);
    }
}

/// The data key of a store on the network.
const DATA_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

#[tokio::test]
async fn of_processes_that_find_an_old_token_at_once_one_refreshes_it() {
    let home = Home::new().await;
    Refreshing { home: &home, variables: &[] }.is_done_once().await;
}

#[tokio::test]
async fn of_processes_that_wait_for_one_that_was_killed_one_refreshes_the_token() {
    let home = Home::new().await;
    Refreshing { home: &home, variables: &[] }.is_done_once_more_for_a_process_that_is_killed().await;
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_token_in_redis_is_refreshed_once_and_once_more_for_a_process_that_was_killed() {
    let (home, redis) = (Home::new().await, Redis::start("redis-server").await);
    let url = redis.url();
    let variables = [("ENTRA_MCP_STORE", url.as_str()), ("ENTRA_MCP_STORE_KEY", DATA_KEY)];
    let refreshing = Refreshing { home: &home, variables: &variables };
    refreshing.is_done_once().await;
    refreshing.is_done_once_more_for_a_process_that_is_killed().await;
}
