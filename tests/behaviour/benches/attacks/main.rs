//! What strangers and single callers can do to everybody else: each attack of the list below is played against
//! `entra-mcp serve` as it is built, and a good client elsewhere says how it is served before, during and after.
//!
//! For each attack it prints the good client's success rate and p99, what the attackers were answered, and what they have
//! left behind. It fails if the good client was refused, if the server did not keep a bound that it promises, and if an
//! attack did not happen as it says: figures of an attack without an attacker are worth nothing. A p99 that is over the
//! aim is printed as such and fails nothing, because attackers, server and good client share the processors.
//! `SECURITY.md` cites its figures.
//!
//! Everything stays on loopback, and is bounded in time and in number. The attackers have four addresses of IPv4
//! (127.0.0.x), or one /56 of IPv6: this machine has none, so they are behind a declared proxy, which the attack then is.
//! `cargo bench --bench attacks -- bodies` plays one attack, and `-- 1` the same. A phase lasts `ENTRA_MCP_BENCH_SECONDS`
//! (3). Linux only: elsewhere, 127.0.0.2 is no address.

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

#[path = "../../all/support/behind.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod behind;
mod callers;
mod calls;
#[path = "../../all/support/certificate.rs"]
mod certificate;
mod documents;
mod good;
mod growth;
mod occupation;
mod report;
#[path = "../../all/support/server.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod server;
#[path = "../../all/support/session.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod session;
mod site;
mod strangers;
mod tally;
mod web_site;

use std::future::Future;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use report::Report;

/// The attackers: every task goes on until it is aborted.
pub(crate) type Crowd = JoinSet<()>;

/// The attacks by name; the first is number 1.
const NAMES: [&str; 10] =
    ["bodies", "connections", "lock-out", "store", "documents", "streams", "calls", "audit", "forwarded", "gate"];

/// How long all attacks together may take.
const SUITE: Duration = Duration::from_secs(12 * 60);

/// Seconds of a phase. In three of the longest, a good client stays below its own 600 calls a minute.
const SECONDS: std::ops::RangeInclusive<f64> = 0.5..=5.0;

/// Entra ID, Graph and the web sites, on a thread of their own: attackers must not hold them up.
static WORLD: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Where the servers of others run.
pub(crate) fn world() -> &'static Runtime {
    &WORLD
}

fn phase() -> Duration {
    let seconds = std::env::var("ENTRA_MCP_BENCH_SECONDS").map_or(3.0, |text| text.parse().unwrap());
    assert!(SECONDS.contains(&seconds), "ENTRA_MCP_BENCH_SECONDS is {SECONDS:?}");
    Duration::from_secs_f64(seconds)
}

/// The attacks to play, by number. `None`: one of them is not known.
fn chosen(arguments: impl Iterator<Item = String>) -> Option<Vec<usize>> {
    let number = |text: &str| {
        let numbered = text.parse().ok().filter(|number| (1..=NAMES.len()).contains(number));
        numbered.or_else(|| Some(NAMES.iter().position(|name| *name == text)? + 1))
    };
    // Cargo has arguments of its own.
    let named: Vec<String> = arguments.filter(|argument| !argument.starts_with("--")).collect();
    let numbers: Option<Vec<usize>> = named.iter().map(|text| number(text)).collect();
    numbers.map(|numbers| if numbers.is_empty() { (1..=NAMES.len()).collect() } else { numbers })
}

fn main() -> ExitCode {
    let Some(chosen) = chosen(std::env::args().skip(1)) else {
        println!("the attacks are 1 to {}, or {}", NAMES.len(), NAMES.join(", "));
        return ExitCode::from(2);
    };
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let mut report = Report::new(phase());
    let playing = async {
        for number in chosen {
            play(number, &mut report).await;
        }
    };
    let in_time = runtime.block_on(async { tokio::time::timeout(SUITE, playing).await.is_ok() });
    report.end(in_time)
}

async fn play(number: usize, report: &mut Report) {
    match number {
        1 => occupation::bodies(report).await,
        2 => occupation::connections(report).await,
        3 => strangers::client_lock_out(report).await,
        4 => growth::store(report).await,
        5 => documents::hanging(report).await,
        6 => {
            callers::event_streams(report).await;
            strangers::event_streams(report).await;
        }
        7 => calls::floods(report).await,
        8 => callers::denied_calls(report).await,
        9 => strangers::hidden_address(report).await,
        _ => strangers::gate(report).await,
    }
}

/// Waits until something is the case; the caller bounds the time.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs `work` again and again.
pub(crate) async fn again<F: Future<Output = ()>>(mut work: impl FnMut() -> F) {
    loop {
        work().await;
        tokio::task::yield_now().await;
    }
}
