//! The messages that go to a client on one HTTP answer.
//!
//! A stream outlives the connection: what was sent is kept within bounds, so that the client of a session can ask for the
//! rest with `Last-Event-ID`. What the client does not read makes the process wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::Notify;

use super::settings::{MAX_KEPT_BYTES, MAX_KEPT_EVENTS, MAX_UNREAD_BYTES};
use crate::behind::BehindError;

/// The messages for one request, or for the client's GET (number 0).
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    /// Whether events have ids, and are kept after they were read.
    resumable: bool,
    state: Mutex<State>,
    /// Something was added, or the stream has ended.
    grown: Notify,
    /// Something was read, or there is no reader any more.
    read: Notify,
}

#[derive(Debug)]
struct State {
    /// What is kept, oldest first.
    events: VecDeque<Event>,
    kept_bytes: usize,
    unread_bytes: usize,
    /// The number of the next event to be added.
    next: u64,
    /// The number of the next event to be read.
    cursor: u64,
    reader: Reader,
    generation: u64,
    ended: bool,
    waker: Option<Waker>,
    /// When its last reader went, while a timer waits for another one.
    left: Option<Duration>,
}

/// What a timer finds that waits for a client to come back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// It has come back. The next one to leave needs another timer.
    Over,
    /// It has time until then.
    Until(Duration),
    /// It does not come any more.
    Final,
}

#[derive(Debug)]
struct Event {
    number: u64,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// The head of the answer is not out yet.
    Expected,
    /// The body with this generation.
    Attached(u64),
    /// The connection is gone, or there was none yet.
    Absent,
}

/// The events after the named one are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap;

impl Stream {
    /// A stream for the answer to a request.
    pub(super) fn of_request(number: u64, resumable: bool) -> Arc<Self> {
        Self::new(number, resumable, Reader::Expected)
    }

    /// The stream that a session's client opens with GET.
    pub(super) fn of_session() -> Arc<Self> {
        Self::new(0, true, Reader::Absent)
    }

    fn new(number: u64, resumable: bool, reader: Reader) -> Arc<Self> {
        let state = State {
            events: VecDeque::new(),
            kept_bytes: 0,
            unread_bytes: 0,
            next: 1,
            cursor: 1,
            reader,
            generation: 0,
            ended: false,
            waker: None,
            left: None,
        };
        let state = Mutex::new(state);
        Arc::new(Self { number, resumable, state, grown: Notify::new(), read: Notify::new() })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Adds a message, once the client has read enough of those before. `last`: the stream ends with it.
    pub(super) async fn push(&self, message: String, last: bool) {
        loop {
            let mut read = std::pin::pin!(self.read.notified());
            read.as_mut().enable();
            {
                let mut state = self.lock();
                if state.ended {
                    return;
                }
                let read_by_a_client = state.reader != Reader::Absent;
                let full =
                    state.unread_bytes > 0 && state.unread_bytes.saturating_add(message.len()) > MAX_UNREAD_BYTES;
                if !(read_by_a_client && full) {
                    state.add(message, self.resumable);
                    state.ended = last;
                    break;
                }
            }
            read.await;
        }
        self.wake();
    }

    /// Ends the stream with a message that does not wait for the client.
    pub(super) fn end_with(&self, message: String) {
        {
            let mut state = self.lock();
            if state.ended {
                return;
            }
            state.add(message, self.resumable);
            state.ended = true;
        }
        self.wake();
        self.read.notify_waiters();
    }

    /// Ends the stream as it is.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.wake();
        self.read.notify_waiters();
    }

    /// An event without a message: from it on, a client can ask for the rest.
    pub(super) fn prime(&self) {
        {
            let mut state = self.lock();
            if state.ended || !self.resumable {
                return;
            }
            state.add(String::new(), true);
        }
        self.wake();
    }

    /// Returns when there is a message, or when the stream has ended.
    pub(super) async fn grown(&self) {
        loop {
            let mut grown = std::pin::pin!(self.grown.notified());
            grown.as_mut().enable();
            {
                let state = self.lock();
                if state.ended || !state.events.is_empty() {
                    return;
                }
            }
            grown.await;
        }
    }

    /// The only message, if the stream ended with it and none was read.
    pub(super) fn only_message(&self) -> Option<String> {
        let state = self.lock();
        let only = state.ended && state.next == 2 && state.cursor == 1;
        if only { state.events.front().map(|event| event.message.clone()) } else { None }
    }

    /// Whether a client reads, or is about to.
    pub(super) fn has_reader(&self) -> bool {
        self.lock().reader != Reader::Absent
    }

