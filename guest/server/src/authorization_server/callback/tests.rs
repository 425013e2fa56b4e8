//! What becomes of the answers of Entra ID.

use entra::testing::{OBJECT, OTHER_TENANT, TestKey, header, id_claims, sign, with};
use http::header::LOCATION;
use serde_json::json;

use crate::authorization_server::testing::*;
use crate::testing::configure;

/// Where the client is told, and what.
fn told(response: &http::Response<Vec<u8>>) -> (u16, String) {
    let location = response.headers().get(LOCATION).map(|url| url.to_str().unwrap()).unwrap_or_default();
    assert!(location.starts_with(REDIRECT), "{location} {}", String::from_utf8_lossy(response.body()));
    assert_eq!(parameter(response, "iss").as_deref(), Some("https://mcp.example.com"));
    assert_eq!(parameter(response, "state").as_deref(), Some("s"));
    assert_eq!(parameter(response, "code"), None);
    (response.status().as_u16(), parameter(response, "error").unwrap())
}

/// A flow in which the person is at Entra ID.
fn at_entra() -> (Flow, http::Response<Vec<u8>>) {
    let flow = Flow::new();
    let to = flow.decide(&flow.authorize(&[]), "allow");
    (flow, to)
}

#[test]
fn the_error_that_a_browser_brings_is_recorded_as_a_known_code_only() {
    for (error, reason) in [
        ("access_denied", "access_denied"),
        ("alice@contoso.example\nforged", "unknown-error"),
        ("plausible_but_unknown", "unknown-error"),
    ] {
        let (flow, to) = at_entra();
        let state = parameter(&to, "state").unwrap();
        told(&flow.come_back(&[("error", error), ("state", &state)]));
        assert_eq!(flow.audited().last().unwrap(), &format!("authorization.completed/failure/{reason}"));
    }
}

#[test]
fn how_the_server_is_configured_is_not_told_to_clients() {
    for code in [50011, 70002, 700_016, 7_000_215, 7_000_222, 7_000_218, 900_971, 9_010_010, 700_030, 650_053, 90002] {
        let (flow, to) = at_entra();
        flow.entra_answers(401, &json!({ "error": "invalid_client", "error_codes": [code] }));
        let state = parameter(&to, "state").unwrap();
        let back = flow.come_back(&[("code", "c"), ("state", &state)]);
        assert_eq!(told(&back), (303, "server_error".to_owned()));
        let description = parameter(&back, "error_description").unwrap();
        let expected =
            format!("The server is not set up correctly at Microsoft Entra ID: ask its operator. (AADSTS{code})");
        assert!(description.starts_with(&expected), "{description}");
    }
}

