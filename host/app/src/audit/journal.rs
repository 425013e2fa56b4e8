//! Records as lines of JSON, written by the first caller or by a thread of the journal's own.
//!
//! All records that arrive while a write is under way share the next write: many events cost one write, and a single
//! event does not wait for others. If no write is under way and the output takes a line at once, the caller writes it:
//! waking a thread, and being woken by it, costs more than the write. So a disk that hangs holds up at most one thread
//! of the runtime; a full pipe holds up none.

use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use entra_mcp_plugin::audit::{AuditRecord, AuditSink};
use entra_mcp_plugin::clock::Clock;
use tokio::sync::oneshot;

use super::file::{AuditFile, append};
use super::line::line;
use super::{AuditFileError, Rotation, trace};
use crate::console::{self, DirectErrorWriter};

/// Bytes of all lines that wait to be written. That is some 10,000 events, more than a second's.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that a buffer keeps after a burst.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

/// Batches that a caller writes before it leaves the rest to the thread: its own, and those that arrive meanwhile.
const MAX_BATCHES_OF_A_CALLER: usize = 4;

/// Bytes that a pipe takes at once if it takes any: POSIX's `PIPE_BUF` on Linux, and more than that of others is not
/// relied upon.
const PIPE_BYTES: usize = 4096;

/// How long an event waits for its write. A disk that takes longer counts as failed, and clients give up soon after.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// How often at most the log says that events were dropped.
const DROP_REPORT_PAUSE: Duration = Duration::from_secs(60);

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalPlace {
    /// Standard error, besides the log.
    StandardError,
    /// A file.
    File {
        /// Its name.
        path: PathBuf,
        /// How it is kept from growing.
        rotation: Rotation,
    },
}

/// What happens when an event cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The action that the event records is refused. Every action waits until its event is written.
    FailClosed,
    /// The event is counted as lost, and the action goes on. No action waits.
    DropAndCount,
}

/// Writes records as lines of JSON.
pub struct JsonLinesAudit {
    shared: Arc<JournalShared>,
    on_failure: OnFailure,
}

