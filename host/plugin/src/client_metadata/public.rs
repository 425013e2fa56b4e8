//! Reads documents of the public Internet.
//!
//! Threat: an unauthenticated client chooses the address, and could reach what only this machine can reach (server-side
//! request forgery). So this allows only https on port 443, and addresses of the public Internet. It checks the address
//! after resolution, and connects to the checked address. No redirect, no proxy, no credential, no cookie, tight limits
//! of time and size, and a bounded number of requests.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use url::{Host, Url};

use super::places::FetchPlaces;
use super::{ClientMetadata, Document, FetchError};
use crate::clock::Clock;
use crate::error::Error;
use crate::outbound_http::{
    ConnectError, GuardedResolver, Resolve, TimedConnector, is_public, read_certificates, system_resolver, tls_config,
};
use crate::rate_limiter::{self, Rate};

/// The one port that is asked (from the WIT contract). Documents of clients are web pages; on other ports there are
/// services that an attacker would have this machine talk to.
const PORT: u16 = 443;

/// Longest document in bytes (from the WIT contract). The specification suggests 5 KiB.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// Time for everything, from resolving the name to the last byte (from the WIT contract).
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that leave this machine, whatever the component or its callers want. The component remembers documents, so
/// this many different clients may begin at the same minute; an attacker in the component sends no more than that many
/// URLs out.
const RATE: Rate = Rate { count: 300, per: Duration::from_secs(60) };

/// The `User-Agent` of the requests.
const AGENT: &str = concat!("entra-mcp/", env!("CARGO_PKG_VERSION"));

type MetadataClient = Client<TimedConnector<HttpsConnector<HttpConnector<GuardedResolver>>>, Empty<Bytes>>;

/// Reads documents of the public Internet.
pub struct PublicClientMetadata {
    /// Hosts, perhaps with a port, that may be anywhere: for development.
    anywhere: Arc<[String]>,
    extra_roots: Vec<CertificateDer<'static>>,
    resolve: Resolve,
    timeout: Duration,
    places: FetchPlaces,
    clock: Arc<dyn Clock>,
    rate: Rate,
    /// When all requests so far are forgotten, as a reading of the monotonic clock.
    forgotten_at: Mutex<Duration>,
    client: OnceLock<Result<MetadataClient, String>>,
}

impl PublicClientMetadata {
    /// `anywhere` lists hosts whose documents are read wherever they are. `ca_file` adds roots of trust. `clock` measures
    /// how many documents are read in a minute.
    pub fn new(anywhere: Vec<String>, ca_file: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self {
            anywhere: anywhere.into(),
            extra_roots: ca_file.map(read_certificates).transpose()?.unwrap_or_default(),
            resolve: system_resolver(),
            timeout: TOTAL_TIMEOUT,
            places: FetchPlaces::default(),
            clock,
            rate: RATE,
            forgotten_at: Mutex::default(),
            client: OnceLock::new(),
        })
    }

    /// The URL, if it may be fetched. If its host is a name, the addresses are checked when the connection is made.
    fn admitted(&self, url: &str) -> Result<Url, FetchError> {
        let denied = |reason: &str| FetchError::Denied(reason.to_owned());
        let url = Url::parse(url).map_err(|_| denied("not a URL"))?;
        if url.scheme() != "https" {
            return Err(denied("not an https URL"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(denied("a URL with a user name, a password or a fragment"));
        }
        let address = match url.host() {
            None => return Err(denied("a URL without a host")),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
        };
        if self.is_anywhere(&url) {
            return Ok(url);
        }
        if url.port_or_known_default() != Some(PORT) {
            return Err(denied("a port other than 443"));
        }
        if address.is_some_and(|address| !is_public(address)) {
            return Err(denied("an address that is not of the public Internet"));
        }
        Ok(url)
    }

    /// Counts a request. An error: there were too many lately.
    fn counted(&self) -> Result<(), FetchError> {
        let mut forgotten_at = self.forgotten_at.lock().unwrap_or_else(PoisonError::into_inner);
        rate_limiter::count(&mut forgotten_at, self.clock.monotonic(), self.rate).map_err(|_| {
            tracing::warn!("too many documents of clients were read in the last minute: no more are read for now");
            FetchError::Unavailable("too many documents were read in the last minute".to_owned())
        })
    }

    fn is_anywhere(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let port = url.port_or_known_default().unwrap_or_default();
        self.anywhere.iter().any(|allowed| *allowed == host.to_string() || *allowed == format!("{host}:{port}"))
    }

    fn client(&self, anywhere: bool) -> Result<MetadataClient, FetchError> {
        // The resolver sees no port, so the hosts that may be anywhere have a client of their own.
        if anywhere {
            return self.make_client(true).map_err(FetchError::Unavailable);
        }
        self.client.get_or_init(|| self.make_client(false)).clone().map_err(FetchError::Unavailable)
    }

    fn make_client(&self, anywhere: bool) -> Result<MetadataClient, String> {
        let resolver = GuardedResolver {
            admits: Arc::new(move |_, address| anywhere || is_public(address)),
            resolve: Arc::clone(&self.resolve),
        };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(&self.extra_roots)?)
            .https_only()
            .enable_all_versions()
            .wrap_connector(tcp);
        // Connections are not kept: a document is fetched again after hours at the earliest.
        Ok(Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(TimedConnector::new(https, self.timeout)))
    }

    async fn read(&self, url: &Url) -> Result<Document, FetchError> {
        let request = Request::get(url.as_str())
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(USER_AGENT, HeaderValue::from_static(AGENT))
            .body(Empty::new())
            .map_err(|error| FetchError::Denied(error.to_string()))?;
        let response = self.client(self.is_anywhere(url))?.request(request).await.map_err(|error| failed(&error))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let (head, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| FetchError::Unavailable(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len().saturating_add(data.len()) > MAX_DOCUMENT_BYTES {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Document { body: bytes.to_vec(), content_type, max_age_seconds: max_age(&head.headers) })
    }
}

#[async_trait]
impl ClientMetadata for PublicClientMetadata {
    async fn fetch(&self, url: &str, client: Option<IpAddr>) -> Result<Document, FetchError> {
        let url = self.admitted(url)?;
        let Some(_place) = self.places.take(&url, client) else {
            return Err(FetchError::Unavailable("too many documents are being fetched".to_owned()));
        };
        self.counted()?;
        let fetched = tokio::time::timeout(self.timeout, self.read(&url)).await;
        fetched.unwrap_or_else(|_| Err(FetchError::Unavailable("no whole answer in time".to_owned())))
    }
}

/// Says why there is no answer.
fn failed(error: &hyper_util::client::legacy::Error) -> FetchError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut text = error.to_string();
    while let Some(error) = next {
        if let Some(ConnectError::Prohibited(_)) = error.downcast_ref() {
            return FetchError::Denied("the host has no address of the public Internet".to_owned());
        }
        text = error.to_string();
        next = error.source();
    }
    FetchError::Unavailable(text)
}

/// How long an answer may be kept, if it says so.
fn max_age(headers: &HeaderMap) -> Option<u32> {
    let mut age = None;
    for line in headers.get_all(CACHE_CONTROL) {
        for directive in line.to_str().ok()?.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(0),
                // A number that is too large means forever (RFC 9111 section 1.2.2).
                "max-age" => age = Some(seconds(value.trim().trim_matches('"'))?),
                _ => {}
            }
        }
    }
    age
}

fn seconds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
