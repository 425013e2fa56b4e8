//! From nothing to an answer of the tool, each step on the other replica.

use entra_mcp_emulator::user_agent::Person;
use entra_mcp_emulator::{Endpoint, Requirement};
use serde_json::json;

use crate::support::lab::PASSWORD;
use crate::support::remote::{
    ALICE, Authorize, BOB, Fleet, PUBLIC_URL, REDIRECT, RESOURCE, Tab, declining, parameter, path_of,
};

#[tokio::test]
async fn a_client_that_was_unknown_before_gets_the_details_of_its_user() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let details = fleet.details(&tokens.access).await;
    let expected = json!({
        "displayName": "Alice Anderson",
        "mail": "alice@contoso.example",
        "userPrincipalName": "alice@contoso.example",
    });
    assert_eq!(details, expected);
    assert_eq!(fleet.control().request_count(Endpoint::Authorize), 1);
}

#[tokio::test]
async fn the_answer_to_the_client_has_its_state_and_our_issuer() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let back = Tab::default().walk(&fleet, &Authorize::new(&client), ALICE).await;
    assert!(back.as_str().starts_with(&format!("{REDIRECT}?")), "{back}");
    assert_eq!(parameter(&back, "state").as_deref(), Some("the client's state"));
    assert_eq!(parameter(&back, "iss").as_deref(), Some(PUBLIC_URL));
}

#[tokio::test]
async fn the_token_answer_says_what_was_given() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let code = fleet.code(&Authorize::new(&client), ALICE).await;
    let answer = fleet.redeem(&client, &code).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["scope"], "User.Read");
    assert!(answer.body["expires_in"].as_u64().is_some_and(|seconds| (1..=3600).contains(&seconds)));
    assert_eq!(answer.header("cache-control"), "no-store");
    let text = answer.body.to_string();
    assert!(!text.contains("eyJ"), "a token of Entra ID left the server");
}

#[tokio::test]
async fn entra_is_asked_with_our_own_pkce_state_and_nonce_and_without_the_resource() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let authorize = Authorize::new(&client);
    let entra = Tab::default().consent(&fleet, &authorize).await;
    let get = |name: &str| parameter(&entra, name);
    assert_eq!(get("redirect_uri"), Some(format!("{PUBLIC_URL}/auth/callback")));
    assert_eq!(get("resource"), None);
    assert_eq!(get("code_challenge_method").as_deref(), Some("S256"));
    assert_ne!(get("code_challenge").as_deref(), Some(crate::support::lab::CHALLENGE));
    assert_ne!(get("state").as_deref(), Some("the client's state"));
    assert!(get("nonce").is_some_and(|nonce| nonce.len() >= 32));
    let scopes = get("scope").expect("scopes are asked for");
    for scope in ["openid", "offline_access", "https://graph.microsoft.com/User.Read"] {
        assert!(scopes.split(' ').any(|other| other == scope), "{scopes}");
    }
}

#[tokio::test]
async fn two_users_at_once_see_their_own_details_only() {
    let fleet = Fleet::with(|settings| settings.profile_cache_seconds = 60).await;
    let _flying = fleet.let_time_fly();
    let (alice, bob) = tokio::join!(fleet.session(ALICE), fleet.session(BOB));
    for _ in 0..4 {
        let (one, other) = tokio::join!(fleet.details(&alice.access), fleet.details(&bob.access));
        assert_eq!(one["userPrincipalName"], ALICE);
        assert_eq!(other["userPrincipalName"], BOB);
    }
}

#[tokio::test]
async fn two_users_of_one_client_see_their_own_details_only() {
    let fleet = Fleet::with(|settings| settings.profile_cache_seconds = 60).await;
    let client = fleet.register(REDIRECT).await;
    let alice = fleet.session_of(&client, ALICE).await;
    let bob = fleet.session_of(&client, BOB).await;
    assert_eq!(fleet.details(&alice.access).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.details(&bob.access).await["userPrincipalName"], BOB);
}

#[tokio::test]
async fn a_person_who_denies_consent_never_gets_to_entra() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let mut tab = Tab::default();
    let page = tab.open(&fleet, &Authorize::new(&client).path()).await;
    let back = tab.decide(&fleet, &page, "deny").await.location();
    assert_eq!(parameter(&back, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&back, "state").as_deref(), Some("the client's state"));
    assert_eq!(parameter(&back, "iss").as_deref(), Some(PUBLIC_URL));
    assert_eq!(fleet.control().request_count(Endpoint::Authorize), 0);
}

#[tokio::test]
async fn the_consent_page_names_client_redirect_and_permission() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let page = Tab::default().open(&fleet, &Authorize::new(&client).set("login_hint", ALICE).path()).await;
    assert_eq!(page.status, 200);
    let html = page.html();
    for part in ["Test client", "client.example.com", "profile", "List my groups", "Find a user", ALICE] {
        assert!(html.contains(part), "{part} is not on the page: {html}");
    }
}

