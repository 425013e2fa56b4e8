//! Refresh tokens: rotation, expiry, revocation, other resources.

use entra_mcp_emulator::Requirement;

use crate::support::lab::{Authorize, CONTOSO, GRAPH_SCOPE, LOCAL, Lab, REMOTE, TASKS, app};

const ALICE: &str = "alice@contoso.example";
const DAY: i64 = 86_400;

#[tokio::test]
async fn every_refresh_brings_a_new_token_and_the_old_one_goes_on_working() {
    let mut lab = Lab::new().await;
    let first = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    let second = lab.refresh(LOCAL, &first, GRAPH_SCOPE).await;
    assert_ne!(second.text("refresh_token"), first);
    assert!(second.claims("id_token")["nonce"].is_null());
    assert_eq!(lab.refresh(LOCAL, &first, GRAPH_SCOPE).await.status, 200);
}

#[tokio::test]
async fn old_refresh_tokens_can_be_made_to_die_on_use() {
    let mut lab = Lab::new().await;
    lab.control().change_policy(|policy| policy.refresh_token_reuse = false);
    let first = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    assert_eq!(lab.refresh(LOCAL, &first, GRAPH_SCOPE).await.status, 200);
    let again = lab.refresh(LOCAL, &first, GRAPH_SCOPE).await;
    assert_eq!((again.refusal(), again.text("suberror")), ((400, "invalid_grant", 70_000), "bad_token"));
}

#[tokio::test]
async fn a_refresh_token_gets_tokens_for_other_resources() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    let answer = lab.refresh(LOCAL, &refresh, &format!("api://{}/Tasks.Read", app(TASKS))).await;
    assert_eq!(answer.claims("access_token")["aud"], app(TASKS));
}

#[tokio::test]
async fn an_idle_refresh_token_dies_after_ninety_days() {
    let mut lab = Lab::new().await;
    let first = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    lab.advance(89 * DAY);
    let second = lab.refresh(LOCAL, &first, GRAPH_SCOPE).await.text("refresh_token").to_owned();
    lab.advance(89 * DAY);
    assert_eq!(lab.refresh(LOCAL, &first, GRAPH_SCOPE).await.refusal(), (400, "invalid_grant", 700_082));
    assert_eq!(lab.refresh(LOCAL, &second, GRAPH_SCOPE).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_of_a_single_page_application_lives_one_day_however_often_it_is_used() {
    let mut lab = Lab::new().await;
    let redirect = "http://localhost:3000/spa";
    let code = lab.code(&Authorize::new(8).with("redirect_uri", redirect), ALICE).await;
    let client = app(8);
    let url = format!("{}/{CONTOSO}/oauth2/v2.0/token", lab.endpoints().authority);
    let mut form = vec![
        ("grant_type", "authorization_code".to_owned()),
        ("client_id", client.clone()),
        ("code", code),
        ("redirect_uri", redirect.to_owned()),
        ("code_verifier", crate::support::lab::VERIFIER.to_owned()),
    ];
    let mut status = 0;
    for _ in 0..4 {
        let answer = lab.send(lab.client().post(&url).header("origin", "http://localhost:3000").form(&form)).await;
        status = answer.status;
        if status != 200 {
            assert_eq!(answer.refusal(), (400, "invalid_grant", 700_084));
            break;
        }
        form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", client.clone()),
            ("scope", "openid User.Read".to_owned()),
            ("refresh_token", answer.text("refresh_token").to_owned()),
        ];
        lab.advance(10 * 3_600);
    }
    assert_eq!(status, 400, "the third refresh comes after thirty hours");
}

#[tokio::test]
async fn revoked_sessions_need_a_new_sign_in() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    lab.control().revoke_sessions(ALICE).unwrap();
    let answer = lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await;
    assert_eq!((answer.refusal(), answer.text("suberror")), ((400, "invalid_grant", 50_173), "bad_token"));
    let landing = lab.authorize(&Authorize::new(LOCAL), ALICE).await.unwrap();
    assert_eq!(landing.pages, ["Sign in", "Enter password"], "the browser session is gone too");
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.status, 200);
}

