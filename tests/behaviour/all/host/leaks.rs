//! No token, code or secret that the emulator has ever issued is found where others could read it: in logs with everything in
//! them, in the message of a panic, in what a process and those that it starts show of themselves, in its files, and in a core
//! file, which there is none of.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use entra_mcp_emulator::{DeviceOutcome, DeviceScript, Endpoint};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use url::form_urlencoded;

use super::behind::SCRIPT;
use super::commands::Home;
use crate::support::patience::{pause, soon, until};
use crate::support::process::send_signal;
use crate::support::redis::Redis;
use crate::support::remote::{call_request, tool_request};
use crate::support::session::{self, Session};
use crate::tools::mail::bearer;

const ALICE: &str = "alice@contoso.example";

/// The variable with the name of a file that makes the program panic (`programs/tested`).
const PANICS_IF: &str = "ENTRA_MCP_TESTED_PANICS_IF";

/// The processes that a process has started, and those that these have started: what they show of themselves, at every look.
struct Descendants {
    seen: Arc<Mutex<BTreeSet<(PathBuf, Vec<u8>)>>>,
    looking: JoinHandle<()>,
}

impl Descendants {
    fn of(process: u32) -> Self {
        let seen = Arc::<Mutex<BTreeSet<_>>>::default();
        let found = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            loop {
                let mut family = vec![process];
                let (parents, mut next) = (parents(), 0);
                while let Some(one) = family.get(next).copied() {
                    family.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(child, _)| *child));
                    next += 1;
                }
                for child in family.split_off(1) {
                    let own = Path::new("/proc").join(child.to_string());
                    for path in ["cmdline", "environ"].map(|name| own.join(name)) {
                        // It may have ended, or be of another user.
                        if let Ok(content) = std::fs::read(&path) {
                            found.lock().unwrap().insert((path, content));
                        }
                    }
                }
                pause().await;
            }
        });
        Self { seen, looking }
    }

    /// Whether the environment of a process with this in its command line was seen.
    fn have(&self, command: &str) -> bool {
        let seen = self.seen.lock().unwrap();
        let called = |content: &[u8]| String::from_utf8_lossy(content).contains(command);
        let mut named = seen.iter().filter(|(path, content)| path.ends_with("cmdline") && called(content));
        named.any(|(path, _)| seen.iter().any(|(other, _)| *other == path.with_file_name("environ")))
    }
}

impl Drop for Descendants {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// All processes, each with its parent.
fn parents() -> Vec<(u32, u32)> {
    let read = |entry: std::fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read(entry.path().join("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat).into_owned();
        // Behind the name, which may have anything in it, stand the state and the parent (proc(5)).
        let (_, behind_the_name) = stat.rsplit_once(')')?;
        let parent: u32 = behind_the_name.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some((id, parent))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter_map(read).collect()
}

/// A process whose log has everything in it, and whose working directory is the home.
struct Running {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    written: Vec<String>,
    descendants: Descendants,
}

impl Running {
    fn start(home: &Home, mut command: Command) -> Self {
        let log = File::create(home.path().join("log")).unwrap();
        command.env("RUST_LOG", "trace").current_dir(home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let descendants = Descendants::of(child.id().unwrap());
        Self { child, input, output: BufReader::new(output).lines(), written: Vec::new(), descendants }
    }

    async fn line(&mut self) -> Value {
        let line = soon(self.output.next_line()).await.expect("it answers").unwrap().expect("it goes on");
        self.written.push(line.clone());
        serde_json::from_str(&line).unwrap()
    }

    async fn say(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.say(&message).await;
        loop {
            let line = self.line().await;
            if line["id"] == message["id"] {
                return line;
            }
        }
    }

    /// Begins the connection of a client.
    async fn initialize(&mut self) {
        let client = json!({ "name": "test", "version": "1" });
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
        self.ask(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await;
    }

    /// What it and the processes that it has started show of themselves, by the name of the place.
    fn shown(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let own = Path::new("/proc").join(self.child.id().unwrap().to_string());
        let mut shown = vec![(own.join("cmdline"), std::fs::read(own.join("cmdline")).unwrap())];
        match std::fs::read(own.join("environ")) {
            Ok(environment) => shown.push((own.join("environ"), environment)),
            // Without privileges, its environment cannot be read at all.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                assert!(!rustix::process::geteuid().is_root());
            }
        }
        shown.extend(self.descendants.seen.lock().unwrap().iter().cloned());
        shown.push((PathBuf::from("standard output"), self.written.join("\n").into_bytes()));
        shown
    }

    /// Makes it fail as a fault in its own code would, and waits for its end. The system writes no core file of it,
    /// wherever it writes core files, and hands none to a program.
    async fn abort(mut self, secrets: &[String]) {
        let before = core_files();
        send_signal("ABRT", self.child.id().unwrap());
        let ended = soon(self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false), "{ended}");
        // Those of other processes may be among them.
        let after = core_files();
        let new = after.difference(&before).filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?)));
        let leaks = found(&new.collect::<Vec<_>>(), secrets);
        assert!(leaks.is_empty(), "{leaks:?}");
    }
}

