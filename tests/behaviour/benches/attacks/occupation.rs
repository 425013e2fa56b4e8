//! Attacks 1 and 2: strangers occupy memory with bodies that they do not finish, and places with connections that they do
//! not use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::good::Good;
use crate::site::{BEHIND_A_PROXY, Door, From, Site, good_elsewhere, here, in_one_56};
use crate::{Crowd, again, nothing, play, until};

/// What was enough, from two addresses, to refuse everybody else for half a minute.
const BODIES: usize = 64;
const BODY_BYTES: usize = 1024 * 1024;
/// As many as the server has.
const CONNECTIONS: usize = 1_024;
/// Before a connection that was closed is made again.
const PAUSE: Duration = Duration::from_millis(50);

const LAST_OF_GOOD: u8 = 200;

/// Where the attackers are, by name.
fn directions() -> [(&'static str, Vec<From>); 3] {
    [
        ("two IPv4 addresses", vec![here(2), here(3)]),
        ("four IPv4 addresses", (2..6).map(here).collect()),
        ("one /56 of IPv6", (0..=u8::MAX).map(in_one_56).collect()),
    ]
}

pub(crate) async fn bodies() {
    for (path, lines) in [
        ("/unknown", ""),
        ("/mcp", "content-type: application/json\r\nauthorization: Bearer made-up\r\n"),
        ("/token", "content-type: application/x-www-form-urlencoded\r\n"),
    ] {
        for (origin, attackers) in directions() {
            let site = started(origin).await;
            let good = Good::calling(&site, good(origin)).await;
            let name = format!("1. {BODIES} stalled bodies of 1 MiB to {path}, {origin}");
            let begin = async |crowd: &mut Crowd| {
                let begun = Arc::<AtomicUsize>::default();
                for number in 0..BODIES {
                    let (door, from) = (site.door(), attackers[number % attackers.len()]);
                    let begun = Arc::clone(&begun);
                    crowd.spawn(async move { again(|| stall(&door, from, path, lines, &begun)).await });
                }
                until(|| begun.load(Ordering::Relaxed) >= BODIES).await;
            };
            play(&name, &site, &good, begin, nothing).await;
        }
    }
}

/// Sends all but the last byte of a body, and waits until the server gives up.
async fn stall(door: &Door, from: From, path: &str, lines: &str, begun: &AtomicUsize) {
    if let Some(mut stream) = door.connect(from).await {
        let lines = format!("content-length: {BODY_BYTES}\r\n{lines}");
        let request = format!("{}{}", door.head(from, &format!("POST {path}"), &lines), "x".repeat(BODY_BYTES - 1));
        // The server need not read it.
        let _ = stream.write_all(request.as_bytes()).await;
        begun.fetch_add(1, Ordering::Relaxed);
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    tokio::time::sleep(PAUSE).await;
}

pub(crate) async fn connections() {
    let [two, four, _] = directions();
    for (origin, attackers) in [two, four] {
        let site = started(origin).await;
        let good = Good::calling(&site, good(origin)).await;
        let name = format!("2. {CONNECTIONS} idle connections, {origin}");
        let begin = async |crowd: &mut Crowd| {
            let begun = Arc::<AtomicUsize>::default();
            for number in 0..CONNECTIONS {
                let (door, from) = (site.door(), attackers[number % attackers.len()]);
                let begun = Arc::clone(&begun);
                crowd.spawn(async move { again(|| idle(&door, from, &begun)).await });
            }
            until(|| begun.load(Ordering::Relaxed) >= CONNECTIONS).await;
        };
        play(&name, &site, &good, begin, nothing).await;
    }
}

/// Asks once, and keeps the connection as long as the server does.
async fn idle(door: &Door, from: From, begun: &AtomicUsize) {
    if let Some(mut stream) = door.connect(from).await {
        let _ = stream.write_all(door.head(from, "GET /healthz", "").as_bytes()).await;
        let _ = stream.read(&mut [0; 1024]).await;
        begun.fetch_add(1, Ordering::Relaxed);
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    tokio::time::sleep(PAUSE).await;
}

/// A /56 needs a proxy that declares it: this machine has none.
async fn started(origin: &str) -> Site {
    if origin.contains("IPv6") { Site::start(&BEHIND_A_PROXY).await } else { Site::start(&[]).await }
}

fn good(origin: &str) -> From {
    if origin.contains("IPv6") { good_elsewhere() } else { here(LAST_OF_GOOD) }
}
