//! Many connections for a while, as tokens expire, sessions are refreshed and Entra's keys change.
//!
//! Five seconds by default; `ENTRA_MCP_LOAD_SECONDS=60` takes longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use entra_mcp_emulator::{Endpoint, Rotation};
use tokio::sync::Mutex;

use super::replicas::Replicas;
use crate::support::remote::{ALICE, BOB, Tokens, call_request};

const CONNECTIONS: usize = 64;

/// Sessions, each of which is used by several connections.
const SESSIONS: usize = 16;

/// How long Entra's access tokens live, and with them the sessions'.
const LIFETIME_SECONDS: i64 = 3;

/// Keys that sign at once come as rarely as that. Entra's are read once in 5 s at most for sign-ins, else in 30 s.
const SWITCH_SECONDS: u64 = 32;

/// By how much the server may grow after its first quarter. All of its instances, which come and go, are some 15 MiB.
const GROWTH_KIB: u64 = 64 * 1024;

struct Session {
    username: &'static str,
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    expired: AtomicU64,
    refreshed: AtomicU64,
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
                    counts.refreshed.fetch_add(1, Ordering::Relaxed);
                }
            }
            status => panic!("{status}: {}\n--- log\n{}", answer.html(), fleet.log()),
        }
    }
}

/// Memory of a process that is not shared or swapped, in KiB; 0 where it cannot be known.
fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_answer_is_right_and_memory_stays_flat() {
    let seconds = std::env::var("ENTRA_MCP_LOAD_SECONDS").map_or(5, |text| text.parse::<u64>().unwrap());
    let fleet = Arc::new(Replicas::start(1, LIFETIME_SECONDS, "warn", &["--rate-limit", "off"]).await);
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let username = if number % 2 == 0 { ALICE } else { BOB };
        sessions.push(Arc::new(Session { username, tokens: Mutex::new(fleet.session(username).await) }));
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
    for second in 1..=seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if second + 1 >= seconds {
            // Sessions need no key of Entra's.
            control.rotate_keys(Rotation::Replace).unwrap();
        } else {
            let switches = second % SWITCH_SECONDS == 0;
            control.rotate_keys(if switches { Rotation::Switch } else { Rotation::Add }).unwrap();
            let tokens = fleet.session(ALICE).await;
            assert_eq!(fleet.send(call_request(&tokens.access)).await.status, 200);
        }
        memory.push(memory_kib(fleet.pid(0)));
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = connections.join_next().await {
        ended.unwrap();
    }
    memory.push(memory_kib(fleet.pid(0)));

    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (answered, expired, refreshed) = (count(&counts.answered), count(&counts.expired), count(&counts.refreshed));
    let keys = control.request_count(Endpoint::Keys);
    println!("{seconds} s: {answered} answers, {expired} expired tokens, {refreshed} refreshes, {keys} key reads");
    println!("memory in KiB, second by second: {memory:?}");
    let log = fleet.log();
    assert!(answered > 0 && refreshed > 0, "nothing happened\n{log}");
    let settled = memory[memory.len() / 4];
    assert!(memory.iter().skip(memory.len() / 4).all(|now| *now <= settled + GROWTH_KIB), "{memory:?}");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

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
