//! The server's certificate: read from two files, and read again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// How often the files are looked at. Certificates are renewed days before they expire.
const POLL: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("the TLS file {path} cannot be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// TLS cannot be set up with what the files hold.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What is in the files.
type Contents = (Vec<u8>, Zeroizing<Vec<u8>>);

/// A certificate with its key, as the files have it now.
pub struct Certificates {
    certificate_file: PathBuf,
    key_file: PathBuf,
    poll: Duration,
    current: RwLock<Arc<CertifiedKey>>,
    contents: RwLock<Contents>,
}

impl Certificates {
    /// Reads a certificate chain and its key, both PEM.
    pub fn read(certificate_file: &Path, key_file: &Path) -> Result<Arc<Self>, TlsError> {
        Self::read_with(certificate_file, key_file, POLL)
    }

    pub(super) fn read_with(certificate_file: &Path, key_file: &Path, poll: Duration) -> Result<Arc<Self>, TlsError> {
        let contents = (bytes(certificate_file)?, Zeroizing::new(bytes(key_file)?));
        let current = certified(certificate_file, key_file, &contents)?;
        warn_if_exposed(key_file);
        Ok(Arc::new(Self {
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
            poll,
            current: RwLock::new(Arc::new(current)),
            contents: RwLock::new(contents),
        }))
    }

    /// Accepts TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub(super) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Looks at the files again and again. Files that cannot be used change nothing.
    #[allow(clippy::disallowed_methods, reason = "tokio's clock, which a test can stop and move")]
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.poll).await;
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.refresh()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => tracing::info!(file = %self.certificate_file.display(), "the certificate was renewed"),
                Ok(Err(error)) => tracing::warn!(%error, "the old certificate stays in use"),
                Err(error) => tracing::error!(%error, "the certificate cannot be read again"),
            }
        }
    }

    /// Whether the files had something new.
    pub(super) fn refresh(&self) -> Result<bool, TlsError> {
        let contents = (bytes(&self.certificate_file)?, Zeroizing::new(bytes(&self.key_file)?));
        if *self.contents.read().unwrap_or_else(PoisonError::into_inner) == contents {
            return Ok(false);
        }
        // While only one of the two files is replaced, they do not match. The next look finds both.
        let fresh = certified(&self.certificate_file, &self.key_file, &contents)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        *self.contents.write().unwrap_or_else(PoisonError::into_inner) = contents;
        Ok(true)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("certificate_file", &self.certificate_file).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), reason: error.to_string() })
}

fn certified(certificate_file: &Path, key_file: &Path, contents: &Contents) -> Result<CertifiedKey, TlsError> {
    let unusable = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_slice_iter(&contents.0)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(certificate_file, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate_file, "it holds no certificate in PEM form".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&contents.1)
        .map_err(|error| unusable(key_file, format!("it holds no private key in PEM form ({error})")))?;
    // It also checks that the key belongs to the certificate.
    Ok(CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?)
}

fn warn_if_exposed(path: &Path) {
    #[cfg(unix)]
    if std::fs::metadata(path)
        .is_ok_and(|metadata| std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0)
    {
        tracing::warn!(file = %path.display(), "every user of this machine can read the private key");
    }
    #[cfg(not(unix))]
    let _ = path;
}
