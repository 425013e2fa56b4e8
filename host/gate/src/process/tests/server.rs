//! The server of the tests: a method for each thing that a server may do.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

/// The name of the test below.
pub(super) const NAME: &str = "process::tests::server::answers_on_standard_streams";

/// Not a test: other tests run it as their server.
#[test]
#[ignore = "the other tests run it as their server"]
fn answers_on_standard_streams() {
    assert!(std::env::args().any(|argument| argument == "--exact"), "a part of other tests, which start it");
    // The test runner has begun a line.
    say("");
    let mut waiting: Vec<Value> = Vec::new();
    let mut asking: BTreeMap<String, Value> = BTreeMap::new();
    let mut cancelled: Vec<Value> = Vec::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).unwrap();
        let (id, params) = (message["id"].clone(), message["params"].clone());
        let answer = |result: Value| tell(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
        let notify = |method: &str, params: Value| tell(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
        match message["method"].as_str() {
            // An answer to a request of this server.
            None => {
                let call = asking.remove(id.as_str().unwrap()).unwrap();
                tell(&json!({"jsonrpc": "2.0", "id": call, "result": {"answered": message}}));
            }
            Some("initialize") => answer(json!({"protocolVersion": "2025-11-25"})),
            Some("pid") => answer(json!(std::process::id())),
            // The request as it arrived.
            Some("echo") => {
                say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"line":{}}}}}"#, Value::String(line.clone())));
            }
            Some("number") => {
                say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":123456789012345678901234567890.10}}"#))
            }
            Some("environment") => answer(json!(environment())),
            Some("folder") => {
                let here = std::env::current_dir().unwrap();
                answer(json!({"path": here, "entries": here.read_dir().unwrap().count()}));
            }
            Some("token") => answer(token()),
            // Two requests are answered in the other order.
            Some("pair") => {
                waiting.push(json!({"jsonrpc": "2.0", "id": id, "result": params}));
                if waiting.len() == 2 {
                    waiting.drain(..).rev().for_each(|answer| tell(&answer));
                }
            }
            Some("progress") => {
                let token = &params["_meta"]["progressToken"];
                notify("notifications/progress", json!({"progressToken": token, "progress": 1}));
                notify("notifications/progress", json!({"progressToken": token, "progress": 2}));
                if params["wait"] != true {
                    answer(json!("done"));
                }
            }
            Some("finish") => {
                tell(&json!({"jsonrpc": "2.0", "id": params["id"], "result": "finished"}));
                answer(Value::Null);
            }
            Some("ask") => {
                asking.insert("q".into(), id.clone());
                tell(&json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": params}));
            }
            Some("listen") => {
                let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
                notify("notifications/subscriptions/acknowledged", json!({"_meta": meta}));
                notify("notifications/tools/list_changed", json!({"_meta": meta}));
                notify("notifications/cancelled", json!({"requestId": id}));
            }
            Some("changed") => {
                notify("notifications/tools/list_changed", json!({}));
                answer(Value::Null);
            }
            Some("noise") => {
                say("no JSON");
                say("[1]");
                say(&"x".repeat(5 * 1024 * 1024));
                say(r#"{"jsonrpc":"2.0","id":"unknown","result":1}"#);
                #[allow(clippy::print_stderr, reason = "the server of the tests writes to its standard error")]
                {
                    eprintln!("noise");
                }
                answer(json!("quiet"));
            }
            // An answer that is longer than what is read of a line.
            Some("long") => {
                let long = "x".repeat(5 * 1024 * 1024);
                match params["last"] == true {
                    false => say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{long}"}}"#)),
                    true => say(&format!(r#"{{"result":"{long}","jsonrpc":"2.0","id":{id}}}"#)),
                }
            }
            Some("missing") => tell(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "m"}})),
            Some("never") => {}
            Some("notifications/cancelled") => cancelled.push(params["requestId"].clone()),
            Some("cancelled") => answer(json!(cancelled)),
            Some("crash") => std::process::abort(),
            Some("child") => answer(json!(child(params["stubborn"] == true))),
            Some(method) => assert!(method.starts_with("notifications/"), "{method}"),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the server of the tests tells what it was given")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars().collect()
}

fn token() -> Value {
    use std::os::unix::fs::PermissionsExt as _;
    let environment = environment();
    let path = std::path::Path::new(&environment["ENTRA_MCP_TOKEN_FILE"]);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    json!({
        "token": std::fs::read_to_string(path).unwrap(),
        "path": path,
        "mode": mode(path),
        "folder mode": mode(path.parent().unwrap()),
    })
}

/// Starts a child of this process, and says its id once it runs. A stubborn one does not end when it is asked to.
#[allow(clippy::disallowed_methods, reason = "the server of the tests has a child")]
#[allow(clippy::zombie_processes, reason = "the child outlives it")]
fn child(stubborn: bool) -> u32 {
    let trap = if stubborn { "trap '' TERM; " } else { "" };
    let script = format!("{trap}echo ready; while :; do /bin/sleep 1; done");
    let mut child = std::process::Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    child.id()
}

fn tell(message: &Value) {
    say(&message.to_string());
}

#[allow(clippy::disallowed_methods, reason = "the server of the tests writes to its standard output")]
fn say(line: &str) {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}").unwrap();
    output.flush().unwrap();
}
