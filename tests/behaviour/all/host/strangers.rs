//! `entra-mcp serve` and the client ids that strangers send it: URLs that lead to what only this machine can reach, and
//! sites that do not behave. The program as it is built, with its own resolver and its own connections.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::commands::Home;
use super::records::records;
use super::serve::{Server, serve};
use crate::support::certificate;
use crate::support::lab::CHALLENGE;

const EVIL: &str = "https://evil.example.com/callback";

/// A listener that counts the connections, and says nothing.
struct Trap {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Trap {
    /// None where this machine has no such address.
    async fn at(address: &str) -> Option<Self> {
        let listener = TcpListener::bind(address).await.ok()?;
        let (address, connections) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Some(Self { address, connections })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A web site for a client's document, which does what the path says.
struct Site {
    port: u16,
    certificate: String,
    requests: Arc<AtomicUsize>,
}

impl Site {
    async fn new(elsewhere: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, certificate) = certificate::for_localhost();
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = vec![0; 4096];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    count.fetch_add(1, Ordering::SeqCst);
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    let _ = answer(&mut stream, port, elsewhere, &path).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { port, certificate, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

async fn answer(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    port: u16,
    elsewhere: SocketAddr,
    path: &str,
) -> std::io::Result<()> {
    let document = |id: &str, more: serde_json::Value| {
        let mut document = json!({
            "client_id": format!("https://localhost:{port}{id}"), "client_name": "Client", "redirect_uris": [EVIL],
        });
        document.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        document.to_string()
    };
    let (mut head, mut body) = ("200 OK\r\ncontent-type: application/json".to_owned(), document(path, json!({})));
    match path {
        "/redirect/here" => (head, body) = ("302 Found\r\nlocation: /good".to_owned(), String::new()),
        "/redirect/elsewhere" => {
            (head, body) = (format!("307 Go\r\nlocation: https://{elsewhere}/good"), String::new());
        }
        "/redirect/plain" => (head, body) = (format!("301 Go\r\nlocation: http://{elsewhere}/good"), String::new()),
        "/other" => body = document("/good", json!({})),
        "/secret" => body = document(path, json!({ "client_secret": "s" })),
        "/html" => head = "200 OK\r\ncontent-type: text/html".to_owned(),
        "/huge" => body = document(path, json!({ "x": "x".repeat(2 * 1024 * 1024) })),
        "/endless" => {
            stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).await?;
            loop {
                stream.write_all(&[b' '; 4096]).await?;
            }
        }
        "/slow" => {
            stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 100000\r\n\r\n").as_bytes()).await?;
            stream.flush().await?;
            // Until the program gives up and closes the connection. That a drip gains no time is tested with a clock that
            // stands still: `host/plugin/src/client_metadata/public/tests.rs`.
            stream.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        }
        _ => {}
    }
    write!(head, "\r\ncontent-length: {}\r\nconnection: close", body.len()).unwrap();
    stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n{body}").as_bytes()).await
}

/// The answer to a browser that arrives with this client id.
async fn authorize(server: &Server, client_id: &str) -> (u16, String) {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", EVIL),
        ("state", "s"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let answer = client.get(server.url("/authorize")).query(&query).send().await.unwrap();
    assert!(answer.headers().get("location").is_none(), "{client_id} leads to a redirect");
    (answer.status().as_u16(), String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap())
}

/// The reasons of refused clients among the audit records.
fn refusals(log: &str) -> Vec<String> {
    let refused = records(log).into_iter().filter(|record| record["event"] == "client.refused");
    refused.map(|record| record["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_client_id_that_leads_to_this_machine_or_its_network_is_never_connected_to() {
    let home = Home::new().await;
    let here = Trap::at("127.0.0.1:0").await.unwrap();
    let traps: Vec<_> = [Some(here), Trap::at("[::1]:0").await].into_iter().flatten().collect();
    let (port, port6) = (traps[0].address.port(), traps.last().unwrap().address.port());
    let hosts = [
        format!("127.0.0.1:{port}"),
        format!("127.1.2.3:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::1]:{port6}"),
        format!("[::]:{port6}"),
        format!("[::ffff:7f00:1]:{port}"),
        format!("[64:ff9b::7f00:1]:{port}"),
        format!("[2002:7f00:1::]:{port}"),
        // A name that the resolver turns into an address of this machine.
        format!("localhost:{port}"),
        // Other ways to write the same.
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("127.1:{port}"),
        format!("localhost.:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "169.254.169.254".to_owned(),
        "[::ffff:a9fe:a9fe]".to_owned(),
        "[fe80::1]".to_owned(),
        "[fd00:ec2::254]".to_owned(),
        "10.0.0.1".to_owned(),
        "172.16.0.1".to_owned(),
        "192.168.0.1".to_owned(),
        "100.64.0.1".to_owned(),
    ];
    // A server on this machine admits ids on loopback, so the host alone stands in the way; a public one does not.
    for public_url in [&[][..], &["--public-url", "https://mcp.example.com", "--allowed-host", "127.0.0.1"]] {
        let server = Server::start(serve(&home, &[public_url, &["--rate-limit", "off"]].concat())).await;
        for host in &hosts {
            let (status, page) = authorize(&server, &format!("https://{host}/client.json")).await;
            assert_eq!(status, 400, "{host}: {page}");
            assert!(page.contains("correlation"), "{host}: {page}");
            assert!(!page.contains("evil.example.com"), "{host}: {page}");
        }
        let (_, _, log) = server.end().await;
        let refused = refusals(&log);
        assert_eq!(refused.len(), hosts.len(), "{log}");
        let known = ["client-metadata-denied", "client-metadata-url"];
        assert!(refused.iter().all(|reason| known.iter().any(|known| reason.contains(known))), "{refused:?}");
    }
    assert_eq!(traps.iter().map(Trap::connections).sum::<usize>(), 0);
}

#[tokio::test]
async fn a_site_that_does_not_behave_gets_an_error_page_and_leads_nowhere() {
    let home = Home::new().await;
    let trap = Trap::at("127.0.0.1:0").await.unwrap();
    let site = Site::new(trap.address).await;
    let roots = home.path().join("site.pem");
    std::fs::write(&roots, &site.certificate).unwrap();
    let allowed = format!("localhost:{}", site.port);
    let server = Server::start(serve(
        &home,
        &["--client-metadata-allow", &allowed, "--ca-file", roots.to_str().unwrap(), "--rate-limit", "off"],
    ))
    .await;
    let (status, page) = authorize(&server, &site.url("/good")).await;
    assert!(
        status == 200 && page.contains("evil.example.com"),
        "the consent page names where it leads: {status} {page}"
    );
    let cases = [
        ("/redirect/here", 400, "invalid"),
        ("/redirect/elsewhere", 400, "invalid"),
        ("/redirect/plain", 400, "invalid"),
        ("/other", 400, "invalid"),
        ("/secret", 400, "invalid"),
        ("/html", 400, "invalid"),
        ("/huge", 400, "invalid"),
        ("/endless", 400, "invalid"),
        ("/slow", 503, "unavailable"),
    ];
    for (path, expected, _) in cases {
        let before = site.requests.load(Ordering::SeqCst);
        let (status, page) = authorize(&server, &site.url(path)).await;
        assert_eq!(status, expected, "{path}: {page}");
        assert!(!page.contains("evil.example.com"), "{path}: {page}");
        assert_eq!(site.requests.load(Ordering::SeqCst) - before, 1, "{path}");
    }
    // The one beside it was not allowed, whatever its name.
    let (status, _) = authorize(&server, &format!("https://localhost:{}/good", trap.address.port())).await;
    assert_eq!(status, 400);
    let (_, _, log) = server.end().await;
    let refused = refusals(&log);
    assert_eq!(refused.len(), cases.len() + 1, "{log}");
    for ((path, _, reason), refused) in cases.iter().zip(refused) {
        assert!(refused.contains(&format!("client-metadata-{reason}")), "{path}: {refused}");
    }
    assert_eq!(trap.connections(), 0);
}
