//! An OpenTelemetry collector that keeps what it is sent (OTLP over HTTP, protobuf).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use base16ct::lower::encode_string;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::patience::eventually;

/// Attributes as text.
pub(crate) type Attributes = BTreeMap<String, String>;

/// A span; ids in hexadecimal digits.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace_id: String,
    pub(crate) id: String,
    pub(crate) parent_id: String,
    pub(crate) kind: i32,
    pub(crate) attributes: Attributes,
    pub(crate) trace_state: String,
    /// Trace and span of each link.
    pub(crate) links: Vec<(String, String)>,
}

/// A log record.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) attributes: Attributes,
}

/// Everything so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<Span>,
    pub(crate) logs: Vec<Log>,
    /// Names of metrics.
    pub(crate) metrics: Vec<String>,
    pub(crate) resources: Vec<Attributes>,
    pub(crate) headers: Vec<HeaderMap>,
    pub(crate) bodies: Vec<Bytes>,
}

/// How the collector treats the exports that it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Keeps,
    NeverAnswers,
}

/// A collector that listens until this value is dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    serving: JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Received>>::default();
        let kept = Arc::clone(&received);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(&kept, manner, request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, received, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap()
    }

    /// Waits until enough is received.
    pub(crate) async fn wait(&self, enough: impl Fn(&Received) -> bool) -> Received {
        let waited = eventually(|| ready(Some(self.received().clone()).filter(&enough))).await;
        waited.unwrap_or_else(|_| panic!("that was all: {:#?}", *self.received()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    kept: &Mutex<Received>,
    manner: Manner,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(status(StatusCode::BAD_REQUEST)) };
    let body = body.to_bytes();
    if !kept.lock().unwrap().take(head.uri.path(), head.headers, &body) {
        return Ok(status(StatusCode::NOT_FOUND));
    }
    if manner == Manner::NeverAnswers {
        std::future::pending::<()>().await;
    }
    Ok(status(StatusCode::OK))
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

impl Received {
    /// Whether there is something at this path.
    fn take(&mut self, path: &str, headers: HeaderMap, body: &Bytes) -> bool {
        self.headers.push(headers);
        self.bodies.push(body.clone());
        match path {
            "/v1/traces" => self.take_traces(body),
            "/v1/logs" => self.take_logs(body),
            "/v1/metrics" => self.take_metrics(body),
            _ => return false,
        }
        true
    }

    fn take_traces(&mut self, body: &Bytes) {
        for group in ExportTraceServiceRequest::decode(body.clone()).unwrap().resource_spans {
            self.take_resource(group.resource);
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.push(Span {
                    name: span.name,
                    trace_id: encode_string(&span.trace_id),
                    id: encode_string(&span.span_id),
                    parent_id: encode_string(&span.parent_span_id),
                    kind: span.kind,
                    attributes: attributes(span.attributes),
                    trace_state: span.trace_state,
                    links: span
                        .links
                        .iter()
                        .map(|link| (encode_string(&link.trace_id), encode_string(&link.span_id)))
                        .collect(),
                });
            }
        }
    }

    fn take_logs(&mut self, body: &Bytes) {
        for group in ExportLogsServiceRequest::decode(body.clone()).unwrap().resource_logs {
            self.take_resource(group.resource);
            for log in group.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                self.logs.push(Log {
                    trace_id: encode_string(&log.trace_id),
                    span_id: encode_string(&log.span_id),
                    attributes: attributes(log.attributes),
                });
            }
        }
    }

    fn take_metrics(&mut self, body: &Bytes) {
        for group in ExportMetricsServiceRequest::decode(body.clone()).unwrap().resource_metrics {
            self.take_resource(group.resource);
            let metrics = group.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            self.metrics.extend(metrics.map(|metric| metric.name));
        }
    }

    fn take_resource(&mut self, resource: Option<Resource>) {
        self.resources.extend(resource.map(|resource| attributes(resource.attributes)));
    }
}

fn attributes(attributes: Vec<KeyValue>) -> Attributes {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}
