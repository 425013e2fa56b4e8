//! A user whose sessions are revoked, or who is disabled, is refused: at once where Graph is asked, and after the time
//! that a profile is remembered (`--profile-cache-seconds`) at the latest.

use entra_mcp_emulator::{Endpoint, Requirement};
use entra_mcp_plugin::environment::TokenMode;

use super::bearer;
use crate::support::remote::{ALICE, BOB, Fleet};

/// As long as a profile is remembered by default, in seconds.
const PROFILE_CACHE: u64 = 60;

/// What an administrator does to end a user's access.
fn dismiss(fleet: &Fleet, username: &str, disabled: bool) {
    if disabled {
        fleet.control().set_requirement(username, Requirement::BeEnabled).expect("the user exists");
    }
    fleet.control().revoke_sessions(username).expect("the user exists");
}

#[tokio::test]
async fn a_revoked_users_session_is_over_with_the_next_question_to_graph() {
    for disabled in [false, true] {
        let fleet = Fleet::new().await;
        let (alice, bob) = (fleet.session(ALICE).await, fleet.session(BOB).await);
        assert_eq!(fleet.details(&alice.access).await["userPrincipalName"], ALICE);
        dismiss(&fleet, ALICE, disabled);
        // No second has passed: Graph's challenge is enough, though the Entra ID token would live for a day.
        for _ in 0..2 {
            let answer = fleet.call(&alice.access).await;
            assert_eq!(answer.status, 401, "{}", answer.body);
            assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
        }
        assert_eq!(fleet.refresh(&alice.client_id, &alice.refresh).await.refusal(), (400, "invalid_grant"));
        let reasons: Vec<_> = fleet.audit.events().into_iter().filter_map(|(_, event)| event.reason).collect();
        assert!(reasons.iter().any(|reason| reason == "aadsts-50173"), "{reasons:?}");
        assert_eq!(fleet.details(&bob.access).await["userPrincipalName"], BOB, "other users do not notice");
    }
}

#[tokio::test]
async fn a_remembered_profile_outlives_the_revocation_by_a_minute_and_not_by_a_second_more() {
    let remembering = |settings: &mut entra_mcp_plugin::environment::Settings| {
        settings.profile_cache_seconds = u32::try_from(PROFILE_CACHE).expect("a minute");
    };
    let fleet = Fleet::with(remembering).await;
    let session = fleet.session(ALICE).await;
    fleet.details(&session.access).await;
    dismiss(&fleet, ALICE, true);
    fleet.advance(PROFILE_CACHE - 1);
    fleet.control().clear_requests();
    assert_eq!(fleet.details(&session.access).await["userPrincipalName"], ALICE);
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 0, "the memory does not prolong itself");
    fleet.advance(1);
    assert_eq!(fleet.call(&session.access).await.status, 401);

    let fleet = bearer::fleet_with(TokenMode::Bearer, remembering).await;
    let token = bearer::token(&fleet, ALICE).await;
    fleet.details(&token).await;
    dismiss(&fleet, ALICE, true);
    fleet.advance(PROFILE_CACHE - 1);
    assert_eq!(fleet.details(&token).await["userPrincipalName"], ALICE);
    fleet.advance(1);
    assert_eq!(fleet.call(&token).await.status, 401);
}

#[tokio::test]
async fn a_revoked_users_own_token_is_refused_with_the_next_question_to_graph() {
    let fleet = bearer::fleet_with(TokenMode::Bearer, |_| {}).await;
    let (alice, bob) = (bearer::token(&fleet, ALICE).await, bearer::token(&fleet, BOB).await);
    for token in [&alice, &bob] {
        fleet.details(token).await;
    }
    dismiss(&fleet, ALICE, false);
    fleet.control().clear_requests();
    // Graph refuses the token that the server holds for it; the client learns which claims a new one needs.
    let answer = fleet.call(&alice).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.header("www-authenticate").starts_with("Bearer error=\"insufficient_claims\", "));
    // The old token is no way to another one.
    let answer = fleet.call(&alice).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\", "));
    assert_eq!(fleet.control().request_count(Endpoint::GraphMe), 1);
    assert_eq!(fleet.details(&bob).await["userPrincipalName"], BOB);
}
