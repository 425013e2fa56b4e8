//! Requests as a client on this machine sends them, and why one gets no answer: name, connection, certificate.
//!
//! It follows no redirect. What is sent and what is answered may be a secret or a token, so both are erased when they are no
//! longer needed, as far as they are in memory of this program's. The component has a way out of its own, with an allow-list (`host/plugin/src/outbound_http.rs`).

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use entra_mcp_plugin::outbound_http::{ConnectError, TimedConnector, read_certificates, tls_config};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::CertificateError;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_service::Service as _;
use url::Url;
use zeroize::{Zeroize as _, Zeroizing};

/// Time to resolve, connect and finish the TLS handshake. A person waits for the result.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a whole exchange.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest answer in bytes. Metadata documents have some KiB; Graph's own service principal with all of its permissions
/// has about a MiB.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Room that is made for an answer before it arrives, in bytes. Most fit.
const FIRST_BYTES: usize = 16 * 1024;

type Connector = HttpsConnector<HttpConnector>;

/// Sends requests, and follows no redirect.
pub(crate) struct Probe {
    client: Client<TimedConnector<Connector>, Full<Bytes>>,
    connector: TimedConnector<Connector>,
}

/// An answer with its whole body.
pub(crate) struct ProbeAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

impl ProbeAnswer {
    /// The body, if it is a JSON object.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }

    /// The body as a type of its own, without a copy of the rest.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
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
pub(crate) enum BadCertificate {
    Expired,
    NotYet,
    OtherName,
    UnknownIssuer,
    Other,
}

impl Probe {
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
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

    pub(crate) async fn get(&self, url: &str) -> Result<ProbeAnswer, Unanswered> {
        self.send(Method::GET, url, &[], None).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<ProbeAnswer, Unanswered> {
        let body = Zeroizing::new(body.map(ToString::to_string).unwrap_or_default());
        self.send_text(method, url, headers, body).await
    }

    /// The same with a body of any type. It is erased when it was sent.
    pub(crate) async fn send_text(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Zeroizing<String>,
    ) -> Result<ProbeAnswer, Unanswered> {
        let failed = |reason: &str| Unanswered::Answer(reason.to_owned());
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, erased_later(value).ok_or_else(|| failed("the request cannot be made"))?);
        }
        let body = Full::new(Bytes::from_owner(body));
        let request = request.body(body).map_err(|_| failed("the URL cannot be asked"))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| unanswered(&error))?;
            let (head, body) = response.into_parts();
            let body = whole(body).await.ok_or_else(|| failed("the answer broke off, or is too long"))?;
            Ok(ProbeAnswer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(TOTAL_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(failed("no answer in time")))
    }

    /// The certificate that a server shows, encoded; `None`: it speaks no TLS.
    pub(crate) async fn certificate(&self, url: &Url) -> Result<Option<Vec<u8>>, Unanswered> {
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
}

/// The value of a header field, which may be a token.
fn erased_later(value: &str) -> Option<HeaderValue> {
    let bytes = Bytes::from_owner(Zeroizing::new(value.as_bytes().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A whole body. What it was put together from is erased.
async fn whole<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Option<Zeroizing<Vec<u8>>> {
    let mut whole = Zeroizing::new(Vec::with_capacity(FIRST_BYTES));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        let needed = whole.len().saturating_add(data.len());
        if needed > MAX_ANSWER_BYTES {
            return None;
        }
        if needed > whole.capacity() {
            // A vector that grows by itself leaves a copy behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
            larger.extend_from_slice(&whole);
            whole = larger;
        }
        whole.extend_from_slice(&data);
        if let Ok(mut data) = data.try_into_mut() {
            data.as_mut().zeroize();
        }
    }
    Some(whole)
}

/// Why there is no answer, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explained {
    /// A stable name for programs.
    pub(crate) id: &'static str,
    /// What is the case.
    pub(crate) what: String,
    /// What to change.
    pub(crate) change: String,
}

impl Unanswered {
    /// What it means, and what to change. `setting` is what names the server.
    pub(crate) fn explained(&self, role: &str, host: &str, setting: &str) -> Explained {
        let failure = |id, what: String, change: String| Explained { id, what: format!("{role}: {what}"), change };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_whole_up_to_its_limit() {
        for length in [0, FIRST_BYTES, FIRST_BYTES + 1, MAX_ANSWER_BYTES] {
            let body = Full::new(Bytes::from(vec![7; length]));
            assert_eq!(whole(body).await.map(|body| body.len()), Some(length));
        }
        assert!(whole(Full::new(Bytes::from(vec![7; MAX_ANSWER_BYTES + 1]))).await.is_none());
    }

    #[test]
    fn a_token_in_a_header_is_not_shown() {
        let value = erased_later("Bearer recognisable").unwrap();
        assert_eq!((value.as_bytes(), format!("{value:?}")), (&b"Bearer recognisable"[..], "Sensitive".to_owned()));
        assert!(erased_later("a\nb").is_none());
    }
}
