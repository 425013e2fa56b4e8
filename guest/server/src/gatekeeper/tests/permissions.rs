//! Which callers may use what of a server behind: every kind is denied, and no rule is gone round.

use super::*;

/// What names something, by kind.
fn asking(kind: TargetKind, name: &str) -> Vec<Value> {
    let request =
        |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    match kind {
        TargetKind::Tool => vec![request("tools/call", json!({ "name": name }))],
        TargetKind::Prompt => vec![
            request("prompts/get", json!({ "name": name })),
            request("completion/complete", json!({ "ref": { "type": "ref/prompt", "name": name } })),
        ],
        TargetKind::Resource => vec![
            request("resources/read", json!({ "uri": name })),
            request("resources/subscribe", json!({ "uri": name })),
            request("resources/unsubscribe", json!({ "uri": name })),
            request("subscriptions/listen", json!({ "notifications": { "resourceSubscriptions": ["x://y", name] } })),
            request("completion/complete", json!({ "ref": { "type": "ref/resource", "uri": name } })),
        ],
        TargetKind::Completion => vec![
            request("completion/complete", json!({ "ref": { "type": "ref/prompt", "name": name } })),
            request("completion/complete", json!({ "ref": { "type": "ref/resource", "uri": name } })),
        ],
        TargetKind::Task => vec![request(&format!("tasks/{name}"), json!({ "taskId": "7" }))],
    }
}

#[test]
fn everything_that_a_rule_names_is_denied_to_callers_that_do_not_fit() {
    for (kind, name) in [
        (TargetKind::Tool, "delete_record"),
        (TargetKind::Resource, "crm://secret"),
        (TargetKind::Prompt, "plan"),
        (TargetKind::Completion, "plan"),
        (TargetKind::Task, "cancel"),
    ] {
        let lab = Lab::new(vec![for_admins(kind, name)]);
        for message in asking(kind, name) {
            lab.grant(post(&lab.alice, &message));
            let refused = json_of(&lab.refusal(post(&lab.bob, &message)));
            let denied =
                if kind == TargetKind::Tool { &refused["result"]["isError"] } else { &refused["error"]["code"] };
            assert!(*denied == json!(true) || *denied == json!(-32602), "{message}: {refused}");
            assert!(refused.to_string().contains("correlation id"), "{refused}");
            let told = match kind {
                TargetKind::Tool => "you may not call this tool: this tool needs one of",
                TargetKind::Resource => "you may not use this resource: this resource needs one of",
                TargetKind::Prompt => "you may not use this prompt: this prompt needs one of",
                TargetKind::Completion => "you may not ask for this completion: this completion needs one of",
                TargetKind::Task => "you may not do this with tasks: this operation on tasks needs one of",
            };
            assert!(refused.to_string().contains(told), "{refused}");
            // As a notification a careless server would carry it out as well.
            let mut notification = message.clone();
            notification.as_object_mut().unwrap().remove("id");
            assert_eq!(lab.refusal(post(&lab.bob, &notification)).status(), 400, "{notification}");
        }
        let denied = lab.denials();
        assert!(
            denied.iter().all(|denial| *denial == ("crm".into(), name.into(), "role-missing".into())),
            "{denied:?}"
        );
        assert_eq!(denied.len(), 2 * asking(kind, name).len());
        let audited = lab.world().audited();
        let of_kind = audited.iter().find(|event| event.name == "tool.denied").unwrap();
        assert_eq!(of_kind.kind, (kind != TargetKind::Tool).then(|| kind.name()));
        assert_eq!(of_kind.object_id.as_deref(), Some("bob-object"));
    }
}

