//! The only place that writes to the standard streams directly.
//!
//! In stdio mode standard output belongs to MCP, and `transport/stdio.rs` alone writes to it; the functions here
//! serve the other commands.
//!
//! A thread of its own writes standard error. A client may ignore standard error, and even leave its pipe unread or
//! close it: a direct write would then block for ever, or panic. Here such lines are lost instead.
//!
//! Why this is not `tracing-appender`: if its queue is full when the program ends, it says so on standard output, which
//! would break the MCP connection at the one moment when its client reads slowly. It bounds lines and not bytes, does not
//! tell the reader of the log that lines are lost, and wakes its thread for every line.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of all texts that wait to be written to standard error. A start with a full log makes some hundred KiB.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// For how long after a write texts are gathered for the next one. A server that logs every request would else wake
/// the writing thread, and ask the operating system to write, once per request.
const GATHERING: Duration = Duration::from_millis(5);

/// How long the last texts may take to be written when the program ends.
const LAST_WRITES: Duration = Duration::from_millis(250);

/// Writes a line of a command's result to standard output. A closed pipe ends the output, not the program.
#[allow(clippy::disallowed_methods, reason = "the commands other than stdio write their results here")]
pub(crate) fn result(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Writes something that is meant for the person, not for a program, to standard error.
pub(crate) fn notice(line: &str) {
    error_output().push(format!("{line}\n").as_bytes());
}

/// Text that others have chosen, such as the name of a person, as a part of a line: it must not control the terminal, begin
/// another line, or turn the direction of what follows.
pub(crate) fn harmless(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}

/// Waits until everything is written to standard error, or until it seems that no process reads it.
pub(crate) fn flush() {
    error_output().flush(LAST_WRITES);
}

/// Standard error, for the log: every write is a whole line.
pub(crate) struct ErrorWriter;

impl Write for ErrorWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        error_output().push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, for text that must be known to be written: the writer waits, and learns of errors.
///
/// The log's thread takes the same lock for each of its writes, so the lines of the two do not mix.
pub(crate) struct DirectErrorWriter {
    #[cfg(not(unix))]
    stream: io::StderrLock<'static>,
    #[cfg(unix)]
    _turn: io::StderrLock<'static>,
}

impl DirectErrorWriter {
    pub(crate) fn lock() -> Self {
        #[cfg(not(unix))]
        return Self { stream: io::stderr().lock() };
        #[cfg(unix)]
        Self { _turn: io::stderr().lock() }
    }
}

impl Write for DirectErrorWriter {
    #[cfg(not(unix))]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    /// The standard library takes a stream that is closed for one that takes everything.
    #[cfg(unix)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard error is a file, which takes whatever it is given.
pub(crate) fn error_output_is_file() -> bool {
    #[cfg(unix)]
    let is_file = rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode) == rustix::fs::FileType::RegularFile);
    #[cfg(windows)]
    let is_file = {
        use std::os::windows::io::AsHandle as _;
        let stream = io::stderr().as_handle().try_clone_to_owned();
        stream.and_then(|stream| std::fs::File::from(stream).metadata()).is_ok_and(|found| found.is_file())
    };
    is_file
}

/// Whether standard error takes some bytes at once, as far as the operating system says.
pub(crate) fn error_output_has_room() -> bool {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stream = rustix::stdio::stderr();
        let mut asked = [PollFd::new(&stream, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&at_once)) == Ok(1) && asked.iter().all(|asked| asked.revents() == PollFlags::OUT)
    }
    #[cfg(not(unix))]
    false
}

fn error_output() -> &'static ConsoleOutput {
    static OUTPUT: OnceLock<ConsoleOutput> = OnceLock::new();
    OUTPUT.get_or_init(|| ConsoleOutput::start(io::stderr()))
}

/// A stream that never keeps its writers waiting.
struct ConsoleOutput {
    shared: Arc<ConsoleShared>,
}

#[derive(Default)]
struct ConsoleShared {
    queue: Mutex<Queue>,
    /// There is something to do for the thread that writes.
    filled: Condvar,
    /// Something has been written.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    texts: Vec<u8>,
    /// How many texts found no room since the last report of lost lines.
    lost: usize,
    /// Bytes that were taken in and that were written, since the start.
    accepted_bytes: usize,
    written_bytes: usize,
    /// The thread waits for texts, and not for more of them.
    resting: bool,
    /// Callers that wait until everything is written.
    flushing: usize,
}

