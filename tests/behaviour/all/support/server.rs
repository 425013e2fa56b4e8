//! `entra-mcp serve` as a process of its own, with an emulator as Entra ID and Graph.
//!
//! The HTTP benchmark uses this file too.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use entra_mcp_emulator::Endpoints;
use serde_json::Value;

/// A running server, which ends with this value.
pub(crate) struct Server {
    child: Child,
    address: String,
    public_url: String,
    /// Where Prometheus finds metrics, if anywhere.
    metrics: Option<String>,
    log: PathBuf,
}

impl Server {
    /// Starts the server with its store and its log in a folder, which it works in.
    pub(crate) fn start(at: &Endpoints, folder: &Path, more: &[&str]) -> Self {
        Self::start_with(at, folder, more, &[])
    }

    /// The same, with environment variables.
    #[allow(clippy::disallowed_methods, reason = "the rules are for the host; this starts a program")]
    pub(crate) fn start_with(at: &Endpoints, folder: &Path, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let log = folder.join("server.log");
        let of_its_own = [String::from("--store"), folder.join("sessions.db").display().to_string()];
        let store = if more.contains(&"--store") { &[][..] } else { &of_its_own };
        let mut child = Command::new(env!("CARGO_BIN_EXE_entra-mcp-tested"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--tenant-id", &at.tenant_id, "--client-id", &at.confidential_client_id])
            .args(["--authority", &at.authority, "--graph-url", &at.graph])
            .args(store)
            .args(more)
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("AZURE_CLIENT_SECRET", &at.client_secret)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let mut server = Self { child, address: String::new(), public_url: String::new(), metrics: None, log };
        let ready: Value = serde_json::from_str(&ready)
            .unwrap_or_else(|_| panic!("the server says {ready:?}\n--- log\n{}", server.log()));
        let url = ready["public_url"].as_str().unwrap_or_else(|| panic!("no public URL in {ready}"));
        url.clone_into(&mut server.public_url);
        server.metrics = ready["metrics"].as_str().map(|address| format!("http://{address}"));
        ready["listening"].as_str().unwrap_or_default().clone_into(&mut server.address);
        server
    }

    /// Where it listens, whatever clients call it.
    #[allow(dead_code, reason = "the benchmark has no gateway")]
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Without a slash at its end.
    pub(crate) fn public_url(&self) -> &str {
        &self.public_url
    }

    /// An address below the public one.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.public_url)
    }

    /// The listener for metrics, with a path.
    #[allow(dead_code, reason = "the benchmark needs it not")]
    pub(crate) fn metrics(&self, path: &str) -> String {
        format!("{}{path}", self.metrics.as_deref().unwrap())
    }

    /// Sends SIGTERM, and waits for the end; the exit code.
    #[allow(dead_code, reason = "the benchmark needs it not")]
    #[allow(clippy::disallowed_methods, reason = "the rules are for the host; this starts a program")]
    pub(crate) fn end(&mut self) -> Option<i32> {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }

    /// The process's number.
    #[allow(dead_code, reason = "the benchmark asks for it")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
