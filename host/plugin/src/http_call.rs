//! One HTTP request through the component: the embedding interface below the HTTP transport.
//!
//! The request arrives whole, so that no instance waits for a slow sender. Nearly every answer is whole too and comes
//! with the one call that `whole_request.rs` makes. A request whose answer may be an event stream goes through
//! `wasi:http/incoming-handler`. Such an answer is collected while the component writes it, so that no instance waits
//! for a slow reader. Only an event stream keeps its instance: reading its body runs the component.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::bindings::Bundled as Exports;
use crate::client_channel::NoChannel;
use crate::component_call::no_lease;
use crate::error::Error;
use crate::instance::InstanceState;
use crate::plugin::Plugin;

/// Largest answer in bytes, except for event streams. The component's largest answers, lists and pages, have some KiB.
pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The header in which the component names the correlation id of an error.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Seconds after which a client may repeat a request that found all instances busy.
const RETRY_AFTER_SECONDS: u32 = 1;

type CallFuture = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>;
pub(crate) type OutgoingHead = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// The body of an answer: all of it, or an event stream. Dropping an event stream ends its call and its instance.
#[derive(Debug)]
pub struct HttpBody(BodyContent);

enum BodyContent {
    Full(Option<Bytes>),
    Stream(ComponentStream),
}

/// The component, and the bytes that it has written.
struct ComponentStream {
    call: Option<CallFuture>,
    written: HyperOutgoingBody,
    correlation_id: String,
}

impl std::fmt::Debug for BodyContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(bytes) => f.debug_tuple("Full").field(&bytes.as_ref().map(Bytes::len)).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// An event stream broke off because the component failed. The log has the details under the correlation id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off (correlation id {correlation_id})")]
pub struct BrokenOff {
    /// Correlation id of the call in the log.
    pub correlation_id: String,
}

impl HttpBody {
    /// A complete body.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(BodyContent::Full(Some(bytes.into())))
    }

    /// The bytes of a complete body; otherwise the event stream itself.
    pub fn into_bytes(self) -> Result<Bytes, Self> {
        match self.0 {
            BodyContent::Full(bytes) => Ok(bytes.unwrap_or_default()),
            BodyContent::Stream(_) => Err(self),
        }
    }

    /// Whether the component goes on writing while the body is read.
    pub fn is_event_stream(&self) -> bool {
        matches!(self.0, BodyContent::Stream(_))
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
            BodyContent::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(Frame::data).map(Ok))
            }
            BodyContent::Stream(stream) => stream.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodyContent::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            BodyContent::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodyContent::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len).try_into().unwrap_or(u64::MAX))
            }
            BodyContent::Stream(_) => SizeHint::default(),
        }
    }
}

impl ComponentStream {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(call) = &mut self.call
            && let Poll::Ready(result) = call.as_mut().poll(context)
        {
            self.call = None;
            if let Err(error) = result {
                return Poll::Ready(Some(Err(self.broken_off(&error))));
            }
        }
        match poll_written(&mut self.written, context) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.broken_off(&wasmtime::Error::new(error))))),
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(|_| self.unfinished()))),
            Poll::Pending if self.call.is_some() => Poll::Pending,
            // The component returned without an end of its output.
            Poll::Pending => Poll::Ready(Some(Err(self.unfinished()))),
        }
    }

    fn broken_off(&self, error: &wasmtime::Error) -> BrokenOff {
        let correlation_id = self.correlation_id.clone();
        tracing::error!(%correlation_id, error = format!("{error:?}"), "an event stream broke off");
        BrokenOff { correlation_id }
    }

    fn unfinished(&self) -> BrokenOff {
        self.broken_off(&wasmtime::Error::msg("the component did not finish it"))
    }
}

