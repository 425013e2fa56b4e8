//! Streamable HTTP, of both eras.

use base::audit::Outcome;
use http::Response;
use serde_json::{Value, json};
use world::Channel;

use super::{ALICE, Server, TestSession, header, json_of, post};
use crate::message::Request;

const MODERN: &str = "2026-07-28";

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// A request of 2026-07-28 with its header fields.
fn modern(method: &str, params: Value) -> Request {
    let mut params = params;
    params["_meta"] = meta();
    let request = post("/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).by("alice");
    let request = request.with("mcp-protocol-version", MODERN).with("mcp-method", method);
    match params["name"].as_str() {
        Some(name) => request.with("mcp-name", name),
        None => request,
    }
}

fn call() -> Request {
    modern("tools/call", json!({ "name": "getUserDetails", "arguments": {} }))
}

fn legacy(method: &str, params: Value) -> Request {
    post("/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).by("alice")
}

fn with_body(request: Request, body: &Value) -> Request {
    Request { body: body.to_string().into_bytes(), ..request }
}

/// The status and the code of an error.
fn refusal(response: &Response<Vec<u8>>) -> (u16, i64) {
    (response.status().as_u16(), json_of(response)["error"]["code"].as_i64().expect("a JSON-RPC error"))
}

/// Whichever of two members a gateway reads, and whichever the header fields name.
#[test]
fn a_body_with_a_name_that_occurs_twice_is_a_parse_error_before_anything_else_is_looked_at() {
    let server = Server::with_alice();
    let twice = |text: &str, member: &str| text.replacen(member, &format!("{member},{member}"), 1).into_bytes();
    let text = String::from_utf8(call().body).unwrap();
    for member in [r#""id":1"#, r#""name":"getUserDetails""#, r#""arguments":{}"#, r#""method":"tools/call""#] {
        assert!(text.contains(member), "{member}");
        let response = server.send(Request { body: twice(&text, member), ..call() });
        assert_eq!(refusal(&response), (400, -32700), "{member}");
        assert_eq!(json_of(&response)["id"], Value::Null);
    }
    let ping = legacy("ping", json!({}));
    let batch = format!("[{}]", String::from_utf8(twice(&String::from_utf8_lossy(&ping.body), r#""id":1"#)).unwrap());
    assert_eq!(refusal(&server.send(Request { body: batch.into_bytes(), ..ping })), (400, -32700));
    assert_eq!(server.world.audited(), []);
}

#[test]
fn a_call_of_each_era_is_answered_with_the_profile_of_the_caller() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    let response = server.send(call());
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "application/json"));
    let result = json_of(&response)["result"].clone();
    let profile = json!({ "displayName": "Alice", "mail": null, "userPrincipalName": "Alice@contoso.example" });
    assert_eq!(result["structuredContent"], profile);
    assert_eq!(result["content"][0]["type"], "text");
    assert_eq!(serde_json::from_str::<Value>(result["content"][0]["text"].as_str().unwrap()).unwrap(), profile);
    assert_eq!((&result["isError"], &result["resultType"]), (&json!(false), &json!("complete")));
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "entra-mcp");

    for version in [None, Some("2025-11-25"), Some("2025-06-18"), Some("2025-03-26"), Some("2024-11-05")] {
        let request = legacy("tools/call", json!({ "name": "getUserDetails" }));
        let request = version.into_iter().fold(request, |request, v| request.with("mcp-protocol-version", v));
        let result = json_of(&server.send(request))["result"].clone();
        assert_eq!(result["structuredContent"], profile, "{version:?}");
        assert!(result.get("resultType").is_none() && result.get("_meta").is_none());
    }
}

#[test]
fn what_names_the_server_in_results_is_what_initialize_says() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {} });
    let initialized = json_of(&server.send(legacy("initialize", params)))["result"].clone();
    let called = json_of(&server.send(call()))["result"].clone();
    assert_eq!(called["_meta"]["io.modelcontextprotocol/serverInfo"], initialized["serverInfo"]);
}

#[test]
fn two_users_never_see_each_others_profile_and_two_clients_of_one_share_it() {
    let server = Server::with_alice();
    server.sign_in(&TestSession { token: "bob", object: "bob-object", ..ALICE });
    server.sign_in(&TestSession { token: "alice-elsewhere", client: "client-2", ..ALICE });
    server.remember_profile(ALICE.object, "Alice");
    server.remember_profile("bob-object", "Bob");
    let name = |token: &str| {
        let response = server.send(call().without("authorization").by(token));
        json_of(&response)["result"]["structuredContent"]["displayName"].clone()
    };
    for _ in 0..3 {
        assert_eq!(
            (name("alice"), name("bob"), name("alice-elsewhere")),
            (json!("Alice"), json!("Bob"), json!("Alice"))
        );
    }
}

