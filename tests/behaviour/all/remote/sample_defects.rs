//! One test per defect of the sample servers that this one replaces, named after it.

use serde_json::json;

use crate::support::remote::{ALICE, Authorize, Fleet, REDIRECT, Tab, Tokens, parameter};

#[tokio::test]
async fn an_unknown_session_is_401_and_not_500() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.call("a-token-never-issued").await.status, 401);
}

#[tokio::test]
async fn refresh_and_revoke_are_not_only_advertised() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let answer = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
    assert_eq!(answer.status, 200);
    let renewed = Tokens::of(&tokens.client_id, &answer);
    let form = [("client_id", renewed.client_id.as_str()), ("token", renewed.access.as_str())];
    assert_eq!(fleet.post_form("/revoke", &form).await.status, 200);
    assert_eq!(fleet.call(&renewed.access).await.status, 401);
}

#[tokio::test]
async fn codes_are_bound_to_their_client() {
    let fleet = Fleet::new().await;
    let (client, other) = (fleet.register(REDIRECT).await, fleet.register(REDIRECT).await);
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    assert_eq!(fleet.redeem(&other, &code).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn the_requested_redirect_uri_is_used_and_not_the_first_registered() {
    let fleet = Fleet::new().await;
    let second = "https://client.example.com/second";
    let metadata = json!({
        "client_name": "Two ways back",
        "redirect_uris": [REDIRECT, second],
        "token_endpoint_auth_method": "none",
    });
    let answer = fleet.post_json("/register", &metadata).await;
    let client = answer.body["client_id"].as_str().expect("an id");
    let back = Tab::default().walk(&fleet, &Authorize::new(client).set("redirect_uri", second), ALICE).await;
    assert!(back.as_str().starts_with(second), "{back}");
}

#[tokio::test]
async fn open_registration_does_not_go_without_a_consent_page() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let answer = Tab::default().open(&fleet, &Authorize::new(&client).path()).await;
    assert_eq!(answer.status, 200, "no person is forwarded to Entra ID without consent");
}

#[tokio::test]
async fn an_error_callback_from_entra_is_not_swallowed() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let mut tab = Tab::default();
    let entra = tab.consent(&fleet, &Authorize::new(&client)).await;
    let state = parameter(&entra, "state").expect("a state");
    let callback =
        format!("/auth/callback?error=access_denied&error_description=AADSTS65004%3A%20declined&state={state}");
    let back = tab.open(&fleet, &callback).await.location();
    assert_eq!(parameter(&back, "error").as_deref(), Some("access_denied"));
}

#[tokio::test]
async fn secrets_of_clients_are_told_once_and_never_again() {
    let fleet = Fleet::new().await;
    let metadata = json!({
        "client_name": "Confidential client",
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "client_secret_post",
    });
    let answer = fleet.post_json("/register", &metadata).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let client = answer.body["client_id"].as_str().expect("an id").to_owned();
    let secret = answer.body["client_secret"].as_str().expect("a secret").to_owned();
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    assert_eq!(fleet.redeem(&client, &code).await.refusal(), (401, "invalid_client"), "without the secret");
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    let wrong = fleet.redeem_with(&client, &code, &[("client_secret", "wrong")]).await;
    assert_eq!(wrong.refusal(), (401, "invalid_client"));
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    assert_eq!(fleet.redeem_with(&client, &code, &[("client_secret", &secret)]).await.status, 200);
}

#[tokio::test]
async fn the_resource_has_metadata_and_the_origin_is_checked() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.get("/.well-known/oauth-protected-resource").await.status, 200);
    let mut request = crate::support::remote::call_request("");
    request.headers_mut().insert("origin", "https://evil.example.com".parse().expect("a header"));
    assert_eq!(fleet.send(request).await.status, 403);
}

#[tokio::test]
async fn raw_errors_are_not_shown() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    fleet.control().inject(
        entra_mcp_emulator::Fault::on(entra_mcp_emulator::Endpoint::GraphMe)
            .status(400)
            .body(r#"{"error":{"code":"BadRequest","message":"internal detail of a stranger"}}"#),
    );
    let answer = fleet.call(&tokens.access).await;
    assert_eq!(answer.body["result"]["isError"], true, "{}", answer.body);
    assert!(!answer.html().contains("eyJ") && !answer.html().contains("stack"));
}
