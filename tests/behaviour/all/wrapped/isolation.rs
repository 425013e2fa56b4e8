//! What the tool sees, and what it reaches.

use serde_json::{Value, json};

use super::{ALICE, BOB, EGRESS, call, call_of, host, mailbox, request};
use crate::tools::mail::bearer;

/// Requests until one of them meets the instance of another. It is back a moment after its answer.
const TRIES: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_sees_who_calls_and_neither_credentials_nor_what_a_client_says_of_an_identity() {
    let host = host(1, &[("ENTRA_MCP_TOOL_IDENTITY", "easy-auth")]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let request = request(&host.public_url, &token, &call_of("headers", json!({})))
        .header("cookie", "a=b")
        .header("x-ms-client-principal-name", BOB)
        .header("X_Ms_Client_Principal_Name", BOB)
        .header("x-forwarded-user", BOB)
        .header("x-request-id", "kept");
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let seen = &answer["result"]["structuredContent"];
    let headers = seen["headers"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let value = |name: &str| -> Vec<_> {
        headers.iter().filter(|field| field[0] == name).filter_map(|field| field[1].as_str()).collect()
    };
    for absent in
        ["authorization", "cookie", "x-forwarded-user", "x_ms_client_principal_name", "x-ms-token-aad-access-token"]
    {
        assert!(value(absent).is_empty(), "{seen}");
    }
    assert_eq!(value("x-request-id"), ["kept"]);
    assert_eq!(value("x-ms-client-principal-idp"), ["aad"]);
    assert_eq!(value("x-ms-client-principal-id").len(), 1);
    assert!(!seen.to_string().contains(BOB) && !seen.to_string().contains(&token), "{seen}");
    assert_eq!(seen["path"], "/mcp");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_has_no_variables_and_no_folders_and_its_lines_are_no_audit_records() {
    let host = host(1, &[]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let surroundings = call(&host.public_url, &token, "surroundings", json!({})).await;
    assert_eq!(surroundings["variables"], json!([]), "{surroundings}");
    assert_eq!((&surroundings["folders"], &surroundings["stdin"]), (&json!(0), &json!(0)), "{surroundings}");
    assert!(surroundings["file"].is_string(), "{surroundings}");
    let log = host.log();
    let records = log.lines().filter(|line| line.starts_with('{') && line.contains("tool.called"));
    assert_eq!(records.count(), 1, "{log}");
    assert!(log.contains("entra-mcp: the tool says: {\"event\":\"tool.called\""), "{log}");
    assert!(log.contains("entra-mcp: the tool says: a line"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_reaches_its_destinations_and_no_other_and_names_no_identity() {
    let host = host(100, &[]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let graph = host.emulator.endpoints().graph.clone();
    for url in ["https://evil.example/", "https://graph.microsoft.com.evil.example/", &format!("{}/x", host.public_url)]
    {
        let seen = call(&host.public_url, &token, "fetch", json!({ "url": url })).await;
        assert_eq!(seen["refused"], "HttpRequestDenied", "{url}: {seen}");
    }
    for method in ["TRACE", "CONNECT"] {
        let arguments = json!({ "url": "https://graph.microsoft.com/v1.0/me/messages", "method": method });
        let seen = call(&host.public_url, &token, "fetch", arguments).await;
        assert_eq!(seen["refused"], "HttpRequestDenied", "{method}: {seen}");
    }
    let own = json!({
        "url": "https://graph.microsoft.com/v1.0/me/messages?$top=5",
        "headers": [["authorization", "Bearer own"], ["cookie", "a=b"], ["range", "bytes=0-5"]],
    });
    let seen = call(&host.public_url, &token, "fetch", own).await;
    assert_eq!(mailbox(&seen), ALICE);
    // By the address that the settings name as well.
    let seen =
        call(&host.public_url, &token, "fetch", json!({ "url": format!("{graph}/v1.0/me/messages?$top=5") })).await;
    assert_eq!(mailbox(&seen), ALICE);
    let log = host.log();
    assert!(log.contains("https://evil.example is no destination in ENTRA_MCP_EGRESS"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_destinations_the_tool_reaches_nothing() {
    let host = host(1, &[(EGRESS.0, "")]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let seen = call(&host.public_url, &token, "list_mail", json!({})).await;
    assert_eq!(seen["refused"], "HttpRequestDenied", "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_tool_keeps_from_one_call_is_not_sent_in_another() {
    let host = host(1_000, &[]).await;
    let (alice, bob) = (bearer(&host.emulator, ALICE).await, bearer(&host.emulator, BOB).await);
    for _ in 0..TRIES {
        call(&host.public_url, &alice, "keep", json!({})).await;
        let seen = call(&host.public_url, &bob, "send_kept", json!({})).await;
        if seen["kept"] == true {
            assert!(seen["refused"].as_str().is_some_and(|code| code.contains("HttpRequestDenied")), "{seen}");
            return;
        }
    }
    panic!("no two requests met one instance");
}
