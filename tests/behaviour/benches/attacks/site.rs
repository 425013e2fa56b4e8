//! The server under attack, and a way to send it requests from any address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use entra_mcp_emulator::{Builder, Emulator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::Server;
use crate::session::{self, Session};

/// The signed-in caller that attacks.
pub(crate) const BOB: &str = "bob@contoso.example";

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Declares every address of this machine a proxy: then `X-Forwarded-For` says who the client is.
const BEHIND_A_PROXY: [&str; 2] = ["--trusted-proxy", "127.0.0.0/8"];

pub(crate) struct Site {
    pub(crate) emulator: Emulator,
    pub(crate) server: Server,
    folder: TempDir,
    address: SocketAddr,
}

/// Where a client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    local: Ipv4Addr,
    forwarded: Option<IpAddr>,
}

/// Where the attackers are, and who is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The attackers connect to the server themselves.
    FourIpv4,
    /// The same behind a declared proxy.
    FourIpv4Forwarded,
    /// Behind a declared proxy: this machine has no such network.
    One56,
}

impl Origin {
    /// Those that the aim is about.
    pub(crate) const BOTH: [Self; 2] = [Self::FourIpv4, Self::One56];

    /// The addresses of the attackers: of a /56, one in each /64.
    pub(crate) fn attackers(self) -> Vec<From> {
        match self {
            Self::FourIpv4 => (2..6).map(|last| here([0, 0, last])).collect(),
            Self::FourIpv4Forwarded => (66..70).map(|last| behind(Ipv4Addr::new(203, 0, 113, last).into())).collect(),
            Self::One56 => {
                (0..=u8::MAX).map(|network| behind(format!("2001:db8:0:ab{network:02x}::1").parse().unwrap())).collect()
            }
        }
    }

    /// The address of the good client.
    pub(crate) fn good(self) -> From {
        self.elsewhere(0)
    }

    /// One of many addresses that are no attacker's.
    pub(crate) fn elsewhere(self, number: usize) -> From {
        let [.., high, low] = number.to_be_bytes();
        match self {
            Self::FourIpv4 => here([7, high, low]),
            Self::FourIpv4Forwarded | Self::One56 => behind(Ipv4Addr::new(198, 18, high, low).into()),
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::FourIpv4 => &[],
            Self::FourIpv4Forwarded | Self::One56 => &BEHIND_A_PROXY,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FourIpv4 => "four IPv4 addresses",
            Self::FourIpv4Forwarded => "four IPv4 addresses behind a proxy",
            Self::One56 => "one /56 of IPv6",
        })
    }
}

/// On this machine.
fn here([b, c, d]: [u8; 3]) -> From {
    From { local: Ipv4Addr::new(127, b, c, d), forwarded: None }
}

/// Elsewhere, behind the proxy.
fn behind(address: IpAddr) -> From {
    From { local: Ipv4Addr::LOCALHOST, forwarded: Some(address) }
}

impl From {
    /// What the server should take for the address.
    pub(crate) fn address(&self) -> IpAddr {
        self.forwarded.unwrap_or(self.local.into())
    }

    /// The line of the header that the proxy adds.
    fn line(&self) -> String {
        self.forwarded.map_or_else(String::new, |address| format!("x-forwarded-for: {address}\r\n"))
    }
}

impl Site {
    /// A server with its default settings.
    pub(crate) async fn start(origin: Origin) -> Self {
        Self::with(origin, |_| Vec::new()).await
    }

    /// A server with arguments that may name files in its folder.
    pub(crate) async fn with(origin: Origin, arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let starting = crate::world().spawn(async { Builder::new().start().await.unwrap() });
        let emulator = starting.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let more = arguments(folder.path());
        let arguments: Vec<_> = origin.arguments().iter().copied().chain(more.iter().map(String::as_str)).collect();
        let server = Server::start(emulator.endpoints(), folder.path(), &arguments);
        let callback = server.at("/auth/callback");
        let client = emulator.endpoints().confidential_client_id.clone();
        emulator.control().change_application(&client, |client| client.web_redirect_uris.push(callback)).unwrap();
        let address = server.address().parse().unwrap();
        Self { emulator, server, folder, address }
    }

