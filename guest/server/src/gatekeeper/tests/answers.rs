//! Heads and lists of answers of a server behind.

use std::time::Duration;

use super::*;

fn head(status: u16) -> AnswerHead {
    AnswerHead { status, latency_us: 1500, session_id: None, refusal: None }
}

#[test]
fn a_call_is_on_record_with_server_tool_time_and_status() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    for (status, outcome, reason) in [
        (200, base::audit::Outcome::Success, None),
        (500, base::audit::Outcome::Failure, Some("upstream-status")),
        (0, base::audit::Outcome::Failure, Some("upstream-unreachable")),
    ] {
        let _ = run(answered(&lab.later(), grant.handle.reveal(), &head(status)));
        let event = lab.world().audited().pop().unwrap();
        assert_eq!((event.name, event.outcome, event.reason.as_deref()), ("tool.called", outcome, reason));
        assert_eq!((event.server.as_deref(), event.tool.as_deref(), event.kind), (Some("crm"), Some("list"), None));
        assert_eq!((event.upstream_status, event.latency_us), (Some(status.into()), Some(1500)));
        assert_eq!((event.object_id.as_deref(), event.address.as_deref()), (Some("alice-object"), Some("192.0.2.1")));
        assert!(event.session.is_some());
        assert_eq!(event.correlation_id, grant.caller.correlation_id);
    }
    let ping = lab.grant(post(&lab.alice, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })));
    let before = lab.world().audited().len();
    run(answered(&lab.later(), ping.handle.reveal(), &head(200))).unwrap();
    assert_eq!(lab.world().audited().len(), before, "it uses nothing");
    let read = json!({ "jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": { "uri": "x".repeat(1000) } });
    run(answered(&lab.later(), lab.grant(post(&lab.alice, &read)).handle.reveal(), &head(200))).unwrap();
    let event = lab.world().audited().pop().unwrap();
    assert_eq!((event.kind, event.tool.unwrap().len()), (Some("resource"), 256));
}

#[test]
fn a_record_that_cannot_be_written_keeps_the_answer_back() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    lab.world().refuse_audit(true);
    let refused = run(answered(&lab.later(), grant.handle.reveal(), &head(200))).unwrap_err();
    assert_eq!(refused.status(), 503);
    assert_ne!(field(refused.headers(), "x-correlation-id"), "");
}

#[test]
fn a_server_behind_does_not_redirect_challenge_or_switch_protocols() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    let answer = |status| {
        let answered = run(answered(&lab.later(), grant.handle.reveal(), &head(status)));
        answered.map_or_else(|refused| refused.status().as_u16(), |_| status)
    };
    for status in [0, 100, 101, 103, 300, 301, 302, 307, 308, 401, 407, 600, 999] {
        assert_eq!(answer(status), 502, "{status}");
    }
    for status in [200, 202, 204, 400, 403, 404, 405, 429, 500, 503] {
        assert_eq!(answer(status), status);
    }
}

#[test]
fn an_answer_has_the_header_fields_of_every_answer() {
    let lab = Lab::open();
    let grant = lab.grant(with(lab.call(&lab.alice, "list"), "origin", "https://app.example.com"));
    let fields = run(answered(&lab.later(), grant.handle.reveal(), &head(200))).unwrap();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("access-control-allow-origin", "https://app.example.com"),
        ("vary", "Origin"),
    ] {
        assert_eq!(field(&fields, name), value, "{name}");
    }
    let plain = lab.grant(lab.call(&lab.alice, "list"));
    let fields = run(answered(&lab.later(), plain.handle.reveal(), &head(200))).unwrap();
    assert_eq!(field(&fields, "access-control-allow-origin"), "");
}

#[test]
fn a_session_id_that_no_header_may_have_is_refused() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    for id in ["", "a b", "a\r\nset-cookie: x", "ü", &"x".repeat(1025)] {
        let head = AnswerHead { session_id: Some(id.to_owned()), ..head(200) };
        let refused = run(answered(&lab.later(), grant.handle.reveal(), &head)).unwrap_err();
        assert_eq!(refused.status(), 502, "{id:?}");
    }
}

