//! `entra-mcp serve` and `entra-mcp client-secret` as processes.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::commands::Home;
use crate::support::patience::soon;
use crate::support::process::send_signal;

const SECRET: &str = "recognisable-client-secret";

/// The remote server in the emulator's own directory, and its secret there.
const CONFIDENTIAL: &str = "a0000000-0000-4000-a000-000000000002";
const CONFIDENTIAL_SECRET: &str = "confidential-client-secret-of-the-emulator";

pub(crate) struct Server {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    log: ChildStderr,
    /// What it prints when it listens.
    pub(crate) ready: Value,
}

/// `serve` on a free port, with a client secret.
pub(crate) fn serve(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    command.args(arguments).env("AZURE_CLIENT_SECRET", SECRET);
    command
}

impl Server {
    pub(crate) async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = child.stderr.take().unwrap();
        let line = soon(output.next_line()).await.expect("it starts").unwrap();
        let Some(line) = line else {
            let mut text = String::new();
            log.read_to_string(&mut text).await.unwrap();
            panic!("it does not start: {text}");
        };
        Self { child, output, log, ready: serde_json::from_str(&line).unwrap() }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ready["listening"].as_str().unwrap())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    async fn status(&self, path: &str) -> u16 {
        reqwest::get(self.url(path)).await.unwrap().status().as_u16()
    }

    /// Sends SIGTERM. Returns the exit code, what else was printed, and the log.
    pub(crate) async fn end(mut self) -> (Option<i32>, Vec<String>, String) {
        send_signal("TERM", self.pid());
        let (mut rest, mut log) = (Vec::new(), String::new());
        while let Some(line) = self.output.next_line().await.unwrap() {
            rest.push(line);
        }
        self.log.read_to_string(&mut log).await.unwrap();
        (self.child.wait().await.unwrap().code(), rest, log)
    }
}

/// Exit code, standard output and standard error of a program that ends by itself.
pub(crate) async fn run(mut command: Command, input: &str) -> (Option<i32>, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    // The write fails if the program ends without reading its input; that is acceptable.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = soon(child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn it_says_where_it_listens_serves_and_ends_with_0_when_it_is_asked_to() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &[])).await;
    let address = server.ready["listening"].as_str().unwrap().to_owned();
    let port = address.strip_prefix("127.0.0.1:").unwrap();
    assert_eq!(server.ready["public_url"], format!("http://localhost:{port}"));
    assert_eq!(server.status("/healthz").await, 200);
    assert_eq!(server.status("/nothing/here").await, 404);
    assert_eq!(server.status("/mcp").await, 405);

    let (code, rest, log) = server.end().await;
    assert_eq!((code, rest.as_slice()), (Some(0), &[][..]), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_memory_is_not_dumped_and_its_environment_shows_no_secret() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &[])).await;
    let shown = |name: &str| {
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{name}", server.pid())).unwrap()).into_owned()
    };
    // Without privileges, not even the environment can be read: the process is not dumpable.
    if rustix::process::geteuid().is_root() {
        let environment = shown("environ");
        assert!(environment.contains("AZURE_CLIENT_SECRET=") && !environment.contains(SECRET), "{environment:?}");
    } else {
        let denied = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap_err();
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    }
    let limits = shown("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let columns: Vec<_> = core.split_ascii_whitespace().collect();
    assert_eq!(columns, ["Max", "core", "file", "size", "0", "0", "bytes"]);
    assert_eq!(server.end().await.0, Some(0));
}

#[tokio::test]
async fn the_correlation_id_of_a_refused_request_leads_to_the_log() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &[])).await;
    let mut ids = Vec::new();
    for (path, status) in
        [("/authorize?client_id=nobody&login_hint=alice-hint", 400), ("/nothing/here", 404), ("/mcp", 405)]
    {
        let answer = reqwest::get(server.url(path)).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        ids.push(answer.headers()["x-correlation-id"].to_str().unwrap().to_owned());
    }
    let (_, _, log) = server.end().await;
    for id in ids {
        assert!(log.contains(&id), "{id} is not in {log}");
    }
    assert!(!log.contains("alice-hint"), "a query is in the log: {log}");
}

#[tokio::test]
async fn with_tokens_of_entra_alone_it_is_no_authorization_server_and_warns_of_an_app_id_uri_that_does_not_fit() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &["--token-mode", "bearer", "--app-id-uri", "api://mcp"])).await;
    assert_eq!(server.status("/authorize").await, 404);
    let metadata = reqwest::get(server.url("/.well-known/oauth-protected-resource/mcp")).await.unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.bytes().await.unwrap()).unwrap();
    assert_eq!(metadata["scopes_supported"][0], "api://mcp/access_as_user");
    let (issuer, public_url) = (metadata["authorization_servers"][0].as_str().unwrap(), &server.ready["public_url"]);
    assert!(issuer.ends_with("/v2.0") && !issuer.starts_with(public_url.as_str().unwrap()), "{issuer}");
    let (code, _, log) = server.end().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("AADSTS9010010"), "{log}");
}

