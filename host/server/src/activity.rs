//! What happens on a connection: whether it is in use, and when it was last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What happens on a connection.
pub(super) struct Activity {
    /// Requests that are being read or answered.
    active: AtomicUsize,
    /// Of these, requests that are with the handler, and event streams.
    handled: AtomicUsize,
    /// Of these, requests whose answer is decided and waits.
    pausing: AtomicUsize,
    /// Requests so far.
    begun: AtomicU64,
    /// Something came since the last request ended.
    reading: AtomicBool,
    http2: AtomicBool,
    since: Instant,
    /// When bytes last came or went, in milliseconds after `since`.
    progressed: AtomicU64,
}

/// How little a connection is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// There is no request, or not all of its header.
    Idle,
    /// Every answer that is left to send waits, because of what its sender did.
    Pausing,
    /// A request is being read, or an answer is being sent.
    Transferring,
    /// A request is being handled, or an event stream is open.
    Busy,
}

/// A request that is being read or answered.
pub(super) struct InFlight(Arc<Activity>);

/// A request that is with the handler, or an event stream.
pub(super) struct Handled(Arc<Activity>);

/// A request whose answer is decided and waits.
pub(super) struct Pausing(Arc<Activity>);

impl Default for Activity {
    fn default() -> Self {
        Self {
            active: AtomicUsize::new(0),
            handled: AtomicUsize::new(0),
            pausing: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            since: now(),
            progressed: AtomicU64::new(0),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
fn now() -> Instant {
    Instant::now()
}

impl Activity {
    pub(super) fn begin(self: &Arc<Self>, http2: bool) -> InFlight {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.reading.store(false, Ordering::Relaxed);
        self.http2.store(http2, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Notes that bytes came.
    pub(super) fn received(&self) {
        self.progressed_now();
        if !self.is_active() {
            self.reading.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that bytes came or went.
    pub(super) fn progressed_now(&self) {
        let passed = now().saturating_duration_since(self.since).as_millis();
        self.progressed.store(u64::try_from(passed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When bytes last came or went.
    pub(super) fn progressed(&self) -> Instant {
        let passed = Duration::from_millis(self.progressed.load(Ordering::Relaxed));
        self.since.checked_add(passed).unwrap_or(self.since)
    }

    /// Whether a request is being read or answered.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Requests so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the header of a request has begun to come. On HTTP/2, bytes between requests need not begin one.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed) && !self.http2.load(Ordering::Relaxed)
    }

    pub(super) fn standing(&self) -> Standing {
        match self.handled.load(Ordering::Relaxed) {
            0 if !self.is_active() => Standing::Idle,
            0 if self.active.load(Ordering::Relaxed) <= self.pausing.load(Ordering::Relaxed) => Standing::Pausing,
            0 => Standing::Transferring,
            _ => Standing::Busy,
        }
    }
}

impl InFlight {
    /// Marks the request as one that is with the handler, until the mark is dropped.
    pub(super) fn handled(&self) -> Handled {
        self.0.handled.fetch_add(1, Ordering::Relaxed);
        Handled(Arc::clone(&self.0))
    }

    /// Marks the request as one whose answer waits, until the mark is dropped.
    pub(super) fn pausing(&self) -> Pausing {
        self.0.pausing.fetch_add(1, Ordering::Relaxed);
        Pausing(Arc::clone(&self.0))
    }
}

impl Clone for InFlight {
    fn clone(&self) -> Self {
        self.0.active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        self.0.handled.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pausing {
    fn drop(&mut self) {
        self.0.pausing.fetch_sub(1, Ordering::Relaxed);
    }
}