#[test]
fn refusals_by_entra_reach_the_client_as_its_own_errors() {
    for (error, expected) in [
        ("access_denied", "access_denied"),
        ("consent_required", "consent_required"),
        ("login_required", "login_required"),
        ("interaction_required", "interaction_required"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("server_error", "server_error"),
        ("<script>", "server_error"),
    ] {
        let (flow, to) = at_entra();
        let state = parameter(&to, "state").unwrap();
        assert_eq!(told(&flow.come_back(&[("error", error), ("state", &state)])), (303, expected.to_owned()));
    }
}

#[test]
fn a_key_that_is_not_published_yet_is_a_reason_to_try_again() {
    let (flow, to) = at_entra();
    let claims = id_claims(&parameter(&to, "nonce").unwrap());
    let id_token = sign(&header("RS256", "newer"), &claims, &TestKey::named("rsa"));
    let body = json!({ "token_type": "Bearer", "access_token": "a", "expires_in": 3600, "id_token": id_token });
    flow.entra_answers(200, &body);
    let back = flow.come_back(&[("code", "c"), ("state", &parameter(&to, "state").unwrap())]);
    assert_eq!(told(&back), (303, "temporarily_unavailable".to_owned()));
    assert_eq!(flow.audited().last().unwrap(), "authorization.completed/failure/id-token-key-unknown");
}

#[test]
fn an_answer_without_a_code_or_a_genuine_id_token_gives_nothing() {
    let nonce = |to: &_| parameter(to, "nonce").unwrap();
    let (flow, to) = at_entra();
    let state = parameter(&to, "state").unwrap();
    assert_eq!(told(&flow.come_back(&[("state", &state)])).1, "server_error");

    let (flow, to) = at_entra();
    let state = parameter(&to, "state").unwrap();
    flow.entra_answers(200, &json!({ "token_type": "Bearer", "access_token": "a", "expires_in": 3600 }));
    assert_eq!(told(&flow.come_back(&[("code", "c"), ("state", &state)])).1, "server_error");
    assert_eq!(flow.audited().last().unwrap(), "authorization.completed/failure/no-id-token");

    let (flow, to) = at_entra();
    let state = parameter(&to, "state").unwrap();
    flow.entra_gives(&id_claims("another nonce"));
    assert_eq!(told(&flow.come_back(&[("code", "c"), ("state", &state)])).1, "server_error");
    assert_eq!(flow.audited().last().unwrap(), "authorization.completed/failure/id-token-nonce-mismatch");

    let (flow, to) = at_entra();
    let state = parameter(&to, "state").unwrap();
    flow.entra_gives(&with(id_claims(&nonce(&to)), json!({ "xms_sub_fct": "3 13" })));
    assert_eq!(told(&flow.come_back(&[("code", "c"), ("state", &state)])).1, "access_denied");
    assert_eq!(flow.audited().last().unwrap(), "authorization.completed/failure/id-token-principal-kind-mismatch");
    assert_eq!(flow.sessions(), (0, 0));

    let (flow, to) = at_entra();
    let state = parameter(&to, "state").unwrap();
    let issuer = format!("https://login.microsoftonline.com/{OTHER_TENANT}/v2.0");
    flow.entra_gives(&with(id_claims(&nonce(&to)), json!({ "tid": OTHER_TENANT, "iss": issuer })));
    assert!(
        ["server_error", "access_denied"]
            .contains(&told(&flow.come_back(&[("code", "c"), ("state", &state)])).1.as_str())
    );
    assert_eq!(flow.sessions(), (0, 0));
}

#[test]
fn an_answer_is_taken_once_and_from_the_browser_that_asked() {
    let (flow, to) = at_entra();
    let state = parameter(&to, "state").unwrap();
    for parameters in [
        &[("code", "c")][..],
        &[("code", "c"), ("state", "another")],
        &[("code", "c"), ("state", &"x".repeat(65))],
        &[("code", "c"), ("code", "d"), ("state", &state)],
    ] {
        assert_eq!(flow.come_back(parameters).status(), 400);
    }
    assert!(flow.world.sent().is_empty(), "Entra ID is not asked");
    assert_eq!(flow.sign_in(&to, OBJECT).status(), 303);
    assert_eq!(flow.sign_in(&to, OBJECT).status(), 400);
    let (flow, to) = at_entra();
    flow.forget_cookie();
    assert_eq!(flow.sign_in(&to, OBJECT).status(), 400);
}

#[test]
fn a_consent_stands_in_for_the_page_for_the_same_person_only() {
    let flow = Flow::new();
    assert!(parameter(&flow.walk(&[]), "code").is_some());
    let to = flow.authorize(&[]);
    assert_eq!(to.status(), 303, "the page is skipped");
    let page = flow.sign_in(&to, "22223333-cccc-4444-dddd-5555eeee6666");
    assert_eq!(page.status(), 200, "another person is asked");
    assert_eq!(flow.authorize(&[("prompt", "consent")]).status(), 200);
    flow.forget_cookie();
    assert_eq!(flow.authorize(&[]).status(), 200);
}

#[test]
fn a_client_that_has_gone_gets_no_code_and_that_is_recorded() {
    let (mut flow, to) = at_entra();
    configure(&mut flow.env, |http| http.clients.clear());
    assert_eq!(flow.sign_in(&to, OBJECT).status(), 400);
    assert_eq!(flow.audited().last().unwrap(), "authorization.completed/failure/client-unknown");
    assert!(flow.world.sent().is_empty(), "the code of Entra ID is not used up in vain");
}
