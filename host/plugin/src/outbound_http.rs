//! The component's outgoing HTTP: `wasi:http/outgoing-handler` with an allow-list.
//!
//! The component may reach the configured origins (scheme, host and port) and nothing else, whatever a message or a
//! metadata document makes it try. A name on the list is not sufficient: the host checks the addresses that it
//! *resolves* to for every connection, so that an attacker cannot point a name at this machine or its network. Only an
//! origin that was itself configured as loopback (an emulator) may be on loopback, and only there does the host accept
//! plain `http`. The host follows no redirects: the component sees them as answers. It uses no proxies.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, RequestOptions};

use crate::outbound::{BoxFuture, NoObserver, ObservedExchange, Outbound, OutboundObserver, RequestBody, ResponseBody};

mod addresses;
mod connect;
pub(crate) mod policy;

pub use addresses::is_public;
pub use connect::{
    AdmitsAddress, ConnectError, GuardedResolver, Resolve, TimedConnector, read_certificates, system_resolver,
    tls_config,
};
pub use policy::{OutboundPolicy, PolicyError};

/// Time to resolve, connect and finish the TLS handshake. A person would not wait longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a whole exchange, from the request to the last byte of the body. Graph ends its own work after 30 s.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest request body in bytes. The largest, a token request with a client assertion, is under 20 KiB.
const MAX_REQUEST_BYTES: u64 = 1024 * 1024;

/// Longest response body in bytes. The largest expected one, a key set or a page of Graph, is under 200 KiB.
const MAX_RESPONSE_BYTES: u64 = 1024 * 1024;

/// Idle connections that are kept per origin. HTTP/2, which Entra ID and Graph speak, needs one.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// How long an idle connection is kept: less than the idle limit of the services.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

type OutboundClient = Client<TimedConnector<HttpsConnector<HttpConnector<GuardedResolver>>>, Full<Bytes>>;

/// Limits of an exchange. Only tests deviate from the defaults.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connect: Duration,
    total: Duration,
    body: u64,
}

const LIMITS: Limits = Limits { connect: CONNECT_TIMEOUT, total: TOTAL_TIMEOUT, body: MAX_RESPONSE_BYTES };

/// Sends the requests of all instances over shared connections.
pub struct OutboundHttp {
    policy: Arc<OutboundPolicy>,
    resolve: Resolve,
    extra_roots: Vec<CertificateDer<'static>>,
    limits: Limits,
    /// Answers everything, if set: no request is sent.
    documents: Option<HashMap<String, Bytes>>,
    observer: Arc<dyn OutboundObserver>,
    /// Made at the first request: reading the system's certificates takes longer than the rest of the start.
    client: OnceLock<Result<OutboundClient, String>>,
}

impl OutboundHttp {
    /// A client for the origins that `policy` allows. `ca_file` (PEM) adds roots of trust to the system's.
    pub fn new(policy: OutboundPolicy, ca_file: Option<&Path>) -> Result<Self, crate::error::Error> {
        let extra_roots = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        Ok(Self {
            policy: Arc::new(policy),
            resolve: system_resolver(),
            extra_roots,
            limits: LIMITS,
            documents: None,
            observer: Arc::new(NoObserver),
            client: OnceLock::new(),
        })
    }

    /// Sets the observer of the requests.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn OutboundObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Sets the time for a whole exchange and the longest answer in bytes. The defaults are for the component's own requests.
    #[must_use]
    pub fn bounds(mut self, total: Duration, response_bytes: u64) -> Self {
        self.limits = Limits { total, body: response_bytes, ..self.limits };
        self
    }

    /// Sets where names lead, in place of the resolver of the operating system. The addresses are checked all the same, for every
    /// connection.
    #[must_use]
    pub fn resolving(mut self, resolve: Resolve) -> Self {
        self.resolve = resolve;
        self
    }

    /// Sends nothing: answers requests for these URLs with these documents, and denies all others.
    pub fn offline(documents: HashMap<String, Vec<u8>>) -> Self {
        Self {
            policy: Arc::new(OutboundPolicy::nothing()),
            resolve: system_resolver(),
            extra_roots: Vec::new(),
            limits: LIMITS,
            documents: Some(documents.into_iter().map(|(url, body)| (url, body.into())).collect()),
            observer: Arc::new(NoObserver),
            client: OnceLock::new(),
        }
    }

    /// The allow-list.
    pub fn policy(&self) -> &OutboundPolicy {
        &self.policy
    }

    fn client(&self) -> Result<OutboundClient, Error> {
        self.client.get_or_init(|| self.make_client()).clone().map_err(|reason| {
            tracing::error!(%reason, "TLS cannot be set up");
            Error::ConfigurationError
        })
    }

