//! How a server serves, and the bounds of what clients may occupy.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::client_address::ForwardedHeader;
use super::observer::{NoObserver, Observer};
use super::tls::Certificates;

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
    /// Pause before an answer that ends the connection because the rest of the request is not read. A sender of such
    /// requests could else connect anew as fast as they are refused, and take the processors from other clients. While it
    /// waits, the connection gives way before one whose answer is being sent, also that of a proxy. A request that does not
    /// say its length waits until it has ended or proved to be too long, for as long at most. Only requests that a declared
    /// proxy sends by HTTP/2 do not wait: their connection is for its other clients as well.
    pub unread_pause: Duration,
    /// Bytes of all request bodies and large answers that are in memory at the same time. The request bodies of one
    /// client address, or of an IPv6 network (/56, /48), occupy no more than half. When there is no more room, a body that
    /// the address which occupies most is still sending gives way to one of an address that occupies less. A body that is
    /// whole does not give way, so an address has further ones only as far as there is as much left for others; and a
    /// quarter more is there for a small body (a thousandth) of each client that occupies nothing else.
    pub buffered_bytes: usize,
    /// Requests that are with the handler at the same time, as long as they occupy it ([`AtWork`](super::AtWork)). A client
    /// address, or an IPv6 network (/56, /48), has a further one there only while it has fewer than are left: half at most,
    /// and less when others have some. Nothing else depends on this number: what the handler itself can take is its own
    /// affair.
    pub at_work: usize,
    /// Requests that wait because their address has its part of [`Limits::at_work`]. One address has half of them at most.
    pub waiting: usize,
    /// For how long such a request waits, before it is refused.
    pub wait: Duration,
    /// Time from a whole request to its whole answer; for a stream that lasts, to its beginning.
    pub request_time: Duration,
    /// How long a connection may stay open without a request.
    pub idle_time: Duration,
    /// How long a client may take no byte of an answer.
    pub stall_time: Duration,
    /// Event streams that last ([`HttpHandler::lasts`](super::HttpHandler::lasts)) at the same time. A client address, or an
    /// IPv6 network (/56, /48), has a further one only while it has fewer than are left. Each is at work
    /// ([`Limits::at_work`]): a quarter of that leaves the rest to the requests that belong to them.
    pub event_streams: usize,
    /// Event streams that another server writes, and that last, at the same time: each occupies a connection. They are
    /// shared in the same way. Half of [`Limits::connections`] leaves the other half to requests.
    pub relayed_streams: usize,
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
            unread_pause: Duration::from_millis(500),
            buffered_bytes: 64 * 1024 * 1024,
            at_work: 256,
            waiting: 512,
            wait: Duration::from_secs(5),
            request_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(30),
            event_streams: 64,
            relayed_streams: 512,
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
