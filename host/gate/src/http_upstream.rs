//! An MCP server over HTTP, wherever its operator runs it.
//!
//! Every request goes to the one configured URL: a client chooses neither path nor query, and redirects are not followed.
//! Proxies are not used. The operator has written the URL down, so loopback, private and public addresses are all
//! allowed, unlike those that the component may reach. Plain http is for this machine and private networks (containers of
//! one host, a cluster): requests carry who the caller is, in headers that anyone on the way could change, and answers
//! carry what the caller may see. A name is judged by the addresses that it resolves to when the connection is made.
//!
//! HTTP/2 is spoken if the server chooses it in the TLS handshake (ALPN), and never without TLS.
//!
//! A request is never sent twice, except when a kept connection turns out to be closed before any byte was sent.

use std::error::Error as StdError;
use std::future::Future as _;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_plugin::outbound_http::{
    AdmitsAddress, ErrorChain, GuardedResolver, TimedConnector, is_public, read_certificates, system_resolver,
    tls_config,
};
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use url::{Host, Url};

use crate::behind::{AnswerBody, Behind, BehindError, Sender, TIME_TO_ANSWER};

/// Idle connections that are kept. Beyond a burst, as many requests at a time are rare.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// How long an idle connection is kept, near by: Node and uvicorn close theirs after 5 s, and a request that meets the
/// closing is lost.
const IDLE_NEAR: Duration = Duration::from_secs(4);

/// The same over TLS, where a new connection costs more, and load balancers wait for a minute.
const IDLE_TLS: Duration = Duration::from_secs(30);

/// Most fields of an answer. Servers send some ten.
const MAX_FIELDS: usize = 100;

/// Bytes of the header of an answer, and of a chunk that is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// After how long without a byte the operating system looks whether the other end still exists.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Bounds of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Time from the request to the head of its answer.
    pub to_answer: Duration,
    /// Time to resolve, connect and finish the TLS handshake.
    pub connect: Duration,
    /// How long an answer may pause. Servers send comments over idle event streams, most of them every 15 s.
    pub idle: Duration,
    /// Requests at the same time, besides event streams (GET). Each takes a connection, unless the server speaks HTTP/2.
    pub requests: usize,
    /// Event streams (GET) at the same time.
    pub streams: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            to_answer: TIME_TO_ANSWER,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(5 * 60),
            requests: 512,
            streams: 1_024,
        }
    }
}

/// Why a URL cannot be that of a server behind.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not an absolute http or https URL with a host.
    #[error("{0:?} is not an absolute http or https URL")]
    NotAUrl(String),
    /// It holds a user name or a password.
    #[error("the URL of an upstream must not contain a user name or a password")]
    Credentials,
    /// http to a public address.
    #[error("{0} is refused: http is for loopback and private networks, use https")]
    Insecure(String),
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] entra_mcp_plugin::Error),
}

type HttpClient = Client<TimedConnector<HttpsConnector<HttpConnector<GuardedResolver>>>, Full<Bytes>>;

/// An MCP server over HTTP.
pub struct HttpUpstream {
    uri: Uri,
    https: bool,
    extra_roots: Vec<CertificateDer<'static>>,
    limits: UpstreamLimits,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Made at the first request: reading the system's certificates takes longer than the rest of the start.
    client: OnceLock<Result<HttpClient, String>>,
}