    pub(crate) async fn sign_in(&self, path: &str, username: &str) -> Session {
        session::sign_in(self.server.public_url(), path, username).await
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Bytes of the store.
    pub(crate) fn stored(&self) -> u64 {
        let length = |name| std::fs::metadata(self.path(name)).map_or(0, |file| file.len());
        length("sessions.db") + length("sessions.db-wal")
    }

    /// What requests have to be sent with and where, so that a task of its own can.
    pub(crate) fn door(&self) -> Door {
        let host = self.server.public_url().split_once("://").unwrap().1.to_owned();
        Door { address: self.address, host }
    }
}

/// A way to the server.
#[derive(Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    host: String,
}

impl Door {
    pub(crate) async fn connect(&self, from: From) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from.local, 0))).ok()?;
        tokio::time::timeout(PATIENCE, socket.connect(self.address)).await.ok()?.ok()
    }

    /// The head of a request. `lines` are more header fields, each with its line break.
    pub(crate) fn head(&self, from: From, request: &str, lines: &str) -> String {
        format!("{request} HTTP/1.1\r\nhost: {}\r\n{}{lines}\r\n", self.host, from.line())
    }

    /// Sends one request on a connection of its own. `None`: no answer.
    pub(crate) async fn ask(&self, from: From, request: &str, lines: &str, body: &str) -> Option<(u16, String)> {
        let lines = format!("connection: close\r\ncontent-length: {}\r\n{lines}", body.len());
        let asking = async {
            let mut stream = self.connect(from).await?;
            stream.write_all(format!("{}{body}", self.head(from, request, &lines)).as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            // A connection may be reset after the answer.
            let _ = stream.read_to_end(&mut answer).await;
            Some((status_of(&answer)?, String::from_utf8_lossy(&answer).into_owned()))
        };
        tokio::time::timeout(PATIENCE, asking).await.ok()?
    }

    pub(crate) async fn post_form(&self, from: From, path: &str, form: &[(&str, &str)]) -> Option<(u16, String)> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let lines = "content-type: application/x-www-form-urlencoded\r\n";
        self.ask(from, &format!("POST {path}"), lines, &body).await
    }

    pub(crate) async fn post_message(&self, from: From, token: &str, version: &str, body: &Value) -> Option<u16> {
        self.post_padded(from, token, version, body, 0).await
    }

    /// The same, with white space behind the message up to so many bytes.
    pub(crate) async fn post_padded(
        &self,
        from: From,
        token: &str,
        version: &str,
        body: &Value,
        bytes: usize,
    ) -> Option<u16> {
        let named = body["method"].as_str().map(|method| {
            let tool = body["params"]["name"].as_str().unwrap_or_default();
            format!("mcp-method: {method}\r\nmcp-name: {tool}\r\n")
        });
        let lines = format!(
            "content-type: application/json\r\naccept: application/json, text/event-stream\r\nauthorization: Bearer \
             {token}\r\nmcp-protocol-version: {version}\r\n{}",
            named.unwrap_or_default()
        );
        let mut body = body.to_string();
        body.extend(std::iter::repeat_n(' ', bytes.saturating_sub(body.len())));
        self.ask(from, "POST /mcp", &lines, &body).await.map(|(status, _)| status)
    }
}

/// The status of an answer that has begun.
pub(crate) fn status_of(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// The current version of MCP, and the one that has batches.
pub(crate) const MODERN: &str = "2026-07-28";
pub(crate) const WITH_BATCHES: &str = "2025-03-26";

/// A call of a tool.
pub(crate) fn call(tool: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": tool,
            "arguments": {},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": { "name": "attacks", "version": "1.0.0" },
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    })
}

/// A call of a tool without arguments, as it may be part of a batch.
pub(crate) fn legacy_call(id: usize, tool: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
}
