//! What observes requests: the program's telemetry.

use std::future::{Future, poll_fn};
use std::pin::pin;

use http::{HeaderMap, Method, StatusCode};

/// Observes requests.
pub trait Observer: Send + Sync + 'static {
    /// The head of a request has arrived. `path` is below the public URL. `None`: the request is not observed.
    fn request(
        &self,
        method: &Method,
        path: &str,
        https: bool,
        headers: &HeaderMap,
    ) -> Option<Box<dyn ObservedRequest>>;
}

/// One request, from its head to the end of its answer, when this is dropped.
pub trait ObservedRequest: Send + Sync {
    /// All of the request is here.
    fn received(&mut self, body: &[u8]);
    /// The head of the answer is known.
    fn answered(&mut self, status: StatusCode);
    /// What lines of the log about this request are in.
    fn log_span(&self) -> tracing::Span;
    /// Calls `work` once, with the request as what is going on in this thread.
    fn within(&self, work: &mut dyn FnMut());
}

/// Observes nothing.
#[derive(Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn request(&self, _: &Method, _: &str, _: bool, _: &HeaderMap) -> Option<Box<dyn ObservedRequest>> {
        None
    }
}

/// A request that may be observed.
pub(crate) struct Observed(pub(crate) Option<Box<dyn ObservedRequest>>);

impl Observed {
    pub(crate) fn received(&mut self, body: &[u8]) {
        if let Some(observed) = &mut self.0 {
            observed.received(body);
        }
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        if let Some(observed) = &mut self.0 {
            observed.answered(status);
        }
    }

    pub(crate) fn log_span(&self) -> tracing::Span {
        self.0.as_ref().map_or_else(tracing::Span::none, |observed| observed.log_span())
    }

    /// What `work` returns, called with the request as what is going on.
    pub(crate) fn within<T>(&self, mut work: impl FnMut() -> T) -> T {
        let Some(observed) = &self.0 else { return work() };
        let mut result = None;
        observed.within(&mut || result = Some(work()));
        // An observer that does not call is no reason not to work.
        result.unwrap_or_else(work)
    }

    /// Runs a future with the request as what is going on whenever it runs.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| self.within(|| future.as_mut().poll(context))).await
    }
}
