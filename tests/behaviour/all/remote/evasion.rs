//! A client that tries to get at tools which it is denied, by every way in that there is.

use entra_mcp_emulator::Endpoint;
use entra_mcp_plugin::environment::{TokenMode, ToolRule};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::access::rule;
use super::bearer::{fleet_with, token};
use crate::support::component::modern;
use crate::support::patience::soon;
use crate::support::remote::{ALICE, Answer, BOB, Fleet};

/// Denied for want of a role.
const DENIED: &str = "listMyGroups";
/// No rule lists it.
const OFF: &str = "GetUserDetailsFromGraph";
/// Every caller may call it.
const OPEN: &str = "getUserDetails";

async fn fleet() -> Fleet {
    let of = |tool: &str, roles: Option<&str>| ToolRule {
        tool: tool.to_owned(),
        roles: roles.map(|role| vec![role.to_owned()]),
        ..rule()
    };
    let rules = vec![of(DENIED, Some("Mcp.Nobody")), of(OPEN, None)];
    fleet_with(TokenMode::Both, |settings| settings.http.as_mut().expect("a remote server").access = Some(rules)).await
}

fn message(token: &str, path: &str, version: &str, body: &str) -> Request<Vec<u8>> {
    Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", version)
        .body(body.as_bytes().to_vec())
        .expect("a request")
}

fn call(id: u32, tool: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool } })
}

fn denials(fleet: &Fleet) -> usize {
    fleet.audit.events().iter().filter(|(_, event)| event.name == "tool.denied").count()
}

/// No tool ran for any caller.
fn nothing_happened(fleet: &Fleet, answer: &Answer, what: &str) {
    let text = String::from_utf8_lossy(&answer.bytes);
    assert!(!text.contains("structuredContent") && !text.contains("\"isError\":false"), "{what}: {text}");
    assert!(fleet.audit.events().iter().all(|(_, event)| event.name != "tool.called"), "{what}: {text}");
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 0, "{what}");
}

#[tokio::test]
async fn no_spelling_of_a_name_leads_to_a_tool_that_is_denied() {
    let fleet = fleet().await;
    for token in [token(&fleet, ALICE).await, fleet.session(ALICE).await.access] {
        for tool in [DENIED, OFF] {
            let other_case: String =
                tool.chars().map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c }).collect();
            let wide: String =
                tool.chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).expect("a character")).collect();
            for name in [
                other_case,
                wide,
                tool.to_lowercase(),
                format!("{tool} "),
                format!(" {tool}"),
                format!("{tool}\u{0}"),
                format!("{tool}\u{200b}"),
                format!("{tool}/"),
                format!("./{tool}"),
                format!("{OPEN},{tool}"),
            ] {
                let before = denials(&fleet);
                for version in ["2025-03-26", "2025-11-25"] {
                    let answer = fleet.send(message(&token, "/mcp", version, &call(1, &name).to_string())).await;
                    nothing_happened(&fleet, &answer, &name);
                    assert_eq!(
                        answer.body["error"]["message"],
                        "Unknown tool",
                        "{name:?}: {} {}",
                        answer.status,
                        String::from_utf8_lossy(&answer.bytes)
                    );
                }
                assert_eq!(denials(&fleet), before, "{name:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_way_in_leads_around_the_rules() {
    let fleet = fleet().await;
    for token in [token(&fleet, ALICE).await, fleet.session(ALICE).await.access] {
        for tool in [DENIED, OFF] {
            let one = call(1, tool).to_string();
            let batch =
                json!([{ "jsonrpc": "2.0", "method": "notifications/initialized" }, call(1, tool), call(2, tool)]);
            let twice =
                one.replace(&format!("\"name\":\"{tool}\""), &format!("\"name\":\"{OPEN}\",\"name\":\"{tool}\""));
            let escaped =
                one.replace(tool, &tool.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect::<String>());
            let notification = one.replace("\"id\":1,", "");
            for (what, version, body, recorded) in [
                ("a request", "2025-11-25", &one, 1),
                ("a batch", "2025-03-26", &batch.to_string(), 2),
                ("a batch where there is none", "2025-11-25", &batch.to_string(), 0),
                ("two names", "2025-11-25", &twice, 0),
                ("a name in other characters", "2025-11-25", &escaped, 1),
                ("a notification", "2025-11-25", &notification, 0),
            ] {
                let before = denials(&fleet);
                let answer = fleet.send(message(&token, "/mcp", version, body)).await;
                nothing_happened(&fleet, &answer, what);
                assert_eq!(denials(&fleet) - before, recorded, "{what}: {}", answer.body);
            }
            // A header field that names another tool than the body.
            for named in [OPEN, tool] {
                let body = modern("tools/call", json!({ "name": tool, "arguments": {} }), json!({})).to_string();
                let mut request = message(&token, "/mcp", "2026-07-28", &body);
                request.headers_mut().insert("mcp-method", "tools/call".parse().expect("a header"));
                request.headers_mut().insert("mcp-name", named.parse().expect("a header"));
                let before = denials(&fleet);
                let answer = fleet.send(request).await;
                nothing_happened(&fleet, &answer, named);
                assert_eq!(denials(&fleet) - before, usize::from(named == tool), "{}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn the_old_transport_has_the_same_rules_and_a_stream_is_of_one_person() {
    let fleet = fleet().await;
    let (alice, bob) = (token(&fleet, ALICE).await, token(&fleet, BOB).await);
    let flying = fleet.let_time_fly();
    let open = Request::get("/sse")
        .header("host", "mcp.example.com")
        .header("authorization", format!("Bearer {alice}"))
        .header("accept", "text/event-stream")
        .body(Vec::new().into())
        .expect("a request");
    let mut stream = fleet.replica().handle_http(open).await.into_body();
    let mut received = String::new();
    let mut next = async || {
        loop {
            if let Some((event, rest)) = received.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                received = rest.to_owned();
                match data {
                    Some(data) => break data,
                    None => continue,
                }
            }
            let frame = soon(stream.frame()).await.expect("an event in time");
            let data = frame.expect("the stream goes on").expect("a whole frame").into_data().expect("data");
            received.push_str(std::str::from_utf8(&data).expect("text"));
        }
    };
    let endpoint = next().await;
    let hello = json!({
        "jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": { "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } },
    });
    let others = [(bob, 404), (fleet.session(ALICE).await.access, 401)];
    for (other, status) in others {
        assert_eq!(fleet.send(message(&other, &endpoint, "2025-03-26", &hello.to_string())).await.status, status);
    }
    assert_eq!(fleet.send(message(&alice, &endpoint, "2025-03-26", &hello.to_string())).await.status, 202);
    assert!(next().await.contains("\"id\":0"));
    let batch = json!([call(1, DENIED), call(2, OFF)]).to_string();
    let answer = fleet.send(message(&alice, &endpoint, "2025-03-26", &batch)).await;
    assert_eq!(answer.status, 202);
    let told = next().await;
    assert!(told.contains("Mcp.Nobody") && told.contains("Unknown tool"), "{told}");
    nothing_happened(&fleet, &answer, &told);
    assert_eq!(denials(&fleet), 2);
    flying.abort();
}