impl JsonLinesAudit {
    /// Opens the destination and starts to write.
    pub fn open(
        destination: &JournalPlace,
        on_failure: OnFailure,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuditFileError> {
        let output: Box<dyn JournalOutput> = match destination {
            JournalPlace::StandardError => Box::new(StandardError::default()),
            JournalPlace::File { path, rotation } => Box::new(AuditFile::open(path, *rotation, Arc::clone(&clock))?),
        };
        let path = match destination {
            JournalPlace::StandardError => PathBuf::from("(standard error)"),
            JournalPlace::File { path, .. } => path.clone(),
        };
        Self::start(output, on_failure, clock).map_err(|reason| AuditFileError { path, reason })
    }

    fn start(output: Box<dyn JournalOutput>, on_failure: OnFailure, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let shared = Arc::new(JournalShared {
            state: Mutex::default(),
            output: Mutex::new(output),
            filled: Condvar::new(),
            written: Condvar::new(),
            drops: Mutex::default(),
            clock,
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("audit".into()).spawn(move || writer.write_all())?;
        Ok(Self { shared, on_failure })
    }

    /// Closes the file and opens it again, before the next event is written.
    pub fn reopen(&self) {
        self.shared.state().reopen = true;
        self.shared.filled.notify_one();
    }

    /// Events that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.drops().total
    }

    /// Waits until everything is written, or for as long as `patience`.
    pub fn flush(&self, patience: Duration) {
        let busy = |state: &mut JournalState| state.writing || !state.queued.lines.is_empty();
        let mut state = self.shared.state();
        state.flushing = true;
        drop(self.shared.written.wait_timeout_while(state, patience, busy));
        self.shared.report_drops(true);
    }
}

#[async_trait]
impl AuditSink for JsonLinesAudit {
    async fn record(&self, record: AuditRecord) -> Result<(), String> {
        let line = line(&record, trace(&record.event));
        let events = record.event.suppressed.unwrap_or(0).saturating_add(1);
        match self.on_failure {
            OnFailure::FailClosed => {
                let line = line.map_err(|error| error.to_string())?;
                let (sender, answer) = oneshot::channel();
                if !self.shared.push(&line, events, Some(sender)) {
                    return Err("more events wait to be written than there is room for".to_owned());
                }
                match tokio::time::timeout(WRITE_PATIENCE, answer).await {
                    Ok(Ok(written)) => written.map_err(|reason| reason.to_string()),
                    Ok(Err(_)) => Err("nothing is written any more".to_owned()),
                    // It may still be written later: a record of what did not happen is better than the opposite.
                    Err(_) => Err(format!("it was not written within {} s", WRITE_PATIENCE.as_secs())),
                }
            }
            OnFailure::DropAndCount => {
                if !line.is_ok_and(|line| self.shared.push(&line, events, None)) {
                    self.shared.dropped(events);
                }
                Ok(())
            }
        }
    }
}

impl Drop for JsonLinesAudit {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.filled.notify_one();
    }
}

/// Why lines were not written: the same for all that were in one write.
type Written = Result<(), Arc<str>>;

struct JournalShared {
    state: Mutex<JournalState>,
    /// The thread that has set [`JournalState::writing`] holds it, or waits for a reopening to end.
    output: Mutex<Box<dyn JournalOutput>>,
    /// There is something to do for the thread that writes.
    filled: Condvar,
    /// Something has been written.
    written: Condvar,
    drops: Mutex<Drops>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct JournalState {
    queued: Batch,
    /// An unused buffer, kept for the next batch.
    spare: Vec<u8>,
    /// A caller or the journal's thread is writing.
    writing: bool,
    /// A caller has asked to be told when everything is written. Telling it costs a system call.
    flushing: bool,
    reopen: bool,
    ended: bool,
}

/// What one write is for.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    /// How many events the lines stand for that no caller waits for.
    unawaited: u64,
    waiting: Vec<oneshot::Sender<Written>>,
}

impl JournalState {
    /// Takes the queued lines for the caller to write.
    fn begin(&mut self) -> Batch {
        self.writing = true;
        let next = Batch { lines: mem::take(&mut self.spare), ..Batch::default() };
        mem::replace(&mut self.queued, next)
    }
}

#[derive(Default)]
struct Drops {
    total: u64,
    reported: u64,
    reported_at: Option<Duration>,
}

impl JournalShared {
    fn state(&self) -> MutexGuard<'_, JournalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drops(&self) -> MutexGuard<'_, Drops> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line that stands for so many events, and returns whether there was room. If a caller waits for the line and
    /// the output takes it at once, the caller writes it.
    fn push(&self, line: &[u8], events: u64, waiting: Option<oneshot::Sender<Written>>) -> bool {
        let mut state = self.state();
        if state.queued.lines.len().saturating_add(line.len()) > MAX_QUEUED_BYTES {
            return false;
        }
        let idle = state.queued.lines.is_empty() && !state.writing;
        state.queued.lines.extend_from_slice(line);
        let awaited = waiting.is_some();
        match waiting {
            Some(waiting) => state.queued.waiting.push(waiting),
            None => state.queued.unawaited = state.queued.unawaited.saturating_add(events),
        }
        // A thread that writes looks for more by itself.
        if !idle {
            return true;
        }
        if awaited && self.is_taken_at_once(&state) {
            self.write_here(state);
        } else {
            drop(state);
            self.filled.notify_one();
        }
        true
    }

    fn is_taken_at_once(&self, state: &JournalState) -> bool {
        !state.reopen && self.output.try_lock().is_ok_and(|output| output.takes(state.queued.lines.len()))
    }

