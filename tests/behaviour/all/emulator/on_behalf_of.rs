//! On-behalf-of: a middle tier speaks for its user.

use entra_mcp_emulator::Requirement;
use entra_mcp_emulator::user_agent::Person;
use serde_json::json;

use crate::support::lab::{Answer, Authorize, CONTOSO, LOCAL, Lab, PASSWORD, REMOTE, TASKS, app};

const ALICE: &str = "alice@contoso.example";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const GRAPH: &str = "https://graph.microsoft.com/User.Read";

/// A user's token for the middle tier.
async fn user_token(lab: &mut Lab, username: &str) -> String {
    let scope = format!("openid offline_access api://{}/Mcp.Access", app(REMOTE));
    lab.tokens(&Authorize::new(LOCAL).scope(&scope), username).await.text("access_token").to_owned()
}

async fn exchange(lab: &Lab, assertion: &str, scope: &str) -> Answer {
    let form =
        [("grant_type", GRANT), ("requested_token_use", "on_behalf_of"), ("assertion", assertion), ("scope", scope)];
    lab.confidential(&form).await
}

fn vault() -> String {
    format!("api://{}/Vault.Open", app(6))
}

#[tokio::test]
async fn the_middle_tier_reads_its_users_profile() {
    let mut lab = Lab::new().await;
    let token = user_token(&mut lab, ALICE).await;
    let answer = exchange(&lab, &token, GRAPH).await;
    assert_eq!(lab.graph("/me", answer.text("access_token")).await.body["displayName"], "Alice Anderson");
    assert!(answer.body["refresh_token"].is_null());
    let answer = exchange(&lab, &token, &format!("openid offline_access api://{}/Tasks.Read", app(TASKS))).await;
    let claims = answer.claims("access_token");
    assert_eq!((&claims["azp"], &claims["azpacr"]), (&json!(app(REMOTE)), &json!("1")));
    assert_eq!(claims["oid"], "11111111-0000-4000-a000-000000000001");
    assert!(answer.body["refresh_token"].is_string());
}

#[tokio::test]
async fn an_assertion_is_refused_unless_everything_fits() {
    let mut lab = Lab::new().await;
    let token = user_token(&mut lab, ALICE).await;
    let for_tasks = lab.tokens(&Authorize::new(LOCAL).scope(&format!("api://{}/Tasks.Read", app(TASKS))), ALICE).await;
    let own_scope = format!("api://{}/.default", app(REMOTE));
    let app_only = lab.confidential(&[("grant_type", "client_credentials"), ("scope", &own_scope)]).await;
    let forged = lab.control().sign(&json!({ "aud": app(REMOTE), "scp": "Mcp.Access" }), true).unwrap();
    let cases = [
        ("no JWT", "x", (400, "invalid_grant", 50_013)),
        ("forged", &forged, (400, "invalid_grant", 50_013)),
        ("for another API", for_tasks.text("access_token"), (400, "invalid_grant", 500_131)),
        ("application only", app_only.text("access_token"), (400, "invalid_request", 7_000_114)),
    ];
    for (case, assertion, expected) in cases {
        assert_eq!(exchange(&lab, assertion, GRAPH).await.refusal(), expected, "{case}");
    }
    assert_eq!(exchange(&lab, &token, "").await.refusal(), (400, "invalid_request", 900_144));
    let no_use = [("grant_type", GRANT), ("assertion", token.as_str()), ("scope", GRAPH)];
    assert_eq!(lab.confidential(&no_use).await.refusal(), (400, "invalid_request", 900_144));
    let client = app(REMOTE);
    let public = [("grant_type", GRANT), ("client_id", client.as_str()), ("assertion", &token), ("scope", GRAPH)];
    assert_eq!(lab.token(CONTOSO, &public).await.refusal(), (401, "invalid_client", 7_000_218));
    lab.advance(90 * 60);
    assert_eq!(exchange(&lab, &token, GRAPH).await.refusal(), (400, "invalid_grant", 500_133));
}

#[tokio::test]
async fn a_protected_api_demands_a_second_factor_through_the_middle_tier() {
    let mut lab = Lab::new().await;
    let token = user_token(&mut lab, "stella@contoso.example").await;
    let answer = exchange(&lab, &token, &vault()).await;
    assert_eq!((answer.refusal(), answer.text("suberror")), ((400, "interaction_required", 50_076), "basic_action"));
    let claims = answer.text("claims").to_owned();

    let scope = format!("openid api://{}/Mcp.Access", app(REMOTE));
    let request = Authorize::new(LOCAL).scope(&scope).with("claims", &claims);
    let landing = lab.authorize_as(&request, &Person::new("stella@contoso.example", PASSWORD)).await.unwrap();
    assert_eq!(landing.pages, ["Verify your identity"], "the session is good, the second factor is missing");
    let token = lab.tokens(&request, "stella@contoso.example").await;
    assert_eq!(exchange(&lab, token.text("access_token"), &vault()).await.status, 200);
}

#[tokio::test]
async fn other_policies_of_the_user_are_interaction_required_too() {
    let mut lab = Lab::new().await;
    let token = user_token(&mut lab, ALICE).await;
    for (requirement, code) in
        [(Requirement::UseMfa, 50_076), (Requirement::EnrolMfa, 50_079), (Requirement::UseCompliantDevice, 53_003)]
    {
        lab.control().set_requirement(ALICE, requirement).unwrap();
        let answer = exchange(&lab, &token, GRAPH).await;
        assert_eq!(answer.refusal(), (400, "interaction_required", code));
        assert!(answer.text("claims").contains("capolids"));
    }
}

#[tokio::test]
async fn consent_of_the_middle_tier_is_needed() {
    let mut lab = Lab::new().await;
    let scope = format!("openid api://{}/Gateway.Use", app(14));
    let token = lab.tokens(&Authorize::new(LOCAL).scope(&scope), ALICE).await;
    let gateway = app(14);
    let form = [
        ("grant_type", GRANT),
        ("client_id", gateway.as_str()),
        ("client_secret", "gateway-secret-of-the-emulator"),
        ("requested_token_use", "on_behalf_of"),
        ("assertion", token.text("access_token")),
        ("scope", GRAPH),
    ];
    let answer = lab.token(CONTOSO, &form).await;
    assert_eq!((answer.refusal(), answer.text("suberror")), ((400, "invalid_grant", 65_001), "consent_required"));
}

#[tokio::test]
async fn revoked_sessions_end_it() {
    let mut lab = Lab::new().await;
    let token = user_token(&mut lab, ALICE).await;
    lab.control().revoke_sessions(ALICE).unwrap();
    assert_eq!(exchange(&lab, &token, GRAPH).await.refusal(), (400, "invalid_grant", 50_173));
}
