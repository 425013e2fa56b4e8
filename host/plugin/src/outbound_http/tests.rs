//! Tests of `outbound_http.rs`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use http::Uri;
use http_body_util::Empty;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower_service::Service as _;

use super::*;

fn policy(endpoints: &[&str]) -> OutboundPolicy {
    OutboundPolicy::new(endpoints.iter().copied()).unwrap()
}

fn entra() -> OutboundPolicy {
    policy(&["https://login.microsoftonline.com", "https://graph.microsoft.com/v1.0"])
}

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

#[test]
fn the_configured_origins_are_allowed_with_any_path() {
    for allowed in [
        "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        "https://login.microsoftonline.com:443/",
        "https://LOGIN.microsoftonline.com/",
        "https://graph.microsoft.com/v1.0/me?$select=id",
    ] {
        assert!(entra().admits(&uri(allowed)), "{allowed}");
    }
}

#[test]
fn every_other_origin_is_denied() {
    for denied in [
        "http://login.microsoftonline.com/",
        "https://login.microsoftonline.com:8443/",
        "https://login.microsoftonline.com.evil.example/",
        "https://evil.login.microsoftonline.com/",
        "https://login.microsoftonline.com./",
        "https://login.microsoftonline.com@evil.example/",
        "https://user@login.microsoftonline.com/",
        "https://example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/metadata/identity",
        "http://169.254.169.254/metadata/identity",
        "https://2130706433/",
        "/relative",
        "login.microsoftonline.com:443",
    ] {
        assert!(!entra().admits(&uri(denied)), "{denied}");
    }
}

#[test]
fn a_loopback_origin_is_allowed_with_its_port_only() {
    let emulator = policy(&["http://127.0.0.1:8080"]);
    assert!(emulator.admits(&uri("http://127.0.0.1:8080/x")));
    for denied in
        ["http://127.0.0.1:8081/", "https://127.0.0.1:8080/", "http://127.0.0.2:8080/", "http://localhost:8080/"]
    {
        assert!(!emulator.admits(&uri(denied)), "{denied}");
    }
}

#[test]
fn endpoints_that_cannot_be_safe_are_refused_at_once() {
    let refusal = |endpoint: &str| OutboundPolicy::new([endpoint]).unwrap_err();
    assert_eq!(refusal("http://example.com"), PolicyError::Insecure("http://example.com".into()));
    assert_eq!(refusal("https://user:password@example.com"), PolicyError::Credentials);
    for endpoint in ["https://10.0.0.1", "https://192.168.1.1", "https://169.254.169.254", "https://[fd00::1]"] {
        assert_eq!(refusal(endpoint), PolicyError::ProhibitedAddress(endpoint.into()));
    }
    for endpoint in ["", "example.com", "ftp://example.com", "https://"] {
        assert_eq!(refusal(endpoint), PolicyError::NotAUrl(endpoint.into()));
    }
}

#[test]
fn addresses_outside_of_the_public_internet_are_denied() {
    for denied in [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:20.190.128.1",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "2002:7f00:1::",
        "100::1",
    ] {
        assert!(!is_public(denied.parse().unwrap()), "{denied}");
        assert!(!entra().admits_address("graph.microsoft.com", denied.parse().unwrap()), "{denied}");
    }
    for allowed in ["20.190.128.1", "100.63.255.255", "172.32.0.1", "2603:1006:2000::1", "64:ff9b::20.190.128.1"] {
        assert!(is_public(allowed.parse().unwrap()), "{allowed}");
    }
}

#[test]
fn a_loopback_name_may_be_on_loopback_only() {
    let emulator = policy(&["http://localhost:8080"]);
    assert!(emulator.admits_address("localhost", "127.0.0.1".parse().unwrap()));
    assert!(emulator.admits_address("localhost", "::1".parse().unwrap()));
    assert!(!emulator.admits_address("localhost", "20.190.128.1".parse().unwrap()));
    assert!(!emulator.admits_address("localhost", "192.168.0.1".parse().unwrap()));
}

/// A client whose resolver says that every name has `address`.
fn client(policy: OutboundPolicy, address: Option<IpAddr>, limits: Limits) -> Arc<OutboundHttp> {
    let mut http = OutboundHttp::new(policy, None).unwrap();
    http.limits = limits;
    http.resolve = Arc::new(move |_| {
        Box::pin(std::future::ready(match address {
            Some(address) => Ok(vec![SocketAddr::new(address, 0)]),
            None => Err(io::Error::other("no such name")),
        }))
    });
    Arc::new(http)
}

