//! How much of the gate one caller occupies.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use entra_mcp_plugin::gatekeeper::Caller;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::behind::{AnswerBody, BehindError};

/// Tenant and object id, which identify a caller with all of its clients.
pub(super) type CallerKey = (String, String);

/// The key of a caller.
pub(super) fn key(caller: &Caller) -> CallerKey {
    (caller.tenant_id.clone(), caller.object_id.clone())
}

#[derive(Default, Clone, Copy)]
struct Count {
    requests: usize,
    streams: usize,
}

/// Counts what each caller has open at one server.
pub(super) struct Callers {
    requests: usize,
    streams: usize,
    counts: Mutex<HashMap<CallerKey, Count>>,
}

impl Callers {
    pub(super) fn new(requests: usize, streams: usize) -> Self {
        Self { requests, streams, counts: Mutex::default() }
    }

    /// A place for a request of the caller, or for an event stream.
    pub(super) fn enter(self: &Arc<Self>, caller: &Caller, is_stream: bool) -> Result<CallerPlace, BehindError> {
        let key = key(caller);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&key).copied().unwrap_or_default();
        if is_stream && count.streams >= self.streams {
            return Err(BehindError::Busy("the caller has too many event streams".to_owned()));
        }
        if count.requests >= self.requests {
            return Err(BehindError::Busy("the caller has too many requests at the same time".to_owned()));
        }
        let streams = count.streams.saturating_add(usize::from(is_stream));
        counts.insert(key.clone(), Count { requests: count.requests.saturating_add(1), streams });
        drop(counts);
        Ok(CallerPlace { callers: Arc::clone(self), key, is_stream })
    }
}

/// The place of a request, given back when it is dropped.
pub(super) struct CallerPlace {
    callers: Arc<Callers>,
    key: CallerKey,
    is_stream: bool,
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let mut counts = self.callers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get_mut(&self.key) else { return };
        count.requests = count.requests.saturating_sub(1);
        count.streams = count.streams.saturating_sub(usize::from(self.is_stream));
        if count.requests == 0 {
            counts.remove(&self.key);
        }
    }
}

/// The body without trailers, which holds the place until it is dropped.
pub(super) fn held(inner: AnswerBody, place: CallerPlace) -> AnswerBody {
    Held { inner, _place: place }.boxed_unsync()
}

struct Held {
    inner: AnswerBody,
    _place: CallerPlace,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BehindError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BehindError>>> {
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                // Trailers: no client of MCP reads them, and a proxy may merge them into the header.
                Some(Ok(frame)) if !frame.is_data() => {}
                frame => return Poll::Ready(frame),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
