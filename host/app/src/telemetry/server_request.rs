//! A request of a client, as it is observed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use entra_mcp_server::{ObservedRequest, Observer};
use http::{HeaderMap, Method, StatusCode};
use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceContextExt as _, TraceState, Tracer as _};
use opentelemetry::{Context, ContextGuard, KeyValue};
use tokio::time::Instant;

use super::metrics::{method, seconds};
use super::{Telemetry, TraceParent, message, trace_state};

/// From the head of a request to the end of its answer.
pub(crate) struct ServerRequest {
    telemetry: Telemetry,
    method: &'static str,
    route: Cow<'static, str>,
    /// Whether MCP messages are posted to the path.
    has_messages: bool,
    https: bool,
    begun: Instant,
    answered: bool,
    /// When its span begins; `None` once there is one, or if there will be none.
    awaits_span: Option<SystemTime>,
    /// The caller's trace as the header has it, then the span.
    context: Option<Context>,
}

/// Observes the requests of clients.
struct Incoming {
    telemetry: Telemetry,
    /// The paths of servers behind, below the public URL.
    paths: Vec<String>,
}

impl Telemetry {
    /// Observes the requests of clients; `paths` are those of servers behind.
    pub fn incoming<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Arc<dyn Observer> {
        Arc::new(Incoming { telemetry: self.clone(), paths: paths.map(str::to_owned).collect() })
    }

    /// A request begins. The caller's trace is taken over even if nothing else is observed: audit records name it.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub(crate) fn server_request(
        &self,
        method: &Method,
        path: &str,
        https: bool,
        headers: &HeaderMap,
        paths: &[String],
    ) -> ServerRequest {
        let traced = self.tracer().is_some();
        let is_behind = paths.iter().find(|behind| *behind == path);
        let context = TraceParent::of(headers).map(|parent| {
            let state = if traced { trace_state::of(headers) } else { TraceState::NONE };
            Context::new().with_remote_span_context(parent.span_context(state))
        });
        if let Some(metrics) = self.metrics() {
            metrics.server_active.add(1, &[]);
        }
        ServerRequest {
            telemetry: self.clone(),
            method: self::method(method),
            route: is_behind.map_or_else(|| route(path).into(), |path| Cow::Owned(path.clone())),
            has_messages: is_behind.is_some() || matches!(path, "/mcp" | "/message"),
            https,
            begun: Instant::now(),
            answered: false,
            awaits_span: traced.then(opentelemetry::time::now),
            context,
        }
    }
}

impl Observer for Incoming {
    fn request(
        &self,
        method: &Method,
        path: &str,
        https: bool,
        headers: &HeaderMap,
    ) -> Option<Box<dyn ObservedRequest>> {
        let request = self.telemetry.server_request(method, path, https, headers, &self.paths);
        (self.telemetry.0.is_some() || request.context.is_some()).then(|| Box::new(request) as Box<dyn ObservedRequest>)
    }
}

impl ObservedRequest for ServerRequest {
    fn received(&mut self, body: &[u8]) {
        Self::received(self, body);
    }

    fn answered(&mut self, status: StatusCode) {
        Self::answered(self, status);
    }

    fn log_span(&self) -> tracing::Span {
        Self::log_span(self)
    }

    fn within(&self, work: &mut dyn FnMut()) {
        let _entered = self.enter();
        work();
    }
}

impl ServerRequest {
    /// The whole request is here. If its message names a trace, the span belongs to that trace: the message is closer
    /// to the work than the header, which may come from a proxy or stand for a connection. Without a tracer, the
    /// message is not searched for a trace.
    pub(crate) fn received(&mut self, body: &[u8]) {
        let named = match (self.awaits_span, self.method, self.has_messages) {
            (Some(_), "POST", true) => message::trace(body),
            _ => None,
        };
        self.start_span(named);
    }

    /// Starts the span, unless there is one, in the trace that a message names or else in that of the header.
    fn start_span(&mut self, named: Option<SpanContext>) {
        let (Some(began), Some(tracer)) = (self.awaits_span.take(), self.telemetry.tracer()) else { return };
        let mut span = tracer
            .span_builder(format!("{} {}", self.method, self.route))
            .with_kind(SpanKind::Server)
            .with_start_time(began)
            .with_attributes([
                KeyValue::new("http.request.method", self.method),
                KeyValue::new("http.route", self.route.clone()),
                KeyValue::new("url.scheme", if self.https { "https" } else { "http" }),
            ]);
        let of_header = self.context.take();
        let parent = match named {
            None => of_header.unwrap_or_default(),
            Some(named) => {
                let of_header = of_header.map(|context| context.span().span_context().clone());
                // Whether spans are kept says the header, if there is one: a gateway may have written it, and a caller that
                // chose otherwise in its message would be seen less, or cost more, than its operator wants.
                let flags = of_header.as_ref().map_or(named.trace_flags(), SpanContext::trace_flags);
                let state = named.trace_state().clone();
                let named = SpanContext::new(named.trace_id(), named.span_id(), flags, true, state);
                if let Some(other) = of_header.filter(|other| !is_same_span(other, &named)) {
                    span = span.with_links(vec![Link::with_context(other)]);
                }
                Context::new().with_remote_span_context(named)
            }
        };
        let span = span.start_with_context(tracer, &parent);
        self.context = Some(parent.with_span(span));
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
        // It may have been refused before all of it was here.
        self.start_span(None);
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
            let labels = [
                KeyValue::new("http.request.method", self.method),
                KeyValue::new("http.route", self.route.clone()),
                result,
            ];
            metrics.server_duration.record(seconds(self.begun.elapsed()), &labels);
        }
    }
}

