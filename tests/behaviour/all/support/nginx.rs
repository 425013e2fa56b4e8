//! nginx as `docs/src/tutorials/behind-a-gateway.md` sets it up: the configuration is taken out of that page, and only
//! what names a machine is changed in it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::pages::replaced;
use super::proxy::Place;
use super::{pages, process, tools};

/// The prefix in the page.
pub(crate) const PREFIX: &str = "/entra";

/// A place for nginx: its port and its certificate.
pub(crate) struct Gateway {
    program: PathBuf,
    place: Place,
}

impl Gateway {
    pub(crate) fn prepare() -> Self {
        let program = tools::nginx();
        let place = Place::prepare();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(place.path("gateway.pem"), certificate.pem()).unwrap();
        fs::write(place.path("gateway.key"), key.serialize_pem()).unwrap();
        Self { program, place }
    }

    /// Where nginx listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.place.address()
    }

    /// The URL under which clients reach the server.
    pub(crate) fn public_url(&self) -> String {
        format!("https://localhost:{}{PREFIX}", self.address().port())
    }

    /// The self-signed certificate and its key.
    pub(crate) fn certificate(&self) -> [PathBuf; 2] {
        ["gateway.pem", "gateway.key"].map(|name| self.place.path(name))
    }

    /// Starts nginx in front of the server at `upstream`. `change` does what the page leaves to its reader.
    pub(crate) async fn start(&mut self, upstream: &str, change: impl FnOnce(Page) -> String) {
        let path = |name: &str| self.place.path(name).to_str().unwrap().to_owned();
        let mut text = change(Page::read());
        for (in_the_page, here) in [
            ("worker_processes auto;", "worker_processes 1;".to_owned()),
            ("/run/nginx.pid", path("nginx.pid")),
            ("/var/log/nginx/", path("")),
            ("http {", format!("http {{{}", temporary_folders(&self.place))),
            ("server 127.0.0.1:3001;", format!("server {upstream};")),
            ("listen 443 ", format!("listen {} ", self.address())),
            ("/etc/ssl/gw.example.com.pem", path("gateway.pem")),
            ("/etc/ssl/private/gw.example.com.key", path("gateway.key")),
            ("server_name gw.example.com;", "server_name localhost;".to_owned()),
        ] {
            text = replaced(&text, in_the_page, &here);
        }
        run(&self.program, &mut self.place, &text).await;
    }

    /// The log of nginx.
    pub(crate) fn log(&self) -> String {
        self.place.log()
    }
}

/// Where nginx may write, as directives of the block `http`.
pub(crate) fn temporary_folders(place: &Place) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("\n    {kind}_temp_path {};", place.path(kind).display()))
        .concat()
}

/// Runs nginx with a configuration, which stays as it is: one process, so that it ends with the test whatever happens.
pub(crate) async fn run(program: &std::path::Path, place: &mut Place, configuration: &str) {
    let command = command(program, place, configuration, "daemon off; master_process off;");
    place.run(command).await;
}

/// Runs nginx with a configuration that changes: a process that reads it again on `HUP`, and workers. A single process
/// cannot: it drops the connections of the configuration before.
pub(crate) async fn run_with_workers(program: &std::path::Path, place: &mut Place, configuration: &str) {
    let command = command(program, place, configuration, "daemon off;");
    place.run_to_its_end(command).await;
}

fn command(program: &std::path::Path, place: &Place, configuration: &str, directives: &str) -> Command {
    let configuration = place.write("nginx.conf", configuration);
    let mut command = process::blocking(program);
    command.args(["-g", directives, "-e"]).arg(place.path("start.log"));
    command.arg("-p").arg(place.path("")).arg("-c").arg(configuration);
    command
}

/// The configuration in `docs/src/tutorials/behind-a-gateway.md`.
pub(crate) struct Page {
    /// The whole configuration.
    pub(crate) whole: String,
    /// The server block's lines for a gateway that signs people in.
    signing_in: String,
}

impl Page {
    fn read() -> Self {
        let mut blocks = pages::Page::read("tutorials/behind-a-gateway.md").blocks("nginx").into_iter();
        let mut next = || blocks.next().expect("the page has two blocks for nginx");
        Self { whole: next(), signing_in: next() }
    }

    /// As the page says it is done to take the prefix off.
    pub(crate) fn taking_the_prefix_off(self) -> String {
        let at = "        location ~ ";
        let (before, after) = self.whole.split_once(at).expect("there is a place for metadata");
        let (path, stripped) = ("proxy_pass http://entra_mcp;", "proxy_pass http://entra_mcp/;");
        assert_eq!(before.matches(path).count(), 2, "two locations have the prefix");
        format!("{}{at}{after}", before.replace(path, stripped))
    }

    /// With a service that names the person that is signed in.
    pub(crate) fn signing_in(self, service: SocketAddr) -> String {
        let at = "        location = /entra {";
        let added = replaced(&self.signing_in, "127.0.0.1:4180", &service.to_string());
        replaced(&self.whole, at, &format!("{added}{at}"))
    }
}
