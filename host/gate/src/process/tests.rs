//! What clients see of a server that is a program.
//!
//! The program is this test binary: [`server::answers_on_standard_streams`] is the server. So no tool is needed, and what
//! the test runner itself prints is output that is no JSON-RPC, which has to be skipped.

mod callers;
mod lifecycle;
mod messages;
#[path = "../../../../tests/behaviour/all/support/patience.rs"]
mod patience;
mod server;
mod sessions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entra_mcp_plugin::clock::ManualClock;
use entra_mcp_plugin::gatekeeper::Caller;
use entra_mcp_plugin::random::SystemRandomness;
use entra_mcp_plugin::token_validator::PrincipalKind;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use self::patience::until;
use super::{ProcessSettings, ProcessUpstream, Tokens};
use crate::behind::{AnswerBody, Behind as _, BehindError, Sender};

const IDLE: Duration = Duration::from_secs(300);

/// A server of the tests, and its clock.
pub(super) struct Fixture {
    upstream: Arc<ProcessUpstream>,
    clock: ManualClock,
    folder: tempfile::TempDir,
}

/// The settings of the server of the tests.
fn settings(private_folders: PathBuf) -> ProcessSettings {
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    let arguments = [server::NAME, "--exact", "--ignored", "--nocapture"].map(str::to_owned);
    ProcessSettings {
        name: "tested".into(),
        command: std::iter::once(program).chain(arguments).collect(),
        search_path: None,
        variables: vec![("NAMED".into(), "value".into())],
        folder: None,
        private_folders,
        idle: IDLE,
        max_processes: 8,
        max_processes_per_person: 4,
        answer_within: Duration::from_secs(60),
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {}, None)
    }

    fn with(change: impl FnOnce(&mut ProcessSettings), tokens: Option<Arc<dyn Tokens>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(1_000_000);
        let mut settings = settings(folder.path().to_owned());
        change(&mut settings);
        let random = Arc::new(SystemRandomness::default());
        let upstream = ProcessUpstream::new(settings, tokens, Arc::new(clock.clone()), random).unwrap();
        Self { upstream: Arc::new(upstream), clock, folder }
    }

    fn client(&self, object: &str) -> Client {
        let caller = Caller {
            tenant_id: "tenant".into(),
            object_id: object.into(),
            client_id: "client".into(),
            roles: vec!["Reader".into(), "Writer".into()],
            ..caller()
        };
        Client { upstream: Arc::clone(&self.upstream), caller, headers: HeaderMap::new() }
    }

    /// A client that has begun a session.
    async fn session(&self, object: &str) -> Client {
        let mut client = self.client(object);
        let answer =
            client.post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let id = answer.headers().get("mcp-session-id").unwrap().clone();
        client.headers.insert("mcp-session-id", id);
        client
    }
}

fn caller() -> Caller {
    Caller {
        tenant_id: String::new(),
        object_id: String::new(),
        client_id: String::new(),
        kind: PrincipalKind::User,
        scopes: Vec::new(),
        roles: Vec::new(),
        correlation_id: "c".into(),
    }
}

/// A client of one caller.
#[derive(Clone)]
pub(super) struct Client {
    upstream: Arc<ProcessUpstream>,
    caller: Caller,
    headers: HeaderMap,
}

impl Client {
    async fn send(&self, method: Method, body: String) -> Result<Response<AnswerBody>, BehindError> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.headers_mut() = self.headers.clone();
        if !request.headers().contains_key("accept") {
            request.headers_mut().insert("accept", "application/json, text/event-stream".parse().unwrap());
        }
        self.upstream.send(request, Sender { caller: self.caller.clone(), handle: String::from("handle").into() }).await
    }

    async fn post(&self, message: Value) -> Result<Response<AnswerBody>, BehindError> {
        self.send(Method::POST, message.to_string()).await
    }

    async fn get(&self, last_event: Option<&str>) -> Response<AnswerBody> {
        let mut client = self.clone();
        if let Some(last_event) = last_event {
            client.headers.insert("last-event-id", last_event.parse().unwrap());
        }
        client.send(Method::GET, String::new()).await.unwrap()
    }

    /// Calls a method of the server, whose answer is one message.
    async fn call(&self, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": "the id", "method": method, "params": params});
        let answer = self.post(message).await.unwrap();
        assert_eq!(answer.headers().get("content-type").unwrap(), "application/json");
        let answer = whole(answer).await;
        assert_eq!(answer["id"], "the id");
        answer
    }

    /// The result of such a call.
    async fn result(&self, method: &str, params: Value) -> Value {
        let mut answer = self.call(method, params).await;
        assert_eq!(answer["error"], Value::Null);
        answer["result"].take()
    }

    /// The id of the process.
    async fn process(&self) -> u64 {
        self.result("pid", json!({})).await.as_u64().unwrap()
    }
}

/// The whole body of an answer that is one message.
async fn whole(answer: Response<AnswerBody>) -> Value {
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// The events of an answer, one by one.
struct Events {
    body: AnswerBody,
    text: String,
}

/// An event.
#[derive(Debug)]
struct Event {
    id: Option<String>,
    message: Value,
}

impl Events {
    fn of(answer: Response<AnswerBody>) -> Self {
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers().get("content-type").unwrap(), "text/event-stream");
        Self { body: answer.into_body(), text: String::new() }
    }

    /// The next event with a message, or `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let (id, data) = (field("id: "), field("data: "));
                self.text = rest.to_owned();
                if let Some(data) = data.filter(|data| !data.is_empty()) {
                    return Some(Event { id, message: serde_json::from_str(&data).unwrap() });
                }
                continue;
            }
            let frame = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }
}

/// Whether a process runs. One that has ended and waits for its parent does not.
fn runs(pid: u64) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let zombie = stat.is_ok_and(|stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'));
    rustix::process::test_kill_process(pid).is_ok() && !zombie
}

/// Returns when the process is gone: another process ends it, so that no clock of the tests says when.
async fn gone(pid: u64) {
    until(|| !runs(pid)).await.unwrap();
}