#[test]
fn an_altered_or_late_handle_passes_no_answer() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    let mut altered = grant.handle.reveal().clone();
    let last = altered.pop().unwrap();
    altered.push(if last == 'A' { 'B' } else { 'A' });
    altered.replace_range(40..41, if altered.as_bytes()[40] == b'A' { "B" } else { "A" });
    for handle in [altered.as_str(), "", "x"] {
        assert_eq!(run(answered(&lab.later(), handle, &head(200))).unwrap_err().status(), 504);
    }
    lab.world().advance(Duration::from_secs(7200));
    assert_eq!(run(answered(&lab.later(), grant.handle.reveal(), &head(200))).unwrap_err().status(), 504);
}

fn rules() -> Vec<ToolRule> {
    vec![
        for_admins(TargetKind::Tool, "delete_record"),
        for_admins(TargetKind::Resource, "crm://secret"),
        for_admins(TargetKind::Prompt, "plan"),
    ]
}

fn lists() -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "result": {
        "tools": [{ "name": "delete_record" }, { "name": "list", "x": 1.50 }, { "name": "Delete_Record" }, { "no": 1 }, 7],
        "resources": [{ "uri": "crm://secret" }, { "uri": "crm://open" }],
        "resourceTemplates": [{ "uriTemplate": "crm://secret" }, { "uriTemplate": "crm://{id}" }],
        "prompts": [{ "name": "plan" }, { "name": "hello" }],
        "nextCursor": "c", "ttlMs": 300000, "cacheScope": "public",
    } })
}

fn names(message: &str, list: &str) -> Vec<String> {
    let message: Value = serde_json::from_str(message).unwrap();
    let items = message["result"][list].as_array().unwrap().iter();
    items
        .map(|item| {
            item["name"].as_str().or(item["uri"].as_str()).or(item["uriTemplate"].as_str()).unwrap_or("?").to_owned()
        })
        .collect()
}

#[test]
fn lists_hold_what_the_caller_of_the_handle_may_use() {
    let lab = Lab::new(rules());
    let list = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" });
    let judged = |by: &Secret<String>| {
        let grant = lab.grant(post(by, &list));
        assert!(grant.judge_answer);
        run(judge_answer(&lab.later(), grant.handle.reveal(), lists().to_string()))
    };
    let (alice, bob) = (judged(&lab.alice), judged(&lab.bob));
    assert_eq!(names(&alice, "tools"), ["delete_record", "list"]);
    assert_eq!(names(&bob, "tools"), ["list"]);
    assert_eq!((names(&alice, "resources").len(), names(&bob, "resources")), (2, vec!["crm://open".to_owned()]));
    assert_eq!(
        (names(&alice, "resourceTemplates").len(), names(&bob, "resourceTemplates")),
        (2, vec!["crm://{id}".to_owned()])
    );
    assert_eq!((names(&alice, "prompts").len(), names(&bob, "prompts")), (2, vec!["hello".to_owned()]));
    for answer in [alice, bob] {
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&answer["result"]["cacheScope"], &answer["result"]["nextCursor"]),
            (&json!("private"), &json!("c"))
        );
    }
    assert!(lab.denials().is_empty(), "a list is no attempt");
}