/// The core files in the folder that `kernel.core_pattern` names, if it names one (core(5)). Without a folder, they are
/// in the working directory, which is the home.
fn core_files() -> BTreeSet<PathBuf> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let pattern = Path::new(pattern.trim_end());
    let name = pattern.file_name().and_then(|name| name.to_str());
    let folder = pattern.parent().filter(|folder| folder.is_absolute());
    let (Some(folder), Some(name)) = (folder, name) else { return BTreeSet::new() };
    let begin = name.split('%').next().unwrap_or_default();
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_core =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(begin));
    paths.filter(is_core).collect()
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

/// A secret as it may be written: as it is, percent-encoded, as JSON has it, and as a part of a text in base64.
fn forms(secret: &str) -> Vec<String> {
    let in_json = json!(secret).to_string();
    let mut forms = vec![secret.to_owned(), in_json[1..in_json.len() - 1].to_owned()];
    forms.push(form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3_usize {
            let text = [&[0; 3][..before], secret.as_bytes()].concat();
            // Without the characters that depend on what stands before and behind it.
            let (begin, end) = ((8 * before).div_ceil(6), 8 * text.len() / 6);
            forms.push(engine.encode(&text)[begin..end].to_owned());
        }
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// The places in which one of the secrets is, in any form, and the number of the secret.
fn found(places: &[(PathBuf, Vec<u8>)], secrets: &[String]) -> Vec<(PathBuf, usize)> {
    let forms: Vec<_> = secrets.iter().map(|secret| forms(secret)).collect();
    let mut found = Vec::new();
    for (path, content) in places {
        let text = String::from_utf8_lossy(content);
        let is_here = |forms: &Vec<String>| forms.iter().any(|form| text.contains(form.as_str()));
        let here = forms.iter().enumerate().filter(|(_, forms)| is_here(forms));
        found.extend(here.map(|(number, _)| (path.clone(), number)));
    }
    found
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
    for form in forms(secrets.last().unwrap()) {
        let planted = (PathBuf::from("planted"), format!("x{form}x").into_bytes());
        assert_eq!(found(&[planted], secrets), [(PathBuf::from("planted"), secrets.len() - 1)]);
    }
}

#[test]
fn a_secret_is_found_in_the_forms_in_which_it_is_written() {
    let secret = "recognisable/secret+\"1\"";
    for before in ["", "a", "ab", "abc"] {
        for behind in ["", "y", "yz"] {
            let whole = format!("{before}{secret}{behind}");
            for written in [
                json!({ "member": whole }).to_string(),
                form_urlencoded::Serializer::new(String::new()).append_pair("name", &whole).finish(),
                base64::engine::general_purpose::STANDARD.encode(&whole),
                base64::engine::general_purpose::URL_SAFE.encode(&whole),
                whole,
            ] {
                assert_eq!(
                    found(&[(PathBuf::new(), written.clone().into_bytes())], &[secret.to_owned()]).len(),
                    1,
                    "{written}"
                );
            }
        }
    }
    assert!(found(&[(PathBuf::new(), b"recognisable/secret+1".to_vec())], &[secret.to_owned()]).is_empty());
}

/// The program panics once there is a file, [`make_it_panic`].
fn panicking(home: &Home, mut command: Command) -> Command {
    command.env(PANICS_IF, home.path().join("panic"));
    command
}

fn make_it_panic(home: &Home) {
    std::fs::write(home.path().join("panic"), "").unwrap();
}

/// Waits until the whole message of the panic is in the log.
async fn has_panicked(home: &Home) {
    let log = || String::from_utf8_lossy(&std::fs::read(home.path().join("log")).unwrap()).into_owned();
    let is_told = || {
        let log = log();
        log.contains("a test asks for this panic: [redacted]") && log.contains("note: run with `RUST_BACKTRACE=1`")
    };
    until(is_told).await.unwrap_or_else(|error| panic!("it does not panic: {error}\n{}", log()));
}

/// A call of the local server.
fn local_call(id: u32) -> Value {
    let params = json!({ "name": "GetUserDetailsFromGraph", "arguments": {} });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

/// A call of the remote server.
fn remote_call(url: &str, request: http::Request<Vec<u8>>) -> reqwest::RequestBuilder {
    let (parts, body) = request.into_parts();
    reqwest::Client::new().post(format!("{url}{}", parts.uri)).headers(parts.headers).body(body)
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
    server.initialize().await;
    let answer = server.ask(local_call(1)).await;
    assert!(answer.to_string().contains("Alice"), "{answer}");
    control.change_policy(|policy| {
        (policy.access_token_shortest, policy.access_token_longest, policy.continuous_access_token) = (50, 50, 50);
    });
    assert!(home.program(&["whoami"]).output().await.unwrap().status.success(), "it refreshes the token");
    server.ask(local_call(2)).await;
    assert!(control.request_count(Endpoint::Token) >= 2);
    assert!(server.descendants.have("headless-browser"), "the browser was looked at");
    // A code, and tokens of a sign-in and of a refresh.
    assert_nothing_leaks(&home, &server, &control.issued(), 6);
    server.abort(&control.issued()).await;
    no_core_file(&home);
}

#[tokio::test]
async fn the_remote_server_shows_no_token_and_no_secret_anywhere() {
    let home = Home::new().await;
    let control = home.emulator().control();
    control.keep_issued();
    let at = home.emulator().endpoints();
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0", "--client-id", &at.confidential_client_id]);
    command.args(["--token-mode", "both", "--required-scope", "Mcp.Access", "--profile-cache-seconds", "0"]);
    command.env("AZURE_CLIENT_SECRET", &at.client_secret);
    let mut server = Running::start(&home, command);
    let ready = server.line().await;
    let url = ready["public_url"].as_str().unwrap();
    let session = session::sign_in(url, "/mcp", ALICE).await;
    let call = async |token: &str| {
        let answer = remote_call(url, call_request(token)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = call(&session.access_token).await;
    assert!(status == 200 && text.contains("Alice"), "{text}");
    // A token of Entra ID, which is exchanged for another one on behalf of its person.
    let token = bearer(home.emulator(), ALICE).await;
    let (status, text) = call(&token).await;
    assert!(status == 200 && text.contains("Alice"), "{text}");
    let exchanges = control.requests(Endpoint::Token);
    assert!(exchanges.iter().any(|request| request.form("requested_token_use") == Some("on_behalf_of")));
    let forged = "a-token-that-was-never-issued";
    assert_eq!(call(forged).await.0, 401);

    let mut secrets = control.issued();
    secrets.extend([session.access_token, session.refresh_token, at.client_secret.clone(), forged.to_owned()]);
    // A code and three tokens of the sign-in, a code and a token of the other one, a token of the exchange, the session's own
    // two, the application's secret, and what was refused.
    assert_nothing_leaks(&home, &server, &secrets, 11);
    server.abort(&secrets).await;
    no_core_file(&home);
}

#[tokio::test]
async fn a_sign_in_by_device_code_shows_no_code_and_no_token_anywhere() {
    let home = Home::new().await;
    let control = home.emulator().control();
    control.keep_issued();
    let outcome = Some(DeviceOutcome::ApprovedBy(ALICE.to_owned()));
    control.script_device_codes(DeviceScript { interval: Some(0), outcome, ..DeviceScript::default() });
    let mut server = Running::start(&home, home.program(&["stdio", "--sign-in", "device-code"]));
    server.initialize().await;
    let answer = server.ask(local_call(1)).await;
    assert!(answer.to_string().contains("Alice"), "{answer}");
    assert_eq!(control.request_count(Endpoint::DeviceCode), 1);
    // The device code, and three tokens. The code that the person enters is for all to see.
    assert_nothing_leaks(&home, &server, &control.issued(), 4);
    server.abort(&control.issued()).await;
    no_core_file(&home);
}

#[tokio::test]
async fn a_panic_of_the_server_on_standard_streams_shows_no_token() {
    let home = Home::new().await;
    let control = home.emulator().control();
    control.keep_issued();
    let mut server = Running::start(&home, panicking(&home, home.program_with_person(&["stdio"])));
    server.initialize().await;
    let answer = server.ask(local_call(1)).await;
    assert!(answer.to_string().contains("Alice"), "{answer}");
    make_it_panic(&home);
    server.say(&local_call(2)).await;
    has_panicked(&home).await;
    assert_nothing_leaks(&home, &server, &control.issued(), 4);
    no_core_file(&home);
}

#[tokio::test]
async fn a_panic_of_the_remote_server_shows_no_token_and_no_secret() {
    let home = Home::new().await;
    let control = home.emulator().control();
    control.keep_issued();
    let at = home.emulator().endpoints();
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0", "--client-id", &at.confidential_client_id]);
    command.env("AZURE_CLIENT_SECRET", &at.client_secret);
    let mut server = Running::start(&home, panicking(&home, command));
    let ready = server.line().await;
    let url = ready["public_url"].as_str().unwrap();
    let Session { access_token, refresh_token, .. } = session::sign_in(url, "/mcp", ALICE).await;
    make_it_panic(&home);
    let call = tokio::spawn(remote_call(url, call_request(&access_token)).send());
    has_panicked(&home).await;
    call.abort();
    let mut secrets = control.issued();
    secrets.extend([access_token, refresh_token, at.client_secret.clone()]);
    assert_nothing_leaks(&home, &server, &secrets, 7);
    no_core_file(&home);
}

/// The data key of a store on the network.
const DATA_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn no_process_shows_a_secret_of_the_variables() {
    let (certificate_password, redis_password) = ("recognisable-certificate-password", "recognisable/redis+password");
    let redis = Redis::start_with("redis-server", &["--requirepass", redis_password]).await;
    let home = Home::new().await;
    let at = home.emulator().endpoints();
    std::fs::write(home.path().join("server.sh"), SCRIPT).unwrap();
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0", "--client-id", &at.confidential_client_id]);
    command.args(["--upstream-command", "/bin/sh server.sh"]);
    command.env("AZURE_CLIENT_SECRET", &at.client_secret);
    command.env("AZURE_CLIENT_CERTIFICATE_PASSWORD", certificate_password);
    command.env("ENTRA_MCP_STORE_KEY", DATA_KEY);
    command.env("ENTRA_MCP_STORE", format!("redis://:recognisable%2Fredis%2Bpassword@{}/0", redis.address()));
    let mut server = Running::start(&home, command);
    let ready = server.line().await;
    let url = ready["public_url"].as_str().unwrap();
    let session = session::sign_in(url, "/mcp", ALICE).await;
    let answer = remote_call(url, tool_request(&session.access_token, "look", &json!({}))).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    until(|| server.descendants.have("server.sh")).await.expect("the server behind is looked at");
    let secrets = [at.client_secret.as_str(), certificate_password, DATA_KEY, redis_password].map(str::to_owned);
    assert_nothing_leaks(&home, &server, &secrets, 4);
}
