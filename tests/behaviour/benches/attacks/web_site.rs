//! Web sites with metadata documents of clients, and what asks the server for one of them.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::certificate;
use crate::tally::Tally;

pub(crate) const REDIRECT: &str = "https://client.example/callback";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Redirect URIs of a large document, and the bytes that are added to each: almost the 16 KiB that are admitted.
const URIS: usize = 32;
const URI_BYTES: usize = 450;

/// Web sites on ports of their own. All have the same certificate.
pub(crate) struct WebSites {
    /// Host and port of each.
    pub(crate) hosts: Vec<String>,
    certificate: String,
}

impl WebSites {
    /// Some sites. What hangs at them is counted as held.
    pub(crate) async fn start(number: usize, tally: &Arc<Tally>) -> Self {
        let (acceptor, certificate) = certificate::for_localhost();
        let mut hosts = Vec::new();
        for _ in 0..number {
            let (acceptor, tally) = (acceptor.clone(), Arc::clone(tally));
            let listener = crate::world().spawn(TcpListener::bind("127.0.0.1:0")).await.unwrap().unwrap();
            let host = format!("localhost:{}", listener.local_addr().unwrap().port());
            hosts.push(host.clone());
            crate::world().spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, tally, host) = (acceptor.clone(), Arc::clone(&tally), host.clone());
                    tokio::spawn(async move { answer(stream, &acceptor, &tally, &host).await });
                }
            });
        }
        Self { hosts, certificate }
    }

    /// What lets a server read documents here.
    pub(crate) fn arguments(&self, folder: &Path) -> Vec<String> {
        let roots = folder.join("roots.pem");
        std::fs::write(&roots, &self.certificate).unwrap();
        let allowed = self.hosts.iter().flat_map(|host| ["--client-metadata-allow".to_owned(), host.clone()]);
        ["--ca-file".to_owned(), roots.display().to_string()].into_iter().chain(allowed).collect()
    }
}

/// Where a small document is, where a large one, and where one that never comes.
pub(crate) fn small(number: usize) -> String {
    format!("/small/{number}")
}

pub(crate) fn large(number: usize) -> String {
    format!("/large/{number}")
}

pub(crate) fn hanging(number: usize) -> String {
    format!("/hanging/{number}")
}

/// The redirect URIs of a large document.
fn large_uris() -> Vec<String> {
    (0..URIS).map(|number| format!("https://client.example/{number}/{}", "x".repeat(URI_BYTES))).collect()
}

/// One of them.
pub(crate) fn large_uri() -> String {
    large_uris().swap_remove(0)
}

/// Answers one request.
async fn answer(stream: TcpStream, acceptor: &TlsAcceptor, tally: &Arc<Tally>, host: &str) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).await.unwrap_or(0);
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let uris = match path.split('/').nth(1) {
        Some("small") => vec![REDIRECT.to_owned()],
        Some("large") => large_uris(),
        _ => {
            let _held = tally.hold();
            // Until the server gives up.
            let _ = stream.read(&mut [0; 1]).await;
            return;
        }
    };
    let document =
        json!({ "client_id": format!("https://{host}{path}"), "client_name": "Client", "redirect_uris": uris });
    let body = document.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The authorization request of the client whose document is at a host.
pub(crate) fn authorization(host: &str, path: &str, redirect_uri: &str, state: &str) -> String {
    authorization_of(&format!("https://{host}{path}"), redirect_uri, state)
}

/// The authorization request of a client.
pub(crate) fn authorization_of(client_id: &str, redirect_uri: &str, state: &str) -> String {
    let query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("state", state),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    format!("/authorize?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish())
}