impl Plugin {
    /// Answers one HTTP request. Its URI holds at least the path and the query, and the URI or `Host` names the host.
    /// The embedder sets and clears the header that the settings name as `client-address-header`, and clears the one
    /// that they name as `token-header` unless the request comes from a trusted gateway.
    ///
    /// Never fails: if the component fails or is too busy, the answer is a 500 or 503 in plain text with the
    /// correlation id of the log. There is no time limit: dropping the future, or the body of an event stream, ends the
    /// call.
    pub async fn handle_http(&self, request: Request<Bytes>) -> Response<HttpBody> {
        if !names_its_host(&request) {
            return self.refuse(StatusCode::BAD_REQUEST, "the request names no host");
        }
        let (method, uri) = match self.answer_whole(&request).await {
            Ok(Some(answer)) => return logged(request.method(), request.uri(), answer),
            Ok(None) => (request.method().clone(), request.uri().clone()),
            Err(error) => return failed(&error),
        };
        match Box::pin(self.answer_streaming(request)).await {
            Ok(answer) => logged(&method, &uri, answer),
            Err(error) => failed(&error),
        }
    }

    /// An answer in plain text. The log has the same correlation id.
    fn refuse(&self, status: StatusCode, reason: &str) -> Response<HttpBody> {
        let correlation_id = self.correlation_id();
        tracing::info!(%correlation_id, status = status.as_u16(), reason, "a request was refused");
        plain_text(status, reason, &correlation_id)
    }

    /// Answers a request through `wasi:http/incoming-handler`.
    pub(crate) async fn answer_streaming(&self, request: Request<Bytes>) -> Result<Response<HttpBody>, Error> {
        let lease = match self.pool.lease(Arc::new(NoChannel)).await {
            Ok(lease) => lease,
            Err(error) => return Err(no_lease(error, self.correlation_id())),
        };
        let (sender, mut head) = oneshot::channel();
        let mut call: CallFuture =
            Box::pin(lease.call(async move |exports: &Exports, store: &mut Store<InstanceState>| {
                let mut view = store.data_mut().http();
                let scheme = match request.uri().scheme_str() {
                    Some("https") => Scheme::Https,
                    _ => Scheme::Http,
                };
                let request = view.new_incoming_request(scheme, request.map(Full::new))?;
                let out = view.new_response_outparam(sender)?;
                exports.wasi_http_incoming_handler().call_handle(store, request, out).await
            }));
        let trapped = |error: wasmtime::Error| {
            let correlation_id = self.correlation_id();
            tracing::error!(%correlation_id, error = format!("{error:?}"), "the component failed");
            Error::Trapped { correlation_id }
        };
        let (response, running) = first(&mut call, &mut head).await.map_err(trapped)?;
        let (mut parts, written) = response.into_parts();
        if is_event_stream(&parts.headers) {
            let call = running.then_some(call);
            let stream = ComponentStream { call, written, correlation_id: self.correlation_id() };
            return Ok(Response::from_parts(parts, HttpBody(BodyContent::Stream(stream))));
        }
        let bytes = collect(running.then_some(call), written).await.map_err(trapped)?;
        // The answer to HEAD declares the length of the body that it leaves out.
        if !bytes.is_empty() {
            parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
        }
        Ok(Response::from_parts(parts, HttpBody::full(bytes)))
    }
}

/// Logs an error answer of the component, so that the correlation id that the client saw leads to an entry. The query
/// is left out: it may hold secrets. The audit record of the refusal has the reason.
fn logged<B>(method: &Method, uri: &Uri, response: Response<B>) -> Response<B> {
    if response.status().is_client_error() || response.status().is_server_error() {
        let correlation_id = response.headers().get(CORRELATION_ID).and_then(|id| id.to_str().ok());
        let status = response.status().as_u16();
        tracing::info!(correlation_id, status, %method, path = uri.path(), "a request was refused");
    }
    response
}

