//! How fast the emulator starts, and how many requests a second it answers: `cargo bench --bench emulator`.
//!
//! The client runs in the same process and takes its share of the cores, so the real figure is higher. The yardstick in
//! the same run is the cheapest answer: the emulator's own 404, which does nothing but parse and record.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use entra_mcp_emulator::{Builder, Endpoints};

const STARTS: usize = 20;
const CONNECTIONS: usize = 32;
const PERIOD: Duration = Duration::from_secs(2);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for tls in [false, true] {
            println!("start, tls {tls:<5}: median {:?} of {STARTS}", start(tls).await);
        }
        let emulator = Builder::new().start().await.unwrap();
        let yardstick = rate(emulator.endpoints(), Request::Nothing).await;
        println!("not found                      : {yardstick:>8.0} requests/s");
        for (name, request) in [
            ("openid-configuration           ", Request::Metadata),
            ("keys                           ", Request::Keys),
            ("client credentials (signs RS256)", Request::Token),
        ] {
            let rate = rate(emulator.endpoints(), request).await;
            println!("{name}: {rate:>8.0} requests/s, {:.2} of the yardstick", rate / yardstick);
        }
    });
}

async fn start(tls: bool) -> Duration {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let emulator = Builder::new().tls(tls).start().await.unwrap();
        times.push(started.elapsed());
        emulator.shutdown().await;
    }
    times.sort_unstable();
    times.get(STARTS / 2).copied().unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Request {
    Nothing,
    Metadata,
    Keys,
    Token,
}

async fn rate(endpoints: &Endpoints, request: Request) -> f64 {
    let (endpoints, client) = (Arc::new(endpoints.clone()), reqwest::Client::new());
    let until = Instant::now() + PERIOD;
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (endpoints, client) = (Arc::clone(&endpoints), client.clone());
            tokio::spawn(async move {
                let mut answers = 0_u32;
                while Instant::now() < until {
                    send(&client, &endpoints, request).await;
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut answers = 0;
    for task in tasks {
        answers += task.await.unwrap();
    }
    f64::from(answers) / PERIOD.as_secs_f64()
}

async fn send(client: &reqwest::Client, at: &Endpoints, request: Request) {
    let base = format!("{}/{}", at.authority, at.tenant_id);
    let answer = match request {
        Request::Nothing => client.get(format!("{}/nothing/here", at.authority)),
        Request::Metadata => client.get(format!("{base}/v2.0/.well-known/openid-configuration")),
        Request::Keys => client.get(format!("{base}/discovery/v2.0/keys")),
        Request::Token => client.post(format!("{base}/oauth2/v2.0/token")).form(&[
            ("grant_type", "client_credentials"),
            ("client_id", at.confidential_client_id.as_str()),
            ("client_secret", at.client_secret.as_str()),
            ("scope", &format!("{}/.default", at.confidential_client_id)),
        ]),
    };
    let answer = answer.send().await.unwrap();
    assert!(matches!(request, Request::Nothing) || answer.status().is_success(), "{}", answer.status());
    answer.bytes().await.unwrap();
}
