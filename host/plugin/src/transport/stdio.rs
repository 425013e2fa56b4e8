//! MCP over standard input and output: one JSON-RPC message per line.
//!
//! Every message has a task of its own, so that a sign-in that waits for a person blocks nothing else. The transport
//! reads only the parts of a message that routing needs: the id and the method. It answers only what never reaches the
//! component: bytes that are not text, lines over the limit, and calls over the bound.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};

use super::Handler;
use crate::client_channel::{ChannelError, ClientChannel};
use crate::clock::{self, Clock};
use crate::instance_pool::DEFAULT_MAX_INSTANCES;
use crate::plugin::{MessageContext, error_answer};
use crate::random::{NoRandomness, Random, unguessable_id};

/// Longest message in bytes, unless set otherwise. Tool calls are under 10 KiB.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Concurrent calls, including waiting ones. Further requests are answered as busy.
const MAX_CALLS: usize = DEFAULT_MAX_INSTANCES;

/// Total size in bytes of the messages in flight.
const MAX_CALL_BYTES: usize = 64 * 1024 * 1024;

/// How long reading pauses for a call to end before a request beyond the bound is answered as busy. A client that sends
/// many short requests at once is served; a client with calls that all wait for a person gets this answer soon.
const BURST_PATIENCE: Duration = Duration::from_millis(100);

/// Requests to the client that wait for an answer at the same time: at most one per waiting sign-in.
const MAX_PENDING_REQUESTS: usize = 64;

/// Lines that wait to be written. A task with another line waits for room.
const MAX_QUEUED_LINES: usize = 64;

/// How long requests in flight may take after the end of the input or a signal. Clients kill a server that takes
/// longer than two seconds or so.
const GRACE: Duration = Duration::from_millis(1_500);

/// How long the last lines may take to be written to a client that reads slowly.
const LAST_WRITES: Duration = Duration::from_millis(500);

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const INTERNAL_ERROR: i32 = -32603;

/// Why the transport ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed standard input.
    Input,
    /// The client closed standard output.
    Output,
    /// The `stop` future completed.
    Stopped,
}

/// Why the transport could not start.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The transport cannot generate unguessable ids for its requests to the client.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Serves one client until it closes the connection or `stop` completes.
pub async fn serve(
    handler: Arc<dyn Handler>,
    clock: Arc<dyn Clock>,
    random: &dyn Random,
    input: impl AsyncBufRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
    max_message_bytes: usize,
    stop: impl Future<Output = ()>,
) -> Result<End, StdioError> {
    let (lines, queue) = mpsc::channel(MAX_QUEUED_LINES);
    let mut writer = tokio::spawn(write_lines(output, queue));
    let channel = Arc::new(StdioChannel {
        clock,
        prefix: unguessable_id(random)?,
        lines: lines.clone(),
        shared: Mutex::default(),
    });
    let mut session = StdioSession {
        handler,
        channel,
        lines,
        calls: HashMap::new(),
        ids: HashMap::new(),
        tasks: JoinSet::new(),
        barrier: None,
        patient: true,
    };
    let mut input = LineReader::new(input, max_message_bytes);
    let end = tokio::select! {
        end = session.read(&mut input) => end,
        _ = &mut writer => End::Output,
        () = stop => End::Stopped,
    };
    session.finish(end).await;
    finish_writing(writer).await;
    Ok(end)
}

async fn finish_writing(mut writer: JoinHandle<()>) {
    if !writer.is_finished() && tokio::time::timeout(LAST_WRITES, &mut writer).await.is_err() {
        tracing::warn!("the client does not read: the last answers are lost");
        writer.abort();
    }
}

/// Writes whole lines, and flushes whenever no other line is waiting. Ends with the queue, or when the client stops
/// reading.
async fn write_lines(mut output: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<String>) {
    while let Some(mut line) = queue.recv().await {
        line.push('\n');
        let mut written = output.write_all(line.as_bytes()).await;
        if written.is_ok() && queue.is_empty() {
            written = output.flush().await;
        }
        if let Err(error) = written {
            tracing::info!(%error, "the client closed the connection");
            return;
        }
    }
}

