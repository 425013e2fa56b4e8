//! What the identity broker of a machine may say, and what is believed of it.

use std::time::Duration;

use base::encoding::base64url;
use base::settings::{BrokerUse, LocalSettings, SignInMethod};
use entra::testing::{AUTHORITY, FakeAuthority, OBJECT, TestKey, header, id_claims, sign, with};
use serde_json::{Value, json};
use world::testing::{CLIENT, GivenTokens, START, TENANT, World, forever, local_settings, run};
use world::{BrokerAccount, BrokerError};

use super::*;
use crate::local::interactive::{NoClient, SignInRequest, sign_in};
use crate::local::{accounts, background, silent};
use crate::testing::PersonWorlds as _;

const SCOPE: &str = "https://graph.microsoft.com/User.Read";
const OTHER: &str = "99999999-0000-4000-a000-000000000009";

/// A machine with a broker.
struct Machine {
    authority: FakeAuthority,
    person: PersonWorld<'static>,
}

impl Machine {
    fn new(broker: BrokerUse) -> Self {
        let authority = FakeAuthority::new();
        let settings = forever(LocalSettings { broker, method: SignInMethod::Browser, ..local_settings() });
        let person = PersonWorld { entra: authority.env, settings, ..authority.world.person() };
        let machine = Self { authority, person };
        machine.world().broker_lists(Ok(vec![account(OBJECT)]));
        machine
    }

    fn world(&self) -> &World {
        &self.authority.world
    }

    fn sign_in(&self) -> Result<Account, SignInError> {
        let request = SignInRequest { scopes: vec![SCOPE.to_owned()], ..SignInRequest::default() };
        run(sign_in(&self.person, &request, &NoClient))
    }

    fn token(&self) -> Result<String, SignInError> {
        let account = run(accounts::choose(&self.person, None))?;
        let token = run(silent::for_call(&self.person, &account, &[SCOPE.to_owned()], None))?;
        Ok(token.token.reveal().clone())
    }

    fn asked(&self) -> Vec<&'static str> {
        self.world().asked_of_broker().into_iter().map(|(what, _)| what).collect()
    }

    fn is_nobody_signed_in(&self) -> bool {
        run(accounts::list(&self.person.entra.records)).unwrap().is_empty()
    }

    fn reasons(&self) -> Vec<String> {
        self.world().audited().into_iter().filter_map(|event| event.reason).collect()
    }
}

fn account(object: &str) -> BrokerAccount {
    BrokerAccount { home_account_id: format!("{object}.{TENANT}"), username: "user@contoso.example".to_owned() }
}

fn access_token(changes: Value) -> String {
    let claims = json!({
        "aud": "https://graph.microsoft.com", "appid": CLIENT, "tid": TENANT, "oid": OBJECT, "exp": START + 3_600,
    });
    format!("e30.{}.c2ln", base64url(with(claims, changes).to_string().as_bytes()))
}

fn id_token(changes: Value) -> String {
    let claims = with(id_claims(""), json!({ "nonce": null }));
    sign(&header("RS256", "rsa"), &with(claims, changes), &TestKey::named("rsa"))
}

fn given(id: Value, access: Value) -> GivenTokens {
    GivenTokens { access_token: access_token(access), expires_at: START + 3_600, id_token: id_token(id) }
}

fn good() -> GivenTokens {
    given(json!({}), json!({}))
}

