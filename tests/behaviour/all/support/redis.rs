//! Servers that speak the protocol of Redis, on free ports.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::sync::Arc;

use entra_mcp_plugin::clock::Clock;
use entra_mcp_plugin::secret_store::{
    DataKeys, GivenDataKeys, KEY_BYTES, KeySource, RedisOptions, RedisStore, RedisUrl,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::patience::eventually;
use super::process::{self, send_signal};
use super::tools;

/// A server, which ends with this value.
pub(crate) struct Redis {
    program: &'static str,
    arguments: Vec<String>,
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Redis {
    /// Starts `redis-server` or `valkey-server`. What is written is on the disk when it is answered.
    pub(crate) async fn start(program: &'static str) -> Self {
        Self::start_with(program, &["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// The same with other arguments.
    pub(crate) async fn start_with(program: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        // The server takes the port a moment later. Another program that asks for a free one gets another one meanwhile.
        let mut redis = Self { program, arguments, folder, port: free_port(), running: None };
        redis.run().await;
        redis
    }

    /// Starts one server that is a whole cluster.
    pub(crate) async fn start_cluster(more: &[&str]) -> Self {
        // Nodes talk to each other on a port that is 10,000 higher otherwise, and there may be none.
        let between = free_port().to_string();
        let arguments = [&["--cluster-enabled", "yes", "--cluster-port", between.as_str()][..], more].concat();
        let redis = Self::start_with("redis-server", &arguments).await;
        redis.say("CLUSTER ADDSLOTSRANGE 0 16383").await;
        let is_ready = || async { redis.say("CLUSTER INFO").await.contains("cluster_state:ok").then_some(()) };
        eventually(is_ready).await.unwrap();
        redis
    }

    /// Starts a sentinel with a configuration, which it changes.
    pub(crate) async fn start_sentinel(configuration: &std::path::Path) -> Self {
        Self::start_with("redis-server", &[configuration.to_str().unwrap(), "--sentinel"]).await
    }

    /// Starts the server (again), on the same port and with the records that it has on the disk.
    pub(crate) async fn run(&mut self) {
        let output = File::create(self.folder.path().join("output.log")).unwrap();
        let mut command = process::blocking(tools::redis(self.program));
        // The file of a sentinel comes first, and a sentinel saves nothing.
        let (first, rest) = match self.arguments.split_first() {
            Some((file, rest)) if file.ends_with(".conf") => (Some(file), rest),
            _ => (None, self.arguments.as_slice()),
        };
        command.args(first).args(rest).args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"]);
        command.arg(self.folder.path());
        if first.is_none() {
            command.args(["--save", ""]);
        }
        let child = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        self.running = Some(child);
        let answering = eventually(|| async {
            let mut connection = TcpStream::connect(self.address()).await.ok()?;
            connection.write_all(b"PING\r\n").await.ok()?;
            let mut answer = [0; 5];
            connection.read_exact(&mut answer).await.ok()?;
            // It loads its records, or wants a password, which is an answer too.
            (answer != *b"-LOAD").then_some(())
        });
        let log = || std::fs::read_to_string(self.folder.path().join("output.log"));
        answering.await.unwrap_or_else(|error| panic!("{} does not answer: {error}\n{:?}", self.program, log()));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Without a password.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// Ends the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the server: it accepts connections, and answers nothing.
    pub(crate) fn hang(&self) {
        send_signal("STOP", self.running.as_ref().unwrap().id());
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        send_signal("CONT", self.running.as_ref().unwrap().id());
    }

    /// What the server has on its disk.
    pub(crate) fn disk(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    all.extend(std::fs::read(path).unwrap());
                }
            }
        }
        all
    }

    /// Sends a command as it is, in one line, and returns the beginning of the answer.
    pub(crate) async fn say(&self, line: &str) -> String {
        let mut connection = TcpStream::connect(self.address()).await.unwrap();
        connection.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        let length = connection.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// How this store is reached.
    pub(crate) fn options(&self) -> RedisOptions {
        options(&self.url())
    }

    /// A store on this server, as another process would have it.
    pub(crate) async fn open(&self, clock: Arc<dyn Clock>) -> RedisStore {
        RedisStore::connect(&self.options(), keys(), clock).await.unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that no program has at the moment.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub(crate) fn options(url: &str) -> RedisOptions {
    RedisOptions { url: RedisUrl::parse(url).unwrap(), prefix: "test:".to_owned(), ca_file: None }
}

/// One key for all processes.
pub(crate) fn keys() -> Arc<dyn KeySource> {
    Arc::new(GivenDataKeys::new(DataKeys::parse(&[7; KEY_BYTES]).unwrap(), "the test"))
}
