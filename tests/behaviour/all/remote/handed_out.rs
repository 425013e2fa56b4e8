//! What a server behind hands out to one caller is unknown to every other one: ids of tasks, states of requests, ids of
//! events, sessions. The component under wasmtime, with another replica for each step.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_plugin::environment::{ServerIdentity, ServerKind, ServerSettings};
use entra_mcp_plugin::gatekeeper::{Admission, AnswerHead, Grant, Request, Response};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::component::modern;
use crate::support::remote::{ALICE, BOB, Fleet, Tokens};

/// Two people, and one of them with a second client.
struct Callers {
    fleet: Fleet,
    alice: Tokens,
    others: [Tokens; 2],
}

impl Callers {
    async fn new() -> Self {
        let fleet = Fleet::with(|settings| {
            settings.servers = vec![ServerSettings {
                name: "crm".to_owned(),
                path: "/mcp".to_owned(),
                kind: ServerKind::Upstream,
                title: None,
                tools: Vec::new(),
                permissions: Vec::new(),
                identity: ServerIdentity::None,
            }];
        })
        .await;
        let alice = fleet.session(ALICE).await;
        let others = [fleet.session(BOB).await, fleet.session(ALICE).await];
        Self { fleet, alice, others }
    }

    async fn admit(&self, request: &Request) -> Admission {
        self.fleet.replica().admit(request).await.expect("the component decides")
    }

    async fn grant(&self, request: &Request) -> Grant {
        match self.admit(request).await {
            Admission::Forward(grant) => grant,
            Admission::Answer(answer) => panic!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
            Admission::OwnPath => panic!("it is the path of the server behind"),
        }
    }

    async fn refusal(&self, request: &Request) -> (u16, Value) {
        match self.admit(request).await {
            Admission::Answer(Response { status, body, .. }) => {
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                (status, body["error"]["code"].clone())
            }
            Admission::Forward(_) => panic!("it goes on"),
            Admission::OwnPath => panic!("it is the path of the server behind"),
        }
    }

    /// The server behind has answered an admitted request.
    async fn answered(&self, grant: &Grant, result: &Value) {
        assert!(grant.note_answer || grant.judge_answer);
        let message = json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
        let judged = self.fleet.replica().judge_answer(&grant.handle, &message).await.expect("the component judges");
        assert_eq!(judged, message, "it passes as it is");
    }
}

fn request(method: &str, tokens: &Tokens, fields: &[(&str, &str)], body: &str) -> Request {
    let authorization = format!("Bearer {}", tokens.access);
    let own = [("host", "mcp.example.com"), ("authorization", authorization.as_str())];
    let field = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    Request {
        correlation_id: String::new(),
        method: method.to_owned(),
        path_with_query: "/mcp".to_owned(),
        headers: own.iter().chain(fields).map(field).collect(),
        body: body.as_bytes().to_vec(),
    }
}

fn post(tokens: &Tokens, version: &str, message: &Value) -> Request {
    let mut fields = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", version),
    ];
    let (method, name) = (message["method"].as_str().unwrap(), message["params"]["name"].as_str());
    if version == "2026-07-28" {
        fields.push(("mcp-method", method));
        fields.extend(name.map(|name| ("mcp-name", name)));
    }
    request("POST", tokens, &fields, &message.to_string())
}

#[tokio::test]
async fn a_task_is_unknown_to_every_caller_but_the_one_whose_call_it_is() {
    let callers = Callers::new().await;
    let params = json!({ "name": "report", "task": { "ttl": 60000 } });
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let about = |tokens: &Tokens, method: &str| {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "taskId": "t-1" } });
        post(tokens, "2025-11-25", &message)
    };
    assert_eq!(callers.refusal(&about(&callers.alice, "tasks/get")).await.1, -32602, "there is none yet");
    let grant = callers.grant(&post(&callers.alice, "2025-11-25", &call)).await;
    callers.answered(&grant, &json!({ "task": { "taskId": "t-1", "status": "working" } })).await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        callers.grant(&about(&callers.alice, method)).await;
        for other in &callers.others {
            assert_eq!(callers.refusal(&about(other, method)).await.1, -32602, "{method}");
        }
    }
    let denied = callers.fleet.audit.events().into_iter().filter(|(_, event)| event.name == "tool.denied");
    let reasons: Vec<_> = denied.filter_map(|(_, event)| event.reason).collect();
    assert_eq!(reasons, ["foreign-task"; 7]);
}

