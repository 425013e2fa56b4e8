//! The device authorization grant, for machines without a browser.

use std::sync::Arc;

use entra_mcp_emulator::{DeviceOutcome, DeviceScript, Endpoint};
use entra_mcp_plugin::environment::SignInMethod;
use serde_json::{Value, json};

use crate::support::component::{Server, call_tool, tool_error};

async fn by_code() -> Server {
    Server::with(|settings| settings.sign_in.method = SignInMethod::DeviceCode).await
}

fn script(script: DeviceScript, server: &Server) {
    server.control().script_device_codes(script);
}

/// Calls the tool and lets time fly until it answers.
async fn result(server: &Server) -> Value {
    let flying = server.let_time_fly();
    let answer = server.send(&Arc::default(), call_tool(json!({}))).await.unwrap().unwrap();
    flying.abort();
    answer["result"].clone()
}

fn approved() -> Option<DeviceOutcome> {
    Some(DeviceOutcome::ApprovedBy("alice@contoso.example".to_owned()))
}

#[tokio::test]
async fn a_code_that_is_approved_signs_in() {
    let server = by_code().await;
    script(DeviceScript { outcome: approved(), ..DeviceScript::default() }, &server);
    let result = result(&server).await;
    assert_eq!(result["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert!(server.desk.prompts()[0].contains("enter the code"), "{:?}", server.desk.prompts());
    assert_eq!(server.accounts().await, 1);
}

#[tokio::test]
async fn without_a_browser_a_code_is_used() {
    let server = Server::new().await.without_browser();
    script(DeviceScript { outcome: approved(), ..DeviceScript::default() }, &server);
    assert_eq!(result(&server).await["isError"], false);
    assert_eq!(server.control().request_count(Endpoint::DeviceCode), 1);
}

#[tokio::test]
async fn without_a_browser_no_code_is_used_where_the_browser_is_demanded() {
    let server = Server::with(|settings| settings.sign_in.method = SignInMethod::Browser).await.without_browser();
    let result = result(&server).await;
    assert!(tool_error(&result).contains("no browser"), "{result}");
    assert_eq!(server.control().request_count(Endpoint::DeviceCode), 0);
}

#[tokio::test]
async fn polling_is_slowed_down_as_entra_asks() {
    let server = by_code().await;
    let polls = DeviceScript { interval: Some(5), slow_down: 2, outcome: approved(), ..DeviceScript::default() };
    script(polls, &server);
    let began = server.now();
    assert_eq!(result(&server).await["isError"], false);
    // Polls after 0, 10 and 25 seconds: each slow_down adds five seconds to the interval.
    assert_eq!(server.control().request_count(Endpoint::Token), 3);
    assert!((server.now() - began).as_secs() >= 25);
}

#[tokio::test]
async fn a_code_that_is_not_entered_is_named_when_the_wait_ends_and_still_works_for_the_next_call() {
    let server = Server::with(|settings| {
        settings.sign_in.method = SignInMethod::DeviceCode;
        settings.sign_in.timeout_seconds = 30;
    })
    .await;
    let pending = result(&server).await;
    let prompt = server.desk.prompts()[0].clone();
    assert!(tool_error(&pending).contains(&prompt), "{pending} names {prompt}");
    assert!(server.control().request_count(Endpoint::Token) >= 3, "authorization_pending was answered meanwhile");

    let code = prompt.rsplit_once("code ").unwrap().1.trim_end_matches('.');
    let page = format!("{}/devicelogin", server.emulator.endpoints().authority);
    let mut browser = entra_mcp_emulator::user_agent::HeadlessBrowser::new();
    browser.approve_device_code(&page, code, "alice@contoso.example", crate::support::lab::PASSWORD).await.unwrap();
    assert_eq!(result(&server).await["structuredContent"]["userPrincipalName"], "alice@contoso.example");
    assert_eq!(server.control().request_count(Endpoint::DeviceCode), 1, "no second code was asked for");
}

#[tokio::test]
async fn the_wait_for_a_code_ends_when_the_settings_say_and_not_after_the_next_poll() {
    let server = Server::with(|settings| {
        settings.sign_in.method = SignInMethod::DeviceCode;
        settings.sign_in.timeout_seconds = 2;
    })
    .await;
    let began = server.now();
    tool_error(&result(&server).await);
    assert!((server.now() - began).as_secs() <= 4, "the interval is five seconds");
}

#[tokio::test]
async fn a_code_that_expires_is_over() {
    let server = by_code().await;
    script(DeviceScript { outcome: Some(DeviceOutcome::Expired), ..DeviceScript::default() }, &server);
    let result = result(&server).await;
    assert!(tool_error(&result).contains("not finished in time"), "{result}");
    assert_eq!(server.accounts().await, 0);
}

#[tokio::test]
async fn a_person_who_declines_on_the_other_device_is_not_asked_again() {
    let server = by_code().await;
    script(DeviceScript { outcome: Some(DeviceOutcome::Declined), ..DeviceScript::default() }, &server);
    let result = result(&server).await;
    assert!(tool_error(&result).contains("declined"), "{result}");
    assert_eq!(server.control().request_count(Endpoint::DeviceCode), 1);
}
