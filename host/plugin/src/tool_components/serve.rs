//! One HTTP request through a tool component that is a whole MCP server (`wasi:http/incoming-handler`).
//!
//! The request has an instance of its own. The answer streams: reading its body runs the component. Size and time are
//! bounded from the first byte to the last.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::Full;
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::call_context::CallContext;
use super::error::ServeError;
use super::loaded::Exports;
use super::server::{Admitted, Server, ended};
use crate::http_call::{OutgoingHead, poll_written};
use crate::instance_pool::Watched;

/// The host that a component sees if the request names none.
const DEFAULT_HOST: HeaderValue = HeaderValue::from_static("localhost");

type CallFuture = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

/// The body of an answer, which the component writes while it is read. Dropping it ends the call.
pub struct ToolBody {
    /// The component, until it has returned.
    call: Option<CallFuture>,
    written: HyperOutgoingBody,
    passed: usize,
    server: Arc<Server>,
    admitted: Admitted,
}

impl std::fmt::Debug for ToolBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolBody")
            .field("server", self.server.name())
            .field("passed", &self.passed)
            .finish_non_exhaustive()
    }
}

pub(super) async fn serve(
    server: &Arc<Server>,
    mut request: Request<Bytes>,
    handle: &str,
) -> Result<Response<ToolBody>, ServeError> {
    let Exports::Http(_) = server.loaded().exports else {
        return Err(ServeError::Unavailable(format!("{:?} does not speak MCP itself", server.name())));
    };
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
        request.headers_mut().remove(name);
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, DEFAULT_HOST);
    }
    let admitted = server.admit(handle)?;
    let (sender, mut head) = oneshot::channel();
    let mut call: CallFuture = Box::pin(run(Arc::clone(server), Arc::clone(&admitted.context), request, sender));
    let first = std::future::poll_fn(|context| poll_head(&mut call, &mut head, context)).await;
    match first {
        Ok((response, running)) => {
            let call = running.then_some(call);
            let body = |written| ToolBody { call, written, passed: 0, server: Arc::clone(server), admitted };
            Ok(response.map(body))
        }
        Err(error) => Err(failed(server, &admitted, error)),
    }
}

/// Runs the component from the request to the end of its answer, within the time limit.
async fn run(
    server: Arc<Server>,
    context: Arc<CallContext>,
    request: Request<Bytes>,
    sender: oneshot::Sender<OutgoingHead>,
) -> Result<(), ServeError> {
    let Exports::Http(pre) = &server.loaded().exports else {
        return Err(ServeError::Unavailable(String::new()));
    };
    let running = async {
        let mut store = server.store(pre.engine());
        store.begin(context);
        let (store, runaway) = (&mut store.store, store.runaway);
        let answering = async {
            let proxy = pre.instantiate_async(&mut *store).await?;
            let scheme = match request.uri().scheme_str() {
                Some("https") => Scheme::Https,
                _ => Scheme::Http,
            };
            let mut view = store.data_mut().http();
            let request = view.new_incoming_request(scheme, request.map(Full::new))?;
            let out = view.new_response_outparam(sender)?;
            proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await
        };
        let answered = Watched::run(answering, runaway).await;
        answered.map_err(|error| ended(&error, store))
    };
    server.in_time(running).await?
}

/// Runs the component until there is the head of an answer. Also returns whether it still runs.
fn poll_head(
    call: &mut CallFuture,
    head: &mut oneshot::Receiver<OutgoingHead>,
    context: &mut Context<'_>,
) -> Poll<Result<(Response<HyperOutgoingBody>, bool), ServeError>> {
    let returned = match call.as_mut().poll(context) {
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    // The budget of the runtime must not hide an answer that is there.
    match pin!(tokio::task::unconstrained(head)).poll(context) {
        Poll::Ready(Ok(Ok(response))) => Poll::Ready(Ok((response, !returned))),
        Poll::Ready(Ok(Err(code))) => {
            Poll::Ready(Err(ServeError::Ended(format!("it answers with the error {code:?}"))))
        }
        Poll::Pending if !returned => Poll::Pending,
        Poll::Pending | Poll::Ready(Err(_)) => Poll::Ready(Err(ServeError::Ended("it does not answer".to_owned()))),
    }
}

/// The reason that is more useful than what the component made of it.
fn failed(server: &Server, admitted: &Admitted, error: ServeError) -> ServeError {
    let error = admitted.context.take_undelegated().map_or(error, ServeError::Delegation);
    tracing::warn!(server = %server.name(), %error, "a tool component did not answer");
    error
}

impl ToolBody {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ServeError>>> {
        loop {
            if let Some(call) = &mut self.call
                && let Poll::Ready(result) = call.as_mut().poll(context)
            {
                self.call = None;
                if let Err(error) = result {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match poll_written(&mut self.written, context) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are left out: no client reads them.
                    let Ok(data) = frame.into_data() else { continue };
                    self.passed = self.passed.saturating_add(data.len());
                    if self.passed > self.server.max_answer_bytes {
                        self.call = None;
                        return Poll::Ready(Some(Err(self.server.too_large())));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(unfinished()))),
                Poll::Pending if self.call.is_some() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Some(Err(unfinished()))),
            }
        }
    }
}

fn unfinished() -> ServeError {
    ServeError::Ended("it did not finish its answer".to_owned())
}

impl Body for ToolBody {
    type Data = Bytes;
    type Error = ServeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ServeError>>> {
        let polled = self.poll_next(context);
        match polled {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(failed(&self.server, &self.admitted, error)))),
            polled => polled,
        }
    }
}
