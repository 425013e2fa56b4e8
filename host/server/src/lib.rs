//! A hardened HTTP server: connections, TLS, limits and lifecycle. What is asked and answered is its handler's business.
//!
//! A request reaches the [`HttpHandler`] only when all of it is here, and an answer leaves it before it is sent: a slow
//! client occupies a connection, never the handler. The exception are event streams, whose number is bounded.
//!
//! What may not be in it: a session, a token, a metric, a word of Entra ID or MCP. It trusts no header about the client,
//! unless a declared proxy sent it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use activity::Activity;
use connection::Connection;
use shares::{Bounds, Shares};

mod activity;
mod body;
mod client_address;
mod connection;
mod observer;
mod request_body;
mod service;
mod shares;
mod stall;
mod tls;

pub use body::{BrokenOff, HttpBody};
pub use client_address::ForwardedHeader;
pub use observer::{NoObserver, ObservedRequest, Observer};
pub use tls::{Certificates, TlsError};

/// How often the server looks, at its end, whether only event streams are left.
const END_POLL: Duration = Duration::from_millis(100);

/// How many looks in a row have to find only event streams: last answers of other requests may still be under way.
const END_POLLS: u32 = 10;

/// What a body that is held costs at least: a page. A few bytes in each of very many bodies are not for free. Where there is little memory for
/// them, it is a thousandth.
const LEAST_BODY_BYTES: usize = 4096;

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections beyond the limit to which the server sends a refusal at the same time. It closes further ones silently.
const MAX_REFUSALS: usize = 64;

/// Handles requests, and tells the server in advance what it has to know about them. Paths are below the public URL.
#[async_trait]
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers one request. Dropping the future, or the body of an event stream, cancels the call.
    async fn handle_http(&self, request: Request<Bytes>) -> Response<HttpBody>;

    /// Counts a request before its body is read. An error is the time after which to try again. `client` stands for all
    /// addresses that are counted together: an IPv6 client has a /64 to itself.
    fn admit(&self, _method: &Method, _path: &str, _client: IpAddr) -> Result<(), Duration> {
        Ok(())
    }

    /// Whether the answer is a lasting stream of events: it has no time limit, and needs one of the few places.
    fn lasts(&self, _method: &Method, _path: &str) -> bool {
        false
    }

    /// What the answer needs of the body of a request, as far as its head says it. A request that needs nothing of its
    /// body is handled before the body comes, as if it had none. `headers` are those that the request is going to have.
    fn body_need(&self, _method: &Method, _path: &str, _headers: &HeaderMap) -> BodyNeed {
        BodyNeed::UpTo(usize::MAX)
    }

    /// Whether this is a health check, which is answered even where only declared proxies are served.
    fn is_health_check(&self, _path: &str) -> bool {
        false
    }
}

/// What an answer needs of the body of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyNeed {
    /// The answer is the same whatever the body is.
    Nothing,
    /// All of it, and it has no more than so many bytes; [`Limits::body_bytes`] is the bound for every body.
    UpTo(usize),
}

/// Makes unguessable ids: each names a refusal in the answer and in the log.
pub type CorrelationIds = Arc<dyn Fn() -> String + Send + Sync>;

