//! The load: connections that each ask, read the answer, compare it, and ask again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use url::Url;

use crate::process::{Process, Usage};
use crate::{PROTOCOL, Served, TOOL, profile};

/// A server under load.
pub(crate) struct Target {
    process: Process,
    url: Url,
    token: String,
    body: Bytes,
    /// The one answer that is right, to the byte: every request is the same.
    answer: Bytes,
}

/// What one run has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) requests_per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) cpu_per_request: Duration,
    /// At the end of the run.
    pub(crate) resident_bytes: u64,
}

impl Target {
    /// Asks once, and looks at the answer closely.
    pub(crate) async fn new(pid: u32, served: Served) -> Self {
        let message = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": TOOL,
                "arguments": {},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": PROTOCOL,
                    "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1.0.0" },
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        });
        let mut target = Self {
            process: Process::new(pid),
            url: Url::parse(&served.url).unwrap(),
            token: served.token,
            body: Bytes::from(message.to_string()),
            answer: Bytes::new(),
        };
        let mut connection = target.connect().await;
        let (status, answer) = exchange(&mut connection, target.request()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
        let read: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(read["id"], 1, "{read}");
        assert_eq!(read["result"]["structuredContent"], profile(), "{read}");
        target.answer = answer;
        target
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

    async fn ask_until(&self, mut connection: SendRequest<Full<Bytes>>, end: Instant) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(100_000);
        loop {
            let asked = Instant::now();
            if asked >= end {
                return latencies;
            }
            let (status, answer) = exchange(&mut connection, self.request()).await;
            latencies.push(asked.elapsed());
            assert!(
                status == StatusCode::OK && answer == self.answer,
                "a wrong answer: {status} {}",
                String::from_utf8_lossy(&answer)
            );
        }
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(&*self.url.socket_addrs(|| None).unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    fn request(&self) -> Request<Full<Bytes>> {
        Request::post(self.url.path())
            .header(HOST, self.url.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header("mcp-protocol-version", PROTOCOL)
            .header("mcp-method", "tools/call")
            .header("mcp-name", TOOL)
            .body(Full::new(self.body.clone()))
            .unwrap()
    }
}

async fn exchange(connection: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
    connection.ready().await.unwrap();
    let response = connection.send_request(request).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
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
        cpu_per_request: (after.cpu - before.cpu) / count,
        resident_bytes: after.resident_bytes,
    }
}