    /// The reader is gone. Whether a timer has to begin: there is at most one for a stream, however often readers come and go.
    pub(super) fn leave(&self, now: Duration) -> bool {
        self.lock().left.replace(now).is_none()
    }

    /// How the absence of a reader stands that may last for so long.
    pub(super) fn absence(&self, now: Duration, patience: Duration) -> Absence {
        let mut state = self.lock();
        let deadline = state.left.unwrap_or_default().saturating_add(patience);
        let found = match state.reader {
            Reader::Absent if now >= deadline => Absence::Final,
            Reader::Absent => return Absence::Until(deadline),
            Reader::Expected | Reader::Attached(_) => Absence::Over,
        };
        state.left = None;
        found
    }

    /// Bytes that are kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.lock().kept_bytes
    }

    /// Whether a client can ask for events of this stream again.
    pub(super) fn is_resumable(&self) -> bool {
        self.resumable
    }

    /// The body of an answer, which goes on after the event `after`, or where the last one stopped. An earlier body ends.
    pub(super) fn attach(self: &Arc<Self>, after: Option<u64>) -> Result<StreamBody, Gap> {
        let mut state = self.lock();
        if let Some(after) = after {
            let wanted = after.saturating_add(1);
            let first = state.events.front().map_or(state.next, |event| event.number);
            if wanted < first || wanted > state.next {
                return Err(Gap);
            }
            state.cursor = wanted;
            state.unread_bytes =
                state.events.iter().filter(|event| event.number >= wanted).map(|event| event.message.len()).sum();
        }
        state.generation = state.generation.wrapping_add(1);
        state.reader = Reader::Attached(state.generation);
        let generation = state.generation;
        let earlier = state.waker.take();
        drop(state);
        if let Some(earlier) = earlier {
            earlier.wake();
        }
        Ok(StreamBody { stream: Arc::clone(self), generation, comment: None, gone: None })
    }

    fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        self.grown.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: &Event) -> Bytes {
        let id = if self.resumable { format!("id: {}-{}\n", self.number, event.number) } else { String::new() };
        let name = if event.message.is_empty() { "" } else { "event: message\n" };
        Bytes::from(format!("{id}{name}data: {}\n\n", event.message))
    }
}

impl State {
    fn add(&mut self, message: String, resumable: bool) {
        self.kept_bytes = self.kept_bytes.saturating_add(message.len());
        self.unread_bytes = self.unread_bytes.saturating_add(message.len());
        self.events.push_back(Event { number: self.next, message });
        self.next = self.next.saturating_add(1);
        self.trim(resumable);
    }

    /// Forgets what was read, beyond what is kept for another connection; and the oldest, if there is no reader.
    fn trim(&mut self, resumable: bool) {
        while let Some(first) = self.events.front() {
            let read = first.number < self.cursor;
            let over = self.kept_bytes > MAX_KEPT_BYTES || self.events.len() > MAX_KEPT_EVENTS;
            let may_go = read || self.reader == Reader::Absent;
            if self.events.len() == 1 && resumable || !may_go || (resumable && !over) {
                return;
            }
            let size = first.message.len();
            if !read {
                self.unread_bytes = self.unread_bytes.saturating_sub(size);
                self.cursor = first.number.saturating_add(1);
            }
            self.kept_bytes = self.kept_bytes.saturating_sub(size);
            self.events.pop_front();
        }
    }
}

/// The connection went away. The argument: whether the client has an id to ask for the rest with.
type Gone = Box<dyn FnOnce(bool) + Send>;

/// The body of an answer that is an event stream.
pub(super) struct StreamBody {
    stream: Arc<Stream>,
    generation: u64,
    /// A line that means nothing, before everything else.
    comment: Option<Bytes>,
    gone: Option<Gone>,
}

impl StreamBody {
    /// Begins with a line that means nothing, so that the head and something more are on the way.
    pub(super) fn begin_with_comment(&mut self) {
        self.comment = Some(Bytes::from_static(b": waiting\n\n"));
    }

