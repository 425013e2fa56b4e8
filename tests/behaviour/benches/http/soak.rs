//! Load for a minute while everything changes that can change: tokens expire and clients refresh them, the server
//! refreshes the tokens of Entra ID behind them, signing keys rotate, and profiles are read again.
//!
//! Every answer has to be for the right person. A call may be refused for an expired token, and for nothing else. At
//! the end, memory use may be only a little above what it was after a third of the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entra_mcp_emulator::{Builder, Rotation};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;
use url::Url;

use crate::load::message;
use crate::process::Process;
use crate::server::Server;
use crate::session::{self, Session};
use crate::{PROTOCOL, TOOL};

const CONNECTIONS: usize = 64;
/// Each with two sessions.
const PEOPLE: [(&str, &str); 4] = [
    ("alice@contoso.example", "Alice Anderson"),
    ("mia@contoso.example", "Mia Moreno"),
    ("sara@contoso.example", "Sara Sato"),
    ("admin@contoso.example", "Ada Admin"),
];
const SESSIONS: usize = 8;
/// Short enough that each session is refreshed several times a minute.
const TOKEN_LIFETIME_SECONDS: i64 = 15;
/// A new key signs one such interval after it is published. The server looks for unknown keys at most every thirty
/// seconds.
const BETWEEN_ROTATIONS: Duration = Duration::from_secs(16);
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// Upper bound on memory at the end, relative to memory after a third of the time.
const GROWTH_AT_MOST: f64 = 1.10;

/// One session, which several connections use.
struct Client {
    http: reqwest::Client,
    token_endpoint: String,
    /// The answer that is right for its person.
    details: Value,
    session: Mutex<Session>,
}

/// What a connection has seen.
#[derive(Default)]
struct Seen {
    answers: u64,
    expired: u64,
    latencies: Vec<Duration>,
}

pub(crate) async fn run() {
    let seconds = std::env::var("ENTRA_MCP_BENCH_SECONDS").map_or(60.0, |text| text.parse().unwrap());
    let emulator = Builder::new().start().await.unwrap();
    let control = emulator.control();
    control.change_policy(|policy| {
        policy.access_token_shortest = TOKEN_LIFETIME_SECONDS;
        policy.access_token_longest = TOKEN_LIFETIME_SECONDS;
        policy.continuous_access_token = TOKEN_LIFETIME_SECONDS;
    });
    let folder = tempfile::tempdir().unwrap();
    // All of this load comes from one address.
    let more = ["--profile-cache-seconds", "1", "--rate-limit", "off"];
    let server = Server::start(emulator.endpoints(), folder.path(), &more);
    let url = Url::parse(&server.at("/mcp")).unwrap();
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        let (username, name) = PEOPLE[number % PEOPLE.len()];
        clients.push(Arc::new(Client {
            http: reqwest::Client::new(),
            token_endpoint: server.at("/token"),
            details: json!({ "displayName": name, "mail": username, "userPrincipalName": username }),
            session: Mutex::new(session::sign_in(server.public_url(), "/mcp", username).await),
        }));
    }

    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|number| tokio::spawn(ask_until(end, clients[number % SESSIONS].clone(), url.clone())))
        .collect();
    let public_url = server.public_url().to_owned();
    let rotating = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(BETWEEN_ROTATIONS);
        ticks.tick().await;
        let mut rotations = 0_u32;
        loop {
            // As Entra ID does: a key is published before it signs.
            for rotation in [Rotation::Add, Rotation::Switch] {
                ticks.tick().await;
                control.rotate_keys(rotation).unwrap();
            }
            rotations += 1;
            // Another user signs in, with an ID token that the new key has signed.
            session::sign_in(&public_url, "/mcp", "connie@contoso.example").await;
            if Instant::now() >= end {
                return rotations;
            }
        }
    });
    let process = Process::new(server.pid());
    let mut memory = Vec::new();
    let mut looks = tokio::time::interval(BETWEEN_LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while Instant::now() < end {
        looks.tick().await;
        memory.push(process.usage().resident_bytes);
    }

    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await.unwrap();
        all.answers += seen.answers;
        all.expired += seen.expired;
        all.latencies.extend(seen.latencies);
    }
    memory.push(process.usage().resident_bytes);
    report(seconds, all, rotating.await.unwrap(), &memory, &server.log());
    println!("requests at Entra ID and Graph: {:?}", emulator.control().request_counts());
}

/// Calls until the end; refreshes the session when its token has expired.
async fn ask_until(end: Instant, client: Arc<Client>, url: Url) -> Seen {
    // A client of its own is a connection of its own.
    let (http, body) = (reqwest::Client::new(), message(PROTOCOL));
    let mut seen = Seen::default();
    let mut token = client.session.lock().await.access_token.clone();
    loop {
        let asked = Instant::now();
        if asked >= end {
            return seen;
        }
        let request =
            http.post(url.clone()).bearer_auth(&token).header("accept", "application/json, text/event-stream");
        let request = request.header("mcp-protocol-version", PROTOCOL).header("mcp-method", "tools/call");
        let response = request.header("mcp-name", TOOL).json(&body).send().await.unwrap();
        let (status, answer) = (response.status(), response.bytes().await.unwrap());
        seen.latencies.push(asked.elapsed());
        match status {
            StatusCode::OK => {
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!(answer["result"]["structuredContent"], client.details, "{answer}");
                seen.answers += 1;
            }
            StatusCode::UNAUTHORIZED => {
                seen.expired += 1;
                token = client.another_token(&token).await;
            }
            _ => panic!("{status} {}", String::from_utf8_lossy(&answer)),
        }
    }
}

impl Client {
    /// A token other than the expired one: from this refresh, or from a refresh by another connection.
    async fn another_token(&self, expired: &str) -> String {
        let mut session = self.session.lock().await;
        if session.access_token == expired {
            let form = BTreeMap::from([
                ("grant_type", "refresh_token"),
                ("client_id", &session.client_id),
                ("refresh_token", &session.refresh_token),
            ]);
            let response = self.http.post(&self.token_endpoint).form(&form).send().await.unwrap();
            let (status, text) = (response.status(), response.text().await.unwrap());
            assert!(status.is_success(), "{status} {text}");
            let tokens: Value = serde_json::from_str(&text).unwrap();
            let of = |name: &str| tokens[name].as_str().unwrap().to_owned();
            (session.access_token, session.refresh_token) = (of("access_token"), of("refresh_token"));
        }
        session.access_token.clone()
    }
}

fn report(seconds: f64, mut seen: Seen, rotations: u32, memory: &[u64], log: &str) {
    seen.latencies.sort_unstable();
    let percentile = |percent: usize| seen.latencies[(seen.latencies.len() - 1) * percent / 100];
    let refreshes = log.matches("session.refreshed").count();
    println!("{CONNECTIONS} connections, {SESSIONS} sessions of {} people, {seconds} s", PEOPLE.len());
    println!("right answers {}, wrong answers 0, refused as expired {}", seen.answers, seen.expired);
    println!("sessions refreshed {refreshes}, keys rotated {rotations}");
    println!("p50 {:?}, p99 {:?}, slowest {:?}", percentile(50), percentile(99), percentile(100));
    println!("memory, MB: {:?}", memory.iter().map(|bytes| bytes / 1_000_000).collect::<Vec<_>>());
    assert!(refreshes >= SESSIONS && rotations > 0, "nothing changed");
    let [third, last] = [memory[memory.len() / 3], memory[memory.len() - 1]].map(crate::megabytes);
    assert!(last <= third * GROWTH_AT_MOST, "memory grows");
}
