//! Requests of a tool component: where they may go, and whose token they carry.
//!
//! The token is decided by the call that the store serves, never by anything in the request. The component does not see
//! it: it is added after the request has left the store, and nothing in the answer tells it (`scrub.rs`). The host
//! drops what the component itself says about an identity, above all `Authorization`. Redirects are answers, which the
//! component may follow by a request of its own, if that is allowed.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use entra_mcp_boundary::claims_challenge::wanted_claims;
use entra_mcp_boundary::request::{any_charset, endangers_token, tells_identity};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiHttpHooks};
use zeroize::Zeroizing;

use super::call_context::{CallContext, NoRequestPlace, RequestPlace};
use super::delegation::{DelegatedTokens, unavailable};
use super::destinations::{Destination, Destinations, Refused};
use super::scrub::{CarriedToken, scrubbed};
use crate::clock::Clock;
use crate::gatekeeper::Challenge;
use crate::outbound::{
    ObservedExchange, Outbound, OutboundHooks, OutboundObserver, RequestBody, ResponseBody, Sending, sending,
    surrounded,
};
use crate::provided_tools::{DelegationError, DelegationErrorCategory};

/// Longest body of a request in bytes. It is kept in memory until the answer is there, for the case of a challenge.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// How often a request is sent at most: once more if the API wants another token.
const MAX_SENDS: usize = 2;

/// Part of a body in bytes that a component of WASI 0.3 hands over at once. Such a part is copied before its request has a
/// place.
const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// Requests of all calls of one server that may be on their way at once; further ones wait. Systems commonly allow a program
/// 1,024 open files, and one server must leave enough of them to the others.
pub(super) const MAX_REQUESTS_OF_A_SERVER: usize = 256;

type Answer = Result<Response<ResponseBody>, Error>;

/// Observers of what a request leads to: it may be sent twice.
type Observed = Vec<Box<dyn ObservedExchange>>;

/// The way out of a tool component.
pub(super) struct Egress {
    /// The name of the server, for the log.
    pub(super) server: Arc<str>,
    pub(super) destinations: Destinations,
    pub(super) http: Arc<dyn Outbound>,
    pub(super) tokens: Arc<dyn DelegatedTokens>,
    pub(super) observer: Arc<dyn OutboundObserver>,
    /// Of the time that requests wait.
    pub(super) clock: Arc<dyn Clock>,
    /// Places for requests of all calls.
    pub(super) places: Arc<Semaphore>,
}

impl Egress {
    /// Observers for a request of the call that is going on in this task.
    fn observe(&self) -> Observed {
        (0..MAX_SENDS).filter_map(|_| self.observer.request()).collect()
    }

