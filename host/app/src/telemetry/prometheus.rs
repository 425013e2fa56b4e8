//! Metrics for Prometheus, on a listener of its own: plain http, `GET /metrics`, and nothing else.
//!
//! It is not for the Internet: it has no authentication. The metrics identify no user. A web page that lets its own name
//! point here (DNS rebinding) gets nothing: a request has to name this listener by an address or by a known name.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Telemetry, TelemetryError};

/// Connections at the same time. Prometheus needs one.
const MAX_CONNECTIONS: usize = 8;

/// How long a connection may last: a scrape takes milliseconds, and Prometheus makes a new one when this is over.
const CONNECTION_TIME: Duration = Duration::from_secs(300);

/// Time to send the header of a request.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener for metrics cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for metrics: {reason}")]
pub struct MetricsError {
    /// The address.
    pub address: SocketAddr,
    /// What the operating system said.
    pub reason: std::io::Error,
}

/// The listener.
pub struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
    hosts: Arc<[String]>,
}

impl MetricsServer {
    /// Starts to listen. Requests name it by an address, as `localhost`, or by one of `hosts`.
    pub async fn bind(address: SocketAddr, hosts: Vec<String>) -> Result<Self, MetricsError> {
        let failed = |reason| MetricsError { address, reason };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().to_canonical().is_loopback() {
            tracing::warn!(%address, "any client that reaches this address can read the metrics");
        }
        Ok(Self { listener, address, hosts: hosts.into() })
    }

    /// The address with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub async fn serve(self, telemetry: Telemetry) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (telemetry, hosts) = (telemetry.clone(), Arc::clone(&self.hosts));
            tokio::spawn(async move {
                let service =
                    service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&telemetry, &hosts, &request))));
                let mut protocol = hyper::server::conn::http1::Builder::new();
                protocol.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
                let serving = protocol.serve_connection(TokioIo::new(stream), service);
                // Whatever ends it, there will be another one.
                let _ = tokio::time::timeout(CONNECTION_TIME, serving).await;
                drop(place);
            });
        }
    }
}

fn answer(telemetry: &Telemetry, hosts: &[String], request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    if !names_this_listener(request.uri().authority(), request.headers(), hosts) {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "metrics are not served under this host name: see metrics-host\n",
        );
    }
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let Some(text) = telemetry.text() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be collected\n");
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::TEXT_FORMAT));
    response
}

/// Whether a request names its host once, and in a way that no stranger's domain name can.
fn names_this_listener(target: Option<&Authority>, headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut fields = headers.get_all(HOST).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    let field = field.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let is_known = |authority: &Authority| {
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    };
    field.as_ref().is_some_and(is_known) && target.is_none_or(is_known)
}

/// What fills the registry.
pub(super) fn reader(registry: &Registry) -> Result<PrometheusExporter, TelemetryError> {
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false);
    exporter.build().map_err(|error| TelemetryError::Metrics(error.to_string()))
}

/// Text exposition format 0.0.4.
pub(super) fn text(registry: &Registry) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
    encoded.inspect_err(|error| tracing::error!(%error, "metrics cannot be collected")).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_listener_by_an_address_or_by_a_known_name() {
        let known = ["metrics.example.com".to_owned()];
        let named = |target: Option<&str>, hosts: &[&'static str]| {
            let headers: HeaderMap = hosts.iter().map(|host| (HOST, HeaderValue::from_static(host))).collect();
            let target = target.map(|target| target.parse().unwrap());
            names_this_listener(target.as_ref(), &headers, &known)
        };
        for host in ["127.0.0.1:9464", "10.0.0.7", "[::1]:9464", "localhost:9464", "LOCALHOST", "metrics.example.com:1"]
        {
            assert!(named(None, &[host]), "{host}");
        }
        assert!(named(Some("127.0.0.1:9464"), &["127.0.0.1:9464"]));
        for hosts in [
            &[][..],
            &[""],
            &["evil.example:9464"],
            &["127.0.0.1.evil.example"],
            &["localhost.evil.example"],
            &["evil-metrics.example.com"],
            &["127.0.0.1", "127.0.0.1"],
            &["127.0.0.1, evil.example"],
        ] {
            assert!(!named(None, hosts), "{hosts:?}");
        }
        assert!(!named(Some("evil.example"), &["127.0.0.1"]));
    }
}
