//! `entra-mcp stdio` as a process: its streams, its signals, its end.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::commands::Home;
use crate::support::patience::soon;
use crate::support::process::send_signal;

pub(crate) struct Server {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    log: ChildStderr,
}

impl Server {
    fn start(home: &Home) -> Self {
        Self::spawn(home.program(&["stdio"]))
    }

    /// With a log of everything.
    fn talkative(home: &Home) -> Self {
        let mut command = home.program(&["stdio"]);
        command.env("RUST_LOG", "debug");
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = child.stderr.take().unwrap();
        Self { child, input, output, log }
    }

    async fn write(&mut self, line: &[u8]) {
        self.input.write_all(line).await.unwrap();
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.write(format!("{message}\n").as_bytes()).await;
    }

    pub(crate) async fn receive(&mut self) -> Value {
        let line = soon(self.output.next_line()).await.expect("the server answers");
        serde_json::from_str(&line.unwrap().expect("the server goes on")).unwrap()
    }

    /// Calls the tool in a conversation of its own, and returns the profile.
    pub(crate) async fn profile(&mut self) -> Value {
        self.send(initialize()).await;
        assert_eq!(self.receive().await["id"], 0);
        self.send(sign_in(1)).await;
        loop {
            let answer = self.receive().await;
            if answer["id"] == 1 {
                assert_eq!(answer["result"]["isError"], false, "{answer}");
                return answer["result"]["structuredContent"].clone();
            }
        }
    }

    /// Closes the input. Returns the exit code, what else was written to standard output, and the log.
    pub(crate) async fn end(self) -> (Option<i32>, Vec<Value>, String) {
        let Self { child, input, mut output, log } = self;
        drop(input);
        let rest = async {
            let mut rest = Vec::new();
            while let Some(line) = output.next_line().await.unwrap() {
                rest.push(serde_json::from_str(&line).unwrap());
            }
            rest
        };
        let (rest, (code, log)) = tokio::join!(rest, ended(child, log));
        (code, rest, log)
    }
}

/// Waits for the end. Returns the exit code and the log, which a test that waits in vain fails with.
async fn ended(mut child: Child, mut log: ChildStderr) -> (Option<i32>, String) {
    let mut text = String::new();
    let status = async {
        let status = soon(child.wait()).await;
        if status.is_err() {
            child.kill().await.unwrap();
        }
        status
    };
    let (status, read) = tokio::join!(status, log.read_to_string(&mut text));
    read.unwrap();
    let status = status.unwrap_or_else(|_| panic!("the server does not end\n--- log\n{text}"));
    (status.unwrap().code(), text)
}

fn request(id: u32, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

pub(crate) fn initialize() -> Value {
    let client = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    request(0, "initialize", params)
}

/// A call that waits for a sign-in, which happens only where a person is at the browser.
pub(crate) fn sign_in(id: u32) -> Value {
    request(id, "tools/call", json!({ "name": "GetUserDetailsFromGraph", "arguments": {} }))
}

#[tokio::test]
async fn every_kind_of_bad_line_is_answered_and_the_server_goes_on() {
    let home = Home::new().await;
    let mut server = Server::start(&home);
    server.send(initialize()).await;
    assert_eq!(server.receive().await["id"], 0);
    let overlong = [vec![b'x'; 70_000], b"\n".to_vec()].concat();
    for (line, id, code) in [
        (b"garbage\n".to_vec(), Value::Null, -32700),
        (b"\"\xc3\x28\"\n".to_vec(), Value::Null, -32700),
        (overlong, Value::Null, -32600),
        (b"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}\n".to_vec(), json!(1), -32600),
        (b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"nope\"}\n".to_vec(), json!(2), -32601),
    ] {
        server.write(&line).await;
        let answer = server.receive().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(code)), "{answer}");
    }
    server.send(request(3, "ping", json!({}))).await;
    assert_eq!(server.receive().await, json!({ "jsonrpc": "2.0", "id": 3, "result": {} }));
    let (code, rest, _) = server.end().await;
    assert_eq!((code, rest), (Some(0), vec![]));
}

