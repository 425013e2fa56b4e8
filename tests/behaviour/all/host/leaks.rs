//! No token, code or secret that the emulator has ever issued is found where others could read it: in logs with everything in
//! them, in what a process shows of itself, in its files, and in a core file, which there is none of.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use entra_mcp_emulator::Endpoint;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::commands::Home;
use crate::support::patience::soon;
use crate::support::process::send_signal;
use crate::support::remote::call_request;
use crate::support::session;

const ALICE: &str = "alice@contoso.example";

/// A process whose log has everything in it, and whose working directory is the home.
struct Running {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    written: Vec<String>,
}

impl Running {
    fn start(home: &Home, mut command: Command) -> Self {
        let log = File::create(home.path().join("log")).unwrap();
        command.env("RUST_LOG", "trace").current_dir(home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output).lines(), written: Vec::new() }
    }

    async fn line(&mut self) -> Value {
        let line = soon(self.output.next_line()).await.expect("it answers").unwrap().expect("it goes on");
        self.written.push(line.clone());
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        loop {
            let line = self.line().await;
            if line["id"] == message["id"] {
                return line;
            }
        }
    }

    /// What it shows of itself, by the name of the place.
    fn shown(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let own = Path::new("/proc").join(self.child.id().unwrap().to_string());
        // Without privileges, its environment cannot be read at all.
        let readable = ["cmdline", "environ"].map(|name| own.join(name));
        let mut shown: Vec<_> =
            readable.into_iter().filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect();
        shown.push((PathBuf::from("standard output"), self.written.join("\n").into_bytes()));
        shown
    }

    /// Makes it fail as a fault in its own code would, and waits for its end.
    async fn abort(mut self) {
        send_signal("ABRT", self.child.id().unwrap());
        let ended = soon(self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false), "{ended}");
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(content) = std::fs::read(&path) {
                files.push((path, content));
            }
        }
    }
    files
}

/// The places in which one of the secrets is, and the number of the secret.
fn found(places: &[(PathBuf, Vec<u8>)], secrets: &[String]) -> Vec<(PathBuf, usize)> {
    let has = |content: &[u8], secret: &str| content.windows(secret.len()).any(|part| part == secret.as_bytes());
    let numbered = || secrets.iter().enumerate();
    let in_place = |(path, content): &(PathBuf, Vec<u8>)| {
        numbered()
            .filter(|(_, secret)| has(content, secret))
            .map(|(number, _)| (path.clone(), number))
            .collect::<Vec<_>>()
    };
    places.iter().flat_map(in_place).collect()
}

/// Nothing is found, though the same search finds what is there.
fn assert_nothing_leaks(home: &Home, running: &Running, secrets: &[String], at_least: usize) {
    assert!(secrets.len() >= at_least, "{} secrets", secrets.len());
    assert!(secrets.iter().all(|secret| secret.len() >= 16), "{secrets:?}");
    let mut places = files(home.path());
    let log = places.iter().find(|(path, _)| path.ends_with("log")).unwrap();
    assert!(String::from_utf8_lossy(&log.1).contains("DEBUG"), "the log has everything in it");
    places.extend(running.shown());
    let leaks = found(&places, secrets);
    assert!(leaks.is_empty(), "{leaks:?}");
    places.push((PathBuf::from("planted"), format!("x{}x", secrets.last().unwrap()).into_bytes()));
    assert_eq!(found(&places, secrets), [(PathBuf::from("planted"), secrets.len() - 1)]);
}

fn no_core_file(home: &Home) {
    let cores: Vec<_> = files(home.path())
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("core")))
        .collect();
    assert_eq!(cores, [] as [PathBuf; 0]);
}

#[tokio::test]
async fn the_server_on_standard_streams_shows_no_token_anywhere() {
    let home = Home::new().await;
    let control = home.emulator().control();
    control.keep_issued();
    // Less than the time before its end at which a token is refreshed, so that there are several.
    control.change_policy(|policy| {
        (policy.access_token_shortest, policy.access_token_longest, policy.continuous_access_token) = (90, 90, 90);
    });
    let mut server = Running::start(&home, home.program_with_person(&["stdio"]));
    let client = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    server.ask(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await;
    let call = |id: u32| {
        let params = json!({ "name": "GetUserDetailsFromGraph", "arguments": {} });
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
    };
    let answer = server.ask(call(1)).await;
    assert!(answer.to_string().contains("Alice"), "{answer}");
    control.change_policy(|policy| {
        (policy.access_token_shortest, policy.access_token_longest, policy.continuous_access_token) = (50, 50, 50);
    });
    assert!(home.program(&["whoami"]).output().await.unwrap().status.success(), "it refreshes the token");
    server.ask(call(2)).await;
    assert!(control.request_count(Endpoint::Token) >= 2);
    // A code, and tokens of a sign-in and of a refresh.
    assert_nothing_leaks(&home, &server, &control.issued(), 6);
    server.abort().await;
    no_core_file(&home);
}

#[tokio::test]
async fn the_remote_server_shows_no_token_and_no_secret_anywhere() {
    let home = Home::new().await;
    let control = home.emulator().control();
    control.keep_issued();
    let at = home.emulator().endpoints();
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0", "--client-id", &at.confidential_client_id]);
    command.env("AZURE_CLIENT_SECRET", &at.client_secret);
    let mut server = Running::start(&home, command);
    let ready = server.line().await;
    let url = ready["public_url"].as_str().unwrap();
    let session = session::sign_in(url, "/mcp", ALICE).await;
    let call = async |token: &str| {
        let (parts, body) = call_request(token).into_parts();
        let request = reqwest::Client::new().post(format!("{url}{}", parts.uri)).headers(parts.headers).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = call(&session.access_token).await;
    assert!(status == 200 && text.contains("Alice"), "{text}");
    let forged = "a-token-that-was-never-issued";
    assert_eq!(call(forged).await.0, 401);

    let mut secrets = control.issued();
    secrets.extend([session.access_token, session.refresh_token, at.client_secret.clone(), forged.to_owned()]);
    // A code and three tokens of the sign-in, the session's own two, the application's secret, and what was refused.
    assert_nothing_leaks(&home, &server, &secrets, 8);
    server.abort().await;
    no_core_file(&home);
}
