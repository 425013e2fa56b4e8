//! The protocol, message by message. The tool itself is tested where it is, and end to end with real clients.

mod choice;
mod provided;

use caller::local::attempt::{self, SignInAttempt, SignInTurn};
use caller::local::{Account, accounts};
use entra::graph::profile::profile_scope;
use entra::oauth::TokenSet;
use entra::testing::EntraWorlds as _;
use serde_json::{Value, json};
use world::testing::{World, run};

use super::handle;
use crate::local_world::LocalWorld;
use crate::testing::ServerWorlds as _;

fn send(env: &LocalWorld<'_>, message: &str) -> Option<Value> {
    run(handle(env, message)).map(|answer| {
        assert!(!answer.contains('\n'), "an answer is one line");
        serde_json::from_str(&answer).unwrap()
    })
}

fn ask(env: &LocalWorld<'_>, message: Value) -> Value {
    send(env, &message.to_string()).expect("a request is answered")
}

fn modern(method: &str, params: Value) -> Value {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn legacy(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn initialized(version: &str) -> LocalWorld<'static> {
    let env = World::default().local();
    let params =
        json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    assert_eq!(ask(&env, legacy("initialize", params))["result"]["protocolVersion"], version);
    env
}

fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().expect("an error with a code")
}

#[test]
fn discover_names_versions_capabilities_and_the_server() {
    let env = World::default().local();
    let answer = ask(&env, modern("server/discover", json!({})));
    let result = &answer["result"];
    assert_eq!(result["resultType"], "complete");
    assert_eq!(
        result["supportedVersions"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
    );
    assert!(result["capabilities"]["tools"].is_object());
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "entra-mcp");
    assert!(result["ttlMs"].is_u64());
    assert_eq!(result["cacheScope"], "public");
}

#[test]
fn every_earlier_version_is_agreed_on_as_requested() {
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        initialized(version);
    }
}

#[test]
fn initialize_with_a_version_that_has_no_initialize_agrees_on_the_newest_that_has() {
    for version in ["2026-07-28", "1999-01-01", ""] {
        let env = World::default().local();
        let answer = ask(&env, legacy("initialize", json!({ "protocolVersion": version, "capabilities": {} })));
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    }
}

#[test]
fn initialize_without_a_version_is_refused() {
    let env = World::default().local();
    assert_eq!(code(&ask(&env, legacy("initialize", json!({})))), -32602);
}

#[test]
fn an_unsupported_version_is_refused_with_the_list_of_supported_ones() {
    let env = World::default().local();
    for version in ["1900-01-01", "2025-11-25", "2027-01-01"] {
        let mut request = modern("tools/list", json!({}));
        request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(version);
        let answer = ask(&env, request);
        assert_eq!(code(&answer), -32022);
        assert_eq!(answer["error"]["data"]["requested"], version);
        assert_eq!(answer["error"]["data"]["supported"][0], "2026-07-28");
    }
}

#[test]
fn a_request_without_initialize_and_without_context_is_refused() {
    let env = World::default().local();
    for method in ["tools/list", "tools/call", "server/discover"] {
        assert_eq!(code(&ask(&env, legacy(method, json!({})))), -32602, "{method}");
    }
}

#[test]
fn a_request_of_the_new_era_without_capabilities_is_refused() {
    let env = World::default().local();
    let mut request = modern("tools/list", json!({}));
    request["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientCapabilities");
    assert_eq!(code(&ask(&env, request)), -32602);
}

#[test]
fn ping_is_answered_in_the_old_era_only() {
    assert_eq!(ask(&initialized("2025-06-18"), legacy("ping", json!({})))["result"], json!({}));
    let env = World::default().local();
    assert_eq!(code(&ask(&env, modern("ping", json!({})))), -32601);
}

#[test]
fn a_method_of_the_other_era_is_unknown() {
    let env = World::default().local();
    assert_eq!(code(&ask(&env, modern("initialize", json!({ "protocolVersion": "2026-07-28" })))), -32601);
    for method in ["resources/list", "prompts/list", "logging/setLevel", "no/such", ""] {
        assert_eq!(code(&ask(&env, modern(method, json!({})))), -32601, "{method}");
        assert_eq!(code(&ask(&initialized("2025-11-25"), legacy(method, json!({})))), -32601, "{method}");
    }
}

#[test]
fn the_tool_is_described_in_both_eras() {
    let modern = ask(&World::default().local(), modern("tools/list", json!({})))["result"].clone();
    let legacy = ask(&initialized("2025-11-25"), legacy("tools/list", json!({})))["result"].clone();
    for result in [&modern, &legacy] {
        let tool = &result["tools"][0];
        assert_eq!(tool["name"], "GetUserDetailsFromGraph");
        assert!(tool["title"].is_string() && tool["description"].is_string());
        assert_eq!(tool["inputSchema"]["type"], "object");
        assert_eq!(tool["outputSchema"]["required"], json!(["id"]));
        assert_eq!(tool["annotations"]["readOnlyHint"], true);
        assert_eq!(tool["annotations"]["openWorldHint"], true);
    }
    assert_eq!(modern["resultType"], "complete");
    assert_eq!(modern["cacheScope"], "private");
    assert!(modern["ttlMs"].is_u64());
    for key in ["resultType", "cacheScope", "ttlMs", "_meta"] {
        assert!(legacy.get(key).is_none(), "{key} does not exist in the old era");
    }
}