#[test]
fn the_only_account_of_the_broker_signs_in_without_a_question_and_gets_other_tokens_there() {
    let machine = Machine::new(BrokerUse::Require);
    machine.world().broker_gives(Ok(good()));
    let signed_in = machine.sign_in().unwrap();
    assert_eq!(signed_in.home_account_id, format!("{OBJECT}.{TENANT}"));
    let (_, request) = machine.world().asked_of_broker().pop().unwrap();
    let request = request.unwrap();
    assert_eq!((request.client_id.as_str(), request.authority), (CLIENT, format!("{AUTHORITY}/{TENANT}")));
    assert_eq!(request.scopes, [SCOPE], "the broker adds those of OpenID Connect");
    assert_eq!(request.account, Some(format!("{OBJECT}.{TENANT}")));
    assert!(request.claims.unwrap().contains("cp1"), "claims challenges are declared to be understood");

    assert_eq!(machine.token().unwrap(), good().access_token, "from the cache");
    assert_eq!(machine.asked(), ["accounts", "silently"]);
    machine.world().advance(Duration::from_secs(3_590));
    let mut next = given(json!({ "exp": START + 9_000 }), json!({ "exp": START + 7_200 }));
    next.expires_at = START + 7_200;
    machine.world().broker_gives(Ok(next.clone()));
    assert_eq!(machine.token().unwrap(), next.access_token);
    assert!(machine.world().sent().iter().all(|request| !request.contains("/token")), "Entra ID is not asked");
}

#[test]
fn what_the_broker_has_given_is_used_even_if_the_store_does_not_keep_it() {
    let renewal = |failing: Option<usize>| {
        let machine = Machine::new(BrokerUse::Require);
        machine.world().broker_gives(Ok(good()));
        machine.sign_in().unwrap();
        machine.world().advance(Duration::from_secs(3_590));
        let mut next = given(json!({ "exp": START + 9_000 }), json!({ "exp": START + 7_200 }));
        next.expires_at = START + 7_200;
        machine.world().broker_gives(Ok(next.clone()));
        let before = machine.world().store_operations();
        if let Some(after) = failing {
            machine.world().fail_store(after);
        }
        assert_eq!(machine.token().unwrap(), next.access_token, "{failing:?}");
        assert_eq!(machine.world().heal_store(), failing.is_some());
        machine.world().store_operations() - before
    };
    let operations = renewal(None);
    // The last three read the tokens, write them, and give the lease back.
    for back in 1..=3 {
        renewal(Some(operations - back));
    }
}

#[test]
fn what_the_broker_has_given_ahead_of_calls_is_asked_for_again_soon_if_the_store_does_not_keep_it() {
    let renewal = |failing: Option<usize>| {
        let machine = Machine::new(BrokerUse::Require);
        machine.world().broker_gives(Ok(good()));
        machine.sign_in().unwrap();
        machine.world().advance(Duration::from_secs(3_590));
        let mut next = given(json!({ "exp": START + 9_000 }), json!({ "exp": START + 7_200 }));
        next.expires_at = START + 7_200;
        machine.world().broker_gives(Ok(next));
        let before = machine.world().store_operations();
        if let Some(after) = failing {
            machine.world().fail_store(after);
        }
        let pause = run(background::renew(&machine.person)).unwrap();
        assert_eq!(machine.world().heal_store(), failing.is_some());
        (machine.world().store_operations() - before, pause.as_secs())
    };
    let (operations, pause) = renewal(None);
    assert_eq!(pause, 300);
    // The last three read the tokens, write them, and give the lease back.
    assert_eq!([3, 2, 1].map(|back| renewal(Some(operations - back)).1), [60, 60, 300]);
}

#[test]
fn where_an_account_is_to_be_chosen_the_broker_asks_the_person() {
    let machine = Machine::new(BrokerUse::Require);
    machine.world().broker_lists(Ok(vec![account(OBJECT), account(OTHER)]));
    machine.world().person_at_broker(None);
    machine.world().person_at_broker(Some(Ok(good())));
    assert!(machine.sign_in().is_ok());
    assert_eq!(machine.asked(), ["accounts", "person"]);
    assert_eq!(machine.world().asked_of_broker().pop().unwrap().1.unwrap().account, None);
}

#[test]
fn a_person_that_is_needed_is_asked_and_may_decline_or_take_too_long() {
    let machine = Machine::new(BrokerUse::Automatic);
    machine.world().broker_gives(Err(BrokerError::InteractionRequired));
    machine.world().person_at_broker(Some(Err(BrokerError::Declined)));
    assert!(matches!(machine.sign_in(), Err(SignInError::Declined)), "no browser is opened after that");
    let machine = Machine::new(BrokerUse::Require);
    machine.world().broker_gives(Err(BrokerError::InteractionRequired));
    assert!(matches!(machine.sign_in(), Err(SignInError::TimedOut(None))));
    assert!(machine.is_nobody_signed_in());
}

