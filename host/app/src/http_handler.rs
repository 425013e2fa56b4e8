//! What the HTTP server serves: the component, behind bounds by address on the OAuth endpoints, and with it the servers
//! behind the gate.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_gate::behind::{AnswerBody, BehindError};
use entra_mcp_gate::gate::{self, Gate, GateOutcome};
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::rate_limiter::RateLimiter;
use entra_mcp_server::{AtWork, BodyNeed, BrokenOff, HttpBody, HttpHandler};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};

pub use self::routes::Routes;

mod routes;

/// The request header that tells the component the address of the client.
pub const CLIENT_ADDRESS_HEADER: &str = "x-entra-mcp-client-address";

/// The component, as the server sees it.
pub struct ComponentHandler {
    plugin: Arc<Plugin>,
    rate_limiter: Arc<dyn RateLimiter>,
    routes: Routes,
    gate: Option<Arc<Gate>>,
}

impl ComponentHandler {
    /// Answers with `plugin`, which serves `routes`, what `rate_limiter` admits. Requests to paths of servers behind go to
    /// `gate`; without one, the component answers them too.
    pub fn new(
        plugin: Arc<Plugin>,
        rate_limiter: Arc<dyn RateLimiter>,
        routes: Routes,
        gate: Option<Arc<Gate>>,
    ) -> Self {
        Self { plugin, rate_limiter, routes, gate }
    }

    /// The gate, if the path is that of a server behind it.
    fn gate(&self, path: &str) -> Option<&Gate> {
        self.gate.as_deref().filter(|_| self.routes.is_behind(path))
    }
}

#[async_trait]
impl HttpHandler for ComponentHandler {
    async fn handle_http(&self, mut request: Request<Bytes>) -> Response<HttpBody> {
        let at_work = request.extensions_mut().remove::<AtWork>();
        // The decision occupies an instance. What goes on occupies none while a server behind works on it.
        let decided = || {
            if let Some(at_work) = &at_work {
                at_work.end();
            }
        };
        let gate = self.gate.as_ref().and_then(|_| self.gate(&self.routes.path(request.uri())));
        let request = match gate {
            None => request,
            // In a box: the future of every request is moved several times.
            Some(gate) => match Box::pin(gate.handle(request, decided)).await {
                GateOutcome::Answer(answer) => return answer.map(relayed),
                GateOutcome::OwnPath(request) => request,
            },
        };
        self.plugin.handle_http(request).await.map(|body| match body.into_bytes() {
            Ok(bytes) => HttpBody::full(bytes),
            Err(stream) => HttpBody::event_stream(EventStream(stream)),
        })
    }

    async fn admit(&self, method: &Method, path: &str, client: IpAddr) -> Result<(), Duration> {
        match routes::operation(method, path) {
            Some(operation) => self.rate_limiter.admit(operation, &client.to_string()).await,
            None => Ok(()),
        }
    }

    fn lasts(&self, method: &Method, path: &str) -> bool {
        routes::lasts(method, path)
    }

    fn relays(&self, method: &Method, path: &str) -> bool {
        *method == Method::GET && self.gate(path).is_some()
    }

    fn request_time(&self, _method: &Method, path: &str) -> Option<Duration> {
        self.gate(path).map(Gate::time_to_answer)
    }

    fn body_need(&self, method: &Method, path: &str, headers: &HeaderMap) -> BodyNeed {
        self.routes.body_need(method, path, headers)
    }

    fn is_health_check(&self, path: &str) -> bool {
        routes::is_health_check(path)
    }
}

/// The answer of the gate as the server sends it.
fn relayed(body: gate::Body) -> HttpBody {
    match body {
        gate::Body::Whole(bytes, place) => HttpBody::full_holding(bytes, place),
        gate::Body::Message(body) => HttpBody::event_stream(Relayed(body)),
        gate::Body::Events(body) => HttpBody::relayed_stream(Relayed(body)),
    }
}

/// An answer that a server behind the gate goes on writing.
struct Relayed(AnswerBody);

impl Body for Relayed {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let broken_off = |error: BehindError| {
            tracing::warn!(%error, "an answer broke off");
            BrokenOff { reason: error.to_string() }
        };
        Pin::new(&mut self.0).poll_frame(context).map_err(broken_off)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// An event stream that the component goes on writing.
struct EventStream(entra_mcp_plugin::HttpBody);

impl Body for EventStream {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let frame = Pin::new(&mut self.0).poll_frame(context);
        frame.map_err(|error| BrokenOff { reason: error.to_string() })
    }
}
