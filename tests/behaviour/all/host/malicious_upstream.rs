//! A malicious server behind `entra-mcp serve`, on a raw socket: what it answers is bounded, and no rule is bypassed.
//! Component and host stand together here, because each could rely on the other for the same check.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::records::{ALICE, Site};
use crate::support::patience::soon;
use crate::support::session::sign_in;

mod charset;

const BOB: &str = "bob@contoso.example";

/// The tool that a rule is about. No caller has the role.
const RULED: &str = "delete_record";
/// The one that every caller may use.
const FREE: &str = "read_record";
const RULES: &str = "[[access]]\nserver = \"crm\"\ntool = \"delete_record\"\nroles = [\"Crm.Admin\"]\n";

/// Bytes of an endless answer that sockets and the judged message hold at most. Without a bound it would be all that the server
/// can write.
const HELD: usize = 64 * 1024 * 1024;

const INTERNAL_ERROR: i64 = -32603;

/// What the server does with a request.
enum Answer {
    /// It writes this and closes the connection.
    Bytes(Vec<u8>),
    /// It writes the first part, and then the second one again and again, until nothing reads it any more.
    Endless(Vec<u8>, Vec<u8>),
}

type Script = Arc<dyn Fn(&Value) -> Answer + Send + Sync>;

/// A request as it has arrived.
#[derive(Clone)]
struct Arrived {
    /// In lower case.
    head: String,
    message: Value,
}

/// The server behind.
struct Malicious {
    address: SocketAddr,
    script: Mutex<Script>,
    arrived: Mutex<Vec<Arrived>>,
    /// The bytes of an endless answer that was given up.
    given_up: mpsc::UnboundedSender<usize>,
}

impl Malicious {
    async fn start() -> (Arc<Self>, mpsc::UnboundedReceiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (given_up, gives_up) = mpsc::unbounded_channel();
        let script: Script = Arc::new(|_: &Value| Answer::Bytes(json_answer("", &list(&[FREE, RULED]))));
        let server = Arc::new(Self { address, script: Mutex::new(script), arrived: Mutex::default(), given_up });
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        (server, gives_up)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let Some(arrived) = read_request(&mut stream).await else { return };
        let script = Arc::clone(&self.script.lock().unwrap());
        let answer = script(&arrived.message);
        self.arrived.lock().unwrap().push(arrived);
        // The gate may close the connection before the end.
        match answer {
            Answer::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
            Answer::Endless(begin, again) => {
                let mut written = 0;
                let mut writes = stream.write_all(&begin).await;
                while writes.is_ok() {
                    written += again.len();
                    writes = stream.write_all(&again).await;
                }
                let _ = self.given_up.send(written);
            }
        }
    }

    /// What has arrived since the last call.
    fn arrived(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Arrived> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or_default() {
                return Some(Arrived { head, message: serde_json::from_str(body).unwrap_or_default() });
            }
        }
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => bytes.extend_from_slice(&buffer[..length]),
            _ => return None,
        }
    }
}

/// A message with these tools.
fn list(names: &[&str]) -> String {
    let tools: Vec<_> = names.iter().map(|name| json!({ "name": name, "inputSchema": {} })).collect();
    json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": tools } }).to_string()
}

/// `fields` are lines, each with its end.
fn head(status: &str, content_type: &str, fields: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\nconnection: close\r\n{fields}")
}

fn json_answer(fields: &str, message: &str) -> Vec<u8> {
    let length = message.len();
    format!("{}content-length: {length}\r\n\r\n{message}", head("200 OK", "application/json", fields)).into_bytes()
}

fn events_answer(fields: &str, events: &str) -> Vec<u8> {
    format!("{}\r\n{events}", head("200 OK", "text/event-stream", fields)).into_bytes()
}

/// The same message in each form that an answer can have.
fn forms(message: &str) -> [Vec<u8>; 4] {
    [
        json_answer("", message),
        events_answer("", &format!("id: 1\nevent: message\ndata: {message}\n\n")),
        events_answer("", &format!("\u{feff}data:{message}\r\r")),
        // Without its end.
        events_answer("", &format!(": hello\n\ndata: {}", message.replacen(',', ",\ndata: ", 1))),
    ]
}