#[tokio::test]
async fn it_tells_systemd_that_it_is_ready_and_that_it_ends() {
    let home = Home::new().await;
    let path = home.path().join("notify");
    let listener = tokio::net::UnixDatagram::bind(&path).unwrap();
    let mut command = serve(&home, &[]);
    command.env("NOTIFY_SOCKET", &path);
    let server = Server::start(command).await;
    let mut buffer = [0; 64];
    let length = soon(listener.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
    assert_eq!(server.end().await.0, Some(0));
    let length = soon(listener.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"STOPPING=1");
}

#[tokio::test]
async fn what_it_cannot_serve_with_stops_it_with_the_fix() {
    let home = Home::new().await;
    let empty = home.path().join("empty.toml");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    let rules = home.path().join("access.toml");
    std::fs::write(&rules, "[[access]]\ntool = 'getUserDetail'\n").unwrap();
    let rules = rules.to_str().unwrap();
    for (arguments, expected) in [
        (&["--config", empty][..], "App registrations > your app > Overview"),
        (&["--listen", "127.0.0.1:0", "--access-file", rules], "getUserDetails"),
        (&["--access-file", empty], "access"),
        (&["--tenant-id", "common"], "--allow-tenant"),
        (&["--listen", "0.0.0.0:0"], "--public-url"),
        (&["--listen", "0.0.0.0:0", "--public-url", "https://mcp.example.com"], "--trusted-proxy"),
        (&["--public-url", "http://mcp.example.com"], "https"),
        (&["--tls-cert", "/none", "--tls-key", "/none"], "/none"),
        (&["--tls-cert", "/none"], "tls-key"),
        (&["--client-secret-file", "/none"], "/none"),
        (&["--rate-limit", "token=many"], "token=50/15m"),
        (&["--ca-file", "/none"], "/none"),
    ] {
        let mut command = home.program(&["serve"]);
        command.args(arguments).env("AZURE_CLIENT_SECRET", SECRET).env("ENTRA_MCP_LISTEN", "127.0.0.1:0");
        let (code, output, log) = run(command, "").await;
        assert_eq!((code, output.as_str()), (Some(2), ""), "{arguments:?}: {log}");
        assert!(log.contains(expected), "{arguments:?}: {log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let home = Home::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, log) = run(serve(&home, &["--listen", &address]), "").await;
    assert_eq!(code, Some(2), "the flag is given twice: {log}");
    let mut command = home.program(&["serve", "--listen", &address]);
    command.env("AZURE_CLIENT_SECRET", SECRET);
    let (code, output, log) = run(command, "").await;
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(log.contains(&address), "{log}");
}

#[tokio::test]
async fn a_client_secret_is_kept_encrypted_in_the_store() {
    let home = Home::new().await;
    let without = |arguments: &[&str]| home.program(arguments);

    let (code, _, log) = run(without(&["serve", "--listen", "127.0.0.1:0"]), "").await;
    assert_eq!(code, Some(2));
    for way in ["AZURE_CLIENT_SECRET", "--client-secret-file", "entra-mcp client-secret set"] {
        assert!(log.contains(way), "{log}");
    }
    let (code, output, log) = run(without(&["client-secret", "set"]), &format!("{SECRET}\n")).await;
    assert_eq!((code, output.as_str(), log.as_str()), (Some(0), "The client secret is stored.\n", ""));
    let folder = home.path().join(".local/share/entra-mcp");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!content.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    }
    let server = Server::start(without(&["serve", "--listen", "127.0.0.1:0"])).await;
    assert_eq!(server.status("/healthz").await, 200);
    assert_eq!(server.end().await.0, Some(0));

    assert_eq!(run(without(&["client-secret", "delete"]), "").await.0, Some(0));
    assert_eq!(run(without(&["serve", "--listen", "127.0.0.1:0"]), "").await.0, Some(2));
}

#[tokio::test]
async fn what_is_no_client_secret_is_not_stored() {
    let home = Home::new().await;
    for input in ["", "\n", "a\nb\n"] {
        let (code, output, _) = run(home.program(&["client-secret", "set"]), input).await;
        assert_eq!((code, output.as_str()), (Some(2), ""), "{input:?}");
    }
    let memory = home.program(&["client-secret", "set", "--store", "memory"]);
    assert_eq!(run(memory, SECRET).await.0, Some(2));
}

#[tokio::test]
async fn in_a_server_of_isolated_requests_every_request_is_served() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &["--isolation", "per-request", "--max-instances", "1"])).await;
    for _ in 0..3 {
        assert_eq!(server.status("/healthz").await, 200);
    }
    assert_eq!(server.end().await.0, Some(0));
}

