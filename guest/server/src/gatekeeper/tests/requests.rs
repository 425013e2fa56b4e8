//! What of a request is checked before anything is decided, and with which header fields it goes on.

use std::time::Duration;

use base::settings::HttpSettings;

use super::*;

#[test]
fn an_admitted_request_goes_on_without_the_token_of_its_client() {
    let lab = Lab::open();
    let grant = lab.grant(with(lab.call(&lab.alice, "list"), "x-ms-client-principal-name", "bob@contoso.example"));
    assert_eq!((grant.server.as_str(), grant.judge_answer, grant.report_answer), ("crm", false, true));
    for name in ["authorization", "cookie", "proxy-authorization", "x-ms-client-principal-name"] {
        assert!(grant.drop_headers.iter().any(|dropped| dropped == name), "{name}");
    }
    assert!(grant.set_headers.is_empty());
    let ToolCaller { tenant_id, object_id, client_id, roles, .. } = &grant.caller;
    assert_eq!((tenant_id.as_str(), object_id.as_str(), client_id.as_str()), (TENANT, "alice-object", "client"));
    assert_eq!(roles, &["admin"]);
    let shown = format!("{grant:?}");
    assert!(!shown.contains(lab.alice.reveal()) && !shown.contains(grant.handle.reveal()));
}

#[test]
fn paths_that_are_no_upstream_are_the_components_own() {
    let lab = Lab::open();
    for path in ["/", "/mcp", "/mail/mcp", "/crm", "/crm/mcp/", "/crm/mcp/x", "/CRM/mcp", "/token", "/healthz"] {
        let own = lab.admit(request(Method::POST, path, &lab.alice));
        assert!(matches!(own, Admission::OwnPath), "{path}");
    }
}

#[test]
fn host_method_origin_and_token_are_checked_in_this_order() {
    let lab = Lab::open();
    let foreign = |request| with(request, "origin", "https://evil.example");
    let none = Secret::from("unknown");
    let mut bad = foreign(request(Method::PUT, "/crm/mcp", &none));
    bad.authority = Some("evil.example".to_owned());
    assert_eq!(lab.refusal(bad).status(), 421);
    let refused = lab.refusal(foreign(request(Method::PUT, "/crm/mcp", &none)));
    assert_eq!((refused.status().as_u16(), field(refused.headers(), "allow")), (405, "GET, POST, DELETE, OPTIONS"));
    assert_eq!(lab.refusal(request(Method::HEAD, "/crm/mcp", &none)).status(), 405);
    assert_eq!(lab.refusal(foreign(request(Method::POST, "/crm/mcp", &none))).status(), 403);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let refused = lab.refusal(request(method.clone(), "/crm/mcp", &none));
        assert_eq!(refused.status(), 401, "{method}");
        let challenge = field(refused.headers(), "www-authenticate");
        let metadata = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/crm/mcp\"";
        assert!(challenge.contains(metadata), "{challenge}");
        assert_ne!(field(refused.headers(), "x-correlation-id"), "");
        assert_eq!(field(refused.headers(), "x-content-type-options"), "nosniff");
    }
    let allowed = |method| with(request(method, "/crm/mcp", &lab.alice), "origin", "https://app.example.com");
    let preflight = lab.refusal(allowed(Method::OPTIONS));
    assert_eq!(preflight.status(), 204);
    assert_eq!(field(preflight.headers(), "access-control-allow-methods"), "GET, POST, DELETE, OPTIONS");
    assert_eq!(field(preflight.headers(), "access-control-allow-origin"), "https://app.example.com");
}

#[test]
fn a_session_is_for_the_server_that_it_was_begun_for_or_for_all() {
    let lab = Lab::open();
    let wiki = begin(&lab.env, "alice-object", "/wiki/mcp", &[]);
    assert_eq!(lab.refusal(request(Method::GET, "/crm/mcp", &wiki)).status(), 401);
    assert_eq!(lab.refusal(request(Method::GET, "/wiki/mcp", &lab.alice)).status(), 401);
    let whole = begin(&lab.env, "alice-object", "", &[]);
    for path in ["/crm/mcp", "/wiki/mcp"] {
        lab.grant(request(Method::GET, path, &whole));
    }
}

