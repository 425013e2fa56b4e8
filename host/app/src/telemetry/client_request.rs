//! A request to Entra ID, Microsoft Graph, or an API that a tool component asks, as it is observed.

use std::sync::Arc;

use entra_mcp_plugin::outbound::{ObservedExchange, OutboundObserver, Surroundings};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::time::Instant;

use super::Telemetry;
use super::metrics::{method, seconds};
use super::trace_state::TRACESTATE;

/// Which service a request goes to, and what it asks it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    service: &'static str,
    endpoint: &'static str,
}

/// Where the services are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    graph: String,
    /// Tool components ask, and not the component itself: what is not Graph may be any API.
    of_tools: bool,
}

impl Services {
    /// Graph is at this URL, and everything else is Entra ID.
    pub(crate) fn new(graph: &str) -> Self {
        Self { graph: graph.trim_end_matches('/').to_owned(), of_tools: false }
    }

    fn target(&self, uri: &Uri) -> Target {
        let url = uri.to_string();
        let below_graph = url.strip_prefix(&self.graph).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below_graph && !self.graph.is_empty() {
            return Target { service: "graph", endpoint: "graph" };
        }
        if self.of_tools {
            return Target { service: "api", endpoint: "other" };
        }
        let endpoint = match uri.path() {
            path if path.ends_with("/token") => "token",
            path if path.ends_with("/devicecode") => "devicecode",
            path if path.ends_with("/keys") => "keys",
            path if path.ends_with("/.well-known/openid-configuration") => "metadata",
            _ => "other",
        };
        Target { service: "entra", endpoint }
    }
}

/// Observes what the component sends.
struct Outgoing {
    telemetry: Telemetry,
    services: Services,
}

/// A request that the component asks for.
struct Exchange {
    telemetry: Telemetry,
    services: Services,
    /// The caller that the request is for.
    caller: Context,
    request: Option<ClientRequest>,
}

impl Telemetry {
    /// Observes what the component sends; `graph` tells requests to Microsoft Graph from those to Entra ID.
    pub fn outgoing(&self, graph: &str) -> Arc<dyn OutboundObserver> {
        Arc::new(Outgoing { telemetry: self.clone(), services: Services::new(graph) })
    }

    /// Observes what tool components send: to Graph, or to other APIs.
    pub fn outgoing_of_tools(&self, graph: &str) -> Arc<dyn OutboundObserver> {
        let services = Services { of_tools: true, ..Services::new(graph) };
        Arc::new(Outgoing { telemetry: self.clone(), services })
    }
}

impl OutboundObserver for Outgoing {
    fn request(&self) -> Option<Box<dyn ObservedExchange>> {
        self.telemetry.0.as_ref()?;
        let (telemetry, services) = (self.telemetry.clone(), self.services.clone());
        Some(Box::new(Exchange { telemetry, services, caller: Context::current(), request: None }))
    }

    fn surroundings(&self) -> Option<Arc<dyn Surroundings>> {
        self.telemetry.tracer()?;
        Some(Arc::new(CurrentTrace(Context::current())))
    }
}

/// The trace of a call.
struct CurrentTrace(Context);

impl Surroundings for CurrentTrace {
    fn within(&self, step: &mut dyn FnMut()) {
        let _attached = self.0.clone().attach();
        step();
    }
}

impl ObservedExchange for Exchange {
    fn begun(&mut self, method: &Method, uri: &Uri, headers: &mut HeaderMap) {
        self.request = self.telemetry.client_request(&self.services, &self.caller, method, uri, headers);
    }

    fn answered(&mut self, status: StatusCode) {
        if let Some(request) = self.request.take() {
            request.answered(status);
        }
    }

    fn failed(&mut self) {
        if let Some(request) = self.request.take() {
            request.failed();
        }
    }
}

/// From a request to the head of its answer.
pub(crate) struct ClientRequest {
    telemetry: Telemetry,
    method: &'static str,
    target: Target,
    begun: Instant,
    context: Option<Context>,
    over: bool,
}

