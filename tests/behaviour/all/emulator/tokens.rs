//! The form of tokens.

use entra_mcp_emulator::GRAPH_APP_ID;
use serde_json::json;

use crate::support::lab::{
    Authorize, CONTOSO, GRAPH_SCOPE, LEGACY, LOCAL, Lab, REMOTE, START, TASKS, app, claims, header,
};

const ALICE: &str = "alice@contoso.example";

fn remote_scope() -> String {
    format!("openid profile offline_access api://{}/Mcp.Access", app(REMOTE))
}

#[tokio::test]
async fn a_v2_access_token_has_the_client_id_as_audience() {
    let mut lab = Lab::new().await;
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&remote_scope()), ALICE).await;
    let token = answer.claims("access_token");
    assert_eq!(token["ver"], "2.0");
    assert_eq!(token["iss"], format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority));
    assert_eq!(token["aud"], app(REMOTE));
    assert_eq!((&token["azp"], &token["azpacr"]), (&json!(app(LOCAL)), &json!("0")));
    assert_eq!(token["scp"], "Mcp.Access");
    assert_eq!(token["roles"], json!(["Mcp.Reader", "Mcp.Admin"]));
    assert_eq!(token["groups"].as_array().unwrap().len(), 3);
    assert_eq!(token["oid"], "11111111-0000-4000-a000-000000000001");
    assert!(token["idtyp"].is_null() && token["xms_cc"].is_null() && token["appid"].is_null());
    assert_eq!(header(answer.text("access_token"))["kid"], lab.control().signing_key_id());
}

#[tokio::test]
async fn a_v1_access_token_has_the_app_id_uri_as_audience() {
    let mut lab = Lab::new().await;
    for (written, audience) in [
        ("api://legacy.contoso.example".to_owned(), "api://legacy.contoso.example".to_owned()),
        ("https://legacy.contoso.example".to_owned(), "https://legacy.contoso.example/".to_owned()),
        (app(LEGACY), app(LEGACY)),
    ] {
        let scope = format!("openid {written}/user_impersonation");
        let token = lab.tokens(&Authorize::new(LOCAL).scope(&scope), ALICE).await.claims("access_token");
        assert_eq!(token["aud"], audience);
        assert_eq!(token["ver"], "1.0");
        assert_eq!(token["iss"], format!("https://sts.windows.net/{CONTOSO}/"));
        assert_eq!((&token["appid"], &token["appidacr"]), (&json!(app(LOCAL)), &json!("0")));
        assert_eq!(token["upn"], ALICE);
        assert!(token["azp"].is_null() && token["preferred_username"].is_null());
    }
}

#[tokio::test]
async fn graph_tokens_are_opaque() {
    let mut lab = Lab::new().await;
    let answer = lab.graph_tokens(ALICE).await;
    let token = answer.text("access_token");
    assert!(token.len() > 500);
    assert!(token.split('.').any(|part| part == "opaque-to-clients"));
}

#[tokio::test]
async fn subjects_are_pairwise_and_object_ids_are_not() {
    let mut lab = Lab::new().await;
    let local = lab.tokens(&Authorize::new(LOCAL).scope(&remote_scope()), ALICE).await;
    let remote = lab.tokens(&Authorize::new(REMOTE), ALICE).await;
    let (one, other) = (local.claims("id_token"), remote.claims("id_token"));
    assert_eq!(one["oid"], other["oid"]);
    assert_ne!(one["sub"], other["sub"]);
    assert_eq!(local.claims("access_token")["sub"], other["sub"], "a subject belongs to the audience");
}

#[tokio::test]
async fn more_than_two_hundred_groups_become_an_overage() {
    let mut lab = Lab::new().await;
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&remote_scope()), "olga@contoso.example").await;
    let token = answer.claims("access_token");
    assert!(token["groups"].is_null());
    assert_eq!(token["_claim_names"], json!({ "groups": "src1" }));
    let source = token["_claim_sources"]["src1"]["endpoint"].as_str().unwrap();
    assert!(source.starts_with("https://graph.windows.net/"), "{source}");
    let graph = lab.refresh(LOCAL, answer.text("refresh_token"), "User.Read").await;
    let url = format!("{}/v1.0/me/getMemberObjects", lab.endpoints().graph);
    let request =
        lab.client().post(url).bearer_auth(graph.text("access_token")).json(&json!({ "securityEnabledOnly": false }));
    assert_eq!(lab.send(request).await.body["value"].as_array().unwrap().len(), 250);
}

#[tokio::test]
async fn lives_are_drawn_between_sixty_and_ninety_minutes() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    let mut lives = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = lab.refresh(LOCAL, &refresh, &remote_scope()).await;
        let token = answer.claims("access_token");
        let life = token["exp"].as_i64().unwrap() - START;
        assert_eq!(answer.body["expires_in"].as_i64(), Some(life));
        lives.insert(life);
    }
    assert!(lives.len() > 10 && lives.first() >= Some(&3_600) && lives.last() <= Some(&5_400), "{lives:?}");
}

