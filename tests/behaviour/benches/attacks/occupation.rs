//! Attacks 1 and 2: strangers occupy memory with bodies that they do not finish, and places with connections that they do
//! not use.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::good::Good;
use crate::report::{Attack, Finding, Report};
use crate::site::{Door, From, Origin, Site, status_of};
use crate::tally::Tally;
use crate::{Crowd, again, until};

/// What was enough to refuse everybody else for half a minute.
const BODIES: usize = 64;
const BODY_BYTES: usize = 1024 * 1024;
/// All of a body but its last byte.
static BODY: [u8; BODY_BYTES - 1] = [b'x'; BODY_BYTES - 1];
/// As many as the server has.
const CONNECTIONS: usize = 1_024;
/// Of these, what attackers hold while a good client takes the place of one.
const MOST_CONNECTIONS: usize = 1_000;
/// Before a connection that was closed is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// A path, and the header fields with which a body is sent there.
const TARGETS: [(&str, &str); 3] = [
    ("/unknown", ""),
    ("/mcp", "content-type: application/json\r\nauthorization: Bearer made-up\r\n"),
    ("/token", "content-type: application/x-www-form-urlencoded\r\n"),
];

pub(crate) async fn bodies(report: &mut Report) {
    for (path, lines) in TARGETS {
        for origin in Origin::BOTH {
            let (site, tally) = (Site::start(origin).await, Arc::<Tally>::default());
            let good = Good::calling(&site, origin).await;
            let attackers = origin.attackers();
            let begin = async |crowd: &mut Crowd| {
                for number in 0..BODIES {
                    let (door, from) = (site.door(), attackers[number % attackers.len()]);
                    let tally = Arc::clone(&tally);
                    crowd.spawn(async move { again(|| stall(&door, from, path, lines, &tally)).await });
                }
                until(|| tally.begun() >= BODIES).await;
            };
            let found = async || {
                let reached = tally.most_held() >= BODIES || tally.answered() >= BODIES;
                Finding::new(format!("{} bodies are under way now", tally.held()))
                    .needs(reached, "the server neither had all bodies at a time nor answered as many")
            };
            let name = format!("1. {BODIES} stalled bodies of 1 MiB to {path}, {origin}");
            report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
        }
    }
}

/// Sends all but the last byte of a body, and waits until the server gives up.
async fn stall(door: &Door, from: From, path: &str, lines: &str, tally: &Arc<Tally>) {
    let mut answer = Vec::new();
    if let Some(mut stream) = door.connect(from).await {
        let _held = tally.hold();
        let lines = format!("content-length: {BODY_BYTES}\r\n{lines}");
        let head = door.head(from, &format!("POST {path}"), &lines);
        let (mut reading, mut writing) = stream.split();
        let sending = async {
            writing.write_all(head.as_bytes()).await?;
            tally.begin();
            // The server need not read it.
            writing.write_all(&BODY).await
        };
        // What was read counts, even if the connection is reset then.
        let _ = tokio::join!(sending, reading.read_to_end(&mut answer));
    }
    tally.answer("bodies", status_of(&answer));
    tokio::time::sleep(PAUSE).await;
}

/// From IPv4 only: connections of a declared proxy have no bound, so behind one there is nothing to attack.
pub(crate) async fn connections(report: &mut Report) {
    let origin = Origin::FourIpv4;
    let (site, tally) = (Site::start(origin).await, Arc::<Tally>::default());
    let good = Good::calling(&site, origin).await;
    let attackers = origin.attackers();
    let begin = async |crowd: &mut Crowd| {
        for number in 0..CONNECTIONS {
            let (door, from) = (site.door(), attackers[number % attackers.len()]);
            let tally = Arc::clone(&tally);
            crowd.spawn(async move { again(|| idle(&door, from, &tally)).await });
        }
        until(|| tally.answered() >= CONNECTIONS).await;
    };
    let found = async || {
        let left = format!("{} connections are held now", tally.held());
        Finding::new(left).needs(tally.most_held() >= MOST_CONNECTIONS, "the server's places were not all taken")
    };
    let name = format!("2. {CONNECTIONS} idle connections, {origin}");
    report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
}

/// Asks once, and keeps the connection as long as the server does.
async fn idle(door: &Door, from: From, tally: &Arc<Tally>) {
    tally.begin();
    match door.connect(from).await {
        None => tally.answer("connections", None),
        Some(mut stream) => {
            let _ = stream.write_all(door.head(from, "GET /healthz", "").as_bytes()).await;
            let mut answer = [0; 1024];
            let length = stream.read(&mut answer).await.unwrap_or(0);
            let status = status_of(&answer[..length]);
            tally.answer("connections", status);
            let _held = (status == Some(200)).then(|| tally.hold());
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
    tokio::time::sleep(PAUSE).await;
}
