//! Event streams that are open while calls are measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_emulator::Emulator;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::Url;

/// Streams that one caller has: the default bound of the gate.
const EACH: usize = 16;

/// Callers. With their streams they fill what one address may have.
const CALLERS: usize = 128;

/// Revisions without `server/discover` have event streams by GET.
const PROTOCOL: &str = "2025-11-25";

/// Tokens of callers that differ, each like the given one.
pub(crate) fn callers(emulator: &Emulator, token: &str) -> Vec<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    let sign = |number: usize| {
        claims["oid"] = json!(format!("44445555-eeee-6666-ffff-{number:012x}"));
        claims["sub"] = json!(format!("bench-{number}"));
        emulator.control().sign(&claims, false).unwrap()
    };
    (0..CALLERS).map(sign).collect()
}

/// Streams that are open until this value is dropped.
pub(crate) struct Open {
    tasks: JoinSet<()>,
    events: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Open {
    /// How many chunks with events have come.
    pub(crate) fn events(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }

    /// Whether every stream is still open.
    pub(crate) fn all_live(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) && !self.tasks.is_empty()
    }
}

/// Opens streams, and waits until each has had an event.
pub(crate) async fn open(url: &str, callers: &[String], count: usize) -> Open {
    assert!(count <= callers.len() * EACH, "there are too few callers");
    let url = Url::parse(url).unwrap();
    let (events, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let mut stream = TcpStream::connect(&*url.socket_addrs(|| None).unwrap()).await.unwrap();
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\nauthorization: Bearer {}\r\n\
             mcp-protocol-version: {PROTOCOL}\r\n\r\n",
            url.path(),
            url.authority(),
            callers[number / EACH],
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let mut buffer = vec![0; 4096];
        while !text.contains("data: ") {
            let length = stream.read(&mut buffer).await.unwrap();
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            assert!(length > 0 && text.starts_with("HTTP/1.1 200"), "no event stream: {text}");
        }
        let (events, ended) = (Arc::clone(&events), Arc::clone(&ended));
        tasks.spawn(async move {
            while let Ok(1..) = stream.read(&mut buffer).await {
                events.fetch_add(1, Ordering::Relaxed);
            }
            ended.store(true, Ordering::Relaxed);
        });
    }
    Open { tasks, events, ended }
}

#[allow(clippy::cast_precision_loss, reason = "a small number")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}
