//! A server behind a proxy that asks the program: every part is a process or a listener of its own.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value;

use crate::host::records;
use crate::support::behind::Behind;
use crate::support::pages::{Page, replaced};
use crate::support::proxy::{Place, send_from};
use crate::support::session::sign_in;
use crate::support::{nginx, process, tools};
use crate::tools::mail::bearer;

pub(super) const ALICE: &str = "alice@contoso.example";
pub(super) const BOB: &str = "bob@contoso.example";
pub(super) const ALICES_ID: &str = "11111111-0000-4000-a000-000000000001";
/// Where the client is: no declared proxy.
pub(super) const CLIENT: &str = "127.0.0.2";
/// The identity in the page.
pub(super) const EASY_AUTH: &str = "\"easy-auth\"";

/// Which proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Caddy,
    Envoy,
}

impl Kind {
    /// The status behind this proxy, of those behind each: nginx, Caddy, Envoy.
    pub(super) fn of(self, statuses: [u16; 3]) -> u16 {
        let [nginx, caddy, envoy] = statuses;
        match self {
            Self::Nginx => nginx,
            Self::Caddy => caddy,
            Self::Envoy => envoy,
        }
    }
}

/// The page.
pub(super) fn page() -> Page {
    Page::read("how-to/behind-your-proxy.md")
}

/// Proxy, program, server behind.
pub(super) struct Site {
    pub(super) behind: Arc<Behind>,
    pub(super) program: records::Site,
    /// What only the proxy and the program know.
    pub(super) secret: String,
    proxy: Place,
}

impl Site {
    /// With the identity of the page.
    pub(super) async fn open(kind: Kind) -> Self {
        Self::with(kind, EASY_AUTH, "").await
    }

    /// With another identity, as it is in the configuration, and with rules.
    pub(super) async fn with(kind: Kind, identity: &str, rules: &str) -> Self {
        let behind = Behind::start().await;
        let behind_at = behind.address();
        let mut proxy = Place::prepare();
        let public_url = format!("http://{}", proxy.address());
        let (secret, hash) = secret();
        let config = configuration(&public_url, &hash, behind_at, identity) + rules;
        let config = proxy.write("entra-mcp.toml", &config).display().to_string();
        let program = records::Site::new(|_| {
            ["--config", &config, "--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned).into()
        })
        .await;
        let asked = program.server.address().to_owned();
        let around = Around { asked, behind: behind_at.to_string(), secret: secret.clone() };
        around.start(kind, &mut proxy, identity.starts_with("\"token\"")).await;
        Self { behind, program, secret, proxy }
    }

    pub(super) fn public_url(&self) -> &str {
        self.program.server.public_url()
    }

    /// The token of a session, for which a user signs in through the proxy.
    pub(super) async fn session(&self, username: &str) -> String {
        sign_in(self.public_url(), "/mcp", username).await.access_token
    }

    /// A token of Entra ID for the server.
    pub(super) async fn entra_token(&self, username: &str) -> String {
        bearer(&self.program.emulator, username).await
    }

    /// Sends a request as it is.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
        let host = self.proxy.address().to_string().parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        send_from(CLIENT, self.proxy.address(), request).await
    }

    /// The status alone.
    pub(super) async fn status(&self, request: Request<Full<Bytes>>) -> StatusCode {
        self.send(request).await.status()
    }

    /// What all parts have written.
    pub(super) fn log(&self) -> String {
        format!("{}\n{}", self.proxy.log(), self.program.server.log())
    }
}

