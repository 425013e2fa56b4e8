//! Answers whose messages the component judges: it takes out what the caller may not see.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use entra_mcp_boundary::events::{ListEvent, Splitter, StreamPart, may_list};
use entra_mcp_plugin::Error;
use entra_mcp_plugin::gatekeeper::Caller;
use futures_util::stream;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Unfinished;
use super::callers::{self, CallerKey};
use crate::behind::{AnswerBody, BehindError};
use crate::gatekeeper::Gatekeeper;
use crate::process::printable;

/// Most bytes of a message that is judged: what the contract allows. A list of a thousand tools has some 2 MiB.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes of an event: a message, and what its lines add.
const MAX_EVENT_BYTES: usize = MAX_MESSAGE_BYTES + 64 * 1024;

/// Memory for the messages of one server that are held to be judged at the same time, in KiB: 16 of the largest.
const ROOM_KIB: usize = 64 * 1024;

/// How much of it one caller gets: 4 of the largest messages.
const ROOM_KIB_PER_CALLER: usize = ROOM_KIB / 4;

/// Bytes up to which a message occupies nothing of the room. Most events are shorter.
const FREE_BYTES: usize = 16 * 1024;

/// Longest time from the first byte of an event to its end, as it is held all the while. Servers write an event at once.
const EVENT_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of the longest id of a request that an error is told for. Usual are numbers, and UUIDs of 36.
const MAX_ID_BYTES: usize = 1024;

/// What JSON-RPC calls an error of the server.
const INTERNAL_ERROR: i32 = -32603;

/// What a client is told in place of an answer that is too long to be judged.
const TOO_LONG: &str =
    "the answer of the server behind is longer than 4 MiB, which is too long while rules restrict its lists";

/// Lines and pieces of a stream that are looked at before other work of the same thread gets its turn.
const PARTS_AT_ONCE: usize = 256;

/// Room for the messages of one server that are held, shared by its callers.
#[derive(Clone, Default)]
pub(super) struct Room(Arc<Mutex<Taken>>);

/// KiB that are occupied.
#[derive(Default)]
struct Taken {
    all: usize,
    callers: HashMap<CallerKey, usize>,
}

impl Room {
    /// What a message of this caller is going to occupy.
    pub(super) fn of(&self, caller: &Caller) -> Occupied {
        Occupied { room: self.clone(), caller: callers::key(caller), kib: 0 }
    }
}

/// What one message occupies of the room.
pub(super) struct Occupied {
    room: Room,
    caller: CallerKey,
    kib: usize,
}

impl Occupied {
    /// Makes it as much as `bytes` take. Fails if there is no room.
    fn settle(&mut self, bytes: usize) -> Result<(), BehindError> {
        let kib = if bytes <= FREE_BYTES { 0 } else { bytes.div_ceil(1024) };
        if kib == self.kib {
            return Ok(());
        }
        let mut taken = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = |now: usize| now.saturating_sub(self.kib).saturating_add(kib);
        let (all, own) = (changed(taken.all), changed(taken.callers.get(&self.caller).copied().unwrap_or_default()));
        if kib > self.kib && (all > ROOM_KIB || own > ROOM_KIB_PER_CALLER) {
            return Err(BehindError::Busy("there is no room for an answer to be judged".to_owned()));
        }
        taken.all = all;
        match own {
            0 => taken.callers.remove(&self.caller),
            own => taken.callers.insert(self.caller.clone(), own),
        };
        drop(taken);
        self.kib = kib;
        Ok(())
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        // Less always has room.
        let _ = self.settle(0);
    }
}

/// The part of a request that names it.
#[derive(Deserialize)]
struct Asked {
    id: Option<Value>,
}

/// The id of a request, if it is one message. The answer keeps this of it, and not its body, which nothing counts any more.
pub(super) fn asked_id(request: &[u8]) -> Option<Value> {
    let id = serde_json::from_slice::<Asked>(request).ok()?.id?;
    (id.is_number() || id.as_str().is_some_and(|id| id.len() <= MAX_ID_BYTES)).then_some(id)
}

/// Has the messages of one answer judged.
pub(super) struct MessageJudge {
    keeper: Arc<dyn Gatekeeper>,
    handle: Zeroizing<String>,
    occupied: Occupied,
    /// The id of what was asked, if it was one request.
    asked: Option<Value>,
}

impl MessageJudge {
    pub(super) fn new(
        keeper: Arc<dyn Gatekeeper>,
        handle: Zeroizing<String>,
        occupied: Occupied,
        asked: Option<Value>,
    ) -> Self {
        Self { keeper, handle, occupied, asked }
    }

