//! What it costs to put an MCP server behind `entra-mcp serve --upstream`: the bare server (rmcp behind axum), the same
//! behind the gate, and behind a native proxy for the same purpose (axum, hyper, jsonwebtoken), in the same run, so that
//! the ratios mean something on any machine.
//!
//! Each server is a process of its own, with its default settings; the three ways lead to one upstream. A run lasts
//! `ENTRA_MCP_BENCH_SECONDS` (5); they take turns `ENTRA_MCP_BENCH_ROUNDS` (3) times, and the median of each figure counts.
//! Every answer is compared; one wrong answer ends the benchmark. Then `ENTRA_MCP_BENCH_STREAMS` (1000) event streams are
//! opened, in which an event comes every second, and calls are measured beside them. Last, a tool component in Rust is
//! measured beside the same tool built in. Linux only: it reads `/proc`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark prints, starts programs, looks at the time, and may stop at the first surprise"
)]

mod component;
#[path = "../http/judge.rs"]
mod judge;
#[path = "../http/load.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod load;
#[path = "../http/native.rs"]
mod native;
#[path = "../http/process.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod process;
#[path = "../http/processors.rs"]
mod processors;
mod proxy;
#[path = "../../all/support/server.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod server;
mod streams;
#[path = "../http/tokens.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod tokens;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_emulator::{Builder, Emulator};

use load::{Figures, Target};
use native::{CONNECTIONS, Native, PROTOCOL, TOOL, megabytes, micros, profile};

/// What makes this program the upstream.
const UPSTREAM: &str = "upstream";
/// What makes this program the native proxy.
const PROXY: &str = "proxy";
/// Connections that the gate may have: all streams come from one address, which may have half of them.
const MAX_CONNECTIONS: &str = "4096";

fn main() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(UPSTREAM) => runtime().block_on(upstream::serve()),
        Some(PROXY) => runtime().block_on(proxy::serve(&arguments.next().unwrap(), &arguments.next().unwrap())),
        _ => {
            processors::divide();
            runtime().block_on(compare());
        }
    }
}

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn compare() {
    let duration = Duration::from_secs_f64(setting("ENTRA_MCP_BENCH_SECONDS", 5.0));
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "small numbers")]
    let (rounds, count) =
        (setting("ENTRA_MCP_BENCH_ROUNDS", 3.0) as usize, setting("ENTRA_MCP_BENCH_STREAMS", 1000.0) as usize);
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();

    let emulator = Builder::new().start().await.unwrap();
    let tokens = tokens::issue(&emulator).await;
    let one = std::slice::from_ref(&tokens.one);
    let issuer = serde_json::to_string(&tokens.issuer).unwrap();

    let upstream = Native::start(&[UPSTREAM]);
    let native = Native::start(&[PROXY, &issuer, &upstream.url]);
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(&emulator, folder.path(), &upstream.url);
    let bare = Arc::new(Target::new(upstream.pid(), &upstream.url, one).await);
    let peer = Arc::new(Target::new(native.pid(), &native.url, one).await);
    let gate = Arc::new(Target::new(ours.pid(), &ours.at("/mcp"), one).await);

    println!("tools/call of an MCP server; medians of {rounds} runs of {duration:?}");
    for connections in CONNECTIONS {
        measure(&[&bare, &peer, &gate], connections, rounds, duration).await;
    }

    let callers = streams::callers(&emulator, &tokens.one);
    println!("\n{count} event streams, each with an event a second, and calls beside them");
    for (name, url, target) in [("peer", native.url.clone(), &peer), ("gate", ours.at("/mcp"), &gate)] {
        let before = target.load(1, Duration::from_millis(200)).await.resident_bytes;
        let open = streams::open(&url, &callers, count).await;
        let beside = target.load(CONNECTIONS[1], duration).await;
        let events = open.events();
        assert!(open.all_live(), "a stream ended");
        println!(
            "{name:<6} p50 {:>8.1} µs   p99 {:>8.1} µs   {:>8.1} requests/s   RSS {:>6.1} MB, {:>5.1} KB a stream   {events} events",
            micros(beside.p50),
            micros(beside.p99),
            beside.requests_per_second,
            megabytes(beside.resident_bytes),
            megabytes(beside.resident_bytes.saturating_sub(before)) * 1e3 / streams::number(count),
        );
        drop(open);
    }
    drop((ours, native, upstream));

    component::compare(&emulator, one, rounds, duration).await;
}

/// `entra-mcp serve` in front of the upstream, for clients that bring tokens of Entra ID.
fn ours(emulator: &Emulator, folder: &std::path::Path, upstream: &str) -> server::Server {
    // The record of every call is written, not counted: it is a part of what a call costs.
    let unbounded = ["called-records=off", "call=off"].map(|bound| ["--rate-limit", bound]).concat();
    let settings = [
        ["--token-mode", "bearer"],
        ["--required-scope", tokens::SCOPE],
        ["--upstream", upstream],
        ["--max-connections", MAX_CONNECTIONS],
    ];
    let arguments = [unbounded, settings.concat()].concat();
    processors::of_servers(|| server::Server::start(emulator.endpoints(), folder, &arguments))
}

/// Measures the targets in turn, and prints their figures. The last two columns compare the third with the second, and with
/// the first.
async fn measure(targets: &[&Arc<Target>; 3], connections: usize, rounds: usize, duration: Duration) {
    println!("\n{connections:>2} connection(s)       bare       peer       gate   gate/peer  gate-bare");
    for (name, [bare, peer, gate]) in medians(targets, connections, rounds, duration).await {
        println!("{name:<16} {bare:>10.1} {peer:>10.1} {gate:>10.1} {:>11.2} {:>10.1}", gate / peer, gate - bare);
    }
}

/// Measures the targets in turn: the rows of a table, with the median of each.
async fn medians<const N: usize>(
    targets: &[&Arc<Target>; N],
    connections: usize,
    rounds: usize,
    duration: Duration,
) -> Vec<(&'static str, [f64; N])> {
    let runs = load::in_turn(targets, connections, rounds, duration).await;
    let median = |figure: &dyn Fn(&Figures) -> f64| load::medians(&runs, figure);
    #[allow(clippy::type_complexity, reason = "the rows of one table")]
    let rows: [(&str, &dyn Fn(&Figures) -> f64); 5] = [
        ("requests/s", &|run| run.requests_per_second),
        ("p50, µs", &|run| micros(run.p50)),
        ("p99, µs", &|run| micros(run.p99)),
        ("CPU/request, µs", &|run| micros(run.cpu())),
        ("RSS, MB", &|run| megabytes(run.resident_bytes)),
    ];
    rows.map(|(name, figure)| (name, median(figure))).to_vec()
}