#[tokio::test]
async fn a_session_lifetime_policy_ends_refreshing() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens("sara@contoso.example").await.text("refresh_token").to_owned();
    lab.advance(8 * 3_600 - 1);
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.status, 200);
    lab.advance(1);
    let answer = lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await;
    assert_eq!((answer.refusal(), answer.text("suberror")), ((400, "invalid_grant", 70_043), "token_expired"));
}

#[tokio::test]
async fn a_refresh_without_a_scope_is_refused() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    assert_eq!(lab.refresh(LOCAL, &refresh, "").await.refusal(), (400, "invalid_scope", 70_011));
    let own = format!("openid offline_access api://{}/Mcp.Access", app(REMOTE));
    let refresh = lab.tokens(&Authorize::new(REMOTE).scope(&own), ALICE).await.text("refresh_token").to_owned();
    let answer = lab.confidential(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)]).await;
    assert_eq!(answer.refusal(), (400, "invalid_request", 90_009));
}

#[tokio::test]
async fn a_refresh_token_belongs_to_its_client() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    let answer = lab.refresh(5, &refresh, "User.Read").await;
    assert_eq!((answer.refusal(), answer.text("suberror")), ((400, "invalid_grant", 700_003), "client_mismatch"));
    assert_eq!(lab.refresh(LOCAL, "1.Anothing", "User.Read").await.refusal(), (400, "invalid_grant", 9_002_313));
}

#[tokio::test]
async fn a_web_application_refreshes_with_its_credential_only() {
    let mut lab = Lab::new().await;
    let refresh = lab.tokens(&Authorize::new(REMOTE), ALICE).await.text("refresh_token").to_owned();
    assert_eq!(lab.refresh(REMOTE, &refresh, "User.Read").await.refusal(), (401, "invalid_client", 7_000_218));
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("scope", "User.Read")];
    assert_eq!(lab.confidential(&form).await.status, 200);
}

#[tokio::test]
async fn policies_that_change_after_the_sign_in_meet_the_next_refresh() {
    let cases = [
        (Requirement::UseMfa, 50_076, Some("basic_action")),
        (Requirement::EnrolMfa, 50_079, Some("basic_action")),
        (Requirement::UseCompliantDevice, 53_003, Some("message_only")),
        (Requirement::BeEnabled, 50_057, None),
        (Requirement::ChangePassword, 50_055, None),
    ];
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    for (requirement, code, suberror) in cases {
        lab.control().set_requirement(ALICE, requirement).unwrap();
        let answer = lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await;
        assert_eq!(answer.refusal(), (400, "invalid_grant", code));
        assert_eq!(answer.body["suberror"].as_str(), suberror);
        assert_eq!(answer.body["claims"].is_string(), suberror.is_some(), "the claims to sign in again with");
    }
}

#[tokio::test]
async fn consent_is_missing_for_permissions_that_were_not_accepted() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens("connie@contoso.example").await.text("refresh_token").to_owned();
    let answer = lab.refresh(LOCAL, &refresh, "Mail.Read").await;
    assert_eq!((answer.refusal(), answer.text("suberror")), ((400, "invalid_grant", 65_001), "consent_required"));
    let answer = lab.refresh(LOCAL, &refresh, "Directory.Read.All").await;
    assert_eq!((answer.refusal(), answer.text("suberror")), ((400, "invalid_grant", 90_094), "consent_required"));
    assert_eq!(lab.refresh(LOCAL, &refresh, "User.Read").await.status, 200);
}

#[tokio::test]
async fn claims_that_ask_for_a_second_factor_are_not_served_without_one() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    let client = app(LOCAL);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", client.as_str()),
        ("refresh_token", &refresh),
        ("scope", "User.Read"),
        ("claims", r#"{"access_token":{"amr":{"values":["mfa"]}}}"#),
    ];
    assert_eq!(lab.token(CONTOSO, &form).await.refusal(), (400, "invalid_grant", 50_076));
}
