//! TLS: versions, protocols, and certificates that change.

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// A certificate in files.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { folder: tempfile::tempdir().unwrap() };
        pair.renew();
        pair
    }

    /// Writes another certificate; returns it.
    fn renew(&self) -> rustls::pki_types::CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.key(), key.serialize_pem()).unwrap();
        std::fs::write(self.certificate(), certificate.pem()).unwrap();
        certificate.der().clone()
    }

    fn certificate(&self) -> std::path::PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> std::path::PathBuf {
        self.folder.path().join("key.pem")
    }

    fn read(&self) -> Result<Arc<Certificates>, TlsError> {
        Certificates::read_with(&self.certificate(), &self.key(), Duration::from_millis(20))
    }

    async fn serve(&self) -> Running {
        Self::serve_with(&self.read().unwrap()).await
    }

    async fn serve_with(certificates: &Arc<Certificates>) -> Running {
        Running::with(|options| {
            options.tls = Some(Arc::clone(certificates));
            options.limits = short();
        })
        .await
    }
}

async fn connect(
    server: &Running,
    root: &rustls::pki_types::CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await
}

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_with_both_protocols() {
    let pair = Pair::new();
    let root = pair.renew();
    let server = pair.serve().await;
    for version in BOTH {
        let mut stream = connect(&server, &root, &[version], &["http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert_eq!(Reply::read(&mut stream).await.status(), 200);

        let stream = connect(&server, &root, &[version], &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://localhost/").body(String::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn tls_1_1_is_refused() {
    let pair = Pair::new();
    let server = pair.serve().await;
    // A ClientHello of TLS 1.1 (3.2) with a cipher suite, signature algorithm and curve that the server knows.
    let suites = [0, 2, 0xc0, 0x2b];
    let extensions = [0, 16, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23];
    let body = [&[3, 2][..], &[7; 32], &[0], &suites, &[1, 0], &extensions].concat();
    let handshake = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let record = [&[22, 3, 1, 0, u8::try_from(handshake.len()).unwrap()][..], &handshake].concat();
    let mut stream = server.connect().await;
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    // An alert record: fatal, protocol_version.
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]));
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_and_plain_http_are_not_answered() {
    let server = Pair::new().serve().await;
    assert_eq!(server.send("").await.text, "");
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"));
    assert!(server.component.seen.lock().unwrap().is_empty());
}

/// Waits until the server shows the certificate.
async fn shown(server: &Running, root: &rustls::pki_types::CertificateDer<'static>) {
    let showing = async { while connect(server, root, &BOTH, &[]).await.is_err() {} };
    soon(showing).await.expect("the certificate is shown");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let pair = Pair::new();
    let first = pair.renew();
    let certificates = pair.read().unwrap();
    let server = Pair::serve_with(&certificates).await;
    shown(&server, &first).await;

    let second = pair.renew();
    shown(&server, &second).await;
    assert!(connect(&server, &first, &BOTH, &[]).await.is_err());

    let other = Pair::new();
    for (certificate, key) in [
        (Some("broken".to_owned()), None),
        (None, Some("broken".to_owned())),
        // A key that does not belong to the certificate.
        (None, Some(std::fs::read_to_string(other.key()).unwrap())),
    ] {
        let before = [pair.certificate(), pair.key()].map(|path| (std::fs::read(&path).unwrap(), path));
        certificate.into_iter().for_each(|text| std::fs::write(pair.certificate(), text).unwrap());
        key.into_iter().for_each(|text| std::fs::write(pair.key(), text).unwrap());
        assert!(pair.read().is_err());
        // As the server does by itself again and again.
        assert!(certificates.refresh().is_err());
        shown(&server, &second).await;
        before.into_iter().for_each(|(bytes, path)| std::fs::write(path, bytes).unwrap());
    }
    let third = pair.renew();
    shown(&server, &third).await;
}

/// Sends requests on one connection until `stop` is set. Returns the number of whole answers.
async fn keep_asking(mut stream: TlsStream<TcpStream>, stop: Arc<AtomicBool>) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::SeqCst) {
        stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nhello") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn certificates_are_renewed_under_64_busy_connections_and_no_request_fails() {
    let pair = Pair::new();
    let mut root = pair.renew();
    let certificates = pair.read().unwrap();
    let server = Running::with(|options| options.tls = Some(certificates)).await;
    let stop = Arc::<AtomicBool>::default();
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let stream = connect(&server, &root, &BOTH, &["http/1.1"]).await.unwrap();
        busy.spawn(keep_asking(stream, Arc::clone(&stop)));
    }
    for _ in 0..3 {
        let old = std::mem::replace(&mut root, pair.renew());
        shown(&server, &root).await;
        assert!(connect(&server, &old, &BOTH, &[]).await.is_err(), "a new handshake sees the new certificate");
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(answered) = busy.join_next().await {
        assert!(answered.unwrap() > 0);
    }
}

#[test]
fn files_that_hold_no_certificate_are_named() {
    let pair = Pair::new();
    std::fs::write(pair.certificate(), "").unwrap();
    assert!(matches!(pair.read(), Err(TlsError::File { path, .. }) if path == pair.certificate()));
    pair.renew();
    std::fs::write(pair.key(), "").unwrap();
    assert!(matches!(pair.read(), Err(TlsError::File { path, .. }) if path == pair.key()));
    std::fs::remove_file(pair.key()).unwrap();
    assert!(matches!(pair.read(), Err(TlsError::File { path, .. }) if path == pair.key()));
}