#[test]
fn an_unknown_cursor_is_refused() {
    let env = World::default().local();
    assert_eq!(code(&ask(&env, modern("tools/list", json!({ "cursor": "2" })))), -32602);
}

#[test]
fn a_call_of_an_unknown_tool_or_with_malformed_arguments_is_refused() {
    let env = World::default().local();
    assert_eq!(code(&ask(&env, modern("tools/call", json!({ "name": "getuserdetailsfromgraph" })))), -32602);
    assert_eq!(code(&ask(&env, modern("tools/call", json!({})))), -32602);
    let arguments = json!({ "name": "GetUserDetailsFromGraph", "arguments": [1] });
    assert_eq!(code(&ask(&env, modern("tools/call", arguments))), -32602);
}

#[test]
fn what_is_not_json_is_a_parse_error_without_an_id() {
    let env = World::default().local();
    for text in ["", "nonsense", "{", "{\"jsonrpc\":\"2.0\",}", "\u{0}"] {
        let answer = send(&env, text).unwrap();
        assert_eq!(code(&answer), -32700);
        assert_eq!(answer["id"], Value::Null);
    }
}

/// A gateway or a log in front may read the first of two members, where most parsers read the last.
#[test]
fn a_name_that_occurs_twice_at_any_depth_is_a_parse_error() {
    let env = World::default().local();
    for message in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":[0,{"b":{"c":1,"d":2,"c":3}}]}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized","method":"x"}"#,
    ] {
        let answer = send(&env, message).unwrap();
        assert_eq!((code(&answer), &answer["id"]), (-32700, &Value::Null), "{message}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains("a name occurs twice in one object"), "{said}");
    }
    let env = initialized("2025-03-26");
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"id":3,"method":"ping"}]"#;
    assert_eq!(code(&send(&env, batch).unwrap()), -32700);
    // The same name in two objects is two names.
    let fine = r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"id":{"id":[{"id":1},{"id":1}]}}}"#;
    assert_eq!(send(&env, fine).unwrap()["result"], json!({}));
}

#[test]
fn a_message_may_be_nested_and_one_without_end_is_a_parse_error() {
    let env = initialized("2025-11-25");
    let nested = |depth: usize| {
        let (open, close) = (r#"{"a":"#.repeat(depth), "}".repeat(depth));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{open}1{close}}}}}"#)
    };
    assert_eq!(send(&env, &nested(60)).unwrap()["result"], json!({}));
    assert_eq!(code(&send(&env, &nested(10_000)).unwrap()), -32700);
}

#[test]
fn what_is_not_a_message_is_an_invalid_request() {
    let env = World::default().local();
    for message in [
        json!(1),
        json!("ping"),
        json!(null),
        json!({}),
        json!({ "jsonrpc": "2.0", "id": 1 }),
        json!({ "jsonrpc": "1.0", "id": 1, "method": "ping" }),
        json!({ "id": 1, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": 5 }),
        json!({ "jsonrpc": "2.0", "id": null, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "id": 1.5, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "id": [1], "method": "ping" }),
    ] {
        assert_eq!(code(&ask(&env, message.clone())), -32600, "{message}");
    }
    assert_eq!(code(&ask(&env, json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1] }))), -32602);
}

#[test]
fn an_answer_repeats_the_id_as_it_was_given() {
    let env = World::default().local();
    for id in [json!("a"), json!(0), json!(-7), json!(9_007_199_254_740_993_u64)] {
        let mut request = modern("server/discover", json!({}));
        request["id"] = id.clone();
        assert_eq!(ask(&env, request)["id"], id);
    }
}

#[test]
fn notifications_are_never_answered() {
    let env = World::default().local();
    for method in ["notifications/initialized", "notifications/cancelled", "notifications/unknown", "tools/list"] {
        assert_eq!(send(&env, &json!({ "jsonrpc": "2.0", "method": method }).to_string()), None);
        assert_eq!(send(&env, &json!({ "jsonrpc": "2.0", "method": method, "params": [1] }).to_string()), None);
    }
}