/// An answer as its client has got it.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Got {
    /// The one message in it. Null if there is none.
    fn message(&self) -> Value {
        let data: Vec<_> = self.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let text = if data.is_empty() { self.text.clone() } else { data.join("\n") };
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The names of the tools that it lists.
    fn tools(&self) -> Vec<String> {
        let message = self.message();
        let tools = message["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {self:?}"));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// The gate in front of the server.
struct Lab {
    site: Site,
    server: Arc<Malicious>,
    gives_up: mpsc::UnboundedReceiver<usize>,
    bob: String,
}

impl Lab {
    async fn new(rules: &str) -> Self {
        let (server, gives_up) = Malicious::start().await;
        let config = format!("[[upstream]]\nname = \"crm\"\nurl = \"http://{}/mcp\"\n{rules}", server.address);
        let site = Site::new(|folder| {
            let file = folder.path().join("entra-mcp.toml");
            fs::write(&file, config).unwrap();
            vec!["--config".to_owned(), file.display().to_string()]
        })
        .await;
        let bob = sign_in(site.server.public_url(), "/mcp", BOB).await.access_token;
        Self { site, server, gives_up, bob }
    }

    /// From now on, the server answers so.
    fn answers(&self, script: impl Fn(&Value) -> Answer + Send + Sync + 'static) {
        *self.server.script.lock().unwrap() = Arc::new(script);
    }

    fn answers_bytes(&self, bytes: Vec<u8>) {
        self.answers(move |_| Answer::Bytes(bytes.clone()));
    }

    fn request(&self, token: &str, message: &Value) -> reqwest::RequestBuilder {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        http.post(self.site.server.at("/mcp"))
            .bearer_auth(token)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(message)
    }

    async fn got(request: reqwest::RequestBuilder) -> Got {
        let mut answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut bytes = Vec::new();
        // What breaks off is looked at as far as it came.
        while let Ok(Some(chunk)) = answer.chunk().await {
            bytes.extend_from_slice(&chunk);
        }
        Got { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    async fn list(&self) -> Got {
        Self::got(self.request(&self.bob, &list_tools())).await
    }

    /// What the caller gets in place of the answer of a tool.
    async fn call(&self, tool: &str) -> Value {
        let params = json!({ "name": tool, "arguments": {} });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        Self::got(self.request(&self.bob, &message)).await.message()
    }

    /// The list in these bytes is refused as a whole: the client gets an error of JSON-RPC, and nothing of it.
    async fn refuses(&self, bytes: Vec<u8>) {
        let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        self.answers_bytes(bytes);
        let got = self.list().await;
        let told = (got.status, got.message()["error"]["code"].as_i64());
        assert_eq!(told, (200, Some(INTERNAL_ERROR)), "{begin}: {}", self.site.server.log());
        assert!(!got.text.contains(RULED), "{begin}: {got:?}");
    }

    /// The answer in these bytes is refused as such.
    async fn breaks(&self, bytes: Vec<u8>) -> Got {
        let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        self.answers_bytes(bytes);
        let got = self.list().await;
        assert_eq!(got.status, 502, "{begin}: {got:?} {}", self.site.server.log());
        assert!(!got.text.contains(RULED), "{begin}: {got:?}");
        got
    }

    /// An endless answer was given up in the end.
    async fn gave_up(&mut self) {
        let written = soon(self.gives_up.recv()).await.expect("the gate stops reading").unwrap();
        assert!(written <= HELD, "{written}");
    }

    /// The next caller is served, by the rules.
    async fn serves(&self) {
        self.answers_bytes(json_answer("", &list(&[RULED, FREE])));
        assert_eq!(self.list().await.tools(), [FREE]);
    }
}

fn list_tools() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })
}

#[tokio::test]
async fn a_huge_list_is_an_error_and_an_endless_one_is_given_up() {
    let mut lab = Lab::new(RULES).await;
    let with = |items: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":{items}}}}}"#);
    let tool = json!({ "name": RULED, "description": "x".repeat(1000) }).to_string();
    for items in [
        // Too many values, too deep, too long.
        format!("[{}{tool}]", "{},".repeat(60_000)),
        format!("[{}{}]", "[".repeat(200), "]".repeat(200)),
        format!("[{}{tool}]", format!("{tool},").repeat(4200)),
    ] {
        let message = with(&items);
        lab.refuses(json_answer("", &message)).await;
        lab.refuses(events_answer("", &format!("data: {message}\n\n"))).await;
    }
    let many: Vec<_> = (0..5000).map(|number| format!("tool-{number}")).chain([RULED.to_owned()]).collect();
    lab.answers_bytes(json_answer("", &list(&many.iter().map(String::as_str).collect::<Vec<_>>())));
    assert_eq!(lab.list().await.tools().len(), 5000, "that is only long");

    let space = vec![b' '; 64 * 1024];
    for begin in [
        format!("{}\r\n{{", head("200 OK", "application/json", "")),
        format!("{}\r\ndata: {{", head("200 OK", "text/event-stream", "")),
    ] {
        let again = space.clone();
        lab.answers(move |_| Answer::Endless(begin.clone().into_bytes(), again.clone()));
        let got = lab.list().await;
        assert_eq!((got.status, got.message()["error"]["code"].as_i64()), (200, Some(INTERNAL_ERROR)));
        lab.gave_up().await;
    }
    lab.serves().await;
}

