//! Answers that are one message and pass while they are read, at any length: those that nothing looks at, and those to requests
//! that ask for no list.
//!
//! What the component judges an answer for is in lists, and a result without one is the same for every caller. So the members
//! of its messages are looked at (`entra_mcp_boundary::unasked`), and it breaks off before a list. What is left out with
//! that, besides the bound on its length, is left out because lists alone need it: how far a client may keep a result, and a
//! second look at names that occur twice. What it hands out is noted while it passes, as elsewhere (`noted.rs`).
//!
//! Only an answer that begins with what cannot pass is read as a whole and judged, as every answer to a request for a list is.
//! The begin is the first piece that arrives. So what becomes of an answer with a list depends on how its server and the network
//! have cut it: with the list in the first piece, its client gets it judged; with the list behind that, it breaks off. In neither
//! case does the client get what it may not see.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use entra_mcp_boundary::unasked::{Unfit, Watch};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::Unfinished;
use super::judged::MessageJudge;
use super::noted::{self, Noted};
use crate::behind::{AnswerBody, BehindError};

/// Passes an answer on.
pub(super) async fn message(judge: MessageJudge, mut body: AnswerBody) -> Result<Noted, Unfinished> {
    let Some(first) = noted::first(&mut body).await? else { return Ok(Noted::Whole(Bytes::new())) };
    let mut watch = Watch::default();
    let ends = body.is_end_stream();
    if watch.feed(&first).is_err() || (ends && !watch.is_complete()) {
        return judge.message(begun(first, body)).await.map(Noted::Whole);
    }
    if ends {
        return noted::whole(&judge, first).await.map(Noted::Whole);
    }
    Ok(Noted::Passing(noted::passing(judge, first, Watched { inner: Some(body), watch }.boxed_unsync())))
}

/// Passes an answer on that is not looked at. One that comes in one piece goes out in one: with its head, in one write. No task
/// looks whether its client takes it, so it keeps the place of its caller until it is sent. One that does not begin before the
/// deadline may still do so.
pub(super) async fn unread(mut body: AnswerBody, deadline: Instant) -> Result<Noted, BehindError> {
    let begins = tokio::time::timeout_at(deadline, noted::first(&mut body)).await;
    let Ok(first) = begins else { return Ok(Noted::Passing(body)) };
    let first = first?;
    Ok(match first {
        None => Noted::Whole(Bytes::new()),
        Some(all) if body.is_end_stream() => Noted::Whole(all),
        Some(first) => Noted::Passing(begun(first, body)),
    })
}

/// The body with what was read of it.
fn begun(first: Bytes, rest: AnswerBody) -> AnswerBody {
    Begun { first: Some(first), rest }.boxed_unsync()
}

/// A body of which the first piece was read.
struct Begun {
    /// `None`: it was given out.
    first: Option<Bytes>,
    rest: AnswerBody,
}

impl Body for Begun {
    type Data = Bytes;
    type Error = BehindError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BehindError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let (rest, mut whole) = (self.rest.size_hint(), SizeHint::new());
        whole.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(first));
        }
        whole
    }
}

/// The rest of an answer that is looked at.
struct Watched {
    /// `None`: it is over.
    inner: Option<AnswerBody>,
    watch: Watch,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BehindError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BehindError>>> {
        let Self { inner, watch } = &mut *self;
        let Some(body) = inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        let unfit = match &frame {
            Some(Ok(frame)) => frame.data_ref().and_then(|data| watch.feed(data).err()),
            Some(Err(_)) | None => None,
        };
        if let Some(Unfit(reason)) = unfit {
            *inner = None;
            tracing::warn!(reason, "an answer of a server behind breaks off");
            return Poll::Ready(Some(Err(BehindError::Malformed(reason.to_owned()))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[test]
    fn the_length_of_an_answer_that_has_begun_is_known() {
        let rest = Full::new(Bytes::from_static(b"the rest")).map_err(|never| match never {}).boxed_unsync();
        let body = begun(Bytes::from_static(b"first, "), rest);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(15), false));
    }
}
