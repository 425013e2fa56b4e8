//! Tests of `client_metadata.rs`.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::ManualClock;

/// A https server on loopback that gives every connection the same answer, and the roots that trust it.
struct Site {
    address: SocketAddr,
    root: CertificateDer<'static>,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
    /// Bytes that were sent one by one.
    drops: Arc<AtomicUsize>,
}

/// What the site does after its answer.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Wait,
    /// Sends a byte each time this has passed.
    Drip(Duration),
}

impl Site {
    async fn new(answer: Vec<u8>, then_close: bool) -> Self {
        Self::that(answer, if then_close { Then::Close } else { Then::Wait }).await
    }

    async fn dripping(answer: Vec<u8>, pause: Duration) -> Self {
        Self::that(answer, Then::Drip(pause)).await
    }

    async fn that(answer: Vec<u8>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["client.example".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let root = certificate.der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![root.clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let requests = Arc::<std::sync::Mutex<Vec<String>>>::default();
        let drops = Arc::<AtomicUsize>::default();
        let (seen, dropped) = (Arc::clone(&requests), Arc::clone(&drops));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                let (seen, dropped) = (Arc::clone(&seen), Arc::clone(&dropped));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = vec![0; 4096];
                    let length = stream.read(&mut request).await.unwrap();
                    seen.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.flush().await;
                    match then {
                        Then::Close => drop(stream.shutdown().await),
                        Then::Wait => std::future::pending().await,
                        Then::Drip(pause) => {
                            let mut drip = tokio::time::interval(pause);
                            while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                                dropped.fetch_add(1, Ordering::SeqCst);
                                drip.tick().await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, root, requests, drops }
    }

    async fn answering(head: &str, body: &str) -> Self {
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        Self::new(answer.into_bytes(), true).await
    }

    /// A reader for which every name has the address of the site.
    fn reader(&self, anywhere: &[&str]) -> PublicClientMetadata {
        let mut reader = reader(anywhere, self.address.ip());
        reader.extra_roots = vec![self.root.clone()];
        reader
    }

    fn url(&self) -> String {
        format!("https://client.example:{}/metadata.json", self.address.port())
    }

    fn host(&self) -> String {
        format!("client.example:{}", self.address.port())
    }

    /// What the site's document is for a reader that may go there.
    async fn fetched(&self) -> Result<Document, FetchError> {
        self.reader(&[&self.host()]).fetch(&self.url(), None).await
    }
}

fn reader(anywhere: &[&str], address: IpAddr) -> PublicClientMetadata {
    let anywhere = anywhere.iter().map(ToString::to_string).collect();
    let mut reader = PublicClientMetadata::new(anywhere, None, Arc::new(ManualClock::new(0))).unwrap();
    reader.resolve = Arc::new(move |_| Box::pin(std::future::ready(Ok(vec![SocketAddr::new(address, 0)]))));
    reader.timeout = Duration::from_millis(500);
    reader
}

fn denied(result: Result<Document, FetchError>) -> bool {
    matches!(result, Err(FetchError::Denied(_)))
}

#[tokio::test]
async fn a_document_is_read_with_its_type_and_age() {
    let site = Site::answering("200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=60", "{}").await;
    let document = site.fetched().await.unwrap();
    assert_eq!(document.body, b"{}");
    assert_eq!(document.content_type.as_deref(), Some("application/json"));
    assert_eq!(document.max_age_seconds, Some(60));
    let request = site.requests.lock().unwrap().join("");
    let request = request.to_ascii_lowercase();
    assert!(request.starts_with("get /metadata.json http/1.1\r\n"), "{request}");
    assert!(request.contains("accept: application/json\r\n"), "{request}");
    for secret in ["cookie", "authorization", "referer"] {
        assert!(!request.contains(secret), "{request}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_what_is_not_public_is_denied() {
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
    ] {
        let reader = reader(&[], address.parse().unwrap());
        assert!(denied(reader.fetch("https://client.example/metadata.json", None).await), "{address}");
    }
}

#[tokio::test]
async fn a_url_that_names_such_an_address_is_denied() {
    let reader = reader(&[], "20.190.128.1".parse().unwrap());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "[::1]",
        "[fe80::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
    ] {
        assert!(denied(reader.fetch(&format!("https://{host}/metadata.json"), None).await), "{host}");
    }
}

#[tokio::test]
async fn what_is_not_a_plain_https_url_is_denied() {
    let reader = reader(&[], "20.190.128.1".parse().unwrap());
    for url in [
        "",
        "client.example",
        "http://client.example/",
        "file:///etc/passwd",
        "https://user@client.example/",
        "https://:password@client.example/",
        "https://client.example/#fragment",
        "https:///",
    ] {
        assert!(denied(reader.fetch(url, None).await), "{url}");
    }
}

#[tokio::test]
async fn another_port_than_443_is_denied() {
    let reader = reader(&[], "20.190.128.1".parse().unwrap());
    for host in ["client.example:22", "client.example:80", "client.example:8443", "20.190.128.1:444", "[2620:1ec::1]:1"]
    {
        assert!(denied(reader.fetch(&format!("https://{host}/metadata.json"), None).await), "{host}");
    }
    for host in ["client.example", "client.example:443", "20.190.128.1", "20.190.128.1:443"] {
        assert!(reader.admitted(&format!("https://{host}/metadata.json")).is_ok(), "{host}");
    }
}

#[tokio::test]
async fn only_so_many_documents_are_read_in_a_minute() {
    let site = Site::answering("200 OK", "{}").await;
    let mut reader = site.reader(&[&site.host()]);
    let clock = ManualClock::new(0);
    (reader.clock, reader.rate) = (Arc::new(clock.clone()), Rate { count: 2, per: Duration::from_secs(60) });
    for _ in 0..2 {
        assert!(reader.fetch(&site.url(), None).await.is_ok());
    }
    for url in [site.url(), "https://127.0.0.1/".to_owned()] {
        assert!(reader.fetch(&url, None).await.is_err(), "{url}");
    }
    assert_eq!(site.requests.lock().unwrap().len(), 2);
    // A URL that is not asked does not count.
    clock.advance(Duration::from_secs(30));
    assert!(reader.fetch(&site.url(), None).await.is_ok());
    let refused = reader.fetch(&site.url(), None).await;
    assert!(matches!(refused, Err(FetchError::Unavailable(text)) if text.contains("in the last minute")));
}

#[tokio::test]
async fn what_is_allowed_anywhere_is_allowed_with_its_port_only() {
    let site = Site::answering("200 OK", "{}").await;
    for anywhere in ["client.example:1", "other.example", "127.0.0.1"] {
        assert!(denied(site.reader(&[anywhere]).fetch(&site.url(), None).await), "{anywhere}");
    }
    assert!(site.reader(&["client.example"]).fetch(&site.url(), None).await.is_ok());
    let literal = format!("https://127.0.0.1:{}/", site.address.port());
    assert!(site.reader(&["127.0.0.1"]).fetch(&literal, None).await.is_ok());
    assert!(denied(site.reader(&[]).fetch(&literal, None).await));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_another_status_is_no_document() {
    for (head, status) in [
        ("302 Found\r\nlocation: https://client.example/other", 302),
        ("301 Moved\r\nlocation: http://169.254.169.254/", 301),
        ("204 No Content", 204),
        ("404 Not Found", 404),
        ("500 Oops", 500),
    ] {
        let site = Site::answering(head, "").await;
        assert!(matches!(site.fetched().await, Err(FetchError::Status(found)) if found == status), "{head}");
        assert_eq!(site.requests.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_document_may_be_as_long_as_the_limit_and_no_longer() {
    let fits = Site::answering("200 OK", &"x".repeat(MAX_DOCUMENT_BYTES)).await;
    assert_eq!(fits.fetched().await.unwrap().body.len(), MAX_DOCUMENT_BYTES);
    let longer = Site::answering("200 OK", &"x".repeat(MAX_DOCUMENT_BYTES + 1)).await;
    assert!(matches!(longer.fetched().await, Err(FetchError::TooLarge)));
    // Without a declared length.
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; MAX_DOCUMENT_BYTES * 2]].concat();
    assert!(matches!(Site::new(endless, false).await.fetched().await, Err(FetchError::TooLarge)));
}

#[tokio::test]
async fn a_site_that_does_not_finish_is_given_up() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nxx"] {
        let site = Site::new(answer.into(), false).await;
        assert!(matches!(site.fetched().await, Err(FetchError::Unavailable(_))), "{answer}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let site = Site::answering("200 OK", "{}").await;
    let mut reader = site.reader(&[&site.host()]);
    reader.extra_roots.clear();
    assert!(matches!(reader.fetch(&site.url(), None).await, Err(FetchError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "the clock of the runtime stands still, and moves only with its timers")]
async fn a_site_that_drips_gains_no_time() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    let site = Site::dripping(HEAD.as_bytes().to_vec(), Duration::from_millis(100)).await;
    let mut reader = site.reader(&[&site.host()]);
    reader.timeout = TOTAL_TIMEOUT;
    let begun = tokio::time::Instant::now();
    let fetched = reader.fetch(&site.url(), None).await;
    assert!(matches!(&fetched, Err(FetchError::Unavailable(text)) if text == "no whole answer in time"), "{fetched:?}");
    assert_eq!(begun.elapsed().as_secs(), TOTAL_TIMEOUT.as_secs());
    // It was never silent for long: the drops before the end have been sent.
    assert!(site.drops.load(Ordering::SeqCst) >= 40);
}

#[tokio::test]
async fn only_so_many_documents_are_fetched_at_the_same_time() {
    let site = Site::new(Vec::new(), false).await;
    let reader = site.reader(&[&site.host()]);
    let (url, client) = (site.url(), Some(IpAddr::from([203, 0, 113, 1])));
    let fetch = || reader.fetch(&url, client);
    let (first, second, third) = tokio::join!(fetch(), fetch(), fetch());
    let texts = [first, second, third].map(|result| match result {
        Err(FetchError::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    });
    let refused = texts.iter().filter(|text| *text == "too many documents are being fetched").count();
    assert_eq!(refused, 1, "one client address has two places: {texts:?}");
}

#[test]
fn the_age_is_what_cache_control_says() {
    for (line, expected) in [
        ("max-age=60", Some(60)),
        ("public, Max-Age=\"60\"", Some(60)),
        ("max-age=99999999999999", Some(u32::MAX)),
        ("no-store", Some(0)),
        ("max-age=60, no-cache", Some(0)),
        ("public", None),
        ("max-age=x", None),
        ("max-age=-1", None),
    ] {
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(line))]);
        assert_eq!(max_age(&headers), expected, "{line}");
    }
}
