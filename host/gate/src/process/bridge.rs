//! Which message belongs to which request: the ids of clients become unique ones towards the process, and back.
//!
//! - A request gets a number of its own, which replaces its id and its progress token. Two clients of one process cannot
//!   meet in an id, and progress finds the request that it belongs to.
//! - A request of the process gets an id that no other process uses, so that its answer cannot reach another one.
//! - A notification goes to the request that it names (progress token, subscription id). Others go to the client's GET
//!   stream; else to the only request in flight, if there is just one; else they wait for a GET stream, within bounds.
//!   A process without a session has no GET stream: there, they are dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::lines::Ends;
use super::message::{MessageKind, Object, error, id_of_answer, json_text, same_id};
use super::settings::{MAX_ASKED, MAX_IN_FLIGHT, MAX_KEPT_STREAM_BYTES, MAX_KEPT_STREAMS};
use super::stream::Stream;

/// Where a request of 2026-07-28 and its subscription are named in a notification, or in the answer.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The server ended before it answered.
const INTERNAL_ERROR: i32 = -32603;

/// The messages in flight between one process and its clients.
pub(super) struct Bridge {
    /// Of the process, for the ids of its requests.
    process: u64,
    /// Whether the client has a session, and with it event ids and a GET stream.
    pub(super) session: Option<Arc<Stream>>,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    /// Requests of the process by the id that the client knows.
    asked: HashMap<String, Asked>,
    next_asked: u64,
    /// Streams that have ended, newest last.
    ended: VecDeque<Arc<Stream>>,
}

struct Pending {
    /// As the client wrote it.
    id: String,
    progress_token: Option<String>,
    initialize: bool,
    /// Whether the client accepts more than the answer.
    accepts_events: bool,
    stream: Arc<Stream>,
}

struct Asked {
    /// As the process wrote it.
    id: String,
    stream: Arc<Stream>,
}

/// There are too many requests in flight.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A request on its way.
pub(super) struct BegunRequest {
    pub(super) number: u64,
    pub(super) stream: Arc<Stream>,
    /// For the process.
    pub(super) line: String,
}

/// What becomes of a message of the process.
#[derive(Debug)]
pub(super) enum MessageOutcome {
    /// It goes to a client.
    Deliver { stream: Arc<Stream>, message: String, last: bool },
    /// The process gets an answer to its request.
    Reply(String),
    /// The server ended a subscription.
    End(Arc<Stream>),
    /// It belongs to nothing that is in flight.
    Drop,
    /// It is no message.
    NoMessage,
}

impl Bridge {
    pub(super) fn new(process: u64, session: bool) -> Self {
        Self {
            process,
            session: session.then(Stream::of_session),
            next: 1,
            pending: BTreeMap::new(),
            asked: HashMap::new(),
            next_asked: 1,
            ended: VecDeque::new(),
        }
    }

    /// Whether no request is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a client listens with GET.
    pub(super) fn has_listener(&self) -> bool {
        self.session.as_ref().is_some_and(|stream| stream.has_reader())
    }

