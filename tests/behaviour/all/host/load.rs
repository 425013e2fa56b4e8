//! Many connections for a while, as tokens expire, sessions are refreshed and the keys of Entra ID change.
//!
//! These tests take as long as they are told to, so they are run by name: `cargo test -p entra-mcp --test all -- --ignored
//! load`. A round ends when the token of every session has expired and was refreshed. There are three by default;
//! `ENTRA_MCP_LOAD_ROUNDS=20` takes a minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use entra_mcp_emulator::{Endpoint, Rotation};
use tokio::sync::Mutex;

use super::replicas::Replicas;
use crate::support::patience::{eventually, until};
use crate::support::process;
use crate::support::remote::{ALICE, BOB, Tokens, call_request};

const CONNECTIONS: usize = 64;

/// Sessions, each of which is used by several connections.
const SESSIONS: usize = 16;

/// How long access tokens of Entra ID live, and with them those of sessions.
const LIFETIME_SECONDS: i64 = 3;

/// Once in this many rounds, a new key signs at once. A round takes longer than a token lives, so this is more than
/// 30 s: for that long the server does not read the keys of Entra ID again after it has read them for something other
/// than a sign-in.
const SWITCH_ROUNDS: u64 = 11;

/// By how much the server may grow after its first quarter. All of its instances, which come and go, are some 15 MiB.
const GROWTH_KIB: u64 = 64 * 1024;

struct Session {
    username: &'static str,
    tokens: Mutex<Tokens>,
    refreshed: AtomicU64,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    expired: AtomicU64,
}

/// One connection's calls, one after the other.
async fn call(fleet: &Replicas, session: &Session, counts: &Counts, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let access = session.tokens.lock().await.access.clone();
        let answer = fleet.send(call_request(&access)).await;
        match answer.status {
            200 => {
                let details = &answer.body["result"]["structuredContent"];
                assert_eq!(details["userPrincipalName"], session.username, "{}", answer.html());
                counts.answered.fetch_add(1, Ordering::Relaxed);
            }
            401 => {
                assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{}", answer.html());
                counts.expired.fetch_add(1, Ordering::Relaxed);
                let mut tokens = session.tokens.lock().await;
                if tokens.access == access {
                    let answer = fleet.refresh(&tokens).await;
                    assert_eq!(answer.status, 200, "{}", answer.html());
                    *tokens = Tokens::of(&tokens.client_id, &answer);
                    session.refreshed.fetch_add(1, Ordering::Relaxed);
                }
            }
            status => panic!("{status}: {}\n--- log\n{}", answer.html(), fleet.log()),
        }
    }
}

/// Memory of a process that is not shared or swapped, in KiB.
fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_else(|| panic!("no VmRSS in {status}"))
}

#[cfg(target_os = "linux")]
#[ignore = "load: run with --ignored load"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_answer_is_right_and_memory_stays_flat() {
    let rounds = process::variable("ENTRA_MCP_LOAD_ROUNDS");
    let rounds: u64 = rounds.map_or(3, |text| text.to_str().and_then(|text| text.parse().ok()).expect("a number"));
    let fleet = Arc::new(Replicas::start(1, LIFETIME_SECONDS, "warn", &["--rate-limit", "off"]).await);
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let username = if number % 2 == 0 { ALICE } else { BOB };
        sessions.push(Arc::new(Session {
            username,
            tokens: Mutex::new(fleet.session(username).await),
            refreshed: AtomicU64::new(0),
        }));
    }
    let (counts, over) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
    let mut connections = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let session = Arc::clone(&sessions[number % SESSIONS]);
        let (fleet, counts, over) = (Arc::clone(&fleet), Arc::clone(&counts), Arc::clone(&over));
        connections.spawn(async move { call(&fleet, &session, &counts, &over).await });
    }
    let control = fleet.emulator.control();
    let mut memory = Vec::new();
    for round in 1..=rounds {
        let expired = until(|| {
            assert!(connections.try_join_next().is_none(), "a connection has failed: {}", fleet.log());
            sessions.iter().all(|session| session.refreshed.load(Ordering::Relaxed) >= round)
        });
        expired.await.expect("every token expires and is refreshed");
        if round + 1 >= rounds {
            // Sessions need no key of Entra ID.
            control.rotate_keys(Rotation::Replace).unwrap();
        } else {
            let switches = round % SWITCH_ROUNDS == 0;
            control.rotate_keys(if switches { Rotation::Switch } else { Rotation::Add }).unwrap();
            // On a slow machine a token expires before it is used; then another one is got.
            let served = eventually(|| async {
                let tokens = fleet.session(ALICE).await;
                let answer = fleet.send(call_request(&tokens.access)).await;
                assert!([200, 401].contains(&answer.status), "{}", answer.html());
                (answer.status == 200).then_some(())
            });
            served.await.expect("a new session is served");
        }
        memory.push(memory_kib(fleet.pid(0)));
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = connections.join_next().await {
        ended.unwrap();
    }
    memory.push(memory_kib(fleet.pid(0)));

    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (answered, expired) = (count(&counts.answered), count(&counts.expired));
    let refreshed: u64 = sessions.iter().map(|session| count(&session.refreshed)).sum();
    let keys = control.request_count(Endpoint::Keys);
    println!("{rounds} rounds: {answered} answers, {expired} expired tokens, {refreshed} refreshes, {keys} key reads");
    println!("memory in KiB, round by round: {memory:?}");
    let log = fleet.log();
    assert!(answered > 0, "nothing happened\n{log}");
    let settled = memory[memory.len() / 4];
    assert!(memory.iter().skip(memory.len() / 4).all(|now| *now <= settled + GROWTH_KIB), "{memory:?}");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

#[ignore = "load: run with --ignored load"]
#[tokio::test]
async fn an_instance_that_has_asked_entra_and_graph_very_often_still_answers() {
    // More requests go out than an instance may hold resources.
    const CALLS: usize = 1_100;
    let fleet = Replicas::start(1, 3_600, "warn", &["--rate-limit", "off", "--max-instances", "1"]).await;
    let tokens = fleet.session(ALICE).await;
    for number in 0..CALLS {
        let answer = fleet.send(call_request(&tokens.access)).await;
        assert_eq!(answer.status, 200, "call {number}: {}\n{}", answer.html(), fleet.log());
    }
}
