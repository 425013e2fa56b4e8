//! Requests to MCP servers behind the program, and calls of its tool components, as they are observed: how many, how long
//! until the answer begins, and how they end. The names of servers are those of the configuration; the name of a tool or a
//! resource is in audit records only.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use entra_mcp_gate::behind::{AnswerBody, Behind, BehindError, Sender};
use entra_mcp_plugin::provided_tools::{Content, ProvidedTools, ProviderError, Tool, ToolCall};
use http::{Request, Response};
use opentelemetry::trace::{FutureExt as _, SpanKind, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use tokio::time::Instant;

use super::Telemetry;
use super::client_request::{end_span, name_trace};
use super::metrics::{method, seconds};

/// Where the time of an operation is recorded.
#[derive(Debug, Clone, Copy)]
enum Recorded {
    /// Requests to servers behind.
    Upstream,
    /// Calls of tool components.
    Tool,
}

/// A request or a call, from its start to the head of its answer.
struct Operation {
    telemetry: Telemetry,
    recorded: Recorded,
    labels: Vec<KeyValue>,
    begun: Instant,
    context: Option<Context>,
    over: bool,
}

impl Operation {
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    fn begin(
        telemetry: &Telemetry,
        recorded: Recorded,
        name: String,
        labels: Vec<KeyValue>,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let kind = match recorded {
            Recorded::Upstream => SpanKind::Client,
            Recorded::Tool => SpanKind::Internal,
        };
        let context = telemetry.tracer().map(|tracer| {
            let parent = Context::current();
            let span = tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
            parent.with_span(span.start_with_context(tracer, &parent))
        });
        Self { telemetry: telemetry.clone(), recorded, labels, begun: Instant::now(), context, over: false }
    }

    /// The operation has ended with `result`.
    fn end(&mut self, result: KeyValue, error: bool) {
        self.over = true;
        end_span(self.context.as_ref(), &result, error);
        let Some(metrics) = self.telemetry.metrics() else { return };
        let duration = match self.recorded {
            Recorded::Upstream => &metrics.upstream_duration,
            Recorded::Tool => &metrics.tool_duration,
        };
        self.labels.push(result);
        duration.record(seconds(self.begun.elapsed()), &self.labels);
    }

    fn failed(&mut self, reason: &'static str) {
        self.end(KeyValue::new("error.type", reason), true);
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // The caller no longer waits, or the gate has waited for as long as it does.
        if !self.over {
            self.failed("cancelled");
        }
    }
}

/// A server behind, whose requests are observed.
struct ObservedBehind {
    inner: Arc<dyn Behind>,
    server: String,
    telemetry: Telemetry,
}

/// Tool components, whose calls are observed.
struct ObservedTools {
    inner: Arc<dyn ProvidedTools>,
    telemetry: Telemetry,
}

impl Telemetry {
    /// Observes the requests to the server of this name; the server itself, if nothing is observed.
    pub(crate) fn behind(&self, server: &str, inner: Arc<dyn Behind>) -> Arc<dyn Behind> {
        match &self.0 {
            None => inner,
            Some(_) => Arc::new(ObservedBehind { inner, server: server.to_owned(), telemetry: self.clone() }),
        }
    }

    /// Observes the calls of tools; the tools themselves, if nothing is observed.
    pub(crate) fn tools(&self, inner: Arc<dyn ProvidedTools>) -> Arc<dyn ProvidedTools> {
        match &self.0 {
            None => inner,
            Some(_) => Arc::new(ObservedTools { inner, telemetry: self.clone() }),
        }
    }
}

#[async_trait]
impl Behind for ObservedBehind {
    async fn send(&self, mut request: Request<Bytes>, sender: Sender) -> Result<Response<AnswerBody>, BehindError> {
        let method = method(request.method());
        let labels = vec![KeyValue::new("http.request.method", method), KeyValue::new("server", self.server.clone())];
        let attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("entra_mcp.service", "upstream"),
            KeyValue::new("entra_mcp.server", self.server.clone()),
        ];
        let name = format!("{method} {}", self.server);
        let mut operation = Operation::begin(&self.telemetry, Recorded::Upstream, name, labels, attributes);
        if let Some(context) = &operation.context {
            name_trace(context, request.headers_mut());
        }
        let answer = self.inner.send(request, sender);
        let answer = match operation.context.clone() {
            Some(context) => answer.with_context(context).await,
            None => answer.await,
        };
        match &answer {
            Ok(answer) => {
                let status = answer.status();
                let result = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
                operation.end(result, status.is_client_error() || status.is_server_error());
            }
            Err(error) => operation.failed(match error {
                BehindError::Unreachable(_) => "unreachable",
                BehindError::TimedOut => "timeout",
                BehindError::Busy(_) => "busy",
                BehindError::Malformed(_) => "malformed",
                BehindError::NoToken(_) => "no-token",
                BehindError::BrokenOff(_) => "broken-off",
            }),
        }
        answer
    }

    fn requests_at_once(&self) -> Option<usize> {
        self.inner.requests_at_once()
    }

    fn time_to_answer(&self) -> Duration {
        self.inner.time_to_answer()
    }
}