#[test]
fn a_body_that_another_program_may_read_differently_is_refused() {
    let lab = Lab::new(vec![for_admins(TargetKind::Tool, "delete_record")]);
    let call = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let bodies = [
        String::new(),
        "x".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\u{feff}{}".to_owned(),
        call(r#"{"name":"list","name":"delete_record"}"#),
        call(r#"{"name":"list","n\u0061me":"delete_record"}"#),
        call(r#"{"name":"list","Name":"delete_record"}"#),
        call(r#"{"name":"list","NAME":"delete_record"}"#),
        call("[]"),
        call("{}"),
        call(r#"{"name":["delete_record"]}"#),
        call(r#"{"name":"list"},"params":{"name":"delete_record"}"#),
        call(r#"{"name":"list"},"Params":{"name":"delete_record"}"#),
        call("{\"name\":\"list\"},\"param\u{17f}\":{\"name\":\"delete_record\"}"),
        call(r#"{"name":"\ud800"}"#),
        r#"{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"delete_record"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call ","params":{"name":"delete_record"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools//call","params":{"name":"delete_record"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"TOOLS/LIST"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"Tasks/cancel"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"delete_record"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","result":{}}"#.to_owned(),
        format!("{}1{}", "[".repeat(500), "]".repeat(500)),
        call(&format!(r#"{{"name":"list","arguments":{{"a":[{}1]}}}}"#, "1,".repeat(30_000))),
    ];
    for body in bodies {
        let refused = lab.refusal(post_text(&lab.bob, &body));
        let error = json_of(&refused)["error"]["code"].as_i64();
        assert!(error.is_some_and(|code| code < -32000), "{} {refused:?}", body.get(..80).unwrap_or(&body));
    }
    assert_eq!(lab.denials(), [], "none of them was taken for a call");
}

#[test]
fn a_body_is_json_in_utf_8_and_in_no_other_coding() {
    let lab = Lab::open();
    let call = || lab.call(&lab.alice, "list");
    for (name, value) in [("content-encoding", "gzip"), ("content-encoding", "identity")] {
        assert_eq!(lab.refusal(with(call(), name, value)).status(), 415);
    }
    for content_type in
        ["text/plain", "application/json; charset=utf-7", "application/json; charset=utf-16; charset=utf-8"]
    {
        let mut request = call();
        request.headers.insert("content-type", HeaderValue::from_static(content_type));
        assert_eq!(lab.refusal(request).status(), 415, "{content_type}");
    }
    let mut request = call();
    request.headers.insert("content-type", HeaderValue::from_static("application/json; charset=UTF-8"));
    lab.grant(request);
    for method in [Method::GET, Method::DELETE] {
        let request = Request { body: b"{}".to_vec(), ..request_of(&lab, method) };
        assert_eq!(lab.refusal(request).status(), 400);
    }
}

fn request_of(lab: &Lab, method: Method) -> Request {
    request(method, "/crm/mcp", &lab.alice)
}

#[test]
fn header_fields_say_what_the_body_says_in_either_era() {
    let lab = Lab::open();
    let call = |tool: &str| lab.call(&lab.alice, tool);
    lab.grant(with(with(call("list"), "mcp-method", "tools/call"), "mcp-name", "list"));
    lab.grant(with(call("list"), "mcp-name", "=?base64?bGlzdA==?="));
    lab.grant(modern(&lab.alice, "tools/call", json!({ "name": "list" }), Some("list")));
    let mismatches = [
        with(call("list"), "mcp-method", "tools/list"),
        with(call("list"), "mcp-name", "other"),
        with(with(call("list"), "mcp-name", "list"), "mcp-name", "list"),
        modern(&lab.alice, "tools/call", json!({ "name": "list" }), Some("other")),
        modern(&lab.alice, "tools/call", json!({ "name": "list" }), None),
        with(post(&lab.alice, &json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }])), "mcp-method", "ping"),
        with(post(&lab.alice, &json!({ "jsonrpc": "2.0", "id": 1, "result": {} })), "mcp-method", "ping"),
    ];
    for request in mismatches {
        let refused = lab.refusal(request);
        assert_eq!((refused.status().as_u16(), json_of(&refused)["error"]["code"].clone()), (400, json!(-32020)));
    }
    let mut unknown = call("list");
    unknown.headers.insert("mcp-protocol-version", HeaderValue::from_static("2099-01-01"));
    assert_eq!(json_of(&lab.refusal(unknown))["error"]["code"], json!(-32022));
}

#[test]
fn answers_of_a_client_and_plain_messages_pass() {
    let lab = Lab::open();
    for body in [
        json!({ "jsonrpc": "2.0", "id": 7, "result": { "action": "accept" } }),
        json!({ "jsonrpc": "2.0", "id": "x", "error": { "code": 1, "message": "no" } }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "protocolVersion": "2025-06-18", "capabilities": {} } }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": { "level": "info" } }),
        json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }, { "jsonrpc": "2.0", "id": 2, "method": "tools/list" }]),
    ] {
        lab.grant(post(&lab.alice, &body));
    }
}

#[test]
fn calls_are_counted_by_caller_and_by_message() {
    let lab = Lab::open();
    lab.world().bound("call", 3, Duration::from_secs(60));
    let ping = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
    lab.grant(post(&lab.alice, &json!([ping(1), ping(2)])));
    let refused = lab.refusal(post(&lab.alice, &json!([ping(1), ping(2)])));
    assert_eq!(refused.status(), 429);
    assert_ne!(field(refused.headers(), "retry-after"), "");
    lab.grant(post(&lab.bob, &ping(1)));
}

#[test]
fn another_callers_session_of_the_server_behind_is_unknown() {
    let lab = Lab::open();
    let grant = lab.grant(request_of(&lab, Method::GET));
    let head =
        AnswerHead { status: 200, latency_us: 7, session_id: Some("upstream-session".to_owned()), refusal: None };
    let fields = run(answered(&lab.later(), grant.handle.reveal(), &head)).unwrap();
    let sealed = field(&fields, "mcp-session-id").to_owned();
    assert!(!sealed.is_empty() && !sealed.contains("upstream-session"));
    let continued = lab.grant(with(lab.call(&lab.alice, "list"), "mcp-session-id", &sealed));
    assert_eq!(field(&continued.set_headers, "mcp-session-id"), "upstream-session");
    // The client keeps the id that it has.
    let fields = run(answered(&lab.later(), continued.handle.reveal(), &head)).unwrap();
    assert_eq!(field(&fields, "mcp-session-id"), sealed);
    let second = begin(&lab.env, "alice-object", "/crm/mcp", &[]);
    let whole = begin(&lab.env, "alice-object", "", &[]);
    for (by, path, id) in [
        (&lab.bob, "/crm/mcp", sealed.as_str()),
        (&second, "/crm/mcp", &sealed),
        (&whole, "/wiki/mcp", &sealed),
        (&lab.alice, "/crm/mcp", "upstream-session"),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let refused = lab.refusal(with(request(method, path, by), "mcp-session-id", id));
            assert_eq!((refused.status().as_u16(), json_of(&refused)["error"]["code"].clone()), (404, json!(-32001)));
        }
    }
    let twice = with(with(request_of(&lab, Method::GET), "mcp-session-id", &sealed), "mcp-session-id", &sealed);
    assert_eq!(lab.refusal(twice).status(), 400);
}

#[test]
fn without_a_host_that_uses_the_gate_an_upstream_is_not_served() {
    let lab = Lab::open();
    let answer = |path: &str| match run(crate::http::handle(&lab.later(), request(Method::POST, path, &lab.alice))) {
        crate::message::HttpResponse::Full(answer) => answer,
        crate::message::HttpResponse::Stream(..) => panic!("a stream"),
    };
    assert_eq!(answer("/crm/mcp").status(), 501);
    for path in ["/mcp", "/sse", "/message"] {
        assert_eq!(answer(path).status(), 404, "{path}");
    }
}

#[test]
fn every_server_is_a_protected_resource_of_its_own() {
    let lab = Lab::open();
    let get = |path: &str| {
        let request = Request { headers: HeaderMap::new(), ..request(Method::GET, path, &lab.alice) };
        match run(crate::http::handle(&lab.later(), request)) {
            crate::message::HttpResponse::Full(answer) => answer,
            crate::message::HttpResponse::Stream(..) => panic!("a stream"),
        }
    };
    for path in ["", "/crm/mcp", "/wiki/mcp", "/mail/mcp"] {
        let metadata = get(&format!("/.well-known/oauth-protected-resource{path}"));
        let document = json_of(&metadata);
        assert_eq!(document["resource"], format!("{PUBLIC_URL}{path}"));
        let name = path.trim_start_matches('/').trim_end_matches("/mcp");
        assert_eq!(document["resource_name"], if name.is_empty() { "entra-mcp" } else { name });
    }
    for path in ["/mcp", "/sse", "/crm", "/crm/mcp/"] {
        assert_eq!(get(&format!("/.well-known/oauth-protected-resource{path}")).status(), 404, "{path}");
    }
    let page = String::from_utf8(get("/").into_body()).unwrap();
    for path in ["/crm/mcp", "/wiki/mcp", "/mail/mcp"] {
        assert!(page.contains(&format!("<code>{PUBLIC_URL}{path}</code>")), "{page}");
    }
    let HttpSettings { legacy_sse, .. } = lab.env.site.settings;
    assert!(*legacy_sse && !page.contains("/sse"));
}