#[tokio::test]
async fn requests_written_at_once_are_all_answered_before_the_end() {
    let home = Home::new().await;
    let mut server = Server::start(&home);
    let mut lines = format!("{}\n", initialize());
    for id in 1..=50 {
        lines += &format!("{}\n", request(id, "tools/list", json!({})));
    }
    server.write(lines.as_bytes()).await;
    let (code, answers, _) = server.end().await;
    let mut ids: Vec<_> = answers.iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    assert_eq!((code, ids[0]), (Some(0), 0));
    ids.sort_unstable();
    assert_eq!(ids, (0..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_sign_in_that_waits_holds_up_no_request_and_can_be_cancelled() {
    let home = Home::new().await;
    let mut server = Server::start(&home);
    server.send(initialize()).await;
    server.receive().await;
    server.send(sign_in(1)).await;
    home.page_was_opened().await;

    server.send(request(2, "ping", json!({}))).await;
    assert_eq!(server.receive().await["id"], 2);
    server.send(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    server.send(request(3, "ping", json!({}))).await;
    assert_eq!(server.receive().await["id"], 3);

    let (code, rest, log) = server.end().await;
    assert_eq!((code, rest), (Some(0), vec![]));
    assert!(!log.contains("calls in flight are cancelled"), "{log}");
}

#[tokio::test]
async fn sign_ins_that_wait_hold_up_no_request_however_many_they_are() {
    let home = Home::new().await;
    let mut server = Server::start(&home);
    server.send(initialize()).await;
    server.receive().await;
    for id in 1..=100 {
        server.send(sign_in(id)).await;
    }
    home.page_was_opened().await;
    server.send(request(101, "ping", json!({}))).await;
    assert_eq!(server.receive().await["id"], 101);
}

/// What ends a server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Its client closes the input.
    Input,
    /// The operating system, or the client, asks it to end. Its input stays open.
    Signal(&'static str),
}

pub(crate) const ENDS: [End; 3] = [End::Input, End::Signal("TERM"), End::Signal("INT")];

impl Server {
    pub(crate) async fn end_by(self, end: End) -> (Option<i32>, Vec<Value>, String) {
        let End::Signal(signal) = end else { return self.end().await };
        send_signal(signal, self.child.id().unwrap());
        let Self { child, input: _open, output: _unread, log } = self;
        let (code, log) = ended(child, log).await;
        (code, Vec::new(), log)
    }
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_sign_in_ends_the_server_well() {
    for end in ENDS {
        let home = Home::new().await;
        let mut server = Server::start(&home);
        server.send(initialize()).await;
        server.receive().await;
        server.send(sign_in(1)).await;
        home.page_was_opened().await;
        let (code, rest, log) = server.end_by(end).await;
        assert_eq!((code, rest), (Some(0), vec![]), "{end:?}");
        assert!(log.contains("calls in flight are cancelled"), "{end:?}: {log}");
    }
}

#[tokio::test]
async fn the_next_client_is_not_shown_the_page_of_a_process_that_has_ended() {
    for end in ENDS {
        let home = Home::new().await;
        let mut server = Server::start(&home);
        server.send(initialize()).await;
        server.receive().await;
        server.send(sign_in(1)).await;
        let first = home.opened_page().await;
        assert_eq!(server.end_by(end).await.0, Some(0), "{end:?}");

        let mut next = Server::start(&home);
        next.send(initialize()).await;
        next.receive().await;
        let params = json!({ "name": "GetUserDetailsFromGraph", "arguments": {}, "_meta": { "progressToken": "p" } });
        next.send(request(1, "tools/call", params)).await;
        let progress = next.receive().await;
        let said = progress["params"]["message"].as_str().unwrap().to_owned();
        assert!(!said.contains(&first), "{end:?}: {said}");
        let second = home.opened_page().await;
        assert!(said.contains(&second) && second != first, "{end:?}: {said}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_the_server_well() {
    for signal in ["TERM", "INT"] {
        let home = Home::new().await;
        let mut server = Server::start(&home);
        server.send(initialize()).await;
        server.receive().await;
        send_signal(signal, server.child.id().unwrap());
        // Its input stays open: the signal alone ends it.
        let (code, log) = ended(server.child, server.log).await;
        assert_eq!(code, Some(0), "{signal}: {log}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_server_well() {
    let home = Home::new().await;
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    // Until it runs its program, a process that another test starts at this moment holds a copy of this end. Closing a
    // pipe would close this test's copy only: the server would write an answer that no client reads, and wait for the
    // next request. Shutting a socket down works for all copies.
    let copy = ours.try_clone().unwrap();
    let mut command = home.program(&["stdio"]);
    command.stdin(Stdio::piped()).stdout(OwnedFd::from(theirs)).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let (mut input, log) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
    let mut output = BufReader::new(tokio::net::UnixStream::from_std(ours).unwrap()).lines();
    input.write_all(format!("{}\n", initialize()).as_bytes()).await.unwrap();
    let line = soon(output.next_line()).await.expect("the server answers");
    assert!(line.unwrap().is_some_and(|line| line.contains("serverInfo")));

    copy.shutdown(Shutdown::Both).unwrap();
    input.write_all(format!("{}\n", request(1, "ping", json!({}))).as_bytes()).await.unwrap();
    // Its input stays open: the failed write ends it.
    let (code, log) = ended(child, log).await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn an_unread_log_holds_up_nothing() {
    let home = Home::new().await;
    let Server { mut child, mut input, mut output, log: _unread } = Server::talkative(&home);
    // Each is worth a line; all of them are more than a pipe holds.
    let answer = format!("{}\n", json!({ "jsonrpc": "2.0", "id": "unrequested", "result": {} }));
    input.write_all(answer.repeat(3_000).as_bytes()).await.unwrap();
    input.write_all(format!("{}\n", initialize()).as_bytes()).await.unwrap();
    let line = soon(output.next_line()).await.expect("the server answers");
    assert!(line.unwrap().is_some_and(|line| line.contains("serverInfo")));
    drop(input);
    let status = soon(child.wait()).await.expect("the server ends");
    assert_eq!(status.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_log_that_was_closed_holds_up_nothing() {
    let home = Home::new().await;
    let Server { mut child, mut input, mut output, log } = Server::talkative(&home);
    drop(log);
    input.write_all(format!("{}\n{}\n", initialize(), request(1, "ping", json!({}))).as_bytes()).await.unwrap();
    drop(input);
    for id in 0..2 {
        let line = soon(output.next_line()).await.expect("the server answers");
        let answer: Value = serde_json::from_str(&line.unwrap().expect("the server goes on")).unwrap();
        assert!(answer["id"] == id && answer.get("error").is_none(), "{answer}");
    }
    let status = soon(child.wait()).await.expect("the server ends");
    assert_eq!(status.unwrap().code(), Some(0));
}

#[tokio::test]
async fn two_servers_that_start_together_without_compiled_code_both_answer() {
    let home = Home::new().await;
    let cache = home.path().join("cache");
    let ask = async || {
        let mut command = home.program(&["stdio"]);
        command.env("XDG_CACHE_HOME", &cache).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{}\n", initialize()).as_bytes()).await.unwrap();
        let output = soon(child.wait_with_output()).await.expect("the server ends");
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let (first, second) = tokio::join!(ask(), ask());
    assert!(first.contains("serverInfo"), "{first}");
    assert_eq!(first, second);
    assert!(cache.join("entra-mcp").join("code").is_dir());
}
