//! The body of an answer.
//!
//! Whole, or written while it is read. Of the latter there are two: what the handler itself writes, which occupies it and
//! has to be over in time, and what it only relays, which may last.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of an answer: all of it, or an event stream. Dropping an event stream ends what writes it.
#[derive(Debug)]
pub struct HttpBody(Content);

enum Content {
    Full {
        bytes: Option<Bytes>,
        /// Dropped with the body.
        _held: Option<Box<dyn Send>>,
    },
    Stream {
        written: Pin<Box<dyn Body<Data = Bytes, Error = BrokenOff> + Send>>,
        relayed: bool,
    },
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { bytes, .. } => f.debug_tuple("Full").field(&bytes.as_ref().map(Bytes::len)).finish(),
            Self::Stream { .. } => f.write_str("Stream"),
        }
    }
}

/// An event stream broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off: {reason}")]
pub struct BrokenOff {
    /// Why, for the log.
    pub reason: String,
}

impl HttpBody {
    /// A body that is all there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Content::Full { bytes: Some(bytes.into()), _held: None })
    }

    /// A body that is all there, and what it occupies until it is sent or given up.
    pub fn full_holding(bytes: impl Into<Bytes>, held: impl Send + 'static) -> Self {
        Self(Content::Full { bytes: Some(bytes.into()), _held: Some(Box::new(held)) })
    }

    /// An event stream, which is written while it is read.
    pub fn event_stream(body: impl Body<Data = Bytes, Error = BrokenOff> + Send + 'static) -> Self {
        Self(Content::Stream { written: Box::pin(body), relayed: false })
    }

    /// An event stream that another server writes. It may last for longer than an answer may take, as long as there is a
    /// place for it ([`Limits::relayed_streams`](super::Limits::relayed_streams)).
    pub fn relayed_stream(body: impl Body<Data = Bytes, Error = BrokenOff> + Send + 'static) -> Self {
        Self(Content::Stream { written: Box::pin(body), relayed: true })
    }

    /// Whether the body is written while it is read.
    pub fn is_event_stream(&self) -> bool {
        matches!(self.0, Content::Stream { .. })
    }

    /// Whether another server writes the body.
    pub(super) fn is_relayed(&self) -> bool {
        matches!(self.0, Content::Stream { relayed: true, .. })
    }
}

impl Body for HttpBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.0 {
            Content::Full { bytes, .. } => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(Frame::data).map(Ok))
            }
            Content::Stream { written, .. } => written.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Full { bytes, .. } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Stream { written, .. } => written.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Full { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len).try_into().unwrap_or(u64::MAX))
            }
            Content::Stream { written, .. } => written.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_whole_body_holds_what_it_occupies_until_it_is_dropped() {
        let held = Arc::new(());
        let mut body = HttpBody::full_holding("x", Arc::clone(&held));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        assert_eq!((body.is_end_stream(), Arc::strong_count(&held)), (true, 2));
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
