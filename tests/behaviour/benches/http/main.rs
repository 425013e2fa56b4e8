//! What an authenticated `tools/call` costs: in `entra-mcp serve` and in a native server for the same purpose, in the
//! same run, so that the ratios mean something on any machine.
//!
//! The native server is there twice: the one verifies an access token of Entra ID with every request, the other remembers
//! the tokens that it has accepted. `entra-mcp serve` is measured with a session, with a session that is kept in Redis, with
//! that same token, and with 10,000 tokens in turn (`-- session`, `-- redis`, `-- bearer` and `-- distinct` measure one of
//! the four).
//!
//! Each server is a process of its own, with its default settings, on processors of its own where there are enough (see
//! `processors.rs`). A run lasts `ENTRA_MCP_BENCH_SECONDS` (5); the servers take turns `ENTRA_MCP_BENCH_ROUNDS` (3) times,
//! and the median of each figure counts. Then their system calls are counted, where strace is installed. Every answer is
//! compared; one wrong answer ends the benchmark. Linux only: it reads `/proc`.
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
mod processors;
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
/// The same for the one that remembers tokens.
const PEER_WITH_MEMORY: &str = "peer-with-memory";
/// What makes it load this server alone, for long.
const SOAK: &str = "soak";

fn main() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(peer @ (PEER | PEER_WITH_MEMORY)) => {
            let issuer = arguments.next().unwrap();
            runtime().block_on(peer::serve(&issuer, peer == PEER_WITH_MEMORY));
        }
        Some(SOAK) => runtime().block_on(soak::run()),
        only => {
            processors::divide();
            // Cargo has an argument of its own.
            runtime().block_on(compare(only.filter(|only| *only != "--bench")));
        }
    }
}

/// The servers for one row: the two peers, and ours. The tokens of the three are alike.
struct Kind {
    name: &'static str,
    with: &'static str,
    targets: [Arc<Target>; 3],
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
    let peers = [PEER, PEER_WITH_MEMORY].map(|peer| Native::start(&[peer, &issuer]));
    let [with_one, with_many] = [with_peers(&peers, one).await, with_peers(&peers, &tokens.many).await];
    let kind = |name, with, [peer, with_memory]: &[Arc<Target>; 2], ours| Kind {
        name,
        with,
        targets: [Arc::clone(peer), Arc::clone(with_memory), Arc::new(ours)],
    };
    let (_with_session, session) = Ours::with_session(&emulator).await;
    let for_bearers = Ours::for_bearers(&emulator);
    let mut kinds = vec![
        kind("session", "a session", &with_one, session),
        kind("bearer", "a token of Entra ID", &with_one, for_bearers.target(one).await),
        kind("distinct", "10,000 tokens of Entra ID", &with_many, for_bearers.target(&tokens.many).await),
    ];
    // They run until the end.
    let mut in_redis = Vec::new();
    match Ours::with_session_in_redis(&emulator).await {
        Some((server, redis, session)) => {
            kinds.insert(1, kind("redis", "a session in Redis", &with_one, session));
            in_redis.push((server, redis));
        }
        None => println!("redis: left out, because redis-server does not start here"),
    }
    println!("authenticated tools/call; medians of {rounds} runs of {duration:?}; per request, of the server alone");
    println!("peer: verifies the token of every request; with memory: of those that it has not accepted before");
    for Kind { name, with, targets } in kinds.iter().filter(|kind| only.is_none_or(|only| only == kind.name)) {
        println!("\n{name}: ours with {with}");
        for target in targets {
            target.introduce(CONNECTIONS[1]).await;
        }
        for connections in CONNECTIONS {
            print_table(connections, &load::in_turn(&targets.each_ref(), connections, rounds, duration).await);
            let mut calls = [None; 3];
            for (target, calls) in targets.iter().zip(&mut calls) {
                *calls = target.system_calls(connections).await;
            }
            match calls {
                [Some(peer), Some(with_memory), Some(ours)] => print_row("system calls", [peer, with_memory, ours]),
                _ => println!("system calls: not counted, because strace does not watch here"),
            }
        }
    }
}

async fn with_peers(peers: &[Native; 2], tokens: &[String]) -> [Arc<Target>; 2] {
    let [one, other] = peers;
    let (one, other) = (Target::new(one.pid(), &one.url, tokens), Target::new(other.pid(), &other.url, tokens));
    [Arc::new(one.await), Arc::new(other.await)]
}

/// The median of each figure by itself.
fn print_table(connections: usize, runs: &[Vec<Figures>; 3]) {
    println!("{connections:>2} connection(s)       peer  with memory       ours   ours/peer  ours/peer with memory");
    let median = |figure: &dyn Fn(&Figures) -> f64| load::medians(runs, figure);
    print_row("requests/s", median(&|run| run.requests_per_second));
    print_row("p50, µs", median(&|run| micros(run.p50)));
    print_row("p99, µs", median(&|run| micros(run.p99)));
    print_row("CPU, µs", median(&|run| micros(run.cpu())));
    print_row("  user, µs", median(&|run| micros(run.user)));
    print_row("  system, µs", median(&|run| micros(run.system)));
    print_row("switches", median(&|run| run.switches));
    print_row("RSS, MB", median(&|run| megabytes(run.resident_bytes)));
}

fn print_row(name: &str, [peer, with_memory, ours]: [f64; 3]) {
    let ratios = [ours / peer, ours / with_memory];
    println!("{name:<16} {peer:>10.1}   {with_memory:>10.1} {ours:>10.1} {:>11.2} {:>22.2}", ratios[0], ratios[1]);
}