/// What routing needs to know of a message.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The destination of a message.
enum MessageRoute {
    /// To the component: a request (with its id), a notification, a batch, or garbage.
    Component { id: Option<String>, initialize: bool },
    /// The task that waits for the answer to a request of the server.
    Answer { id: String, answer: Result<String, String> },
    /// No task: the message ends a call.
    Cancel { id: String },
}

fn route(message: &str) -> MessageRoute {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(message) else {
        return MessageRoute::Component { id: None, initialize: false };
    };
    let id = envelope.id.and_then(canonical);
    match (envelope.method.as_deref(), id, envelope.result, envelope.error) {
        (Some("notifications/cancelled"), None, ..) => match envelope.params.and_then(cancelled_id) {
            Some(id) => MessageRoute::Cancel { id },
            None => MessageRoute::Component { id: None, initialize: false },
        },
        (Some(method), id, ..) => MessageRoute::Component { initialize: method == "initialize" && id.is_some(), id },
        (None, Some(id), Some(result), None) => MessageRoute::Answer { id, answer: Ok(result.get().to_owned()) },
        (None, Some(id), None, Some(error)) => MessageRoute::Answer { id, answer: Err(error.get().to_owned()) },
        (None, id, ..) => MessageRoute::Component { id, initialize: false },
    }
}

/// The canonical spelling of an id: `"\u0061"` and `"a"` are the same. Ids are strings and numbers.
fn canonical(id: &RawValue) -> Option<String> {
    match serde_json::from_str(id.get()) {
        Ok(id @ (Value::String(_) | Value::Number(_))) => Some(id.to_string()),
        _ => None,
    }
}

fn cancelled_id(params: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "requestId")]
        request_id: &'a RawValue,
    }
    canonical(serde_json::from_str::<Params<'_>>(params.get()).ok()?.request_id)
}

/// A message that is being handled.
struct PendingCall {
    id: Option<String>,
    bytes: usize,
    initialize: bool,
    abort: AbortHandle,
}

struct StdioSession {
    handler: Arc<dyn Handler>,
    channel: Arc<StdioChannel>,
    lines: mpsc::Sender<String>,
    calls: HashMap<Id, PendingCall>,
    ids: HashMap<String, Id>,
    tasks: JoinSet<()>,
    /// Closed when the last `initialize` has been answered.
    barrier: Option<watch::Receiver<()>>,
    /// A call has ended since the last answer "busy".
    patient: bool,
}