/// (what the broker answers, why it is not believed)
fn forged() -> Vec<(GivenTokens, &'static str)> {
    let elsewhere = json!({ "tid": OTHER, "iss": format!("{AUTHORITY}/{OTHER}/v2.0") });
    let mut unsigned = good();
    unsigned.id_token = base64url(id_claims("").to_string().as_bytes());
    vec![
        (given(json!({ "oid": OTHER }), json!({ "oid": OTHER })), "untrusted-response"),
        (given(elsewhere, json!({ "tid": OTHER })), "id-token-tenant-not-allowed"),
        (given(json!({ "aud": OTHER }), json!({})), "id-token-audience-mismatch"),
        (given(json!({ "exp": START - 301 }), json!({})), "id-token-expired"),
        (given(json!({ "nonce": "n" }), json!({})), "id-token-nonce-mismatch"),
        (given(json!({}), json!({ "aud": "https://management.azure.com/" })), "untrusted-response"),
        (given(json!({}), json!({ "oid": OTHER })), "untrusted-response"),
        (given(json!({}), json!({ "tid": OTHER })), "untrusted-response"),
        (given(json!({}), json!({ "appid": OTHER })), "untrusted-response"),
        (unsigned, "id-token-not-compact"),
    ]
}

#[test]
fn an_answer_for_another_account_tenant_application_or_resource_is_not_used() {
    for (answer, reason) in forged() {
        let machine = Machine::new(BrokerUse::Require);
        machine.world().broker_gives(Ok(answer));
        let Err(SignInError::Untrusted(error)) = machine.sign_in() else { panic!("{reason}") };
        assert!(machine.is_nobody_signed_in(), "{error}");
        assert_eq!(machine.reasons(), [reason], "{error}");
        assert_eq!(machine.asked(), ["accounts", "silently"], "{error}: it is not asked again");
    }
}

#[test]
fn a_later_answer_that_is_forged_replaces_no_token() {
    for (mut answer, reason) in forged().into_iter().filter(|(_, reason)| *reason != "id-token-expired") {
        let machine = Machine::new(BrokerUse::Require);
        machine.world().broker_gives(Ok(good()));
        machine.sign_in().unwrap();
        machine.world().advance(Duration::from_secs(3_550));
        answer.expires_at = START + 9_000;
        machine.world().broker_gives(Ok(answer));
        assert_eq!(machine.token().unwrap(), good().access_token, "{reason}: the one at hand is still good");
        assert_eq!(machine.reasons(), [reason]);
    }
}

#[test]
fn without_a_broker_the_browser_has_its_turn_unless_the_broker_is_required() {
    let absent = || Err(BrokerError::Absent("none runs".to_owned()));
    let machine = Machine::new(BrokerUse::Automatic);
    machine.world().broker_lists(absent());
    assert!(matches!(machine.sign_in(), Err(SignInError::NoBrowser(_))));
    assert_eq!(machine.reasons(), ["no-browser"]);
    let machine = Machine::new(BrokerUse::Require);
    machine.world().broker_lists(absent());
    let Err(SignInError::Broker(BrokerError::Absent(_))) = machine.sign_in() else { panic!() };
    assert_eq!(machine.reasons(), ["broker"]);
}

#[test]
fn a_broker_that_fails_or_lies_leaves_the_browser_unless_it_is_required() {
    let failures = [
        (Err(BrokerError::Unavailable("no answer in 10 s".to_owned())), "broker"),
        (Err(BrokerError::Refused("status 6".to_owned())), "broker"),
        (Ok(given(json!({ "oid": OTHER }), json!({}))), "untrusted-response"),
    ];
    for (answer, reason) in failures {
        let machine = Machine::new(BrokerUse::Automatic);
        machine.world().broker_gives(answer.clone());
        assert!(matches!(machine.sign_in(), Err(SignInError::NoBrowser(_))), "{reason}");
        assert_eq!(machine.reasons(), [reason, "no-browser"], "both are recorded");
        let machine = Machine::new(BrokerUse::Require);
        machine.world().broker_gives(answer);
        assert!(matches!(machine.sign_in(), Err(SignInError::Broker(_) | SignInError::Untrusted(_))), "{reason}");
    }
}