#[tokio::test]
async fn the_bound_of_an_oauth_endpoint_holds_in_the_program() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &["--rate-limit", "token=1/1h"])).await;
    assert_eq!(server.status("/token").await, 405);
    let refused = reqwest::get(server.url("/token")).await.unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&after), "{after}");
    assert_eq!(server.end().await.0, Some(0));
}

#[tokio::test]
async fn a_server_that_is_told_to_does_not_start_where_entra_id_does_not_know_it() {
    let home = Home::new().await;
    let unknown = "99999999-0000-4000-a000-000000000009";
    for (arguments, expected) in [
        (&["--tenant-id", unknown][..], &["AADSTS90002", unknown][..]),
        (&["--client-id", unknown], &["AADSTS700016", unknown]),
        (&["--client-id", CONFIDENTIAL], &["AADSTS7000215", CONFIDENTIAL]),
        (&["--authority", "http://127.0.0.1:9"], &["Microsoft Entra ID cannot be reached: the connection was refused"]),
    ] {
        let mut command = serve(&home, arguments);
        command.args(["--check", "fail"]);
        let (code, output, log) = run(command, "").await;
        assert_eq!((code, output.as_str()), (Some(2), ""), "{arguments:?}: {log}");
        assert!(expected.iter().all(|part| log.contains(part)), "{arguments:?}: {log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

#[tokio::test]
async fn a_server_that_entra_id_knows_starts_and_is_ready() {
    let home = Home::new().await;
    let mut command = serve(&home, &["--check", "fail", "--client-id", CONFIDENTIAL]);
    command.env("AZURE_CLIENT_SECRET", CONFIDENTIAL_SECRET);
    let server = Server::start(command).await;
    assert_eq!(server.status("/readyz").await, 200);
    let (code, _, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("found a problem"), "{log}");
}

#[tokio::test]
async fn a_server_that_never_met_its_authority_is_not_ready() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &["--authority", "http://127.0.0.1:9"])).await;
    assert_eq!((server.status("/healthz").await, server.status("/readyz").await), (200, 503));
    assert_eq!(server.end().await.0, Some(0));
}

#[tokio::test]
async fn the_log_names_the_reason_of_a_refusal_and_no_person_where_records_go_to_a_file() {
    let home = Home::new().await;
    let file = home.path().join("audit.jsonl");
    let arguments = ["--token-mode", "bearer", "--audit-file", file.to_str().unwrap()];
    let server = Server::start(serve(&home, &arguments)).await;
    let request = reqwest::Client::new().post(server.url("/mcp")).bearer_auth("eyJhbGciOiJub25lIn0.e30.x").body("{}");
    assert_eq!(request.send().await.unwrap().status(), 401);
    let (_, _, log) = server.end().await;
    let records = std::fs::read_to_string(&file).unwrap();
    let mut records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let refused = records.find(|record| record["event"] == "token.refused").expect("it is recorded");
    let (reason, id) = (refused["reason"].as_str().unwrap(), refused["correlation_id"].as_str().unwrap());
    let line = log.lines().find(|line| line.contains("token.refused")).expect("it is in the log");
    assert!(line.contains(reason) && line.contains(id), "{line}");
}

#[tokio::test]
async fn what_a_client_in_the_file_cannot_be_sent_back_to_stops_the_server() {
    let home = Home::new().await;
    let file = home.path().join("serve.toml");
    let base = std::fs::read_to_string(home.path().join(".config/entra-mcp/config.toml")).unwrap();
    for (uri, expected) in [
        ("http://mcp.example.com/back", "unless its host is localhost"),
        ("https://mcp.example.com/#here", "must not have a fragment"),
        ("javascript://x/", "unless the operator of the server admits its scheme"),
    ] {
        let client = format!("\n[[clients]]\nclient-id = 'x'\nname = 'X'\nredirect-uris = ['{uri}']\n");
        std::fs::write(&file, base.clone() + &client).unwrap();
        let (code, output, log) = run(serve(&home, &["--config", file.to_str().unwrap()]), "").await;
        assert_eq!((code, output.as_str()), (Some(2), ""), "{uri}: {log}");
        assert!(log.contains(expected) && log.contains(uri), "{uri}: {log}");
    }
    let client = "\n[[clients]]\nclient-id = 'x'\nname = 'X'\nredirect-uris = ['cursor://anysphere.cursor-mcp/oauth/callback']\n";
    std::fs::write(&file, base + client).unwrap();
    let server = Server::start(serve(&home, &["--config", file.to_str().unwrap()])).await;
    assert_eq!(server.end().await.0, Some(0));
}