#[test]
fn without_rules_all_are_let_in_and_with_deny_unlisted_none_are() {
    let lab = Lab::open();
    let mut closed = Lab::open();
    configure(&mut closed.env, |http| http.deny_unlisted = true);
    for (kind, name) in [
        (TargetKind::Tool, "delete_record"),
        (TargetKind::Resource, "crm://secret"),
        (TargetKind::Prompt, "plan"),
        (TargetKind::Task, "cancel"),
    ] {
        for message in asking(kind, name) {
            // The task is Alice's.
            lab.grant(post(if kind == TargetKind::Task { &lab.alice } else { &lab.bob }, &message));
            let refused = json_of(&closed.refusal(post(&closed.alice, &message)));
            assert_eq!(refused["error"]["code"], -32602, "{message}");
        }
    }
    let unknown = json!({ "jsonrpc": "2.0", "id": 1, "method": "crm/export" });
    lab.grant(post(&lab.bob, &unknown));
    assert_eq!(json_of(&closed.refusal(post(&closed.alice, &unknown)))["error"]["code"], -32601);
    for method in ["ping", "tools/list", "server/discover"] {
        closed.grant(post(&closed.alice, &json!({ "jsonrpc": "2.0", "id": 1, "method": method })));
    }
}

#[test]
fn a_method_that_2026_07_28_does_not_have_is_unknown_and_one_that_names_a_resource_is_decided_on() {
    let lab = Lab::new(vec![for_admins(TargetKind::Resource, "crm://secret"), for_admins(TargetKind::Task, "*")]);
    for (method, params) in [
        ("tasks/list", json!({})),
        ("tasks/result", json!({ "taskId": "foreign" })),
        ("tasks/result", json!({ "taskId": "7" })),
        ("tasks/result", json!({})),
    ] {
        for by in [&lab.alice, &lab.bob] {
            let answer = lab.refusal(modern(by, method, params.clone(), None));
            assert_eq!(
                (answer.status().as_u16(), &json_of(&answer)["error"]["code"]),
                (404, &json!(-32601)),
                "{method}"
            );
        }
    }
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        let answer = lab.refusal(modern(&lab.alice, method, json!({}), None));
        assert_eq!((answer.status().as_u16(), &json_of(&answer)["error"]["code"]), (404, &json!(-32601)), "{method}");
        let named = |by| modern(by, method, json!({ "uri": "crm://secret" }), None);
        lab.grant(named(&lab.alice));
        assert_eq!(json_of(&lab.refusal(named(&lab.bob)))["error"]["code"], -32602, "{method}");
        let odd = lab.refusal(modern(&lab.alice, method, json!({ "uri": 7 }), None));
        assert_eq!(json_of(&odd)["error"]["code"], -32602, "{method}");
        let of_before = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": {} });
        assert_eq!(json_of(&lab.refusal(post(&lab.alice, &of_before)))["error"]["code"], -32602, "{method}");
    }
}

#[test]
fn where_tools_have_rules_tasks_need_one() {
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")]);
    for action in ["get", "list", "result", "cancel", "update"] {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": format!("tasks/{action}"), "params": {} });
        for by in [&lab.alice, &lab.bob] {
            assert_eq!(json_of(&lab.refusal(post(by, &message)))["error"]["code"], -32602, "{action}");
        }
    }
    assert!(lab.denials().iter().all(|(_, _, reason)| reason == "tool-not-listed"));
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record"), for_admins(TargetKind::Task, "*")]);
    for message in asking(TargetKind::Task, "get") {
        lab.grant(post(&lab.alice, &message));
        lab.refusal(post(&lab.bob, &message));
    }
}

#[test]
fn whatever_uses_something_is_on_record() {
    let lab = Lab::open();
    let head = AnswerHead { status: 200, latency_us: 1, session_id: None, refusal: None };
    for (method, params, kinds) in [
        ("tasks/result", json!({ "taskId": "7" }), vec!["task"]),
        ("tasks/get", json!({ "taskId": "7" }), vec!["task"]),
        ("tasks/cancel", json!({ "taskId": "7" }), vec!["task"]),
        ("tasks/list", json!({}), vec![]),
        ("resources/subscribe", json!({ "uri": "a://b" }), vec!["resource"]),
        ("completion/complete", json!({ "ref": { "type": "ref/prompt", "name": "p" } }), vec!["completion", "prompt"]),
    ] {
        let before = lab.world().audited().len();
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let grant = lab.grant(post(&lab.alice, &body));
        run(answered(&lab.later(), grant.handle.reveal(), &head)).unwrap();
        let audited = lab.world().audited();
        let recorded: Vec<_> = audited[before..].iter().filter(|event| event.name == "tool.called").collect();
        assert_eq!(recorded.iter().filter_map(|event| event.kind).collect::<Vec<_>>(), kinds, "{method}");
    }
}

