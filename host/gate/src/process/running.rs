//! One process while it runs: its tasks, its end, and what clients ask of it.
//!
//! A task each reads, writes and logs; another one watches over the process and ends it. All of them end with the process,
//! and the process ends with them: dropping the runtime kills it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entra_mcp_plugin::clock::{self, Clock};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::bridge::{BegunRequest, Bridge, MessageOutcome};
use super::command::{ProcessGroup, Started};
use super::lines::{Line, Lines, ProcessLog};
use super::message::{Object, cancelled, compact};
use super::owner::ProcessOwner;
use super::settings::{
    END_WITHIN, MAX_LINE_BYTES, MAX_LOGGED_BYTES, MAX_QUEUED_MESSAGES, MAX_UNREAD_MESSAGES, RESUME_WITHIN,
};
use super::stream::{Absence, Stream};
use super::tokens::{TokenFile, TokenFileError};

/// A process, for one person and one client, in one session or in none.
pub(super) struct Process {
    number: u64,
    owner: ProcessOwner,
    session: Option<String>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    state: Mutex<State>,
    input: mpsc::Sender<String>,
    /// Messages that nothing waits with: no client for a cancellation, and not the task that reads the process for a refusal
    /// of what it asks. If that task waited, a process that waits to be read would never read again.
    unawaited: mpsc::Sender<String>,
    token: Option<TokenFile>,
    /// The process is to end.
    stop: watch::Sender<bool>,
}

struct State {
    bridge: Bridge,
    /// Calls that are about to begin a request, or to open a stream.
    pins: usize,
    last_used: Duration,
    /// No request begins any more.
    over: bool,
}

/// Why a request cannot begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The process has ended, or is about to.
    Over,
    /// There are too many requests in flight.
    Full,
}

/// What the process is made of.
pub(super) struct ProcessParts {
    pub(super) number: u64,
    pub(super) owner: ProcessOwner,
    pub(super) session: Option<String>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) idle: Duration,
    pub(super) token: Option<TokenFile>,
    pub(super) log: ProcessLog,
}

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessEnd {
    /// It was told to.
    Stopped,
    /// It did so by itself.
    Crashed,
}

