//! What a server behind hands out to one caller is of no use to another: tasks, states of requests, ids of events.

use base::encoding::base64url;
use world::records::derived::mac;

use super::*;

const NOT_FOUND: i64 = -32602;

impl Lab {
    /// The server behind has answered an admitted request with this result.
    fn answers(&self, grant: &Grant, result: &Value) -> Value {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
        serde_json::from_str(&run(judge_answer(&self.later(), grant.handle.reveal(), message))).unwrap()
    }

    fn code(&self, request: Request) -> i64 {
        json_of(&self.refusal(request))["error"]["code"].as_i64().unwrap()
    }

    /// A call that is to become a task (2025-11-25).
    fn task(&self, by: &Secret<String>) -> Request {
        let params = json!({ "name": "report", "task": { "ttl": 60000 } });
        post(by, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }))
    }
}

fn about_task(by: &Secret<String>, method: &str, id: &str) -> Request {
    post(by, &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "taskId": id } }))
}

const METHODS: [&str; 4] = ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"];

#[test]
fn a_task_is_of_the_caller_whose_call_it_was() {
    for result in [
        json!({ "task": { "taskId": "t-1", "status": "working", "ttl": 60000 } }),
        json!({ "resultType": "task", "taskId": "t-1", "status": "working" }),
    ] {
        let lab = Lab::open();
        for method in METHODS {
            assert_eq!(lab.code(about_task(&lab.alice, method, "t-1")), NOT_FOUND, "it was not handed out yet");
        }
        let grant = lab.grant(lab.task(&lab.alice));
        assert!(grant.note_answer && !grant.judge_answer);
        assert_eq!(lab.answers(&grant, &result)["result"], result, "it passes as it is");
        for method in METHODS {
            lab.grant(about_task(&lab.alice, method, "t-1"));
            assert_eq!(lab.code(about_task(&lab.bob, method, "t-1")), NOT_FOUND, "{method}");
        }
        let denial = |action: &str| ("crm".to_owned(), action.to_owned(), "foreign-task".to_owned());
        let actions = ["get", "result", "cancel", "update"].map(denial);
        assert_eq!(lab.denials(), [actions.clone(), actions].concat());
    }
}

#[test]
fn a_task_of_one_server_is_unknown_at_another() {
    let lab = Lab::open();
    let request = Request { path: "/wiki/mcp".to_owned(), ..about_task(&lab.alice, "tasks/get", "7") };
    let alice = begin(&lab.env, "alice-object", "/wiki/mcp", &["admin"]);
    let mut request = request;
    request.headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {}", alice.reveal())).unwrap());
    assert_eq!(lab.code(request), NOT_FOUND);
}

#[test]
fn a_server_that_counts_tasks_anew_for_each_caller_may_give_two_the_same_id() {
    let lab = Lab::open();
    let grant = lab.grant(lab.task(&lab.bob));
    lab.answers(&grant, &json!({ "task": { "taskId": "7" } }));
    for by in [&lab.alice, &lab.bob] {
        lab.grant(about_task(by, "tasks/get", "7"));
    }
}

#[test]
fn an_unknown_method_names_the_callers_own_task_too() {
    let lab = Lab::open();
    lab.grant(about_task(&lab.alice, "crm/resume", "7"));
    assert_eq!(lab.code(about_task(&lab.bob, "crm/resume", "7")), NOT_FOUND);
    // A task of the client itself, of which it tells the server behind.
    let status = json!({ "jsonrpc": "2.0", "method": "notifications/tasks/status", "params": { "taskId": "of-bob" } });
    lab.grant(post(&lab.bob, &status));
}

