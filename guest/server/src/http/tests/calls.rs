//! How much one caller may ask for.

use std::time::Duration;

use base::audit::Outcome;
use serde_json::{Value, json};
use world::testing::{self, World, run};

use super::super::authorized::{MessageOrigin, handle_with};
use super::{ALICE, Server, TestSession, authenticate, header, json_of, post};
use crate::mcp::{self, Peer, RepeatedField, RepeatedFields, Reply};
use crate::message::Request;
use crate::testing::{ServerWorlds as _, TestCaller};

const BOUND: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

const ALICE_ELSEWHERE: TestSession<'static> = TestSession { token: "alice-2", client: "client-2", ..ALICE };
const BOB: TestSession<'static> = TestSession { token: "bob", object: "bob-object", ..ALICE };

fn server() -> Server {
    let server = Server::with_alice();
    server.sign_in(&ALICE_ELSEWHERE);
    server.sign_in(&BOB);
    server.world.bound("call", BOUND, WINDOW);
    server
}

fn ping(id: u8) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })
}

fn by(token: &str, body: &Value) -> Request {
    post("/mcp", body).by(token)
}

#[test]
fn a_caller_over_the_bound_is_told_when_to_come_back_and_others_are_not_touched() {
    let server = server();
    let status = |token: &str| server.send(by(token, &ping(1))).status().as_u16();
    // One person, whatever the client.
    assert_eq!([status("alice"), status("alice-2"), status("alice"), status("alice")], [200, 200, 200, 429]);
    let refused = server.send(by("alice-2", &ping(1)));
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, "60"));
    assert_eq!([status("bob"), status("bob")], [200, 200]);
    let events = server.world.audited();
    let [throttled] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((throttled.name, throttled.reason.as_deref()), ("request.throttled", Some("call")));
    assert_eq!((throttled.object_id.as_deref(), throttled.outcome), (Some(ALICE.object), Outcome::Failure));
    server.world.advance(WINDOW);
    assert_eq!(status("alice"), 200);
}

#[test]
fn every_request_of_a_batch_counts_before_the_first_is_answered_and_notifications_do_not() {
    let server = server();
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    for _ in 0..10 {
        assert_eq!(server.send(by("alice", &note)).status(), 202);
    }
    let batch = json!([ping(1), note, ping(2), ping(3)]);
    assert_eq!(json_of(&server.send(by("alice", &batch))).as_array().unwrap().len(), 3);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "getUserDetails" } });
    let refused = server.send(by("alice", &json!([call, call])));
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, "60"));
    assert!(!server.world.audited().iter().any(|event| event.name == "tool.called"));
}

#[test]
fn a_batch_has_at_most_twenty_messages() {
    let server = Server::with_alice();
    let batch = |messages: usize| server.send(by("alice", &Value::Array(vec![ping(1); messages])));
    assert_eq!(json_of(&batch(20)).as_array().unwrap().len(), 20);
    let refused = batch(21);
    assert_eq!((refused.status().as_u16(), &json_of(&refused)["error"]["code"]), (400, &json!(-32600)));
}

#[test]
fn another_transport_is_told_the_same_in_words() {
    let server = server();
    let authorization = base::Secret::from("Bearer alice");
    let origin = MessageOrigin { authorization: &authorization, client_address: None };
    let ask = || {
        let message = ping(7).to_string();
        let answer = run(handle_with(&server.env, &server.world, &origin, &message, |env, token, resources| {
            Box::pin(authenticate(env, token, resources))
        }));
        serde_json::from_str::<Value>(&answer.unwrap()).unwrap()
    };
    for _ in 0..BOUND {
        assert_eq!(ask()["result"], json!({}));
    }
    assert_eq!(ask()["error"]["data"], json!({ "status": 429, "retryAfterSeconds": 60 }));
}

#[test]
fn what_tools_ask_of_graph_is_bounded_by_caller() {
    let world = World::default();
    world.always(|_| Ok(testing::json(200, &json!({ "value": [] }))));
    world.bound("graph-request", 2, WINDOW);
    let env = world.remote();
    let ask = |caller: &TestCaller| {
        let params = json!({ "name": "listMyGroups" });
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
        let absent = RepeatedField::Absent;
        let fields = RepeatedFields { version: RepeatedField::Value("2025-11-25"), method: absent, name: absent };
        run(mcp::handle_http(&Peer::Remote(&env, caller), &fields, call.as_bytes()))
    };
    let (alice, elsewhere) = (TestCaller::user(), TestCaller::user().client("another"));
    let other = TestCaller::user().tenant("ffffffff-0000-cccc-1111-dddd2222eeee");
    for caller in [&alice, &elsewhere] {
        assert!(matches!(ask(caller), Reply::Message { status: 200, .. }));
    }
    for caller in [&alice, &elsewhere] {
        assert_eq!(ask(caller), Reply::TooMany(WINDOW));
    }
    assert!(matches!(ask(&other), Reply::Message { status: 200, .. }));
    assert_eq!(world.sent().len(), 3);
    let called: Vec<_> =
        world.audited().into_iter().map(|event| (event.name, event.reason.unwrap_or_default())).collect();
    assert_eq!(
        called.iter().filter(|(name, reason)| *name == "request.throttled" && reason == "graph-request").count(),
        1
    );
    assert_eq!(called.iter().filter(|(_, reason)| reason == "graph-too-many").count(), 2, "each call has its record");
}
