//! Who may call, and in whose name the tool asks Graph.

use entra_mcp_emulator::Endpoint;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{ALICE, BOB, call, call_of, host, mailbox, request, send};
use crate::support::component::modern;
use crate::support::session::sign_in;
use crate::tools::mail::{assert_no_client_token_left, bearer, watch};

/// Calls at the same time.
const CALLS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_token_is_told_where_to_get_one() {
    let host = host(1, &[]).await;
    let request = reqwest::Client::new().post(format!("{}/mcp", host.public_url)).json(&call_of("headers", json!({})));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().expect("a text").to_owned();
    let metadata = challenge.split_once("resource_metadata=\"").and_then(|(_, rest)| rest.split_once('"'));
    let (metadata, _) = metadata.unwrap_or_else(|| panic!("{challenge}"));
    let metadata: Value = reqwest::get(metadata).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(metadata["resource"], format!("{}/mcp", host.public_url));
    let response = reqwest::get(format!("{}/readyz", host.public_url)).await.expect("an answer");
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_enough_is_refused_before_the_tool_is_asked() {
    let host = host(1, &[("ENTRA_MCP_REQUIRED_SCOPE", "Mcp.Admin")]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let (start, signature) = token.rsplit_once('.').expect("a token has three parts");
    let forged = format!("{start}.{}", signature.chars().rev().collect::<String>());
    for (token, status, error) in
        [(&token, 403, "insufficient_scope"), (&forged, 401, "invalid_token"), (&"x".to_owned(), 401, "invalid_token")]
    {
        let response =
            request(&host.public_url, token, &call_of("headers", json!({}))).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{error}");
        let challenge = response.headers()["www-authenticate"].to_str().expect("a text").to_owned();
        assert!(challenge.contains(&format!("error=\"{error}\"")), "{challenge}");
        assert!(challenge.contains("resource_metadata=\""), "{challenge}");
        assert!(status != 403 || challenge.contains("/Mcp.Admin"), "{challenge}");
    }
    assert!(!host.log().contains("\"event\":\"tool.called\""), "{}", host.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_reads_the_mail_of_its_caller_from_sign_in_to_revocation() {
    let host = host(1, &[]).await;
    let session = sign_in(&host.public_url, "/mcp", ALICE).await;
    let graph = call(&host.public_url, &session.access_token, "list_mail", json!({})).await;
    assert_eq!(mailbox(&graph), ALICE);
    let form = [("token", session.refresh_token.as_str()), ("client_id", session.client_id.as_str())];
    let revoked = reqwest::Client::new().post(format!("{}/revoke", host.public_url)).form(&form).send().await;
    assert_eq!(revoked.expect("an answer").status(), 200);
    let (status, _) = send(&host.public_url, &session.access_token, &call_of("list_mail", json!({}))).await;
    assert_eq!(status, 401, "a revoked session is over");
    let log = host.log();
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let called = events.iter().find(|event| event["event"] == "tool.called").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&called["tool"], &called["server"]), (&json!("list_mail"), &json!("tool")), "{called}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_call_at_the_same_time_get_their_own_answers_and_no_token_of_theirs_leaves() {
    for reuse in [1, 1_000] {
        let host = host(reuse, &[]).await;
        let mut tokens = Vec::new();
        for username in [ALICE, BOB] {
            tokens.push((username, bearer(&host.emulator, username).await));
        }
        let session = sign_in(&host.public_url, "/mcp", BOB).await;
        watch(&host.emulator, &tokens.iter().map(|(_, token)| token.clone()).collect::<Vec<_>>());
        tokens.push((BOB, session.access_token));
        let calls = (0..CALLS).map(|number| {
            let ((username, token), host) = (&tokens[number % tokens.len()], &host);
            async move {
                let graph = call(&host.public_url, token, "list_mail", json!({})).await;
                assert_eq!(mailbox(&graph), *username);
            }
        });
        join_all(calls).await;
        assert_eq!(host.emulator.control().request_count(Endpoint::GraphMessages), CALLS as u64);
        assert_no_client_token_left(&host.emulator);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_denies_a_call_and_takes_the_tool_out_of_the_list() {
    let rules = "[{\"tool\": \"fetch\", \"roles\": [\"Mcp.None\"]}]";
    let host = host(100, &[("ENTRA_MCP_ACCESS", rules)]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let (status, answer) = send(&host.public_url, &token, &call_of("fetch", json!({}))).await;
    assert_eq!((status, &answer["result"]["isError"]), (200, &json!(true)), "{answer}");
    let said = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
    assert!(said.starts_with("you may not call this tool"), "{answer}");
    assert!(host.log().contains("\"event\":\"tool.denied\""), "{}", host.log());
    let (_, answer) = send(&host.public_url, &token, &modern("tools/list", json!({}), json!({}))).await;
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"list_mail") && !names.contains(&"fetch"), "{names:?}");
    // Without a rule of its own, every caller may call.
    call(&host.public_url, &token, "headers", json!({})).await;
}
