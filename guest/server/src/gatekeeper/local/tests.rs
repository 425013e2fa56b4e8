use std::time::Duration;

use base::encoding::{base64url, from_base64url};
use base::settings::{LocalSettings, ServerIdentity, ServerKind, ServerSettings, SignInMethod};
use caller::testing::PersonWorlds as _;
use entra::oauth::TokenSet;
use entra::testing::change;
use serde_json::json;
use world::provided_tools::DelegationErrorCategory;
use world::testing::{self, START, World, forever, local_settings, run};

use super::*;

const MAIL: &str = "https://graph.microsoft.com/Mail.Read";
const CALENDAR: &str = "https://graph.microsoft.com/Calendars.Read";
const ORDERS: &str = "api://contoso/Orders.Read";

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn server(name: &str, permissions: &[&[&str]]) -> ServerSettings {
    ServerSettings {
        name: name.to_owned(),
        path: "/mcp".to_owned(),
        kind: ServerKind::Tools,
        title: None,
        tools: Vec::new(),
        permissions: permissions.iter().map(|entry| texts(entry)).collect(),
        identity: ServerIdentity::None,
    }
}

fn account(name: &str) -> Account {
    Account {
        home_account_id: format!("{name}.t"),
        username: format!("{name}@contoso.example"),
        name: name.to_owned(),
        tenant_id: "t".to_owned(),
        object_id: name.to_owned(),
    }
}

/// Alice and Bob are signed in, with tokens for their mail that are good for an hour.
fn signed_in(world: &World) -> PersonWorld<'static> {
    let mut person = world.person();
    person.settings = forever(LocalSettings { method: SignInMethod::Browser, ..local_settings() });
    change(&mut person.entra, |settings| {
        settings.servers = vec![server("mail", &[&[MAIL, CALENDAR], &[ORDERS]]), server("crm", &[])];
    });
    for name in ["alice", "bob"] {
        let tokens = TokenSet {
            access_token: Secret::new(format!("mail of {name}")),
            expires_at: START + 3600,
            refresh_token: Some(Secret::new(format!("refresh of {name}"))),
            id_token: None,
        };
        run(accounts::save(&person.entra, &account(name), &texts(&[MAIL, CALENDAR]), tokens)).unwrap();
    }
    person
}

fn handle(person: &PersonWorld<'_>, server: &str, name: &str) -> String {
    run(seal(&person.entra, server, &account(name))).unwrap().reveal().clone()
}

fn token(person: &PersonWorld<'_>, handle: &str, permissions: &[&str]) -> Result<String, DelegationError> {
    let token = run(local_token(person, handle, &texts(permissions), None));
    token.map(|token| token.reveal().clone())
}

