//! What it costs to run `entra-mcp`, and what the same costs with other servers, in the same run: processor time,
//! memory, growth and start. The others are what a team would write without this project, each a stateless server whose
//! one tool answers without sending a request, behind a check of the caller's token: rmcp behind axum (which verifies
//! each token, or remembers those that it has accepted), the TypeScript SDK with jose, and FastMCP with its
//! `JWTVerifier` and with its `AzureProvider`. Those whose packages are not installed (`tests/clients/install.sh`) are
//! left out, and a line says so.
//!
//! `cargo bench --bench running_costs` measures all of it, in about ten minutes; parts can be named:
//!
//! - `calls`: requests/s, and the processor time of a call;
//! - `memory`: at the start, and after calls of 1,000 and 10,000 callers (of `entra-mcp`: sessions in the store);
//! - `waiting`: memory while 1,000 calls wait for Graph, or for as long in the other servers;
//! - `idle`: memory with 10,000 connections that are kept and not used;
//! - `growth [SESSIONS]`: the median of a call with one session in the store and with 100,000, or as many as are named,
//!   of which a million take some gigabytes of disk;
//! - `starts`: from the start of the program to its first answer, and until a server is ready;
//! - `soak [MINUTES]`: whether memory grows while people sign in, call, and sign out: two minutes, or as many as are
//!   named.
//!
//! The figures are printed, and are in `target/running-costs` as a table and as a plot. `-- --write-docs` measures all
//! parts, and writes table and plot into the book. Everything is on loopback, with the emulator as Entra ID and Graph,
//! and server and load have processors of their own where there are enough (see `processors.rs`). A run of a part lasts
//! `ENTRA_MCP_BENCH_SECONDS` (3), of which there are `ENTRA_MCP_BENCH_ROUNDS` (3); the median of each figure counts.
//! Linux only: it reads `/proc`. PSS is read only for root, because `entra-mcp` lets no other process of its user look
//! into it.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark prints, starts programs, looks at the time, waits, and may stop at the first surprise"
)]

mod calls;
mod churn;
mod docs;
mod growth;
mod idle;
#[path = "../http/judge.rs"]
mod judge;
#[path = "../http/load.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod load;
mod memory;
#[path = "../http/native.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod native;
#[path = "../http/ours.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod ours;
#[path = "../http/peer.rs"]
mod peer;
mod plan;
mod plot;
#[path = "../http/process.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod process;
#[path = "../http/processors.rs"]
mod processors;
#[path = "../redis.rs"]
mod redis;
mod report;
#[path = "../../all/support/server.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod server;
mod servers;
#[path = "../../all/support/session.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod session;
mod sessions;
mod starts;
#[path = "../http/tokens.rs"]
mod tokens;
#[path = "../../../clients/tools.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod tools;
mod waiting;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use native::{CONNECTIONS, PROTOCOL, TOOL, megabytes, micros, profile};
use plan::{Part, Plan};
use report::Report;
use servers::World;

/// What makes this program one of the peers.
const PEER: &str = "peer";
const PEER_WITH_MEMORY: &str = "peer-with-memory";

fn main() -> ExitCode {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [kind, issuer] = &arguments[..]
        && [PEER, PEER_WITH_MEMORY].contains(&kind.as_str())
    {
        runtime().block_on(peer::serve(issuer, kind == PEER_WITH_MEMORY));
        return ExitCode::SUCCESS;
    }
    let Some(plan) = Plan::of(arguments) else {
        println!("the parts are {}; --write-docs is for all of them", plan::names().join(", "));
        return ExitCode::from(2);
    };
    allow_open_files();
    processors::divide();
    let in_time = runtime().block_on(async { tokio::time::timeout(plan.limit(), run(&plan)).await.is_ok() });
    if in_time {
        return ExitCode::SUCCESS;
    }
    println!("not done within {:?}", plan.limit());
    ExitCode::FAILURE
}

/// As many open files as this process may have, and the servers that it starts.
fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

async fn run(plan: &Plan) {
    let (world, mut report) = (World::new().await, Report::default());
    for part in plan.parts() {
        println!("\n{}", part.name());
        match part {
            Part::Calls => calls::measure(&world, &mut report).await,
            Part::Memory => memory::measure(&world, &mut report).await,
            Part::Waiting => waiting::measure(&world, &mut report).await,
            Part::Idle => idle::measure(&world, &mut report).await,
            Part::Growth => growth::measure(&world, &mut report, plan.sessions).await,
            Part::Starts => starts::measure(&world, &mut report).await,
            Part::Soak => churn::measure(&world, &mut report, plan.soak).await,
        }
    }
    let folder = docs::write_to_target(&report);
    println!("\n{}\nTable and plot are in {}", report.table(), folder.display());
    if plan.writes_docs {
        docs::write_to_book(&report);
    }
}

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// How long a run lasts.
fn duration() -> Duration {
    Duration::from_secs_f64(setting("ENTRA_MCP_BENCH_SECONDS", 3.0))
}

/// How many runs there are of each figure.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a small number")]
fn rounds() -> usize {
    setting("ENTRA_MCP_BENCH_ROUNDS", 3.0) as usize
}
