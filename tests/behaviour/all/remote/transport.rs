//! Streamable HTTP, and the deprecated HTTP+SSE, over two replicas.

use serde_json::{Value, json};

use crate::support::component::modern;
use crate::support::remote::{ALICE, Answer, Fleet, call_request};

async fn post(fleet: &Fleet, token: &str, headers: &[(&str, &str)], message: &Value) -> Answer {
    let mut request = http::Request::post("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("authorization", format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fleet.send(request.body(message.to_string().into_bytes()).expect("a request")).await
}

#[tokio::test]
async fn a_client_of_the_initialize_era_is_served_without_a_session_id() {
    let fleet = Fleet::new().await;
    let token = fleet.session(ALICE).await.access;
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
        let answer = post(&fleet, &token, &[], &initialize).await;
        assert_eq!(answer.body["result"]["protocolVersion"], version);
        assert_eq!(answer.header("mcp-session-id"), "");
        let headers = [("mcp-protocol-version", version)];
        let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let accepted = post(&fleet, &token, &headers, &notification).await;
        assert_eq!((accepted.status, accepted.bytes.len()), (202, 0));
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        let answer = post(&fleet, &token, &headers, &list).await;
        assert_eq!(answer.body["result"]["tools"][0]["name"], "getUserDetails");
        let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "getUserDetails" } });
        let answer = post(&fleet, &token, &headers, &call).await;
        assert!(answer.body["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains(ALICE)));
    }
}

#[tokio::test]
async fn headers_that_contradict_the_body_are_refused() {
    let fleet = Fleet::new().await;
    let token = fleet.session(ALICE).await.access;
    for (name, value) in
        [("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/list"), ("mcp-name", "GetUserDetailsFromGraph")]
    {
        let mut request = call_request(&token);
        request.headers_mut().insert(name, value.parse().expect("a header"));
        let answer = fleet.send(request).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!(-32020)), "{name}");
    }
}

#[tokio::test]
async fn errors_of_the_new_era_have_their_status() {
    let fleet = Fleet::new().await;
    let token = fleet.session(ALICE).await.access;
    let with = |method: &'static str| [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    let unknown = modern("resources/list", json!({}), json!({}));
    let answer = post(&fleet, &token, &with("resources/list"), &unknown).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (404, &json!(-32601)));
    let mut future = modern("tools/list", json!({}), json!({}));
    future["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
    let headers = [("mcp-protocol-version", "2099-01-01"), ("mcp-method", "tools/list")];
    let answer = post(&fleet, &token, &headers, &future).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!(-32022)));
    assert!(answer.body["error"]["data"]["supported"].is_array());
    let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
    let answer = post(&fleet, &token, &with("tools/list"), &bare).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!(-32602)));
}

#[tokio::test]
async fn an_answer_comes_as_the_client_accepts_it() {
    let fleet = Fleet::new().await;
    let token = fleet.session(ALICE).await.access;
    let mut request = call_request(&token);
    request.headers_mut().insert("accept", "text/event-stream".parse().expect("a header"));
    let answer = fleet.send(request).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    let event = answer.html();
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event with data");
    let message: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(message["result"]["structuredContent"]["userPrincipalName"], ALICE);
    let mut request = call_request(&token);
    request.headers_mut().insert("accept", "image/png".parse().expect("a header"));
    assert_eq!(fleet.send(request).await.status, 406);
}

#[tokio::test]
async fn what_is_not_offered_is_405() {
    let fleet = Fleet::new().await;
    let token = fleet.session(ALICE).await.access;
    for method in [http::Method::GET, http::Method::DELETE] {
        let mut request = call_request(&token);
        *request.method_mut() = method;
        let answer = fleet.send(request).await;
        assert_eq!(answer.status, 405);
        assert!(answer.header("allow").contains("POST"));
    }
}

#[tokio::test]
async fn a_body_that_is_no_message_is_400_or_415() {
    let fleet = Fleet::new().await;
    let token = fleet.session(ALICE).await.access;
    let mut request = call_request(&token);
    *request.body_mut() = b"{".to_vec();
    let answer = fleet.send(request).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!(-32700)));
    let mut request = call_request(&token);
    request.headers_mut().insert("content-type", "text/plain".parse().expect("a header"));
    assert_eq!(fleet.send(request).await.status, 415);
}

#[tokio::test]
async fn the_server_says_that_it_lives_and_is_ready() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.get("/healthz").await.status, 200);
    assert_eq!(fleet.get("/readyz").await.status, 200);
    let page = fleet.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.html().contains("https://mcp.example.com/mcp"), "{}", page.html());
    assert_eq!(fleet.get("/nothing-here").await.status, 404);
}

/// The runtime tells a task that does a lot to wait a moment, whatever it polls next. That must not be taken for a
/// component that has nothing more to say.
#[tokio::test]
async fn a_task_that_never_waits_gets_every_answer() {
    let fleet = Fleet::new().await;
    for number in 0..400 {
        let answer = fleet.get("/healthz").await;
        assert_eq!((number, answer.status), (number, 200), "{}", String::from_utf8_lossy(&answer.bytes));
    }
}
