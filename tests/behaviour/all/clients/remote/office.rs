//! Where a remote server is used: the server, Entra ID as the emulator, a client's program, and its person.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use entra_mcp_emulator::{Builder, Emulator, Endpoint};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::clients::person::{Habit, Person, Visit};
use crate::support::nginx::Gateway;
use crate::support::patience::soon;
use crate::support::process;
use crate::support::server::Server;

pub(crate) struct Office {
    pub(crate) emulator: Emulator,
    pub(crate) server: Server,
    person: Person,
    folder: TempDir,
    /// The server's self-signed certificate and its key, if it has them.
    certificate: Option<[PathBuf; 2]>,
}

/// How many requests the emulator had.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Requests {
    pub(crate) authorize: u64,
    /// Of those for a code: refreshes depend on how fast the machine is, when tokens live for seconds.
    pub(crate) codes_redeemed: usize,
}

impl Office {
    /// Access tokens of Entra ID live for this many seconds, and those of sessions no longer.
    pub(crate) async fn new(lifetime_seconds: i64) -> Self {
        Self::start(tempfile::tempdir().unwrap(), lifetime_seconds, None, &[]).await
    }

    /// As [`Self::new`], with more arguments for the server.
    pub(crate) async fn with(lifetime_seconds: i64, arguments: &[&str]) -> Self {
        Self::start(tempfile::tempdir().unwrap(), lifetime_seconds, None, arguments).await
    }

    /// As [`Self::new`], behind a gateway, which is not started.
    pub(crate) async fn behind(lifetime_seconds: i64, gateway: &Gateway, arguments: &[&str]) -> Self {
        let (certificate, public_url) = (gateway.certificate(), gateway.public_url());
        let own = ["--public-url", &public_url, "--trusted-proxy", "127.0.0.1/32"];
        let folder = tempfile::tempdir().unwrap();
        Self::start(folder, lifetime_seconds, Some(certificate), &[&own, arguments].concat()).await
    }

    /// As [`Self::new`], with TLS.
    pub(crate) async fn with_tls(lifetime_seconds: i64) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let paths = ["server.pem", "server.key"].map(|name| folder.path().join(name));
        for (path, content) in paths.iter().zip([certificate.pem(), key.serialize_pem()]) {
            std::fs::write(path, content).unwrap();
        }
        let [certificate, key] = paths.each_ref().map(|path| path.to_str().unwrap().to_owned());
        let arguments = ["--tls-cert", &certificate, "--tls-key", &key];
        Self::start(folder, lifetime_seconds, Some(paths), &arguments).await
    }

    /// An office whose emulator has a certificate, without which MSAL does not sign in, and default token lifetimes.
    pub(crate) async fn of_msal(arguments: &[&str]) -> Self {
        let emulator = Builder::new().tls(true).start().await.unwrap();
        let authority = emulator.endpoints().ca.clone().unwrap();
        let trusting = ["--ca-file", authority.to_str().unwrap()];
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(emulator.endpoints(), folder.path(), &[&trusting, arguments].concat());
        Self::open(folder, emulator, server, None)
    }

    async fn start(
        folder: TempDir,
        lifetime_seconds: i64,
        certificate: Option<[PathBuf; 2]>,
        arguments: &[&str],
    ) -> Self {
        let emulator = Builder::new().start().await.unwrap();
        emulator.control().change_policy(|policy| {
            policy.access_token_shortest = lifetime_seconds;
            policy.access_token_longest = lifetime_seconds;
            policy.continuous_access_token = lifetime_seconds;
        });
        let mut arguments = arguments.to_vec();
        if let Some([certificate, _]) = &certificate {
            // For clients on this machine that are described by a document.
            let certificate = certificate.to_str().unwrap();
            arguments.extend(["--ca-file", certificate, "--client-metadata-allow", "localhost"]);
        }
        let server = Server::start(emulator.endpoints(), folder.path(), &arguments);
        Self::open(folder, emulator, server, certificate)
    }

    fn open(folder: TempDir, emulator: Emulator, server: Server, certificate: Option<[PathBuf; 2]>) -> Self {
        // Entra ID ignores the port for http alone.
        let redirect_uri = server.at("/auth/callback");
        let client = &emulator.endpoints().confidential_client_id;
        emulator.control().change_application(client, |client| client.web_redirect_uris.push(redirect_uri)).unwrap();
        let authority = emulator.endpoints().ca.clone();
        let trusted = certificate.as_ref().map(|[certificate, _]| certificate.clone()).or(authority);
        let person = Person::trusting(folder.path(), &[Habit::SignsInOnceAwaited; 2], trusted);
        Self { emulator, server, person, folder, certificate }
    }

    /// A client's program with nothing of this process's environment but the search path.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = process::command(program);
        command
            .env_clear()
            .env("PATH", process::path())
            .env("HOME", self.folder.path())
            .env("OPENER", self.person.client_opener())
            .env("BROWSER", self.person.client_opener());
        if let Some([certificate, _]) = &self.certificate {
            command.env("NODE_EXTRA_CA_CERTS", certificate).env("SSL_CERT_FILE", certificate);
        }
        if let Some(authority) = &self.emulator.endpoints().ca {
            command.env("NODE_EXTRA_CA_CERTS", authority).env("REQUESTS_CA_BUNDLE", authority);
        }
        command
    }

    /// Lets a client's program serve the document that describes it.
    pub(crate) fn describe(&self, command: &mut Command) {
        let [certificate, key] = self.certificate.as_ref().expect("only a server with TLS is told to look for it here");
        command.env("CERTIFICATE", certificate).env("KEY", key);
    }

    /// A program that shows its argument to the person.
    pub(crate) fn opener(&self) -> &Path {
        self.person.client_opener()
    }

    /// Runs a client's program to its end; returns the last line it prints.
    pub(crate) async fn run(&self, command: &mut Command) -> Value {
        let stdout = self.output(command).await;
        serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
    }

    /// Runs a client's program to its end; returns what it prints.
    pub(crate) async fn output(&self, command: &mut Command) -> String {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let output = soon(child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("the client does not end\n--- server\n{}", self.server.log()))
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let log = self.server.log();
        assert!(
            output.status.success(),
            "{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n--- server\n{log}",
            output.status
        );
        // Shown with a failed test only.
        println!("{stdout}\n--- stderr\n{stderr}\n--- server\n{log}");
        stdout
    }

    /// The home folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn requests(&self) -> Requests {
        let control = self.emulator.control();
        let token = control.requests(Endpoint::Token);
        Requests {
            authorize: control.request_count(Endpoint::Authorize),
            codes_redeemed: token
                .iter()
                .flat_map(|request| &request.form)
                .filter(|(name, value)| name == "grant_type" && value == "authorization_code")
                .count(),
        }
    }

    /// Ends; returns the pages that were opened. What the server has written says nothing about the person.
    pub(crate) async fn leave(self) -> Vec<Visit> {
        let log = self.server.log();
        for told in ["alice", "Alice", "Anderson", "contoso.example"] {
            assert!(!log.contains(told), "the log names {told}\n{log}");
        }
        self.person.leave().await
    }
}