/// Bounds of what clients may occupy.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time. A client address that is not a declared proxy has at most half of them, and so has
    /// an IPv6 network (/56, /48). When there are no more, the one that has been idle for longest, of the address that
    /// has most, gives way. Each costs some 50 KiB, and a file descriptor of the usual 1024 or more.
    pub connections: usize,
    /// Bytes of all header fields of a request. Tokens and cookies are a few KiB.
    pub header_bytes: usize,
    /// Time to send the header fields, and for a connection to begin at all.
    pub header_time: Duration,
    /// Time for the TLS handshake.
    pub handshake_time: Duration,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Time to send a request body.
    pub body_time: Duration,
    /// Bytes of a request body that have to come in every [`Limits::pace_time`], unless it ends before: the slowest
    /// mobile networks carry some KiB in a second.
    pub pace_bytes: usize,
    /// See [`Limits::pace_bytes`]. It is also the time for the pauses that networks make.
    pub pace_time: Duration,
    /// Bytes of a body that are read and forgotten when the answer did not need it: if the server closed the connection
    /// instead, the client could lose the answer. Longer than the messages of clients that have yet to sign in.
    pub unneeded_bytes: usize,
    /// Time to send them.
    pub unneeded_time: Duration,
    /// Bytes of all request bodies and large answers that are in memory at the same time. The request bodies that one
    /// client address, or an IPv6 network (/56, /48), is sending occupy no more than half. When there is no more room,
    /// a body of the address that occupies most gives way to one of an address that occupies less.
    pub buffered_bytes: usize,
    /// Time from a whole request to its whole answer; for a stream that lasts, to its beginning.
    pub request_time: Duration,
    /// How long a connection may stay open without a request.
    pub idle_time: Duration,
    /// How long a client may take no byte of an answer.
    pub stall_time: Duration,
    /// Event streams that last ([`HttpHandler::lasts`]) at the same time.
    pub event_streams: usize,
    /// Requests of one HTTP/2 connection at the same time.
    pub streams_per_connection: u32,
    /// How long requests in flight may take when the server ends.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            header_bytes: 32 * 1024,
            header_time: Duration::from_secs(10),
            handshake_time: Duration::from_secs(10),
            body_bytes: 1024 * 1024,
            body_time: Duration::from_secs(30),
            pace_bytes: 5 * 1024,
            pace_time: Duration::from_secs(5),
            unneeded_bytes: 64 * 1024,
            unneeded_time: Duration::from_secs(5),
            buffered_bytes: 64 * 1024 * 1024,
            request_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(30),
            event_streams: 64,
            streams_per_connection: 64,
            grace: Duration::from_secs(10),
        }
    }
}

/// How a server serves.
pub struct Options {
    /// The certificate; without one, plain http is served.
    pub tls: Option<Arc<Certificates>>,
    /// Proxies that the server believes about the client's address.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they say it.
    pub forwarded_header: ForwardedHeader,
    /// The header in which those proxies hand over the access token of a caller they admit. The server removes it from
    /// requests that come from any other address.
    pub token_header: Option<HeaderName>,
    /// The path of the public URL, without a slash at its end: `""` or `"/prefix"`.
    pub path_prefix: String,
    /// The request header that tells the handler the address of the client. What a client sends under this name is
    /// removed.
    pub client_address_header: HeaderName,
    /// What observes requests.
    pub observer: Arc<dyn Observer>,
    /// Source of correlation ids.
    pub correlation_ids: CorrelationIds,
    /// Bounds of what clients may occupy.
    pub limits: Limits,
}