#[test]
fn answers_to_requests_of_the_server_are_not_answered() {
    let env = World::default().local();
    assert_eq!(send(&env, r#"{"jsonrpc":"2.0","id":"x","result":{}}"#), None);
    assert_eq!(send(&env, r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"m"}}"#), None);
}

#[test]
fn unknown_fields_and_unknown_metadata_are_ignored() {
    let env = World::default().local();
    let mut request = modern("tools/list", json!({ "unknown": { "a": 1 } }));
    request["params"]["_meta"]["com.example/thing"] = json!([1, 2]);
    request["extra"] = json!(true);
    assert!(ask(&env, request)["result"]["tools"].is_array());
}

#[test]
fn a_batch_is_answered_in_2025_03_26_and_refused_everywhere_else() {
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "ping" },
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        { "jsonrpc": "2.0", "id": 2, "method": "tools/list" },
        { "jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {} },
        5,
    ]);
    let answers = ask(&initialized("2025-03-26"), batch.clone());
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0]["result"], json!({}));
    assert!(answers[1]["result"]["tools"].is_array());
    assert_eq!(code(&answers[2]), -32600);
    assert_eq!(code(&answers[3]), -32600);
    for version in ["2025-11-25", "2025-06-18", "2024-11-05"] {
        assert_eq!(code(&ask(&initialized(version), batch.clone())), -32600);
    }
    assert_eq!(code(&ask(&World::default().local(), batch)), -32600);
}

#[test]
fn an_empty_batch_and_a_huge_batch_are_refused() {
    let env = initialized("2025-03-26");
    assert_eq!(code(&ask(&env, json!([]))), -32600);
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(code(&ask(&env, Value::Array(vec![ping; 21]))), -32600);
}

#[test]
fn a_batch_of_notifications_has_no_answer() {
    let env = initialized("2025-03-26");
    assert_eq!(send(&env, r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#), None);
}

#[test]
fn a_request_state_that_we_did_not_give_is_refused() {
    let env = World::default().local();
    let params = json!({
        "name": "GetUserDetailsFromGraph",
        "requestState": "AAAA",
        "inputResponses": { "sign-in": { "action": "accept" } },
    });
    assert_eq!(code(&ask(&env, modern("tools/call", params))), -32602);
}

fn modern_with_elicitation(params: Value) -> Value {
    let mut request = modern("tools/call", params);
    request["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({ "elicitation": { "url": {} } });
    request
}

/// A client that has been asked to show the sign-in page, and its way back.
fn deferred(world: &World, env: &LocalWorld<'_>) -> Value {
    deferred_for(world, env, "GetUserDetailsFromGraph")
}

fn deferred_for(world: &World, env: &LocalWorld<'_>, tool: &str) -> Value {
    world.can_listen();
    world.publishes_metadata();
    let answer = ask(env, modern_with_elicitation(json!({ "name": tool })));
    assert_eq!(answer["result"]["resultType"], "input_required");
    answer["result"]["requestState"].clone()
}

fn declined(env: &LocalWorld<'_>, state: &Value) -> Value {
    let params = json!({
        "name": "GetUserDetailsFromGraph",
        "requestState": state,
        "inputResponses": { "sign-in": { "action": "decline" } },
    });
    ask(env, modern_with_elicitation(params))["result"].clone()
}

#[test]
fn declining_a_sign_in_closes_its_listener() {
    let world = World::default();
    let env = world.local();
    let state = deferred(&world, &env);
    assert_eq!(world.detached().len(), 1);
    assert_eq!(declined(&env, &state)["isError"], true);
    assert_eq!(world.detached().len(), 0);
}

#[test]
fn declining_a_sign_in_leaves_it_to_another_call_that_has_taken_it_over() {
    let world = World::default();
    let env = world.local();
    let state = deferred(&world, &env);
    let SignInTurn::Resume(attempt) = run(attempt::take_turn(&env.person.entra, "another call")).unwrap() else {
        panic!()
    };
    assert_eq!(declined(&env, &state)["isError"], true);
    assert!(run(SignInAttempt::load(&env.person.entra.records, &attempt.id)).unwrap().is_some());
}

#[test]
fn a_client_that_comes_back_to_a_lost_sign_in_is_asked_again_if_the_session_has_ended() {
    let world = World::default();
    let env = world.local();
    let account = Account {
        home_account_id: "o.t".to_owned(),
        username: "alice@contoso.example".to_owned(),
        name: "Alice".to_owned(),
        tenant_id: "t".to_owned(),
        object_id: "o".to_owned(),
    };
    let ended = TokenSet { access_token: "access".into(), expires_at: 0, refresh_token: None, id_token: None };
    run(accounts::save(&env.person.entra, &account, &[profile_scope(env.person.entra.settings)], ended)).unwrap();
    let state = deferred(&world, &env);
    let lost = run(attempt::current(&env.person.entra.records)).unwrap().unwrap().attempt;
    run(SignInAttempt::take(&env.person.entra.records, &lost)).unwrap();
    let params = json!({
        "name": "GetUserDetailsFromGraph",
        "requestState": state,
        "inputResponses": { "sign-in": { "action": "accept" } },
    });
    assert_eq!(ask(&env, modern_with_elicitation(params))["result"]["resultType"], "input_required");
}

#[test]
fn capabilities_of_any_size_are_remembered_within_the_limit_of_the_connection() {
    let world = World::default();
    let env = world.local();
    let capabilities = json!({ "experimental": { "x": "x".repeat(100_000) }, "elicitation": { "url": {} } });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities });
    assert!(ask(&env, legacy("initialize", params))["result"].is_object());
    assert!(env.person.channel.state().unwrap().len() < 64 * 1024);
}