    /// A request of a client.
    pub(super) fn begin(
        &mut self,
        mut object: Object<'_>,
        id: &str,
        method: &str,
        accepts_events: bool,
    ) -> Result<BegunRequest, Full> {
        if self.pending.len() >= MAX_IN_FLIGHT {
            return Err(Full);
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        let progress_token = object.inner(&["params", "_meta"], "progressToken");
        object.set("id", number.to_string());
        object.set_inner(&["params", "_meta"], "progressToken", number.to_string());
        let stream = Stream::of_request(number, self.session.is_some());
        let initialize = method == "initialize";
        let pending =
            Pending { id: id.to_owned(), progress_token, initialize, accepts_events, stream: Arc::clone(&stream) };
        self.pending.insert(number, pending);
        Ok(BegunRequest { number, stream, line: object.to_string() })
    }

    /// The client does not wait for the answer any more. `None`: it has been answered. Else, whether it was `initialize`.
    pub(super) fn abandon(&mut self, number: u64) -> Option<bool> {
        let pending = self.pending.remove(&number)?;
        pending.stream.end();
        // No client can answer what was asked there.
        self.asked.retain(|_, asked| asked.stream.number() != number);
        self.keep(pending.stream);
        Some(pending.initialize)
    }

    /// A notification of a client, as the process understands it. `None`: it is about nothing that is in flight.
    pub(super) fn notify(&self, mut object: Object<'_>, method: &str) -> Option<String> {
        if method == "notifications/cancelled" {
            let id = object.inner(&["params"], "requestId")?;
            let mut named = self.pending.iter().filter(|(_, pending)| same_id(&pending.id, &id) && !pending.initialize);
            let (number, _) = named.next()?;
            // Two clients of one person may use the same id. It is not known which one means what.
            if named.next().is_some() {
                return None;
            }
            object.set_inner(&["params"], "requestId", number.to_string());
        }
        Some(object.to_string())
    }

    /// The answer of a client to a request of the process. `None`: there is no such request.
    pub(super) fn answered(&mut self, mut object: Object<'_>, id: &str) -> Option<String> {
        let id: String = serde_json::from_str(id).ok()?;
        let asked = self.asked.remove(&id)?;
        object.set("id", asked.id);
        Some(object.to_string())
    }

    /// A line of the process. It is compact.
    pub(super) fn received(&mut self, text: &str) -> MessageOutcome {
        let Some(object) = Object::parse(text) else { return MessageOutcome::NoMessage };
        match object.kind() {
            Some(MessageKind::Answer { id }) => self.answer(object, &id),
            Some(MessageKind::Request { id, .. }) => self.ask(object, id),
            Some(MessageKind::Notification { method }) => self.notification(object, &method),
            None => MessageOutcome::NoMessage,
        }
    }

    /// A line of the process that was too long to be kept. If it is an answer, its request gets an error: its client would
    /// wait in vain.
    pub(super) fn too_long(&mut self, ends: &Ends) -> MessageOutcome {
        let number = id_of_answer(&ends.first, &ends.last);
        let Some(pending) = number.and_then(|number| self.pending.remove(&number)) else {
            return MessageOutcome::NoMessage;
        };
        self.keep(Arc::clone(&pending.stream));
        let message = error(&pending.id, INTERNAL_ERROR, "the answer of the server is longer than 4 MiB");
        MessageOutcome::Deliver { stream: pending.stream, message, last: true }
    }

    fn answer(&mut self, mut object: Object<'_>, id: &str) -> MessageOutcome {
        let number = id.parse::<u64>().ok();
        let Some((number, pending)) = number.and_then(|number| Some((number, self.pending.remove(&number)?))) else {
            return MessageOutcome::Drop;
        };
        object.set("id", pending.id.clone());
        let subscription = object.inner(&["result", "_meta"], SUBSCRIPTION);
        if subscription.is_some_and(|named| named == number.to_string()) {
            object.set_inner(&["result", "_meta"], SUBSCRIPTION, pending.id);
        }
        self.keep(Arc::clone(&pending.stream));
        MessageOutcome::Deliver { stream: pending.stream, message: object.to_string(), last: true }
    }

    fn ask(&mut self, mut object: Object<'_>, id: String) -> MessageOutcome {
        let newest = self.pending.values().rev();
        let mut open =
            newest.filter(|pending| pending.accepts_events && !pending.initialize && pending.stream.has_reader());
        let stream = open.next().map(|pending| Arc::clone(&pending.stream)).or_else(|| self.session.clone());
        let Some(stream) = stream.filter(|_| self.asked.len() < MAX_ASKED) else {
            return MessageOutcome::Reply(error(&id, INTERNAL_ERROR, "no client can be asked now"));
        };
        let known = format!("server-{}-{}", self.process, self.next_asked);
        self.next_asked = self.next_asked.saturating_add(1);
        object.set("id", json_text(&known));
        self.asked.insert(known, Asked { id, stream: Arc::clone(&stream) });
        MessageOutcome::Deliver { stream, message: object.to_string(), last: false }
    }

    fn notification(&mut self, mut object: Object<'_>, method: &str) -> MessageOutcome {
        let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
        match method {
            "notifications/progress" => {
                let named = number(object.inner(&["params"], "progressToken"));
                let Some(pending) = named.and_then(|number| self.pending.get(&number)) else {
                    return MessageOutcome::Drop;
                };
                let Some(token) = pending.progress_token.clone().filter(|_| pending.accepts_events) else {
                    return MessageOutcome::Drop;
                };
                object.set_inner(&["params"], "progressToken", token);
                MessageOutcome::Deliver {
                    stream: Arc::clone(&pending.stream),
                    message: object.to_string(),
                    last: false,
                }
            }
            "notifications/cancelled" => {
                let Some(named) = object.inner(&["params"], "requestId") else { return MessageOutcome::Drop };
                let asked = self.asked.iter().find(|(_, asked)| same_id(&asked.id, &named));
                if let Some((known, asked)) = asked {
                    let (known, stream) = (known.clone(), Arc::clone(&asked.stream));
                    self.asked.remove(&known);
                    object.set_inner(&["params"], "requestId", json_text(&known));
                    return MessageOutcome::Deliver { stream, message: object.to_string(), last: false };
                }
                match number(Some(named)).and_then(|number| self.pending.remove(&number)) {
                    Some(pending) => MessageOutcome::End(pending.stream),
                    None => MessageOutcome::Drop,
                }
            }
            _ => {
                let named = number(object.inner(&["params", "_meta"], SUBSCRIPTION));
                if let Some(pending) = named.and_then(|number| self.pending.get(&number)) {
                    object.set_inner(&["params", "_meta"], SUBSCRIPTION, pending.id.clone());
                    let stream = Arc::clone(&pending.stream);
                    return MessageOutcome::Deliver { stream, message: object.to_string(), last: false };
                }
                match self.stream_for_others() {
                    Some(stream) => MessageOutcome::Deliver { stream, message: object.to_string(), last: false },
                    None => MessageOutcome::Drop,
                }
            }
        }
    }

    /// Where a notification goes that belongs to no request.
    fn stream_for_others(&self) -> Option<Arc<Stream>> {
        let session = self.session.as_ref();
        if let Some(stream) = session.filter(|stream| stream.has_reader()) {
            return Some(Arc::clone(stream));
        }
        let mut pending = self.pending.values();
        let only = pending.next().filter(|_| pending.next().is_none());
        let only = only.filter(|pending| pending.accepts_events && !pending.initialize && pending.stream.has_reader());
        only.map(|pending| Arc::clone(&pending.stream)).or_else(|| session.cloned())
    }

    /// The stream with this number, if it is kept.
    pub(super) fn stream(&self, number: u64) -> Option<Arc<Stream>> {
        if number == 0 {
            return self.session.clone();
        }
        let pending = self.pending.get(&number).map(|pending| &pending.stream);
        let found = pending.or_else(|| self.ended.iter().find(|stream| stream.number() == number));
        found.filter(|stream| stream.is_resumable()).cloned()
    }

    /// Keeps the stream of a session after its end, for a client that lost the end of it.
    fn keep(&mut self, stream: Arc<Stream>) {
        if self.session.is_none() {
            return;
        }
        self.ended.push_back(stream);
        let bytes = |ended: &VecDeque<Arc<Stream>>| ended.iter().map(|stream| stream.kept_bytes()).sum::<usize>();
        while self.ended.len() > MAX_KEPT_STREAMS
            || (self.ended.len() > 1 && bytes(&self.ended) > MAX_KEPT_STREAM_BYTES)
        {
            self.ended.pop_front();
        }
    }

    /// The process has ended: every request gets an error.
    pub(super) fn end(&mut self) {
        for pending in std::mem::take(&mut self.pending).into_values() {
            pending.stream.end_with(error(&pending.id, INTERNAL_ERROR, "the server ended before it answered"));
        }
        if let Some(session) = &self.session {
            session.end();
        }
        self.asked.clear();
        self.ended.clear();
    }
}
