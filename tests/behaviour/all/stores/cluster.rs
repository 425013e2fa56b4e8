//! A store on a cluster of several masters: records and counts are divided between them, slots move, masters are lost.

use std::collections::HashMap;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use entra_mcp_plugin::clock::{Clock, ManualClock};
use entra_mcp_plugin::rate_limiter::{Rate, RateLimiter as _};
use entra_mcp_plugin::secret_store::{
    DataKeys, GivenDataKeys, KEY_BYTES, RedisError, RedisOptions, RedisStore, SecretStore as _, StoreError, StoreReport,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::outage::work;
use super::{bytes, text};
use crate::host::commands::Home;
use crate::host::replicas::Replicas;
use crate::support::patience::{eventually, soon};
use crate::support::redis::{Redis, keys};
use crate::support::redis_cluster::Cluster;
use crate::support::remote::{ALICE, BOB, Tokens, call_request};

const AN_HOUR: i64 = 3_600;

/// Records that are divided between the masters, so that each has some.
const SPREAD: usize = 60;

/// What all keys of a store begin with that is in one slot: a cluster divides keys by what is in braces.
const ONE_SLOT: &str = "{moved}:";

/// Records in the slot that moves, of which some have moved and some have not.
const MOVING: usize = 8;

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(1_000_000))
}

async fn open(options: &RedisOptions) -> RedisStore {
    RedisStore::connect(options, keys(), clock()).await.unwrap()
}

/// One operation in an hour.
fn rates() -> HashMap<String, Rate> {
    HashMap::from([("token".to_owned(), Rate { count: 1, per: Duration::from_secs(3_600) })])
}

/// The names of records that are divided between the masters.
fn spread() -> Vec<String> {
    (0..SPREAD).map(|number| format!("session/{number}")).collect()
}

