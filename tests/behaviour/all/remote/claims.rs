//! Claims challenges of sessions, and continuous access evaluation: the claims that Entra ID or Graph demands reach the
//! next sign-in of that person with that client, and no other sign-in.

use entra_mcp_emulator::user_agent::Person;
use entra_mcp_emulator::{Endpoint, Requirement};
use serde_json::{Value, json};
use url::Url;

use crate::support::lab::PASSWORD;
use crate::support::remote::{ALICE, Authorize, BOB, Fleet, REDIRECT, Tab, Tokens, parameter, path_of};

/// How long claims wait for their person, in seconds.
const CLAIMS_LIFETIME: u64 = 600;

/// A person at their browser, with one client.
struct Desk {
    client: String,
    tab: Tab,
}

impl Desk {
    async fn new(fleet: &Fleet) -> Self {
        Self { client: fleet.register(REDIRECT).await, tab: Tab::default() }
    }

    /// Goes to Entra ID, signs in and comes back. Returns where the server then sends the browser.
    async fn first_way(&mut self, fleet: &Fleet, username: &str) -> Url {
        let entra = self.tab.consent(fleet, &Authorize::new(&self.client)).await;
        assert_eq!(carried(&entra), json!({ "access_token": { "xms_cc": { "values": ["cp1"] } } }));
        self.come_back(fleet, &entra, username).await
    }

    async fn come_back(&mut self, fleet: &Fleet, entra: &Url, username: &str) -> Url {
        let callback = self.tab.sign_in(entra, &Person::new(username, PASSWORD)).await;
        self.tab.open(fleet, &path_of(&callback)).await.location()
    }

    async fn redeem(&self, fleet: &Fleet, back: &Url) -> Tokens {
        let code = parameter(back, "code").unwrap_or_else(|| panic!("no code in {back}"));
        let answer = fleet.redeem(&self.client, &code).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        Tokens::of(&self.client, &answer)
    }

    /// A session of a user from whom no claims are demanded.
    async fn session(&mut self, fleet: &Fleet, username: &str) -> Tokens {
        let back = self.first_way(fleet, username).await;
        self.redeem(fleet, &back).await
    }

    /// Signs in, is sent to Entra ID once more with the claims, and comes back.
    async fn step_up(&mut self, fleet: &Fleet, username: &str) -> Url {
        let again = self.first_way(fleet, username).await;
        assert!(leads_to_entra(fleet, &again), "{again}");
        assert_eq!(carried(&again)["access_token"]["acrs"]["value"], "c1");
        self.come_back(fleet, &again, username).await
    }
}

/// The claims that a browser takes to Entra ID.
fn carried(entra: &Url) -> Value {
    let claims = parameter(entra, "claims").unwrap_or_else(|| panic!("no claims in {entra}"));
    serde_json::from_str(&claims).expect("claims are JSON")
}

fn leads_to_entra(fleet: &Fleet, url: &Url) -> bool {
    url.as_str().starts_with(&fleet.emulator.endpoints().authority)
}

/// A fleet, and a session of Alice's that Graph's policy has ended.
async fn challenged() -> (Fleet, Desk) {
    let fleet = Fleet::new().await;
    let mut desk = Desk::new(&fleet).await;
    let tokens = desk.session(&fleet, ALICE).await;
    fleet.control().set_requirement(ALICE, Requirement::AuthenticationContext).expect("Alice exists");
    end_by_challenge(&fleet, &tokens).await;
    (fleet, desk)
}

async fn end_by_challenge(fleet: &Fleet, tokens: &Tokens) {
    let answer = fleet.call(&tokens.access).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer error=\"invalid_token\", "), "{challenge}");
    assert!(!challenge.contains("claims="), "the client of a session cannot use claims for Entra ID: {challenge}");
    assert_eq!(fleet.refresh(&tokens.client_id, &tokens.refresh).await.refusal(), (400, "invalid_grant"));
}

#[tokio::test]
async fn a_claims_challenge_is_answered_by_one_sign_in() {
    let (fleet, mut desk) = challenged().await;
    let back = desk.step_up(&fleet, ALICE).await;
    let tokens = desk.redeem(&fleet, &back).await;
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
    // Asked for once: the next sign-in is an ordinary one.
    let back = desk.first_way(&fleet, ALICE).await;
    assert!(back.as_str().starts_with(REDIRECT), "{back}");
    let reasons: Vec<_> = fleet.audit.events().into_iter().filter_map(|(_, event)| event.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "claims-challenge").count(), 1, "{reasons:?}");
}

