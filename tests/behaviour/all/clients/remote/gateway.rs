//! The server behind nginx, as `docs/src/tutorials/behind-a-gateway.md` says.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use entra_mcp_emulator::Emulator;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::conversation::{Client, Transport, converse_through};
use super::office::Office;
use crate::clients::scenarios::{LEGACY, MODERN};
use crate::support::nginx::{Gateway, PREFIX, Page};
use crate::support::patience::soon;
use crate::support::proxy::{connect_from, send_from};
use crate::support::tools;

/// A token that lasts.
const HOUR: i64 = 3600;
/// Addresses of people. None is a declared proxy.
const HERE: &str = "127.0.0.2";
const THERE: &str = "127.0.0.3";
const ELSEWHERE: &str = "127.0.0.4";

const HEADER: &str = "x-forwarded-access-token";
/// The arguments of a server to which a gateway hands over tokens.
const HANDS_OVER: [&str; 4] = ["--token-mode", "bearer", "--token-header", "X-Forwarded-Access-Token"];

fn typescript(transport: Transport, era: Option<&'static str>, revision: &'static str) -> Client {
    Client { program: tools::client("mcp-client-2"), script: "mcp-client-2/remote.mjs", transport, era, revision }
}

fn as_in_the_page(page: Page) -> String {
    page.whole
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "nginx", client = "mcp-client-2")),
    ignore = "needs nginx and the client mcp-client-2: use tests/run"
)]
async fn the_whole_conversation_with_a_prefix_that_is_passed_on() {
    let client = typescript(Transport::StreamableHttp, Some("auto"), MODERN);
    converse_through(&mut Gateway::prepare(), &client, as_in_the_page).await;
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "nginx", client = "mcp-client-2")),
    ignore = "needs nginx and the client mcp-client-2: use tests/run"
)]
async fn the_whole_conversation_with_a_prefix_that_is_taken_off() {
    let client = typescript(Transport::StreamableHttp, None, LEGACY);
    converse_through(&mut Gateway::prepare(), &client, Page::taking_the_prefix_off).await;
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "nginx", client = "mcp-client-2")),
    ignore = "needs nginx and the client mcp-client-2: use tests/run"
)]
async fn the_whole_conversation_over_http_and_sse() {
    let client = typescript(Transport::HttpAndSse, None, LEGACY);
    converse_through(&mut Gateway::prepare(), &client, as_in_the_page).await;
}

#[tokio::test]
#[cfg_attr(
    not(all(tool = "nginx", client = "mcp-python")),
    ignore = "needs nginx and the client mcp-python: use tests/run"
)]
async fn the_whole_conversation_of_the_python_sdk() {
    let (program, script) = (tools::client("mcp-python"), "mcp-python/remote.py");
    let client = Client { program, script, transport: Transport::StreamableHttp, era: None, revision: MODERN };
    converse_through(&mut Gateway::prepare(), &client, as_in_the_page).await;
}