#[test]
fn a_caller_that_the_server_cannot_be_told_of_is_on_record() {
    let mut lab = Lab::open();
    change(&mut lab.env, |settings| {
        settings.servers[0].identity = ServerIdentity::Token { permissions: vec![MAIL.to_owned()] };
    });
    let app = lab.sign(&entra::testing::app_claims());
    assert_eq!(lab.refusal(lab.call(&app, "list")).status(), 403);
    assert_eq!(lab.denials(), [("crm".to_owned(), "list".to_owned(), "no-user".to_owned())]);
    assert_eq!(lab.refusal(request(Method::GET, "/crm/mcp", &app)).status(), 403);
    assert_eq!(lab.denials()[1], ("crm".to_owned(), "*".to_owned(), "no-user".to_owned()));
}

#[test]
fn a_variant_of_a_ruled_name_is_denied() {
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")]);
    for name in [
        "Delete_Record",
        "delete_record ",
        "delete\u{200b}_record",
        "ｄelete_record",
        "delete_record\0",
        "dele\u{301}te",
    ] {
        let refused = json_of(&lab.refusal(lab.call(&lab.bob, name)));
        assert_eq!(refused["result"]["isError"], json!(true), "{name:?} {refused}");
    }
    assert!(lab.denials().iter().all(|(_, _, reason)| reason == "name-ambiguous"));
    lab.grant(lab.call(&lab.bob, "list_records"));
}

#[test]
fn nothing_of_a_batch_goes_on_if_one_message_is_denied() {
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")]);
    let call =
        |id: u32, tool: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool } });
    let batch = json!([call(1, "list"), call(2, "delete_record"), { "jsonrpc": "2.0", "method": "notifications/x" }]);
    lab.grant(post(&lab.alice, &batch));
    let refused = json_of(&lab.refusal(post(&lab.bob, &batch)));
    let ids: Vec<_> = refused.as_array().unwrap().iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [json!(2), json!(1)], "{refused}");
    assert_eq!((&refused[0]["result"]["isError"], &refused[1]["error"]["code"]), (&json!(true), &json!(-32600)));
    // In every other revision there is none.
    for version in ["2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28"] {
        let mut request = post(&lab.alice, &batch);
        request.headers.insert("mcp-protocol-version", HeaderValue::from_static(version));
        assert_eq!(json_of(&lab.refusal(request))["error"]["code"], -32600, "{version}");
    }
    let many: Vec<_> = (0..21).map(|id| call(id, "list")).collect();
    assert_eq!(json_of(&lab.refusal(post(&lab.alice, &json!(many))))["error"]["code"], -32600);
    let initialize = json!([{ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {} }]);
    assert_eq!(json_of(&lab.refusal(post(&lab.alice, &initialize)))["error"]["code"], -32600);
}

#[test]
fn missing_scopes_are_a_challenge_that_names_them() {
    let scoped = ToolRule { rule: Rule::users().with_scopes(&["Crm.Write"]), ..for_admins(TargetKind::Tool, "write") };
    let lab = Lab::new(vec![scoped]);
    let refused = lab.refusal(lab.call(&lab.alice, "write"));
    assert_eq!(refused.status(), 403);
    let challenge = field(refused.headers(), "www-authenticate");
    assert!(challenge.contains("insufficient_scope") && challenge.contains("Crm.Write"), "{challenge}");
}

#[test]
fn a_denial_has_the_form_of_the_era() {
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")]);
    let refused =
        lab.refusal(modern(&lab.bob, "tools/call", json!({ "name": "delete_record" }), Some("delete_record")));
    let answer = json_of(&refused);
    assert_eq!((refused.status().as_u16(), &answer["result"]["resultType"]), (200, &json!("complete")));
    assert_eq!(json_of(&lab.refusal(lab.call(&lab.bob, "delete_record")))["result"].get("resultType"), None);
}
