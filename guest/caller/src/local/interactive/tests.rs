//! What a slow or odd Entra ID does to a sign-in by code, and calls that take a sign-in over.

use std::time::Duration;

use base::settings::LocalSettings;
use entra::testing::{EntraWorlds as _, FakeAuthority, TestKey, header, id_claims, sign, with};
use serde_json::{Value, json};
use world::testing;
use world::testing::{World, local_settings, run};

use super::*;
use crate::testing::PersonWorlds as _;

fn code(interval: u64) -> Value {
    json!({
        "device_code": "device-1",
        "user_code": "ABC-DEF",
        "verification_uri": "https://login.microsoft.com/device",
        "expires_in": 900,
        "interval": interval,
    })
}

fn tokens() -> Value {
    let id_token =
        sign(&header("RS256", "rsa"), &with(id_claims(""), json!({ "nonce": null })), &TestKey::named("rsa"));
    json!({
        "token_type": "Bearer",
        "access_token": "access-1",
        "refresh_token": "refresh-1",
        "id_token": id_token,
        "expires_in": 3600,
    })
}

fn pending() -> Value {
    json!({ "error": "authorization_pending", "error_description": "AADSTS70016: pending" })
}

fn sign_in(authority: &FakeAuthority) -> Result<Account, SignInError> {
    let settings = LocalSettings { method: SignInMethod::DeviceCode, ..local_settings() };
    let person = PersonWorld { entra: authority.env, settings: &settings, ..authority.world.person() };
    let request = SignInRequest { scopes: vec!["s".to_owned()], ..SignInRequest::default() };
    run(super::sign_in(&person, &request, &NoClient))
}

/// Answers the second poll after `delay`, while another call looks for its turn. Returns the account, and whether
/// the other call got the lead.
fn slow_poll(delay: Duration) -> (Result<Account, SignInError>, World, bool) {
    let authority = FakeAuthority::new();
    let world = authority.world.clone();
    let took_over = std::rc::Rc::new(Cell::new(false));
    world.once(|_| Ok(testing::json(200, &code(5))));
    world.once(|_| Ok(testing::json(400, &pending())));
    let (slow, taken) = (world.clone(), std::rc::Rc::clone(&took_over));
    world.once(move |_| {
        slow.advance(delay);
        let turn = run(attempt::take_turn(&slow.entra(), "another call")).unwrap();
        taken.set(!matches!(turn, SignInTurn::Join));
        Ok(testing::json(200, &tokens()))
    });
    let account = sign_in(&authority);
    (account, world, took_over.get())
}

#[test]
fn a_poll_that_entra_answers_slowly_is_no_sign_of_death() {
    let (account, _, took_over) = slow_poll(Duration::from_secs(30));
    assert!(account.is_ok() && !took_over);
}

#[test]
fn tokens_that_have_come_are_kept_even_if_another_call_has_taken_over() {
    let (account, world, took_over) = slow_poll(Duration::from_secs(120));
    assert!(took_over, "two minutes without a sign of life");
    assert_eq!(run(accounts::list(&world.entra())).unwrap(), [account.unwrap()]);
}

#[test]
fn the_wait_ends_in_time_whatever_the_interval() {
    let authority = FakeAuthority::new();
    authority.world.once(|_| Ok(testing::json(200, &code(u64::MAX))));
    authority.world.always(|_| Ok(testing::json(400, &pending())));
    assert!(matches!(sign_in(&authority), Err(SignInError::TimedOut(Some(_)))));
    let timeout = local_settings().timeout;
    assert!(authority.world.elapsed() <= timeout + Duration::from_secs(2), "{:?}", authority.world.elapsed());
}

#[test]
fn polls_are_a_second_apart_at_least() {
    let authority = FakeAuthority::new();
    authority.world.once(|_| Ok(testing::json(200, &code(0))));
    authority.world.always(|_| Ok(testing::json(400, &pending())));
    assert!(matches!(sign_in(&authority), Err(SignInError::TimedOut(Some(_)))));
    assert!(authority.world.sent().len() <= 303, "{}", authority.world.sent().len());
}

#[test]
fn a_call_that_has_lost_the_lead_waits_for_the_one_that_has_it() {
    let authority = FakeAuthority::new();
    let world = authority.world.clone();
    world.once(|_| Ok(testing::json(200, &code(5))));
    let asleep = world.clone();
    world.once(move |_| {
        asleep.advance(Duration::from_secs(120));
        assert!(matches!(run(attempt::take_turn(&asleep.entra(), "another call")), Ok(SignInTurn::Resume(_))));
        Ok(testing::json(400, &pending()))
    });
    // The other call dies, so this one takes its turn again and goes on with the same code.
    world.once(|_| Ok(testing::json(200, &tokens())));
    assert!(sign_in(&authority).is_ok());
    assert_eq!(authority.requests("/devicecode"), 1);
}

#[test]
fn a_sign_in_that_another_call_leads_by_now_is_not_shown() {
    let authority = FakeAuthority::new();
    let world = authority.world.clone();
    let asleep = world.clone();
    world.once(move |_| {
        asleep.advance(Duration::from_secs(120));
        assert!(matches!(run(attempt::take_turn(&asleep.entra(), "another call")), Ok(SignInTurn::Lead)));
        Ok(testing::json(200, &code(5)))
    });
    // The other call dies before it has asked for a code of its own.
    world.once(|_| Ok(testing::json(200, &code(5))));
    world.once(|_| Ok(testing::json(200, &tokens())));
    assert!(sign_in(&authority).is_ok());
    assert_eq!(world.prompts().len(), 1);
}

#[test]
fn a_leader_of_the_future_is_taken_for_gone() {
    let world = World::default();
    let env = world.entra();
    world.advance(Duration::from_secs(7200));
    assert!(matches!(run(attempt::take_turn(&env, "dead call")), Ok(SignInTurn::Lead)));
    world.set_back(Duration::from_secs(3600));
    assert!(matches!(run(attempt::take_turn(&env, "me")), Ok(SignInTurn::Lead)));
}
