//! The load: connections that each ask, read the answer, compare it, and ask again.
//!
//! The load runs on the processors that the server runs on, so it speaks HTTP itself: what a general client costs would
//! hide what the servers cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::process::{Process, Usage};
use crate::{PROTOCOL, TOOL, profile};

/// How long system calls are counted.
const COUNTED: Duration = Duration::from_secs(1);

/// A server under load.
pub(crate) struct Target {
    process: Process,
    url: Url,
    /// One for each token.
    requests: Vec<Vec<u8>>,
    next: AtomicUsize,
    /// The body of the one answer that is right, to the byte: every request is the same, but for its token.
    answer: Vec<u8>,
}

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) requests_per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Of the server, for each request.
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) switches: f64,
    /// At the end of the run.
    pub(crate) resident_bytes: u64,
}

impl Figures {
    /// Processor time for each request.
    pub(crate) fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

impl Target {
    /// Asks once, and looks at the answer closely. Requests take turns with the tokens.
    pub(crate) async fn new(pid: u32, url: &str, tokens: &[String]) -> Self {
        Self::speaking(PROTOCOL, pid, url, tokens).await
    }

    /// The same in this revision of MCP.
    pub(crate) async fn speaking(protocol: &str, pid: u32, url: &str, tokens: &[String]) -> Self {
        let (url, body) = (Url::parse(url).unwrap(), message(protocol).to_string());
        let request = |token: &String| {
            format!(
                "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, \
             text/event-stream\r\nauthorization: Bearer {}\r\nmcp-protocol-version: {protocol}\r\nmcp-method: \
             tools/call\r\nmcp-name: {TOOL}\r\ncontent-length: {}\r\n\r\n{body}",
                url.path(),
                url.authority(),
                token,
                body.len(),
            )
            .into_bytes()
        };
        let requests = tokens.iter().map(request).collect();
        let mut target =
            Self { process: Process::new(pid), url, requests, next: AtomicUsize::new(0), answer: Vec::new() };
        let mut connection = target.connect().await;
        let answer = connection.exchange(target.request()).await;
        let read: Value = serde_json::from_slice(answer).unwrap();
        assert_eq!(read["id"], 1, "{read}");
        assert_eq!(read["result"]["structuredContent"], profile(), "{read}");
        target.answer = answer.to_vec();
        target
    }

    /// Asks once with every token. `entra-mcp serve` exchanges each token at Entra ID on first use (on-behalf-of); the
    /// peer never does. That happens once in the life of a token, and is not measured here.
    pub(crate) async fn introduce(self: &Arc<Self>, connections: usize) {
        let share = self.requests.len().div_ceil(connections);
        let tasks: Vec<_> = (0..connections)
            .map(|number| {
                let target = self.clone();
                tokio::spawn(async move {
                    let mut connection = target.connect().await;
                    for request in target.requests.iter().skip(number * share).take(share) {
                        let answer = connection.exchange(request).await;
                        assert!(answer == target.answer, "a wrong answer: {}", String::from_utf8_lossy(answer));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    /// Loads the server for as long as told. Stops the benchmark at the first wrong answer.
    pub(crate) async fn load(self: &Arc<Self>, connections: usize, duration: Duration) -> Figures {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(self.connect().await);
        }
        let before = self.process.usage();
        let start = Instant::now();
        let end = start + duration;
        let tasks: Vec<_> = open
            .into_iter()
            .map(|connection| {
                let target = self.clone();
                tokio::spawn(async move { target.ask_until(connection, end).await })
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.unwrap());
        }
        let took = start.elapsed();
        let after = self.process.usage();
        figures(latencies, took, before, after)
    }

    /// System calls for each request, if they can be counted.
    pub(crate) async fn system_calls(self: &Arc<Self>, connections: usize) -> Option<f64> {
        let requests = AtomicUsize::new(0);
        let work = async {
            let mut open = Vec::new();
            for _ in 0..connections {
                open.push(self.connect().await);
            }
            let end = Instant::now() + COUNTED;
            let asking = open.into_iter().map(|connection| self.ask_until(connection, end));
            let asked: usize = futures_util::future::join_all(asking).await.iter().map(Vec::len).sum();
            requests.store(asked, Ordering::Relaxed);
        };
        let calls = self.process.system_calls(work).await?;
        Some(number(calls) / number(requests.into_inner() as u64))
    }

    async fn ask_until(&self, mut connection: Connection, end: Instant) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(100_000);
        loop {
            let asked = Instant::now();
            if asked >= end {
                return latencies;
            }
            let answer = connection.exchange(self.request()).await;
            latencies.push(asked.elapsed());
            assert!(answer == self.answer, "a wrong answer: {}", String::from_utf8_lossy(answer));
        }
    }

    /// The next request, as it is sent.
    pub(crate) fn request(&self) -> &[u8] {
        &self.requests[self.next.fetch_add(1, Ordering::Relaxed) % self.requests.len()]
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&*self.url.socket_addrs(|| None).unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, received: vec![0; 64 * 1024] }
    }
}

/// The call that every connection makes.
pub(crate) fn message(protocol: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": TOOL,
            "arguments": {},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": protocol,
                "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1.0.0" },
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    })
}

/// Loads the servers in turn, for so many rounds.
pub(crate) async fn in_turn<const N: usize>(
    targets: &[&Arc<Target>; N],
    connections: usize,
    rounds: usize,
    duration: Duration,
) -> [Vec<Figures>; N] {
    let mut runs: [Vec<Figures>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds {
        for (target, runs) in targets.iter().zip(&mut runs) {
            runs.push(target.load(connections, duration).await);
        }
    }
    runs
}

/// The median of one figure, for each server.
pub(crate) fn medians<const N: usize>(runs: &[Vec<Figures>; N], figure: &dyn Fn(&Figures) -> f64) -> [f64; N] {
    runs.each_ref().map(|runs| {
        let mut values: Vec<f64> = runs.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Asks, and returns the body of the answer, which has to be a 200 that says how long it is.
    async fn exchange(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).await.unwrap();
        let (mut filled, mut whole) = (0, None);
        while whole.is_none_or(|(_, end)| filled < end) {
            let read = self.stream.read(&mut self.received[filled..]).await.unwrap();
            assert!(read > 0, "the server has closed the connection");
            filled += read;
            whole = whole.or_else(|| body(&self.received[..filled]));
        }
        let (start, end) = whole.unwrap();
        assert_eq!(filled, end, "there is more than one answer");
        &self.received[start..end]
    }
}

/// Where the body of an answer begins and ends, once all of the head is here.
fn body(received: &[u8]) -> Option<(usize, usize)> {
    let start = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..start]).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "a wrong answer: {}", String::from_utf8_lossy(received));
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.next().unwrap().1.trim().parse().unwrap();
    Some((start, start + length))
}

fn figures(mut latencies: Vec<Duration>, took: Duration, before: Usage, after: Usage) -> Figures {
    latencies.sort_unstable();
    let count = u32::try_from(latencies.len()).unwrap();
    assert!(count > 0, "not one request was answered");
    let percentile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    Figures {
        requests_per_second: f64::from(count) / took.as_secs_f64(),
        p50: percentile(50),
        p99: percentile(99),
        user: (after.user - before.user) / count,
        system: (after.system - before.system) / count,
        switches: number(after.switches.saturating_sub(before.switches)) / f64::from(count),
        resident_bytes: after.resident_bytes,
    }
}

#[allow(clippy::cast_precision_loss, reason = "a count, for people")]
fn number(count: u64) -> f64 {
    count as f64
}
