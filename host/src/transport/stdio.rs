//! MCP over standard input and output: one JSON-RPC message per line.
//!
//! Every message is a task of its own, so that a sign-in that waits for a person holds up nothing else. The
//! transport looks at no more of a message than it needs to route it: the id and the method. It answers by itself
//! only what never reaches the component: bytes that are no text, lines over the limit, and calls over the bound.

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
use crate::plugin::{Caller, error_answer};
use crate::random::{NoRandomness, Random, unguessable_id};

/// Longest message in bytes, unless set otherwise. Tool calls are under 10 KiB.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Calls at the same time, waiting ones included. Beyond, requests are answered as busy.
pub(crate) const MAX_CALLS: usize = 256;

/// Bytes of all messages that are being handled at the same time.
const MAX_CALL_BYTES: usize = 64 * 1024 * 1024;

/// How long reading pauses for a call to end before a request beyond the bound is answered as busy. A client that
/// sends many short requests at once is served, one whose calls all wait for somebody learns so soon.
const BURST_PATIENCE: Duration = Duration::from_millis(100);

/// Requests to the client that wait for an answer at the same time: at most one per waiting sign-in.
const MAX_PENDING_REQUESTS: usize = 64;

/// Lines that wait to be written. Beyond, whoever has another one waits.
const MAX_QUEUED_LINES: usize = 64;

/// How long requests in flight may take after the end of input or a signal. Clients kill a server that takes
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
    /// The client closed our input.
    Input,
    /// The client closed our output.
    Output,
    /// The `stop` future completed.
    Stopped,
}