impl HttpUpstream {
    /// The server at `url`. `ca_file` (PEM) adds roots of trust to the system's.
    pub fn new(url: &str, ca_file: Option<&Path>, limits: UpstreamLimits) -> Result<Self, UrlError> {
        let not_a_url = || UrlError::NotAUrl(url.to_owned());
        let mut parsed = Url::parse(url).map_err(|_| not_a_url())?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(UrlError::Credentials);
        }
        let https = match parsed.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(not_a_url()),
        };
        let address = match parsed.host().ok_or_else(not_a_url)? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::from(address)),
            Host::Ipv6(address) => Some(IpAddr::from(address)),
        };
        if !https && address.is_some_and(is_public) {
            return Err(UrlError::Insecure(url.to_owned()));
        }
        parsed.set_fragment(None);
        let uri = parsed.as_str().parse().map_err(|_| not_a_url())?;
        Ok(Self {
            uri,
            https,
            extra_roots: ca_file.map(read_certificates).transpose()?.unwrap_or_default(),
            limits,
            requests: Arc::new(Semaphore::new(limits.requests)),
            streams: Arc::new(Semaphore::new(limits.streams)),
            client: OnceLock::new(),
        })
    }

    fn client(&self) -> Result<&HttpClient, BehindError> {
        let client = self.client.get_or_init(|| self.make_client()).as_ref();
        client.map_err(|reason| BehindError::Unreachable(format!("TLS cannot be set up: {reason}")))
    }

    fn make_client(&self) -> Result<HttpClient, String> {
        let https = self.https;
        let admits: AdmitsAddress = Arc::new(move |_, address| https || !is_public(address));
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver { admits, resolve: system_resolver() });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.limits.connect));
        tcp.set_keepalive(Some(TCP_KEEP_ALIVE));
        let tls = if https { tls_config(&self.extra_roots)? } else { no_roots()? };
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp);
        Ok(Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(if https { IDLE_TLS } else { IDLE_NEAR })
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .http1_max_headers(MAX_FIELDS)
            .http1_max_buf_size(BUFFER_BYTES)
            .http2_max_header_list_size(BUFFER_BYTES as u32)
            .build(TimedConnector::new(connector, self.limits.connect)))
    }
}

/// Trusts no certificate: for a server that is reached without TLS.
fn no_roots() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

#[async_trait]
impl Behind for HttpUpstream {
    async fn send(&self, request: Request<Bytes>, _sender: Sender) -> Result<Response<AnswerBody>, BehindError> {
        let places = if *request.method() == Method::GET { &self.streams } else { &self.requests };
        let place = Arc::clone(places).try_acquire_owned();
        let place = place.map_err(|_| BehindError::Busy("too many requests at the same time".to_owned()))?;
        let (parts, body) = request.into_parts();
        let mut sent = Request::new(Full::new(body));
        *sent.method_mut() = parts.method;
        *sent.uri_mut() = self.uri.clone();
        *sent.headers_mut() = parts.headers;
        let answered = self.client()?.request(sent).await.map_err(|error| failed(&error, self.https))?;
        let idle = self.limits.idle;
        Ok(answered.map(|inner| Answer { inner, idle, pause: None, _place: place }.boxed_unsync()))
    }

    fn requests_at_once(&self) -> Option<usize> {
        Some(self.limits.requests)
    }

    fn time_to_answer(&self) -> Duration {
        self.limits.to_answer
    }
}

/// The body of an answer, which must not pause for too long.
struct Answer {
    inner: Incoming,
    idle: Duration,
    /// Runs while nothing comes.
    pause: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BehindError;

    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BehindError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| broken_off(&error))));
        }
        let idle = self.idle;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        match pause.as_mut().poll(context) {
            Poll::Ready(()) => {
                Poll::Ready(Some(Err(BehindError::BrokenOff("nothing has come for too long".to_owned()))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn broken_off(error: &hyper::Error) -> BehindError {
    BehindError::BrokenOff(ErrorChain(error).to_string())
}

/// Why there is no answer.
fn failed(error: &hyper_util::client::legacy::Error, https: bool) -> BehindError {
    let text = ErrorChain(error).to_string();
    if error.is_connect() {
        return BehindError::Unreachable(text);
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    match cause {
        Some(cause) if cause.is_parse() || cause.is_parse_too_large() || cause.is_parse_status() => {
            let hint = if https { "" } else { " (without TLS, a server has to speak HTTP/1.1: HTTP/2 is for https)" };
            BehindError::Malformed(text + hint)
        }
        _ => BehindError::BrokenOff(text),
    }
}

#[cfg(test)]
mod tests;