    /// Writes the queued lines, and some of those that arrive meanwhile.
    fn write_here<'a>(&'a self, mut state: MutexGuard<'a, JournalState>) {
        for _ in 0..MAX_BATCHES_OF_A_CALLER {
            let batch = state.begin();
            drop(state);
            let buffer = self.write(batch);
            state = self.state();
            state.writing = false;
            state.spare = buffer;
            if state.queued.lines.is_empty() || !self.is_taken_at_once(&state) {
                break;
            }
        }
        let (flushing, more) = (state.flushing, !state.queued.lines.is_empty() || state.reopen || state.ended);
        drop(state);
        if flushing {
            self.written.notify_all();
        }
        if more {
            self.filled.notify_one();
        }
    }

    /// Writes a batch, and tells every caller that waits for it. Returns the buffer for the next batch.
    fn write(&self, batch: Batch) -> Vec<u8> {
        let Batch { mut lines, unawaited, waiting } = batch;
        let written = self.output.lock().unwrap_or_else(PoisonError::into_inner).write(&lines);
        let written: Written = written.map_err(|error| error.to_string().into());
        if written.is_err() && unawaited > 0 {
            self.dropped(unawaited);
        }
        for waiting in waiting {
            // A caller that no longer waits misses the result; that is acceptable.
            let _ = waiting.send(written.clone());
        }
        lines.clear();
        lines.shrink_to(KEPT_BUFFER_BYTES);
        lines
    }

    /// The loop of the journal's thread.
    fn write_all(&self) {
        loop {
            let nothing = |state: &mut JournalState| {
                state.writing || (state.queued.lines.is_empty() && !state.reopen && !state.ended)
            };
            let waited = self.filled.wait_while(self.state(), nothing);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.queued.lines.is_empty() && state.ended {
                return;
            }
            let reopen = mem::take(&mut state.reopen);
            let batch = state.begin();
            drop(state);
            if reopen {
                let reopened = self.output.lock().unwrap_or_else(PoisonError::into_inner).reopen();
                if let Err(error) = reopened {
                    tracing::error!(%error, "the audit file cannot be reopened");
                }
            }
            let buffer = if batch.lines.is_empty() { batch.lines } else { self.write(batch) };
            let mut state = self.state();
            state.writing = false;
            state.spare = buffer;
            if state.flushing {
                self.written.notify_all();
            }
        }
    }

    fn dropped(&self, events: u64) {
        let mut drops = self.drops();
        drops.total = drops.total.saturating_add(events);
        drop(drops);
        self.report_drops(false);
    }

    fn report_drops(&self, at_once: bool) {
        let now = self.clock.monotonic();
        let mut drops = self.drops();
        let due = drops.reported_at.is_none_or(|at| now.saturating_sub(at) >= DROP_REPORT_PAUSE);
        let dropped = drops.total.saturating_sub(drops.reported);
        if dropped > 0 && (due || at_once) {
            drops.reported = drops.total;
            drops.reported_at = Some(now);
            tracing::error!(dropped, total = drops.total, "audit events were dropped: they could not be written");
        }
    }
}

/// The destination of the lines.
trait JournalOutput: Send {
    /// Writes whole lines; returns when the operating system has them.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
    /// Opens the file that has the same name now.
    fn reopen(&mut self) -> io::Result<()>;
    /// Whether a write of this many bytes would not block, as it does on a full pipe until its reader reads.
    fn takes(&self, _bytes: usize) -> bool {
        false
    }
}

impl JournalOutput for AuditFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        AuditFile::write(self, lines)
    }

    fn reopen(&mut self) -> io::Result<()> {
        AuditFile::reopen(self)
    }

    fn takes(&self, _bytes: usize) -> bool {
        self.is_regular()
    }
}

struct StandardError {
    torn: bool,
    is_regular: bool,
}

impl Default for StandardError {
    fn default() -> Self {
        Self { torn: false, is_regular: console::error_output_is_file() }
    }
}

impl JournalOutput for StandardError {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        append(&mut DirectErrorWriter::lock(), &mut self.torn, lines)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn takes(&self, bytes: usize) -> bool {
        self.is_regular || (bytes <= PIPE_BYTES && console::error_output_has_room())
    }
}

#[cfg(test)]
mod tests;