impl StdioSession {
    /// Reads messages until the input ends. May be dropped at any point.
    async fn read(&mut self, input: &mut LineReader<impl AsyncBufRead + Unpin>) -> End {
        loop {
            let line = tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.ended(ended).await;
                    continue;
                }
                line = input.next() => line,
            };
            match line {
                Ok(Some(InputLine::Message(bytes))) => match String::from_utf8(bytes) {
                    Ok(message) => self.message(message).await,
                    Err(_) => self.answer(error_answer("null", PARSE_ERROR, "the message is not UTF-8")).await,
                },
                Ok(Some(InputLine::TooLong)) => {
                    let text = format!("the message is longer than {} bytes", input.max_bytes);
                    self.answer(error_answer("null", INVALID_REQUEST, &text)).await;
                }
                Ok(None) => return End::Input,
                Err(error) => {
                    tracing::warn!(%error, "standard input cannot be read");
                    return End::Input;
                }
            }
        }
    }

    async fn message(&mut self, message: String) {
        match route(&message) {
            MessageRoute::Component { id, initialize } => self.call(message, id, initialize).await,
            MessageRoute::Answer { id, answer } => self.channel.deliver(&id, answer),
            MessageRoute::Cancel { id } => self.cancel(&id),
        }
    }

    async fn call(&mut self, message: String, id: Option<String>, initialize: bool) {
        let bytes = message.len();
        while self.is_full(bytes) && self.patient {
            match tokio::time::timeout(BURST_PATIENCE, self.tasks.join_next_with_id()).await {
                Ok(Some(ended)) => self.ended(ended).await,
                _ => self.patient = false,
            }
        }
        if self.is_full(bytes) {
            tracing::warn!(calls = self.calls.len(), "too many calls at the same time");
            if let Some(id) = id {
                self.answer(error_answer(&id, INTERNAL_ERROR, "busy: too many requests at the same time")).await;
            }
            return;
        }
        let before = self.barrier.clone();
        let initialized = initialize.then(|| {
            let (sender, receiver) = watch::channel(());
            self.barrier = Some(receiver);
            sender
        });
        let (handler, channel, lines) = (Arc::clone(&self.handler), Arc::clone(&self.channel), self.lines.clone());
        let abort = self.tasks.spawn(async move {
            if let Some(mut before) = before {
                // Nothing is ever sent: this waits for the other end to be dropped.
                while before.changed().await.is_ok() {}
            }
            let context = MessageContext::new("stdio");
            let answer = handler.handle(&message, &context, channel).await;
            if let Some(answer) = answer.map(one_line) {
                // If the writer has ended, no client reads.
                let _ = lines.send(answer).await;
            }
            drop(initialized);
        });
        let task = abort.id();
        if let Some(id) = &id {
            self.ids.insert(id.clone(), task);
        }
        self.calls.insert(task, PendingCall { id, bytes, initialize, abort });
    }

    /// Whether there is no room for another message of `bytes`.
    fn is_full(&self, bytes: usize) -> bool {
        let total = self.calls.values().fold(bytes, |total, call| total.saturating_add(call.bytes));
        self.calls.len() >= MAX_CALLS || (total > MAX_CALL_BYTES && !self.calls.is_empty())
    }

    /// Cancels the call with the id `id`, which then has no answer.
    fn cancel(&self, id: &str) {
        let call = self.ids.get(id).and_then(|task| self.calls.get(task));
        match call {
            // The specification exempts it, and later messages wait for its answer.
            Some(call) if call.initialize => {}
            Some(call) => call.abort.abort(),
            // The call has its answer already.
            None => {}
        }
    }

    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (task, panicked) = match ended {
            Ok((task, ())) => (task, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        self.patient = true;
        let Some(call) = self.calls.remove(&task) else { return };
        let Some(id) = call.id else { return };
        if self.ids.get(&id) == Some(&task) {
            self.ids.remove(&id);
        }
        if panicked {
            self.answer(error_answer(&id, INTERNAL_ERROR, "internal error")).await;
        }
    }

    async fn answer(&self, line: String) {
        // If the writer has ended, no client reads.
        let _ = self.lines.send(line).await;
    }

    /// Lets the calls in flight end within the grace period, and cancels the others.
    async fn finish(mut self, end: End) {
        self.channel.close();
        if end != End::Output {
            let all = async { while self.tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(GRACE, all).await.is_err() {
                tracing::info!(calls = self.tasks.len(), "calls in flight are cancelled");
            }
        }
        self.tasks.shutdown().await;
    }
}

/// Removes line breaks between the tokens of a message: on this transport they would end it.
fn one_line(message: String) -> String {
    if !message.contains(['\n', '\r']) {
        return message;
    }
    match serde_json::from_str::<Value>(&message) {
        Ok(value) => value.to_string(),
        Err(error) => {
            tracing::error!(%error, "the component returned something that is no JSON");
            error_answer("null", INTERNAL_ERROR, "internal error")
        }
    }
}

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
enum InputLine {
    /// Without its line break.
    Message(Vec<u8>),
    /// The line was skipped to its end.
    TooLong,
}

/// Splits the input into lines, with a limit.
struct LineReader<R> {
    input: R,
    max_bytes: usize,
    partial: Vec<u8>,
    skipping: bool,
}

impl<R: AsyncBufRead + Unpin> LineReader<R> {
    fn new(input: R, max_bytes: usize) -> Self {
        Self { input, max_bytes, partial: Vec::new(), skipping: false }
    }

    /// The next line that is not blank; `None` at the end of the input. Dropping the future loses nothing.
    async fn next(&mut self) -> io::Result<Option<InputLine>> {
        loop {
            let available = match self.input.fill_buf().await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                // The last line may lack its line break.
                return Ok(self.end_line());
            }
            let (part, ends) = match available.iter().position(|byte| *byte == b'\n') {
                Some(at) => (available.get(..at).unwrap_or_default(), true),
                None => (available, false),
            };
            let consumed = part.len() + usize::from(ends);
            if !self.skipping {
                if self.partial.len().saturating_add(part.len()) > self.max_bytes {
                    self.skipping = true;
                    self.partial = Vec::new();
                } else {
                    self.partial.extend_from_slice(part);
                }
            }
            self.input.consume(consumed);
            if ends && let Some(line) = self.end_line() {
                return Ok(Some(line));
            }
        }
    }

    fn end_line(&mut self) -> Option<InputLine> {
        if std::mem::take(&mut self.skipping) {
            return Some(InputLine::TooLong);
        }
        let line = std::mem::take(&mut self.partial);
        if line.iter().all(u8::is_ascii_whitespace) { None } else { Some(InputLine::Message(line)) }
    }
}

