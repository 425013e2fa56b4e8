//! Attacks 6 to 8: a single signed-in caller takes all event streams, all of Graph, or all of the audit trail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::good::Good;
use crate::site::{Door, MODERN, Site, call, here};
use crate::{Crowd, again, play, until};

/// The last parts of their addresses.
const GOOD: u8 = 200;
const ATTACKER: u8 = 2;
const BOB: &str = "bob@contoso.example";
const ALICE: &str = "alice@contoso.example";

/// Streams that the server holds open, and of these for one client of one person.
const STREAMS: usize = 64;
const STREAMS_OF_ONE: usize = 16;

pub(crate) async fn event_streams() {
    let site = Site::start(&["--max-instances", "160"]).await;
    let good = Good::streaming(&site.sign_in("", ALICE).await, here(GOOD));
    let mut sessions = Vec::new();
    for _ in 0..STREAMS / STREAMS_OF_ONE {
        sessions.push(site.sign_in("", BOB).await.access_token);
    }
    let (asked, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let begin = async |crowd: &mut Crowd| {
        for number in 0..STREAMS {
            let (door, token) = (site.door(), sessions[number % sessions.len()].clone());
            let (asked, open) = (Arc::clone(&asked), Arc::clone(&open));
            crowd.spawn(async move {
                let opened = hold(&door, &token, &asked).await;
                open.fetch_add(usize::from(opened.is_some()), Ordering::Relaxed);
                std::future::pending::<()>().await;
                drop(opened);
            });
        }
        until(|| asked.load(Ordering::Relaxed) >= STREAMS).await;
    };
    let left = async || format!("one person held {} of {STREAMS} streams", open.load(Ordering::Relaxed));
    let name = format!("6. one person opens {STREAMS} event streams with {} client ids", STREAMS / STREAMS_OF_ONE);
    play(&name, &site, &good, begin, left).await;
}

/// Opens an event stream. `None`: it was refused.
async fn hold(door: &Door, token: &str, asked: &AtomicUsize) -> Option<tokio::net::TcpStream> {
    let mut stream = door.connect(here(ATTACKER)).await?;
    let lines = format!("accept: text/event-stream\r\nauthorization: Bearer {token}\r\n");
    let _ = stream.write_all(door.head(here(ATTACKER), "GET /sse", &lines).as_bytes()).await;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap_or(0);
    asked.fetch_add(1, Ordering::Relaxed);
    answer[..length].starts_with(b"HTTP/1.1 200").then_some(stream)
}

/// Calls in one batch, and batches at the same time.
const BATCH: usize = 100;
const BATCHES: usize = 8;

pub(crate) async fn batches() {
    let site = Site::start(&["--profile-cache-seconds", "0"]).await;
    let good = Good::calling(&site, here(GOOD)).await;
    let token = site.sign_in("/mcp", BOB).await.access_token;
    let calls: Vec<_> = (0..BATCH)
        .map(|id| {
            let params = json!({ "name": "getUserDetails", "arguments": {} });
            json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
        })
        .collect();
    let (batch, sent, accepted) = (Value::Array(calls), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let graph = || site.emulator.control().request_count(entra_mcp_emulator::Endpoint::GraphMe);
    let begin = async |crowd: &mut Crowd| {
        for _ in 0..BATCHES {
            let (door, token, batch) = (site.door(), token.clone(), batch.clone());
            let (sent, accepted) = (Arc::clone(&sent), Arc::clone(&accepted));
            crowd.spawn(async move {
                again(|| async {
                    let status = door.post_message(here(ATTACKER), &token, "2025-03-26", &batch).await;
                    accepted.fetch_add(usize::from(status == Some(200)), Ordering::Relaxed);
                    sent.fetch_add(1, Ordering::Relaxed);
                })
                .await;
            });
        }
        until(|| sent.load(Ordering::Relaxed) >= BATCHES).await;
    };
    let left = async || {
        let (accepted, sent) = (accepted.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
        format!("{accepted} of {sent} batches of {BATCH} calls were accepted; Graph had {} requests in all", graph())
    };
    play(&format!("7. {BATCHES} batches of {BATCH} calls at a time, one person"), &site, &good, begin, left).await;
}

/// Bytes of an audit file, and how many are kept besides: a small copy of the usual 64 MiB and ten.
const AUDIT_BYTES: &str = "65536";
const AUDIT_KEPT: usize = 2;
/// Denied calls that are sent.
const DENIED: usize = 1_000;

pub(crate) async fn denied_calls() {
    let site = Site::with(|folder| {
        let rules = folder.path().join("access.toml");
        std::fs::write(&rules, "[[access]]\ntool = \"getUserDetails\"\nkinds = [\"user\"]\n").unwrap();
        let audit = folder.path().join("audit.jsonl");
        let kept = AUDIT_KEPT.to_string();
        let arguments = [
            "--access-file",
            &rules.display().to_string(),
            "--audit-file",
            &audit.display().to_string(),
            "--audit-max-bytes",
            AUDIT_BYTES,
            "--audit-keep",
            &kept,
        ];
        arguments.map(str::to_owned).into()
    })
    .await;
    let good = Good::calling(&site, here(GOOD)).await;
    let token = site.sign_in("/mcp", BOB).await.access_token;
    let files = || {
        let audit = std::fs::read_dir(site.path("")).unwrap().filter_map(|file| Some(file.ok()?.path()));
        let audit = audit.filter(|path| path.to_string_lossy().contains("audit.jsonl"));
        audit.map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect::<Vec<_>>()
    };
    let begun = |files: &[String]| files.iter().map(|text| text.matches("\"session.created\"").count()).sum::<usize>();
    let before = begun(&files());
    let sent = Arc::<AtomicUsize>::default();
    let begin = async |crowd: &mut Crowd| {
        for _ in 0..BATCHES {
            let (door, token, sent) = (site.door(), token.clone(), Arc::clone(&sent));
            crowd.spawn(async move {
                for _ in 0..DENIED / BATCHES {
                    let _ = door.post_message(here(ATTACKER), &token, MODERN, &call("findUser")).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until(|| sent.load(Ordering::Relaxed) >= DENIED).await;
    };
    let left = async || {
        let files = files();
        let denied: usize = files.iter().map(|text| text.matches("\"tool.denied\"").count()).sum();
        let still = begun(&files);
        format!("of {before} records of sign-ins, {still} are left; {denied} records of {DENIED} denied calls are kept")
    };
    play(&format!("8. {DENIED} calls that are denied, one person"), &site, &good, begin, left).await;
}
