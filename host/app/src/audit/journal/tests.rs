//! Tests of `audit/journal.rs`.

use std::sync::mpsc::{self, Receiver, SyncSender};

use entra_mcp_plugin::clock::ManualClock;
use serde_json::Value;

use super::*;
use crate::audit::testing::event;

/// Longer than any working flush takes.
const LONG: Duration = Duration::from_secs(60);

/// The texts that an output received, one per write.
type Writes = Arc<Mutex<Vec<Vec<u8>>>>;

/// An output that reports when a write begins, and ends it with the result that the test sends.
struct Gated {
    begun: SyncSender<()>,
    answers: Receiver<io::Result<()>>,
    writes: Writes,
}

impl JournalOutput for Gated {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.writes.lock().unwrap().push(lines.to_vec());
        let _ = self.begun.send(());
        self.answers.recv().unwrap_or(Ok(()))
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.writes.lock().unwrap().push(b"(reopened)".to_vec());
        Ok(())
    }
}

struct Bench {
    audit: Arc<JsonLinesAudit>,
    clock: ManualClock,
    writes: Writes,
    begun: Receiver<()>,
    answer: mpsc::Sender<io::Result<()>>,
}

fn bench(on_failure: OnFailure) -> Bench {
    let (begins, begun) = mpsc::sync_channel(1_000);
    let (answer, answers) = mpsc::channel();
    let (writes, clock) = (Writes::default(), ManualClock::new(0));
    let output = Gated { begun: begins, answers, writes: Arc::clone(&writes) };
    let audit = JsonLinesAudit::start(Box::new(output), on_failure, Arc::new(clock.clone())).unwrap();
    Bench { audit: Arc::new(audit), clock, writes, begun, answer }
}

fn record(name: &str) -> AuditRecord {
    AuditRecord { time: Duration::ZERO, event: event(name) }
}

impl Bench {
    fn spawn(&self, name: &str) -> tokio::task::JoinHandle<Result<(), String>> {
        let (audit, record) = (Arc::clone(&self.audit), record(name));
        tokio::spawn(async move { audit.record(record).await })
    }

    fn events(&self) -> Vec<Vec<String>> {
        let name = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned();
        let writes = self.writes.lock().unwrap();
        writes.iter().map(|lines| std::str::from_utf8(lines).unwrap().lines().map(name).collect()).collect()
    }

    fn waiting(&self) -> usize {
        self.audit.shared.state().queued.waiting.len()
    }
}

#[tokio::test]
async fn an_event_is_recorded_when_it_is_written_and_not_before() {
    let bench = bench(OnFailure::FailClosed);
    let recording = bench.spawn("a");
    tokio::task::yield_now().await;
    bench.begun.recv().unwrap();
    assert!(!recording.is_finished());
    bench.answer.send(Ok(())).unwrap();
    recording.await.unwrap().unwrap();
}

