//! What the HTTP server serves: the component, behind bounds by address on the OAuth endpoints.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::rate_limiter::RateLimiter;
use entra_mcp_server::{BodyNeed, BrokenOff, HttpBody, HttpHandler};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};

pub use self::routes::Routes;

mod routes;

/// The request header that tells the component the address of the client.
pub const CLIENT_ADDRESS_HEADER: &str = "x-entra-mcp-client-address";

/// The component, as the server sees it.
pub struct ComponentHandler {
    plugin: Arc<Plugin>,
    rate_limiter: Arc<dyn RateLimiter>,
    routes: Routes,
}

impl ComponentHandler {
    /// Answers with `plugin`, which serves `routes`, what `rate_limiter` admits.
    pub fn new(plugin: Arc<Plugin>, rate_limiter: Arc<dyn RateLimiter>, routes: Routes) -> Self {
        Self { plugin, rate_limiter, routes }
    }
}

#[async_trait]
impl HttpHandler for ComponentHandler {
    async fn handle_http(&self, request: Request<Bytes>) -> Response<HttpBody> {
        self.plugin.handle_http(request).await.map(|body| match body.into_bytes() {
            Ok(bytes) => HttpBody::full(bytes),
            Err(stream) => HttpBody::event_stream(EventStream(stream)),
        })
    }

    fn admit(&self, method: &Method, path: &str, client: IpAddr) -> Result<(), Duration> {
        match routes::operation(method, path) {
            Some(operation) => self.rate_limiter.admit(operation, &client.to_string()),
            None => Ok(()),
        }
    }

    fn lasts(&self, method: &Method, path: &str) -> bool {
        routes::lasts(method, path)
    }

    fn body_need(&self, method: &Method, path: &str, headers: &HeaderMap) -> BodyNeed {
        self.routes.body_need(method, path, headers)
    }

    fn is_health_check(&self, path: &str) -> bool {
        routes::is_health_check(path)
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
