//! Servers over HTTP, on loopback, that do what they should not.

use std::future::Future;
use std::net::SocketAddr;

use entra_mcp_plugin::gatekeeper::Caller;
use entra_mcp_plugin::token_validator::PrincipalKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn sender() -> Sender {
    let caller = Caller {
        tenant_id: String::new(),
        object_id: String::new(),
        client_id: String::new(),
        kind: PrincipalKind::User,
        scopes: Vec::new(),
        roles: Vec::new(),
        correlation_id: String::new(),
    };
    Sender { caller, handle: zeroize::Zeroizing::default() }
}

fn post() -> Request<Bytes> {
    let mut request = Request::new(Bytes::from_static(b"{}"));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "/client/path".parse().unwrap();
    request.headers_mut().insert("x-user", http::HeaderValue::from_static("alice"));
    request
}

/// Reads one request, which has `{}` as its body if it has one.
async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("\r\n\r\n") || (text.starts_with("POST") && !text.ends_with("{}")) {
        let length = stream.read(&mut buffer).await.unwrap();
        if length == 0 {
            return text;
        }
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    text
}

/// A server that does this with each connection.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A server that answers each request with these bytes, and closes the connection.
async fn saying(answer: impl Into<Vec<u8>>) -> HttpUpstream {
    let answer = answer.into();
    let address = server(move |mut stream| {
        let answer = answer.clone();
        async move {
            read(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    at(address.await, UpstreamLimits::default())
}

fn at(address: SocketAddr, limits: UpstreamLimits) -> HttpUpstream {
    HttpUpstream::new(&format!("http://{address}/mcp?key=1#part"), None, limits).unwrap()
}

async fn text(answer: Response<AnswerBody>) -> Result<String, BehindError> {
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn a_request_goes_to_the_configured_url_whatever_the_client_asked_for() {
    let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |mut stream| {
        let sent = sent.clone();
        async move {
            for _ in 0..2 {
                sent.send(read(&mut stream).await).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    });
    let address = address.await;
    let upstream = at(address, UpstreamLimits::default());
    for _ in 0..2 {
        assert_eq!(text(upstream.send(post(), sender()).await.unwrap()).await.unwrap(), "ok");
        let request = received.recv().await.unwrap().to_ascii_lowercase();
        assert!(request.starts_with("post /mcp?key=1 http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
        assert!(request.contains("x-user: alice\r\n") && request.contains("content-length: 2\r\n"), "{request}");
    }
}

#[test]
fn http_is_for_this_machine_and_private_networks() {
    for url in [
        "http://127.0.0.1:8000/mcp",
        "http://localhost/mcp",
        "http://[::1]/mcp",
        "http://10.1.2.3/mcp",
        "http://172.18.0.2:8000",
        "http://server:8000/mcp",
        "https://mcp.example/mcp",
        "https://203.0.113.1/",
        "https://8.8.8.8/",
    ] {
        assert!(HttpUpstream::new(url, None, UpstreamLimits::default()).is_ok(), "{url}");
    }
    let refused = |url| HttpUpstream::new(url, None, UpstreamLimits::default()).err().unwrap();
    for url in ["http://8.8.8.8/mcp", "http://[2606:4700::1111]/mcp"] {
        assert!(matches!(refused(url), UrlError::Insecure(_)), "{url}");
    }
    for url in ["ftp://server/", "server:8000", "/mcp", "", "http://"] {
        assert!(matches!(refused(url), UrlError::NotAUrl(_)), "{url}");
    }
    for url in ["https://user@server/", "https://user:secret@server/", "https://:secret@server/"] {
        assert!(matches!(refused(url), UrlError::Credentials), "{url}");
        assert!(!refused(url).to_string().contains("secret"));
    }
}

/// A TLS server of its own authority.
struct Tls {
    acceptor: tokio_rustls::TlsAcceptor,
    folder: tempfile::TempDir,
}

impl Tls {
    fn new(protocols: &[&[u8]]) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        let mut config = config.unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), certificate.pem()).unwrap();
        Self { acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(config)), folder }
    }

    fn trusting(&self, url: &str, limits: UpstreamLimits) -> HttpUpstream {
        HttpUpstream::new(url, Some(&self.folder.path().join("root.pem")), limits).unwrap()
    }
}

#[tokio::test]
async fn over_tls_only_a_trusted_server_is_asked() {
    let tls = Tls::new(&[]);
    let acceptor = tls.acceptor.clone();
    let address = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            read(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    });
    let url = format!("https://{}/mcp", address.await);
    let trusting = tls.trusting(&url, UpstreamLimits::default());
    assert_eq!(text(trusting.send(post(), sender()).await.unwrap()).await.unwrap(), "ok");
    let answered = HttpUpstream::new(&url, None, UpstreamLimits::default()).unwrap().send(post(), sender()).await;
    assert!(matches!(answered, Err(BehindError::Unreachable(_))), "{answered:?}");
    let missing =
        HttpUpstream::new(&url, Some(&tls.folder.path().join("other.pem")), UpstreamLimits::default()).err().unwrap();
    assert!(matches!(missing, UrlError::Certificates(_)), "{missing}");
}

/// A server over HTTP/2 that answers with an event, and then says nothing until it is left.
struct Http2 {
    url: String,
    /// The requests, and the connections that they came on.
    requests: tokio::sync::mpsc::UnboundedReceiver<(usize, Request<()>)>,
    left: tokio::sync::mpsc::UnboundedReceiver<()>,
}

struct Leaving(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn http2(tls: &Tls) -> Http2 {
    let (sent, requests) = tokio::sync::mpsc::unbounded_channel();
    let (leaving, left) = tokio::sync::mpsc::unbounded_channel();
    let acceptor = tls.acceptor.clone();
    let connections = Arc::<std::sync::atomic::AtomicUsize>::default();
    let address = server(move |stream| {
        let (acceptor, sent, leaving) = (acceptor.clone(), sent.clone(), leaving.clone());
        let number = connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                sent.send((number, request.map(|_| ()))).unwrap();
                let leaving = Leaving(leaving.clone());
                let events = futures_util::stream::unfold((leaving, true), |(leaving, first)| async move {
                    if !first {
                        std::future::pending::<()>().await;
                    }
                    let event = Frame::data(Bytes::from_static(b"data: a\n\n"));
                    Some((Ok::<_, std::convert::Infallible>(event), (leaving, false)))
                });
                let answer = Response::builder().header("content-type", "text/event-stream");
                std::future::ready(answer.body(http_body_util::StreamBody::new(events)))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        }
    });
    Http2 { url: format!("https://{}/mcp?key=1", address.await), requests, left }
}

#[tokio::test]
async fn a_server_over_tls_may_choose_http_2_and_shares_a_connection() {
    let tls = Tls::new(&[b"h2", b"http/1.1"]);
    let mut server = http2(&tls).await;
    let upstream = tls.trusting(&server.url, UpstreamLimits { requests: 2, ..UpstreamLimits::default() });
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut answered = upstream.send(post(), sender()).await.unwrap();
        assert_eq!(answered.version(), http::Version::HTTP_2);
        let event = answered.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(event, "data: a\n\n");
        let (connection, request) = server.requests.recv().await.unwrap();
        assert_eq!((connection, request.uri().to_string()), (0, server.url.clone()));
        assert_eq!(request.headers()["x-user"], "alice");
        answers.push(answered);
    }
    assert!(matches!(upstream.send(post(), sender()).await, Err(BehindError::Busy(_))));
    // One that is left ends there, gives its place back, and leaves the other one alone.
    drop(answers.pop());
    server.left.recv().await.unwrap();
    assert!(upstream.send(post(), sender()).await.is_ok());
    server.left.recv().await.unwrap();
    assert!(server.left.try_recv().is_err());
}

#[tokio::test]
async fn http_2_without_tls_is_refused_with_the_reason() {
    // The settings that a server of HTTP/2 begins with.
    let upstream = saying("\0\0\0\x04\0\0\0\0\0").await;
    let Err(BehindError::Malformed(reason)) = upstream.send(post(), sender()).await else { panic!("it is refused") };
    assert!(reason.contains("HTTP/2 is for https"), "{reason}");
}

#[tokio::test]
async fn redirects_and_upgrades_are_not_followed() {
    for (answer, status) in [
        ("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", 302),
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: evil\r\n\r\n", 101),
        ("HTTP/1.1 103 Early Hints\r\nset-cookie: a=b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
    ] {
        let answered = saying(answer).await.send(post(), sender()).await;
        match answered {
            Ok(answered) => {
                assert_eq!(answered.status(), status);
                assert!(!answered.headers().contains_key("set-cookie"));
            }
            Err(error) => assert_eq!(status, 101, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_head_out_of_bounds_is_no_answer() {
    let long = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(128 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-a: a\r\n".repeat(10_000));
    for answer in [long, many, "HTTP/1.1 999999 No\r\n\r\n".to_owned(), "SSH-2.0-server\r\n\r\n".to_owned()] {
        let answered = saying(answer).await.send(post(), sender()).await;
        assert!(matches!(answered, Err(BehindError::Malformed(_))), "{answered:?}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_breaks_off() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nnonsense\r\n",
    ] {
        let answered = saying(answer).await.send(post(), sender()).await.unwrap();
        assert!(matches!(text(answered).await, Err(BehindError::BrokenOff(_))), "{answer}");
    }
    let none = saying("").await.send(post(), sender()).await;
    assert!(matches!(none, Err(BehindError::BrokenOff(_))), "{none:?}");
}

#[tokio::test]
async fn what_comes_after_an_answer_is_not_taken_for_the_next_one() {
    let upstream =
        saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
    for _ in 0..3 {
        assert_eq!(text(upstream.send(post(), sender()).await.unwrap()).await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn a_request_is_sent_once() {
    let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |mut stream| {
        let sent = sent.clone();
        async move {
            sent.send(read(&mut stream).await).unwrap();
            // The connection is reset after the request.
        }
    });
    let upstream = at(address.await, UpstreamLimits::default());
    let answered = upstream.send(post(), sender()).await;
    assert!(matches!(answered, Err(BehindError::BrokenOff(_))), "{answered:?}");
    assert!(received.recv().await.is_some());
    assert!(received.try_recv().is_err(), "it was sent twice");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let answered = at(address, UpstreamLimits::default()).send(post(), sender()).await;
    assert!(matches!(answered, Err(BehindError::Unreachable(_))), "{answered:?}");
}

/// A server that begins an event stream and then says nothing. What it sees of the end is told.
async fn stalling(limits: UpstreamLimits) -> (HttpUpstream, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (ended, endings) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |mut stream| {
        let ended = ended.clone();
        async move {
            read(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}6\r\n: hi\n\n\r\n").as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 1]).await;
            let _ = ended.send(());
        }
    });
    (at(address.await, limits), endings)
}

#[tokio::test]
async fn an_answer_that_pauses_for_too_long_breaks_off() {
    for method in [Method::POST, Method::GET] {
        let (upstream, mut endings) = stalling(UpstreamLimits::default()).await;
        let mut request = post();
        *request.method_mut() = method;
        let mut answered = upstream.send(request, sender()).await.unwrap().into_body();
        assert_eq!(answered.frame().await.unwrap().unwrap().into_data().unwrap(), ": hi\n\n");
        tokio::time::pause();
        let error = answered.frame().await.unwrap().unwrap_err();
        tokio::time::resume();
        assert_eq!(error, BehindError::BrokenOff("nothing has come for too long".to_owned()));
        drop(answered);
        endings.recv().await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_ends_the_request_and_gives_its_place_back() {
    let (upstream, mut endings) =
        stalling(UpstreamLimits { requests: 1, streams: 1, ..UpstreamLimits::default() }).await;
    let mut get = post();
    *get.method_mut() = Method::GET;
    *get.body_mut() = Bytes::new();
    let stream = upstream.send(get.clone(), sender()).await.unwrap();
    assert!(matches!(upstream.send(get.clone(), sender()).await, Err(BehindError::Busy(_))));
    let call = upstream.send(post(), sender()).await.unwrap();
    assert!(matches!(upstream.send(post(), sender()).await, Err(BehindError::Busy(_))));
    drop((stream, call));
    endings.recv().await.unwrap();
    endings.recv().await.unwrap();
    assert!(upstream.send(get, sender()).await.is_ok());
}

#[tokio::test]
async fn an_endless_answer_is_read_no_faster_than_its_client_takes_it() {
    let (wrote, mut written) = tokio::sync::watch::channel(0_usize);
    let address = server(move |mut stream| {
        let wrote = wrote.clone();
        async move {
            read(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await.unwrap();
            let event = "data: a\n\n".repeat(1_000);
            while stream.write_all(event.as_bytes()).await.is_ok() {
                wrote.send_modify(|total| *total += event.len());
            }
        }
    });
    let upstream = at(address.await, UpstreamLimits::default());
    let mut answered = upstream.send(post(), sender()).await.unwrap().into_body();
    for _ in 0..10 {
        assert!(answered.frame().await.unwrap().is_ok());
    }
    // The kernel's buffers fill, and then the server waits: its count stands still, however often others run.
    let mut last = *written.borrow_and_update();
    loop {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        let now = *written.borrow_and_update();
        if now == last {
            break;
        }
        last = now;
    }
    assert!(last < 64 * 1024 * 1024, "{last} bytes were taken from the server");
    drop(answered);
}