#[tokio::test]
async fn the_same_seed_and_clock_give_the_same_codes_and_tokens() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut lab = Lab::new().await;
        let answer = lab.graph_tokens(ALICE).await;
        runs.push((
            answer.text("access_token").to_owned(),
            answer.text("refresh_token").to_owned(),
            answer.body["expires_in"].clone(),
        ));
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_client_that_handles_challenges_gets_long_graph_tokens() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();
    let claims_parameter = json!({ "access_token": { "xms_cc": { "values": ["cp1"] } } }).to_string();
    let client = app(LOCAL);
    let ask = |scope: String| {
        let form = vec![
            ("grant_type".to_owned(), "refresh_token".to_owned()),
            ("client_id".to_owned(), client.clone()),
            ("refresh_token".to_owned(), refresh.clone()),
            ("scope".to_owned(), scope),
            ("claims".to_owned(), claims_parameter.clone()),
        ];
        let request =
            lab.client().post(format!("{}/{CONTOSO}/oauth2/v2.0/token", lab.endpoints().authority)).form(&form);
        lab.send(request)
    };
    assert_eq!(ask(GRAPH_SCOPE.to_owned()).await.body["expires_in"], 28 * 3_600);
    assert_eq!(ask(remote_scope()).await.claims("access_token")["xms_cc"], json!(["cp1"]));
}

#[tokio::test]
async fn an_application_token_has_roles_and_no_scopes() {
    let lab = Lab::new().await;
    let scope = format!("api://{}/.default", app(TASKS));
    let answer = lab.confidential(&[("grant_type", "client_credentials"), ("scope", &scope)]).await;
    let token = answer.claims("access_token");
    assert_eq!(token["idtyp"], "app");
    assert_eq!(token["roles"], json!(["Tasks.Process.All"]));
    assert_eq!((&token["azp"], &token["azpacr"]), (&json!(app(REMOTE)), &json!("1")));
    assert_eq!(token["sub"], token["oid"]);
    assert!(token["scp"].is_null() && token["preferred_username"].is_null());
    assert!(answer.body["refresh_token"].is_null() && answer.body["id_token"].is_null());
}

#[tokio::test]
async fn an_application_without_roles_gets_a_token_without_them() {
    let lab = Lab::new().await;
    let (client, scope) = (app(10), format!("api://{}/.default", app(TASKS)));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client.as_str()),
        ("client_secret", "daemon-secret-of-the-emulator"),
        ("scope", &scope),
    ];
    let token = lab.token(CONTOSO, &form).await.claims("access_token");
    assert!(token["roles"].is_null() && token["scp"].is_null());
}

#[tokio::test]
async fn the_optional_idtyp_claim_marks_user_tokens_too() {
    let mut lab = Lab::new().await;
    let scope = format!("openid api://{}/Tasks.Read", app(TASKS));
    let token = lab.tokens(&Authorize::new(LOCAL).scope(&scope), ALICE).await.claims("access_token");
    assert_eq!(token["idtyp"], "user");
}

#[tokio::test]
async fn the_optional_idtyp_claim_of_applications_can_be_left_out() {
    let lab = Lab::new().await;
    lab.control().change_application(&app(TASKS), |api| api.idtyp_for_applications = false).unwrap();
    let scope = format!("api://{}/.default", app(TASKS));
    let answer = lab.confidential(&[("grant_type", "client_credentials"), ("scope", &scope)]).await;
    let token = answer.claims("access_token");
    assert_eq!((&token["idtyp"], &token["sub"]), (&serde_json::Value::Null, &token["oid"]));
}

#[tokio::test]
async fn client_info_names_the_home_account_of_a_guest() {
    let mut lab = Lab::new().await;
    let code = lab.code(&Authorize::new(LOCAL), "grace@fabrikam.example").await;
    let client = app(LOCAL);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", &code),
        ("redirect_uri", crate::support::lab::REDIRECT),
        ("code_verifier", crate::support::lab::VERIFIER),
        ("client_info", "1"),
    ];
    let answer = lab.token(CONTOSO, &form).await;
    let info = claims(&format!(".{}", answer.text("client_info")));
    assert_eq!(info["uid"], "22222222-0000-4000-a000-000000000001");
    assert_eq!(info["utid"], crate::support::lab::FABRIKAM);
}

#[tokio::test]
async fn graph_is_known_by_its_application_id_too() {
    let mut lab = Lab::new().await;
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&format!("{GRAPH_APP_ID}/User.Read")), ALICE).await;
    assert_eq!(lab.graph("/me", answer.text("access_token")).await.status, 200);
}
