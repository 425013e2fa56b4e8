//! A reverse proxy as a process of its own, and a client that speaks to it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

use super::patience::eventually;

/// A place for a proxy: its port and its folder. The server has to know its public URL before the proxy knows the server.
pub(crate) struct Place {
    folder: TempDir,
    /// Holds the port until the proxy takes it. It does not listen: a program that another test starts at that moment holds
    /// a copy for an instant, and no client must connect to that copy.
    port: Option<TcpSocket>,
    address: SocketAddr,
    running: Option<Child>,
    /// It has processes of its own, which it ends when it is told to.
    has_workers: bool,
}

impl Place {
    pub(crate) fn prepare() -> Self {
        let port = TcpSocket::new_v4().unwrap();
        port.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = port.local_addr().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), port: Some(port), address, running: None, has_workers: false }
    }

    /// Where the proxy listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs the proxy until this value ends, and waits until it listens.
    pub(crate) async fn run(&mut self, mut command: Command) {
        drop(self.port.take());
        let output = File::create(self.path("output.log")).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = self.running.insert(command.spawn().unwrap());
        let folder = self.folder.path().to_owned();
        let answering = eventually(|| {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the proxy does not start: {status}\n{}", logs(&folder));
            }
            async { TcpStream::connect(self.address).await.ok() }
        })
        .await;
        drop(answering.unwrap_or_else(|error| panic!("the proxy does not answer: {error}\n{}", logs(&folder))));
    }

    /// Like [`run`](Self::run), for a proxy that ends its own processes when it is told to.
    #[cfg(unix)]
    pub(crate) async fn run_to_its_end(&mut self, command: Command) {
        self.has_workers = true;
        self.run(command).await;
    }

    /// Sends the proxy a signal, such as `HUP`.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        super::process::send_signal(signal, self.running.as_ref().expect("the proxy runs").id());
    }

    /// How many processes the proxy has besides its own.
    #[cfg(unix)]
    pub(crate) fn workers(&self) -> usize {
        let id = self.running.as_ref().expect("the proxy runs").id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("Linux lists children");
        children.split_whitespace().count()
    }

    /// What the proxy has written.
    pub(crate) fn log(&self) -> String {
        logs(self.folder.path())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            if self.has_workers {
                super::process::send_signal("TERM", child.id());
            } else {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}

fn logs(folder: &std::path::Path) -> String {
    let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
    ["output.log", "start.log", "error.log", "access.log"].map(read).concat()
}

/// Sends one request as it is, from one of the machine's addresses.
pub(crate) async fn send_from(from: &str, to: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connect_from(from, to).await)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// Connects from one of the machine's addresses.
pub(crate) async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}
