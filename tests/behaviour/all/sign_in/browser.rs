//! The authorization code flow through the system browser.

use std::sync::Arc;
use std::time::Duration;

use entra_mcp_emulator::Endpoint;
use entra_mcp_emulator::user_agent::Person;
use serde_json::json;

use crate::support::component::{Connection, Server, call_tool, tool_error};
use crate::support::lab::PASSWORD;

#[tokio::test]
async fn a_person_who_signs_in_gets_the_profile_as_text_and_as_structure() {
    let mut server = Server::new().await;
    let result = server.signed_in_call().await;
    assert_eq!(result["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), result["structuredContent"]);
    assert_eq!(result["isError"], false);
    assert_eq!(result["resultType"], "complete");
}

#[tokio::test]
async fn the_request_to_entra_has_pkce_state_nonce_and_asks_for_a_refresh_token() {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    let requests = server.control().requests(Endpoint::Authorize);
    let parameter = |name: &str| {
        let query = &requests[0].query;
        query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(parameter("response_type"), "code");
    assert_eq!(parameter("code_challenge_method"), "S256");
    assert_eq!(parameter("code_challenge").len(), 43);
    assert_eq!(parameter("state").len(), 43);
    assert_eq!(parameter("nonce").len(), 43);
    assert!(parameter("redirect_uri").starts_with("http://localhost:"));
    assert_eq!(parameter("scope"), "https://graph.microsoft.com/User.Read openid profile offline_access");
}

#[tokio::test]
async fn the_second_call_is_silent() {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    server.control().clear_requests();
    let answer = server.ask(call_tool(json!({}))).await;
    assert_eq!(answer["result"]["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert_eq!(server.control().request_count(Endpoint::Token), 0);
    assert_eq!(server.control().request_count(Endpoint::GraphMe), 1);
    assert!(!server.opened_more());
}

#[tokio::test]
async fn the_browser_is_told_how_it_went() {
    let mut server = Server::new().await;
    let call = server.send(&Arc::default(), call_tool(json!({})));
    let url = server.opened().await;
    let landing = server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    assert_eq!(landing.status, Some(200));
    assert!(landing.body.contains("You are signed in"), "{}", landing.body);
    call.await.unwrap();
}

#[tokio::test]
async fn two_calls_that_need_a_sign_in_at_once_share_one() {
    let mut server = Server::new().await;
    let connection = Arc::default();
    let first = server.send(&connection, call_tool(json!({})));
    let url = server.opened().await;
    let second = server.send(&connection, call_tool(json!({})));
    // The second one is there once it waits: nothing else waits for so short a time.
    while server.clock.next_wait().await > Duration::from_millis(200) {
        tokio::task::yield_now().await;
    }
    server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    first.await.unwrap();
    server.advance(1);
    let answer = second.await.unwrap().unwrap();
    assert_eq!(answer["result"]["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert!(!server.opened_more(), "one browser page is opened");
    assert_eq!(server.control().request_count(Endpoint::Authorize), 1);
}

#[tokio::test]
async fn a_sign_in_whose_call_is_cancelled_stores_nothing_and_the_next_call_shows_the_same_page() {
    let mut server = Server::new().await;
    let call = server.send(&Arc::default(), call_tool(json!({})));
    let url = server.opened().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(server.accounts().await, 0);
    server.advance(5);
    let again = server.send(&Arc::default(), call_tool(json!({})));
    assert_eq!(server.opened().await, url);
    server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    assert_eq!(again.await.unwrap().unwrap()["result"]["isError"], false);
}

#[tokio::test]
async fn a_person_who_is_slower_than_the_client_is_patient_is_signed_in_by_the_next_call() {
    let mut server = Server::new().await;
    let call = server.send(&Arc::default(), call_tool(json!({})));
    let url = server.opened().await;
    call.abort();
    call.await.unwrap_err();
    let person = tokio::spawn(async move {
        let mut browser = entra_mcp_emulator::user_agent::HeadlessBrowser::new();
        browser.sign_in(&url, "alice@contoso.example", PASSWORD).await.unwrap()
    });
    while server.control().request_count(Endpoint::SignIn) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.accounts().await, 0, "without a call, the code is not redeemed");
    server.advance(5);
    let result = server.ask(call_tool(json!({}))).await["result"].clone();
    assert_eq!(result["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert!(person.await.unwrap().body.contains("You are signed in"));
}

#[tokio::test]
async fn the_listener_of_a_sign_in_that_is_over_is_closed() {
    let mut server = Server::new().await;
    for _ in 0..20 {
        server.signed_in_call().await;
        let accounts = server.plugin.accounts().await.unwrap();
        server.plugin.sign_out(&accounts[0].home_account_id).await.unwrap();
    }
}

#[tokio::test]
async fn a_sign_in_that_takes_too_long_names_the_page_and_goes_on_with_the_next_call() {
    let mut server = Server::with(|settings| settings.sign_in.timeout_seconds = 20).await;
    let call = server.send(&Arc::default(), call_tool(json!({})));
    let url = server.opened().await;
    let flying = server.let_time_fly();
    let result = call.await.unwrap().unwrap()["result"].clone();
    flying.abort();
    assert!(tool_error(&result).contains(&url), "{result}");
    assert!(tool_error(&result).contains("call this tool again"), "{result}");
    // Entra ID sends no answer where it does not know the application: only its page says so.
    let at = server.emulator.endpoints();
    let ids = format!("check the tenant id, {}, and the client id, {}.", at.tenant_id, at.public_client_id);
    assert!(tool_error(&result).contains(&ids), "{result}");

    let again = server.send(&Arc::default(), call_tool(json!({})));
    assert_eq!(server.opened().await, url, "the page that the person may still have open is the one that counts");
    server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    let answer = again.await.unwrap().unwrap();
    assert_eq!(answer["result"]["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert_eq!(server.control().request_count(Endpoint::Authorize), 1);
}

#[tokio::test]
async fn other_requests_are_answered_while_a_person_is_awaited() {
    let mut server = Server::new().await;
    let connection = Arc::default();
    let call = server.send(&connection, call_tool(json!({})));
    server.opened().await;
    let list = crate::support::component::modern("tools/list", json!({}), json!({}));
    assert!(server.ask(list).await["result"]["tools"].is_array());
    call.abort();
}

#[tokio::test]
async fn a_person_who_declines_consent_is_told_what_to_do() {
    let mut server = Server::new().await;
    let call = server.send(&Arc::default(), call_tool(json!({})));
    let url = server.opened().await;
    let person = Person::new("connie@contoso.example", PASSWORD).declining();
    let landing = server.sign_in_as(&url, &person).await.unwrap();
    assert!(landing.body.contains("did not succeed"), "{}", landing.body);
    let result = call.await.unwrap().unwrap()["result"].clone();
    assert!(tool_error(&result).contains("declined"), "{result}");
    assert_eq!(server.accounts().await, 0);
    assert!(!server.opened_more(), "a refusal is final: no second page");
}

#[tokio::test]
async fn progress_is_reported_to_a_client_that_wants_it() {
    let mut server = Server::with(|settings| settings.sign_in.timeout_seconds = 20).await;
    let connection: Arc<Connection> = Arc::default();
    let message = call_tool(json!({ "_meta": { "progressToken": "p-1" } }));
    let call = server.send(&connection, message);
    let url = server.opened().await;
    let flying = server.let_time_fly();
    call.await.unwrap();
    flying.abort();
    let reports = connection.notified("notifications/progress");
    assert!(reports.len() >= 3, "{reports:?}");
    for pair in reports.windows(2) {
        assert!(pair[1]["progress"].as_f64() > pair[0]["progress"].as_f64(), "{pair:?}");
    }
    assert_eq!(reports[0]["progressToken"], "p-1");
    assert!(reports[0]["message"].as_str().unwrap().contains(&url));
}

#[tokio::test]
async fn every_step_of_a_sign_in_is_audited_without_names() {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    let names: Vec<String> = server.audited().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["sign-in.started", "signing-keys.refresh", "sign-in.completed", "tool.called"]);
    let text = format!("{:?}", server.audit.events());
    assert!(!text.to_lowercase().contains("alice"), "{text}");
}
