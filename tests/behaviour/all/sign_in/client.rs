//! The MCP client shows its user what to do: elicitation in URL mode, in both eras.

use std::sync::Arc;

use entra_mcp_emulator::Endpoint;
use serde_json::{Value, json};

use crate::support::component::{Connection, SILENCE, Server, call_tool_as, tool_error};

fn url_mode() -> Value {
    json!({ "elicitation": { "url": {} } })
}

/// A connection on which a client of 2025-11-25 has initialized.
async fn legacy_connection(server: &Server, capabilities: Value) -> Arc<Connection> {
    let connection = Arc::default();
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities });
    let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    let answer = server.send(&connection, message).await.unwrap().unwrap();
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    connection
}

fn legacy_call() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "GetUserDetailsFromGraph" } })
}

#[tokio::test]
async fn a_client_of_2025_11_25_opens_the_page_and_is_told_when_it_is_over() {
    let mut server = Server::new().await;
    let connection = legacy_connection(&server, url_mode()).await;
    *connection.elicitation.lock().unwrap() = Some("accept");
    let mut shown = connection.report();
    let call = server.send(&connection, legacy_call());
    let url = shown.recv().await.unwrap();
    server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    let result = call.await.unwrap().unwrap()["result"].clone();
    assert_eq!(result["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert!(result.get("resultType").is_none());
    assert!(!server.opened_more(), "the page was the client's to open");
    let asked = connection.requests.lock().unwrap().clone();
    assert_eq!(asked[0].0, "elicitation/create");
    assert_eq!(asked[0].1["mode"], "url");
    let complete = connection.notified("notifications/elicitation/complete");
    assert_eq!(complete, [json!({ "elicitationId": asked[0].1["elicitationId"] })]);
}

#[tokio::test]
async fn a_person_who_declines_or_dismisses_in_the_client_is_not_sent_anywhere() {
    for action in ["decline", "cancel"] {
        let mut server = Server::new().await;
        let connection = legacy_connection(&server, url_mode()).await;
        *connection.elicitation.lock().unwrap() = Some(action);
        let result = server.send(&connection, legacy_call()).await.unwrap().unwrap()["result"].clone();
        assert!(tool_error(&result).contains("declined"), "{result}");
        assert!(!server.opened_more());
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_the_client_asks_its_user_holds_up_no_other() {
    let mut server = Server::new().await;
    let connection = legacy_connection(&server, url_mode()).await;
    *connection.elicitation.lock().unwrap() = Some(SILENCE);
    let call = server.send(&connection, legacy_call());
    while connection.requests.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    call.abort();
    call.await.unwrap_err();
    server.advance(5);
    assert_eq!(server.signed_in_call().await["isError"], false);
}

#[tokio::test]
async fn a_person_who_never_answers_the_client_is_waited_for_as_long_as_the_settings_say() {
    let server = Server::with(|settings| settings.sign_in.timeout_seconds = 20).await;
    let connection = legacy_connection(&server, url_mode()).await;
    *connection.elicitation.lock().unwrap() = Some(SILENCE);
    let flying = server.let_time_fly();
    let result = server.send(&connection, legacy_call()).await.unwrap().unwrap()["result"].clone();
    flying.abort();
    assert!(tool_error(&result).contains("To sign in, open"), "{result}");
}

#[tokio::test]
async fn a_client_that_promised_elicitation_and_cannot_leaves_it_to_the_browser() {
    let mut server = Server::new().await;
    let connection = legacy_connection(&server, url_mode()).await;
    let call = server.send(&connection, legacy_call());
    let url = server.opened().await;
    server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    assert_eq!(call.await.unwrap().unwrap()["result"]["isError"], false);
}

#[tokio::test]
async fn a_client_that_elicits_forms_only_is_not_asked() {
    let mut server = Server::new().await;
    let connection = legacy_connection(&server, json!({ "elicitation": {} })).await;
    let call = server.send(&connection, legacy_call());
    let url = server.opened().await;
    server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    call.await.unwrap();
    assert!(connection.requests.lock().unwrap().is_empty());
}

/// The first round of a call in 2026-07-28: what the client is asked to do, and the state to bring back.
async fn first_round(server: &Server) -> (String, Value) {
    let result = server.ask(call_tool_as(json!({}), url_mode())).await["result"].clone();
    assert_eq!(result["resultType"], "input_required", "{result}");
    let request = &result["inputRequests"]["sign-in"];
    assert_eq!(request["method"], "elicitation/create");
    assert_eq!(request["params"]["mode"], "url");
    (request["params"]["url"].as_str().unwrap().to_owned(), result["requestState"].clone())
}

fn second_round(state: &Value, action: &str) -> Value {
    let responses = json!({ "sign-in": { "action": action } });
    call_tool_as(json!({ "requestState": state, "inputResponses": responses }), url_mode())
}

#[tokio::test]
async fn a_client_of_2026_07_28_gets_an_input_request_and_comes_back() {
    let mut server = Server::new().await;
    let (url, state) = first_round(&server).await;
    let call = server.send(&Arc::default(), second_round(&state, "accept"));
    server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    let result = call.await.unwrap().unwrap()["result"].clone();
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert!(!server.opened_more());
}

#[tokio::test]
async fn a_person_who_was_faster_than_the_client_is_signed_in_when_it_comes_back() {
    let mut server = Server::new().await;
    let (url, state) = first_round(&server).await;
    let browser = tokio::spawn(async move {
        let mut browser = entra_mcp_emulator::user_agent::HeadlessBrowser::new();
        browser.sign_in(&url, "alice@contoso.example", crate::support::lab::PASSWORD).await.unwrap()
    });
    while server.control().request_count(Endpoint::SignIn) < 2 {
        tokio::task::yield_now().await;
    }
    let result = server.ask(second_round(&state, "accept")).await["result"].clone();
    assert_eq!(result["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert!(browser.await.unwrap().body.contains("You are signed in"));
    assert!(!server.opened_more());
}

#[tokio::test]
async fn two_calls_of_2026_07_28_are_given_the_same_page() {
    let server = Server::new().await;
    let (first, _) = first_round(&server).await;
    let (second, _) = first_round(&server).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_client_that_comes_back_without_an_answer_is_asked_again() {
    let server = Server::new().await;
    let (url, state) = first_round(&server).await;
    let answer = server.ask(call_tool_as(json!({ "requestState": state }), url_mode())).await;
    assert_eq!(answer["result"]["inputRequests"]["sign-in"]["params"]["url"], url);
}

#[tokio::test]
async fn a_person_who_declines_in_a_client_of_2026_07_28_ends_the_sign_in() {
    let mut server = Server::new().await;
    let (url, state) = first_round(&server).await;
    let result = server.ask(second_round(&state, "decline")).await["result"].clone();
    assert!(tool_error(&result).contains("declined"), "{result}");
    let (another, _) = first_round(&server).await;
    assert_ne!(another, url, "what was declined is over");
    assert!(!server.opened_more());
}

#[tokio::test]
async fn a_state_serves_no_other_call_and_no_changed_one() {
    let server = Server::new().await;
    let (_, state) = first_round(&server).await;
    let mut other = second_round(&state, "accept");
    other["params"]["arguments"] = json!({ "another": "call" });
    assert_eq!(server.ask(other).await["error"]["code"], -32602);
    let mut text = state.as_str().unwrap().to_owned();
    let last = if text.pop() == Some('A') { 'B' } else { 'A' };
    text.push(last);
    assert_eq!(server.ask(second_round(&json!(text), "accept")).await["error"]["code"], -32602);
}