#[test]
fn a_call_is_recorded_with_who_called_and_with_which_client() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    server.send(call());
    let events = server.world.audited();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].name, events[0].outcome), ("tool.called", Outcome::Success));
    assert_eq!(events[0].tenant_id.as_deref(), Some(super::TENANT));
    assert_eq!(events[0].object_id.as_deref(), Some("alice-object"));
    assert_eq!(events[0].client_id.as_deref(), Some("client-1"));
    assert_eq!((events[0].tool.as_deref(), events[0].correlation_id.as_str()), (Some("getUserDetails"), "c-1"));
}

#[test]
fn what_cannot_be_recorded_is_not_answered() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    server.world.refuse_audit(true);
    let response = server.send(call());
    assert_eq!(json_of(&response)["result"]["isError"], true);
    assert!(!String::from_utf8_lossy(response.body()).contains("Alice"));
}

#[test]
fn a_caller_whose_sign_in_has_ended_is_challenged_and_not_told_of_an_error() {
    let server = Server::with_alice();
    for request in [call(), legacy("tools/call", json!({ "name": "getUserDetails" }))] {
        let response = server.send(request);
        assert_eq!(response.status(), 401);
        assert!(header(&response, "www-authenticate").starts_with("Bearer error=\"invalid_token\", "));
    }
    assert!(server.world.audited().iter().all(|event| event.outcome == Outcome::Failure));
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "ping" },
        { "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "getUserDetails" } },
    ]);
    assert_eq!(server.send(post("/mcp", &batch).by("alice")).status(), 401);
}

#[test]
fn a_remote_caller_sees_the_remote_tools_and_no_person_is_asked_to_sign_in_at_this_machine() {
    let server = Server::with_alice();
    for request in [modern("tools/list", json!({})), legacy("tools/list", json!({}))] {
        let tools = json_of(&server.send(request))["result"]["tools"].clone();
        let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        // Alice has no role, so she does not see `findUser`.
        assert_eq!(names, ["getUserDetails", "GetUserDetailsFromGraph", "listMyGroups"]);
        assert_eq!(tools[0]["outputSchema"]["required"], json!(["displayName", "mail", "userPrincipalName"]));
        assert!(tools.as_array().unwrap().iter().all(|tool| tool["annotations"]["readOnlyHint"] == true));
    }
    let unknown = modern("tools/call", json!({ "name": "getuserdetails" }));
    assert_eq!(refusal(&server.send(unknown)), (200, -32602));
    let local = modern("tools/call", json!({ "name": "GetUserDetailsFromGraph" }));
    assert_eq!(server.send(local).status(), 401, "the session has no token: it is its client that signs in again");
    assert_eq!(server.world.prompts(), Vec::<String>::new());
    assert_eq!(server.world.sent(), Vec::<String>::new());
}

#[test]
fn a_remote_caller_is_never_given_a_state_and_so_cannot_present_one() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    for state in [json!("AAAA"), json!(5), json!(null)] {
        let request = modern("tools/call", json!({ "name": "getUserDetails", "requestState": state }));
        assert_eq!(refusal(&server.send(request)), (200, -32602));
    }
}

#[test]
fn the_header_fields_have_to_say_what_the_body_says() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    for (name, values) in [
        ("mcp-protocol-version", &[&[][..], &["2025-11-25"], &[MODERN, MODERN], &["2026-07-28 "]]),
        ("mcp-method", &[&[][..], &["tools/list"], &["tools/call", "tools/call"], &["Tools/Call"]]),
        ("mcp-name", &[&[][..], &["getuserdetails"], &["getUserDetails", "getUserDetails"], &["=?base64?!?="]]),
    ] {
        for values in values {
            let request = values.iter().fold(call().without(name), |request, value| request.with(name, value));
            assert_eq!(refusal(&server.send(request)), (400, -32020), "{name}: {values:?}");
        }
    }
    let surplus = modern("tools/call", json!({})).with("mcp-name", "getUserDetails");
    assert_eq!(refusal(&server.send(surplus)), (400, -32020));
    assert_eq!(server.world.audited(), Vec::new(), "nothing was called");
}

