//! A Redis of a benchmark's own, where `redis-server` is installed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// What the server writes when it has begun to accept connections.
const READY: &str = "Ready to accept connections";

/// A Redis that writes nothing to the disk, and ends with this value.
pub(crate) struct Redis {
    server: Child,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// `None` where `redis-server` does not start.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]).arg(folder.path());
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().ok()?;
        let mut log = BufReader::new(server.stdout.take()?);
        let redis = Self { server, port, folder };
        // Its log ends where the server does not start.
        let is_ready = log.by_ref().lines().map_while(Result::ok).any(|line| line.contains(READY));
        // It goes on writing, and must not meet a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        is_ready.then_some(redis)
    }

    /// Without a password.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A folder for this run.
    #[allow(dead_code, reason = "one of the benchmarks needs a file beside it")]
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
