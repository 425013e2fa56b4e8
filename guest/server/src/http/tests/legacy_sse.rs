//! HTTP+SSE: a stream here, messages there.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use world::testing::{forever, run};

use super::{ALICE, Server, TestSession, get, header, json_of, post};
use crate::message::{BodyStream, HttpResponse, Request};
use crate::testing::configure;

/// A stream that a client holds open.
struct Open {
    stream: Box<dyn BodyStream>,
    /// Where its messages go.
    endpoint: String,
}

const ALICE_SSE: TestSession<'static> = TestSession { resource: "/sse", ..ALICE };

fn server() -> Server {
    let server = Server::new();
    server.sign_in(&ALICE_SSE);
    server
}

impl Server {
    fn open(&self, token: &str) -> Open {
        let HttpResponse::Stream(head, mut stream) = self.answer(get("/sse").by(token)) else { panic!("no stream") };
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["content-type"], "text/event-stream");
        assert_eq!(head.headers()["x-content-type-options"], "nosniff");
        let first = String::from_utf8(run(stream.next(&self.env)).unwrap()).unwrap();
        let endpoint = first.strip_prefix("event: endpoint\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
        Open { stream, endpoint: endpoint.unwrap().to_owned() }
    }

    fn next(&self, open: &mut Open) -> Option<String> {
        run(open.stream.next(&self.env)).map(|piece| String::from_utf8(piece).unwrap())
    }

    /// Posts a message and says the status.
    fn tell(&self, open: &Open, token: &str, message: &Value) -> u16 {
        self.send(post(&open.endpoint, message).by(token)).status().as_u16()
    }
}

/// The messages in a piece of a stream.
fn messages(piece: &str) -> Vec<Value> {
    let events = piece.split("\n\n").filter(|event| !event.is_empty());
    events.map(|event| serde_json::from_str(event.strip_prefix("event: message\ndata: ").unwrap()).unwrap()).collect()
}

fn ping(id: u32) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })
}

fn initialize(version: &str) -> Value {
    let params = json!({ "protocolVersion": version, "capabilities": {} });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
}

#[test]
fn a_message_is_answered_on_the_stream() {
    let server = server();
    let mut open = server.open("alice");
    assert!(open.endpoint.starts_with("/message?sessionId="), "{}", open.endpoint);
    let accepted = server.send(post(&open.endpoint, &ping(1)).by("alice"));
    assert_eq!((accepted.status().as_u16(), accepted.body().len()), (202, 0));
    assert_eq!(server.tell(&open, "alice", &ping(2)), 202);
    let piece = server.next(&mut open).unwrap();
    assert_eq!(
        messages(&piece),
        [json!({ "jsonrpc": "2.0", "id": 1, "result": {} }), json!({ "jsonrpc": "2.0", "id": 2, "result": {} }),]
    );
}

