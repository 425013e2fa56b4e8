//! How long an answer goes on: no longer than the permission that it was admitted with.
//!
//! A role that is taken away, an account that is disabled, a session that ends: none of them ends a stream that is open. So
//! every stream ends after a while. The client resumes it (`Last-Event-ID`), and that request is admitted anew.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

use crate::behind::{AnswerBody, BehindError};

/// How long an answer may go on after its request was admitted: as long as its handle is good for anything.
pub const PERMITTED: Duration = Duration::from_secs(10 * 60);

/// How long before that a stream begins to end. Between two events, it ends at once; an event that has begun may be
/// finished until then.
const TO_FINISH: Duration = Duration::from_secs(10);

/// The body, which ends with the permission of a request that was admitted at `begun`. Events end in time between two of
/// them; anything else that is not complete by then breaks off.
pub(super) fn limited(inner: AnswerBody, begun: Instant, is_stream: bool) -> AnswerBody {
    let over = begun + PERMITTED;
    let ends = begun + PERMITTED.saturating_sub(TO_FINISH);
    let timer = Box::pin(sleep_until(if is_stream { ends } else { over }));
    Limited { inner: Some(inner), over, is_stream, is_ending: false, timer, place: Place::default() }.boxed_unsync()
}

#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline)
}

struct Limited {
    /// `None`: it is over.
    inner: Option<AnswerBody>,
    over: Instant,
    is_stream: bool,
    /// It ends as soon as an event is complete.
    is_ending: bool,
    timer: Pin<Box<Sleep>>,
    place: Place,
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BehindError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BehindError>>> {
        let this = &mut *self;
        while this.inner.is_some() && this.timer.as_mut().poll(context).is_ready() {
            if !this.is_stream || this.is_ending {
                this.inner = None;
                let reason = "the permission of the caller is over".to_owned();
                return Poll::Ready(Some(Err(BehindError::BrokenOff(reason))));
            }
            this.is_ending = true;
            this.timer = Box::pin(sleep_until(this.over));
            if this.place.is_between() {
                this.inner = None;
            }
        }
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(context));
        let Some(Ok(mut frame)) = frame else {
            this.inner = None;
            return Poll::Ready(frame);
        };
        if let Some(data) = frame.data_mut().filter(|_| this.is_stream)
            && let Some(end) = this.place.advance(data, this.is_ending)
        {
            data.truncate(end);
            this.inner = None;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Where in an event stream its reader is.
#[derive(Default)]
struct Place {
    /// The current line has bytes.
    in_line: bool,
    /// Something of an event has come, and not its empty line. A comment is nothing of an event.
    in_event: bool,
    /// The last byte was CR: an LF after it belongs to the same line end.
    after_cr: bool,
}

impl Place {
    /// Whether nothing of an event has come that is not complete.
    fn is_between(&self) -> bool {
        !self.in_line && !self.in_event
    }

    /// Goes on by these bytes. If `stops`, up to where an event is complete, which is the result.
    fn advance(&mut self, bytes: &[u8], stops: bool) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            let ends_line = match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => continue,
                b'\n' | b'\r' => true,
                _ => false,
            };
            self.after_cr = *byte == b'\r';
            if !ends_line {
                self.in_event |= !self.in_line && *byte != b':';
                self.in_line = true;
                continue;
            }
            if !std::mem::take(&mut self.in_line) {
                self.in_event = false;
            }
            if stops && !self.in_event {
                // The LF of a CRLF belongs to it.
                let lf = *byte == b'\r' && bytes.get(at.saturating_add(1)) == Some(&b'\n');
                return Some(at.saturating_add(if lf { 2 } else { 1 }));
            }
        }
        None
    }
}