impl ConsoleShared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write.
    fn next(&self) -> (Vec<u8>, usize) {
        let mut queue = self.queue();
        queue.resting = true;
        let nothing = |queue: &mut Queue| queue.texts.is_empty() && queue.lost == 0;
        let mut queue = self.filled.wait_while(queue, nothing).unwrap_or_else(PoisonError::into_inner);
        queue.resting = false;
        (mem::take(&mut queue.texts), mem::take(&mut queue.lost))
    }

    /// Counts what is written, then gathers more texts unless a caller is flushing.
    fn wrote(&self, bytes: usize) {
        let mut queue = self.queue();
        queue.written_bytes = queue.written_bytes.wrapping_add(bytes);
        if queue.flushing > 0 {
            self.written.notify_all();
        }
        drop(self.filled.wait_timeout_while(queue, GATHERING, |queue| queue.flushing == 0));
    }
}

impl ConsoleOutput {
    fn start(stream: impl Write + Send + 'static) -> Self {
        let shared = Arc::<ConsoleShared>::default();
        let writer = Arc::clone(&shared);
        // Without the thread nothing is written, and what does not fit is lost.
        let _ = thread::Builder::new().name("stderr".into()).spawn(move || write_all(stream, &writer));
        Self { shared }
    }

    fn push(&self, text: &[u8]) {
        let mut queue = self.shared.queue();
        // What is being written still counts.
        let waiting = queue.accepted_bytes.wrapping_sub(queue.written_bytes);
        if waiting.saturating_add(text.len()) > MAX_QUEUED_BYTES {
            queue.lost = queue.lost.saturating_add(1);
            return;
        }
        queue.accepted_bytes = queue.accepted_bytes.wrapping_add(text.len());
        queue.texts.extend_from_slice(text);
        if mem::take(&mut queue.resting) {
            self.shared.filled.notify_one();
        }
    }

    fn flush(&self, patience: Duration) {
        let mut queue = self.shared.queue();
        let wanted = queue.accepted_bytes;
        queue.flushing = queue.flushing.saturating_add(1);
        self.shared.filled.notify_one();
        // The difference is that of two counters that may have wrapped around.
        let unwritten = |queue: &mut Queue| wanted.wrapping_sub(queue.written_bytes).cast_signed() > 0;
        let waited = self.shared.written.wait_timeout_while(queue, patience, unwritten);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.flushing = queue.flushing.saturating_sub(1);
    }
}

fn write_all(mut stream: impl Write, shared: &ConsoleShared) {
    loop {
        let (texts, lost) = shared.next();
        // A failed write is ignored: a closed stream cannot carry the news that it is closed.
        if lost > 0 {
            let _ = writeln!(stream, "entra-mcp: {lost} lines of this log are lost: it was not read fast enough");
        }
        let _ = stream.write_all(&texts);
        shared.wrote(texts.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender};

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

    fn gated() -> (ConsoleOutput, SyncSender<()>, Arc<Mutex<Vec<u8>>>) {
        let (open, gate) = mpsc::sync_channel(0);
        let written = Arc::default();
        (ConsoleOutput::start(Gated { gate, written: Arc::clone(&written) }), open, written)
    }

    #[test]
    fn texts_are_written_in_order() {
        let (output, open, written) = gated();
        output.push(b"a\n");
        output.push(b"b\n");
        drop(open);
        output.flush(LONG);
        assert_eq!(*written.lock().unwrap(), b"a\nb\n");
    }

    #[test]
    fn unread_texts_are_bounded_and_counted() {
        let (output, open, written) = gated();
        for _ in 0..6 {
            output.push(&[b'x'; 1024 * 1024]);
        }
        output.flush(Duration::from_millis(1));
        drop(open);
        output.flush(LONG);
        let written = written.lock().unwrap();
        assert_eq!(written.iter().filter(|byte| **byte == b'x').count(), MAX_QUEUED_BYTES);
        assert!(written.ends_with(b"x"), "the loss is told before what is written next");
        assert!(String::from_utf8_lossy(&written).contains("entra-mcp: 2 lines of this log are lost"));
    }
}
