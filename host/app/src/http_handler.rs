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
use entra_mcp_server::{BrokenOff, HttpBody, HttpHandler};
use http::{Method, Request, Response};
use http_body::{Body, Frame};

/// The request header that tells the component the address of the client.
pub const CLIENT_ADDRESS_HEADER: &str = "x-entra-mcp-client-address";

/// The component, as the server sees it.
pub struct ComponentHandler {
    plugin: Arc<Plugin>,
    rate_limiter: Arc<dyn RateLimiter>,
}

impl ComponentHandler {
    /// Answers with `plugin` what `rate_limiter` admits.
    pub fn new(plugin: Arc<Plugin>, rate_limiter: Arc<dyn RateLimiter>) -> Self {
        Self { plugin, rate_limiter }
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
        match operation(method, path) {
            Some(operation) => self.rate_limiter.admit(operation, &client.to_string()),
            None => Ok(()),
        }
    }

    fn lasts(&self, method: &Method, path: &str) -> bool {
        *method == Method::GET && path == "/sse"
    }

    fn is_health_check(&self, path: &str) -> bool {
        matches!(path, "/healthz" | "/readyz")
    }
}

/// The operation that is counted by client address, if any. A preflight request does nothing, so it is not counted.
fn operation(method: &Method, path: &str) -> Option<&'static str> {
    if *method == Method::OPTIONS {
        return None;
    }
    match path {
        "/authorize" => Some("address:authorize"),
        "/token" => Some("address:token"),
        "/register" => Some("address:register"),
        "/auth/callback" => Some("address:callback"),
        "/revoke" => Some("address:revoke"),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oauth_endpoints_are_counted_by_address_and_nothing_else_is() {
        for (path, expected) in [
            ("/authorize", "address:authorize"),
            ("/token", "address:token"),
            ("/register", "address:register"),
            ("/auth/callback", "address:callback"),
            ("/revoke", "address:revoke"),
        ] {
            assert_eq!(operation(&Method::GET, path), Some(expected));
            assert_eq!(operation(&Method::POST, path), Some(expected));
            assert_eq!(operation(&Method::OPTIONS, path), None);
        }
        for path in ["/mcp", "/", "/tokens", "/token/", "/healthz"] {
            assert_eq!(operation(&Method::POST, path), None, "{path}");
        }
    }
}