impl Options {
    /// Plain http without proxies, with the usual limits and no observer.
    pub fn new(client_address_header: HeaderName, correlation_ids: CorrelationIds) -> Self {
        Self {
            tls: None,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            token_header: None,
            path_prefix: String::new(),
            client_address_header,
            observer: Arc::new(NoObserver),
            correlation_ids,
            limits: Limits::default(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        reason: io::Error,
    },
    /// Passwords and tokens would cross a network in clear.
    #[error(
        "plain http on {0} is refused, because tokens would cross the network unencrypted: pass --tls-cert and \
         --tls-key, or listen on loopback, or declare the proxy that terminates TLS with --trusted-proxy"
    )]
    Insecure(SocketAddr),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Everything that the connections of a server share.
struct Shared {
    handler: Arc<dyn HttpHandler>,
    options: Options,
    /// Plain http on a network: only declared proxies, and health checks, are served.
    proxies_only: bool,
    acceptor: Option<TlsAcceptor>,
    protocols: auto::Builder<TokioExecutor>,
    buffered: Arc<Shares>,
    event_streams: Arc<Semaphore>,
    streaming: AtomicUsize,
    /// The log has named a proxy that sends the wrong header.
    has_warned: AtomicBool,
}

impl Shared {
    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.options.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}

/// A server that listens.
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl HttpServer {
    /// Starts to listen. Clients may connect, and wait for [`HttpServer::serve`].
    pub async fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let failed = |reason| HttpError::Listen { address, reason };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says whether tokens would cross a network unencrypted.
    pub fn check(address: SocketAddr, tls: bool, trusted_proxies: &[IpNet]) -> Result<(), HttpError> {
        if tls || address.ip().to_canonical().is_loopback() || !trusted_proxies.is_empty() {
            return Ok(());
        }
        Err(HttpError::Insecure(address))
    }

    /// Serves until `stop` completes. Then lets requests in flight finish, until the time for that is over or
    /// `cancel` completes.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub async fn serve(
        self,
        handler: Arc<dyn HttpHandler>,
        options: Options,
        stop: impl Future<Output = ()>,
        cancel: impl Future<Output = ()>,
    ) -> Result<(), HttpError> {
        let https = options.tls.is_some();
        Self::check(self.address, https, &options.trusted_proxies)?;
        let (limits, tls) = (options.limits.clone(), options.tls.clone());
        let shared = Arc::new(Shared {
            handler,
            proxies_only: !https && !self.address.ip().to_canonical().is_loopback(),
            acceptor: tls.as_ref().map(Certificates::acceptor).transpose()?,
            protocols: connection::protocols(&limits),
            buffered: Shares::new(Bounds {
                most: limits.buffered_bytes,
                most_each: limits.buffered_bytes / 2,
                least: LEAST_BODY_BYTES.min(limits.buffered_bytes / 1_000).max(1),
                newcomers_first: false,
            }),
            event_streams: Arc::new(Semaphore::new(limits.event_streams)),
            streaming: AtomicUsize::new(0),
            has_warned: AtomicBool::new(false),
            options,
        });
        let reloading = tls.map(|tls| tokio::spawn(tls.keep_fresh()));
        let (ending, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let places = Shares::new(Bounds {
            most: limits.connections,
            most_each: (limits.connections / 2).max(1),
            least: 1,
            newcomers_first: true,
        });
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        let accepting = async {
            loop {
                let accepted = tokio::select! {
                    accepted = self.listener.accept() => accepted,
                    Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                };
                let (stream, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // The error concerns one connection, or a moment without file descriptors.
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let peer = peer.ip().to_canonical();
                let activity = Arc::<Activity>::default();
                // A proxy's connections carry the requests of all its clients, so they have no share.
                let mut place = places.share((!shared.is_proxy(peer)).then_some(peer), &activity);
                match place.grow(1, 1) {
                    true => {
                        let connection = Connection { stream, peer, activity, place };
                        connections.spawn(connection::serve(Arc::clone(&shared), connection, ended.clone()));
                    }
                    false => {
                        tracing::warn!(connections = limits.connections, "too many connections: one is refused");
                        if let (false, Ok(place)) = (https, Arc::clone(&refusals).try_acquire_owned()) {
                            connections.spawn(async move {
                                connection::refuse(stream).await;
                                drop(place);
                            });
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop => {}
        }
        drop(self.listener);
        ending.send_replace(true);
        tracing::info!(connections = connections.len(), "the server ends");
        tokio::select! {
            () = finish(&mut connections, &shared) => {}
            () = tokio::time::sleep(limits.grace) => {
                tracing::warn!(connections = connections.len(), "requests in flight are cancelled");
            }
            () = cancel => {}
        }
        connections.shutdown().await;
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        Ok(())
    }
}

/// Returns when the connections are closed, or nothing but event streams has been left for a moment.
#[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
async fn finish(connections: &mut JoinSet<()>, shared: &Shared) {
    let mut quiet = 0_u32;
    while quiet < END_POLLS {
        tokio::select! {
            ended = connections.join_next() => {
                if ended.is_none() {
                    return;
                }
            }
            () = tokio::time::sleep(END_POLL) => {
                let only_streams = connections.len() <= shared.streaming.load(Ordering::Relaxed);
                quiet = if only_streams { quiet.saturating_add(1) } else { 0 };
            }
        }
    }
}

#[cfg(test)]
mod tests;
