//! What answers the requests.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};

use super::body::HttpBody;

/// Handles requests, and tells the server in advance what it has to know about them. Paths are below the public URL.
#[async_trait]
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers one request. Dropping the future, or the body of an event stream, cancels the call.
    ///
    /// A request is at work ([`Limits::at_work`](super::Limits::at_work)) until it is answered, and an event stream that the
    /// handler writes until it ends. A handler that only waits for another server says so before that
    /// ([`AtWork`](super::AtWork), in the extensions).
    async fn handle_http(&self, request: Request<Bytes>) -> Response<HttpBody>;

    /// Counts a request before its body is read. An error is the time after which to try again. `client` stands for all
    /// addresses that are counted together: an IPv6 client has a /64 to itself.
    async fn admit(&self, _method: &Method, _path: &str, _client: IpAddr) -> Result<(), Duration> {
        Ok(())
    }

    /// Whether the answer is a lasting stream of events: it has no time limit, and needs one of the few places.
    fn lasts(&self, _method: &Method, _path: &str) -> bool {
        false
    }

    /// Whether the answer is a lasting stream of events that another server writes. It has no time limit either, occupies a
    /// connection but nothing of the handler, and so has places of its own.
    fn relays(&self, _method: &Method, _path: &str) -> bool {
        false
    }

    /// Time from a whole request to its answer, where [`Limits::request_time`](super::Limits::request_time) does not hold, and
    /// again as much for the rest of an answer that is written while it is read.
    fn request_time(&self, _method: &Method, _path: &str) -> Option<Duration> {
        None
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
    /// All of it, and it has no more than so many bytes; [`Limits::body_bytes`](super::Limits::body_bytes) is the bound
    /// for every body.
    UpTo(usize),
}
