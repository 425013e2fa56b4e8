//! `entra-mcp serve` under clients that occupy what they can: unread streams, connections that say nothing or say it
//! slowly, and the end of the server while it is busy. The tests assert which client is served, never how fast.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use entra_mcp_emulator::{Endpoint, Fault};
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

use super::commands::Home;
use super::replicas::Replicas;
use super::serve::{Server, serve};
use crate::support::behind::Behind;
use crate::support::patience::{eventually, soon, until};
use crate::support::process;
use crate::support::remote::{ALICE, BOB, Tokens, call_request, tool_request};
use crate::tools::mail::bearer;

/// Streams of the HTTP+SSE transport that the server holds open at the same time.
const STREAMS: usize = 64;
/// Of these, for one user with one client.
const STREAMS_OF_ONE: usize = 16;

/// An answer that was read to its end.
struct Whole {
    status: u16,
    head: String,
    closes: bool,
}

/// What became of a request.
enum Outcome {
    Whole(Whole),
    /// The connection ended before the first byte of an answer.
    Nothing,
}

/// Sends a request on a connection and reads the answer. Part of an answer is a failure of the test.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Outcome {
    if stream.write_all(request).await.is_err() {
        return Outcome::Nothing;
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        if let Some(answer) = whole(&bytes) {
            return Outcome::Whole(answer);
        }
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => bytes.extend_from_slice(&buffer[..length]),
            ended if bytes.is_empty() => {
                drop(ended);
                return Outcome::Nothing;
            }
            ended => panic!("part of an answer, then {ended:?}: {}", String::from_utf8_lossy(&bytes)),
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Whole> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let (head, _) = text.split_once("\r\n\r\n")?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length: usize = field("content-length").map_or(0, |length| length.parse().unwrap());
    (bytes.len() >= head.len() + 4 + length).then(|| Whole {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        closes: field("connection") == Some("close"),
        head: head.to_owned(),
    })
}

/// A request of the fleet's tests as bytes.
fn bytes_of(request: Request<Vec<u8>>) -> Vec<u8> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {} HTTP/1.1\r\nhost: mcp.example.com\r\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [text.into_bytes(), body].concat()
}

fn get(path: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: mcp.example.com\r\naccept: text/event-stream\r\nauthorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

/// An open event stream.
struct Stream {
    connection: TcpStream,
    read: String,
}

impl Stream {
    /// Opens a stream; the answer that was given in its place otherwise.
    async fn open(address: SocketAddr, token: &str) -> Result<Self, Whole> {
        Self::open_on(TcpStream::connect(address).await.unwrap(), token).await
    }

    async fn open_on(mut connection: TcpStream, token: &str) -> Result<Self, Whole> {
        connection.write_all(&get("/sse", token)).await.unwrap();
        let mut stream = Self { connection, read: String::new() };
        stream.wait_for("\r\n\r\n").await;
        if stream.read.starts_with("HTTP/1.1 200") {
            stream.wait_for("sessionId=").await;
            stream.wait_for("\n\n").await;
            return Ok(stream);
        }
        Err(whole(stream.read.as_bytes()).expect("a whole refusal"))
    }

    async fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 8192];
        while !self.read.contains(text) {
            let length = soon(self.connection.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(length, 0, "the stream has ended: {}", self.read);
            self.read.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    }

    /// Where its messages are posted.
    fn endpoint(&self) -> &str {
        let from = self.read.find("/message?").expect("an endpoint");
        self.read[from..].split(['\r', '\n']).next().unwrap()
    }
}

async fn post(fleet: &Replicas, stream: &Stream, token: &str, message: &Value) -> u16 {
    let request = Request::post(stream.endpoint())
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"));
    fleet.send(request.body(message.to_string().into_bytes()).unwrap()).await.status
}

fn ping(id: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })
}

async fn fleet() -> Replicas {
    fleet_with(&[]).await
}

async fn fleet_with(more: &[&str]) -> Replicas {
    let arguments = [&["--rate-limit", "off", "--max-instances", "256"], more].concat();
    Replicas::start(1, 3_600, "warn", &arguments).await
}