#[tokio::test]
async fn a_challenge_that_a_refresh_can_answer_needs_no_sign_in() {
    let fleet = Fleet::new().await;
    let mut desk = Desk::new(&fleet).await;
    // A second factor was shown already, but not for this context.
    fleet.control().set_requirement(ALICE, Requirement::UseMfa).expect("Alice exists");
    let tokens = desk.session(&fleet, ALICE).await;
    fleet.control().set_requirement(ALICE, Requirement::AuthenticationContext).expect("Alice exists");
    fleet.control().clear_requests();
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
    let refreshes = fleet.control().requests(Endpoint::Token);
    assert_eq!(refreshes.len(), 1);
    let claims: Value = serde_json::from_str(refreshes[0].form("claims").expect("claims")).expect("JSON");
    assert_eq!(claims["access_token"]["acrs"]["value"], "c1");
    assert_eq!(claims["access_token"]["xms_cc"]["values"], json!(["cp1"]), "one object with both");
    assert_eq!(fleet.control().request_count(Endpoint::Authorize), 0);
}

#[tokio::test]
async fn the_claims_of_one_user_are_never_anothers() {
    let (fleet, mut desk) = challenged().await;
    // Another person at the same browser, with the same client.
    desk.tab = Tab::default();
    let bob = desk.session(&fleet, BOB).await;
    assert_eq!(fleet.details(&bob.access).await["userPrincipalName"], BOB);
    // The same person with another client.
    let mut other = Desk::new(&fleet).await;
    let back = other.first_way(&fleet, ALICE).await;
    assert!(back.as_str().starts_with(REDIRECT), "{back}");
    // The claims still wait for the person from whom they are demanded.
    desk.tab = Tab::default();
    let back = desk.step_up(&fleet, ALICE).await;
    desk.redeem(&fleet, &back).await;
}

#[tokio::test]
async fn a_person_who_comes_back_in_anothers_place_gets_nothing() {
    let (fleet, mut desk) = challenged().await;
    let again = desk.first_way(&fleet, ALICE).await;
    assert_eq!(parameter(&again, "login_hint").as_deref(), Some(ALICE));
    // Bob is signed in in the same browser, and Entra ID is talked into using his account.
    let mut for_bob = again.clone();
    let kept: Vec<_> = again.query_pairs().filter(|(name, _)| name != "login_hint").collect();
    for_bob.query_pairs_mut().clear().extend_pairs(kept).append_pair("login_hint", BOB);
    let back = desk.come_back(&fleet, &for_bob, BOB).await;
    assert_eq!(parameter(&back, "error").as_deref(), Some("access_denied"), "{back}");
    assert_eq!(parameter(&back, "code"), None);
    let reason = fleet.audit.events().into_iter().filter_map(|(_, event)| event.reason).next_back();
    assert_eq!(reason.as_deref(), Some("other-account"));
}

#[tokio::test]
async fn claims_are_forgotten_after_ten_minutes() {
    let (fleet, mut desk) = challenged().await;
    fleet.advance(CLAIMS_LIFETIME - 5);
    let again = desk.first_way(&fleet, ALICE).await;
    assert!(leads_to_entra(&fleet, &again), "{again}");
    fleet.advance(5);
    let back = desk.first_way(&fleet, ALICE).await;
    assert!(back.as_str().starts_with(REDIRECT), "{back}");
}