impl Process {
    /// Begins to talk with a process that has started. `ended` is called when it and its children are gone.
    pub(super) fn run(parts: ProcessParts, started: Started, ended: impl FnOnce(ProcessEnd) + Send + 'static) -> Pin {
        let ProcessParts { number, owner, session, clock, idle, token, log } = parts;
        let (input, queue) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (unawaited, others) = mpsc::channel(MAX_UNREAD_MESSAGES);
        let (stop, stopped) = watch::channel(false);
        let state = State {
            bridge: Bridge::new(number, session.is_some()),
            pins: 0,
            last_used: clock.monotonic(),
            over: false,
        };
        let state = Mutex::new(state);
        let runtime = Handle::current();
        let process = Arc::new(Self { number, owner, session, clock, runtime, state, input, unawaited, token, stop });
        let pin = process.pinned();
        let Started { group, input, output, errors } = started;
        let log = Arc::new(log);
        let writer = tokio::spawn(write(input, queue, others));
        let reader = tokio::spawn(read(Lines::new(output, MAX_LINE_BYTES), Arc::clone(&process), Arc::clone(&log)));
        let logger = tokio::spawn(log_errors(Lines::new(errors, 2 * MAX_LOGGED_BYTES), log));
        let tasks = Tasks { writer, reader, logger };
        tokio::spawn(async move {
            let end = process.watch(group, stopped, idle, tasks).await;
            ended(end);
        });
        pin
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn owner(&self) -> &ProcessOwner {
        &self.owner
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    pub(super) fn last_used(&self) -> Duration {
        self.lock().last_used
    }

    /// Keeps the process from being ended as idle.
    pub(super) fn pin(self: &Arc<Self>) -> Result<Pin, Unfit> {
        if self.lock().over { Err(Unfit::Over) } else { Ok(self.pinned()) }
    }

    fn pinned(self: &Arc<Self>) -> Pin {
        let mut state = self.lock();
        state.pins = state.pins.saturating_add(1);
        drop(state);
        Pin { process: Arc::clone(self) }
    }

    /// Whether the process has ended, or is about to.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Ends the process.
    pub(super) fn stop(&self) {
        self.lock().over = true;
        self.stop.send_replace(true);
    }

    /// Whether no request is in flight or about to be, so that the process may give way to another one.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        !state.over && state.pins == 0 && state.bridge.is_idle()
    }

    /// Ends the process if it is idle. `listeners`: even if a client listens with GET.
    pub(super) fn stop_if_idle(&self, listeners: bool) -> bool {
        let mut state = self.lock();
        let in_use = state.pins > 0 || !state.bridge.is_idle() || (!listeners && state.bridge.has_listener());
        if in_use || state.over {
            return false;
        }
        state.over = true;
        drop(state);
        self.stop.send_replace(true);
        true
    }

    /// Renews the token that the process has, if it has one and it is old.
    pub(super) async fn renew_token(&self, handle: &str) -> Result<(), TokenFileError> {
        match &self.token {
            Some(token) => token.requested(handle).await,
            None => Ok(()),
        }
    }

    /// Sends a request of a client to the process. It ends when the result is dropped.
    pub(super) async fn request(
        self: &Arc<Self>,
        object: Object<'_>,
        id: &str,
        method: &str,
        accepts_events: bool,
    ) -> Result<Flight, Unfit> {
        let begun = {
            let mut state = self.lock();
            if state.over {
                return Err(Unfit::Over);
            }
            state.last_used = self.clock.monotonic();
            state.bridge.begin(object, id, method, accepts_events).map_err(|_| Unfit::Full)?
        };
        let BegunRequest { number, stream, line } = begun;
        let flight = Flight { process: Arc::clone(self), number, stream, released: false };
        // A process that has ended has also answered the request, with an error.
        let _ = self.input.send(line).await;
        Ok(flight)
    }

    /// Sends a notification of a client.
    pub(super) async fn notify(&self, object: Object<'_>, method: &str) -> Result<(), Unfit> {
        let line = {
            let mut state = self.lock();
            if state.over {
                return Err(Unfit::Over);
            }
            state.last_used = self.clock.monotonic();
            state.bridge.notify(object, method)
        };
        self.send(line).await
    }

    /// Sends the answer of a client to a request of the process.
    pub(super) async fn answer(&self, object: Object<'_>, id: &str) -> Result<(), Unfit> {
        let line = {
            let mut state = self.lock();
            if state.over {
                return Err(Unfit::Over);
            }
            state.last_used = self.clock.monotonic();
            state.bridge.answered(object, id)
        };
        self.send(line).await
    }

    async fn send(&self, line: Option<String>) -> Result<(), Unfit> {
        match line {
            Some(line) => self.input.send(line).await.map_err(|_| Unfit::Over),
            None => Ok(()),
        }
    }

    /// A stream that a client can read with GET. 0 is the one of the session.
    pub(super) fn stream(&self, number: u64) -> Option<Arc<Stream>> {
        let mut state = self.lock();
        state.last_used = self.clock.monotonic();
        state.bridge.stream(number)
    }

    /// The client of this stream is gone. If it does not come back in time, its request is cancelled.
    pub(super) fn left(self: &Arc<Self>, stream: Arc<Stream>) {
        if !stream.leave(self.clock.monotonic()) {
            return;
        }
        let process = Arc::clone(self);
        self.runtime.spawn(async move {
            loop {
                match stream.absence(process.clock.monotonic(), RESUME_WITHIN) {
                    Absence::Over => return,
                    Absence::Final => return process.abandon(stream.number()),
                    Absence::Until(deadline) => process.clock.sleep_until(deadline).await,
                }
            }
        });
    }

    /// Ends a request that no client waits for.
    fn abandon(&self, number: u64) {
        let abandoned = {
            let mut state = self.lock();
            state.last_used = self.clock.monotonic();
            state.bridge.abandon(number)
        };
        match abandoned {
            None => {}
            // `initialize` cannot be cancelled. Without its answer, no client knows of the session.
            Some(true) => self.stop(),
            Some(false) => self.send_unawaited(cancelled(number)),
        }
    }

    /// Sends a message without waiting for the process, and ends one that does not read.
    fn send_unawaited(&self, line: String) {
        match self.unawaited.try_send(line) {
            // A process that has ended needs none.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(process = self.number, "the server does not read its standard input: it is ended");
                self.stop();
            }
        }
    }