#[test]
fn the_connection_of_a_stream_remembers_what_initialize_agreed_on() {
    let server = server();
    server.remember_profile(ALICE.object, "Alice");
    let mut open = server.open("alice");
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    assert_eq!(server.tell(&open, "alice", &list), 400, "not before initialize");
    assert_eq!(server.tell(&open, "alice", &initialize("2024-11-05")), 202);
    assert_eq!(server.tell(&open, "alice", &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })), 202);
    assert_eq!(server.tell(&open, "alice", &list), 202);
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "getUserDetails" } });
    assert_eq!(server.tell(&open, "alice", &call), 202);
    let answers = messages(&server.next(&mut open).unwrap());
    assert_eq!(answers[0]["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(answers[1]["result"]["tools"][0]["name"], "getUserDetails");
    assert_eq!(answers[2]["result"]["structuredContent"]["displayName"], "Alice");
    assert_eq!(server.tell(&open, "alice", &json!([ping(1)])), 400, "2024-11-05 has no batch");
    assert_eq!(server.tell(&open, "alice", &initialize("2025-03-26")), 202);
    assert_eq!(server.tell(&open, "alice", &json!([ping(1)])), 202);
}

#[test]
fn two_streams_of_one_client_are_two_connections() {
    let server = server();
    let (mut one, mut other) = (server.open("alice"), server.open("alice"));
    assert_ne!(one.endpoint, other.endpoint);
    server.tell(&one, "alice", &ping(1));
    server.tell(&other, "alice", &ping(2));
    assert_eq!(messages(&server.next(&mut one).unwrap())[0]["id"], 1);
    assert_eq!(messages(&server.next(&mut other).unwrap())[0]["id"], 2);
}

#[test]
fn a_stream_and_a_message_need_a_token_for_this_resource() {
    let server = server();
    server.sign_in(&TestSession { token: "for-mcp", ..ALICE });
    let open = server.open("alice");
    for request in [get("/sse"), get("/sse").by("for-mcp"), post(&open.endpoint, &ping(1)), get("/sse").by("unknown")] {
        let response = server.send(request);
        assert_eq!(response.status(), 401);
        assert!(
            header(&response, "www-authenticate")
                .contains("resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/sse\"")
        );
    }
    assert_eq!(server.tell(&open, "for-mcp", &ping(1)), 401);
}

#[test]
fn a_stream_of_another_caller_counts_as_absent() {
    let server = server();
    server.sign_in(&TestSession { token: "bob", object: "bob-object", ..ALICE_SSE });
    server.sign_in(&TestSession { token: "alice-elsewhere", client: "client-2", ..ALICE_SSE });
    let mut open = server.open("alice");
    for token in ["bob", "alice-elsewhere"] {
        assert_eq!(server.tell(&open, token, &ping(1)), 404);
    }
    assert_eq!(server.next(&mut open).as_deref(), Some(": keep-alive\n\n"), "nothing was delivered");
}

#[test]
fn an_id_that_names_no_stream_is_not_found() {
    let server = server();
    let open = server.open("alice");
    let id = open.endpoint.split_once('=').unwrap().1.to_owned();
    for target in [
        "/message".to_owned(),
        "/message?sessionId=".to_owned(),
        "/message?sessionId=x".to_owned(),
        format!("/message?sessionId={}", "A".repeat(43)),
        format!("/message?sessionId={}", "A".repeat(100_000)),
        format!("/message?sessionId={id}&sessionId={id}"),
        format!("/message?sessionid={id}"),
        format!("/message?sessionId={id}%2Fqueue"),
    ] {
        assert_eq!(server.send(post(&target, &ping(1)).by("alice")).status(), 404, "{target}");
    }
}

#[test]
fn a_silent_stream_is_kept_alive_every_15_seconds() {
    let server = server();
    let mut open = server.open("alice");
    for round in 1..=8 {
        assert_eq!(server.next(&mut open).as_deref(), Some(": keep-alive\n\n"));
        assert_eq!(server.world.elapsed().as_secs(), 15 * round);
    }
    assert_eq!(server.tell(&open, "alice", &ping(1)), 202, "the record is refreshed by the stream");
}

#[test]
fn a_stream_ends_with_its_session() {
    let server = server();
    let mut open = server.open("alice");
    server.sign_out("alice");
    assert_eq!(server.next(&mut open), None);
    assert_eq!(server.next(&mut open), None);
    server.sign_in(&ALICE_SSE);
    assert_eq!(server.tell(&open, "alice", &ping(1)), 404, "its records are gone");
}

#[test]
fn a_stream_ends_when_its_access_token_expires() {
    let server = server();
    server.sign_in(&TestSession { expires_in: 20, ..ALICE_SSE });
    let mut open = server.open("alice");
    assert_eq!(server.next(&mut open).as_deref(), Some(": keep-alive\n\n"));
    assert_eq!(server.next(&mut open), None);
    assert_eq!(server.world.elapsed().as_secs(), 30);
}

#[test]
fn a_stream_whose_client_went_away_is_forgotten_and_ends_nothing_else() {
    let server = server();
    let (gone, mut stays) = (server.open("alice"), server.open("alice"));
    drop(gone.stream);
    for _ in 0..3 {
        server.next(&mut stays);
    }
    let posted = server.send(post(&gone.endpoint, &ping(1)).by("alice"));
    assert_eq!(posted.status(), 404);
    assert_eq!(server.tell(&stays, "alice", &ping(1)), 202);
    assert_eq!(messages(&server.next(&mut stays).unwrap()).len(), 1);
}

#[test]
fn a_stream_whose_record_is_missing_ends() {
    let server = server();
    let mut open = server.open("alice");
    let id = open.endpoint.split_once('=').unwrap().1.to_owned();
    server.world.delete(&format!("sse/{id}")).unwrap();
    assert_eq!(server.tell(&open, "alice", &ping(1)), 404);
    assert_eq!(server.next(&mut open), None);
}

#[test]
fn unread_answers_are_bounded() {
    let server = server();
    let mut open = server.open("alice");
    for id in 0..32 {
        assert_eq!(server.tell(&open, "alice", &ping(id)), 202);
    }
    let full = server.send(post(&open.endpoint, &ping(32)).by("alice"));
    assert_eq!((full.status().as_u16(), header(&full, "retry-after")), (503, "2"));
    assert_eq!(messages(&server.next(&mut open).unwrap()).len(), 32);
    assert_eq!(server.tell(&open, "alice", &ping(33)), 202);
    let long = json!({ "jsonrpc": "2.0", "id": "x".repeat(200_000), "method": "ping" });
    assert_eq!(server.tell(&open, "alice", &long), 503, "by size too");
}

#[test]
fn the_streams_of_one_user_are_bounded_whatever_the_clients() {
    let server = server();
    server.sign_in(&TestSession { token: "bob", object: "bob-object", ..ALICE_SSE });
    for (token, client) in [("a", "client-2"), ("b", "client-3"), ("c", "client-4")] {
        server.sign_in(&TestSession { token, client, ..ALICE_SSE });
    }
    let mut open: Vec<Open> = ["alice", "a", "b", "c"].repeat(4).into_iter().map(|token| server.open(token)).collect();
    assert_eq!(server.send(get("/sse").by("c")).status(), 429);
    let refused = server.send(get("/sse").by("alice"));
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, "2"));
    server.open("bob");
    drop(open.pop());
    server.world.advance(Duration::from_secs(10));
    for stream in &mut open {
        assert!(server.next(stream).is_some());
    }
    server.world.advance(Duration::from_secs(46));
    server.open("alice");
}