impl Drop for ServerRequest {
    fn drop(&mut self) {
        self.start_span(None);
        // The client has left, or the server ends.
        if !self.answered {
            let cancelled = KeyValue::new("error.type", "cancelled");
            if let Some(context) = self.context.as_ref().filter(|_| self.telemetry.tracer().is_some()) {
                context.span().set_attribute(cancelled.clone());
            }
            self.record(cancelled);
        }
        if let Some(metrics) = self.telemetry.metrics() {
            metrics.server_active.add(-1, &[]);
        }
        if let Some(context) = self.context.as_ref().filter(|_| self.telemetry.tracer().is_some()) {
            context.span().end();
        }
    }
}

fn is_same_span(one: &SpanContext, other: &SpanContext) -> bool {
    (one.trace_id(), one.span_id()) == (other.trace_id(), other.span_id())
}

/// The name of a path in telemetry. All paths that are not served share one name.
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
    use opentelemetry::Value;
    use opentelemetry::trace::SpanId;
    use opentelemetry_sdk::trace::SpanData;

    use super::super::testing::Spans;
    use super::*;

    const OF_HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OF_MESSAGE: &str = "00-1bf8762027de54ee9559fc322d91420d-c8be7c827a314442-01";

    fn headers(parent: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in parent.map(|parent| ("traceparent", parent)).into_iter().chain([("tracestate", "h=1")]) {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    fn message(parent: &str) -> String {
        serde_json::json!({ "params": { "_meta": { "traceparent": parent, "tracestate": "m=2" } } }).to_string()
    }

    fn span(method: &Method, path: &str, headers: &HeaderMap, body: &str) -> SpanData {
        let spans = Spans::default();
        let mut request = spans.observe().server_request(method, path, false, headers, &[]);
        request.received(body.as_bytes());
        request.answered(StatusCode::OK);
        drop(request);
        spans.only()
    }

    /// A span's trace, its parent, and its trace state.
    fn place(span: &SpanData) -> (String, String, String) {
        let context = &span.span_context;
        (context.trace_id().to_string(), span.parent_span_id.to_string(), context.trace_state().header())
    }

    fn below(parent: &str, state: &str) -> (String, String, String) {
        let mut fields = parent.split('-').skip(1).map(str::to_owned);
        (fields.next().unwrap(), fields.next().unwrap(), state.to_owned())
    }

    #[test]
    fn a_span_is_in_the_trace_of_the_message_and_linked_to_that_of_the_header() {
        for path in ["/mcp", "/message"] {
            let span = span(&Method::POST, path, &headers(Some(OF_HEADER)), &message(OF_MESSAGE));
            assert_eq!(place(&span), below(OF_MESSAGE, "m=2"), "{path}");
            let [link] = span.links.links.as_slice() else { panic!("{:?}", span.links) };
            let linked = TraceParent::of_span_context(&link.span_context).unwrap();
            assert_eq!(
                (linked.to_string(), link.span_context.trace_state().header()),
                (OF_HEADER.into(), "h=1".into())
            );
        }
        // Another span of the same trace is another caller.
        let sibling = OF_HEADER.replace("b7ad", "c8be");
        let span = span(&Method::POST, "/mcp", &headers(Some(OF_HEADER)), &message(&sibling));
        assert_eq!((place(&span), span.links.links.len()), (below(&sibling, "m=2"), 1));
    }

    #[test]
    fn a_message_does_not_change_whether_the_header_wants_spans() {
        const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let unsampled_message = OF_MESSAGE.replace("-01", "-00");
        let wanted = span(&Method::POST, "/mcp", &headers(Some(OF_HEADER)), &message(&unsampled_message));
        assert_eq!((place(&wanted), wanted.links.links.len()), (below(OF_MESSAGE, "m=2"), 1));
        for (header, message) in [(Some(UNSAMPLED), message(OF_MESSAGE)), (None, message(&unsampled_message))] {
            let spans = Spans::default();
            let mut request = spans.observe().server_request(&Method::POST, "/mcp", false, &headers(header), &[]);
            request.received(message.as_bytes());
            drop(request);
            assert_eq!(spans.count(), 0, "{header:?} {message}");
        }
    }

    #[test]
    fn one_name_is_enough_and_the_same_name_twice_is_one() {
        let of_message = span(&Method::POST, "/mcp", &headers(None), &message(OF_MESSAGE));
        assert_eq!((place(&of_message), of_message.links.links.len()), (below(OF_MESSAGE, "m=2"), 0));
        let both = span(&Method::POST, "/mcp", &headers(Some(OF_MESSAGE)), &message(OF_MESSAGE));
        assert_eq!((place(&both), both.links.links.len()), (below(OF_MESSAGE, "m=2"), 0));
    }

    #[test]
    fn what_names_no_trace_or_is_no_message_leaves_the_span_in_that_of_the_header() {
        let named = message(OF_MESSAGE);
        for (method, path, body) in [
            (Method::POST, "/mcp", message("garbage")),
            (Method::POST, "/mcp", format!("[{named}]")),
            (Method::POST, "/mcp", String::new()),
            (Method::GET, "/mcp", named.clone()),
            (Method::POST, "/token", named.clone()),
            (Method::POST, "/elsewhere", named.clone()),
        ] {
            let span = span(&method, path, &headers(Some(OF_HEADER)), &body);
            assert_eq!((place(&span), span.links.links.len()), (below(OF_HEADER, "h=1"), 0), "{method} {path} {body}");
        }
        let root = span(&Method::POST, "/mcp", &headers(None), "");
        assert_eq!((root.parent_span_id, root.span_context.trace_state().header()), (SpanId::INVALID, String::new()));
    }

    #[test]
    fn a_request_that_is_refused_early_or_given_up_has_its_one_span_too() {
        let spans = Spans::default();
        let attributes = |span: &SpanData, name: &str| {
            let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
            found.map(|attribute| attribute.value.clone())
        };
        let begin = || spans.observe().server_request(&Method::POST, "/mcp", true, &headers(Some(OF_HEADER)), &[]);
        let mut refused = begin();
        refused.answered(StatusCode::PAYLOAD_TOO_LARGE);
        drop(refused);
        let refused = spans.only();
        assert_eq!(place(&refused), below(OF_HEADER, "h=1"));
        assert_eq!(attributes(&refused, "http.response.status_code"), Some(Value::I64(413)));
        assert_eq!(attributes(&refused, "error.type"), None);
        let left_while_sending = begin();
        drop(left_while_sending);
        let mut left_while_waiting = begin();
        let cancelled = Some(Value::from("cancelled"));
        assert_eq!(attributes(&spans.only(), "error.type"), cancelled);
        left_while_waiting.received(message(OF_MESSAGE).as_bytes());
        drop(left_while_waiting);
        let left = spans.only();
        assert_eq!((place(&left), attributes(&left, "error.type")), (below(OF_MESSAGE, "m=2"), cancelled));
        assert_eq!(attributes(&left, "http.response.status_code"), None);
    }

    #[test]
    fn the_path_of_a_server_behind_is_a_route_to_which_messages_are_posted() {
        let paths = ["/crm/mcp".to_owned()];
        for (path, route, parent) in
            [("/crm/mcp", "/crm/mcp", below(OF_MESSAGE, "m=2")), ("/erp/mcp", "other", below(OF_HEADER, "h=1"))]
        {
            let spans = Spans::default();
            let headers = headers(Some(OF_HEADER));
            let mut request = spans.observe().server_request(&Method::POST, path, false, &headers, &paths);
            request.received(message(OF_MESSAGE).as_bytes());
            drop(request);
            let span = spans.only();
            assert_eq!((span.name.as_ref(), place(&span)), (format!("POST {route}").as_str(), parent));
        }
    }

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
            let request = Telemetry::default().server_request(&Method::POST, "/mcp", false, headers, &[]);
            request.enter().and_then(|_entered| TraceParent::current()).map(|parent| parent.to_string())
        };
        assert_eq!(context(&headers), None);
        headers.insert("traceparent", parent.parse().unwrap());
        assert_eq!(context(&headers).as_deref(), Some(parent));
        assert_eq!(TraceParent::current(), None);
        // Without a tracer there is no span, so the message is not searched for another trace.
        let mut request = Telemetry::default().server_request(&Method::POST, "/mcp", false, &headers, &[]);
        request.received(message(OF_MESSAGE).as_bytes());
        let _entered = request.enter();
        assert_eq!(TraceParent::current(), TraceParent::parse(parent));
    }
}