#[test]
fn a_name_may_be_encoded() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    let encoded = call().without("mcp-name").with("mcp-name", "=?base64?Z2V0VXNlckRldGFpbHM=?=");
    assert_eq!(json_of(&server.send(encoded))["result"]["isError"], false);
    let other = call().without("mcp-name").with("mcp-name", "=?base64?Z2V0?=");
    assert_eq!(refusal(&server.send(other)), (400, -32020));
}

#[test]
fn a_name_means_nothing_where_the_method_has_none() {
    let server = Server::with_alice();
    let request = modern("tools/list", json!({})).with("mcp-name", "anything");
    assert_eq!(server.send(request).status(), 200);
}

#[test]
fn a_request_without_its_context_is_malformed() {
    let server = Server::with_alice();
    let body = |params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params });
    for params in [
        json!({}),
        json!({ "_meta": {} }),
        json!({ "_meta": 5 }),
        json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": 5 } }),
        json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": MODERN } }),
    ] {
        let request = with_body(modern("tools/list", json!({})), &body(params.clone()));
        assert_eq!(refusal(&server.send(request)), (400, -32602), "{params}");
    }
    assert_eq!(refusal(&server.send(legacy("server/discover", json!({})))), (400, -32602));
}

#[test]
fn an_unsupported_version_is_answered_with_those_that_are() {
    let server = Server::with_alice();
    for version in ["2027-01-01", "1900-01-01", "2025-11-25"] {
        let mut params = json!({ "_meta": meta() });
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(version);
        let request = post("/mcp", &json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": params }));
        let response = server.send(request.by("alice").with("mcp-protocol-version", version));
        assert_eq!(refusal(&response), (400, -32022), "{version}");
        assert_eq!(json_of(&response)["error"]["data"]["supported"][0], MODERN);
        assert_eq!(json_of(&response)["id"], 7);
    }
    for version in ["2027-01-01", "", "latest"] {
        let request = legacy("tools/list", json!({})).with("mcp-protocol-version", version);
        assert_eq!(refusal(&server.send(request)), (400, -32022), "{version}");
    }
    let twice = legacy("ping", json!({})).with("mcp-protocol-version", "2025-11-25");
    assert_eq!(refusal(&server.send(twice.with("mcp-protocol-version", "2025-11-25"))), (400, -32020));
}

#[test]
fn an_unknown_method_is_not_found_in_the_new_era_only() {
    let server = Server::with_alice();
    for method in ["no/such", "ping", "initialize", "resources/list", "subscriptions/listen"] {
        assert_eq!(refusal(&server.send(modern(method, json!({})))), (404, -32601), "{method}");
    }
    // An old client takes 404 for the end of its session.
    assert_eq!(refusal(&server.send(legacy("no/such", json!({})))), (200, -32601));
}

#[test]
fn initialize_is_answered_without_a_session() {
    let server = Server::with_alice();
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        let response = server.send(legacy("initialize", json!({ "protocolVersion": version, "capabilities": {} })));
        assert_eq!(json_of(&response)["result"]["protocolVersion"], version);
        assert_eq!(header(&response, "mcp-session-id"), "");
    }
    let records = server.world.record_names();
    assert_eq!(records, ["test-session/alice"], "a stateless server remembers nothing");
    let with_id = legacy("ping", json!({})).with("mcp-session-id", "whatever").with("last-event-id", "7");
    assert_eq!(server.send(with_id).status(), 200);
}

#[test]
fn the_state_of_the_connection_is_not_the_processs() {
    let server = Server::with_alice();
    server.send(legacy("initialize", json!({ "protocolVersion": "2025-03-26", "capabilities": {} })));
    assert_eq!(Channel::state(&server.world), None);
}

#[test]
fn notifications_and_answers_are_accepted_without_a_body() {
    let server = Server::with_alice();
    for body in [
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }),
        json!({ "jsonrpc": "2.0", "id": 1, "result": {} }),
        json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": 1, "message": "m" } }),
        json!([{ "jsonrpc": "2.0", "method": "notifications/initialized" }]),
    ] {
        let response = server.send(post("/mcp", &body).by("alice"));
        assert_eq!(response.status(), 202, "{body}");
        assert!(response.body().is_empty() && header(&response, "content-type").is_empty());
    }
    let modern = json!({ "jsonrpc": "2.0", "method": "notifications/x", "params": { "_meta": meta() } });
    let response = server.send(post("/mcp", &modern).by("alice").with("mcp-protocol-version", MODERN));
    assert_eq!((response.status().as_u16(), response.body().len()), (202, 0));
    let answer = post("/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "result": {} })).by("alice");
    assert_eq!(refusal(&server.send(answer.with("mcp-protocol-version", MODERN))), (400, -32600));
    let unknown = post("/mcp", &json!({ "jsonrpc": "2.0", "method": "notifications/x" })).by("alice");
    assert_eq!(refusal(&server.send(unknown.with("mcp-protocol-version", "2027-01-01"))), (400, -32022));
}