#[tokio::test]
async fn a_refusal_by_entra_reaches_the_client_as_an_oauth_error() {
    let fleet = Fleet::new().await;
    fleet.control().set_asks_consent(ALICE, true).expect("Alice exists");
    let client = fleet.register(REDIRECT).await;
    let mut tab = Tab::default();
    let entra = tab.consent(&fleet, &Authorize::new(&client)).await;
    let callback = tab.sign_in(&entra, &declining(ALICE)).await;
    let back = tab.open(&fleet, &path_of(&callback)).await.location();
    assert_eq!(parameter(&back, "error").as_deref(), Some("access_denied"), "{back}");
    assert!(parameter(&back, "error_description").is_some_and(|text| !text.is_empty()));
    assert_eq!(parameter(&back, "state").as_deref(), Some("the client's state"));
    assert_eq!(parameter(&back, "iss").as_deref(), Some(PUBLIC_URL));
    assert_eq!(parameter(&back, "code"), None);
}

#[tokio::test]
async fn a_user_who_is_stopped_by_conditional_access_is_told_so_by_the_client() {
    let fleet = Fleet::new().await;
    fleet.control().set_requirement(BOB, Requirement::UseCompliantDevice).expect("Bob exists");
    let client = fleet.register(REDIRECT).await;
    let mut tab = Tab::default();
    let entra = tab.consent(&fleet, &Authorize::new(&client)).await;
    let callback = tab.sign_in(&entra, &Person::new(BOB, PASSWORD).going_back()).await;
    let back = tab.open(&fleet, &path_of(&callback)).await.location();
    assert!(parameter(&back, "error").is_some(), "{back}");
    assert!(parameter(&back, "error_description").is_some_and(|text| text.contains("53003")), "{back}");
}

#[tokio::test]
async fn consent_is_remembered_for_the_same_browser_user_client_and_scopes() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let mut tab = Tab::default();
    tab.walk(&fleet, &Authorize::new(&client), ALICE).await;
    let again = tab.open(&fleet, &Authorize::new(&client).path()).await;
    assert_eq!(again.location().origin(), url::Url::parse(&fleet.emulator.endpoints().authority).unwrap().origin());
    let other_client = fleet.register(REDIRECT).await;
    let page = tab.open(&fleet, &Authorize::new(&other_client).path()).await;
    assert_eq!(page.status, 200, "another client was not consented to");
    let page = Tab::default().open(&fleet, &Authorize::new(&client).path()).await;
    assert_eq!(page.status, 200, "another browser has not consented");
}

#[tokio::test]
async fn a_client_is_identified_by_its_metadata_document() {
    let fleet = Fleet::new().await;
    let id = "https://client.example.com/oauth/metadata.json";
    fleet.documents.publish(
        id,
        json!({
            "client_id": id,
            "client_name": "Documented client",
            "redirect_uris": [REDIRECT],
            "token_endpoint_auth_method": "none",
        }),
    );
    let tokens = fleet.session_of(id, ALICE).await;
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
}

#[tokio::test]
async fn a_revoked_session_is_over_on_every_replica() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    fleet.details(&tokens.access).await;
    let answer = fleet.post_form("/revoke", &[("client_id", &tokens.client_id), ("token", &tokens.refresh)]).await;
    assert_eq!(answer.status, 200);
    for _ in 0..2 {
        let answer = fleet.call(&tokens.access).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn revoking_what_is_unknown_is_no_error_and_revokes_nothing_of_others() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let other = fleet.register(REDIRECT).await;
    for token in ["nonsense", &tokens.refresh, &tokens.access] {
        let answer = fleet.post_form("/revoke", &[("client_id", &other), ("token", token)]).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
}

#[tokio::test]
async fn every_step_is_audited_without_a_name_or_a_token() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    fleet.details(&tokens.access).await;
    let audited = fleet.audited();
    for name in ["client.registered", "consent.given", "session.created", "tool.called"] {
        assert!(audited.iter().any(|other| other == name), "{name} is not in {audited:?}");
    }
    let all = format!("{:?}", fleet.audit.events());
    for secret in [&tokens.access, &tokens.refresh, "alice", "Alice", "eyJ"] {
        assert!(!all.contains(secret), "{secret} is in the audit record");
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_resource_only() {
    let fleet = Fleet::new().await;
    let client = fleet.register(REDIRECT).await;
    let sse = format!("{PUBLIC_URL}/sse");
    let code = fleet.code(&Authorize::new(&client).set("resource", &sse), ALICE).await;
    let answer = fleet.redeem_with(&client, &code, &[("resource", &sse)]).await;
    let token = answer.body["access_token"].as_str().expect("a token").to_owned();
    let refused = fleet.call(&token).await;
    assert_eq!(refused.status, 401);
    let other = fleet.code(&Authorize::new(&client), ALICE).await;
    assert_eq!(fleet.redeem_with(&client, &other, &[("resource", &sse)]).await.refusal(), (400, "invalid_target"));
    let elsewhere = Tab::default()
        .open(&fleet, &Authorize::new(&client).set("resource", "https://other.example.com/mcp").path())
        .await
        .link();
    assert_eq!(parameter(&elsewhere, "error").as_deref(), Some("invalid_target"));
    assert_eq!(RESOURCE, format!("{PUBLIC_URL}/mcp"));
}

#[tokio::test]
async fn a_refused_session_token_is_audited_with_its_reason() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    fleet.call("a-token-never-issued").await;
    fleet.advance(3601);
    fleet.call(&tokens.access).await;
    let events = fleet.audit.events();
    let refused = events.iter().filter(|(_, event)| event.name == "token.refused");
    let reasons: Vec<_> = refused.map(|(_, event)| event.reason.as_deref().unwrap_or_default()).collect();
    assert_eq!(reasons, ["session-unknown", "session-expired"]);
}