async fn check(options: &RedisOptions) -> Result<StoreReport, RedisError> {
    RedisStore::check(options, keys(), clock()).await
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn records_and_counts_are_divided_between_all_masters() {
    let cluster = Cluster::start().await;
    let options = cluster.options();
    let stores = join_all((0..6).map(|_| open(&options))).await;
    let mut told_time = Vec::new();
    for node in cluster.masters.iter().chain([&cluster.replica]) {
        told_time.push(node.say("INFO commandstats").await.contains("cmdstat_time:"));
    }
    assert_eq!(told_time.iter().filter(|told| **told).count(), 1, "all processes have the time of one node");

    let (here, there) = (&stores[0], &stores[1]);
    for name in spread() {
        here.put(&name, bytes(&name), Some(Duration::from_secs(600))).await.unwrap();
    }
    for master in &cluster.masters {
        assert_ne!(master.say("DBSIZE").await, ":0\r\n", "each master has a part");
    }
    let report = check(&options).await.unwrap();
    let all = SPREAD as u64;
    let expected = StoreReport { records: all, bytes: report.bytes, newest_key: all, ..StoreReport::default() };
    assert_eq!(report, expected);
    for name in spread() {
        assert_eq!(text(there.get(&name).await.unwrap()).as_deref(), Some(name.as_str()));
        assert!(there.compare_and_swap(&name, Some(bytes(&name)), bytes("swapped"), None).await.unwrap());
        assert!(!here.compare_and_swap(&name, Some(bytes(&name)), bytes("again"), None).await.unwrap());
        let (one, other) = tokio::join!(here.take(&name), there.take(&name));
        let had: Vec<_> = [one.unwrap(), other.unwrap()].into_iter().flatten().map(Some).map(text).collect();
        assert_eq!(had, [Some("swapped".to_owned())], "{name}");
        here.put(&name, bytes("v"), None).await.unwrap();
        there.delete(&name).await.unwrap();
        assert!(here.get(&name).await.unwrap().is_none());
    }
    assert_eq!(check(&options).await.unwrap(), StoreReport::default());

    let (here, there) = (here.rate_limiter(rates()), there.rate_limiter(rates()));
    for number in 0..20 {
        for subject in [format!("client {number}"), format!("192.0.2.{number}"), format!("2001:db8:{number:x}::1")] {
            here.admit("token", &subject).await.unwrap();
            assert!(there.admit("token", &subject).await.is_err(), "{subject}");
        }
    }
}

/// Uses each record of the slot that moves, and one that is new.
async fn use_all(store: &RedisStore, before: &str, after: &str) {
    for name in (0..MOVING).map(|number| format!("session/{number}")) {
        assert_eq!(text(store.get(&name).await.unwrap()).as_deref(), Some(before), "{name}");
        assert!(store.compare_and_swap(&name, Some(bytes(before)), bytes("between"), None).await.unwrap(), "{name}");
        assert_eq!(text(store.take(&name).await.unwrap()).as_deref(), Some("between"), "{name}");
        assert!(store.take(&name).await.unwrap().is_none(), "{name}");
        assert!(store.compare_and_swap(&name, None, bytes("new"), None).await.unwrap(), "{name}");
        store.delete(&name).await.unwrap();
        assert!(store.get(&name).await.unwrap().is_none(), "{name}");
        store.put(&name, bytes(after), None).await.unwrap();
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn records_of_a_slot_that_moves_are_used_where_they_are() {
    let cluster = Cluster::start().await;
    let options = RedisOptions { prefix: ONE_SLOT.to_owned(), ..cluster.options() };
    let store = open(&options).await;
    for number in 0..MOVING {
        store.put(&format!("session/{number}"), bytes("old"), None).await.unwrap();
    }
    let (slot, from) = cluster.slot_of(ONE_SLOT).await;
    let to = (from + 1) % cluster.masters.len();
    cluster.begin_to_move(slot, from, to).await;
    assert_eq!(cluster.move_some(slot, from, to, MOVING / 2).await, MOVING / 2);
    // Another process begins meanwhile.
    let other = open(&options).await;
    let limiter = store.rate_limiter(rates());
    // Its counts are in several keys, and a node counts in none while another one may have some of them.
    limiter.admit("token", "2001:db8::1").await.unwrap();
    // What is moved is not to be passed over.
    let rotated = RedisStore::rotated_keys(&options, keys(), clock()).await;
    for refused in [check(&options).await.err(), rotated.err()] {
        let Some(RedisError::Unsettled { reason, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(reason, "a slot is moving from one node to another");
    }
    use_all(&store, "old", "new").await;
    use_all(&other, "new", "newer").await;

    cluster.end_move(slot, from, to).await;
    // Both learn where it is.
    use_all(&store, "newer", "newest").await;
    use_all(&other, "newest", "last").await;
    assert_eq!(check(&options).await.unwrap().newest_key, MOVING as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn nothing_is_lost_or_had_twice_while_a_slot_moves_and_a_check_passes_over_nothing() {
    let cluster = Cluster::start().await;
    let options = RedisOptions { prefix: ONE_SLOT.to_owned(), ..cluster.options() };
    let fixed = RedisOptions { prefix: format!("{ONE_SLOT}fixed:"), ..cluster.options() };
    let store = open(&fixed).await;
    for name in spread() {
        store.put(&name, bytes("v"), None).await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for worker in 0..2 {
        let (store, rival, done) = (open(&options).await, open(&options).await, Arc::clone(&done));
        workers.push(tokio::spawn(async move { work(worker, &store, &rival, &done).await }));
    }
    let (slot, first) = cluster.slot_of(ONE_SLOT).await;
    let moving = async {
        for step in first..first + 3 {
            let (from, to) = (step % 3, (step + 1) % 3);
            cluster.begin_to_move(slot, from, to).await;
            // Some of the work is done in between.
            for name in spread().iter().take(20) {
                let _ = store.get(name).await;
                cluster.move_some(slot, from, to, 2).await;
            }
            cluster.end_move(slot, from, to).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let checking = async {
        let mut checks = 0_u32;
        while !done.load(Ordering::Relaxed) {
            match check(&fixed).await {
                Ok(report) => assert_eq!((report.records, report.newest_key), (SPREAD as u64, SPREAD as u64)),
                // It says so, also where a busy machine has not answered in time.
                Err(RedisError::Unsettled { .. } | RedisError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
            checks += 1;
        }
        checks
    };
    let ((), checks) = tokio::join!(moving, checking);
    assert!(checks > 0);
    for rounds in join_all(workers).await {
        assert!(rounds.unwrap() > 0);
    }
    for name in spread() {
        assert_eq!(text(store.get(&name).await.unwrap()).as_deref(), Some("v"), "{name}");
    }
    assert_eq!(check(&fixed).await.unwrap().records, SPREAD as u64);
}

/// What an operation may say while a part of the cluster is away.
fn is_there_or_away<T>(answer: &Result<Option<T>, StoreError>) -> bool {
    matches!(answer, Ok(Some(_)) | Err(StoreError::Unavailable(_)))
}

/// Loses the first master, whose replica takes over what it has.
async fn is_replaced_when(lose: impl FnOnce(&mut Redis)) {
    let mut cluster = Cluster::start().await;
    let store = open(&cluster.options()).await;
    for name in spread() {
        store.put(&name, bytes("refresh token"), None).await.unwrap();
    }
    // What is not replicated may be lost: see `SECURITY.md`.
    cluster.replicated().await;
    lose(&mut cluster.masters[0]);
    let names = spread();
    let all = || async { join_all(names.iter().map(|name| store.get(name))).await };
    let answers = soon(all()).await.unwrap();
    assert!(answers.iter().all(is_there_or_away), "{answers:?}");
    let away = answers.iter().filter(|answer| answer.is_err()).count();
    assert!(away > 0, "a node is lost after as much time as an operation waits at most");
    // Nothing seems to be gone before all is there again.
    let back = || async {
        let answers = all().await;
        assert!(answers.iter().all(is_there_or_away), "{answers:?}");
        answers.iter().all(Result::is_ok).then_some(())
    };
    eventually(back).await.unwrap();
    assert!(cluster.replica.say("INFO replication").await.contains("role:master"));
    // To a process that begins now, the address of the store names the lost node first.
    let other = eventually(|| async { RedisStore::connect(&cluster.options(), keys(), clock()).await.ok() });
    let other = other.await.unwrap();
    for name in spread() {
        let before = Some(bytes("refresh token"));
        assert!(store.compare_and_swap(&name, before, bytes("next"), None).await.unwrap(), "{name}");
        assert_eq!(text(other.take(&name).await.unwrap()).as_deref(), Some("next"), "{name}");
        assert!(store.take(&name).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_master_that_is_killed_is_replaced() {
    is_replaced_when(Redis::kill).await;
}

/// As after the loss of its machine. The system accepts connections, and nothing answers.
#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_master_that_keeps_silent_is_replaced() {
    is_replaced_when(|master| master.hang()).await;
}

/// How often nodes have sent a command on to another one.
async fn sent_on(nodes: &[&Redis]) -> usize {
    let mut count = 0;
    for node in nodes {
        let told = node.say("INFO errorstats").await;
        let counted = told.lines().find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
        count += counted.map_or(0, |count| count.parse::<usize>().unwrap());
    }
    count
}

/// A master without a replica, in a cluster that goes on with what it has.
#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn records_of_a_master_that_is_lost_for_good_hold_up_no_operation_after_the_first() {
    let mut cluster = Cluster::start().await;
    for node in cluster.masters.iter().chain([&cluster.replica]) {
        assert_eq!(node.say("CONFIG SET cluster-require-full-coverage no").await, "+OK\r\n");
    }
    let store = open(&cluster.options()).await;
    for name in spread() {
        store.put(&name, bytes("v"), None).await.unwrap();
    }
    cluster.masters[1].kill();
    let names = spread();
    let all = || async { join_all(names.iter().map(|name| store.get(name))).await };
    soon(all()).await.unwrap();
    // The others answer, so the store is not away.
    let others = || async {
        let answers = all().await;
        assert!(answers.iter().all(is_there_or_away), "{answers:?}");
        let (name, _) = names.iter().zip(&answers).find(|(_, answer)| matches!(answer, Ok(Some(_))))?;
        let there = store.get(name).await;
        there.ok()
    };
    eventually(others).await.unwrap();
    let left = [&cluster.masters[0], &cluster.masters[2], &cluster.replica];
    let before = sent_on(&left).await;
    let answers = all().await;
    assert!(answers.iter().all(is_there_or_away), "{answers:?}");
    let away = answers.iter().filter(|answer| answer.is_err()).count();
    assert!(away > 0 && away < SPREAD, "{away}");
    // Each is told twice, and so is a question for the time.
    let more = sent_on(&left).await - before;
    assert!(more <= 2 * (away + 1), "{more} for {away}");
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_rotation_keeps_the_keys_of_the_records_of_all_masters() {
    const RECORDS: u32 = 7;
    let cluster = Cluster::start().await;
    let options = cluster.options();
    let given = |keys: &DataKeys| Arc::new(GivenDataKeys::new(keys.clone(), "the test"));
    let mut known = DataKeys::parse(&[7; KEY_BYTES]).unwrap();
    // One record under each key, of which a store has eight at most.
    for number in 0..RECORDS {
        let store = RedisStore::connect(&options, given(&known), clock()).await.unwrap();
        store.put(&format!("session/{number}"), bytes("v"), None).await.unwrap();
        known = RedisStore::rotated_keys(&options, given(&known), clock()).await.unwrap();
    }
    let report = RedisStore::check(&options, given(&known), clock()).await.unwrap();
    let all = u64::from(RECORDS);
    let expected = StoreReport { records: all, bytes: report.bytes, earlier_keys: all, ..StoreReport::default() };
    assert_eq!(report, expected);
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn the_commands_of_a_store_see_all_masters_or_say_that_they_do_not() {
    let home = Home::new().await;
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let store = open(&cluster.options()).await;
    for name in spread() {
        store.put(&name, bytes("v"), None).await.unwrap();
    }
    let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    let run = async |key: &str, arguments: &[&str]| {
        let mut command = home.program(&[arguments, &["--store", url.as_str()]].concat());
        command.env("ENTRA_MCP_STORE_KEY", key).env("ENTRA_MCP_STORE_PREFIX", "test:");
        said(&command.output().await.unwrap())
    };
    let (check, rotate) = (["store", "check", "--json"], ["store", "rotate-key", "--print"]);
    let (code, output, log) = run(key, &check).await;
    assert_eq!(code, Some(0), "{log}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&report[0]["records"], &report[0]["sound"]), (&json!(SPREAD), &json!(true)));
    let (code, output, log) = run(key, &rotate).await;
    assert_eq!(code, Some(0), "{log}");
    let second = output.lines().nth(1).unwrap_or_else(|| panic!("{output}"));
    let (code, output, log) = run(second, &check).await;
    assert_eq!(code, Some(0), "{log}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report[0]["earlier_keys"], json!(SPREAD));

    cluster.begin_to_move(0, 0, 1).await;
    for command in [check, rotate] {
        let (code, output, log) = run(key, &command).await;
        assert_eq!((code, output.as_str()), (Some(1), ""), "{command:?}");
        assert!(log.contains("a slot is moving from one node to another. Nothing was changed."), "{command:?}: {log}");
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn sessions_go_on_when_a_replica_takes_over() {
    let mut cluster = Cluster::start().await;
    let arguments = ["--rate-limit", "off"];
    let fleet = Replicas::start_on(Some(&cluster.url()), 2, AN_HOUR, "warn", &arguments).await;
    for master in &cluster.masters {
        let address = master.address().to_string();
        let is_told = |line: &str| line.contains("nothing bounds what the server keeps") && line.contains(&address);
        assert!(fleet.log().lines().any(is_told), "{address}: {}", fleet.log());
    }
    let mut sessions = Vec::new();
    for person in [ALICE, BOB] {
        let tokens = fleet.session(person).await;
        let answer = fleet.send(call_request(&tokens.access)).await;
        assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], person, "{}", answer.html());
        let refreshed = fleet.refresh(&tokens).await;
        assert_eq!(refreshed.status, 200, "{}", refreshed.html());
        sessions.push((person, Tokens::of(&tokens.client_id, &refreshed)));
    }
    cluster.replicated().await;
    cluster.masters[0].kill();
    for (person, tokens) in &sessions {
        let called = eventually(|| async {
            let answer = fleet.send(call_request(&tokens.access)).await;
            assert!([200, 503].contains(&answer.status), "{} {}", answer.status, answer.html());
            Some(answer).filter(|answer| answer.status == 200)
        });
        let answer = called.await.unwrap();
        assert_eq!(answer.body["result"]["structuredContent"]["userPrincipalName"], *person, "{}", fleet.log());
    }
    // Until both processes have what they need of each master.
    let is_whole = || async {
        // Each process is asked for each session.
        for (_, tokens) in sessions.iter().flat_map(|session| [session, session]) {
            if fleet.send(call_request(&tokens.access)).await.status != 200 {
                return None;
            }
        }
        let is_ready = fleet.get("/readyz").await.status == 200 && fleet.get("/readyz").await.status == 200;
        (is_ready && cluster.masters[1].say("CLUSTER INFO").await.contains("cluster_state:ok")).then_some(())
    };
    eventually(is_whole).await.unwrap();
    for (_, tokens) in &sessions {
        let refreshed = fleet.refresh(tokens).await;
        assert_eq!(refreshed.status, 200, "{}", refreshed.html());
    }
    fleet.session(ALICE).await;
}
