//! What happens as tokens grow old: those of the session, and those of Entra ID behind it.

use entra_mcp_emulator::{Endpoint, Fault};

use crate::support::remote::{ALICE, Fleet, REFRESH_GRACE, Tokens};

fn refreshes(fleet: &Fleet) -> usize {
    let requests = fleet.control().requests(Endpoint::Token);
    requests.iter().filter(|request| format!("{request:?}").contains("refresh_token")).count()
}

#[tokio::test]
async fn a_session_is_refreshed_without_scope_and_without_its_user() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let answer = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let renewed = Tokens::of(&tokens.client_id, &answer);
    assert_ne!(renewed.refresh, tokens.refresh);
    assert_ne!(renewed.access, tokens.access);
    assert_eq!(fleet.details(&renewed.access).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.control().request_count(Endpoint::Authorize), 1);
}

#[tokio::test]
async fn an_expired_access_token_is_refused_and_the_session_lives_on() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    fleet.advance(3601);
    let answer = fleet.call(&tokens.access).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    let answer = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
    let renewed = Tokens::of(&tokens.client_id, &answer);
    assert_eq!(fleet.details(&renewed.access).await["userPrincipalName"], ALICE);
}

#[tokio::test]
async fn a_session_outlives_many_hours_of_refreshes() {
    let fleet = Fleet::new().await;
    let mut tokens = fleet.session(ALICE).await;
    for _ in 0..30 {
        fleet.advance(3500);
        tokens = Tokens::of(&tokens.client_id, &fleet.refresh(&tokens.client_id, &tokens.refresh).await);
    }
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.control().request_count(Endpoint::Authorize), 1, "no user was asked again");
}

#[tokio::test]
async fn an_access_token_never_outlives_the_one_from_entra() {
    let fleet = Fleet::new().await;
    fleet.shorten_tokens(900);
    let client = fleet.register(crate::support::remote::REDIRECT).await;
    let code = fleet.code(&crate::support::remote::Authorize::new(&client), ALICE).await;
    let answer = fleet.redeem(&client, &code).await;
    assert!(answer.body["expires_in"].as_u64().is_some_and(|seconds| seconds <= 900), "{}", answer.body);
}

#[tokio::test]
async fn calls_at_once_on_all_replicas_refresh_the_entra_token_once() {
    let fleet = Fleet::new().await;
    fleet.shorten_tokens(900);
    let tokens = fleet.session(ALICE).await;
    fleet.advance(700);
    fleet.control().clear_requests();
    let _flying = fleet.let_time_fly();
    let calls = (0..8).map(|_| fleet.details(&tokens.access));
    for details in futures_util::future::join_all(calls).await {
        assert_eq!(details["userPrincipalName"], ALICE);
    }
    assert_eq!(refreshes(&fleet), 1);
}

#[tokio::test]
async fn a_dead_refresh_token_of_entra_leads_to_a_new_sign_in_and_not_to_an_error() {
    let fleet = Fleet::new().await;
    fleet.shorten_tokens(900);
    let tokens = fleet.session(ALICE).await;
    fleet.control().revoke_sessions(ALICE).expect("Alice exists");
    fleet.advance(700);
    let answer = fleet.call(&tokens.access).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    let challenge = answer.header("www-authenticate");
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains("resource_metadata="), "{challenge}");
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_refresh_while_entra_is_out_of_order_costs_nothing() {
    let fleet = Fleet::new().await;
    fleet.shorten_tokens(900);
    let tokens = fleet.session(ALICE).await;
    fleet.advance(1000);
    fleet.control().inject(Fault::on(Endpoint::Token).always().status(503).header("retry-after", "30"));
    let answer = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(!answer.header("retry-after").is_empty());
    fleet.control().clear_faults();
    fleet.advance(60);
    let answer = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
    assert_eq!(answer.status, 200, "the refresh token was used up: {}", answer.body);
}

#[tokio::test]
async fn a_claims_challenge_of_graph_is_answered_with_a_fresh_token() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    fleet.control().challenge_graph(1);
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_answered_again_by_the_other_replica() {
    let fleet = Fleet::new().await;
    let tokens = fleet.session(ALICE).await;
    let lost = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
    fleet.advance(u64::from(REFRESH_GRACE));
    let again = fleet.refresh(&tokens.client_id, &tokens.refresh).await;
    assert_eq!((again.status, &again.body), (200, &lost.body));
    let renewed = Tokens::of(&tokens.client_id, &again);
    assert_eq!(fleet.details(&renewed.access).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.refresh(&renewed.client_id, &renewed.refresh).await.status, 200, "the session goes on");
}

#[tokio::test]
async fn fifty_refreshes_at_once_on_two_replicas_have_one_successor() {
    let fleet = Fleet::new().await;
    fleet.shorten_tokens(900);
    let tokens = fleet.session(ALICE).await;
    fleet.advance(700);
    fleet.control().clear_requests();
    let _flying = fleet.let_time_fly();
    let calls = (0..50).map(|_| fleet.refresh(&tokens.client_id, &tokens.refresh));
    let answers = futures_util::future::join_all(calls).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    assert_eq!(refreshes(&fleet), 1, "Entra ID was asked once");
    let renewed = Tokens::of(&tokens.client_id, &answers[0]);
    assert_eq!(fleet.refresh(&renewed.client_id, &renewed.refresh).await.status, 200);
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.refusal(), (400, "invalid_grant"));
}