fn request(target: &str) -> Request<RequestBody> {
    Request::get(target).body(Empty::new().map_err(|never| match never {}).boxed_unsync()).unwrap()
}

fn post(target: &str, body: impl Body<Data = Bytes, Error = Error> + Send + 'static) -> Request<RequestBody> {
    Request::post(target).body(body.boxed_unsync()).unwrap()
}

async fn fetch(http: &Arc<OutboundHttp>, target: &str) -> Result<Bytes, Error> {
    let response = Arc::clone(http).send(request(target), None).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

/// Serves one connection: reads the head of the request, then writes `answer` and keeps the connection open.
async fn peer(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("http://{}", socket.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.unwrap();
        stream.write_all(&answer).await.unwrap();
        head.truncate(length);
        // Held open until the client closes it.
        let _ = stream.read(&mut [0]).await;
        String::from_utf8(head).unwrap()
    });
    (origin, task)
}

#[tokio::test]
async fn a_request_outside_of_the_list_is_denied_before_anything_is_resolved() {
    let http = client(entra(), None, LIMITS);
    assert!(matches!(fetch(&http, "https://example.com/").await, Err(Error::HttpRequestDenied)));
}

#[tokio::test]
async fn an_allowed_name_that_resolves_to_this_machine_is_denied() {
    for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"] {
        let http = client(entra(), Some(address.parse().unwrap()), LIMITS);
        let result = fetch(&http, "https://graph.microsoft.com/").await;
        assert!(matches!(result, Err(Error::DestinationIpProhibited)), "{address}: {result:?}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_error() {
    let http = client(entra(), None, LIMITS);
    let result = fetch(&http, "https://graph.microsoft.com/").await;
    assert!(matches!(result, Err(Error::DnsError { .. })), "{result:?}");
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    let (origin, _) = peer(Vec::new()).await;
    let free = { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap() };
    let closed = format!("http://{free}");
    let http = client(policy(&[&origin, &closed]), None, LIMITS);
    let result = fetch(&http, &closed).await;
    assert!(matches!(result, Err(Error::ConnectionRefused)), "{result:?}");
}

#[tokio::test]
async fn the_answer_of_a_configured_loopback_origin_is_returned() {
    let (origin, task) = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi".into()).await;
    let http = client(policy(&[&origin]), None, LIMITS);

    assert_eq!(fetch(&http, &format!("{origin}/path?a=b")).await.unwrap(), "hi");

    drop(http);
    let head = task.await.unwrap();
    assert!(head.starts_with("GET /path?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!(head.matches("host: ").count(), 1, "{head}");
}

#[tokio::test]
async fn a_request_is_sent_with_its_length() {
    let (origin, task) = peer(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".into()).await;
    let http = client(policy(&[&origin]), None, LIMITS);
    let body = Full::from("a=b").map_err(|never| match never {});
    http.send(post(&origin, body), None).await.unwrap();
    let sent = task.await.unwrap();
    assert!(sent.contains("content-length: 3\r\n") && sent.ends_with("\r\n\r\na=b"), "{sent}");
}

#[tokio::test]
async fn a_request_body_over_the_limit_is_refused() {
    let http = client(entra(), None, LIMITS);
    let body = Full::from(vec![0; 1_048_577]).map_err(|never| match never {});
    let result = http.send(post("https://graph.microsoft.com/", body), None).await;
    assert!(matches!(result, Err(Error::HttpRequestBodySize(Some(1_048_577)))));
}

#[tokio::test]
async fn the_body_of_a_denied_request_is_taken_so_that_its_writer_learns_why() {
    let (mut writer, body) = http_body_util::channel::Channel::<Bytes, Error>::new(1);
    let http = client(entra(), None, LIMITS);
    let sending = tokio::spawn(http.send(post("https://example.com/", body), None));
    writer.send_data("x".into()).await.unwrap();
    drop(writer);
    assert!(matches!(sending.await.unwrap(), Err(Error::HttpRequestDenied)));
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_never_ends_times_out() {
    let (_writer, body) = http_body_util::channel::Channel::<Bytes, Error>::new(1);
    let result = client(entra(), None, LIMITS).send(post("https://graph.microsoft.com/", body), None).await;
    assert!(matches!(result, Err(Error::ConnectionWriteTimeout)));
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (origin, _task) = peer(answer.into()).await;
    let http = client(policy(&[&origin]), None, LIMITS);
    let response = http.send(request(&origin), None).await.unwrap();
    assert_eq!(response.status(), 302);
}

#[tokio::test]
async fn a_body_that_declares_too_much_is_refused_unread() {
    let (origin, _task) = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n".into()).await;
    let http = client(policy(&[&origin]), None, LIMITS);
    let result = fetch(&http, &origin).await;
    assert!(matches!(result, Err(Error::HttpResponseBodySize(Some(1_048_577)))), "{result:?}");
}

#[tokio::test]
async fn a_body_of_unknown_length_ends_at_the_limit() {
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n6789\r\n".into();
    let (origin, _task) = peer(answer).await;
    let http = client(policy(&[&origin]), None, Limits { body: 8, ..LIMITS });
    let result = fetch(&http, &origin).await;
    assert!(matches!(result, Err(Error::HttpResponseBodySize(Some(_)))), "{result:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_incomplete() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123").await.unwrap();
    });
    let http = client(policy(&[&origin]), None, LIMITS);
    let result = fetch(&http, &origin).await;
    assert!(matches!(result, Err(Error::HttpResponseIncomplete)), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_times_out() {
    let (origin, _task) = peer(Vec::new()).await;
    let http = client(policy(&[&origin]), None, LIMITS);
    let result = fetch(&http, &origin).await;
    assert!(matches!(result, Err(Error::HttpResponseTimeout)), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_times_out() {
    let (origin, _task) = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123".into()).await;
    let http = client(policy(&[&origin]), None, LIMITS);
    let result = fetch(&http, &origin).await;
    assert!(matches!(result, Err(Error::HttpResponseTimeout)), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_completes_tls_is_a_connection_timeout() {
    let (origin, _task) = peer(Vec::new()).await;
    let origin = origin.replace("http:", "https:");
    let http = client(policy(&[&origin]), None, LIMITS);
    let result = fetch(&http, &origin).await;
    assert!(matches!(result, Err(Error::ConnectionTimeout)), "{result:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_a_tls_error() {
    let (origin, _task) = peer(b"HTTP/1.1 400 Bad Request\r\n\r\n".into()).await;
    let origin = origin.replace("http:", "https:");
    let http = client(policy(&[&origin]), None, LIMITS);
    let result = fetch(&http, &origin).await;
    assert!(matches!(result, Err(Error::TlsProtocolError)), "{result:?}");
}

#[test]
fn a_certificate_file_must_exist_and_hold_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let refused = |path: &Path| OutboundHttp::new(entra(), Some(path)).err().unwrap();
    assert!(matches!(refused(&path), crate::Error::CertificateFile { .. }));
    for content in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(refused(&path), crate::Error::CertificateFile { .. }), "{content}");
    }
}

#[tokio::test]
async fn a_name_whose_addresses_change_is_judged_by_those_that_the_connection_uses() {
    let public = Ipv4Addr::new(20, 190, 128, 1);
    let answers = [vec![public], vec![Ipv4Addr::LOCALHOST], vec![Ipv4Addr::new(169, 254, 169, 254), public]];
    let answers = Mutex::new(VecDeque::from(answers));
    let resolve: Resolve = Arc::new(move |_| {
        let next = answers.lock().unwrap().pop_front().expect("one look-up for each connection");
        let next = next.into_iter().map(|address| SocketAddr::new(address.into(), 0)).collect();
        Box::pin(std::future::ready(Ok(next)))
    });
    let mut resolver =
        GuardedResolver { admits: Arc::new(|name, address| entra().admits_address(name, address)), resolve };
    let mut look_up = || resolver.call("login.microsoftonline.com".parse().unwrap());
    let only_public =
        |found: std::vec::IntoIter<SocketAddr>| found.map(|address| address.ip()).eq([IpAddr::V4(public)]);
    assert!(only_public(look_up().await.unwrap()));
    assert!(matches!(look_up().await, Err(ConnectError::Prohibited(_))));
    assert!(only_public(look_up().await.unwrap()));
}
