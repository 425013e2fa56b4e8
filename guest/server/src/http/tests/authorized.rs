//! Messages that come with an authorization over another transport than HTTP: the same callers are admitted.

use serde_json::{Value, json};

use super::super::authorized::{self, MessageOrigin, handle_with};
use super::{ALICE, Server, authenticate};
use base::Secret;
use base::audit::Outcome;
use world::testing::run;

fn ask(server: &Server, authorization: &str, message: &str) -> Option<Value> {
    let authorization = Secret::new(authorization.to_owned());
    let origin = MessageOrigin { authorization: &authorization, client_address: Some("203.0.113.7") };
    let answer = run(handle_with(&server.env, &server.world, &origin, message, |env, token, resources| {
        Box::pin(authenticate(env, token, resources))
    }));
    answer.map(|answer| serde_json::from_str(&answer).unwrap())
}

fn ping() -> String {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "ping" }).to_string()
}

fn call() -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": "getUserDetails", "arguments": {}, "_meta": meta });
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params }).to_string()
}

const SCOPE: &str = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\", \
                     scope=\"User.Read\"";

#[test]
fn a_call_is_answered_with_the_profile_of_the_caller() {
    let server = Server::with_alice();
    server.remember_profile(ALICE.object, "Alice");
    let answer = ask(&server, "Bearer alice", &call()).unwrap();
    assert_eq!(answer["result"]["structuredContent"]["displayName"], "Alice", "{answer}");
    let called = server.world.audited().into_iter().find(|event| event.name == "tool.called").unwrap();
    assert_eq!((called.object_id.as_deref(), called.outcome), (Some(ALICE.object), Outcome::Success));
    assert_eq!((called.correlation_id.as_str(), called.address.as_deref()), ("c-1", Some("203.0.113.7")));
}

#[test]
fn a_message_without_a_good_token_is_answered_with_what_http_would_say() {
    let server = Server::with_alice();
    let unknown =
        "error=\"invalid_token\", error_description=\"The access token is unknown, or its session has ended\", ";
    let malformed = "error=\"invalid_request\", error_description=\"The Authorization field is malformed\", ";
    for (authorization, status, error) in [
        ("", 401, ""),
        ("Basic YTpi", 401, ""),
        ("Bearer bob", 401, unknown),
        ("Bearer ali ce", 400, malformed),
        ("Bearer alice\r\nx: y", 400, malformed),
    ] {
        for message in [ping(), call()] {
            let answer = ask(&server, authorization, &message).unwrap();
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32001)), "{answer}");
            let data = json!({ "status": status, "wwwAuthenticate": format!("Bearer {error}{SCOPE}") });
            assert_eq!(answer["error"]["data"], data, "{authorization:?}");
        }
    }
    assert!(server.world.audited().iter().all(|event| event.name == "token.refused"));
}

#[test]
fn an_outage_of_the_store_says_when_to_try_again() {
    let server = Server::with_alice();
    let answer = ask(&server, "Bearer unavailable", &ping()).unwrap();
    assert_eq!(answer["error"]["data"], json!({ "status": 503, "retryAfterSeconds": 2 }));
    assert_eq!(answer["error"]["message"], "The session cannot be looked up now");
}

#[test]
fn a_notification_without_a_good_token_is_not_answered_and_a_batch_is_answered_as_one() {
    let server = Server::with_alice();
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    assert_eq!(ask(&server, "", &notification), None);
    for message in [format!("[{}]", ping()), "nonsense".to_owned()] {
        let answer = ask(&server, "", &message).unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32001)));
    }
}

#[test]
fn a_local_server_takes_no_authorization() {
    let answer: Value = serde_json::from_str(&authorized::not_set_up(&ping()).unwrap()).unwrap();
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]), (&json!(-32001), &json!({ "status": 400 })));
}

#[test]
fn a_message_is_for_the_one_server_whose_tools_the_component_speaks_for() {
    use base::settings::{ServerIdentity, ServerKind, ServerSettings};
    let behind = |name: &str, kind| ServerSettings {
        name: name.to_owned(),
        path: format!("/{name}/mcp"),
        kind,
        title: None,
        tools: Vec::new(),
        permissions: Vec::new(),
        identity: ServerIdentity::None,
    };
    let mut server = Server::new();
    let upstream = behind("crm", ServerKind::Upstream);
    for (servers, admitted) in [
        (vec![upstream.clone(), behind("mail", ServerKind::Tools)], true),
        (vec![upstream.clone()], false),
        (vec![behind("mail", ServerKind::Tools), behind("files", ServerKind::Tools)], false),
    ] {
        crate::testing::change(&mut server.env, |settings| settings.servers = servers);
        server.sign_in(&super::TestSession { resource: "/mail/mcp", ..ALICE });
        let answer = ask(&server, "Bearer alice", &ping()).unwrap();
        assert_eq!(answer["result"] == json!({}), admitted, "{answer}");
    }
    // A session for the component's own tools is for no server behind.
    crate::testing::change(&mut server.env, |settings| settings.servers = vec![behind("mail", ServerKind::Tools)]);
    server.sign_in(&ALICE);
    assert!(ask(&server, "Bearer alice", &ping()).unwrap().get("error").is_some());
}