    /// Watches over the process until it and its children have ended.
    async fn watch(
        self: Arc<Self>,
        mut group: ProcessGroup,
        mut stopped: watch::Receiver<bool>,
        idle: Duration,
        tasks: Tasks,
    ) -> ProcessEnd {
        let Tasks { mut writer, mut reader, logger } = tasks;
        let mut reader_ended = false;
        let end = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => ProcessEnd::Stopped,
            status = group.ended() => {
                tracing::warn!(process = self.number, status = ?status.and_then(|status| status.code()), "the server ended by itself");
                ProcessEnd::Crashed
            }
            _ = &mut reader => {
                tracing::warn!(process = self.number, "the server closed its standard output");
                reader_ended = true;
                ProcessEnd::Crashed
            }
            _ = &mut writer => {
                tracing::warn!(process = self.number, "the server closed its standard input");
                ProcessEnd::Crashed
            }
            () = self.wait_until_idle(idle) => ProcessEnd::Stopped,
            () = self.keep_token_fresh() => ProcessEnd::Stopped,
        };
        self.lock().over = true;
        let deadline = self.clock.monotonic().saturating_add(END_WITHIN);
        // The end of its input is what tells a server to end, where there are no signals.
        writer.abort();
        group.terminate();
        tokio::select! {
            _ = group.ended() => {}
            () = self.clock.sleep_until(deadline) => {}
        }
        // Children that are left, and the process itself if it is still there.
        group.kill();
        group.ended().await;
        if let Some(token) = &self.token {
            token.remove();
        }
        // What it wrote before its end. A child that has left the group may hold the pipe open.
        if !reader_ended {
            tokio::select! {
                _ = &mut reader => {}
                () = clock::sleep(&*self.clock, END_WITHIN) => reader.abort(),
            }
        }
        logger.abort();
        self.lock().bridge.end();
        end
    }

    /// Returns when the process was not used for so long, and no client can use it any more.
    async fn wait_until_idle(&self, idle: Duration) {
        loop {
            let now = self.clock.monotonic();
            let deadline = self.last_used().saturating_add(idle);
            if now >= deadline {
                if self.stop_if_idle(false) {
                    return;
                }
                // It is in use. The time counts from its last use, which is not over yet.
                self.lock().last_used = now;
                continue;
            }
            self.clock.sleep_until(deadline).await;
        }
    }

    async fn keep_token_fresh(&self) {
        match &self.token {
            Some(token) => token.keep_fresh().await,
            None => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use of a process that is about to begin, or goes on without a request.
pub(super) struct Pin {
    process: Arc<Process>,
}

impl Pin {
    pub(super) fn process(&self) -> &Arc<Process> {
        &self.process
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.process.lock();
        state.pins = state.pins.saturating_sub(1);
        state.last_used = self.process.clock.monotonic();
    }
}

/// A request in flight. Dropping it cancels the request, if it was not answered.
pub(super) struct Flight {
    process: Arc<Process>,
    number: u64,
    stream: Arc<Stream>,
    /// The request goes on without this.
    released: bool,
}

impl Flight {
    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The client is gone. If it knows an event of the stream, it may come back for the rest.
    pub(super) fn left(mut self, resumable: bool) {
        if resumable {
            self.released = true;
            self.process.left(Arc::clone(&self.stream));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.released {
            self.process.abandon(self.number);
        }
    }
}

struct Tasks {
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
    logger: JoinHandle<()>,
}

/// Writes messages, each as a line.
async fn write(mut input: ChildStdin, mut queue: mpsc::Receiver<String>, mut unawaited: mpsc::Receiver<String>) {
    loop {
        let mut line = tokio::select! {
            biased;
            Some(line) = queue.recv() => line,
            Some(line) = unawaited.recv() => line,
            else => return,
        };
        line.push('\n');
        if input.write_all(line.as_bytes()).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

/// Reads messages for as long as clients take them.
async fn read(mut lines: Lines<tokio::process::ChildStdout>, process: Arc<Process>, log: Arc<ProcessLog>) {
    while let Some(line) = lines.next().await {
        let outcome = match &line {
            Line::Text(text) if text.trim().is_empty() => continue,
            Line::Text(text) => process.lock().bridge.received(&compact(text)),
            Line::TooLong(ends) => {
                log.no_message(&line);
                process.lock().bridge.too_long(ends)
            }
            Line::NoText => MessageOutcome::NoMessage,
        };
        match outcome {
            MessageOutcome::Deliver { stream, message, last } => stream.push(message, last).await,
            MessageOutcome::Reply(line) => process.send_unawaited(line),
            MessageOutcome::End(stream) => stream.end(),
            MessageOutcome::Drop => {
                tracing::debug!(process = process.number, "a message belongs to no request in flight")
            }
            // Logged already.
            MessageOutcome::NoMessage if matches!(line, Line::TooLong(_)) => {}
            MessageOutcome::NoMessage => log.no_message(&line),
        }
    }
}

async fn log_errors(mut lines: Lines<tokio::process::ChildStderr>, log: Arc<ProcessLog>) {
    while let Some(line) = lines.next().await {
        log.error_line(&line);
    }
}
