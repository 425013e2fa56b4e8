//! The component's outgoing HTTP: the port that carries its requests, and the one that observes them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "tools")]
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::{Error, RequestOptions, WasiHttpHooks};

/// The body of a request from the component.
pub type RequestBody = UnsyncBoxBody<Bytes, Error>;
/// The body of the answer.
pub type ResponseBody = UnsyncBoxBody<Bytes, Error>;
/// A boxed future.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Carries the component's requests. It alone decides what the component may reach.
pub trait Outbound: Send + Sync + 'static {
    /// Sends one request. The task of the asking call calls it; another task runs the future.
    fn send(
        self: Arc<Self>,
        request: Request<RequestBody>,
        options: Option<RequestOptions>,
    ) -> BoxFuture<Result<Response<ResponseBody>, Error>>;
}

/// Sends nothing: for components that call no service.
#[derive(Debug, Default)]
pub struct NoOutbound;

impl Outbound for NoOutbound {
    fn send(
        self: Arc<Self>,
        _: Request<RequestBody>,
        _: Option<RequestOptions>,
    ) -> BoxFuture<Result<Response<ResponseBody>, Error>> {
        Box::pin(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}

/// Observes the requests that are sent.
pub trait OutboundObserver: Send + Sync + 'static {
    /// The component starts a request, in the task of the call that it belongs to. `None`: the request is not observed.
    fn request(&self) -> Option<Box<dyn ObservedExchange>>;

    /// What surrounds the call that this task works on now. `None`: nothing does.
    fn surroundings(&self) -> Option<Arc<dyn Surroundings>> {
        None
    }
}

/// The surroundings of a call, such as its trace. They have to surround the work of other tasks for the call as well.
pub trait Surroundings: Send + Sync {
    /// Takes a step inside of them, once.
    fn within(&self, step: &mut dyn FnMut());
}

/// A future of which every step is taken inside of these surroundings.
#[cfg(feature = "tools")]
pub(crate) fn surrounded<F: Future + Send + 'static>(
    surroundings: Option<Arc<dyn Surroundings>>,
    future: F,
) -> impl Future<Output = F::Output> + Send {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |context| match &surroundings {
        None => future.as_mut().poll(context),
        Some(surroundings) => {
            let mut polled = Poll::Pending;
            surroundings.within(&mut || polled = future.as_mut().poll(context));
            polled
        }
    })
}

/// An observed request. If it is dropped before its end, the request was cancelled.
pub trait ObservedExchange: Send {
    /// The request is allowed and about to be sent. The observer may add headers that name the trace.
    fn begun(&mut self, method: &Method, uri: &Uri, headers: &mut HeaderMap);
    /// The head of the answer has arrived.
    fn answered(&mut self, status: StatusCode);
    /// There is no answer.
    fn failed(&mut self);
}

/// Observes nothing.
#[derive(Debug, Default)]
pub struct NoObserver;

impl OutboundObserver for NoObserver {
    fn request(&self) -> Option<Box<dyn ObservedExchange>> {
        None
    }
}

/// Hands the requests of an instance over: what the data of its store has for `wasi:http`.
pub struct OutboundHooks {
    http: Arc<dyn Outbound>,
}

impl fmt::Debug for OutboundHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundHooks").finish_non_exhaustive()
    }
}

impl OutboundHooks {
    /// The requests go to `http`.
    pub fn new(http: Arc<dyn Outbound>) -> Self {
        Self { http }
    }

    /// Whether an instance may neither see nor set a field. The same as the default of `wasi:http`, which builds the list
    /// anew for every field of every message.
    pub(crate) fn forbids(name: &HeaderName) -> bool {
        matches!(
            name.as_str(),
            "connection"
                | "host"
                | "http2-settings"
                | "keep-alive"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "proxy-connection"
                | "transfer-encoding"
                | "upgrade"
        )
    }
}

impl WasiHttpHooks for OutboundHooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        Self::forbids(name)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<RequestBody>,
        options: Option<RequestOptions>,
        _transmitted: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        sending(Arc::clone(&self.http).send(request, options))
    }
}

/// An exchange in the form that `wasi:http` wants it: the response, and what is left to do then.
pub(crate) type Sending = Box<
    dyn Future<Output = Result<(Response<ResponseBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>>
        + Send,
>;

/// The exchange that ends with this response.
pub(crate) fn sending(
    response: impl Future<Output = Result<Response<ResponseBody>, Error>> + Send + 'static,
) -> Sending {
    Box::new(async move {
        let response = response.await?;
        // The client drives the connection; there is nothing left to wait for.
        let rest: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(std::future::ready(Ok(())));
        Ok((response, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_the_component_may_not_see_or_set_are_those_of_wasi_http() {
        let mut hooks = OutboundHooks::new(Arc::new(NoOutbound));
        for name in wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS {
            assert!(hooks.is_forbidden_header(&name), "{name}");
        }
        for name in ["authorization", "origin", "content-length", "cookie", "x-forwarded-for"] {
            assert!(!hooks.is_forbidden_header(&HeaderName::from_static(name)), "{name}");
        }
    }
}