/// Why the transport could not start.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// Ids of requests to the client have to be unguessable.
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
    let mut session = Session {
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

/// Writes whole lines, and flushes whenever no other is waiting. Ends with the queue, or when nobody reads.
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

/// What can be learned of a message without understanding it.
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

/// Where a message goes.
enum Route {
    /// To the component: a request (with its id), a notification, a batch, or garbage.
    Component { id: Option<String>, initialize: bool },
    /// To whoever waits for the answer to our request.
    Answer { id: String, answer: Result<String, String> },
    /// To nobody: it ends a call.
    Cancel { id: String },
}

fn route(message: &str) -> Route {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(message) else {
        return Route::Component { id: None, initialize: false };
    };
    let id = envelope.id.and_then(canonical);
    match (envelope.method.as_deref(), id, envelope.result, envelope.error) {
        (Some("notifications/cancelled"), None, ..) => match envelope.params.and_then(cancelled_id) {
            Some(id) => Route::Cancel { id },
            None => Route::Component { id: None, initialize: false },
        },
        (Some(method), id, ..) => Route::Component { initialize: method == "initialize" && id.is_some(), id },
        (None, Some(id), Some(result), None) => Route::Answer { id, answer: Ok(result.get().to_owned()) },
        (None, Some(id), None, Some(error)) => Route::Answer { id, answer: Err(error.get().to_owned()) },
        (None, id, ..) => Route::Component { id, initialize: false },
    }
}

/// The one spelling of an id: `"\u0061"` and `"a"` are the same. Ids are strings and numbers.
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
struct Call {
    id: Option<String>,
    bytes: usize,
    initialize: bool,
    abort: AbortHandle,
}

struct Session {
    handler: Arc<dyn Handler>,
    channel: Arc<StdioChannel>,
    lines: mpsc::Sender<String>,
    calls: HashMap<Id, Call>,
    ids: HashMap<String, Id>,
    tasks: JoinSet<()>,
    /// Closed when the last `initialize` has been answered.
    barrier: Option<watch::Receiver<()>>,
    /// A call has ended since the last request that was answered as busy.
    patient: bool,
}

impl Session {
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
                Ok(Some(Line::Message(bytes))) => match String::from_utf8(bytes) {
                    Ok(message) => self.message(message).await,
                    Err(_) => self.answer(error_answer("null", PARSE_ERROR, "the message is not UTF-8")).await,
                },
                Ok(Some(Line::TooLong)) => {
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
            Route::Component { id, initialize } => self.call(message, id, initialize).await,
            Route::Answer { id, answer } => self.channel.deliver(&id, answer),
            Route::Cancel { id } => self.cancel(&id),
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
            let caller = Caller::new("stdio");
            let answer = handler.handle(&message, &caller, channel).await;
            if let Some(answer) = answer.map(one_line) {
                // If nobody writes any more, nobody reads.
                let _ = lines.send(answer).await;
            }
            drop(initialized);
        });
        let task = abort.id();
        if let Some(id) = &id {
            self.ids.insert(id.clone(), task);
        }
        self.calls.insert(task, Call { id, bytes, initialize, abort });
    }

    /// Whether there is no room for another message of `bytes`.
    fn is_full(&self, bytes: usize) -> bool {
        let total = self.calls.values().fold(bytes, |total, call| total.saturating_add(call.bytes));
        self.calls.len() >= MAX_CALLS || (total > MAX_CALL_BYTES && !self.calls.is_empty())
    }

    /// Ends the call with the id `id`, which then is not answered.
    fn cancel(&self, id: &str) {
        let call = self.ids.get(id).and_then(|task| self.calls.get(task));
        match call {
            // The specification exempts it, and later messages wait for its answer.
            Some(call) if call.initialize => {}
            Some(call) => call.abort.abort(),
            // It has been answered already.
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
        // If nobody writes any more, nobody reads.
        let _ = self.lines.send(line).await;
    }

    /// Lets the calls in flight end within the grace, and cancels the others.
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

/// A message may contain line breaks between its tokens; on this transport they would end it.
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
enum Line {
    /// Without its line break.
    Message(Vec<u8>),
    /// It was skipped to its end.
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

    /// The next line that is not blank; `None` at the end. Dropping the future loses nothing.
    async fn next(&mut self) -> io::Result<Option<Line>> {
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

    fn end_line(&mut self) -> Option<Line> {
        if std::mem::take(&mut self.skipping) {
            return Some(Line::TooLong);
        }
        let line = std::mem::take(&mut self.partial);
        if line.iter().all(u8::is_ascii_whitespace) { None } else { Some(Line::Message(line)) }
    }
}

/// The way back to the client.
struct StdioChannel {
    clock: Arc<dyn Clock>,
    /// Makes ids unguessable: a tool's output that a client echoes must not pass for an answer.
    prefix: String,
    lines: mpsc::Sender<String>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Option<String>,
    closed: bool,
    next: u64,
    pending: HashMap<String, oneshot::Sender<Result<String, String>>>,
}

impl StdioChannel {
    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the answer with the (JSON) id `id` to who waits for it.
    fn deliver(&self, id: &str, answer: Result<String, String>) {
        match self.shared().pending.remove(id) {
            // Who waited may have given up in this moment.
            Some(waiting) => drop(waiting.send(answer)),
            None => tracing::debug!("an answer to no request of ours was ignored"),
        }
    }

    /// Nobody will answer any more.
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

/// A request to the client that waits; when it is given up, the client is told.
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
                // Best effort: a client that reads so slowly has other worries.
                let _ = self.channel.lines.try_send(line);
            }
        }
    }
}