async fn sse_session(fleet: &Replicas, username: &str) -> Tokens {
    // For the server as a whole: the resource of `/sse` or of `/mcp` alone would be one of them.
    fleet.session_for(username, "https://mcp.example.com").await
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_beyond_the_limit_are_told_to_come_back_and_one_that_ends_makes_room() {
    let fleet = fleet_with(&["--max-streams-per-caller", "64"]).await;
    let address = fleet.address(0);
    let mut sessions = Vec::new();
    for number in 0..=STREAMS / STREAMS_OF_ONE {
        sessions.push(sse_session(&fleet, if number % 2 == 0 { ALICE } else { BOB }).await);
    }
    let mut open = Vec::new();
    // Each from an address of its own: one address has half of them at most.
    for session in sessions.iter().take(STREAMS / STREAMS_OF_ONE) {
        for _ in 0..STREAMS_OF_ONE {
            let connection = connect_from(u8::try_from(open.len() + 2).unwrap(), address).await;
            let stream = Stream::open_on(connection, &session.access).await;
            open.push(stream.unwrap_or_else(|refused| panic!("stream {}: {}", open.len(), refused.head)));
        }
    }
    let last = &sessions[STREAMS / STREAMS_OF_ONE].access;
    let refused = Stream::open(address, last).await.err().expect("no place is left");
    assert_eq!(refused.status, 503, "{}", refused.head);
    assert!(refused.head.contains("\r\nretry-after: "), "{}", refused.head);
    // Everything else is served.
    assert_eq!(fleet.send(call_request(last)).await.status, 200);

    // One client goes away without a word, another one only stops to send.
    drop(open.pop());
    open.last_mut().unwrap().connection.shutdown().await.unwrap();
    let mut again = Vec::new();
    for from in [100, 101] {
        let place = eventually(|| async {
            match Stream::open_on(connect_from(from, address).await, last).await {
                Ok(stream) => Some(stream),
                Err(refused) => {
                    assert_eq!(refused.status, 503, "{}", refused.head);
                    None
                }
            }
        });
        again.push(place.await.expect("the places come back"));
    }
    // Those beside them noticed nothing.
    assert_eq!(post(&fleet, &open[0], &sessions[0].access, &ping("first")).await, 202);
    open[0].wait_for(r#""id":"first""#).await;
    assert_eq!(post(&fleet, &again[0], last, &ping("last")).await, 202);
    again[0].wait_for(r#""id":"last""#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_for_the_stream_of_another_caller_is_refused_and_not_delivered() {
    let fleet = fleet().await;
    let (alice, bob) = (sse_session(&fleet, ALICE).await, sse_session(&fleet, BOB).await);
    // The same user with another client is another caller too.
    let other = sse_session(&fleet, ALICE).await;
    let mut stream = Stream::open(fleet.address(0), &alice.access).await.ok().expect("a stream");
    for token in [&bob.access, &other.access] {
        assert_eq!(post(&fleet, &stream, token, &ping("intruder")).await, 404);
    }
    assert_eq!(post(&fleet, &stream, "", &ping("intruder")).await, 400, "a token that is none");
    assert_eq!(post(&fleet, &stream, &alice.access, &ping("owner")).await, 202);
    stream.wait_for(r#""id":"owner""#).await;
    assert!(!stream.read.contains("intruder"), "{}", stream.read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_its_stream_harms_only_itself() {
    /// Answers of this size fill the buffers between the two sides.
    const ANSWER_BYTES: usize = 100 * 1024;
    const MAX_POSTS: usize = 2_000;
    let fleet = fleet().await;
    let (alice, bob) = (sse_session(&fleet, ALICE).await, sse_session(&fleet, BOB).await);
    let deaf = Stream::open(fleet.address(0), &alice.access).await.ok().expect("a stream");
    let mut other = Stream::open(fleet.address(0), &bob.access).await.ok().expect("a stream");
    let mut status = 202;
    for _ in 0..MAX_POSTS {
        status = post(&fleet, &deaf, &alice.access, &ping(&"x".repeat(ANSWER_BYTES))).await;
        if status != 202 {
            break;
        }
    }
    assert_eq!(status, 503, "its queue is full");
    assert_eq!(post(&fleet, &other, &bob.access, &ping("other")).await, 202);
    other.wait_for(r#""id":"other""#).await;
    // A second stream of the same client too.
    let mut second = Stream::open(fleet.address(0), &alice.access).await.ok().expect("a stream");
    assert_eq!(post(&fleet, &second, &alice.access, &ping("second")).await, 202);
    second.wait_for(r#""id":"second""#).await;
    assert_eq!(fleet.send(call_request(&alice.access)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_end_answers_what_it_has_begun_and_ends_with_0() {
    const CONNECTIONS: usize = 32;
    let mut fleet = fleet().await;
    let (address, tokens) = (fleet.address(0), fleet.session(ALICE).await);
    let request = Arc::new(bytes_of(call_request(&tokens.access)));
    let answered = Arc::<AtomicUsize>::default();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (request, answered) = (Arc::clone(&request), Arc::clone(&answered));
        clients.spawn(async move {
            // Until no connection is accepted any more.
            while let Ok(mut stream) = TcpStream::connect(address).await {
                while let Outcome::Whole(answer) = exchange(&mut stream, &request).await {
                    assert_eq!(answer.status, 200, "{}", answer.head);
                    answered.fetch_add(1, Ordering::SeqCst);
                    if answer.closes {
                        break;
                    }
                }
            }
        });
    }
    let busy = until(|| {
        assert!(clients.try_join_next().is_none(), "a client has ended early");
        answered.load(Ordering::SeqCst) >= CONNECTIONS * 4
    });
    busy.await.expect("all are served");
    let code = soon(fleet.terminate(0)).await.expect("it ends");
    assert_eq!(code, Some(0), "{}", fleet.log());
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(!fleet.log().contains("cancelled"), "{}", fleet.log());
}

/// The same program, started with fewer open files than there will be connections, as many a shell does.
fn as_in_a_shell(command: &Command) -> Command {
    let command = command.as_std();
    let mut shell = process::command("sh");
    shell.args(["-c", "ulimit -S -n 512; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(Stdio::null());
    shell
}

/// A connection from one of the addresses of this machine.
async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(to).await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_silent_slow_and_deaf_connections_leave_the_server_to_others() {
    const ADDRESSES: u8 = 4;
    const EACH: usize = 250;
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();

    let home = Home::new().await;
    let server = Server::start(as_in_a_shell(&serve(&home, &["--rate-limit", "off"]))).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    assert!(files.is_some_and(|files| files.parse::<u32>().unwrap() > 1_024), "it asked for no more files: {files:?}");
    let address: SocketAddr = server.url("").strip_prefix("http://").unwrap().parse().unwrap();
    let asking = format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").repeat(200);
    let mut held = Vec::new();
    for last in 2..2 + ADDRESSES {
        for number in 0..EACH {
            let mut stream = connect_from(last, address).await;
            let begun: &[u8] = match number % 5 {
                0 => b"GET /healthz HTTP/1.1\r\nhost: loc",
                1 => b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{",
                // Asks again and again, and takes no answer.
                2 => asking.as_bytes(),
                _ => b"",
            };
            stream.write_all(begun).await.unwrap();
            held.push((number % 5, stream));
        }
    }
    let others = connect_from(9, address).await;
    let host = address.to_string();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
    let served = async {
        let mut others = others;
        for _ in 0..20 {
            // The slow ones go on.
            for (kind, stream) in held.iter_mut().filter(|(kind, _)| *kind < 2) {
                let more: &[u8] = if *kind == 0 { b"a" } else { b" " };
                // The server may have given it up by now.
                let _ = stream.write_all(more).await;
            }
            let Outcome::Whole(answer) = exchange(&mut others, &request).await else { panic!("no answer") };
            assert_eq!(answer.status, 200, "{}", answer.head);
            if answer.closes {
                others = connect_from(9, address).await;
            }
        }
    };
    soon(served).await.expect("the others are served");
    drop(held);
    let (code, _, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
}

/// Instances of the server in the tests below. No request waits for one.
#[cfg(target_os = "linux")]
const FEW_INSTANCES: [&str; 6] = ["--rate-limit", "off", "--max-instances", "4", "--max-queue", "0"];

/// Sends more of the same requests from one address than the server has instances, and waits until some are refused. The
/// other ones are at work until this is dropped.
#[cfg(target_os = "linux")]
async fn flood(address: SocketAddr, request: Request<Vec<u8>>) -> tokio::task::JoinSet<Outcome> {
    const REQUESTS: usize = 6;
    const REFUSED: usize = 2;
    let request = Arc::new(bytes_of(request));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        let request = Arc::clone(&request);
        flood.spawn(async move { exchange(&mut connect_from(2, address).await, &request).await });
    }
    for _ in 0..REFUSED {
        let answered = soon(flood.join_next()).await.expect("some are refused").unwrap().unwrap();
        let Outcome::Whole(refused) = answered else { panic!("no answer") };
        assert_eq!(refused.status, 503, "{}", refused.head);
    }
    flood
}

/// Sends a request again and again from another address, which is answered with this status each time.
#[cfg(target_os = "linux")]
async fn is_answered(address: SocketAddr, request: Request<Vec<u8>>, status: u16) {
    let request = bytes_of(request);
    for _ in 0..8 {
        let mut other = connect_from(3, address).await;
        let answered = soon(exchange(&mut other, &request)).await.expect("it is answered");
        let Outcome::Whole(answer) = answered else { panic!("no answer") };
        assert_eq!(answer.status, status, "{}", answer.head);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_address_that_wait_for_graph_leave_instances_to_another_one() {
    let fleet = Replicas::start(1, 3_600, "warn", &FEW_INSTANCES).await;
    let (address, alice, bob) = (fleet.address(0), fleet.session(ALICE).await, fleet.session(BOB).await);
    fleet.emulator.control().inject(Fault::on(Endpoint::GraphMemberOf).always().delay_ms(60_000));
    let _flood = flood(address, tool_request(&alice.access, "listMyGroups", &json!({}))).await;
    is_answered(address, call_request(&bob.access), 200).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_address_to_a_server_behind_that_are_not_decided_leave_instances_to_another_one() {
    let behind = Behind::start().await;
    let url = behind.url();
    let more = ["--check", "off", "--token-mode", "both", "--required-scope", "Mcp.Access", "--upstream", &url];
    let fleet = Replicas::start(1, 3_600, "warn", &[&FEW_INSTANCES[..], &more].concat()).await;
    // Without the keys of Entra ID, the component cannot decide about a token.
    fleet.emulator.control().inject(Fault::on(Endpoint::Keys).always().delay_ms(60_000));
    let (address, token) = (fleet.address(0), bearer(&fleet.emulator, ALICE).await);
    let _flood = flood(address, call_request(&token)).await;
    is_answered(address, call_request(""), 401).await;
    let metadata = Request::get("/.well-known/oauth-protected-resource/mcp").body(Vec::new()).unwrap();
    is_answered(address, metadata, 200).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_of_an_address_leave_instances_to_its_own_requests_and_to_others() {
    let fleet = Replicas::start(1, 3_600, "warn", &["--rate-limit", "off", "--max-instances", "8"]).await;
    let (address, session) = (fleet.address(0), sse_session(&fleet, ALICE).await);
    let mut open = Vec::new();
    let refused = loop {
        match Stream::open_on(connect_from(2, address).await, &session.access).await {
            Ok(stream) => open.push(stream),
            Err(refused) => break refused,
        }
    };
    // A quarter of the instances are for event streams, and half of these for one address.
    assert_eq!((open.len(), refused.status), (1, 503), "{}", refused.head);
    open.extend(Stream::open_on(connect_from(3, address).await, &session.access).await);
    assert_eq!(open.len(), 2, "another address has a place");
    let request = bytes_of(call_request(&session.access));
    for from in [2, 3, 4] {
        let answered = exchange(&mut connect_from(from, address).await, &request).await;
        let Outcome::Whole(answer) = answered else { panic!("no answer") };
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
}

/// Sends all of a body but its last byte.
async fn begin_body(from: u8, to: SocketAddr, path: &str, fields: &str) -> TcpStream {
    const BODY_BYTES: usize = 1024 * 1024;
    let mut stream = connect_from(from, to).await;
    let head = format!("POST {path} HTTP/1.1\r\nhost: {to}\r\ncontent-length: {BODY_BYTES}\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may have answered, and be gone.
    let _ = stream.write_all(&vec![b' '; BODY_BYTES - 1]).await;
    stream
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_64_mib_that_two_strangers_do_not_finish_refuse_no_other_client() {
    const EACH: usize = 32;
    let home = Home::new().await;
    let server = Server::start(serve(&home, &["--rate-limit", "off"])).await;
    let address: SocketAddr = server.url("").strip_prefix("http://").unwrap().parse().unwrap();
    let message = "content-type: application/json\r\nauthorization: Bearer made-up\r\n";
    for (path, fields) in [("/unknown", ""), ("/mcp", ""), ("/mcp", message)] {
        let mut held = Vec::new();
        for _ in 0..EACH {
            for last in [2, 3] {
                held.push(begin_body(last, address, path, fields).await);
            }
        }
        let body = ping("x").to_string();
        let length = body.len();
        let request =
            format!("POST /mcp HTTP/1.1\r\nhost: {address}\r\n{message}content-length: {length}\r\n\r\n{body}");
        for _ in 0..20 {
            let mut other = connect_from(9, address).await;
            let Outcome::Whole(answer) = exchange(&mut other, request.as_bytes()).await else { panic!("no answer") };
            // Its token is made up as well; the point is that the component says so.
            assert_eq!(answer.status, 401, "{path} {fields}: {}", answer.head);
        }
    }
    let (code, _, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_full_of_idle_connections_of_two_addresses_has_a_place_for_every_new_client() {
    const EACH: usize = 512;
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let home = Home::new().await;
    let server = Server::start(serve(&home, &["--rate-limit", "off"])).await;
    let address: SocketAddr = server.url("").strip_prefix("http://").unwrap().parse().unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes();
    let mut held = Vec::new();
    for _ in 0..EACH {
        for last in [2, 3] {
            let mut stream = connect_from(last, address).await;
            let Outcome::Whole(answer) = exchange(&mut stream, &request).await else { panic!("no answer") };
            assert_eq!(answer.status, 200, "{}", answer.head);
            held.push(stream);
        }
    }
    // One more of them is told that there is no place.
    let mut more = connect_from(2, address).await;
    let Outcome::Whole(refused) = exchange(&mut more, b"").await else { panic!("no answer") };
    assert_eq!(refused.status, 503, "{}", refused.head);
    let mut others = Vec::new();
    for last in 10..30 {
        let mut stream = connect_from(last, address).await;
        let Outcome::Whole(answer) = exchange(&mut stream, &request).await else { panic!("no answer for {last}") };
        assert_eq!(answer.status, 200, "{}", answer.head);
        others.push(stream);
    }
    let (code, _, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
}

/// A ClientHello of an old version, with a cipher suite, signature algorithm and curve that the server knows.
fn client_hello(minor: u8) -> Vec<u8> {
    let extensions = [0, 16, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23];
    let body = [&[3, minor][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x2b], &[1, 0], &extensions].concat();
    let handshake = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    [&[22, 3, 1, 0, u8::try_from(handshake.len()).unwrap()][..], &handshake].concat()
}

#[tokio::test]
async fn the_program_speaks_tls_1_2_and_1_3_and_nothing_older() {
    let home = Home::new().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (certificate_file, key_file) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let arguments = ["--tls-cert", certificate_file.to_str().unwrap(), "--tls-key", key_file.to_str().unwrap()];
    let server = Server::start(serve(&home, &arguments)).await;
    let address: SocketAddr = server.url("").strip_prefix("http://").unwrap().parse().unwrap();
    // SSL 3.0, TLS 1.0 and 1.1.
    for minor in 0..=2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&client_hello(minor)).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await.expect("it is refused");
        // A fatal alert and nothing else.
        assert_eq!((answer[0], answer[5], answer.len()), (21, 2, 7), "3.{minor}: {answer:?}");
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(server.end().await.0, Some(0));
}