#[async_trait]
impl ProvidedTools for ObservedTools {
    async fn list_tools(&self, server: &str) -> Result<Vec<Tool>, ProviderError> {
        self.inner.list_tools(server).await
    }

    async fn call(&self, call: ToolCall) -> Result<Content, ProviderError> {
        let labels = vec![KeyValue::new("server", call.server.clone())];
        let attributes = vec![KeyValue::new("entra_mcp.server", call.server.clone())];
        let name = format!("call {}", call.server);
        let mut operation = Operation::begin(&self.telemetry, Recorded::Tool, name, labels, attributes);
        let called = self.inner.call(call);
        let called = match operation.context.clone() {
            Some(context) => called.with_context(context).await,
            None => called.await,
        };
        match &called {
            Ok(_) => operation.end(KeyValue::new("outcome", "success"), false),
            Err(error) => {
                let outcome = outcome(error);
                operation.end(KeyValue::new("outcome", outcome), true);
            }
        }
        called
    }
}

fn outcome(error: &ProviderError) -> &'static str {
    match error {
        ProviderError::Tool(_) => "tool-error",
        ProviderError::Ended(_) => "ended",
        ProviderError::TimedOut => "timeout",
        ProviderError::OverBytes(_) => "too-large",
        ProviderError::Delegation(_) => "no-token",
        ProviderError::Unavailable(_) => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use entra_mcp_plugin::gatekeeper::Caller;
    use entra_mcp_plugin::token_validator::PrincipalKind;
    use opentelemetry::Value;
    use opentelemetry::trace::Status;

    use super::super::testing::Spans;
    use super::*;

    /// A server that answers each request with the next of these results, and not at all after the last one.
    struct Scripted(std::sync::Mutex<Vec<BehindError>>);

    #[async_trait]
    impl Behind for Scripted {
        async fn send(&self, _: Request<Bytes>, _: Sender) -> Result<Response<AnswerBody>, BehindError> {
            let error = self.0.lock().unwrap().pop();
            match error {
                Some(error) => Err(error),
                None => pending().await,
            }
        }

        fn requests_at_once(&self) -> Option<usize> {
            Some(7)
        }

        fn time_to_answer(&self) -> Duration {
            Duration::from_secs(9)
        }
    }

    fn sender() -> Sender {
        let caller = Caller {
            tenant_id: "tenant".into(),
            object_id: "object".into(),
            client_id: "client".into(),
            scopes: Vec::new(),
            roles: Vec::new(),
            kind: PrincipalKind::User,
            correlation_id: "correlation".into(),
        };
        Sender { caller, handle: String::from("handle").into() }
    }

    #[tokio::test]
    async fn a_request_that_fails_or_is_given_up_has_a_span_that_says_how() {
        let spans = Spans::default();
        let errors = [
            (BehindError::TimedOut, "timeout"),
            (BehindError::Busy("recognisable".into()), "busy"),
            (BehindError::Unreachable("recognisable".into()), "unreachable"),
            (BehindError::Malformed("recognisable".into()), "malformed"),
            (BehindError::BrokenOff("recognisable".into()), "broken-off"),
        ];
        let script = errors.iter().rev().map(|(error, _)| error.clone()).collect();
        let behind = spans.observe().behind("crm", Arc::new(Scripted(std::sync::Mutex::new(script))));
        for (error, expected) in errors {
            assert_eq!(behind.send(Request::default(), sender()).await.err(), Some(error));
            assert_said(&spans.only(), expected);
        }
        let sending = behind.send(Request::default(), sender());
        assert!(tokio::time::timeout(Duration::ZERO, sending).await.is_err());
        assert_said(&spans.only(), "cancelled");
        assert_eq!((behind.requests_at_once(), behind.time_to_answer()), (Some(7), Duration::from_secs(9)));
    }

    fn assert_said(span: &opentelemetry_sdk::trace::SpanData, expected: &'static str) {
        let said = span.attributes.iter().find(|attribute| attribute.key.as_str() == "error.type");
        assert_eq!(said.map(|attribute| &attribute.value), Some(&Value::from(expected)));
        assert_eq!((span.name.as_ref(), &span.status), ("GET crm", &Status::error("")));
        assert!(!format!("{span:?}").contains("recognisable"));
    }

    #[tokio::test]
    async fn without_observers_a_server_and_tools_are_themselves() {
        let behind: Arc<dyn Behind> = Arc::new(Scripted(std::sync::Mutex::default()));
        let tools: Arc<dyn ProvidedTools> = Arc::new(entra_mcp_plugin::provided_tools::NoProvidedTools);
        let telemetry = Telemetry::default();
        assert!(Arc::ptr_eq(&telemetry.behind("crm", Arc::clone(&behind)), &behind));
        assert!(Arc::ptr_eq(&telemetry.tools(Arc::clone(&tools)), &tools));
    }
}
