//! A request of a client, as it is observed.

use http::{HeaderMap, Method, StatusCode};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, ContextGuard, KeyValue};
use tokio::time::Instant;

use super::metrics::{method, seconds};
use super::{Telemetry, TraceParent};

/// From the head of a request to the end of its answer.
pub(crate) struct ServerRequest {
    telemetry: Telemetry,
    method: &'static str,
    route: &'static str,
    begun: Instant,
    answered: bool,
    context: Option<Context>,
}

impl Telemetry {
    /// A request begins. The caller's trace is taken over even if nothing else is observed: audit records name it.
    pub(crate) fn server_request(
        &self,
        method: &Method,
        path: &str,
        https: bool,
        headers: &HeaderMap,
    ) -> ServerRequest {
        let (method, route) = (self::method(method), route(path));
        let parent = TraceParent::of(headers).map(TraceParent::context);
        let context = match self.tracer() {
            None => parent,
            Some(tracer) => {
                let parent = parent.unwrap_or_default();
                let span = tracer
                    .span_builder(format!("{method} {route}"))
                    .with_kind(SpanKind::Server)
                    .with_attributes([
                        KeyValue::new("http.request.method", method),
                        KeyValue::new("http.route", route),
                        KeyValue::new("url.scheme", if https { "https" } else { "http" }),
                    ])
                    .start_with_context(tracer, &parent);
                Some(parent.with_span(span))
            }
        };
        if let Some(metrics) = self.metrics() {
            metrics.server_active.add(1, &[]);
        }
        ServerRequest { telemetry: self.clone(), method, route, begun: Instant::now(), answered: false, context }
    }
}

impl ServerRequest {
    /// What is to be current while the request is handled.
    pub(crate) fn context(&self) -> Option<Context> {
        self.context.clone()
    }

    /// Names the trace in the lines of the log, if there is one.
    pub(crate) fn log_span(&self) -> tracing::Span {
        match self.context.as_ref().and_then(TraceParent::of_context) {
            Some(parent) => tracing::info_span!("request", trace_id = %parent.trace_id()),
            None => tracing::Span::none(),
        }
    }

    /// Makes it current until the guard is dropped, for a moment in which nothing is awaited.
    pub(crate) fn enter(&self) -> Option<ContextGuard> {
        self.context.clone().map(Context::attach)
    }

    /// The head of the answer is known.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.answered = true;
        let status_code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
        if let Some(context) = self.context.as_ref().filter(|_| self.telemetry.tracer().is_some()) {
            let span = context.span();
            span.set_attribute(status_code.clone());
            if status.is_server_error() {
                span.set_status(Status::error(""));
            }
        }
        self.record(status_code);
    }

    fn record(&self, result: KeyValue) {
        if let Some(metrics) = self.telemetry.metrics() {
            let labels =
                [KeyValue::new("http.request.method", self.method), KeyValue::new("http.route", self.route), result];
            metrics.server_duration.record(seconds(self.begun.elapsed()), &labels);
        }
    }
}

impl Drop for ServerRequest {
    fn drop(&mut self) {
        // The client has left, or the server ends.
        if !self.answered {
            self.record(KeyValue::new("error.type", "cancelled"));
        }
        if let Some(metrics) = self.telemetry.metrics() {
            metrics.server_active.add(-1, &[]);
        }
        if let Some(context) = self.context.as_ref().filter(|_| self.telemetry.tracer().is_some()) {
            context.span().end();
        }
    }
}

/// What a path is called. Those that are not served have one name together.
fn route(path: &str) -> &'static str {
    match path {
        "/mcp" => "/mcp",
        "/sse" => "/sse",
        "/message" => "/message",
        "/authorize" => "/authorize",
        "/auth/callback" => "/auth/callback",
        "/token" => "/token",
        "/register" => "/register",
        "/revoke" => "/revoke",
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/" => "/",
        path if path.contains("/.well-known/") => "/.well-known",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_few_whatever_is_asked_for() {
        for (path, expected) in [
            ("/mcp", "/mcp"),
            ("/.well-known/oauth-protected-resource/mcp", "/.well-known"),
            ("/mcp/.well-known/openid-configuration", "/.well-known"),
            ("/", "/"),
            ("/mcp/", "other"),
            ("/alice@contoso.example", "other"),
        ] {
            assert_eq!(route(path), expected);
        }
    }

    #[test]
    fn without_observers_a_request_still_belongs_to_the_trace_of_its_caller() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        let context = |headers: &HeaderMap| {
            let request = Telemetry::default().server_request(&Method::POST, "/mcp", false, headers);
            request.enter().and_then(|_entered| TraceParent::current()).map(|parent| parent.to_string())
        };
        assert_eq!(context(&headers), None);
        headers.insert("traceparent", parent.parse().unwrap());
        assert_eq!(context(&headers).as_deref(), Some(parent));
        assert_eq!(TraceParent::current(), None);
    }
}
