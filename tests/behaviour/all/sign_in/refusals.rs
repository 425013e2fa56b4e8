//! What comes back from Entra ID is not believed: nothing that does not belong to the sign-in is stored.

use std::sync::Arc;

use entra_mcp_emulator::{Endpoint, Fault, RedirectFault, TokenFault};
use serde_json::{Value, json};

use crate::support::component::{Server, call_tool, tool_error};

/// Signs in with a spoiled answer; the tool's result.
async fn spoiled(server: &mut Server) -> Value {
    let call = server.send(&Arc::default(), call_tool(json!({})));
    let url = server.opened().await;
    let landing = server.sign_in_at(&url, "alice@contoso.example").await.unwrap();
    assert!(landing.body.contains("did not succeed"), "{}", landing.body);
    let result = call.await.unwrap().unwrap()["result"].clone();
    assert_eq!(server.accounts().await, 0, "nothing is stored");
    result
}

async fn refused_id_token(fault: TokenFault, reason: &str) {
    let mut server = Server::new().await;
    server.control().spoil_id_tokens(fault, 1);
    let result = spoiled(&mut server).await;
    assert!(tool_error(&result).contains("the ID token is not valid"), "{result}");
    let ended = server.audited().into_iter().find(|(name, _)| name == "sign-in.ended").unwrap();
    assert_eq!(ended.1.as_deref(), Some(reason));
}

#[tokio::test]
async fn an_id_token_signed_by_an_unknown_key_is_refused() {
    refused_id_token(TokenFault::UnknownKey, "id-token-key-unknown").await;
}

#[tokio::test]
async fn an_id_token_with_another_nonce_is_refused() {
    refused_id_token(TokenFault::WrongNonce, "id-token-nonce-mismatch").await;
}

#[tokio::test]
async fn an_id_token_without_a_nonce_is_refused() {
    refused_id_token(TokenFault::MissingNonce, "id-token-nonce-mismatch").await;
}

#[tokio::test]
async fn an_id_token_of_another_issuer_is_refused() {
    refused_id_token(TokenFault::WrongIssuer, "id-token-issuer-mismatch").await;
}

#[tokio::test]
async fn an_id_token_for_another_application_is_refused() {
    refused_id_token(TokenFault::WrongAudience, "id-token-audience-mismatch").await;
}

#[tokio::test]
async fn an_id_token_of_another_tenant_is_refused() {
    refused_id_token(TokenFault::WrongTenant, "id-token-issuer-mismatch").await;
}

#[tokio::test]
async fn an_expired_id_token_is_refused() {
    refused_id_token(TokenFault::Expired, "id-token-expired").await;
}

#[tokio::test]
async fn an_id_token_from_the_future_is_refused() {
    refused_id_token(TokenFault::NotYetValid, "id-token-not-yet-valid").await;
}

#[tokio::test]
async fn a_redirect_with_another_state_is_refused_and_its_code_is_not_redeemed() {
    for fault in [RedirectFault::WrongState, RedirectFault::MissingState] {
        let mut server = Server::new().await;
        server.control().spoil_redirects(fault, 1);
        let result = spoiled(&mut server).await;
        assert!(tool_error(&result).contains("state"), "{result}");
        assert_eq!(server.control().request_count(Endpoint::Token), 0);
    }
}

#[tokio::test]
async fn a_token_response_that_is_not_json_is_refused() {
    let mut server = Server::new().await;
    server
        .control()
        .inject(Fault::on(Endpoint::Token).status(200).body("<html>proxy</html>").content_type("text/html"));
    let result = spoiled(&mut server).await;
    assert!(tool_error(&result).contains("something unexpected"), "{result}");
}

#[tokio::test]
async fn a_token_response_without_an_id_token_is_refused() {
    let mut server = Server::new().await;
    let body = json!({ "token_type": "Bearer", "access_token": "x", "refresh_token": "y", "expires_in": 3600 });
    server.control().inject(Fault::on(Endpoint::Token).status(200).body(body.to_string()));
    let result = spoiled(&mut server).await;
    assert!(tool_error(&result).contains("there is no ID token"), "{result}");
}

#[tokio::test]
async fn a_refusal_of_entra_says_what_to_do_and_names_the_code() {
    let mut server = Server::new().await;
    let body = json!({
        "error": "invalid_client",
        "error_description": "AADSTS7000218: The request body must contain the following parameter: 'client_assertion'.",
        "error_codes": [7_000_218],
    });
    server.control().inject(Fault::on(Endpoint::Token).status(401).body(body.to_string()));
    let result = spoiled(&mut server).await;
    assert!(tool_error(&result).contains("Allow public client flows"), "{result}");
    assert!(tool_error(&result).contains("AADSTS7000218"), "{result}");
}