    /// Sends a request of a call, if its destination is allowed.
    async fn send(
        &self,
        call: &CallContext,
        request: Request<RequestBody>,
        options: Option<RequestOptions>,
        observed: Observed,
    ) -> Answer {
        // Its own place first: a call that has none takes none from the others.
        let mut own = call.place(&*self.clock).await.map_err(|refused| self.not_sent(call, refused))?;
        let shared = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Error::HttpRequestDenied)?;
        // The body is taken before any decision. Otherwise the tool would learn that its body is not wanted, but not why.
        let (mut head, body) = request.into_parts();
        let body = collected(body).await?;
        let (destination, target) = match self.destinations.find(&head.method, &head.uri) {
            Ok(found) => found,
            Err(refused) => {
                self.log_refused(call, &refused);
                return Err(Error::HttpRequestDenied);
            }
        };
        head.uri = target;
        let telling: Vec<HeaderName> =
            head.headers.keys().filter(|name| tells_identity(name.as_str())).cloned().collect();
        for name in telling {
            head.headers.remove(&name);
            if call.logs_refusal() {
                tracing::info!(server = %self.server, %name, "a header field by which a tool names an identity was dropped");
            }
        }
        let exchange = Exchange { egress: self, call, head, body, options, observed: Mutex::new(observed) };
        let answer = if destination.permissions.is_empty() {
            scrubbed(exchange.send(None).await?, &call.tokens, CarriedToken::NoToken)
        } else {
            exchange.send_delegated(destination).await
        };
        let answer = answer?;
        own.answered();
        Ok(answer.map(|inner| OnItsWay { inner, places: Some((own, shared)) }.boxed_unsync()))
    }

    fn not_sent(&self, call: &CallContext, refused: NoRequestPlace) -> Error {
        let reason = match refused {
            NoRequestPlace::Ended => return Error::HttpRequestDenied,
            NoRequestPlace::TooMany => "too many of its requests wait already",
            NoRequestPlace::Unread => "it does not read the answers to its other requests",
        };
        if call.logs_refusal() {
            tracing::warn!(server = %self.server, reason, "a request of a tool was not sent");
        }
        Error::ConnectionLimitReached
    }

    fn log_refused(&self, call: &CallContext, refused: &Refused) {
        if !call.logs_refusal() {
            return;
        }
        let server = &self.server;
        match refused {
            Refused::NotListed { to } => tracing::warn!(
                %server,
                missing = format!("egress = [{{ to = {to:?} }}]"),
                "a request of a tool was denied: its destination is not configured"
            ),
            Refused::Method(method) => {
                tracing::warn!(%server, %method, "a request of a tool was denied: its method is never allowed");
            }
            Refused::UnclearHost => {
                tracing::warn!(%server, "a request of a tool was denied: servers read its host in different ways");
            }
            Refused::UnclearPath => {
                tracing::warn!(%server, "a request of a tool was denied: servers read its path in different ways");
            }
        }
    }
}

/// A request that is allowed.
struct Exchange<'a> {
    egress: &'a Egress,
    call: &'a CallContext,
    head: http::request::Parts,
    body: Bytes,
    options: Option<RequestOptions>,
    observed: Mutex<Observed>,
}

impl Exchange<'_> {
    /// Sends the request in the caller's name. If the API wants another token, it gets one, once.
    async fn send_delegated(&self, destination: &Destination) -> Answer {
        let token = match self.token(destination, None).await {
            Ok(token) => token,
            Err(error) => {
                self.call.not_delegated(error);
                return Err(Error::HttpRequestDenied);
            }
        };
        let answer = self.send(Some(&token)).await?;
        let Some(claims) = challenge(&answer) else { return scrubbed(answer, &self.call.tokens, CarriedToken::Token) };
        let refused = Challenge { refused_token: token.to_string(), claims };
        let second = match self.token(destination, Some(refused)).await {
            Ok(second) => second,
            Err(error) => {
                self.call.not_delegated(error);
                return scrubbed(answer, &self.call.tokens, CarriedToken::Token);
            }
        };
        drop(answer);
        let answer = self.send(Some(&second)).await?;
        if let Some(claims) = challenge(&answer).filter(|claims| !claims.is_empty()) {
            self.call.not_delegated(DelegationError {
                category: DelegationErrorCategory::NeedsPerson,
                code: "claims-challenge".to_owned(),
                message: "the API asks for more than the sign-in has shown: sign in again".to_owned(),
                claims: Some(claims),
                retry_after_seconds: None,
            });
        }
        scrubbed(answer, &self.call.tokens, CarriedToken::Token)
    }

    async fn token(
        &self,
        destination: &Destination,
        challenge: Option<Challenge>,
    ) -> Result<Zeroizing<String>, DelegationError> {
        let token = self.egress.tokens.token(&self.call.handle, &destination.permissions, challenge).await;
        let server = &self.egress.server;
        let token = token.inspect_err(|error| {
            tracing::info!(%server, code = error.code, "a request of a tool gets no token");
        })?;
        if !self.call.tokens.remember(&token) {
            tracing::warn!(%server, "a call of a tool asked for more different tokens than a call may have");
            return Err(unavailable("too-many-tokens", "the call has had too many different tokens"));
        }
        Ok(token)
    }

    /// Sends the request once.
    async fn send(&self, token: Option<&Zeroizing<String>>) -> Answer {
        if self.call.has_ended() {
            return Err(Error::HttpRequestDenied);
        }
        let mut headers = self.head.headers.clone();
        if let Some(token) = token {
            authorize(&mut headers, token)?;
            state_length(&mut headers, &self.head.method, self.body.len());
        }
        let (method, uri) = (self.head.method.clone(), self.head.uri.clone());
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(observed) = &mut observed {
            observed.begun(&method, &uri, &mut headers);
        }
        let body = Full::new(self.body.clone()).map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        let answer = Arc::clone(&self.egress.http).send(request, self.options).await;
        if let Some(mut observed) = observed {
            match &answer {
                Ok(answer) => observed.answered(answer.status()),
                Err(_) => observed.failed(),
            }
        }
        let answer = answer?;
        // A tool gets no connection of its own.
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::HttpUpgradeFailed);
        }
        Ok(answer)
    }
}

