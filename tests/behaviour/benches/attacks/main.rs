//! What strangers and single callers can do to everybody else: each attack of the list below is played against
//! `entra-mcp serve` as it is built, and a good client elsewhere says how it is served before, during and after.
//!
//! It prints the good client's success rate and p99, and what the attack has left behind. It asserts nothing: the tests
//! do. `SECURITY.md` cites its figures.
//!
//! Everything stays on loopback, and is bounded in time and in number. Attackers have addresses of their own: 127.0.0.x,
//! or one behind a declared proxy, which the attack then is. `cargo bench --bench attacks -- 2` plays one of them.
//! A phase lasts `ENTRA_MCP_BENCH_SECONDS` (3). Linux only: elsewhere, 127.0.0.2 is no address.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark prints, starts programs, looks at the time, waits, and may stop at the first surprise"
)]

mod callers;
#[path = "../../all/support/certificate.rs"]
mod certificate;
mod documents;
mod good;
mod occupation;
#[path = "../../all/support/server.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod server;
#[path = "../../all/support/session.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod session;
mod site;
mod strangers;

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;

use good::{Good, Phase};
use site::Site;

/// The attackers: every task goes on until it is aborted.
pub(crate) type Crowd = JoinSet<()>;

/// How long an attack may take to be under way, and the server to recover before it is measured again.
const RAMP: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_secs(1);

fn phase() -> Duration {
    let seconds = std::env::var("ENTRA_MCP_BENCH_SECONDS").map_or(3.0, |text| text.parse().unwrap());
    Duration::from_secs_f64(seconds)
}

/// Plays one attack. `begin` completes when it is under way; `left` says what it has left behind.
pub(crate) async fn play(
    name: &str,
    site: &Site,
    good: &Good,
    begin: impl AsyncFnOnce(&mut Crowd),
    left: impl AsyncFnOnce() -> String,
) {
    let mut crowd = Crowd::new();
    let before = good.measure(site, phase()).await;
    let under_way = tokio::time::timeout(RAMP, begin(&mut crowd)).await.is_ok();
    let during = good.measure(site, phase()).await;
    crowd.shutdown().await;
    let left = left().await;
    tokio::time::sleep(REST).await;
    let after = good.measure(site, phase()).await;
    println!("{name}{}", if under_way { "" } else { " (not fully under way)" });
    for (when, phase) in [("before", &before), ("during", &during), ("after", &after)] {
        println!("  {when:<7} {phase}");
    }
    println!("  p99 during/before {:.1}{}", Phase::ratio(&during, &before), if left.is_empty() { "" } else { "; " });
    if !left.is_empty() {
        println!("  {left}");
    }
}

fn main() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Cargo's own argument is not a number.
    let only: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let chosen = |number: u32| only.is_empty() || only.contains(&number);
    runtime.block_on(async {
        println!("the good client in phases of {:?}: success rate, p99, requests, other answers", phase());
        if chosen(1) {
            occupation::bodies().await;
        }
        if chosen(2) {
            occupation::connections().await;
        }
        if chosen(3) {
            strangers::client_lock_out().await;
        }
        if chosen(4) {
            strangers::store_growth().await;
        }
        if chosen(5) {
            documents::hanging().await;
        }
        if chosen(6) {
            callers::event_streams().await;
        }
        if chosen(7) {
            callers::batches().await;
        }
        if chosen(8) {
            callers::denied_calls().await;
        }
        if chosen(9) {
            strangers::hidden_address().await;
        }
    });
}

/// Waits until something is the case; the caller bounds the time.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Joins what is printed about one attack.
pub(crate) async fn nothing() -> String {
    String::new()
}

/// Runs `work` again and again.
pub(crate) async fn again<F: Future<Output = ()>>(mut work: impl FnMut() -> F) {
    loop {
        work().await;
        tokio::task::yield_now().await;
    }
}