#[tokio::test]
async fn a_result_of_any_length_passes_and_a_list_behind_it_does_not() {
    let mut lab = Lab::new(RULES).await;
    let params = json!({ "name": FREE, "arguments": {} });
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let text = "x".repeat(8 * 1024 * 1024);
    let content = format!(r#""content":[{{"type":"text","text":"{text}"}}]"#);
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{content}}}}}"#);
    lab.answers_bytes(json_answer("", &message));
    let got = Lab::got(lab.request(&lab.bob, &call)).await;
    assert_eq!(got.status, 200, "{}", lab.site.server.log());
    assert!(got.text == message, "{} of {} bytes", got.text.len(), message.len());

    let tools = r#"[{"name":"delete_record"}]"#;
    for end in [
        format!(r#","tools":{tools}}}}}"#),
        format!(r#","t\u006f\u006fls":{tools}}}}}"#),
        format!(r#","TOOLS":{tools}}}}}"#),
        format!(r#"}},"result":{{"tools":{tools}}}}}"#),
        format!(r#"}},"Result":{{"tools":{tools}}}}}"#),
        // Another request of the client waits for its answer.
        format!(r#"}}}},{{"jsonrpc":"2.0","id":2,"result":{{"tools":{tools}}}}}]"#),
        format!(r#"}}}} {{"jsonrpc":"2.0","id":2,"result":{{"tools":{tools}}}}}"#),
        // What some readers take for JSON.
        format!(r#",'tools':{tools}}}}}"#),
        format!(r#"/* " */,"tools":{tools}/* " */}}}}"#),
    ] {
        let begin = if end.ends_with(']') { "[" } else { "" };
        let message = format!(r#"{begin}{{"jsonrpc":"2.0","id":1,"result":{{{content}{end}"#);
        lab.answers_bytes(json_answer("", &message));
        let got = Lab::got(lab.request(&lab.bob, &call)).await;
        assert!(!got.text.contains(RULED), "{end}");
        assert!(serde_json::from_str::<Value>(&got.text).is_err(), "it broke off: {end}");
    }

    // What never ends is of no harm to others: it ends with its client.
    let begin = format!("{}\r\n{{", head("200 OK", "application/json", "")).into_bytes();
    lab.answers(move |_| Answer::Endless(begin.clone(), vec![b' '; 64 * 1024]));
    let mut answer = lab.request(&lab.bob, &call).send().await.unwrap();
    let mut read = 0;
    while read < 8 * 1024 * 1024 {
        read += soon(answer.chunk()).await.expect("it goes on").unwrap().expect("it does not end").len();
    }
    drop(answer);
    lab.gave_up().await;
    lab.serves().await;
}

#[tokio::test]
async fn every_event_of_an_endless_stream_is_judged_and_the_stream_ends_with_its_client() {
    let mut lab = Lab::new(RULES).await;
    let begin = format!("{}\r\n", head("200 OK", "text/event-stream", "")).into_bytes();
    let event = format!(": {RULED} in tools\n\nid: tools\ndata: {}\n\n", list(&[RULED, FREE])).into_bytes();
    lab.answers(move |_| Answer::Endless(begin.clone(), event.clone()));
    let mut answer = lab.request(&lab.bob, &list_tools()).send().await.unwrap();
    let mut text = String::new();
    while text.matches(FREE).count() < 500 {
        let chunk = soon(answer.chunk()).await.expect("it goes on").unwrap().expect("it does not end");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(!text.contains(RULED), "{text}");
    drop(answer);
    soon(lab.gives_up.recv()).await.expect("the stream ends with its client").unwrap();
    lab.serves().await;
}

#[tokio::test]
async fn a_session_of_the_server_is_of_use_to_one_caller_whatever_id_the_server_gives() {
    let lab = Lab::new(RULES).await;
    let alice = sign_in(lab.site.server.public_url(), "/mcp", ALICE).await.access_token;
    let given = |id: &str| json_answer(&format!("mcp-session-id: {id}\r\n"), &list(&[FREE]));
    let sealed = |got: &Got| got.headers["mcp-session-id"].to_str().unwrap().to_owned();
    lab.answers_bytes(given("shared-1"));
    let of_alice = sealed(&Lab::got(lab.request(&alice, &list_tools())).await);
    let of_bob = sealed(&lab.list().await);
    assert!(of_alice != of_bob && !of_alice.contains("shared-1") && !of_bob.contains("shared-1"));

    // In Alice's session, the server gives another id.
    lab.server.arrived();
    lab.answers_bytes(given("shared-2"));
    let next = lab.request(&alice, &list_tools()).header("mcp-session-id", &of_alice);
    let changed = sealed(&Lab::got(next).await);
    assert!(lab.server.arrived()[0].head.contains("\r\nmcp-session-id: shared-1"));
    assert_ne!(changed, of_alice);
    for id in [of_alice.as_str(), &changed, "shared-1", "shared-2"] {
        let got = Lab::got(lab.request(&lab.bob, &list_tools()).header("mcp-session-id", id)).await;
        assert_eq!((got.status, got.message()["error"]["code"].as_i64()), (404, Some(-32001)), "{id}");
    }
    assert!(lab.server.arrived().is_empty(), "a session of another caller reached the server");

    let long = ["x".repeat(1025), "x".repeat(5000)];
    for id in ["", "a b", "\u{e9}", "a\r\nmcp-session-id: b", &long[0], &long[1]] {
        let got = lab.breaks(given(id)).await;
        assert!(!got.headers.contains_key("mcp-session-id"), "{id:?}");
    }
    lab.serves().await;
}

#[tokio::test]
async fn a_list_that_changes_between_calls_opens_no_tool() {
    let lab = Lab::new(RULES).await;
    for names in [&[FREE][..], &[RULED], &[FREE, RULED, RULED], &[RULED, "new_tool"], &[]] {
        for form in forms(&list(names)) {
            lab.answers_bytes(form);
            let expected: Vec<_> = names.iter().filter(|name| **name != RULED).collect();
            assert_eq!(lab.list().await.tools().iter().collect::<Vec<_>>(), expected);
            lab.server.arrived();
            let answer = lab.call(RULED).await;
            assert_eq!(answer["result"]["isError"], true, "{answer}");
            assert!(lab.server.arrived().is_empty(), "a denied call reached the server");
        }
    }
    // A list in the answer to a call, where a client did not ask for one.
    for form in forms(&list(&[RULED, FREE])) {
        lab.answers_bytes(form);
        let answer = lab.call(FREE).await;
        assert!(!answer.to_string().contains(RULED), "{answer}");
    }
}

#[tokio::test]
async fn names_that_resemble_a_ruled_one_are_neither_listed_nor_called() {
    let lab = Lab::new(RULES).await;
    let names = [
        "Delete_Record",
        "DELETE_RECORD",
        "delete_record ",
        " delete_record",
        "delete_record\u{200b}",
        "delete\u{ad}_record",
        "\u{feff}delete_record",
        "delete_record\u{0}",
        "delete_record\n",
        "delete_rec\u{43e}rd",
        "\u{ff44}elete_record",
        "delete_record\u{301}",
    ];
    let listed: Vec<_> = names.iter().copied().chain([FREE]).collect();
    for form in forms(&list(&listed)) {
        lab.answers_bytes(form);
        assert_eq!(lab.list().await.tools(), [FREE]);
    }
    let escaped =
        r#"{"jsonrpc":"2.0","id":1,"result":{"to\u006fls":[{"n\u0061me":"delete\u005frecord"},{"name":7},7]}}"#;
    for form in forms(escaped) {
        lab.answers_bytes(form);
        assert_eq!(lab.list().await.tools(), [""; 0]);
    }
    lab.server.arrived();
    for name in names {
        let answer = lab.call(name).await;
        assert_eq!(answer["result"]["isError"], true, "{name:?}: {answer}");
    }
    assert!(lab.server.arrived().is_empty(), "a denied call reached the server");
}

#[tokio::test]
async fn json_that_two_readers_read_differently_is_an_error() {
    let lab = Lab::new(RULES).await;
    let tools = r#"[{"name":"delete_record"}]"#;
    for message in [
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[],"tools":{tools}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":{tools},"tools":[]}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[]}},"result":{{"tools":{tools}}}}}"#),
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read_record","name":"delete_record"}]}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read_record","Name":"delete_record"}]}}"#.to_owned(),
        format!(r#"{{"jsonrpc":"2.0","id":1,"Result":{{"tools":{tools}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"Tools":{tools}}}}}"#),
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"tool\u{17f}\":{tools}}}}}"),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tool\u017f":{tools}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":{{"0":{tools}}}}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":{tools}}}}} x"#),
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":{tools}"#),
    ] {
        for form in forms(&message) {
            lab.refuses(form).await;
        }
    }
    let utf_16: String = list(&[RULED]).chars().flat_map(|letter| [letter, '\0']).collect();
    lab.refuses(json_answer("", &utf_16)).await;
    lab.serves().await;
}

#[tokio::test]
async fn answers_that_cannot_be_judged_do_not_pass() {
    let lab = Lab::new(RULES).await;
    let message = list(&[RULED]);
    let of = |content_type: &str, fields: &str| {
        format!("{}\r\n{message}", head("200 OK", content_type, fields)).into_bytes()
    };
    let many = "x-field: 1\r\n".repeat(200);
    let long = format!("x-field: {}\r\n", "x".repeat(40_000));
    for bytes in [
        of("text/html", ""),
        of("text/plain", ""),
        of("application/octet-stream", ""),
        of("application/json", "content-type: text/html\r\n"),
        of("application/json", "content-encoding: gzip\r\n"),
        of("text/event-stream", "content-encoding: br\r\n"),
        of("application/json", "content-length: 5\r\ncontent-length: 6\r\n"),
        of("application/json", &many),
        of("application/json", &long),
        of("application/json", "content-length: 100000\r\n"),
        b"not HTTP at all\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        lab.breaks(bytes).await;
    }
    lab.serves().await;
}

#[tokio::test]
async fn redirects_upgrades_and_challenges_lead_no_client_away() {
    let lab = Lab::new(RULES).await;
    let (elsewhere, _gives_up) = Malicious::start().await;
    let location = format!("location: http://{}/mcp\r\n", elsewhere.address);
    let challenge = format!("www-authenticate: Bearer resource_metadata=\"http://{}/\"\r\n", elsewhere.address);
    let fields = format!("{location}{challenge}upgrade: mcp\r\nset-cookie: a=b\r\n");
    for status in [
        "101 Switching Protocols",
        "300 Multiple Choices",
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
        "401 Unauthorized",
        "407 Proxy Authentication Required",
    ] {
        let message = list(&[RULED]);
        let bytes = format!("{}\r\n{message}", head(status, "application/json", &fields)).into_bytes();
        let got = lab.breaks(bytes).await;
        for name in ["location", "www-authenticate", "upgrade", "set-cookie"] {
            assert!(!got.headers.contains_key(name), "{status}: {got:?}");
        }
    }
    assert!(elsewhere.arrived().is_empty(), "a request went elsewhere");
    lab.serves().await;
}

#[tokio::test]
async fn header_fields_trailers_and_early_hints_of_the_server_stay_with_the_gate() {
    const REFUSED: [&str; 9] = [
        "set-cookie",
        "access-control-allow-origin",
        "clear-site-data",
        "link",
        "location",
        "refresh",
        "server",
        "strict-transport-security",
        "x-trailer",
    ];
    for rules in [RULES, ""] {
        let lab = Lab::new(rules).await;
        let fields: String = REFUSED.iter().map(|name| format!("{name}: malicious\r\n")).collect();
        let message = list(&[FREE]);
        for (content_type, body) in
            [("application/json", message.clone()), ("text/event-stream", format!("data: {message}\n\n"))]
        {
            let answer = format!(
                "HTTP/1.1 103 Early Hints\r\n{fields}\r\n{}\r\n{:x}\r\n{body}\r\n0\r\n{fields}\r\n",
                head("200 OK", content_type, &format!("{fields}trailer: x-trailer\r\ntransfer-encoding: chunked\r\n")),
                body.len(),
            );
            lab.answers_bytes(answer.into_bytes());
            let text = raw(&lab).await;
            assert!(text.starts_with("http/1.1 200 ") && text.contains(FREE), "{text}");
            assert!(!text.contains("malicious") && !text.contains("x-trailer"), "{content_type}: {text}");
        }
    }
}

/// Asks for the list on a connection of its own; all bytes of the answer, in lower case.
async fn raw(lab: &Lab) -> String {
    let body = list_tools().to_string();
    let host = lab.site.server.public_url().trim_start_matches("http://").to_owned();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\nte: trailers\r\nconnection: te, close\r\n\
         accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
         mcp-protocol-version: 2025-11-25\r\ncontent-length: {}\r\n\r\n{body}",
        lab.bob,
        body.len(),
    );
    let mut stream = TcpStream::connect(lab.site.server.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.expect("it ends").unwrap();
    String::from_utf8_lossy(&bytes).to_ascii_lowercase()
}
