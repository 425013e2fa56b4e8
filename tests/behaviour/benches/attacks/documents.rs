//! Attack 5: client ids whose documents never come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::certificate;
use crate::good::Good;
use crate::site::{BEHIND_A_PROXY, Site, behind, good_elsewhere};
use crate::{Crowd, again, nothing, play, until};

const REDIRECT: &str = "https://client.example/callback";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// As many as are fetched at the same time.
const HANGING: usize = 16;

/// A web site with a certificate for `localhost`. `/client…` is a document; all else never ends.
struct WebSite {
    port: u16,
    certificate: String,
    hanging: Arc<AtomicUsize>,
}

impl WebSite {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, certificate) = certificate::for_localhost();
        let hanging = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&hanging);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = vec![0; 4096];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap_or_default();
                    if !path.starts_with("/client") {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let _ = stream.read(&mut [0; 1]).await;
                        return;
                    }
                    let body = json!({
                        "client_id": format!("https://localhost:{port}{path}"),
                        "client_name": "Client",
                        "redirect_uris": [REDIRECT],
                    });
                    let body = body.to_string();
                    // Good for no time, so that it is fetched each time.
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store";
                    let answer = format!("{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { port, certificate, hanging }
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

/// The authorization request of a client with a document.
fn target(host: &str, path: &str) -> String {
    let query = [
        ("response_type", "code"),
        ("client_id", &format!("https://{host}{path}")),
        ("redirect_uri", REDIRECT),
        ("state", "s"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    format!("/authorize?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish())
}

pub(crate) async fn hanging() {
    let (evil, honest) = (WebSite::start().await, WebSite::start().await);
    let site = Site::with(|folder| {
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, format!("{}{}", evil.certificate, honest.certificate)).unwrap();
        let mut arguments: Vec<_> = BEHIND_A_PROXY.iter().map(|argument| (*argument).to_owned()).collect();
        arguments.extend(["--ca-file".to_owned(), roots.display().to_string()]);
        arguments.extend(["--rate-limit".to_owned(), "authorize=10000/15m".to_owned()]);
        for host in [evil.host(), honest.host()] {
            arguments.extend(["--client-metadata-allow".to_owned(), host]);
        }
        arguments
    })
    .await;
    let good = Good::consenting(target(&honest.host(), "/client"), good_elsewhere());
    let attacker = behind("203.0.113.66".parse().unwrap());
    let begin = async |crowd: &mut Crowd| {
        for number in 0..HANGING {
            let (door, target) = (site.door(), target(&evil.host(), &format!("/hang/{number}")));
            crowd.spawn(async move {
                again(|| async {
                    let _ = door.ask(attacker, &format!("GET {target}"), "", "").await;
                })
                .await;
            });
        }
        // Bounds may let fewer of them hang.
        until(|| evil.hanging.load(Ordering::Relaxed) >= HANGING).await;
    };
    play(&format!("5. {HANGING} documents that never come, one address"), &site, &good, begin, nothing).await;
}