    /// What takes the place of an answer that is too long. `None` where it is not the answer to one request.
    fn too_long(&self) -> Option<String> {
        let id = self.asked.as_ref()?;
        tracing::warn!("an answer is too long to be judged: its client gets an error");
        let error = json!({ "code": INTERNAL_ERROR, "message": TOO_LONG });
        Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string())
    }

    /// What the caller may see of an answer that is one message.
    pub(super) async fn message(mut self, mut body: AnswerBody) -> Result<Bytes, Unfinished> {
        let malformed = || BehindError::Malformed("its answer is too long to be judged".to_owned()).into();
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > MAX_MESSAGE_BYTES {
            return self.too_long().map(Bytes::from).ok_or_else(malformed);
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let length = bytes.len().saturating_add(data.len());
            if length > MAX_MESSAGE_BYTES {
                return self.too_long().map(Bytes::from).ok_or_else(malformed);
            }
            self.occupied.settle(length)?;
            bytes.extend_from_slice(&data);
        }
        if bytes.is_empty() {
            return Ok(Bytes::new());
        }
        let judged = self.judge(&String::from_utf8_lossy(&bytes)).await.map_err(Unfinished::Component)?;
        Ok(judged.into())
    }

    /// The events of an answer, of which those that may have a list are judged. The others pass at once.
    pub(super) fn events(self, body: AnswerBody) -> AnswerBody {
        let events = Events::new(self, body);
        let frames = stream::unfold(events, |mut events| async move {
            let bytes = events.next().await.transpose()?;
            Some((bytes.map(|bytes| Frame::data(Bytes::from(bytes))), events))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    /// Whether there is room for a message of this length, which is taken then.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.occupied.settle(bytes).is_ok()
    }

    pub(super) async fn judge(&self, message: &str) -> Result<String, Error> {
        // Some readers ignore the mark.
        self.keeper.judge_answer(&self.handle, message.strip_prefix('\u{feff}').unwrap_or(message)).await
    }
}

/// The state of an event stream.
struct Events {
    judge: MessageJudge,
    body: AnswerBody,
    splitter: Splitter,
    /// What passes as it is, and goes out before anything else.
    passing: Vec<u8>,
    /// The event that comes after that.
    to_judge: Option<Vec<u8>>,
    /// When the event began that is not complete.
    begun: Option<Instant>,
    ended: bool,
}

impl Events {
    fn new(judge: MessageJudge, body: AnswerBody) -> Self {
        let splitter = Splitter::default();
        Self { judge, body, splitter, passing: Vec::new(), to_judge: None, begun: None, ended: false }
    }

    /// What the client gets next. `None` at the end. Nothing comes after an error.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, BehindError> {
        let next = self.read().await;
        if next.is_err() {
            (self.splitter, self.to_judge, self.ended) = (Splitter::default(), None, true);
        }
        next
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, BehindError> {
        for turn in 1_usize.. {
            if turn.is_multiple_of(PARTS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
            let part = if self.to_judge.is_some() { None } else { self.splitter.next_part() };
            if part.is_some() {
                self.begun = None;
            }
            match part {
                Some(StreamPart::Filler(bytes)) if may_list(&bytes) => {}
                Some(StreamPart::Event(bytes)) if may_list(&bytes) => self.to_judge = Some(bytes),
                Some(StreamPart::Filler(bytes) | StreamPart::Event(bytes)) => self.passing.extend_from_slice(&bytes),
                None if !self.passing.is_empty() => {
                    self.judge.occupied.settle(self.splitter.held())?;
                    return Ok(Some(std::mem::take(&mut self.passing)));
                }
                None => match self.to_judge.take() {
                    Some(event) => return self.judged(&event).await.map(Some),
                    None if !self.ended => self.feed().await?,
                    None => match self.splitter.rest() {
                        Some(StreamPart::Filler(bytes) | StreamPart::Event(bytes)) if may_list(&bytes) => {
                            self.to_judge = Some(bytes);
                        }
                        Some(StreamPart::Filler(bytes) | StreamPart::Event(bytes)) => self.passing = bytes,
                        None => return Ok(None),
                    },
                },
            }
        }
        Ok(None)
    }

    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    async fn feed(&mut self) -> Result<(), BehindError> {
        let held = self.splitter.held();
        self.judge.occupied.settle(held)?;
        self.begun = (held > 0).then(|| self.begun.unwrap_or_else(Instant::now));
        let frame = match self.begun {
            None => self.body.frame().await,
            Some(begun) => {
                let frame = tokio::time::timeout_at(begun + EVENT_WITHIN, self.body.frame()).await;
                frame.map_err(|_| BehindError::BrokenOff("an event is not complete for too long".to_owned()))?
            }
        };
        let Some(frame) = frame else {
            self.ended = true;
            return Ok(());
        };
        let Ok(data) = frame?.into_data() else { return Ok(()) };
        let length = held.saturating_add(data.len());
        if length > MAX_EVENT_BYTES {
            // A client that sees the stream break off waits for its answer, or asks for the same event again.
            let Some(instead) = self.judge.too_long() else {
                return Err(BehindError::Malformed("an event is too long to be judged".to_owned()));
            };
            let instead = format!("event: message\ndata: {instead}\n\n").into_bytes();
            // The server behind is not read any more.
            (self.body, self.splitter) =
                (Empty::new().map_err(|never| match never {}).boxed_unsync(), Splitter::default());
            (self.passing, self.begun, self.ended) = (instead, None, true);
            return self.judge.occupied.settle(0);
        }
        self.judge.occupied.settle(length)?;
        self.splitter.feed(&data);
        Ok(())
    }

    /// An event that may have a list, without what the caller may not see.
    async fn judged(&mut self, raw: &[u8]) -> Result<Vec<u8>, BehindError> {
        let event = ListEvent::read(raw);
        let judged = match &event.data {
            None => None,
            Some(data) if !may_list(data.as_bytes()) => Some(Cow::Owned(data.clone())),
            Some(data) => Some(Cow::Owned(self.judge.judge(data).await.map_err(|error| {
                tracing::error!(error = printable(&error.to_string()), "an event was not judged: the stream ends");
                BehindError::BrokenOff("the component failed on an event".to_owned())
            })?)),
        };
        self.judge.occupied.settle(self.splitter.held())?;
        Ok(event.write(judged))
    }
}
