//! Requests as a client on this machine sends them, and why one gets no answer: name, connection, certificate.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use entra_mcp_plugin::outbound_http::{ConnectError, TimedConnector, read_certificates, tls_config};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::CertificateError;
use serde_json::Value;
use tower_service::Service as _;
use url::Url;

use super::report::Finding;

/// Time to resolve, connect and finish the TLS handshake. A person waits for the result.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a whole exchange.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest answer in bytes. Metadata documents have some KiB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A certificate that expires sooner than this is worth a warning. Those that renew themselves do it a month before.
const EXPIRES_SOON_DAYS: i64 = 14;

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

type Connector = HttpsConnector<HttpConnector>;

/// Sends requests, and follows no redirect.
pub(super) struct Probe {
    client: Client<TimedConnector<Connector>, Full<Bytes>>,
    connector: TimedConnector<Connector>,
}

/// An answer with its whole body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The body, if it is a JSON object.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The name leads nowhere.
    Name,
    /// The certificate is not accepted.
    Certificate(BadCertificate),
    /// No TLS is spoken, or none that this program speaks.
    Tls,
    /// No connection was made.
    Connection(String),
    /// No answer arrived.
    Answer(String),
}

/// What is wrong with a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadCertificate {
    Expired,
    NotYet,
    OtherName,
    UnknownIssuer,
    Other,
}

impl Probe {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let roots = ca_file.map(read_certificates).transpose().map_err(|error| error.to_string())?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(&roots.unwrap_or_default())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let connector = TimedConnector::new(https, CONNECT_TIMEOUT);
        let client = Client::builder(TokioExecutor::new()).build(connector.clone());
        Ok(Self { client, connector })
    }

    pub(super) async fn get(&self, url: &str) -> Result<Answer, Unanswered> {
        self.send(Method::GET, url, &[], None).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, Unanswered> {
        let failed = |reason: &str| Unanswered::Answer(reason.to_owned());
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(|_| failed("the URL cannot be asked"))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| unanswered(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|_| failed("the answer broke off, or is too long"))?.to_bytes().to_vec();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(TOTAL_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(failed("no answer in time")))
    }

    /// The certificate that a server shows, encoded; `None`: it speaks no TLS.
    async fn certificate(&self, url: &Url) -> Result<Option<Vec<u8>>, Unanswered> {
        let uri = url.as_str().parse().map_err(|_| Unanswered::Connection("the URL cannot be asked".to_owned()))?;
        let stream = self.connector.clone().call(uri).await.map_err(|error| unanswered(&*error))?;
        Ok(match stream {
            MaybeHttpsStream::Http(_) => None,
            MaybeHttpsStream::Https(stream) => {
                let certificates = stream.inner().get_ref().1.peer_certificates();
                certificates.and_then(|all| all.first()).map(|certificate| certificate.to_vec())
            }
        })
    }

    /// Looks at the way to a server: its name, the connection, its certificate. `setting` is what names it.
    pub(super) async fn way_to(&self, url: &Url, role: &str, setting: &str, now: u64) -> (Vec<Finding>, bool) {
        let host = url.host_str().unwrap_or_default();
        match self.certificate(url).await {
            Ok(None) => {
                let what = format!("{role}: {host} answers, without TLS");
                let finding = match host {
                    "localhost" | "127.0.0.1" | "[::1]" => Finding::skipped("tls", what),
                    _ => Finding::failure(
                        "tls",
                        what,
                        "serve it over https: clients refuse it, and others read the tokens",
                    ),
                };
                (vec![finding], true)
            }
            Ok(Some(certificate)) => (vec![of_certificate(&certificate, role, host, now)], true),
            Err(reason) => (vec![reason.finding(role, host, setting)], false),
        }
    }
}

