//! Processes that share a store and are killed in the middle of what they do: no record is lost, and none is had twice.
//!
//! Each process is this test program again, with [`worker`] as its only test. It notes in a file what it has been answered, so
//! the notes say what has to be in the store. A process that is killed between an operation and its note leaves one operation
//! that is not noted, and never a note without its operation.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

use entra_mcp_emulator::Endpoint;
use entra_mcp_plugin::clock::SystemClock;
use entra_mcp_plugin::secret_store::{RedisStore, SecretStore, SqliteStore};
use futures_util::future::join_all;

use super::{bytes, text};
use crate::host::commands::Home;
use crate::support::patience::until;
use crate::support::process;
use crate::support::redis::{Redis, keys, options};

/// Processes at a time.
const PROCESSES: usize = 8;

/// Operations of each, whether or not it was killed in between.
const OPERATIONS: usize = 200;

/// How many of the processes are killed, each after a number of operations of its own.
const KILLED: usize = 4;

const STORE: &str = "STORE_OF_THE_WORKER";
const NOTES: &str = "NOTES_OF_THE_WORKER";

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

/// One process: puts a record of its own, takes a code that all want, and counts, in turn.
#[tokio::test]
#[ignore = "the other tests of this module start it"]
async fn worker() {
    let (Some(place), Some(notes)) = (process::variable(STORE), process::variable(NOTES)) else {
        panic!("a part of another test of this module, which starts it")
    };
    let store = open(place.to_str().unwrap()).await;
    let notes = PathBuf::from(notes);
    let name = notes.file_name().unwrap().to_str().unwrap().to_owned();
    let done = std::fs::read_to_string(&notes).map_or(0, |notes| notes.lines().count());
    let mut file = OpenOptions::new().create(true).append(true).open(&notes).unwrap();
    let mut note = |line: String| file.write_all(format!("{line}\n").as_bytes()).unwrap();
    for number in done..OPERATIONS {
        match number % 3 {
            0 => {
                store.put(&format!("{name}/{number}"), bytes(&format!("{name} {number}")), None).await.unwrap();
                note(format!("put {name}/{number}"));
            }
            1 => {
                let code = format!("code/{number}");
                let taken = store.take(&code).await.unwrap().is_some();
                note(if taken { format!("took {code}") } else { "missed".to_owned() });
            }
            _ => {
                loop {
                    let current = store.get("counter").await.unwrap();
                    let next = text(current.clone()).unwrap().parse::<usize>().unwrap() + 1;
                    if store.compare_and_swap("counter", current, bytes(&next.to_string()), None).await.unwrap() {
                        break;
                    }
                }
                note("counted".to_owned());
            }
        }
    }
}

fn start(place: &str, notes: &Path) -> Child {
    let mut command = process::blocking(std::env::current_exe().unwrap());
    command.args(["stores::killed::worker", "--exact", "--ignored", "--test-threads=1"]);
    command.env(STORE, place).env(NOTES, notes).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn lines(notes: &Path) -> Vec<String> {
    std::fs::read_to_string(notes).unwrap_or_default().lines().map(str::to_owned).collect()
}

async fn nothing_is_lost_or_had_twice(place: &str) {
    let store = open(place).await;
    store.put("counter", bytes("0"), None).await.unwrap();
    let codes: Vec<String> = (0..OPERATIONS).filter(|number| number % 3 == 1).map(|n| format!("code/{n}")).collect();
    for code in &codes {
        store.put(code, bytes("once"), None).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let notes: Vec<PathBuf> = (0..PROCESSES).map(|number| folder.path().join(format!("worker-{number}"))).collect();
    let mut running: Vec<Child> = notes.iter().map(|notes| start(place, notes)).collect();
    // At another operation each: of every kind, early and late.
    for (number, after) in (0..KILLED).zip([17, 61, 118, 170]) {
        until(|| lines(&notes[number]).len() > after).await.expect("the process works");
        running[number].kill().unwrap();
        running[number].wait().unwrap();
        running[number] = start(place, &notes[number]);
    }
    for child in &mut running {
        until(|| child.try_wait().unwrap().is_some()).await.expect("the process ends");
        assert!(child.wait().unwrap().success(), "a worker failed");
    }

    let noted: Vec<String> = notes.iter().flat_map(|notes| lines(notes)).collect();
    assert_eq!(noted.len(), PROCESSES * OPERATIONS);
    for name in noted.iter().filter_map(|line| line.strip_prefix("put ")) {
        assert_eq!(text(store.get(name).await.unwrap()), Some(name.replace('/', " ")), "{name} is lost");
    }
    let taken: Vec<&str> = noted.iter().filter_map(|line| line.strip_prefix("took ")).collect();
    let once: BTreeSet<&str> = taken.iter().copied().collect();
    assert_eq!(once.len(), taken.len(), "a code was had twice: {taken:?}");
    let mut unaccounted = 0;
    for code in &codes {
        let is_left = store.get(code).await.unwrap().is_some();
        assert!(!(is_left && once.contains(code.as_str())), "{code} was taken and is there");
        unaccounted += usize::from(!is_left && !once.contains(code.as_str()));
    }
    assert!(unaccounted <= KILLED, "{unaccounted} codes are gone, and no process has had them");
    let counted = noted.iter().filter(|line| *line == "counted").count();
    let counter: usize = text(store.get("counter").await.unwrap()).unwrap().parse().unwrap();
    assert!((counted..=counted + KILLED).contains(&counter), "{counter} instead of {counted}");
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

#[tokio::test]
async fn of_processes_that_find_an_old_token_at_once_one_refreshes_it() {
    let home = Home::new().await;
    let control = home.emulator().control();
    let tokens_live = |seconds| {
        control.change_policy(|policy| {
            policy.access_token_shortest = seconds;
            policy.access_token_longest = seconds;
            policy.continuous_access_token = seconds;
        });
    };
    for round in 0..3 {
        // Less than the time before its end at which a token is refreshed.
        tokens_live(200);
        assert!(home.run_with_person(&["login"]).await.status.success());
        tokens_live(3_600);
        control.clear_requests();
        let calls = (0..PROCESSES).map(|_| async { home.program(&["whoami"]).output().await.unwrap() });
        for output in join_all(calls).await {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let requests = control.requests(Endpoint::Token);
        let is_refresh = |(name, value): &(String, String)| name == "grant_type" && value == "refresh_token";
        let refreshes = requests.iter().filter(|request| request.form.iter().any(is_refresh)).count();
        assert_eq!(refreshes, 1, "round {round}");
    }
}