#[async_trait]
impl ClientChannel for StdioChannel {
    async fn notify(&self, method: &str, params: &str) {
        if let Some(line) = Self::compose(None, method, params) {
            // If nobody writes any more, nobody reads.
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::io::{AsyncReadExt, BufReader, DuplexStream, Lines};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::clock::ManualClock;
    use crate::random::SystemRandomness;

    async fn lines_of(input: &[u8], max_bytes: usize) -> Vec<Line> {
        // A small buffer, so that lines arrive in parts.
        let mut reader = LineReader::new(BufReader::with_capacity(3, input), max_bytes);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    fn message(text: &str) -> Line {
        Line::Message(text.into())
    }

    #[tokio::test]
    async fn lines_are_split_and_blank_ones_left_out() {
        assert_eq!(lines_of(b"ab\n\n  \r\ncdefgh\n", 9).await, [message("ab"), message("cdefgh")]);
    }

    #[tokio::test]
    async fn the_last_line_may_lack_its_line_break() {
        assert_eq!(lines_of(b"ab\ncd", 9).await, [message("ab"), message("cd")]);
    }

    #[tokio::test]
    async fn a_line_at_the_limit_is_read_and_a_longer_one_skipped() {
        assert_eq!(lines_of(b"1234\n12345\n1\n", 4).await, [message("1234"), Line::TooLong, message("1")]);
        assert_eq!(lines_of(b"12345", 4).await, [Line::TooLong]);
    }

    /// What the fake component does with a message is in its `method`.
    struct Fake {
        calls: AtomicUsize,
        /// A permit lets one `wait` or `initialize` go on.
        gate: Semaphore,
    }

    impl Fake {
        fn open(&self) {
            self.gate.add_permits(1);
        }

        async fn wait(&self) {
            self.gate.acquire().await.unwrap().forget();
        }
    }

    #[async_trait]
    impl Handler for Fake {
        async fn handle(&self, message: &str, _: &Caller, channel: Arc<dyn ClientChannel>) -> Option<String> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let Ok(message) = serde_json::from_str::<Value>(message) else {
                return Some(error_answer("null", PARSE_ERROR, "garbage"));
            };
            let result = match message["method"].as_str()? {
                "echo" => message["params"].clone(),
                "pretty" => return Some(format!("{{\n\"id\":{}\r\n}}", message["id"])),
                "wait" | "initialize" => {
                    self.wait().await;
                    json!("waited")
                }
                "ask" => match channel.request("elicitation/create", r#"{"a":1}"#, Duration::from_secs(9)).await {
                    Ok(result) => serde_json::from_str(&result).unwrap(),
                    Err(error) => json!(format!("{error:?}")),
                },
                "notify" => {
                    channel.notify("notifications/progress", "{\n\"progress\":1}").await;
                    json!(null)
                }
                "remember" => {
                    let before = channel.state();
                    channel.set_state(message["params"].to_string());
                    json!(before)
                }
                "panic" => panic!("as asked"),
                _ => return None,
            };
            Some(json!({ "id": message["id"], "result": result }).to_string())
        }
    }

    struct Client {
        fake: Arc<Fake>,
        clock: ManualClock,
        input: DuplexStream,
        output: Lines<BufReader<DuplexStream>>,
        server: JoinHandle<End>,
        stop: Option<oneshot::Sender<()>>,
    }

    impl Client {
        fn connect() -> Self {
            let (fake, clock) =
                (Arc::new(Fake { calls: AtomicUsize::new(0), gate: Semaphore::new(0) }), ManualClock::new(0));
            let (input, server_input) = tokio::io::duplex(1 << 16);
            let (output, server_output) = tokio::io::duplex(1 << 16);
            let (stop, stopped) = oneshot::channel::<()>();
            let (handler, server_clock) = (Arc::clone(&fake), clock.clone());
            let server = tokio::spawn(async move {
                let stopped = async { drop(stopped.await) };
                let (random, input) = (SystemRandomness::default(), BufReader::new(server_input));
                serve(handler, Arc::new(server_clock), &random, input, server_output, 1_000, stopped).await.unwrap()
            });
            Self { fake, clock, input, output: BufReader::new(output).lines(), server, stop: Some(stop) }
        }

        async fn write(&mut self, bytes: &[u8]) {
            self.input.write_all(bytes).await.unwrap();
        }

        async fn send(&mut self, message: Value) {
            self.write(format!("{message}\n").as_bytes()).await;
        }

        async fn request(&mut self, id: u32, method: &str) {
            self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": {} })).await;
        }

        async fn receive(&mut self) -> Value {
            serde_json::from_str(&self.output.next_line().await.unwrap().unwrap()).unwrap()
        }

        /// Waits until the fake component has been called so often.
        async fn called(&self, times: usize) {
            while self.fake.calls.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        }

        /// Closes the input; returns what is still written, and how the server ended.
        async fn close(mut self) -> (Vec<Value>, End) {
            drop(self.input);
            let mut rest = Vec::new();
            while let Some(line) = self.output.next_line().await.unwrap() {
                rest.push(serde_json::from_str(&line).unwrap());
            }
            (rest, self.server.await.unwrap())
        }
    }

    fn error(id: Value, code: i32, message: &str) -> Value {
        json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
    }

    #[tokio::test]
    async fn a_waiting_request_does_not_hold_up_others() {
        let mut client = Client::connect();
        client.request(1, "wait").await;
        client.request(2, "echo").await;
        assert_eq!(client.receive().await["id"], 2);
        client.fake.open();
        assert_eq!(client.receive().await["id"], 1);
    }

    #[tokio::test]
    async fn messages_after_initialize_wait_for_its_answer() {
        let mut client = Client::connect();
        client.request(1, "initialize").await;
        client.request(2, "echo").await;
        client.called(1).await;
        tokio::task::yield_now().await;
        assert_eq!(client.fake.calls.load(Ordering::SeqCst), 1);
        client.fake.open();
        assert_eq!(client.receive().await["id"], 1);
        assert_eq!(client.receive().await["id"], 2);
    }

    #[tokio::test]
    async fn a_cancelled_request_is_not_answered() {
        let mut client = Client::connect();
        client.request(1, "wait").await;
        client.called(1).await;
        client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
        client.request(2, "echo").await;
        assert_eq!(client.receive().await["id"], 2);
        client.fake.open();
        assert_eq!(client.close().await, (vec![], End::Input));
    }

    #[tokio::test]
    async fn an_id_as_text_is_not_the_same_number() {
        let mut client = Client::connect();
        client.request(1, "wait").await;
        client.called(1).await;
        client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": "1" } })).await;
        client.request(2, "echo").await;
        client.receive().await;
        client.fake.open();
        assert_eq!(client.receive().await["id"], 1);
    }

    #[tokio::test]
    async fn initialize_cannot_be_cancelled() {
        let mut client = Client::connect();
        client.request(1, "initialize").await;
        client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
        client.fake.open();
        assert_eq!(client.receive().await["id"], 1);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_are_answered_and_the_connection_goes_on() {
        let mut client = Client::connect();
        client.write(b"\"\xff\xfe\"\n").await;
        assert_eq!(client.receive().await, error(Value::Null, -32700, "the message is not UTF-8"));
        client.request(1, "echo").await;
        assert_eq!(client.receive().await["id"], 1);
    }

    #[tokio::test]
    async fn an_overlong_line_is_answered_and_the_connection_goes_on() {
        let mut client = Client::connect();
        client.write(format!("{}\n", "x".repeat(5_000)).as_bytes()).await;
        assert_eq!(client.receive().await, error(Value::Null, -32600, "the message is longer than 1000 bytes"));
        client.request(1, "echo").await;
        assert_eq!(client.receive().await["id"], 1);
        assert_eq!(client.fake.calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn garbage_is_left_to_the_component() {
        let mut client = Client::connect();
        client.write(b"garbage\n").await;
        assert_eq!(client.receive().await, error(Value::Null, -32700, "garbage"));
    }

    #[tokio::test]
    async fn an_answer_with_line_breaks_is_written_on_one_line() {
        let mut client = Client::connect();
        client.request(7, "pretty").await;
        assert_eq!(client.output.next_line().await.unwrap().unwrap(), r#"{"id":7}"#);
        client.request(8, "notify").await;
        assert_eq!(
            client.output.next_line().await.unwrap().unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#
        );
    }

    #[tokio::test]
    async fn the_client_answers_our_request() {
        let mut client = Client::connect();
        client.request(1, "ask").await;
        let asked = client.receive().await;
        assert_eq!(asked["method"], "elicitation/create");
        assert_eq!(asked["params"], json!({ "a": 1 }));
        client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "accept" } })).await;
        assert_eq!(client.receive().await, json!({ "id": 1, "result": { "action": "accept" } }));
    }

    #[tokio::test]
    async fn the_client_refuses_our_request() {
        let mut client = Client::connect();
        client.request(1, "ask").await;
        let asked = client.receive().await;
        client.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "error": { "code": 1, "message": "no" } })).await;
        let refused = json!(r#"Refused("{\"code\":1,\"message\":\"no\"}")"#);
        assert_eq!(client.receive().await["result"], refused);
    }

