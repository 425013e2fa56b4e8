//! Attacks 6 and 8: a single signed-in caller takes all event streams, or all of the audit trail.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::good::Good;
use crate::report::{Attack, Finding, Report};
use crate::site::{BOB, Door, From, Origin, Site, WITH_BATCHES, legacy_call, status_of};
use crate::tally::Tally;
use crate::{Crowd, again, until};

/// Streams that the server holds open, and of these for one person.
const STREAMS: usize = 64;
const STREAMS_OF_ONE: usize = 16;
/// Client ids of that person.
const CLIENTS: usize = 4;
/// Before a stream that was refused, or has ended, is opened again.
const STREAM_PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn event_streams(report: &mut Report) {
    for origin in Origin::BOTH {
        let (site, tally) = (Site::start(origin).await, Arc::<Tally>::default());
        let good = Good::streaming(&site, origin).await;
        let mut sessions = Vec::new();
        for _ in 0..CLIENTS {
            sessions.push(site.sign_in("", BOB).await.access_token);
        }
        let attackers = origin.attackers();
        let begin = async |crowd: &mut Crowd| {
            for number in 0..STREAMS {
                let (door, token) = (site.door(), sessions[number % sessions.len()].clone());
                let (from, tally) = (attackers[number % attackers.len()], Arc::clone(&tally));
                crowd.spawn(async move { again(|| hold(&door, from, &token, &tally)).await });
            }
            until(|| tally.answered() >= STREAMS).await;
        };
        let found = async || {
            let left = format!("one person holds {} of {STREAMS} streams now", tally.held());
            Finding::new(left)
                .needs(tally.most_held() >= STREAMS_OF_ONE, "the person held fewer streams than it may")
                .promises(tally.most_held() <= STREAMS_OF_ONE, "one person held more streams than it may")
        };
        let name = format!("6. one person opens {STREAMS} event streams with {CLIENTS} client ids, {origin}");
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}

/// Opens an event stream, and reads it to its end.
async fn hold(door: &Door, from: From, token: &str, tally: &Arc<Tally>) {
    tally.begin();
    match door.connect(from).await {
        None => tally.answer("streams", None),
        Some(mut stream) => {
            let lines = format!("accept: text/event-stream\r\nauthorization: Bearer {token}\r\n");
            let _ = stream.write_all(door.head(from, "GET /sse", &lines).as_bytes()).await;
            let mut answer = vec![0; 4096];
            let mut length = stream.read(&mut answer).await.unwrap_or(0);
            let status = status_of(&answer[..length]);
            tally.answer("streams", status);
            let _held = (status == Some(200)).then(|| tally.hold());
            while status == Some(200) && length > 0 {
                length = stream.read(&mut answer).await.unwrap_or(0);
            }
        }
    }
    tokio::time::sleep(STREAM_PAUSE).await;
}

/// Bytes of an audit file, and how many are kept besides: a small copy of the usual 64 MiB and ten, with room for the calls
/// of the good client and for fewer denied calls than are sent.
const AUDIT_BYTES: &str = "131072";
const AUDIT_KEPT: &str = "2";
/// Denied calls in one batch, and batches at the same time.
const BATCH: usize = 20;
const SENDERS: usize = 8;
/// Batches to begin with: a thousand denied calls.
const BATCHES: usize = 50;
/// Of these, batches that are answered: those of the 600 calls that a caller may send in a minute, but for what batches use
/// up that are refused halfway.
const ANSWERED: usize = 22;
/// Records of them: sixty in a quarter of an hour, and some that say how many more there were.
const MOST_RECORDS: usize = 70;
/// Before the next batch, once there were enough.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn denied_calls(report: &mut Report) {
    for origin in Origin::BOTH {
        let tally = Arc::<Tally>::default();
        let site = Site::with(origin, |folder| {
            let audit = folder.join("audit.jsonl").display().to_string();
            let arguments = ["--audit-file", &audit, "--audit-max-bytes", AUDIT_BYTES, "--audit-keep", AUDIT_KEPT];
            arguments.map(str::to_owned).into()
        })
        .await;
        let good = Good::calling(&site, origin).await;
        let token = site.sign_in("/mcp", BOB).await.access_token;
        let begun = records(&site.path(""), "session.created").len();
        // The rule of the tool wants a role that Bob has not.
        let calls: Vec<_> = (0..BATCH).map(|id| legacy_call(id, "findUser")).collect();
        let (attackers, batch) = (origin.attackers(), Value::Array(calls));
        let begin = async |crowd: &mut Crowd| {
            for sender in 0..SENDERS {
                let (door, token, batch) = (site.door(), token.clone(), batch.clone());
                let (from, tally) = (attackers[sender % attackers.len()], Arc::clone(&tally));
                crowd.spawn(async move {
                    again(|| async {
                        tally.begin();
                        tally.answer("batches", door.post_message(from, &token, WITH_BATCHES, &batch).await);
                        if tally.begun() >= BATCHES {
                            tokio::time::sleep(PAUSE).await;
                        }
                    })
                    .await;
                });
            }
            until(|| tally.answered() >= BATCHES).await;
        };
        let found = async || {
            let still = records(&site.path(""), "session.created").len();
            let denied = records(&site.path(""), "tool.denied").len();
            let answered = tally.with("batches", 200);
            let left = format!(
                "{} calls were denied, and {denied} records say so; of {begun} records of sign-ins, {still} are left",
                answered * BATCH
            );
            Finding::new(left)
                .needs(answered >= ANSWERED, "fewer batches were answered than a caller may send")
                .needs(denied > 0, "no call was denied")
                .promises(denied <= MOST_RECORDS, "one caller's denied calls fill the records")
                .promises(still == begun, "older records were rotated away")
        };
        let name = format!("8. batches of {BATCH} calls that are denied, one person, {origin}");
        report.play(Attack { name, site: &site, good: &good, tally: &tally }, begin, found).await;
    }
}

/// The audit records in a folder about an event.
fn records(folder: &Path, event: &str) -> Vec<Value> {
    let files = std::fs::read_dir(folder).unwrap().filter_map(|file| Some(file.ok()?.path()));
    let files = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("audit.jsonl"));
    let texts: Vec<_> = files.map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect();
    let records = texts.iter().flat_map(|text| text.lines()).filter_map(|line| serde_json::from_str(line).ok());
    records.filter(|record: &Value| record["event"] == event).collect()
}