#[tokio::test]
async fn a_person_is_sent_back_once_in_a_sign_in_and_newer_claims_wait_for_the_next() {
    let fleet = Fleet::new().await;
    let mut desk = Desk::new(&fleet).await;
    let (first, second) = (desk.session(&fleet, ALICE).await, desk.session(&fleet, ALICE).await);
    fleet.control().set_requirement(ALICE, Requirement::AuthenticationContext).expect("Alice exists");
    end_by_challenge(&fleet, &first).await;
    let again = desk.first_way(&fleet, ALICE).await;
    assert!(leads_to_entra(&fleet, &again), "{again}");
    // Meanwhile Graph wants something else of the other session.
    fleet.control().challenge_graph(2);
    end_by_challenge(&fleet, &second).await;
    let callback = desk.tab.sign_in(&again, &Person::new(ALICE, PASSWORD)).await;
    let back = desk.tab.open(&fleet, &path_of(&callback)).await.location();
    assert!(back.as_str().starts_with(REDIRECT), "{back}");
    assert_eq!(desk.tab.open(&fleet, &path_of(&callback)).await.status, 400, "the way back is good once");
    let again = desk.first_way(&fleet, ALICE).await;
    assert!(carried(&again)["access_token"]["nbf"].is_object(), "{again}");
}

#[tokio::test]
async fn a_code_that_entra_redeems_with_claims_only_is_asked_for_again_with_them() {
    let fleet = Fleet::new().await;
    let mut desk = Desk::new(&fleet).await;
    let entra = desk.tab.consent(&fleet, &Authorize::new(&desk.client)).await;
    let callback = desk.tab.sign_in(&entra, &Person::new(ALICE, PASSWORD)).await;
    // Between the page and the code, an administrator has asked for a second factor.
    fleet.control().set_requirement(ALICE, Requirement::UseMfa).expect("Alice exists");
    let again = desk.tab.open(&fleet, &path_of(&callback)).await.location();
    assert!(leads_to_entra(&fleet, &again), "{again}");
    assert!(carried(&again)["access_token"]["capolids"].is_object(), "{again}");
    let back = desk.come_back(&fleet, &again, ALICE).await;
    let tokens = desk.redeem(&fleet, &back).await;
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
}

#[tokio::test]
async fn claims_that_a_browser_or_a_client_brings_are_not_passed_on() {
    let fleet = Fleet::new().await;
    let mut desk = Desk::new(&fleet).await;
    let authorize = Authorize::new(&desk.client).set("claims", r#"{"access_token":{"acrs":{"value":"c1"}}}"#);
    let entra = desk.tab.consent(&fleet, &authorize).await;
    assert_eq!(carried(&entra), json!({ "access_token": { "xms_cc": { "values": ["cp1"] } } }));
    let state = parameter(&entra, "state").expect("there is a state");
    let error = [("error", "interaction_required"), ("state", state.as_str()), ("claims", r#"{"access_token":{}}"#)];
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(error).finish();
    let back = desk.tab.open(&fleet, &format!("/auth/callback?{query}")).await.location();
    assert_eq!(parameter(&back, "error").as_deref(), Some("interaction_required"), "{back}");
}

#[tokio::test]
async fn every_request_to_entra_says_that_claims_challenges_are_understood() {
    let fleet = Fleet::new().await;
    fleet.shorten_tokens(900);
    let tokens = Desk::new(&fleet).await.session(&fleet, ALICE).await;
    fleet.advance(700);
    fleet.details(&tokens.access).await;
    let requests = fleet.control().requests(Endpoint::Token);
    let kinds: Vec<_> = requests.iter().filter_map(|request| request.form("grant_type")).collect();
    assert_eq!(kinds, ["authorization_code", "refresh_token"]);
    for request in requests {
        let claims: Value = serde_json::from_str(request.form("claims").expect("claims")).expect("JSON");
        assert_eq!(claims["access_token"]["xms_cc"]["values"], json!(["cp1"]));
    }
}

#[tokio::test]
async fn a_graph_that_no_token_satisfies_ends_the_session_and_not_in_a_dead_end() {
    let fleet = Fleet::new().await;
    let mut desk = Desk::new(&fleet).await;
    let tokens = desk.session(&fleet, ALICE).await;
    fleet.control().challenge_graph(2);
    assert_eq!(fleet.call(&tokens.access).await.status, 401);
    let again = desk.first_way(&fleet, ALICE).await;
    assert!(leads_to_entra(&fleet, &again), "{again}");
    assert!(carried(&again)["access_token"]["nbf"].is_object(), "{again}");
    let back = desk.come_back(&fleet, &again, ALICE).await;
    let tokens = desk.redeem(&fleet, &back).await;
    assert_eq!(fleet.details(&tokens.access).await["userPrincipalName"], ALICE);
}
