//! One HTTP request through a tool component that is a whole MCP server (`wasi:http/incoming-handler`, or
//! `wasi:http/handler` of WASI 0.3).
//!
//! The request has an instance of its own, and a task that runs it. The answer streams: the task hands over what the
//! component writes as it is read. The task bounds size and time from the first byte to the last, with a timer of its
//! own, so a client that does not read changes nothing about that.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::Full;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument as _;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::call_context::CallContext;
use super::error::ServeError;
use super::loaded::Exports;
use super::server::{AdmittedCall, Server, ended};
use super::state::ToolState;
use crate::http_call::{OutgoingHead, poll_written};
use crate::instance_pool::Watched;
use crate::outbound::surrounded;

mod handler;

/// The host that a component sees if the request names none.
const DEFAULT_HOST: HeaderValue = HeaderValue::from_static("localhost");

/// Parts of an answer that wait to be read. They stay after the call has ended, so they are few.
const MAX_UNREAD_PARTS: usize = 2;

type CallFuture = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

/// The body of an answer, which the component writes while it is read. Dropping it ends the call.
pub struct ToolBody {
    parts: mpsc::Receiver<Bytes>,
    /// The one task of the call. Dropping the set ends it.
    task: JoinSet<Result<(), ServeError>>,
}

impl std::fmt::Debug for ToolBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolBody").field("running", &!self.task.is_empty()).finish_non_exhaustive()
    }
}

pub(super) async fn serve(
    server: &Arc<Server>,
    mut request: Request<Bytes>,
    handle: &str,
) -> Result<Response<ToolBody>, ServeError> {
    let (Exports::Http(_) | Exports::Service(_)) = server.loaded().exports else {
        return Err(ServeError::Unavailable(format!("{:?} does not speak MCP itself", server.name())));
    };
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
        request.headers_mut().remove(name);
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, DEFAULT_HOST);
    }
    // The gate in front bounds the requests of one caller.
    let admitted = server.admit(None, handle)?;
    let (sender, head) = oneshot::channel();
    let context = Arc::clone(&admitted.context);
    let call: CallFuture = Box::pin(run(Arc::clone(server), Arc::clone(&context), request, sender));
    let mut answer = answered(server, admitted, call, head).await?;
    // What it makes of that is inside of an answer that looks like any other.
    if let Some(undelegated) = context.undelegated() {
        tracing::info!(server = %server.name(), code = undelegated.code, "a tool component got no token before it answered");
        answer.extensions_mut().insert(undelegated);
    }
    Ok(answer)
}

/// Runs a call, which sends the head of its answer, in a task of its own. Returns when the head is there.
async fn answered(
    server: &Arc<Server>,
    admitted: AdmittedCall,
    call: CallFuture,
    head: oneshot::Receiver<OutgoingHead>,
) -> Result<Response<ToolBody>, ServeError> {
    let (head_sender, head_of_answer) = oneshot::channel();
    let (parts_sender, parts) = mpsc::channel(MAX_UNREAD_PARTS);
    let surroundings = server.grants().egress.observer.surroundings();
    let (server, mut task) = (Arc::clone(server), JoinSet::new());
    let pass_on = async move {
        let passing = passed_on(&server, call, head, head_sender, parts_sender);
        let result = server.in_time(passing).await.and_then(|result| result);
        result.map_err(|error| failed(&server, &admitted, error))
    };
    task.spawn(surrounded(surroundings, pass_on).in_current_span());
    match head_of_answer.await {
        Ok(head) => Ok(Response::from_parts(head, ToolBody { parts, task })),
        Err(_) => match task.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(unfinished()),
        },
    }
}

/// Runs a call, and hands over what it writes, until the end of its answer or until its caller has left.
async fn passed_on(
    server: &Server,
    mut call: CallFuture,
    mut head: oneshot::Receiver<OutgoingHead>,
    head_sender: oneshot::Sender<http::response::Parts>,
    parts: mpsc::Sender<Bytes>,
) -> Result<(), ServeError> {
    let (response, running) = std::future::poll_fn(|context| poll_head(&mut call, &mut head, context)).await?;
    let (head, mut written) = response.into_parts();
    if head_sender.send(head).is_err() {
        return Ok(());
    }
    let (mut call, mut passed) = (running.then_some(call), 0_usize);
    while let Some(frame) = std::future::poll_fn(|context| poll_next(&mut call, &mut written, context)).await? {
        // Trailers are left out: no client reads them.
        let Ok(data) = frame.into_data() else { continue };
        passed = passed.saturating_add(data.len());
        if passed > server.max_answer_bytes {
            return Err(server.too_large());
        }
        if parts.send(data).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs the component from the request to the end of its answer.
async fn run(
    server: Arc<Server>,
    context: Arc<CallContext>,
    request: Request<Bytes>,
    sender: oneshot::Sender<OutgoingHead>,
) -> Result<(), ServeError> {
    let exports = &server.loaded().exports;
    let mut store = server.store(exports.engine());
    store.begin(context);
    let (store, runaway) = (&mut store.store, store.runaway);
    let answered = match exports {
        Exports::Http(pre) => Watched::run(handle(store, pre, request, sender), runaway).await,
        Exports::Service(pre) => Watched::run(handler::run(store, pre, request, sender), runaway).await,
        Exports::Provider(_) => return Err(ServeError::Unavailable(String::new())),
    };
    answered.map_err(|error| ended(&error, store))
}

async fn handle(
    store: &mut Store<ToolState>,
    pre: &ProxyPre<ToolState>,
    request: Request<Bytes>,
    sender: oneshot::Sender<OutgoingHead>,
) -> wasmtime::Result<()> {
    let proxy = pre.instantiate_async(&mut *store).await?;
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(scheme, request.map(Full::new))?;
    let out = view.new_response_outparam(sender)?;
    proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await
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
fn failed(server: &Server, admitted: &AdmittedCall, error: ServeError) -> ServeError {
    let error = admitted.context.take_undelegated().map_or(error, ServeError::Delegation);
    tracing::warn!(server = %server.name(), %error, "a tool component did not answer");
    error
}

/// Runs the component until it has written a part of its answer, or its end.
fn poll_next(
    call: &mut Option<CallFuture>,
    written: &mut HyperOutgoingBody,
    context: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, ServeError>> {
    if let Some(running) = call
        && let Poll::Ready(result) = running.as_mut().poll(context)
    {
        *call = None;
        if let Err(error) = result {
            return Poll::Ready(Err(error));
        }
    }
    match poll_written(written, context) {
        Poll::Ready(None) => Poll::Ready(Ok(None)),
        Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
        Poll::Ready(Some(Err(_))) => Poll::Ready(Err(unfinished())),
        Poll::Pending if call.is_some() => Poll::Pending,
        Poll::Pending => Poll::Ready(Err(unfinished())),
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
        if let Some(data) = ready!(self.parts.poll_recv(context)) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        // The task has ended, or is about to: what became of it tells whether the answer is whole.
        Poll::Ready(match ready!(self.task.poll_join_next(context)) {
            None | Some(Ok(Ok(()))) => None,
            Some(Ok(Err(error))) => Some(Err(error)),
            Some(Err(_)) => Some(Err(unfinished())),
        })
    }
}

#[cfg(test)]
mod tests;