fn authorize(headers: &mut HeaderMap, token: &Zeroizing<String>) -> Result<(), Error> {
    let dangerous: Vec<HeaderName> = headers.keys().filter(|name| endangers_token(name.as_str())).cloned().collect();
    for name in dangerous.into_iter().chain([header::CONTENT_LENGTH]) {
        headers.remove(name);
    }
    let accepted: Vec<_> = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes).collect();
    if let Some(accepted) = any_charset(&accepted) {
        headers.remove(header::ACCEPT);
        for value in accepted.iter().filter_map(|value| HeaderValue::from_str(value).ok()) {
            headers.append(header::ACCEPT, value);
        }
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let value = Zeroizing::new(format!("Bearer {}", token.as_str()));
    let mut value = HeaderValue::from_str(&value).map_err(|_| Error::ConfigurationError)?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(())
}

/// The body is whole, and the HTTP client states its length. It leaves out the length of an empty body, which servers
/// demand of methods that have one.
fn state_length(headers: &mut HeaderMap, method: &http::Method, length: usize) {
    if length == 0 && [http::Method::POST, http::Method::PUT, http::Method::PATCH].contains(method) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// The claims that an API wants of another token, if it refused this one. Empty: any other one.
fn challenge(answer: &Response<ResponseBody>) -> Option<String> {
    (answer.status() == StatusCode::UNAUTHORIZED).then(|| wanted_claims(answer.headers())).flatten()
}

async fn collected(mut body: RequestBody) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are left out.
        let Ok(data) = frame?.into_data() else { continue };
        let length = bytes.len().saturating_add(data.len());
        if length > MAX_REQUEST_BYTES {
            return Err(Error::HttpRequestBodySize(u64::try_from(length).ok()));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// The body of an answer. Its request is on its way until the end of the body, or until it is dropped.
struct OnItsWay {
    inner: ResponseBody,
    places: Option<(RequestPlace, OwnedSemaphorePermit)>,
}

impl Body for OnItsWay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some((own, _)) = &self.places {
            own.read();
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.places = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The way out, as the store of an instance has it.
pub(super) struct ToolHooks {
    pub(super) egress: Arc<Egress>,
    /// The call that the instance serves. Without one, nothing is sent.
    pub(super) call: Option<Arc<CallContext>>,
}

impl WasiHttpHooks for ToolHooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        OutboundHooks::forbids(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(OutboundHooks::forbids)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<RequestBody>,
        options: Option<RequestOptions>,
        _transmitted: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        // The call is that of this moment, whatever the instance serves when the request is sent.
        let (egress, call) = (Arc::clone(&self.egress), self.call.clone());
        // Another task sends the request, and gets the token for it.
        let (observed, surroundings) = (egress.observe(), egress.observer.surroundings());
        sending(surrounded(surroundings, async move {
            let call = call.ok_or(Error::HttpRequestDenied)?;
            egress.send(&call, request, options, observed).await
        }))
    }
}

#[cfg(test)]
mod tests;
