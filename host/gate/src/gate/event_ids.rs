//! The ids of events in an answer, tied to the caller that reads them (`entra_mcp_boundary::event_ids`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use entra_mcp_boundary::event_ids::{Broken, Tagger};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use crate::behind::{AnswerBody, BehindError};

/// The events, with ids that are tied to the caller of this key. Without a key, as they are.
pub(super) fn tied(inner: AnswerBody, key: &[u8]) -> AnswerBody {
    if key.is_empty() {
        return inner;
    }
    Tied { inner: Some(inner), tagger: Tagger::new(key) }.boxed_unsync()
}

struct Tied {
    /// `None`: it is over.
    inner: Option<AnswerBody>,
    tagger: Tagger,
}

impl Body for Tied {
    type Data = Bytes;
    type Error = BehindError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BehindError>>> {
        loop {
            let Self { inner: Some(inner), tagger } = &mut *self else { return Poll::Ready(None) };
            let written = match ready!(Pin::new(inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => tagger.feed(&data),
                    // Trailers: no client of MCP reads them.
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    self.inner = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let rest = tagger.finish();
                    self.inner = None;
                    let rest = (!rest.is_empty()).then(|| Ok(Frame::data(rest.into())));
                    return Poll::Ready(rest);
                }
            };
            match written {
                Ok(written) if written.is_empty() => {}
                Ok(written) => return Poll::Ready(Some(Ok(Frame::data(written.into())))),
                Err(Broken(reason)) => {
                    self.inner = None;
                    return Poll::Ready(Some(Err(BehindError::Malformed(reason.to_owned()))));
                }
            }
        }
    }
}