/// Sends one request from one of the machine's addresses, with TLS if there is a certificate to trust.
async fn send_to(
    from: &str,
    to: SocketAddr,
    certificate: Option<&std::path::Path>,
    mut request: Request<Full<Bytes>>,
) -> Response<Incoming> {
    let host = format!("localhost:{}", to.port()).parse().unwrap();
    request.headers_mut().entry("host").or_insert(host);
    let Some(certificate) = certificate else { return send_from(from, to, request).await };
    let stream = connect_from(from, to).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// A server, and nginx before it.
struct Site {
    gateway: Gateway,
    office: Office,
}

impl Site {
    async fn open(arguments: &[&str], change: impl FnOnce(Page) -> String) -> Self {
        let mut gateway = Gateway::prepare();
        let office = Office::behind(HOUR, &gateway, arguments).await;
        gateway.start(office.server.address(), change).await;
        Self { gateway, office }
    }

    async fn through(&self, from: &str, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let [certificate, _] = self.gateway.certificate();
        send_to(from, self.gateway.address(), Some(&certificate), request).await
    }

    async fn past(&self, from: &str, request: Request<Full<Bytes>>) -> Response<Incoming> {
        send_to(from, self.office.server.address().parse().unwrap(), None, request).await
    }
}

fn post(path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("{PREFIX}{path}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

fn ping(fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    post("/mcp", fields, json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string())
}

async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// An access token of Entra ID for the server, for Alice.
fn token(emulator: &Emulator) -> String {
    let (at, now) = (emulator.endpoints(), emulator.control().now());
    let claims = json!({
        "aud": at.confidential_client_id, "iss": format!("{}/{}/v2.0", at.authority, at.tenant_id),
        "iat": now, "nbf": now, "exp": now + HOUR, "azp": at.public_client_id, "ver": "2.0", "tid": at.tenant_id,
        "oid": "11111111-0000-4000-a000-000000000001", "sub": "subject", "scp": "access_as_user", "uti": "unknown",
    });
    emulator.control().sign(&claims, false).unwrap()
}

#[tokio::test]
#[cfg_attr(not(tool = "nginx"), ignore = "needs nginx: use tests/run")]
async fn metadata_is_where_clients_look_for_it_and_says_where_the_server_is() {
    for change in [as_in_the_page, Page::taking_the_prefix_off] {
        let site = Site::open(&[], change).await;
        let public_url = site.gateway.public_url();
        for (path, name, value) in [
            ("/.well-known/oauth-protected-resource/entra/mcp", "resource", format!("{public_url}/mcp")),
            ("/.well-known/oauth-protected-resource/entra", "resource", public_url.clone()),
            ("/.well-known/oauth-authorization-server/entra", "issuer", public_url.clone()),
            ("/.well-known/openid-configuration/entra", "issuer", public_url.clone()),
            ("/entra/.well-known/openid-configuration", "issuer", public_url.clone()),
        ] {
            let mut request = get(path);
            for name in ["x-forwarded-host", "x-forwarded-server", "x-original-host"] {
                request.headers_mut().insert(name, "evil.example".parse().unwrap());
            }
            request.headers_mut().insert("x-forwarded-proto", "http".parse().unwrap());
            request.headers_mut().insert("x-forwarded-prefix", "/evil".parse().unwrap());
            request.headers_mut().insert("forwarded", "host=evil.example;proto=http".parse().unwrap());
            let response = site.through(HERE, request).await;
            assert_eq!(response.status(), 200, "{path}");
            let document = json_of(response).await;
            assert_eq!(document[name], value, "{path}");
            assert!(!document.to_string().contains("evil"), "{document}");
        }
        let challenged = site.through(HERE, ping(&[])).await;
        let challenge = challenged.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let origin = public_url.strip_suffix(PREFIX).unwrap();
        let metadata = format!("resource_metadata=\"{origin}/.well-known/oauth-protected-resource/entra/mcp\"");
        assert!(challenged.status() == 401 && challenge.contains(&metadata), "{challenge}");
        for (path, status) in [("/entra", 200), ("/entra/", 200), ("/", 404), ("/mcp", 404), ("/entrance/mcp", 404)] {
            assert_eq!(site.through(HERE, get(path)).await.status(), status, "{path}");
        }
    }
}

#[tokio::test]
#[cfg_attr(not(tool = "nginx"), ignore = "needs nginx: use tests/run")]
async fn a_host_that_is_not_ours_and_a_body_that_is_too_large_are_refused() {
    let site = Site::open(&[], as_in_the_page).await;
    let mut rebound = get("/entra/");
    rebound.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(site.through(HERE, rebound).await.status(), 404, "nginx serves no such host");
    let large = post("/mcp", &[], vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(site.through(HERE, large).await.status(), 413);
}

#[tokio::test]
#[cfg_attr(not(tool = "nginx"), ignore = "needs nginx: use tests/run")]
async fn clients_behind_the_gateway_are_counted_apart_and_none_by_what_it_says_of_itself() {
    let site = Site::open(&["--rate-limit", "register=2/1h"], as_in_the_page).await;
    let lies = [("x-forwarded-for", "203.0.113.1"), ("forwarded", "for=203.0.113.2"), ("x-real-ip", "203.0.113.3")];
    let register = |lies: &[(&str, &str)]| post("/register", lies, "{}");
    for status in [StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(site.through(HERE, register(&[])).await.status(), status);
    }
    assert_eq!(site.through(HERE, register(&lies)).await.status(), 429, "what a client says changes nothing");
    assert_eq!(site.through(THERE, register(&lies)).await.status(), 400, "another address is counted apart");
    assert_eq!(site.through(THERE, register(&[("x-forwarded-for", HERE)])).await.status(), 400);
    assert_eq!(site.through(THERE, register(&[])).await.status(), 429);
    // Past the gateway, from an address that is no proxy.
    for (index, status) in [400, 400, 429].into_iter().enumerate() {
        let lie = format!("203.0.113.{index}");
        let response = site.past(ELSEWHERE, register(&[("x-forwarded-for", &lie)])).await;
        assert_eq!(response.status().as_u16(), status);
    }
}

/// A stand-in for oauth2-proxy: it knows one person, by the client's `Authorization` header.
async fn sign_in_service() -> (SocketAddr, Arc<std::sync::Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, token) = (listener.local_addr().unwrap(), Arc::new(std::sync::Mutex::new(String::new())));
    let known = Arc::clone(&token);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let known = Arc::clone(&known);
            let service = service_fn(move |request: Request<Incoming>| {
                let token = known.lock().unwrap().clone();
                let authorization = request.headers().get("authorization").map(|value| value.as_bytes().to_owned());
                let response = match authorization.as_deref() {
                    Some(b"Bearer for-the-gateway") => Response::builder().header("x-auth-request-access-token", token),
                    Some(b"Bearer without-token") => Response::builder(),
                    _ => Response::builder().status(401),
                };
                async move { response.body(Full::<Bytes>::default()) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, token)
}

#[tokio::test]
#[cfg_attr(not(tool = "nginx"), ignore = "needs nginx: use tests/run")]
async fn only_the_gateway_hands_over_a_token() {
    let (service, known) = sign_in_service().await;
    let site = Site::open(&HANDS_OVER, |page| page.signing_in(service)).await;
    let good = token(&site.office.emulator);
    known.lock().unwrap().clone_from(&good);
    let (bearer, gateways) = (format!("Bearer {good}"), ("authorization", "Bearer for-the-gateway"));
    let status = async |request| site.through(HERE, request).await.status().as_u16();
    assert_eq!(status(ping(&[gateways])).await, 200, "{}{}", site.gateway.log(), site.office.server.log());
    assert_eq!(status(ping(&[gateways, (HEADER, "nonsense")])).await, 200, "what the client says is overwritten");
    assert_eq!(status(ping(&[("authorization", "Bearer without-token"), (HEADER, &good)])).await, 401);
    assert_eq!(status(ping(&[("authorization", &bearer)])).await, 401, "the gateway admits no caller with that");
    assert_eq!(status(ping(&[(HEADER, &good)])).await, 401);

    // A token that the gateway likes is validated all the same.
    let (head, rest) = good.split_at(good.rfind('.').unwrap());
    *known.lock().unwrap() = format!("{head}.{}", rest.chars().skip(1).map(swapped).collect::<String>());
    assert_eq!(status(ping(&[gateways])).await, 401);

    // Past the gateway, from an address that is no proxy.
    let past = site.past(ELSEWHERE, ping(&[(HEADER, &good)])).await;
    assert_eq!(past.status(), 401);
    let challenge = past.headers()["www-authenticate"].to_str().unwrap();
    assert!(!challenge.contains("error="), "the header was not looked at: {challenge}");
    let spoofed =
        [(HEADER, good.as_str()), ("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1;by=127.0.0.1")];
    assert_eq!(site.past(ELSEWHERE, ping(&spoofed)).await.status(), 401);
    assert_eq!(site.past(ELSEWHERE, ping(&[("authorization", &bearer)])).await.status(), 200);

    // The records name the address whose requests were refused, never that of nginx.
    let log = site.office.server.log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains("token.refused")).collect();
    assert!(refused.iter().any(|line| line.contains(HERE)), "{log}");
    assert!(!refused.iter().any(|line| line.contains("127.0.0.1\"") || line.contains("127.0.0.1 ")), "{log}");

    let logs = site.gateway.log() + &log;
    let secret = good.rsplit('.').next().unwrap();
    assert!(!logs.contains(secret) && !logs.contains(&good[..60]), "a token is in a log");
}

/// Another letter.
fn swapped(letter: char) -> char {
    if letter == 'A' { 'B' } else { 'A' }
}

#[tokio::test]
#[cfg_attr(not(tool = "nginx"), ignore = "needs nginx: use tests/run")]
async fn events_arrive_while_the_stream_is_open() {
    let site = Site::open(&["--token-mode", "bearer"], as_in_the_page).await;
    let bearer = format!("Bearer {}", token(&site.office.emulator));
    let mut request = get("/entra/sse");
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let mut stream = site.through(HERE, request).await;
    assert_eq!(stream.status(), 200);
    let endpoint = next_event(&mut stream).await;
    let endpoint =
        endpoint.strip_prefix("event: endpoint\ndata: /entra").expect("an address with the prefix").trim_end();
    for id in [1, 2] {
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string();
        let sent = site.through(HERE, post(endpoint, &[("authorization", &bearer)], message)).await;
        assert_eq!(sent.status(), 202);
        let event = next_event(&mut stream).await;
        assert!(event.starts_with("event: message\n") && event.contains(&format!("\"id\":{id}")), "{event}");
    }
    assert!(!hyper::body::Body::is_end_stream(stream.body()));
}

/// What arrives next on a stream.
async fn next_event(stream: &mut Response<Incoming>) -> String {
    let frame = soon(stream.frame()).await;
    let frame = frame.expect("an event arrives").expect("the stream goes on").unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}