/// The channel back to the client.
struct StdioChannel {
    clock: Arc<dyn Clock>,
    /// Makes ids unguessable: output of a tool that a client echoes must not pass for an answer.
    prefix: String,
    lines: mpsc::Sender<String>,
    shared: Mutex<ChannelState>,
}

#[derive(Default)]
struct ChannelState {
    state: Option<String>,
    closed: bool,
    next: u64,
    pending: HashMap<String, oneshot::Sender<Result<String, String>>>,
}

impl StdioChannel {
    fn shared(&self) -> std::sync::MutexGuard<'_, ChannelState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the answer with the (JSON) id `id` to the task that waits for it.
    fn deliver(&self, id: &str, answer: Result<String, String>) {
        match self.shared().pending.remove(id) {
            // The task may have given up at this moment.
            Some(waiting) => drop(waiting.send(answer)),
            None => tracing::debug!("an answer without a request was ignored"),
        }
    }

    /// There will be no further answers.
    fn close(&self) {
        let mut shared = self.shared();
        shared.closed = true;
        shared.pending.clear();
    }

    /// A JSON-RPC message on one line; `None` if the component's `params` are no JSON object or array.
    fn compose(id: Option<&str>, method: &str, params: &str) -> Option<String> {
        let params: Value = serde_json::from_str(params).ok()?;
        if !params.is_object() {
            tracing::error!(method, "the component sent parameters that are no object");
            return None;
        }
        let mut message = serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params });
        if let (Some(id), Some(object)) = (id, message.as_object_mut()) {
            object.insert("id".into(), id.into());
        }
        Some(message.to_string())
    }
}

/// A pending request to the client. When it is given up, the client is notified.
struct Waiting<'a> {
    channel: &'a StdioChannel,
    id: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let key = Value::from(self.id.as_str()).to_string();
        if self.channel.shared().pending.remove(&key).is_some() {
            let params = serde_json::json!({ "requestId": self.id, "reason": "no longer needed" }).to_string();
            if let Some(line) = StdioChannel::compose(None, "notifications/cancelled", &params) {
                // Best effort: the notification may be lost if the client reads too slowly.
                let _ = self.channel.lines.try_send(line);
            }
        }
    }
}

#[async_trait]
impl ClientChannel for StdioChannel {
    async fn notify(&self, method: &str, params: &str) {
        if let Some(line) = Self::compose(None, method, params) {
            // If the writer has ended, no client reads.
            let _ = self.lines.send(line).await;
        }
    }

    async fn request(&self, method: &str, params: &str, timeout: Duration) -> Result<String, ChannelError> {
        let (waiting, answer) = {
            let mut shared = self.shared();
            if shared.closed {
                return Err(ChannelError::Closed);
            }
            if shared.pending.len() >= MAX_PENDING_REQUESTS {
                return Err(ChannelError::Unsupported);
            }
            let id = format!("{}-{}", self.prefix, shared.next);
            shared.next = shared.next.wrapping_add(1);
            let (sender, answer) = oneshot::channel();
            shared.pending.insert(Value::from(id.as_str()).to_string(), sender);
            (Waiting { channel: self, id }, answer)
        };
        let line = Self::compose(Some(&waiting.id), method, params).ok_or(ChannelError::Unsupported)?;
        if self.lines.send(line).await.is_err() {
            return Err(ChannelError::Closed);
        }
        tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(answer) => answer.map_err(ChannelError::Refused),
                Err(_) => Err(ChannelError::Closed),
            },
            () = clock::sleep(&*self.clock, timeout) => Err(ChannelError::TimedOut),
        }
    }

    fn state(&self) -> Option<String> {
        self.shared().state.clone()
    }

    fn set_state(&self, value: String) {
        self.shared().state = Some(value);
    }
}

#[cfg(test)]
mod tests;