/// Runs the call until it has produced the head of the answer. Also returns whether the call still runs.
async fn first(
    call: &mut CallFuture,
    head: &mut oneshot::Receiver<OutgoingHead>,
) -> wasmtime::Result<(Response<HyperOutgoingBody>, bool)> {
    let mut running = true;
    poll_fn(|context| {
        if running && let Poll::Ready(result) = call.as_mut().poll(context) {
            running = false;
            if let Err(error) = result {
                return Poll::Ready(Err(error));
            }
        }
        match pin!(unconstrained(&mut *head)).poll(context) {
            Poll::Ready(Ok(Ok(response))) => Poll::Ready(Ok((response, running))),
            Poll::Ready(Ok(Err(code))) => {
                Poll::Ready(Err(wasmtime::Error::msg(format!("it answers with the error {code:?}"))))
            }
            Poll::Pending if running => Poll::Pending,
            // The answer may still be in the instance, unread.
            Poll::Pending | Poll::Ready(Err(_)) => Poll::Ready(Err(wasmtime::Error::msg("it does not answer"))),
        }
    })
    .await
}

/// Runs the call to its end, and collects its output.
async fn collect(mut call: Option<CallFuture>, mut written: HyperOutgoingBody) -> wasmtime::Result<Bytes> {
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    let mut ended = false;
    poll_fn(|context| {
        loop {
            if let Some(running) = &mut call
                && let Poll::Ready(result) = running.as_mut().poll(context)
            {
                call = None;
                result?;
            }
            let mut progress = false;
            while !ended && let Poll::Ready(frame) = poll_written(&mut written, context) {
                progress = true;
                let Some(frame) = frame else {
                    ended = true;
                    break;
                };
                // Trailers are dropped: no caller reads them.
                let Ok(data) = frame?.into_data() else { continue };
                if first.len().saturating_add(more.len()).saturating_add(data.len()) > MAX_ANSWER_BYTES {
                    return Poll::Ready(Err(wasmtime::Error::msg("its answer is too long")));
                }
                if first.is_empty() && more.is_empty() {
                    first = data;
                } else {
                    if more.is_empty() {
                        more.extend_from_slice(&std::mem::take(&mut first));
                    }
                    more.extend_from_slice(&data);
                }
            }
            match (&call, ended, progress) {
                (None, true, _) => return Poll::Ready(Ok(())),
                (None, false, _) => return Poll::Ready(Err(wasmtime::Error::msg("it does not finish its answer"))),
                // Reading may have made room for more output.
                (Some(_), _, true) => {}
                (Some(_), _, false) => return Poll::Pending,
            }
        }
    })
    .await?;
    Ok(if more.is_empty() { first } else { more.freeze() })
}

/// Takes the output that is written and not read yet. A component that has returned writes nothing more, so "no output
/// yet" has to be reliable here: the budget of the runtime, which makes a task pause, is switched off.
pub(crate) fn poll_written(
    written: &mut HyperOutgoingBody,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, <HyperOutgoingBody as Body>::Error>>> {
    pin!(unconstrained(poll_fn(|context| Pin::new(&mut *written).poll_frame(context)))).poll(context)
}

fn names_its_host(request: &Request<Bytes>) -> bool {
    match request.uri().authority() {
        Some(_) => true,
        None => request
            .headers()
            .get(http::header::HOST)
            .is_some_and(|host| host.to_str().is_ok_and(|host| !host.is_empty())),
    }
}

fn is_event_stream(headers: &http::HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..b"text/event-stream".len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}

fn failed(error: &Error) -> Response<HttpBody> {
    match error {
        Error::Busy { correlation_id } => {
            let reason = "the server is busy, try again in a moment";
            let mut response = plain_text(StatusCode::SERVICE_UNAVAILABLE, reason, correlation_id);
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
            response
        }
        error => {
            let correlation_id = error.correlation_id().unwrap_or_default();
            plain_text(StatusCode::INTERNAL_SERVER_ERROR, "internal error", correlation_id)
        }
    }
}

/// An answer of the host's own. It tells the client no more than necessary.
fn plain_text(status: StatusCode, reason: &str, correlation_id: &str) -> Response<HttpBody> {
    let text = format!("{reason} (correlation id {correlation_id})\n");
    let mut response = Response::new(HttpBody::full(text.into_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
