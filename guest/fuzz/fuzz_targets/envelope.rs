//! Whatever is sent as MCP messages, one by one on a connection that remembers, and by HTTP: an answer is one line of
//! JSON-RPC with the id of the request, and a notification has none.
//!
//! Lines are messages. The first one is the version in the header field of HTTP.
#![no_main]

use std::cell::RefCell;

use entra_mcp_guest_fuzz::Server;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use server::LocalWorld;
use server::mcp::{self, McpConnection, RepeatedField, RepeatedFields, Peer, Reply};
use server::testing::{ServerWorlds as _, TestCaller};
use world::testing::{World, json, run};

/// Messages of one connection.
const MAX_MESSAGES: usize = 8;

struct Fakes {
    world: World,
    local: LocalWorld<'static>,
    server: Server,
}

impl Default for Fakes {
    fn default() -> Self {
        let world = World::default();
        world.always(|_| Ok(json(404, &Value::Null)));
        let local = world.local();
        Self { world, local, server: Server::default() }
    }
}

thread_local! {
    static FAKES: RefCell<Fakes> = RefCell::default();
}

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    FAKES.with_borrow_mut(|fakes| {
        fakes.world.restart();
        fakes.server.restart();
        let local = Peer::Local(&fakes.local);
        let caller = TestCaller::user();
        let remote = Peer::Remote(fakes.server.env(), &caller);
        let mut connections = [McpConnection::default(), McpConnection::default()];
        for message in lines.take(MAX_MESSAGES) {
            for (peer, connection) in [local, remote].into_iter().zip(&mut connections) {
                check(message, run(mcp::receive(&peer, connection, message.as_bytes())));
                // What a connection remembers survives being kept elsewhere.
                if let Some(state) = connection.changed() {
                    *connection = McpConnection::restore(Some(&state));
                }
            }
            let field = |text: &'static str| if text.is_empty() { RepeatedField::Absent } else { RepeatedField::Value(text) };
            let version = if version.is_empty() { RepeatedField::Absent } else { RepeatedField::Value(version) };
            for (method, name) in [("", ""), ("tools/call", "getUserDetails")] {
                let fields = RepeatedFields { version, method: field(method), name: field(name) };
                check(message, run(mcp::handle_http(&remote, &fields, message.as_bytes())));
            }
        }
    });
});

fn check(message: &str, reply: Reply) {
    let Reply::Message { status, json } = reply else { return };
    assert!((200..500).contains(&status), "{status}");
    assert!(!json.contains('\n'), "{json}");
    let answer: Value = serde_json::from_str(&json).expect("an answer is JSON");
    let answers = match &answer {
        Value::Array(answers) => answers.as_slice(),
        answer => std::slice::from_ref(answer),
    };
    assert!(!answers.is_empty());
    for answer in answers {
        assert_eq!(answer["jsonrpc"], "2.0");
        assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
    }
    let Ok(Value::Object(request)) = serde_json::from_str::<Value>(message) else { return };
    // An error about a message without a readable id has the id null.
    let id = request.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64());
    let expected = id.unwrap_or(&Value::Null);
    assert!(answer["id"] == *expected || answer["id"].is_null(), "{answer} to {message}");
    assert!(answer["id"] == *expected || answer.get("error").is_some(), "{answer} to {message}");
}