#[test]
fn a_broker_that_is_off_is_not_asked_and_one_that_was_left_out_is_asked_no_more() {
    let machine = Machine::new(BrokerUse::Off);
    assert!(matches!(machine.sign_in(), Err(SignInError::NoBrowser(_))));
    assert!(machine.asked().is_empty());

    let mut machine = Machine::new(BrokerUse::Automatic);
    machine.world().broker_gives(Ok(good()));
    machine.sign_in().unwrap();
    machine.person.settings = forever(local_settings());
    machine.world().advance(Duration::from_secs(3_600));
    assert!(matches!(machine.token(), Err(SignInError::InteractionRequired { .. })));
    assert_eq!(machine.asked(), ["accounts", "silently"]);
}

#[test]
fn a_session_of_the_broker_that_has_ended_needs_the_person_again() {
    let machine = Machine::new(BrokerUse::Automatic);
    machine.world().broker_gives(Ok(good()));
    machine.sign_in().unwrap();
    machine.world().advance(Duration::from_secs(3_600));
    assert!(matches!(machine.token(), Err(SignInError::InteractionRequired { .. })));
    assert!(matches!(machine.token(), Err(SignInError::InteractionRequired { .. })));
    assert_eq!(machine.asked(), ["accounts", "silently", "silently"], "it is asked once");
}

#[test]
fn an_account_of_another_tenant_is_shown_to_the_person() {
    let machine = Machine::new(BrokerUse::Require);
    let guest = BrokerAccount { home_account_id: format!("{OTHER}.{OTHER}"), ..account(OTHER) };
    machine.world().broker_lists(Ok(vec![guest]));
    machine.world().person_at_broker(Some(Ok(good())));
    assert_eq!(machine.sign_in().unwrap().home_account_id, format!("{OBJECT}.{TENANT}"));
    assert_eq!(machine.asked(), ["accounts", "person"]);
}

#[test]
fn a_life_beyond_every_token_of_entra_is_not_believed() {
    let machine = Machine::new(BrokerUse::Require);
    let answer = GivenTokens { expires_at: u64::MAX, access_token: "opaque".to_owned(), ..good() };
    machine.world().broker_gives(Ok(answer));
    let account = machine.sign_in().unwrap();
    let token = run(silent::for_call(&machine.person, &account, &[SCOPE.to_owned()], None)).unwrap();
    assert_eq!(token.expires_at, START + MAX_LIFETIME_SECONDS);
}

#[test]
fn the_page_that_ends_the_session_is_told_whose_it_is() {
    let machine = Machine::new(BrokerUse::Require);
    machine.world().broker_gives(Ok(given(json!({ "login_hint": "O.x" }), json!({}))));
    let account = machine.sign_in().unwrap();
    let url = run(accounts::sign_out_url(&machine.person.entra, &account.home_account_id, None)).unwrap();
    assert_eq!(url, format!("{AUTHORITY}/{TENANT}/oauth2/v2.0/logout?logout_hint=O.x"));
    let unknown = run(accounts::sign_out_url(&machine.person.entra, "o.t", None));
    assert!(matches!(unknown, Err(SignInError::AccountSelection(_))));
}

#[test]
fn an_account_is_wanted_by_id_or_by_a_name_that_is_unique() {
    let known = [account(OBJECT), account(OTHER)];
    assert_eq!(wanted(&known, None), None);
    assert_eq!(wanted(&known[..1], None), Some(&known[0]));
    assert_eq!(wanted(&known, Some(&known[1].home_account_id)), Some(&known[1]));
    assert_eq!(wanted(&known, Some("user@contoso.example")), None, "two have this name");
    assert_eq!(wanted(&known[..1], Some("USER@contoso.example")), None);
}