#[test]
fn a_batch_is_answered_in_2025_03_26_only() {
    let server = Server::with_alice();
    let ping = |id: u8| json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
    let batch = json!([ping(1), ping(2)]);
    for version in [None, Some("2025-03-26")] {
        let request = post("/mcp", &batch).by("alice");
        let request = version.into_iter().fold(request, |request, v| request.with("mcp-protocol-version", v));
        assert_eq!(json_of(&server.send(request)).as_array().unwrap().len(), 2);
    }
    for version in [MODERN, "2025-11-25", "2025-06-18", "2024-11-05", "x"] {
        let request = post("/mcp", &batch).by("alice").with("mcp-protocol-version", version);
        assert_eq!(refusal(&server.send(request)), (400, -32600), "{version}");
    }
    let new = json!([{ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta() } }]);
    assert_eq!(refusal(&server.send(post("/mcp", &new).by("alice"))), (400, -32600));
    assert_eq!(refusal(&server.send(post("/mcp", &json!([])).by("alice"))), (400, -32600));
    let many = Value::Array(vec![ping(1); 21]);
    assert_eq!(refusal(&server.send(post("/mcp", &many).by("alice"))), (400, -32600));
}

#[test]
fn what_is_no_message_is_a_bad_request() {
    let server = Server::with_alice();
    for body in ["", "{", "nonsense", "\u{0}", "{\"jsonrpc\":\"2.0\",}", &"[".repeat(200)] {
        let request = Request { body: body.as_bytes().to_vec(), ..post("/mcp", &json!({})).by("alice") };
        assert_eq!(refusal(&server.send(request)), (400, -32700), "{body}");
    }
    let request = Request { body: vec![0xff, 0xfe], ..post("/mcp", &json!({})).by("alice") };
    assert_eq!(refusal(&server.send(request)), (400, -32700));
    for body in [json!(1), json!("x"), json!({}), json!({ "jsonrpc": "1.0", "id": 1, "method": "ping" })] {
        assert_eq!(refusal(&server.send(post("/mcp", &body).by("alice"))), (400, -32600), "{body}");
    }
}

#[test]
fn a_body_has_to_be_json_and_an_answer_acceptable() {
    let server = Server::with_alice();
    let ping = || legacy("ping", json!({}));
    assert_eq!(server.send(ping().without("content-type")).status(), 415);
    assert_eq!(server.send(ping().without("content-type").with("content-type", "text/plain")).status(), 415);
    assert_eq!(server.send(ping().without("accept").with("accept", "text/html")).status(), 406);
    let stream = server.send(ping().without("accept").with("accept", "text/event-stream"));
    assert_eq!((stream.status().as_u16(), header(&stream, "content-type")), (200, "text/event-stream"));
    assert_eq!(header(&stream, "x-accel-buffering"), "no");
    assert_eq!(
        String::from_utf8_lossy(stream.body()),
        "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n"
    );
    let refused = legacy("ping", json!({})).with("mcp-protocol-version", "x").without("accept");
    let refused = server.send(refused.with("accept", "text/event-stream"));
    assert_eq!(refusal(&refused), (400, -32022));
}

#[test]
fn a_message_that_would_take_much_memory_is_not_read() {
    let server = Server::with_alice();
    let objects = format!("[{}]", vec![r#"{"":0}"#; 100_000].join(","));
    let nested = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{objects}}}}}"#);
    for body in [objects, nested] {
        let request = Request { body: body.into_bytes(), ..post("/mcp", &json!({})).by("alice") };
        assert_eq!(refusal(&server.send(request)), (400, -32600));
    }
    let text = r#"[{,\"\\"#.repeat(20_000);
    let response = server.send(legacy("ping", json!({ "x": text })));
    assert_eq!(json_of(&response)["result"], json!({}), "text may be long, whatever is in it");
}