#[tokio::test]
async fn events_that_come_during_a_write_share_the_next_one() {
    let bench = bench(OnFailure::FailClosed);
    let first = bench.spawn("first");
    tokio::task::yield_now().await;
    bench.begun.recv().unwrap();
    let others: Vec<_> = (0..50).map(|number| bench.spawn(&number.to_string())).collect();
    while bench.waiting() < 50 {
        tokio::task::yield_now().await;
    }
    bench.answer.send(Ok(())).unwrap();
    bench.answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    first.await.unwrap().unwrap();
    for other in others {
        assert_eq!(other.await.unwrap(), Err(io::Error::from(io::ErrorKind::StorageFull).to_string()));
    }
    let events = bench.events();
    assert_eq!(events.iter().map(Vec::len).collect::<Vec<_>>(), [1, 50]);
    // A failure does not last.
    bench.answer.send(Ok(())).unwrap();
    bench.spawn("later").await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_refuses_instead_of_making_callers_wait_for_ever() {
    let bench = bench(OnFailure::FailClosed);
    let error = bench.audit.record(record("a")).await.unwrap_err();
    assert!(error.contains("5 s"), "{error}");
}

#[tokio::test]
async fn what_waits_to_be_written_is_bounded() {
    let bench = bench(OnFailure::FailClosed);
    let stuck = bench.spawn("stuck");
    tokio::task::yield_now().await;
    bench.begun.recv().unwrap();
    let filling = vec![b'x'; MAX_QUEUED_BYTES];
    assert!(bench.audit.shared.push(&filling, 1, None));
    let error = bench.audit.record(record("one too many")).await.unwrap_err();
    assert!(error.contains("room"), "{error}");
    bench.answer.send(Ok(())).unwrap();
    stuck.await.unwrap().unwrap();
}

#[tokio::test]
async fn drop_and_count_never_waits_and_counts_what_was_not_written() {
    let bench = bench(OnFailure::DropAndCount);
    bench.audit.record(record("a")).await.unwrap();
    bench.begun.recv().unwrap();
    for _ in 0..3 {
        bench.audit.record(record("b")).await.unwrap();
    }
    assert_eq!(bench.audit.dropped(), 0);
    bench.answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
    bench.begun.recv().unwrap();
    assert_eq!(bench.audit.dropped(), 1);
    assert!(bench.audit.shared.push(&vec![b'x'; MAX_QUEUED_BYTES], 1, None));
    bench.audit.record(record("no room")).await.unwrap();
    assert_eq!(bench.audit.dropped(), 2);
    let mut many = record("a line that stands for 8");
    many.event.suppressed = Some(7);
    bench.audit.record(many).await.unwrap();
    assert_eq!(bench.audit.dropped(), 10);
}

#[tokio::test]
async fn drops_are_reported_once_a_minute() {
    let bench = bench(OnFailure::DropAndCount);
    let reported = || bench.audit.shared.drops().reported;
    bench.audit.shared.dropped(1);
    assert_eq!(reported(), 1);
    bench.audit.shared.dropped(2);
    assert_eq!(reported(), 1);
    bench.clock.advance(DROP_REPORT_PAUSE);
    bench.audit.shared.dropped(1);
    assert_eq!(reported(), 4);
}

#[tokio::test]
async fn at_the_end_everything_is_written_or_the_patience_is_over() {
    let bench = bench(OnFailure::DropAndCount);
    bench.audit.record(record("a")).await.unwrap();
    bench.begun.recv().unwrap();
    bench.audit.record(record("b")).await.unwrap();
    bench.audit.flush(Duration::from_millis(1));
    assert_eq!(bench.events().len(), 1);
    drop(bench.answer);
    bench.audit.flush(LONG);
    assert_eq!(bench.writes.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn it_is_reopened_without_waiting_for_an_event() {
    let bench = bench(OnFailure::FailClosed);
    bench.audit.reopen();
    while bench.writes.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.writes.lock().unwrap()[0], b"(reopened)");
}

/// An output whose writes succeed at once, and that notes the thread of each.
struct Prompt {
    takes: bool,
    writers: Arc<Mutex<Vec<Option<String>>>>,
}

impl JournalOutput for Prompt {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        self.writers.lock().unwrap().push(thread::current().name().map(str::to_owned));
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn takes(&self, _: usize) -> bool {
        self.takes
    }
}

#[tokio::test]
async fn the_caller_writes_what_is_taken_at_once_and_the_thread_what_is_not() {
    for (takes, on_failure, by_the_thread) in [
        (true, OnFailure::FailClosed, false),
        (false, OnFailure::FailClosed, true),
        // A caller that does not wait for the write does not write either.
        (true, OnFailure::DropAndCount, true),
    ] {
        let writers = Arc::default();
        let output = Prompt { takes, writers: Arc::clone(&writers) };
        let audit = JsonLinesAudit::start(Box::new(output), on_failure, Arc::new(ManualClock::new(0))).unwrap();
        for _ in 0..3 {
            audit.record(record("a")).await.unwrap();
            audit.flush(LONG);
        }
        let writers = writers.lock().unwrap();
        let expected = vec![by_the_thread; 3];
        assert_eq!(writers.iter().map(|name| name.as_deref() == Some("audit")).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_write_every_line_once_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let destination =
        JournalPlace::File { path: path.clone(), rotation: Rotation { max_bytes: 0, keep: 0, keep_days: 0 } };
    let clock = Arc::new(ManualClock::new(0));
    let audit = Arc::new(JsonLinesAudit::open(&destination, OnFailure::FailClosed, clock).unwrap());
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let audit = Arc::clone(&audit);
            tokio::spawn(async move {
                for event in 0..200 {
                    audit.record(record(&format!("{task}.{event}"))).await.unwrap();
                    if event % 50 == 0 {
                        audit.reopen();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let names: std::collections::BTreeSet<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((names.len(), text.lines().count()), (3_200, 3_200));
}
