//! The only place that writes to the standard streams directly.
//!
//! In stdio mode standard output belongs to MCP, and `transport/stdio.rs` alone writes to it; the functions here
//! serve the other commands.
//!
//! Standard error is written by a thread of its own. A client may ignore it, and even leave its pipe unread or close
//! it: whoever logged directly would then wait for ever, or panic. Here such lines are lost instead.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

/// Texts that wait to be written to standard error. A start with a full log makes some hundred.
const MAX_QUEUED_TEXTS: usize = 4_096;

/// Bytes of all texts that wait to be written to standard error.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that are written at once. A server logs a line per call: one write for each would cost as much as the call.
const MAX_WRITE_BYTES: usize = 64 * 1024;

/// How long the last texts may take to be written when the program ends.
const LAST_WRITES: Duration = Duration::from_millis(250);

/// Writes a line of a command's result to standard output. A closed pipe ends the output, not the program.
#[allow(clippy::disallowed_methods, reason = "the commands other than stdio write their results here")]
pub(crate) fn result(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Writes something that is meant for the person, not for a program, to standard error.
pub(crate) fn notice(line: &str) {
    error_output().push(format!("{line}\n").into_bytes());
}

/// Waits until standard error has everything, or nobody seems to read it.
pub(crate) fn flush() {
    error_output().flush(LAST_WRITES);
}

/// Standard error, for the log: every write is a whole line.
pub(crate) struct ErrorWriter;

impl Write for ErrorWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        error_output().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn error_output() -> &'static Output {
    static OUTPUT: OnceLock<Output> = OnceLock::new();
    OUTPUT.get_or_init(|| Output::start(io::stderr()))
}

enum Job {
    Write(Vec<u8>),
    /// Dropped when everything before it is written.
    Flush(SyncSender<()>),
}

/// A stream that never keeps its writers waiting.
struct Output {
    jobs: SyncSender<Job>,
    waiting: &'static Waiting,
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    lost: AtomicUsize,
}

impl Output {
    fn start(stream: impl Write + Send + 'static) -> Self {
        let (jobs, queue) = mpsc::sync_channel(MAX_QUEUED_TEXTS);
        let waiting: &'static Waiting = Box::leak(Box::default());
        // Without the thread the queue is closed, and everything is lost.
        let _ = thread::Builder::new().name("stderr".into()).spawn(move || write_all(stream, &queue, waiting));
        Self { jobs, waiting }
    }

    fn push(&self, text: Vec<u8>) {
        let (waiting, length) = (self.waiting, text.len());
        let before = waiting.bytes.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > MAX_QUEUED_BYTES || self.jobs.try_send(Job::Write(text)).is_err() {
            waiting.bytes.fetch_sub(length, Ordering::Relaxed);
            waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, patience: Duration) {
        let (done, written) = mpsc::sync_channel(0);
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            // It fails in any case: because everything is written, or because the time is over.
            let _ = written.recv_timeout(patience);
        }
    }
}

fn write_all(mut stream: impl Write, queue: &Receiver<Job>, waiting: &Waiting) {
    let mut left_over = None;
    while let Some(job) = left_over.take().or_else(|| queue.recv().ok()) {
        let mut text = match job {
            Job::Write(text) => text,
            Job::Flush(done) => {
                drop(done);
                continue;
            }
        };
        while text.len() < MAX_WRITE_BYTES
            && let Ok(job) = queue.try_recv()
        {
            match job {
                Job::Write(more) => text.extend_from_slice(&more),
                flush => {
                    left_over = Some(flush);
                    break;
                }
            }
        }
        // Nobody can be told that a stream is closed.
        let _ = stream.write_all(&text);
        waiting.bytes.fetch_sub(text.len(), Ordering::Relaxed);
        let lost = waiting.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(stream, "entra-mcp: {lost} lines of this log are lost: it was not read fast enough");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A stream that takes nothing until its gate is dropped.
    struct Gated {
        gate: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.gate.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Output, SyncSender<()>, Arc<Mutex<Vec<u8>>>) {
        let (open, gate) = mpsc::sync_channel(0);
        let written = Arc::default();
        (Output::start(Gated { gate, written: Arc::clone(&written) }), open, written)
    }

    #[test]
    fn texts_are_written_in_order() {
        let (output, open, written) = gated();
        output.push(b"a\n".into());
        output.push(b"b\n".into());
        drop(open);
        output.flush(LONG);
        assert_eq!(*written.lock().unwrap(), b"a\nb\n");
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_counted() {
        let (output, open, written) = gated();
        for _ in 0..6 {
            output.push(vec![b'x'; 1024 * 1024]);
        }
        output.flush(Duration::from_millis(1));
        drop(open);
        output.flush(LONG);
        let written = written.lock().unwrap();
        assert_eq!(written.iter().filter(|byte| **byte == b'x').count(), MAX_QUEUED_BYTES);
        assert!(written.ends_with(b"x"), "the loss is told once, where it began");
        assert!(String::from_utf8_lossy(&written).contains("entra-mcp: 2 lines of this log are lost"));
    }
}
