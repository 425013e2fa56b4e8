//! What an authenticated `tools/call` costs: in `entra-mcp serve` and in a native server for the same purpose, in the
//! same run, so that the ratios mean something on any machine.
//!
//! The native server verifies an access token of Entra ID with every request. `entra-mcp serve` is measured with a
//! session, with a session that is kept in Redis, with that same token, and with 10,000 tokens in turn, most of which it has to
//! verify (`-- session`, `-- redis`, `-- bearer` and `-- distinct` measure one of the four).
//!
//! Each server is a process of its own, with its default settings. A run lasts `ENTRA_MCP_BENCH_SECONDS` (5); the two take
//! turns `ENTRA_MCP_BENCH_ROUNDS` (3) times, and the median of each figure counts. Every answer is compared; one wrong
//! answer ends the benchmark. Linux only: it reads `/proc`.
//!
//! `cargo bench --bench http -- soak` is another exercise: see `soak.rs`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark prints, starts programs, looks at the time, and may stop at the first surprise"
)]

mod judge;
mod load;
mod native;
mod ours;
mod peer;
mod process;
#[path = "../redis.rs"]
mod redis;
#[path = "../../all/support/server.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod server;
#[path = "../../all/support/session.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod session;
mod soak;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_emulator::Builder;

use load::{Figures, Target};
use native::{CONNECTIONS, Native, PROTOCOL, TOOL, megabytes, micros, profile};
use ours::Ours;

/// What makes this program the peer.
const PEER: &str = "peer";
/// What makes it load this server alone, for long.
const SOAK: &str = "soak";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(PEER) => runtime.block_on(peer::serve(&arguments.next().unwrap())),
        Some(SOAK) => runtime.block_on(soak::run()),
        // Cargo's own argument.
        None | Some("--bench") => runtime.block_on(compare(None)),
        Some(only) => runtime.block_on(compare(Some(only))),
    }
}

async fn compare(only: Option<&str>) {
    let setting = |name: &str, default: f64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let duration = Duration::from_secs_f64(setting("ENTRA_MCP_BENCH_SECONDS", 5.0));
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a small number")]
    let rounds = setting("ENTRA_MCP_BENCH_ROUNDS", 3.0) as usize;

    let emulator = Builder::new().start().await.unwrap();
    let tokens = tokens::issue(&emulator).await;
    let one = std::slice::from_ref(&tokens.one);
    let issuer = serde_json::to_string(&tokens.issuer).unwrap();
    let peer = Native::start(&[PEER, &issuer]);
    let peer_with_one = Arc::new(Target::new(peer.pid(), &peer.url, one).await);
    let peer_with_many = Arc::new(Target::new(peer.pid(), &peer.url, &tokens.many).await);
    let (_with_session, session) = Ours::with_session(&emulator).await;
    let for_bearers = Ours::for_bearers(&emulator);
    let bearer = Arc::new(for_bearers.target(one).await);
    let distinct = Arc::new(for_bearers.target(&tokens.many).await);
    let in_redis = Ours::with_session_in_redis(&emulator).await;
    if in_redis.is_none() {
        println!("redis: left out, because redis-server does not start here");
    }
    let redis = in_redis.map(|(server, redis, target)| (server, redis, Arc::new(target)));
    let mut kinds = vec![
        ("session", "a session", &peer_with_one, Arc::new(session)),
        ("bearer", "a token of Entra ID", &peer_with_one, bearer),
        ("distinct", "10,000 tokens of Entra ID", &peer_with_many, distinct),
    ];
    if let Some((_, _, target)) = &redis {
        kinds.insert(1, ("redis", "a session in Redis", &peer_with_one, Arc::clone(target)));
    }
    println!("authenticated tools/call; medians of {rounds} runs of {duration:?}");
    for (name, with, peer, ours) in kinds.iter().filter(|(name, ..)| only.is_none_or(|only| only == *name)) {
        println!("\n{name}: ours with {with}");
        ours.introduce(CONNECTIONS[1]).await;
        for connections in CONNECTIONS {
            let (mut theirs, mut our) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                theirs.push(peer.load(connections, duration).await);
                our.push(ours.load(connections, duration).await);
            }
            let (theirs, our) = (median(&theirs), median(&our));
            println!("{connections:>2} connection(s)       peer       ours   ours/peer");
            row("requests/s", theirs.requests_per_second, our.requests_per_second);
            row("p50, µs", micros(theirs.p50), micros(our.p50));
            row("p99, µs", micros(theirs.p99), micros(our.p99));
            row("CPU/request, µs", micros(theirs.cpu_per_request), micros(our.cpu_per_request));
            row("RSS, MB", megabytes(theirs.resident_bytes), megabytes(our.resident_bytes));
        }
    }
}

fn row(name: &str, theirs: f64, ours: f64) {
    println!("{name:<16} {theirs:>10.1} {ours:>10.1} {:>11.2}", ours / theirs);
}

/// Of each figure by itself.
fn median(runs: &[Figures]) -> Figures {
    fn middle<T: Copy>(runs: &[Figures], figure: impl Fn(&Figures) -> T, less: impl Fn(&T, &T) -> bool) -> T {
        let mut values: Vec<_> = runs.iter().map(figure).collect();
        values.sort_by(|a, b| if less(a, b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater });
        values[values.len() / 2]
    }
    Figures {
        requests_per_second: middle(runs, |run| run.requests_per_second, |a, b| a < b),
        p50: middle(runs, |run| run.p50, |a, b| a < b),
        p99: middle(runs, |run| run.p99, |a, b| a < b),
        cpu_per_request: middle(runs, |run| run.cpu_per_request, |a, b| a < b),
        resident_bytes: middle(runs, |run| run.resident_bytes, |a, b| a < b),
    }
}