#[test]
fn how_many_streams_a_user_may_hold_open_is_a_setting() {
    for most in [0, 1, 3] {
        let mut server = server();
        configure(&mut server.env, |http| http.max_streams_per_caller = most);
        let open: Vec<Open> = (0..most).map(|_| server.open("alice")).collect();
        assert_eq!(server.send(get("/sse").by("alice")).status(), 429, "{}", open.len());
    }
}

#[test]
fn streams_that_are_opened_at_the_same_time_are_all_counted() {
    for at in 0..8 {
        let mut server = server();
        configure(&mut server.env, |http| http.max_streams_per_caller = 1);
        let server: &'static Server = forever(server);
        let other = Rc::new(Cell::new(None));
        let seen = Rc::clone(&other);
        server.world.interrupt_store(at, move || {
            seen.set(Some(server.answer(get("/sse").by("alice"))));
        });
        let one = server.answer(get("/sse").by("alice"));
        let Some(other) = other.take() else { continue };
        let mut told = [one, other].map(|answer| matches!(answer, HttpResponse::Stream(..)));
        told.sort_unstable();
        assert_eq!(told, [false, true], "{at}");
    }
}

#[test]
fn what_is_no_message_is_refused_where_it_was_sent() {
    let server = server();
    let mut open = server.open("alice");
    let text = Request { body: b"{".to_vec(), ..post(&open.endpoint, &json!({})).by("alice") };
    let response = server.send(text);
    assert_eq!((response.status().as_u16(), &json_of(&response)["error"]["code"]), (400, &json!(-32700)));
    let plain = post(&open.endpoint, &ping(1)).by("alice").without("content-type");
    assert_eq!(server.send(plain).status(), 415);
    assert_eq!(server.next(&mut open).as_deref(), Some(": keep-alive\n\n"));
}

#[test]
fn a_caller_whose_sign_in_has_ended_is_challenged() {
    let server = server();
    let open = server.open("alice");
    server.tell(&open, "alice", &initialize("2024-11-05"));
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "getUserDetails" } });
    let response = server.send(post(&open.endpoint, &call).by("alice"));
    assert_eq!(response.status(), 401);
    assert!(header(&response, "www-authenticate").contains("error=\"invalid_token\""));
}

#[test]
fn a_client_that_takes_no_event_stream_gets_none() {
    let server = server();
    assert_eq!(server.send(get("/sse").by("alice").with("accept", "application/json")).status(), 406);
}

#[test]
fn a_scope_that_a_tool_needs_is_challenged_at_the_message_and_a_role_is_named_on_the_stream() {
    use base::policy::{Rule, ToolRule};
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "getUserDetails" } });
    let with_rule = |rule: Rule| {
        let mut server = server();
        let rule = ToolRule::for_tool("getUserDetails", rule);
        configure(&mut server.env, |http| http.access = Some(vec![rule]));
        let mut open = server.open("alice");
        assert_eq!(server.tell(&open, "alice", &initialize("2024-11-05")), 202);
        server.next(&mut open).unwrap();
        (server, open)
    };
    let (server, open) = with_rule(Rule::users().with_scopes(&["Mcp.All"]));
    let response = server.send(post(&open.endpoint, &call).by("alice"));
    assert_eq!(response.status(), 403);
    let challenge = header(&response, "www-authenticate");
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\", "), "{challenge}");
    assert!(challenge.ends_with("oauth-protected-resource/sse\", scope=\"User.Read Mcp.All\""), "{challenge}");
    let (server, mut open) = with_rule(Rule::users().with_any_role(&["Mcp.Admin"]));
    assert_eq!(server.tell(&open, "alice", &call), 202);
    let answers = messages(&server.next(&mut open).unwrap());
    assert_eq!(answers[0]["result"]["isError"], true);
    assert!(answers[0]["result"]["content"][0]["text"].as_str().unwrap().contains("\"Mcp.Admin\""));
}