    fn make_client(&self) -> Result<OutboundClient, String> {
        let policy = Arc::clone(&self.policy);
        let admits: AdmitsAddress = Arc::new(move |name, address| policy.admits_address(name, address));
        let resolver = GuardedResolver { admits, resolve: Arc::clone(&self.resolve) };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.limits.connect));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(&self.extra_roots)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        Ok(Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .build(TimedConnector::new(https, self.limits.connect)))
    }

    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    async fn exchange(
        self: Arc<Self>,
        request: Request<RequestBody>,
        options: Option<RequestOptions>,
        mut observed: Option<Box<dyn ObservedExchange>>,
    ) -> Result<Response<ResponseBody>, Error> {
        let deadline = Instant::now() + self.limits.total;
        // The whole body is taken before any other decision. Otherwise the component would learn that its body is no
        // longer wanted, but not why. It also gives the request a length, without which some servers refuse it.
        let mut request = match tokio::time::timeout_at(deadline, collected(request)).await {
            Ok(request) => request?,
            Err(_) => return Err(Error::ConnectionWriteTimeout),
        };
        if let Some(documents) = &self.documents {
            let document = documents.get(&request.uri().to_string()).ok_or(Error::HttpRequestDenied)?;
            let body = Full::new(document.clone()).map_err(|never| match never {});
            return Ok(Response::new(body.boxed_unsync()));
        }
        if !self.policy.admits(request.uri()) {
            let uri = request.uri();
            // The query of a URL may hold a secret; the origin does not.
            tracing::warn!(
                target: "entra_mcp_plugin::outbound_http",
                scheme = uri.scheme_str(),
                authority = uri.authority().map(http::uri::Authority::as_str),
                "a request was denied: its target is not on the allow-list"
            );
            return Err(Error::HttpRequestDenied);
        }
        // The headers that the client derives from the URI are right for both versions of HTTP.
        request.headers_mut().remove(http::header::HOST);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        if let Some(observed) = &mut observed {
            observed.begun(&method, &uri, request.headers_mut());
        }
        let first_byte = options.and_then(|options| options.first_byte_timeout).unwrap_or(self.limits.total);
        let answered = tokio::time::timeout_at(
            deadline.min(Instant::now() + first_byte.min(self.limits.total)),
            self.client()?.request(request),
        );
        let response = match answered.await {
            Err(_) => Err(Error::HttpResponseTimeout),
            Ok(Err(error)) => Err(exchange_error(&error)),
            Ok(Ok(response)) => Ok(response),
        };
        if let Some(mut observed) = observed {
            match &response {
                Ok(response) => observed.answered(response.status()),
                Err(_) => observed.failed(),
            }
        }
        let response = response?;
        let declared = response.body().size_hint().lower();
        if declared > self.limits.body {
            return Err(Error::HttpResponseBodySize(Some(declared)));
        }
        let (limit, sleep) = (self.limits.body, Box::pin(tokio::time::sleep_until(deadline)));
        Ok(response.map(|inner| BoundedBody { inner, limit, received: 0, deadline: sleep }.boxed_unsync()))
    }
}

impl Outbound for OutboundHttp {
    fn send(
        self: Arc<Self>,
        request: Request<RequestBody>,
        options: Option<RequestOptions>,
    ) -> BoxFuture<Result<Response<ResponseBody>, Error>> {
        // This runs in the task of the call, which knows its caller. The task that sends does not.
        let observed = self.observer.request();
        Box::pin(self.exchange(request, options, observed))
    }
}

/// The request with its body in memory.
async fn collected(request: Request<RequestBody>) -> Result<Request<Full<Bytes>>, Error> {
    let (head, mut body) = request.into_parts();
    // A body of one piece is not copied: it may have a secret in it, which its owner erases.
    let (mut only, mut joined, mut length) = (Bytes::new(), BytesMut::new(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length = length.saturating_add(data.len().try_into().unwrap_or(u64::MAX));
        if length > MAX_REQUEST_BYTES {
            return Err(Error::HttpRequestBodySize(Some(length)));
        }
        if joined.is_empty() && only.is_empty() {
            only = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut only));
            joined.extend_from_slice(&data);
        }
    }
    let body = if joined.is_empty() { only } else { joined.freeze() };
    Ok(Request::from_parts(head, Full::new(body)))
}

/// Expresses in the terms of `wasi:http` why an exchange failed.
fn exchange_error(error: &hyper_util::client::legacy::Error) -> Error {
    tracing::info!(error = %ErrorChain(error), "an outgoing request failed");
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(known) = known_error(error) {
            return known;
        }
        next = error.source();
    }
    if error.is_connect() { Error::DestinationUnavailable } else { Error::ConnectionTerminated }
}

fn known_error(error: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return Some(match error {
            ConnectError::Dns(..) => Error::DnsError { rcode: None, info_code: None },
            ConnectError::Prohibited(_) => Error::DestinationIpProhibited,
            ConnectError::TimedOut => Error::ConnectionTimeout,
        });
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls_error(error));
    }
    let error = error.downcast_ref::<io::Error>()?;
    // An I/O error may wrap another error that is not its source.
    if let Some(known) = error.get_ref().and_then(|inner| known_error(inner)) {
        return Some(known);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Error::ConnectionRefused),
        io::ErrorKind::TimedOut => Some(Error::ConnectionTimeout),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(Error::DestinationIpUnroutable),
        _ => None,
    }
}

fn tls_error(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Error::TlsCertificateError,
        rustls::Error::AlertReceived(alert) => {
            Error::TlsAlertReceived { alert_id: Some((*alert).into()), alert_message: Some(format!("{alert:?}")) }
        }
        _ => Error::TlsProtocolError,
    }
}

/// An error with its causes, for the log.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a dyn StdError);

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

/// A response body with a size limit and a deadline.
struct BoundedBody<B> {
    inner: B,
    limit: u64,
    received: u64,
    deadline: Pin<Box<Sleep>>,
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for BoundedBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Error::HttpResponseTimeout)));
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                tracing::info!(error = %ErrorChain(&error), "a response broke off");
                return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
            }
            Some(Ok(frame)) => frame,
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.received = self.received.saturating_add(length.try_into().unwrap_or(u64::MAX));
        if self.received > self.limit {
            return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(self.received)))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