    /// What to do when the client goes away before the end.
    pub(super) fn when_gone(&mut self, gone: impl FnOnce(bool) + Send + 'static) {
        self.gone = Some(Box::new(gone));
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BehindError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BehindError>>> {
        if let Some(comment) = self.comment.take() {
            return Poll::Ready(Some(Ok(Frame::data(comment))));
        }
        let stream = Arc::clone(&self.stream);
        let mut state = stream.lock();
        if state.generation != self.generation {
            return Poll::Ready(None);
        }
        let cursor = state.cursor;
        let found = state.events.iter().find(|event| event.number >= cursor);
        if let Some(event) = found {
            let (frame, number, size) = (stream.event(event), event.number, event.message.len());
            state.cursor = number.saturating_add(1);
            state.unread_bytes = state.unread_bytes.saturating_sub(size);
            state.trim(stream.resumable);
            drop(state);
            stream.read.notify_waiters();
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let (current, ended, resumable) = {
            let mut state = self.stream.lock();
            let current = state.reader == Reader::Attached(self.generation);
            if current {
                state.reader = Reader::Absent;
                state.waker = None;
            }
            (current, state.ended, self.stream.resumable && state.cursor > 1)
        };
        self.stream.read.notify_waiters();
        if let Some(gone) = self.gone.take().filter(|_| current && !ended) {
            gone(resumable);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn next(body: &mut StreamBody) -> Option<String> {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(frame.to_vec()).unwrap())
    }

    fn event(id: &str, message: &str) -> Option<String> {
        Some(format!("id: {id}\nevent: message\ndata: {message}\n\n"))
    }

    #[tokio::test]
    async fn a_client_that_comes_back_gets_the_rest() {
        let stream = Stream::of_request(3, true);
        let mut first = stream.attach(None).unwrap();
        stream.push("a".into(), false).await;
        stream.push("b".into(), false).await;
        assert_eq!(next(&mut first).await, event("3-1", "a"));
        assert_eq!(next(&mut first).await, event("3-2", "b"));
        drop(first);
        stream.push("c".into(), true).await;

        let mut second = stream.attach(Some(1)).unwrap();
        assert_eq!(next(&mut second).await, event("3-2", "b"));
        assert_eq!(next(&mut second).await, event("3-3", "c"));
        assert_eq!(next(&mut second).await, None);
        assert_eq!(stream.attach(Some(4)).err(), Some(Gap));
    }

    #[tokio::test]
    async fn a_second_reader_ends_the_first() {
        let stream = Stream::of_session();
        let mut first = stream.attach(None).unwrap();
        let mut second = stream.attach(None).unwrap();
        assert_eq!(next(&mut first).await, None);
        drop(first);
        stream.push("a".into(), false).await;
        assert_eq!(next(&mut second).await, event("0-1", "a"));
    }

    #[tokio::test]
    async fn what_is_not_read_makes_the_process_wait() {
        let stream = Stream::of_request(1, false);
        let mut body = stream.attach(None).unwrap();
        let large = "x".repeat(MAX_UNREAD_BYTES);
        stream.push(large.clone(), false).await;
        let waiting = tokio::spawn({
            let stream = Arc::clone(&stream);
            async move { stream.push("y".into(), true).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(next(&mut body).await, Some(format!("event: message\ndata: {large}\n\n")));
        waiting.await.unwrap();
        assert_eq!(next(&mut body).await.as_deref(), Some("event: message\ndata: y\n\n"));
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_holds_nothing_up_and_leaves_what_is_bounded() {
        let stream = Stream::of_session();
        let large = "x".repeat(MAX_KEPT_BYTES / 2);
        for _ in 0..8 {
            stream.push(large.clone(), false).await;
        }
        assert!(stream.kept_bytes() <= MAX_KEPT_BYTES);
        assert_eq!(stream.attach(Some(1)).err(), Some(Gap));
        for _ in 0..2 * MAX_KEPT_EVENTS {
            stream.push("x".into(), false).await;
        }
        assert!(stream.lock().events.len() <= MAX_KEPT_EVENTS);
    }

    #[test]
    fn one_timer_waits_for_readers_that_come_and_go() {
        let at = Duration::from_secs;
        let stream = Stream::of_request(1, true);
        drop(stream.attach(None).unwrap());
        assert!(stream.leave(at(0)));
        assert_eq!(stream.absence(at(0), at(30)), Absence::Until(at(30)));
        drop(stream.attach(None).unwrap());
        assert!(!stream.leave(at(20)));
        assert_eq!(stream.absence(at(30), at(30)), Absence::Until(at(50)), "it counts from the last one");
        let back = stream.attach(None).unwrap();
        assert_eq!(stream.absence(at(50), at(30)), Absence::Over);
        drop(back);
        assert!(stream.leave(at(60)));
        assert_eq!(stream.absence(at(90), at(30)), Absence::Final);
    }

    #[tokio::test]
    async fn only_an_answer_that_comes_alone_is_a_single_message() {
        let alone = Stream::of_request(1, true);
        alone.push("a".into(), true).await;
        assert_eq!(alone.only_message().as_deref(), Some("a"));
        let accompanied = Stream::of_request(1, true);
        accompanied.push("a".into(), false).await;
        accompanied.push("b".into(), true).await;
        assert_eq!(accompanied.only_message(), None);
    }
}