#[test]
fn a_handle_brings_tokens_of_its_account_and_of_no_other() {
    let world = World::default();
    let person = signed_in(&world);
    for name in ["alice", "bob", "alice"] {
        let handle = handle(&person, "mail", name);
        assert_eq!(token(&person, &handle, &[MAIL, CALENDAR]), Ok(format!("mail of {name}")));
        assert_eq!(token(&person, &handle, &[CALENDAR, MAIL]), Ok(format!("mail of {name}")), "in any order");
    }
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn only_what_the_settings_grant_to_the_server_is_handed_out_and_only_in_that_combination() {
    let world = World::default();
    let person = signed_in(&world);
    for (server, permissions) in [
        ("mail", &[MAIL][..]),
        ("mail", &[MAIL, CALENDAR, ORDERS]),
        ("mail", &["https://graph.microsoft.com/.default"]),
        ("mail", &["https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/Calendars.Read "]),
        ("mail", &[]),
        ("crm", &[MAIL, CALENDAR]),
        ("crm", &[]),
        ("gone", &[MAIL, CALENDAR]),
    ] {
        let error = token(&person, &handle(&person, server, "alice"), permissions).unwrap_err();
        assert_eq!(error, not_granted(server, &texts(permissions)));
    }
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn a_handle_that_is_old_altered_or_of_another_machine_is_invalid() {
    let world = World::default();
    let person = signed_in(&world);
    let sealed = handle(&person, "mail", "alice");
    let mut altered = from_base64url(&sealed).unwrap();
    *altered.last_mut().unwrap() ^= 1;
    for invalid in ["", "x", "AAAA", &base64url(&altered)] {
        assert_eq!(token(&person, invalid, &[MAIL, CALENDAR]), Err(handle_invalid()));
    }
    assert!(token(&person, &sealed, &[MAIL, CALENDAR]).is_ok());
    world.advance(Duration::from_secs(LIFETIME_SECONDS));
    assert_eq!(token(&person, &sealed, &[MAIL, CALENDAR]), Err(handle_invalid()));
}

#[test]
fn a_damaged_key_of_handles_is_replaced_and_costs_only_the_handles_that_it_has_sealed() {
    let world = World::default();
    let person = signed_in(&world);
    let lost = handle(&person, "mail", "alice");
    world.damage(&testing::record(person.entra.settings, "local-handle-key"));
    // Until then the instance remembers the key.
    world.advance(Duration::from_secs(10));
    let sealed = handle(&person, "mail", "alice");
    assert_eq!(token(&person, &sealed, &[MAIL, CALENDAR]), Ok("mail of alice".to_owned()));
    assert_eq!(token(&person, &lost, &[MAIL, CALENDAR]), Err(handle_invalid()));
}

#[test]
fn a_handle_of_an_account_that_has_signed_out_needs_the_person() {
    let world = World::default();
    let person = signed_in(&world);
    let handle = handle(&person, "mail", "alice");
    run(accounts::remove(&person.entra.records, "alice.t")).unwrap();
    let error = token(&person, &handle, &[MAIL, CALENDAR]).unwrap_err();
    assert_eq!(error.category, DelegationErrorCategory::NeedsPerson, "{error:?}");
}

#[test]
fn another_api_gets_a_token_of_its_own() {
    let world = World::default();
    let person = signed_in(&world);
    world.once(|request| {
        let body = String::from_utf8_lossy(request.body()).into_owned();
        assert!(
            body.contains("refresh+of+alice") && body.contains("scope=api%3A%2F%2Fcontoso%2FOrders.Read"),
            "{body}"
        );
        assert!(!body.contains("Mail.Read"), "one resource a request: {body}");
        let tokens = json!({ "token_type": "Bearer", "access_token": "orders", "expires_in": 3600 });
        Ok(testing::json(200, &tokens))
    });
    let handle = handle(&person, "mail", "alice");
    assert_eq!(token(&person, &handle, &[ORDERS]), Ok("orders".to_owned()));
    assert_eq!(token(&person, &handle, &[ORDERS]), Ok("orders".to_owned()));
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn a_challenge_brings_another_token_and_entra_hears_of_the_claims() {
    let world = World::default();
    let person = signed_in(&world);
    world.once(|request| {
        assert!(String::from_utf8_lossy(request.body()).contains("nbf"), "the claims of the challenge");
        Ok(testing::json(200, &json!({ "token_type": "Bearer", "access_token": "fresh", "expires_in": 3600 })))
    });
    let challenge = GraphChallenge {
        refused: Secret::from("mail of alice"),
        claims: Some(r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#.to_owned()),
    };
    let handle = handle(&person, "mail", "alice");
    let token = run(local_token(&person, &handle, &texts(&[MAIL, CALENDAR]), Some(&challenge))).unwrap();
    assert_eq!(token.reveal(), "fresh");
}

#[test]
fn a_missing_consent_needs_the_person_and_ends_no_session() {
    let world = World::default();
    let person = signed_in(&world);
    world.once(|_| {
        let refusal = json!({
            "error": "invalid_grant", "error_codes": [65001], "error_description": "AADSTS65001: consent",
        });
        Ok(testing::json(400, &refusal))
    });
    let handle = handle(&person, "mail", "alice");
    // No browser can be opened here.
    let error = token(&person, &handle, &[ORDERS]).unwrap_err();
    assert_eq!((error.category, error.code.as_str()), (DelegationErrorCategory::NeedsPerson, "no-browser"));
    let tokens = run(accounts::tokens(&person.entra.records, "alice.t")).unwrap();
    assert!(tokens.refresh_token.is_some(), "the session is good for all other permissions");
    assert_eq!(token(&person, &handle, &[MAIL, CALENDAR]), Ok("mail of alice".to_owned()));
}

#[test]
fn what_one_api_wants_of_the_person_ends_no_sign_in() {
    for (refusal, stays) in [
        (json!({ "error": "interaction_required", "error_codes": [50076], "claims": "{\"access_token\":{}}" }), true),
        (json!({ "error": "invalid_grant", "error_codes": [50173] }), false),
    ] {
        let world = World::default();
        let person = signed_in(&world);
        world.once(move |_| Ok(testing::json(400, &refusal)));
        let handle = handle(&person, "mail", "alice");
        // No browser can be opened here.
        let error = token(&person, &handle, &[ORDERS]).unwrap_err();
        assert_eq!((error.category, error.code.as_str()), (DelegationErrorCategory::NeedsPerson, "no-browser"));
        let tokens = run(accounts::tokens(&person.entra.records, "alice.t")).unwrap();
        assert_eq!(tokens.refresh_token.is_some(), stays);
    }
}

#[test]
fn an_entra_id_out_of_reach_and_a_broken_store_are_unavailable() {
    let world = World::default();
    let person = signed_in(&world);
    let handle = handle(&person, "mail", "alice");
    world.always(|_| Err(world::HttpError::Connect(world::http_error::NotConnected::Refused)));
    let error = token(&person, &handle, &[ORDERS]).unwrap_err();
    let expected = (DelegationErrorCategory::Unavailable, "entra-unavailable");
    assert_eq!((error.category, error.code.as_str()), expected);
    world.break_store(0);
    let error = token(&person, &handle, &[MAIL, CALENDAR]).unwrap_err();
    assert_eq!((error.category, error.code.as_str()), (DelegationErrorCategory::Unavailable, "store"));
}