/// The secret of the proxy and its hash, as the page has them made.
fn secret() -> (String, String) {
    let commands = page().section("Configure the server").block("sh");
    let output =
        process::blocking("sh").args(["-ec", &format!("{commands}\necho; echo \"$secret\"")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let [hash, secret] = lines.try_into().unwrap_or_else(|lines| panic!("{lines:?}"));
    (secret.to_owned(), hash.to_owned())
}

/// The configuration of the page.
fn configuration(public_url: &str, hash: &str, behind: std::net::SocketAddr, identity: &str) -> String {
    let mut text = page().section("Configure the server").block("toml");
    for (in_the_page, here) in [
        ("https://mcp.example.com", public_url),
        ("\"…\"", &format!("{hash:?}")),
        ("127.0.0.1:8000", &behind.to_string()),
        (EASY_AUTH, identity),
    ] {
        text = replaced(&text, in_the_page, here);
    }
    text
}

/// What a proxy is told.
struct Around {
    asked: String,
    behind: String,
    secret: String,
}

impl Around {
    async fn start(&self, kind: Kind, place: &mut Place, delegates: bool) {
        match kind {
            Kind::Nginx => self.nginx(place).await,
            Kind::Caddy => self.caddy(place, delegates).await,
            Kind::Envoy => self.envoy(place).await,
        }
    }

    /// With the addresses of this machine in place of those in the page.
    fn addressed(&self, text: &str) -> String {
        replaced(&replaced(text, "127.0.0.1:3001", &self.asked), "127.0.0.1:8000", &self.behind)
    }

    async fn nginx(&self, place: &mut Place) {
        let page = page().section("nginx").block("nginx");
        let page = self.addressed(&replaced(&page, "\"…\"", &format!("{:?}", self.secret)));
        let (of_http, of_server) = page.split_once("# In the block `server`.").expect("the page says where");
        let configuration = format!(
            "worker_processes 1;\npid {};\nerror_log {};\nevents {{ worker_connections 256; }}\nhttp {{{}\n\
             access_log off;\n{of_http}\nserver {{\nlisten {};\n{of_server}\n}}\n}}\n",
            place.path("nginx.pid").display(),
            place.path("error.log").display(),
            nginx::temporary_folders(place),
            place.address(),
        );
        nginx::run(&tools::nginx(), place, &configuration).await;
    }

    async fn caddy(&self, place: &mut Place, delegates: bool) {
        let page = page().section("Caddy").block("caddy");
        let mut page = replaced(&self.addressed(&page), "mcp.example.com {", &format!("http://{} {{", place.address()));
        if delegates {
            // As the page says in words.
            page = replaced(&page, "\t\t\theader_up -Authorization\n", "");
            page = replaced(&page, "copy_headers ", "copy_headers Authorization ");
        }
        let configuration = format!("{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}}\n{page}");
        let file = place.write("Caddyfile", &configuration);
        let mut command = process::blocking(tools::caddy());
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        command.env_clear().env("HOME", place.path("")).env("PROXY_SECRET", &self.secret);
        place.run(command).await;
    }

    async fn envoy(&self, place: &mut Place) {
        let mut page = page().section("Envoy").block("yaml");
        let ported = |text: &str, address: &str| {
            let (host, port) = address.rsplit_once(':').unwrap();
            (format!("address: {text}"), format!("address: {host}, port_value: {port}"))
        };
        for (in_the_page, here) in [
            ported("0.0.0.0, port_value: 8080", &place.address().to_string()),
            ported("127.0.0.1, port_value: 3001", &self.asked),
            ported("127.0.0.1, port_value: 8000", &self.behind),
            ("\"…\"".to_owned(), format!("{:?}", self.secret)),
        ] {
            page = replaced(&page, &in_the_page, &here);
        }
        let file = place.write("envoy.yaml", &page);
        let mut command = process::blocking(tools::envoy());
        command.arg("-c").arg(file);
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        place.run(command).await;
    }
}

/// A request to the server behind, with a token if there is one.
pub(super) fn post(token: Option<&str>, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    request(Method::POST, "/mcp", token, fields)
}

/// The same with another method or target.
pub(super) fn request(
    method: Method,
    target: &str,
    token: Option<&str>,
    fields: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target);
    request = request.header("accept", "application/json, text/event-stream");
    request = request.header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::from(BODY)).unwrap()
}

/// What the requests carry.
pub(super) const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// The whole answer as JSON.
pub(super) async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