impl Telemetry {
    /// Begins a request on behalf of `parent`, and tells the service which trace it belongs to.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub(crate) fn client_request(
        &self,
        services: &Services,
        parent: &Context,
        method: &Method,
        uri: &Uri,
        headers: &mut HeaderMap,
    ) -> Option<ClientRequest> {
        self.0.as_ref()?;
        let (method, target) = (self::method(method), services.target(uri));
        let context = self.tracer().map(|tracer| {
            let mut attributes = vec![
                KeyValue::new("http.request.method", method),
                KeyValue::new("server.address", uri.host().unwrap_or_default().to_owned()),
                KeyValue::new("entra_mcp.service", target.service),
                KeyValue::new("entra_mcp.endpoint", target.endpoint),
            ];
            attributes.extend(uri.port_u16().map(|port| KeyValue::new("server.port", i64::from(port))));
            let span = tracer
                .span_builder(format!("{method} {}", target.endpoint))
                .with_kind(SpanKind::Client)
                .with_attributes(attributes)
                .start_with_context(tracer, parent);
            parent.with_span(span)
        });
        if let Some(context) = &context {
            name_trace(context, headers);
        }
        Some(ClientRequest { telemetry: self.clone(), method, target, begun: Instant::now(), context, over: false })
    }
}

/// Says in the header which trace a request belongs to.
pub(super) fn name_trace(context: &Context, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(context, &mut HeaderInjector(headers));
    // The propagator writes a header even where there is nothing to say.
    if headers.get(TRACESTATE).is_some_and(HeaderValue::is_empty) {
        headers.remove(TRACESTATE);
    }
}

impl ClientRequest {
    /// The head of the answer is here.
    pub(crate) fn answered(mut self, status: StatusCode) {
        let result = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
        self.end(result, status.is_client_error() || status.is_server_error());
    }

    /// There is no answer.
    pub(crate) fn failed(mut self) {
        self.end(KeyValue::new("error.type", "exchange"), true);
    }

    fn end(&mut self, result: KeyValue, error: bool) {
        self.over = true;
        end_span(self.context.as_ref(), &result, error);
        if let Some(metrics) = self.telemetry.metrics() {
            let labels = [
                KeyValue::new("http.request.method", self.method),
                KeyValue::new("service", self.target.service),
                KeyValue::new("endpoint", self.target.endpoint),
                result,
            ];
            metrics.client_duration.record(seconds(self.begun.elapsed()), &labels);
        }
    }
}

/// Ends the span of what was asked of another server, if there is one.
pub(super) fn end_span(context: Option<&Context>, result: &KeyValue, error: bool) {
    let Some(context) = context else { return };
    let span = context.span();
    span.set_attribute(result.clone());
    if error {
        span.set_status(Status::error(""));
    }
    span.end();
}

impl Drop for ClientRequest {
    fn drop(&mut self) {
        // The caller no longer waits for the answer.
        if !self.over {
            self.end(KeyValue::new("error.type", "cancelled"), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceState;

    use super::super::TraceParent;
    use super::super::testing::Spans;
    use super::*;

    fn headers_sent(telemetry: &Telemetry, parent: &Context) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let uri = Uri::from_static("https://graph.microsoft.com/v1.0/me");
        drop(telemetry.client_request(&Services::default(), parent, &Method::GET, &uri, &mut headers));
        headers
    }

    #[test]
    fn a_service_is_told_the_trace_and_what_its_caller_says_to_vendors() {
        let caller = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        let spans = Spans::default();
        for state in ["", "b=1,a=2"] {
            let context = caller.span_context(state.parse::<TraceState>().unwrap());
            let parent = Context::new().with_remote_span_context(context);
            let sent = headers_sent(&spans.observe(), &parent);
            let span = spans.only();
            let told = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", span.span_context.span_id());
            assert_eq!((sent["traceparent"].to_str().unwrap(), span.parent_span_id), (&*told, caller.parent_id()));
            let told = sent.get("tracestate").map(|value| value.to_str().unwrap());
            assert_eq!(told, Some(state).filter(|state| !state.is_empty()));
            // Without a tracer there is no span that it could be told of.
            assert_eq!(headers_sent(&Telemetry::default(), &parent), HeaderMap::new());
        }
    }

    #[test]
    fn a_target_is_one_of_a_few() {
        let services = Services::new("http://127.0.0.1:1/graph/");
        let target = |text: &'static str| {
            let Target { service, endpoint } = services.target(&Uri::from_static(text));
            (service, endpoint)
        };
        assert_eq!(target("http://127.0.0.1:1/graph/v1.0/me?$select=id"), ("graph", "graph"));
        assert_eq!(target("http://127.0.0.1:1/graphic"), ("entra", "other"));
        assert_eq!(target("http://127.0.0.1:1/common/oauth2/v2.0/token"), ("entra", "token"));
        assert_eq!(target("http://127.0.0.1:1/common/discovery/v2.0/keys?appid=x"), ("entra", "keys"));
        assert_eq!(target("http://127.0.0.1:1/x/v2.0/.well-known/openid-configuration"), ("entra", "metadata"));
    }
}