#[tokio::test]
async fn the_state_of_a_request_is_unknown_to_every_caller_but_the_one_that_it_was_given_to() {
    let callers = Callers::new().await;
    let call = |tokens: &Tokens, state: Option<&str>| {
        let mut params = json!({ "name": "deploy", "arguments": {} });
        if let Some(state) = state {
            params["requestState"] = json!(state);
            params["inputResponses"] = json!({});
        }
        post(tokens, "2026-07-28", &modern("tools/call", params, json!({})))
    };
    let grant = callers.grant(&call(&callers.alice, None)).await;
    callers.answered(&grant, &json!({ "resultType": "input_required", "requestState": "s-1" })).await;
    callers.grant(&call(&callers.alice, Some("s-1"))).await;
    assert_eq!(callers.refusal(&call(&callers.alice, Some("s-2"))).await.1, -32602, "it was given to no caller");
    for other in &callers.others {
        assert_eq!(callers.refusal(&call(other, Some("s-1"))).await.1, -32602);
    }
}

#[tokio::test]
async fn the_id_of_an_event_is_unknown_to_every_caller_but_the_one_that_read_it() {
    let callers = Callers::new().await;
    let open = |tokens: &Tokens, last: Option<&str>| {
        let mut fields = vec![("accept", "text/event-stream"), ("mcp-protocol-version", "2025-11-25")];
        fields.extend(last.map(|last| ("last-event-id", last)));
        request("GET", tokens, &fields, "")
    };
    let grant = callers.grant(&open(&callers.alice, None)).await;
    assert_eq!(grant.event_key.len(), 32);
    // As the contract says that the host makes it.
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &grant.event_key), b"stream_7");
    let tagged = format!("{}.stream_7", URL_SAFE_NO_PAD.encode(&tag.as_ref()[..16]));
    let resumed = callers.grant(&open(&callers.alice, Some(&tagged))).await;
    let told: Vec<_> = resumed.set_headers.iter().filter(|(name, _)| name == "last-event-id").collect();
    assert_eq!(told, [&("last-event-id".to_owned(), b"stream_7".to_vec())]);
    assert_eq!(callers.refusal(&open(&callers.alice, Some("stream_7"))).await.0, 404, "without its tag");
    for other in &callers.others {
        assert_eq!(callers.refusal(&open(other, Some(&tagged))).await.0, 404);
    }
}

#[tokio::test]
async fn a_session_of_the_server_behind_is_unknown_to_every_caller_but_the_one_whose_it_is() {
    let callers = Callers::new().await;
    let ping = |tokens: &Tokens, session: Option<&str>| {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        let mut request = post(tokens, "2025-11-25", &message);
        request.headers.extend(session.map(|id| ("mcp-session-id".to_owned(), id.as_bytes().to_vec())));
        request
    };
    let grant = callers.grant(&ping(&callers.alice, None)).await;
    let head = AnswerHead { status: 200, latency_us: 7, session_id: Some("behind-1".to_owned()), refusal: None };
    let answered = callers.fleet.replica().answered(&grant.handle, &head).await.expect("the component records");
    let fields = answered.expect("the answer passes");
    let sealed = fields.iter().find(|(name, _)| name == "mcp-session-id").expect("a session id");
    let sealed = String::from_utf8(sealed.1.clone()).unwrap();
    assert!(!sealed.contains("behind-1"));
    let own = callers.grant(&ping(&callers.alice, Some(&sealed))).await;
    assert!(own.set_headers.contains(&("mcp-session-id".to_owned(), b"behind-1".to_vec())));
    for other in &callers.others {
        assert_eq!(callers.refusal(&ping(other, Some(&sealed))).await, (404, json!(-32001)));
    }
}