    #[tokio::test]
    async fn ids_of_our_requests_cannot_be_guessed() {
        let mut client = Client::connect();
        client.request(1, "ask").await;
        let asked = client.receive().await;
        assert_eq!(asked["id"].as_str().unwrap().len(), 34);
        client.send(json!({ "jsonrpc": "2.0", "id": "0", "result": { "action": "accept" } })).await;
        client.send(json!({ "jsonrpc": "2.0", "id": 0, "result": { "action": "accept" } })).await;
        client.request(2, "echo").await;
        assert_eq!(client.receive().await["id"], 2);
    }

    #[tokio::test]
    async fn a_request_that_times_out_is_cancelled() {
        let mut client = Client::connect();
        client.request(1, "ask").await;
        let asked = client.receive().await;
        assert_eq!(client.clock.next_wait().await, Duration::from_secs(9));
        client.clock.advance(Duration::from_secs(9));
        let cancelled = client.receive().await;
        assert_eq!(cancelled["method"], "notifications/cancelled");
        assert_eq!(cancelled["params"]["requestId"], asked["id"]);
        assert_eq!(client.receive().await["result"], "TimedOut");
    }

    #[tokio::test]
    async fn a_request_of_a_call_that_is_cancelled_is_cancelled_too() {
        let mut client = Client::connect();
        client.request(1, "ask").await;
        let asked = client.receive().await;
        client.send(json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
        assert_eq!(client.receive().await["params"]["requestId"], asked["id"]);
    }

    #[tokio::test]
    async fn state_lasts_as_long_as_the_connection() {
        let mut client = Client::connect();
        client.request(1, "remember").await;
        assert_eq!(client.receive().await["result"], Value::Null);
        client.request(2, "remember").await;
        assert_eq!(client.receive().await["result"], "{}");
    }

    #[tokio::test]
    async fn more_requests_than_the_bound_are_answered_as_busy() {
        let mut client = Client::connect();
        for id in 0..MAX_CALLS {
            client.request(id.try_into().unwrap(), "wait").await;
        }
        client.request(999, "echo").await;
        let busy = error(json!(999), -32603, "busy: too many requests at the same time");
        assert_eq!(client.receive().await, busy);
        client.fake.open();
        client.receive().await;
        client.request(1_000, "echo").await;
        assert_eq!(client.receive().await["id"], 1_000);
    }

    #[tokio::test]
    async fn a_burst_of_short_requests_is_served() {
        let client = Client::connect();
        let burst: u32 = (MAX_CALLS * 4).try_into().unwrap();
        let lines: String = (0..burst).map(|id| format!("{{\"id\":{id},\"method\":\"echo\"}}\n")).collect();
        let Client { mut input, mut output, .. } = client;
        let writing = tokio::spawn(async move {
            input.write_all(lines.as_bytes()).await.unwrap();
            input
        });
        for _ in 0..burst {
            let answer: Value = serde_json::from_str(&output.next_line().await.unwrap().unwrap()).unwrap();
            assert!(answer.get("error").is_none(), "{answer}");
        }
        drop(writing.await.unwrap());
    }

    #[tokio::test]
    async fn a_call_that_panics_is_answered_as_internal_error() {
        let mut client = Client::connect();
        client.request(1, "panic").await;
        assert_eq!(client.receive().await, error(json!(1), -32603, "internal error"));
    }

    #[tokio::test]
    async fn requests_in_flight_are_answered_after_the_end_of_input() {
        let mut client = Client::connect();
        client.request(1, "wait").await;
        client.called(1).await;
        client.fake.open();
        let (rest, end) = client.close().await;
        assert_eq!((rest.len(), end), (1, End::Input));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_outlast_the_grace_are_cancelled() {
        let mut client = Client::connect();
        client.request(1, "wait").await;
        client.called(1).await;
        assert_eq!(client.close().await, (vec![], End::Input));
    }

    #[tokio::test]
    async fn our_request_fails_when_the_client_is_gone() {
        let mut client = Client::connect();
        client.request(1, "ask").await;
        client.receive().await;
        let (rest, end) = client.close().await;
        assert_eq!(rest, [json!({ "id": 1, "result": "Closed" })]);
        assert_eq!(end, End::Input);
    }

    #[tokio::test]
    async fn a_stop_ends_the_server() {
        let mut client = Client::connect();
        client.request(1, "echo").await;
        client.receive().await;
        drop(client.stop.take());
        assert_eq!(client.server.await.unwrap(), End::Stopped);
        let mut rest = String::new();
        client.output.into_inner().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "");
    }

    #[tokio::test]
    async fn a_client_that_closes_our_output_ends_the_server() {
        let mut client = Client::connect();
        drop(client.output);
        client.input.write_all(b"{\"id\":1,\"method\":\"echo\"}\n").await.unwrap();
        assert_eq!(client.server.await.unwrap(), End::Output);
    }
}
