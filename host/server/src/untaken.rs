//! Answers that are written while they are read, and clients that do not read them.
//!
//! Threat: HTTP/2 asks a body for more only when its client has opened a window. A client that opens none, or one of a few
//! bytes now and then, stops every clock that runs inside of the body, and keeps what the answer occupies: its place here,
//! and one at the server that writes it. So each such answer has a task that looks whether the client takes what there is,
//! and drops the answer if it does not.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::body::BrokenOff;
use super::options::Limits;

/// Bytes of an answer that may be between its body and the network: the buffer of HTTP/1.1 (twice the header), and that of
/// a stream of HTTP/2.
pub(super) const BUFFERED_BYTES: usize = 64 * 1024;

/// A body whose client has to take what it asks for.
pub(super) struct WatchedBody<B> {
    state: Arc<Mutex<State<B>>>,
    watch: AbortHandle,
    patience: Patience,
}

struct State<B> {
    /// `None`: the client has taken nothing for too long.
    body: Option<B>,
    /// When the client has to ask for more at the latest. `None`: it has asked, and there is nothing yet.
    until: Option<Instant>,
    /// Bytes that the body has given.
    given: usize,
}

/// How long a client may take.
#[derive(Clone, Copy)]
struct Patience {
    /// For nothing at all.
    stall: Duration,
    /// For each KiB.
    each_kib: Duration,
}

impl Patience {
    fn of(limits: &Limits) -> Self {
        let bytes = u32::try_from(limits.pace_bytes).unwrap_or(u32::MAX).max(1);
        Self { stall: limits.stall_time, each_kib: limits.pace_time.saturating_mul(1024) / bytes }
    }

    /// For so many bytes that are on their way.
    fn for_bytes(self, bytes: usize) -> Duration {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.stall.saturating_add(self.each_kib.saturating_mul(kib))
    }
}

impl<B: Body<Data = Bytes, Error = BrokenOff> + Send + Unpin + 'static> WatchedBody<B> {
    /// Watches an answer. What `given_up` says is for the log.
    pub(super) fn new(body: B, limits: &Limits, given_up: impl FnOnce(&B) + Send + 'static) -> Self {
        let patience = Patience::of(limits);
        let state = Arc::new(Mutex::new(State { body: Some(body), until: Some(now() + patience.stall), given: 0 }));
        let watch = tokio::spawn(watch(Arc::downgrade(&state), patience.stall, given_up)).abort_handle();
        Self { state, watch, patience }
    }

    fn with<T>(&self, look: impl FnOnce(&B) -> T, gone: T) -> T {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.body.as_ref().map_or(gone, look)
    }
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Drops the body when its client has taken nothing for too long.
async fn watch<B>(state: Weak<Mutex<State<B>>>, pause: Duration, given_up: impl FnOnce(&B)) {
    loop {
        let look = {
            let Some(state) = state.upgrade() else { return };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.until {
                Some(until) if until <= now() => Err(state.body.take()),
                Some(until) => Ok(until),
                None => Ok(now() + pause),
            }
        };
        match look {
            Ok(until) => sleep_until(until).await,
            Err(body) => {
                if let Some(body) = body {
                    given_up(&body);
                }
                return;
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
async fn sleep_until(until: Instant) {
    tokio::time::sleep_until(until).await;
}

impl<B: Body<Data = Bytes, Error = BrokenOff> + Send + Unpin + 'static> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let Some(body) = &mut state.body else {
            let reason = "its client has taken nothing for too long".to_owned();
            return Poll::Ready(Some(Err(BrokenOff { reason })));
        };
        let polled = Pin::new(body).poll_frame(context);
        state.until = match &polled {
            Poll::Pending => None,
            Poll::Ready(piece) => {
                let data = piece.as_ref().and_then(|piece| piece.as_ref().ok()).and_then(Frame::data_ref);
                let length = data.map_or(0, Bytes::len);
                state.given = state.given.saturating_add(length);
                let on_the_way = state.given.min(length.saturating_add(BUFFERED_BYTES));
                Some(now() + self.patience.for_bytes(on_the_way))
            }
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.with(Body::is_end_stream, false)
    }

    fn size_hint(&self) -> SizeHint {
        self.with(Body::size_hint, SizeHint::default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// Gives a piece of a KiB whenever it is asked.
    fn endless() -> impl Body<Data = Bytes, Error = BrokenOff> + Send + Unpin {
        let pieces = futures_util::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 1024]))));
        StreamBody::new(pieces)
    }

    fn watched() -> (WatchedBody<impl Body<Data = Bytes, Error = BrokenOff> + Send + Unpin>, Arc<AtomicBool>) {
        let given_up = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&given_up);
        let watched = WatchedBody::new(endless(), &Limits::default(), move |_| flag.store(true, Ordering::SeqCst));
        (watched, given_up)
    }

    /// For the clock of these tests, which is stopped: nothing waits.
    async fn pass(time: Duration) {
        sleep_until(now() + time).await;
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_which_nothing_is_taken_is_given_up() {
        let (mut watched, given_up) = watched();
        pass(Limits::default().stall_time - Duration::from_secs(1)).await;
        assert!(!given_up.load(Ordering::SeqCst));
        pass(Duration::from_secs(1)).await;
        assert!(given_up.load(Ordering::SeqCst));
        let error = watched.frame().await.unwrap().unwrap_err();
        assert_eq!(error.reason, "its client has taken nothing for too long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_be_slow_as_long_as_it_goes_on() {
        let (mut watched, given_up) = watched();
        // At first, no more than a KiB can be on its way, and later 64 KiB besides. A KiB in a second is the pace.
        for (pieces, waits) in [(1, 30), (1, 31), (63, 90), (1, 94), (1, 94), (1000, 94)] {
            for _ in 0..pieces {
                watched.frame().await.unwrap().unwrap();
            }
            pass(Duration::from_secs(waits)).await;
            assert!(!given_up.load(Ordering::SeqCst), "{pieces} {waits}");
        }
        pass(Duration::from_secs(2)).await;
        assert!(given_up.load(Ordering::SeqCst));
    }
}
