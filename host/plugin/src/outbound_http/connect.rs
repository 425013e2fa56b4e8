//! Outgoing connections: refuses names that resolve to a forbidden address, and untrusted certificates.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tower_service::Service;

use crate::error::Error;
use crate::outbound::BoxFuture;

type BoxError = Box<dyn StdError + Send + Sync>;
/// Turns a host name into addresses.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The resolver of the operating system.
pub fn system_resolver() -> Resolve {
    Arc::new(|name| {
        Box::pin(async move {
            // The connector sets the port.
            let addresses = tokio::net::lookup_host((name, 0)).await?;
            Ok(addresses.collect())
        })
    })
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name is not known, or the resolver failed.
    #[error("the name {0} cannot be resolved")]
    Dns(String, #[source] io::Error),
    /// All addresses of the name are forbidden.
    #[error("the name {0} has no address that is allowed")]
    Prohibited(String),
    /// The time to connect is over.
    #[error("no connection in time")]
    TimedOut,
}

/// Whether a connection for a name may go to an address.
pub type AdmitsAddress = Arc<dyn Fn(&str, IpAddr) -> bool + Send + Sync>;

/// Resolves names, and leaves out forbidden addresses. It is not called for hosts that are addresses themselves.
#[derive(Clone)]
pub struct GuardedResolver {
    /// Says which addresses are allowed.
    pub admits: AdmitsAddress,
    /// Finds the addresses.
    pub resolve: Resolve,
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ConnectError;
    type Future = BoxFuture<Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (admits, name) = (Arc::clone(&self.admits), name.as_str().to_owned());
        let resolving = (self.resolve)(name.clone());
        Box::pin(async move {
            let found = match resolving.await {
                Ok(found) => found,
                Err(error) => return Err(ConnectError::Dns(name, error)),
            };
            let allowed: Vec<_> = found.iter().copied().filter(|address| admits(&name, address.ip())).collect();
            if allowed.len() < found.len() {
                tracing::warn!(%name, ?found, "addresses that are not allowed were left out");
            }
            if allowed.is_empty() { Err(ConnectError::Prohibited(name)) } else { Ok(allowed.into_iter()) }
        })
    }
}

/// Bounds the time to connect, TLS included.
#[derive(Clone)]
pub struct TimedConnector<C> {
    inner: C,
    timeout: Duration,
}

impl<C> TimedConnector<C> {
    /// Gives up a connection of `inner` after `timeout`.
    pub fn new(inner: C, timeout: Duration) -> Self {
        Self { inner, timeout }
    }
}

impl<C> Service<Uri> for TimedConnector<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.inner.call(uri));
        Box::pin(async move { connecting.await.unwrap_or_else(|_| Err(ConnectError::TimedOut.into())) })
    }
}

/// The certificates in a file (PEM), if all of them can be roots of trust.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable = |reason: String| Error::CertificateFile { path: path.to_owned(), reason };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".into()));
    }
    let mut probe = rustls::RootCertStore::empty();
    for certificate in &certificates {
        probe.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(certificates)
}

/// The system's roots of trust, Mozilla's where the system has none, and the configured ones.
pub fn tls_config(extra_roots: &[CertificateDer<'static>]) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a system certificate cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in extra_roots {
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
