//! From registration to revocation, and clients that bring a token of Entra ID.

use entra_mcp_emulator::user_agent::{HeadlessBrowser, Person};
use serde_json::{Value, json};

use super::host::{Options, StockHost};
use crate::support::component::modern;
use crate::support::lab::{Authorize, LOCAL, PASSWORD, REDIRECT, VERIFIER, app};
use crate::support::session::{self, Session};

pub(super) const ALICE: &str = "alice@contoso.example";
const TOOL: &str = "getUserDetails";

/// Calls the tool; status and answer.
pub(super) async fn call(public_url: &str, token: &str) -> (u16, Value) {
    let message = modern("tools/call", json!({ "name": TOOL, "arguments": {} }), json!({}));
    let request = reqwest::Client::new()
        .post(format!("{public_url}/mcp"))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", TOOL)
        .header("x-real-ip", "192.0.2.7")
        .bearer_auth(token)
        .json(&message);
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

/// The name of the caller, as the tool has found it.
pub(super) async fn caller(public_url: &str, token: &str) -> String {
    let (status, answer) = call(public_url, token).await;
    let name = answer["result"]["structuredContent"]["userPrincipalName"].as_str();
    assert_eq!(status, 200, "{answer}");
    name.unwrap_or_else(|| panic!("no name: {answer}")).to_owned()
}

async fn post(url: String, form: &[(&str, &str)]) -> (u16, Value) {
    let response = reqwest::Client::new().post(url).form(form).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

pub(super) async fn refresh(public_url: &str, session: &Session) -> (u16, Value) {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", session.client_id.as_str()),
        ("refresh_token", session.refresh_token.as_str()),
    ];
    post(format!("{public_url}/token"), &form).await
}

/// The whole life of a session: a client registers, its user consents and signs in, it calls a tool, refreshes its tokens,
/// and revokes them.
pub(super) async fn whole_session(public_url: &str) {
    let session = session::sign_in(public_url, "/mcp", ALICE).await;
    assert_eq!(caller(public_url, &session.access_token).await, ALICE);

    let (status, tokens) = refresh(public_url, &session).await;
    assert_eq!(status, 200, "{tokens}");
    let text = |name: &str| tokens[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
    let renewed = Session {
        access_token: text("access_token"),
        refresh_token: text("refresh_token"),
        client_id: session.client_id.clone(),
    };
    assert_ne!(renewed.access_token, session.access_token);
    assert_eq!(caller(public_url, &renewed.access_token).await, ALICE);

    let form = [("token", renewed.refresh_token.as_str()), ("client_id", renewed.client_id.as_str())];
    let (status, answer) = post(format!("{public_url}/revoke"), &form).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = call(public_url, &renewed.access_token).await;
    assert_eq!(status, 401, "a revoked session is over");
    let (status, answer) = refresh(public_url, &renewed).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
}

/// A token of Entra ID for the server, as a client with MSAL gets it.
pub(super) async fn entra_token(authority: &str, public_url: &str) -> String {
    let scope = format!("openid profile offline_access {public_url}/mcp/access_as_user");
    let authorize = Authorize::new(LOCAL).scope(&scope);
    let mut browser = HeadlessBrowser::new().staying();
    let landing = browser.sign_in_as(&authorize.url(authority), &Person::new(ALICE, PASSWORD)).await;
    let code = landing.expect("the sign-in ends at the client").parameter("code").expect("there is a code");
    let client = app(LOCAL);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("scope", scope.as_str()),
    ];
    let (status, tokens) = post(format!("{authority}/{}/oauth2/v2.0/token", authorize.tenant), &form).await;
    assert_eq!(status, 200, "{tokens}");
    tokens["access_token"].as_str().expect("an access token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lives_from_registration_to_revocation_with_a_fresh_instance_for_each_request() {
    let host = StockHost::start(Options::default()).await;
    whole_session(&host.public_url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lives_from_registration_to_revocation_with_instances_that_are_used_again() {
    let host = StockHost::start(Options { reuse: 100, ..Options::default() }).await;
    whole_session(&host.public_url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_brings_a_token_of_entra_id_is_served() {
    let variables = &[("ENTRA_MCP_TOKEN_MODE", "bearer"), ("ENTRA_MCP_CLIENT_ADDRESS_HEADER", "X-Real-IP")];
    let host = StockHost::start(Options { variables, ..Options::default() }).await;
    let token = entra_token(&host.emulator.endpoints().authority, &host.public_url).await;
    assert_eq!(caller(&host.public_url, &token).await, ALICE);
    let (status, _) = call(&host.public_url, &format!("{token}x")).await;
    assert_eq!(status, 401);
    let log = host.log();
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let called = events.iter().find(|event| event["event"] == "tool.called").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&called["outcome"], &called["tool"]), (&json!("success"), &json!(TOOL)));
    assert_eq!(called["address"], "192.0.2.7", "as the header in front names it");
    assert!(called["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{called}");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_records_are_lines_of_json_on_standard_error_and_hold_no_token() {
    let host = StockHost::start(Options { reuse: 100, ..Options::default() }).await;
    let session = session::sign_in(&host.public_url, "/mcp", ALICE).await;
    caller(&host.public_url, &session.access_token).await;
    let log = host.log();
    let events: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for name in ["client.registered", "consent.given", "authorization.completed", "session.created", "tool.called"] {
        assert!(events.iter().any(|event| event["event"] == name), "no {name} in {log}");
    }
    for secret in [session.access_token.as_str(), &session.refresh_token, "eyJ"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_the_records_hold_no_token_in_clear() {
    let host = StockHost::start(Options::default()).await;
    let session = session::sign_in(&host.public_url, "/mcp", ALICE).await;
    let files = host.files();
    assert!(files.len() > 3, "{}", files.len());
    for (path, bytes) in files {
        let shown = format!("{} {}", path.display(), String::from_utf8_lossy(&bytes));
        for secret in
            [session.access_token.as_str(), &session.refresh_token, &session.client_id, "eyJ", "alice", "session"]
        {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

/// Prints what a call of a session costs. The host is built without optimisation, the component with it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: cargo test --workspace --test all -- --ignored --nocapture what_a_call_costs"]
async fn what_a_call_costs() {
    const CALLS: u32 = 100;
    for reuse in [1, 1_000] {
        let host = StockHost::start(Options { reuse, ..Options::default() }).await;
        let session = session::sign_in(&host.public_url, "/mcp", ALICE).await;
        caller(&host.public_url, &session.access_token).await;
        #[allow(clippy::disallowed_methods, reason = "it measures")]
        let began = std::time::Instant::now();
        for _ in 0..CALLS {
            caller(&host.public_url, &session.access_token).await;
        }
        println!("--max-instance-reuse-count {reuse}: {:?} a call", began.elapsed() / CALLS);
    }
}
