//! Answers whose messages the component judges: it takes out what the caller may not see.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use entra_mcp_plugin::Error;
use futures_util::stream;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Unfinished;
use super::events::{Event, Part, Splitter, may_list};
use crate::behind::{AnswerBody, BehindError};
use crate::gatekeeper::Gatekeeper;

/// Most bytes of a message that is judged: what the contract allows. A list of a thousand tools has some 2 MiB.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Most bytes of an event: a message, and what its lines add.
const MAX_EVENT_BYTES: usize = MAX_MESSAGE_BYTES + 64 * 1024;

/// Bytes of all messages that are held to be judged at the same time, in KiB: 16 of the largest.
const ROOM_KIB: usize = 64 * 1024;

/// Bytes up to which a message occupies nothing of the room. Most events are shorter.
const FREE_BYTES: usize = 16 * 1024;

/// Room for messages that are held, shared by all requests.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB)))
    }
}

/// What one message occupies of the room.
struct Occupied {
    room: Room,
    permit: Option<OwnedSemaphorePermit>,
}

impl Occupied {
    /// Makes it as much as `bytes` take. Fails if there is no room.
    fn settle(&mut self, bytes: usize) -> Result<(), BehindError> {
        if bytes <= FREE_BYTES {
            self.permit = None;
            return Ok(());
        }
        let occupied = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(1024).saturating_sub(occupied);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.room.0).try_acquire_many_owned(more);
        let more = more.map_err(|_| BehindError::Busy("there is no room for an answer to be judged".to_owned()))?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// Has the messages of one answer judged.
pub(super) struct Judge {
    keeper: Arc<dyn Gatekeeper>,
    handle: String,
    occupied: Occupied,
}

impl Judge {
    pub(super) fn new(keeper: Arc<dyn Gatekeeper>, handle: String, room: Room) -> Self {
        Self { keeper, handle, occupied: Occupied { room, permit: None } }
    }

    /// What the caller may see of an answer that is one message.
    pub(super) async fn message(mut self, mut body: AnswerBody) -> Result<Bytes, Unfinished> {
        let too_long = || BehindError::Malformed("its answer is too long to be judged".to_owned());
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > MAX_MESSAGE_BYTES {
            return Err(too_long().into());
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let length = bytes.len().saturating_add(data.len());
            if length > MAX_MESSAGE_BYTES {
                return Err(too_long().into());
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
        let events = Events { judge: self, body, splitter: Splitter::default(), ended: false };
        let frames = stream::unfold(events, |mut events| async move {
            let bytes = events.next().await.transpose()?;
            Some((bytes.map(|bytes| Frame::data(Bytes::from(bytes))), events))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn judge(&self, message: &str) -> Result<String, Error> {
        // Some readers ignore the mark.
        self.keeper.judge_answer(&self.handle, message.strip_prefix('\u{feff}').unwrap_or(message)).await
    }
}

/// The state of an event stream.
struct Events {
    judge: Judge,
    body: AnswerBody,
    splitter: Splitter,
    ended: bool,
}

impl Events {
    /// What the client gets next. `None` at the end. Nothing comes after an error.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, BehindError> {
        let next = self.read().await;
        self.ended |= next.is_err();
        next
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, BehindError> {
        loop {
            let part = match (self.splitter.next(), self.ended) {
                (Some(part), _) => part,
                (None, true) => match self.splitter.rest() {
                    Some(part) => part,
                    None => return Ok(None),
                },
                (None, false) => {
                    self.feed().await?;
                    continue;
                }
            };
            if let Some(bytes) = self.pass(part).await? {
                return Ok(Some(bytes));
            }
        }
    }

    async fn feed(&mut self) -> Result<(), BehindError> {
        self.judge.occupied.settle(self.splitter.held())?;
        let Some(frame) = self.body.frame().await else {
            self.ended = true;
            return Ok(());
        };
        let Ok(data) = frame?.into_data() else { return Ok(()) };
        let length = self.splitter.held().saturating_add(data.len());
        if length > MAX_EVENT_BYTES {
            return Err(BehindError::Malformed("an event is too long to be judged".to_owned()));
        }
        self.judge.occupied.settle(length)?;
        self.splitter.feed(&data);
        Ok(())
    }

    async fn pass(&mut self, part: Part) -> Result<Option<Vec<u8>>, BehindError> {
        match part {
            Part::Filler(bytes) => Ok((!may_list(&bytes)).then_some(bytes)),
            Part::Event(bytes) if !may_list(&bytes) => Ok(Some(bytes)),
            Part::Event(bytes) => {
                let event = Event::read(&bytes);
                let judged = match &event.data {
                    None => None,
                    Some(data) if !may_list(data.as_bytes()) => Some(Cow::Owned(data.clone())),
                    Some(data) => Some(Cow::Owned(self.judge.judge(data).await.map_err(|error| {
                        tracing::error!(%error, "an event was not judged: the stream ends");
                        BehindError::BrokenOff("the component failed on an event".to_owned())
                    })?)),
                };
                Ok(Some(event.write(judged)))
            }
        }
    }
}