fn of_certificate(certificate: &[u8], role: &str, host: &str, now: u64) -> Finding {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Finding::good("tls", format!("{role}: {host} answers over TLS"));
    };
    let left = parsed.validity().not_after.timestamp().saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
    let days = left.div_euclid(SECONDS_OF_A_DAY);
    let what = format!("{role}: {host} answers over TLS, its certificate is good for {days} more days");
    if days < EXPIRES_SOON_DAYS {
        return Finding::warning(
            "tls",
            what,
            format!("renew the certificate of {host}, and see why it is not renewed by itself"),
        );
    }
    Finding::good("tls", what)
}

impl Unanswered {
    /// What it means, and what to change. `setting` is what names the server.
    pub(super) fn finding(&self, role: &str, host: &str, setting: &str) -> Finding {
        let failure = |id, what: String, change: String| Finding::failure(id, format!("{role}: {what}"), change);
        match self {
            Self::Name => failure(
                "dns",
                format!("the name {host} cannot be resolved"),
                format!("correct {setting}, or the name service of this machine (in a container, its DNS settings)"),
            ),
            Self::Certificate(BadCertificate::Expired) => failure(
                "tls",
                format!("the certificate of {host} has expired"),
                "renew it where TLS ends, the server or its proxy; if it is good elsewhere, correct the date of this machine".to_owned(),
            ),
            Self::Certificate(BadCertificate::NotYet) => failure(
                "tls",
                format!("the certificate of {host} is not good yet"),
                "correct the date and time of this machine".to_owned(),
            ),
            Self::Certificate(BadCertificate::OtherName) => failure(
                "tls",
                format!("the certificate is not for the name {host}"),
                format!("get a certificate with the name {host}, or correct {setting}"),
            ),
            Self::Certificate(BadCertificate::UnknownIssuer) => failure(
                "tls",
                format!("the certificate of {host} comes from an authority that this machine does not know"),
                "if a proxy of the company opens TLS, name its root certificate with --ca-file; if it is the deployed \
                 server's, let it send the intermediate certificates too (the chain), because clients do not know them"
                    .to_owned(),
            ),
            Self::Certificate(BadCertificate::Other) => {
                failure("tls", format!("the certificate of {host} cannot be used"), format!("renew the certificate of {host}"))
            }
            Self::Tls => failure(
                "tls",
                format!("{host} does not speak TLS 1.2 or 1.3 at this port"),
                format!("correct the port in {setting}, or switch TLS on there"),
            ),
            Self::Connection(reason) => failure(
                "connect",
                format!("no connection to {host} ({reason})"),
                format!("correct {setting}, or let the firewall pass connections from this machine; proxies are not used"),
            ),
            Self::Answer(reason) => failure(
                "answer",
                format!("{host} gave no answer ({reason})"),
                "see the log of that server, or of the proxy in front of it".to_owned(),
            ),
        }
    }
}

fn unanswered(error: &(dyn StdError + 'static)) -> Unanswered {
    let mut next = Some(error);
    let mut last = String::new();
    while let Some(error) = next {
        if let Some(known) = known(error) {
            return known;
        }
        last = error.to_string();
        next = error.source();
    }
    Unanswered::Connection(last)
}

fn known(error: &(dyn StdError + 'static)) -> Option<Unanswered> {
    if let Some(ConnectError::TimedOut) = error.downcast_ref() {
        return Some(Unanswered::Connection("no connection in time".to_owned()));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(reason) => Unanswered::Certificate(match reason {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => BadCertificate::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => BadCertificate::NotYet,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    BadCertificate::OtherName
                }
                CertificateError::UnknownIssuer => BadCertificate::UnknownIssuer,
                _ => BadCertificate::Other,
            }),
            _ => Unanswered::Tls,
        });
    }
    let text = error.to_string();
    // The resolver's errors are of no type that is public.
    if text.starts_with("dns error") {
        return Some(Unanswered::Name);
    }
    let error = error.downcast_ref::<io::Error>()?;
    if let Some(known) = error.get_ref().and_then(|inner| known(inner)) {
        return Some(known);
    }
    (error.kind() == io::ErrorKind::ConnectionRefused).then(|| Unanswered::Connection("it is refused".to_owned()))
}
