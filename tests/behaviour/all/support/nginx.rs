//! nginx as `docs/src/tutorials/behind-a-gateway.md` sets it up: the configuration is taken out of that page, and only
//! what names a machine is changed in it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

use super::patience::eventually;
use super::{process, tests_dir, tools};

/// The prefix in the page.
pub(crate) const PREFIX: &str = "/entra";

/// A place for nginx: its port and its certificate. The server has to know its public URL before nginx knows the server.
pub(crate) struct Gateway {
    program: PathBuf,
    folder: TempDir,
    /// Holds the port until nginx takes it. It does not listen: a program that another test starts at that moment holds
    /// a copy for an instant, and no client must connect to that copy.
    port: Option<TcpSocket>,
    address: SocketAddr,
    running: Option<Child>,
}

impl Gateway {
    pub(crate) fn prepare() -> Self {
        let program = tools::nginx();
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(folder.path().join("gateway.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("gateway.key"), key.serialize_pem()).unwrap();
        let port = TcpSocket::new_v4().unwrap();
        port.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = port.local_addr().unwrap();
        Self { program, folder, port: Some(port), address, running: None }
    }

    /// Where nginx listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL under which clients reach the server.
    pub(crate) fn public_url(&self) -> String {
        format!("https://localhost:{}{PREFIX}", self.address.port())
    }

    /// The self-signed certificate and its key.
    pub(crate) fn certificate(&self) -> [PathBuf; 2] {
        ["gateway.pem", "gateway.key"].map(|name| self.folder.path().join(name))
    }

    /// Starts nginx in front of the server at `upstream`. `change` does what the page leaves to its reader.
    pub(crate) async fn start(&mut self, upstream: &str, change: impl FnOnce(Page) -> String) {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let mut text = change(Page::read());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("\n    {kind}_temp_path {};", path(kind)))
            .concat();
        for (in_the_page, here) in [
            ("worker_processes auto;", "worker_processes 1;".to_owned()),
            ("/run/nginx.pid", path("nginx.pid")),
            ("/var/log/nginx/", format!("{}/", self.folder.path().display())),
            ("http {", format!("http {{{temporary}")),
            ("server 127.0.0.1:3001;", format!("server {upstream};")),
            ("listen 443 ", format!("listen {} ", self.address)),
            ("/etc/ssl/gw.example.com.pem", path("gateway.pem")),
            ("/etc/ssl/private/gw.example.com.key", path("gateway.key")),
            ("server_name gw.example.com;", "server_name localhost;".to_owned()),
        ] {
            text = replaced(&text, in_the_page, &here);
        }
        let configuration = self.folder.path().join("nginx.conf");
        fs::write(&configuration, text).unwrap();
        drop(self.port.take());
        let child = process::blocking(&self.program)
            // One process, so that it ends with the test whatever happens.
            .args(["-g", "daemon off; master_process off;", "-e", &path("start.log"), "-p", &path("")])
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.folder.path().join("output.log")).unwrap())
            .spawn()
            .unwrap();
        let child = self.running.insert(child);
        let answering = eventually(|| {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("nginx does not start: {status}\n{}", logs(self.folder.path()));
            }
            async { TcpStream::connect(self.address).await.ok() }
        })
        .await;
        drop(answering.unwrap_or_else(|error| panic!("nginx does not answer: {error}\n{}", logs(self.folder.path()))));
    }

    /// The log of nginx.
    pub(crate) fn log(&self) -> String {
        logs(self.folder.path())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn logs(folder: &Path) -> String {
    let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
    ["output.log", "start.log", "error.log", "access.log"].map(read).concat()
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
        let text = fs::read_to_string(tests_dir().join("../docs/src/tutorials/behind-a-gateway.md")).unwrap();
        let blocks = text.split("```nginx\n").skip(1);
        let mut blocks = blocks.map(|rest| rest.split_once("```").expect("a block ends").0.to_owned());
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

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the configuration");
    text.replace(from, to)
}