#[test]
fn a_server_whose_lists_change_between_requests_gets_no_rule_bypassed() {
    let lab = Lab::new(rules());
    let list = |items: &Value| {
        let grant = lab.grant(post(&lab.bob, &json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" })));
        let list = json!({ "jsonrpc": "2.0", "id": 7, "result": { "tools": items } }).to_string();
        names(&run(judge_answer(&lab.later(), grant.handle.reveal(), list)), "tools")
    };
    // It names the ruled tool otherwise, later as it is, and by letters that look alike.
    assert_eq!(list(&json!([{ "name": "list" }, { "name": "remove" }])), ["list", "remove"]);
    let later = json!([
        { "name": "delete_record" }, { "name": "DELETE_RECORD" }, { "name": "delete_record " },
        { "name": "delete\u{200b}_record" }, { "name": "delete_\u{ff52}ecord" }, { "name": "list" },
    ]);
    assert_eq!(list(&later), ["list"]);
    assert_eq!(list(&json!([{ "name": "list" }, { "name": "remove" }])), ["list", "remove"]);
    // What a list has said or not said decides nothing about a call.
    for name in ["delete_record", "DELETE_RECORD", "delete_record ", "delete\u{200b}_record", "delete_\u{ff52}ecord"] {
        let refused = json_of(&lab.refusal(lab.call(&lab.bob, name)));
        assert_eq!(refused["result"]["isError"], true, "{name:?}");
    }
    lab.grant(lab.call(&lab.bob, "never-listed"));
}

#[test]
fn what_needs_no_change_comes_through_as_it_is() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    for message in [
        r#"{ "jsonrpc":"2.0", "id":1, "result":{"tools" :[{"name":"b","z":1.0,"a":1e3}]} }"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":{"Tasks":[],"TOOLS":1,"tasks":[1]}}}"#,
    ] {
        assert_eq!(run(judge_answer(&lab.later(), grant.handle.reveal(), message.to_owned())), message);
    }
    let modern = lab.grant(modern(&lab.alice, "tools/list", json!({}), None));
    let list = r#"{"id":1,"jsonrpc":"2.0","result":{"tools":[]}}"#;
    let judged = run(judge_answer(&lab.later(), modern.handle.reveal(), list.to_owned()));
    assert_eq!(judged, r#"{"id":1,"jsonrpc":"2.0","result":{"cacheScope":"private","tools":[]}}"#);
}

#[test]
fn a_list_that_cannot_be_judged_is_an_error() {
    let lab = Lab::new(rules());
    let grant = lab.grant(post(&lab.bob, &json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" })));
    let judge = |message: String| {
        let judged = run(judge_answer(&lab.later(), grant.handle.reveal(), message));
        serde_json::from_str::<Value>(&judged).unwrap()["error"]["code"].clone()
    };
    let list = |items: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":{items}}}}}"#);
    for message in [
        String::new(),
        "x".to_owned(),
        list("{}"),
        list(r#"[{"name":"a","name":"delete_record"}]"#),
        list(r#"[],"tools":[{"name":"delete_record"}]"#),
        list(&format!("[{}1]", "{},".repeat(60_000))),
        list(&format!("[{}]", "[".repeat(200))),
        " ".repeat(4 * 1024 * 1024 + 1),
    ] {
        assert_eq!(judge(message.clone()), json!(-32603), "{}", message.get(..60).unwrap_or(&message));
    }
    let many: Vec<_> = (0..10_000).map(|n| json!({ "name": format!("tool-{n}") })).collect();
    assert_eq!(judge(list(&json!(many).to_string())), Value::Null, "that is only long");
    let late = run(judge_answer(&lab.later(), "altered", lists().to_string()));
    let late: Value = serde_json::from_str(&late).unwrap();
    assert_eq!((&late["id"], &late["error"]["code"]), (&json!(7), &json!(-32603)));
    lab.world().advance(Duration::from_secs(600));
    assert_eq!(judge(lists().to_string()), json!(-32603));
}

#[test]
fn where_there_are_rules_every_answer_is_judged() {
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")]);
    for method in ["tools/list", "ping", "notifications/initialized", "crm/export"] {
        assert!(lab.grant(post(&lab.bob, &json!({ "jsonrpc": "2.0", "id": 1, "method": method }))).judge_answer);
    }
    assert!(lab.grant(lab.call(&lab.bob, "list")).judge_answer, "a list may come on another stream");
    assert!(lab.grant(request(Method::GET, "/crm/mcp", &lab.bob)).judge_answer);
    assert!(!Lab::open().grant(lab.call(&lab.bob, "list")).judge_answer);
}

#[test]
fn an_answer_may_stream_where_no_list_was_asked_for_and_no_client_keeps_it() {
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")]);
    let may_stream = |method: &str, params: Value| {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        lab.grant(post(&lab.bob, &message)).answer_may_stream
    };
    assert!(may_stream("tools/call", json!({ "name": "list" })));
    assert!(may_stream("prompts/get", json!({ "name": "p" })));
    assert!(may_stream("resources/read", json!({ "uri": "demo://a" })));
    assert!(may_stream("completion/complete", json!({ "ref": { "type": "ref/prompt", "name": "p" } })));
    for method in ["tools/list", "resources/list", "resources/templates/list", "prompts/list", "ping", "crm/export"] {
        assert!(!may_stream(method, json!({})), "{method}");
    }
    assert!(!lab.grant(request(Method::GET, "/crm/mcp", &lab.bob)).answer_may_stream);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "list" } });
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    assert!(!lab.grant(post(&lab.bob, &json!([call, list]))).answer_may_stream);
    let open = Lab::open();
    assert!(!open.grant(open.call(&open.bob, "list")).answer_may_stream, "nothing of it is judged");
}

#[test]
fn a_list_under_a_name_that_a_client_may_read_as_that_of_a_list_is_an_error() {
    let lab = Lab::new(rules());
    let grant = lab.grant(lab.call(&lab.bob, "list"));
    for message in [
        r#"{"jsonrpc":"2.0","id":7,"Result":{"tools":[{"name":"delete_record"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"Tools":[{"name":"delete_record"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tool\u017f":[{"name":"delete_record"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"RESOURCES":[]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"re\u017fourceTemplates":[]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"cachescope":"public","contents":[]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"list","Name":"delete_record"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"resources":[{"uri":"crm://open","URI":"crm://secret"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"Tasks":[{"taskId":"7"}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"tas\u212as":[{"taskId":"7"}]}}"#,
        r#"[{"jsonrpc":"2.0","id":7,"re\u017fult":{}}]"#,
    ] {
        let judged = run(judge_answer(&lab.later(), grant.handle.reveal(), message.to_owned()));
        let judged: Value = serde_json::from_str(&judged).unwrap();
        assert_eq!(judged["error"]["code"], -32603, "{message}: {judged}");
    }
}

#[test]
fn what_a_resource_holds_and_a_server_says_of_itself_is_private_where_it_may_depend_on_the_caller() {
    let read = r#"{"id":1,"jsonrpc":"2.0","result":{"contents":[]}}"#;
    let discovered = r#"{"id":1,"jsonrpc":"2.0","result":{"cacheScope":"public","supportedVersions":[]}}"#;
    let called = r#"{"id":1,"jsonrpc":"2.0","result":{"content":[]}}"#;
    let mut told = Lab::open();
    change(&mut told.env, |settings| settings.servers[0].identity = ServerIdentity::EasyAuth);
    for lab in [told, Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")])] {
        let ask = |method: &str, params: Value, name: Option<&str>, answer: &str| {
            let grant = lab.grant(modern(&lab.bob, method, params, name));
            assert!(grant.judge_answer, "{method}");
            run(judge_answer(&lab.later(), grant.handle.reveal(), answer.to_owned()))
        };
        let judged = ask("resources/read", json!({ "uri": "crm://a" }), Some("crm://a"), read);
        assert_eq!(judged, r#"{"id":1,"jsonrpc":"2.0","result":{"cacheScope":"private","contents":[]}}"#);
        let judged = ask("server/discover", json!({}), None, discovered);
        assert!(judged.contains(r#""cacheScope":"private""#), "{judged}");
        assert_eq!(ask("tools/call", json!({ "name": "a" }), Some("a"), called), called);
    }
    let open = Lab::open();
    let grant = open.grant(modern(&open.bob, "resources/read", json!({ "uri": "crm://a" }), Some("crm://a")));
    assert!(!grant.judge_answer, "all callers are the same to it");
}

#[test]
fn a_list_after_the_end_of_the_session_is_an_error() {
    let lab = Lab::new(rules());
    let grant = lab.grant(post(&lab.alice, &json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" })));
    end_sessions(&lab);
    let judged = run(judge_answer(&lab.later(), grant.handle.reveal(), lists().to_string()));
    assert!(judged.contains("-32603") && !judged.contains("list\""), "{judged}");
}

/// As `/revoke` does.
pub(super) fn end_sessions(lab: &Lab) {
    for name in lab.world().record_names() {
        if name.contains("/session/") {
            lab.world().delete(&name).unwrap();
        }
    }
}