#[test]
fn a_list_of_tasks_has_the_callers_own() {
    let lab = Lab::open();
    let tasks = json!({ "tasks": [{ "taskId": "7" }, { "taskId": "8" }, { "status": "working" }, 1] });
    let list = |by: &Secret<String>| {
        let grant = lab.grant(post(by, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tasks/list" })));
        assert!(grant.judge_answer);
        lab.answers(&grant, &tasks)["result"]["tasks"].clone()
    };
    assert_eq!(list(&lab.alice), json!([{ "taskId": "7" }]));
    assert_eq!(list(&lab.bob), json!([]));
}

#[test]
fn a_subscription_to_tasks_is_to_the_callers_own() {
    let lab = Lab::open();
    let listen = |by: &Secret<String>, ids: Value| {
        modern(by, "subscriptions/listen", json!({ "notifications": { "taskIds": ids } }), None)
    };
    lab.grant(listen(&lab.alice, json!(["7"])));
    lab.grant(listen(&lab.alice, json!([])));
    assert_eq!(lab.code(listen(&lab.alice, json!(["7", "8"]))), NOT_FOUND);
    assert_eq!(lab.code(listen(&lab.bob, json!(["7"]))), NOT_FOUND);
    for malformed in [json!("7"), json!([7]), json!(vec!["7"; 101])] {
        assert_eq!(lab.code(listen(&lab.alice, malformed)), -32602);
    }
}

#[test]
fn the_state_of_a_request_is_of_the_caller_that_it_was_given_to() {
    let lab = Lab::open();
    let call = |by: &Secret<String>, state: Option<&str>| {
        let mut params = json!({ "name": "deploy", "arguments": {} });
        if let Some(state) = state {
            params["requestState"] = json!(state);
            params["inputResponses"] = json!({});
        }
        modern(by, "tools/call", params, Some("deploy"))
    };
    let grant = lab.grant(call(&lab.alice, None));
    assert!(grant.note_answer);
    lab.answers(&grant, &json!({ "resultType": "input_required", "requestState": "s-1" }));
    lab.grant(call(&lab.alice, Some("s-1")));
    for (by, state) in [(&lab.bob, "s-1"), (&lab.alice, "s-2"), (&lab.alice, "")] {
        assert_eq!(lab.code(call(by, Some(state))), NOT_FOUND, "{state}");
    }
    let denial = ("crm".to_owned(), "deploy".to_owned(), "foreign-state".to_owned());
    assert_eq!(lab.denials(), vec![denial; 3]);
    let mut malformed = json!({ "name": "deploy", "requestState": { "a": 1 } });
    malformed["arguments"] = json!({});
    assert_eq!(lab.code(modern(&lab.alice, "tools/call", malformed, Some("deploy"))), -32602);
    // Other spellings of the names, which some servers take for them, do not go on.
    for name in ["RequestState", "requeststate", "TaskId"] {
        let params = json!({ "name": "deploy", "arguments": {}, name: "s-1" });
        assert_eq!(lab.code(modern(&lab.alice, "tools/call", params, Some("deploy"))), -32600, "{name}");
    }
}

#[test]
fn an_event_is_gone_on_after_by_the_caller_that_has_it() {
    let lab = Lab::open();
    let open = |by: &Secret<String>| request(Method::GET, "/crm/mcp", by);
    let grant = lab.grant(open(&lab.alice));
    assert!(!grant.note_answer);
    let key = grant.event_key;
    let tagged = format!("{}.stream_7", base64url(&mac(&key, b"stream_7")[..16]));
    let resumed = lab.grant(with(open(&lab.alice), "last-event-id", &tagged));
    assert_eq!(field(&resumed.set_headers, "last-event-id"), "stream_7");
    assert!(resumed.note_answer, "it may say what an answer was to say that broke off");
    assert_eq!(resumed.event_key.reveal(), key.reveal());
    let with_token = lab.sign(&entra::testing::with(entra::testing::user_claims(), json!({ "scp": "access_as_user" })));
    for (by, id) in [
        (&lab.bob, tagged.as_str()),
        (&with_token, &tagged),
        (&lab.alice, "stream_7"),
        (&lab.alice, &tagged.replace("stream_7", "stream_8")),
        (&lab.alice, ""),
    ] {
        let refused = lab.refusal(with(open(by), "last-event-id", id));
        assert_eq!(refused.status(), 404, "{id}");
    }
    let posted = with(lab.call(&lab.bob, "list"), "last-event-id", &tagged);
    assert_eq!(lab.refusal(posted).status(), 404, "in a POST as well");
}
