//! Tokens without asking the person: cache, refresh, single flight. The flows with a person are tested with the
//! emulator, in `tests/behaviour/all/sign_in`.

use std::time::Duration;

use base::Secret;
use base::audit::Outcome;
use base::settings::{LocalSettings, Settings};
use entra::EntraWorld;
use entra::graph::GraphChallenge;
use entra::oauth::{OAuthError, TokenSet};
use entra::testing::{EntraWorlds as _, change};
use serde_json::{Value, json};
use world::testing::{World, forever, local_settings, run};
use world::{StoreError, Unrecorded, testing};

use super::accounts::{self, Account};
use super::silent::{self, AccessToken};
use super::{PersonWorld, SignInError};
use crate::testing::PersonWorlds as _;

mod renewals;

const SCOPE: &str = "https://graph.microsoft.com/User.Read";

fn account() -> Account {
    Account {
        home_account_id: "o.t".to_owned(),
        username: "alice@contoso.example".to_owned(),
        name: "Alice".to_owned(),
        tenant_id: "t".to_owned(),
        object_id: "o".to_owned(),
    }
}

fn scopes() -> Vec<String> {
    vec![SCOPE.to_owned()]
}

/// A world in which the account is signed in, with an access token for `lifetime` and a refresh token.
fn signed_in(lifetime: u64) -> (World, EntraWorld<'static>) {
    let world = World::default();
    let env = world.entra();
    let tokens = TokenSet {
        access_token: Secret::from("access-1"),
        expires_at: env.clock.now() + lifetime,
        refresh_token: Some(Secret::from("refresh-1")),
        id_token: None,
    };
    run(accounts::save(&env, &account(), &scopes(), tokens)).unwrap();
    (world, env)
}

/// The person at the machine of this world.
fn person(world: &World, env: &EntraWorld<'static>) -> PersonWorld<'static> {
    PersonWorld { entra: *env, ..world.person() }
}

/// The person of this world, with no account chosen.
fn of<'w>(env: &EntraWorld<'w>) -> PersonWorld<'w> {
    PersonWorld { entra: *env, ..World::default().person() }
}

fn acquire(env: &EntraWorld<'_>) -> Result<AccessToken, SignInError> {
    run(silent::acquire(&of(env), &account(), &scopes(), None))
}

fn token(env: &EntraWorld<'_>) -> String {
    acquire(env).unwrap().token.reveal().clone()
}

fn fresh_tokens(number: u32) -> Value {
    json!({
        "token_type": "Bearer",
        "access_token": format!("access-{number}"),
        "refresh_token": format!("refresh-{number}"),
        "expires_in": 3600,
    })
}

fn refusal(error: &str, code: u32) -> Value {
    json!({
        "error": error,
        "error_description": format!("AADSTS{code}: text"),
        "error_codes": [code],
        "suberror": "bad_token",
        "trace_id": "t-1",
    })
}

#[test]
fn a_token_with_more_than_the_margin_left_comes_from_the_cache() {
    let (world, env) = signed_in(331);
    assert_eq!(token(&env), "access-1");
    assert!(world.sent().is_empty());
}

#[test]
fn a_token_within_five_minutes_of_its_end_is_refreshed_and_the_refresh_token_rotates() {
    let (world, env) = signed_in(300);
    world.once(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert_eq!(token(&env), "access-2");
    assert_eq!(token(&env), "access-2");
    assert_eq!(world.sent().len(), 1);
    let body = &world.sent_bodies()[0];
    assert!(body.contains("grant_type=refresh_token"));
    assert!(body.contains("refresh_token=refresh-1"));
    assert!(body.contains("scope=https%3A%2F%2Fgraph.microsoft.com%2FUser.Read"), "scopes are always sent");
    assert!(body.contains("cp1"), "claims challenges are declared to be understood");
    let stored = run(accounts::tokens(&env.records, "o.t")).unwrap();
    assert_eq!(stored.refresh_token.unwrap().reveal(), "refresh-2");
}

fn for_call(env: &EntraWorld<'_>) -> String {
    run(silent::for_call(&of(env), &account(), &scopes(), None)).unwrap().token.reveal().clone()
}

#[test]
fn a_call_uses_a_token_that_outlives_it_and_waits_for_no_renewal() {
    let (world, env) = signed_in(61);
    assert_eq!(for_call(&env), "access-1");
    assert!(world.sent().is_empty());
    world.advance(Duration::from_secs(1));
    world.once(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert_eq!(for_call(&env), "access-2");
}

#[test]
fn a_refused_refresh_token_is_forgotten_and_the_person_is_needed() {
    let (world, env) = signed_in(0);
    world.once(|_| Ok(testing::json(400, &refusal("invalid_grant", 700_082))));
    let Err(SignInError::InteractionRequired { reason, claims: None }) = acquire(&env) else { panic!() };
    assert_eq!(reason, "The session has ended: sign in again. (AADSTS700082)");
    assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_none());
    assert!(matches!(acquire(&env), Err(SignInError::InteractionRequired { .. })));
    assert_eq!(world.sent().len(), 1, "a refused token is not tried again");
    let event = world.audited().pop().unwrap();
    assert_eq!((event.name, event.outcome), ("token.refreshed", Outcome::Failure));
    assert_eq!(event.reason.as_deref(), Some("aadsts-700082"));
}

#[test]
fn a_refusal_for_another_reason_keeps_the_refresh_token() {
    let (world, env) = signed_in(0);
    world.once(|_| Ok(testing::json(401, &refusal("invalid_client", 7_000_215))));
    let Err(SignInError::Refused(refusal)) = acquire(&env) else { panic!() };
    assert_eq!((refusal.code, refusal.suberror.as_deref()), (7_000_215, Some("bad_token")));
    assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_some());
}

#[test]
fn a_token_that_is_still_good_is_used_while_entra_is_out_of_reach() {
    let (world, env) = signed_in(100);
    world.always(|_| Ok(testing::json(503, &json!({}))));
    assert_eq!(token(&env), "access-1");
    world.advance(Duration::from_secs(100));
    let Err(SignInError::Unavailable(error)) = acquire(&env) else { panic!() };
    assert_eq!(error, OAuthError::ServerError(503));
}

#[test]
fn a_server_error_is_repeated_once_after_a_second() {
    let (world, env) = signed_in(0);
    world.once(|_| Ok(testing::json(503, &json!({}))));
    world.once(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert_eq!(token(&env), "access-2");
    assert_eq!(world.elapsed(), Duration::from_secs(1));
}

#[test]
fn nothing_is_sent_before_the_time_that_entra_asks_to_wait_has_passed() {
    let (world, env) = signed_in(0);
    world.once(|_| {
        let mut response = testing::json(429, &json!({}));
        response.headers_mut().insert("retry-after", "30".parse().unwrap());
        Ok(response)
    });
    for left in [30, 30] {
        let Err(SignInError::Unavailable(error)) = acquire(&env) else { panic!() };
        assert_eq!(error, OAuthError::Throttled(Duration::from_secs(left)));
    }
    assert_eq!(world.sent().len(), 1);
    world.advance(Duration::from_secs(30));
    world.once(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert_eq!(token(&env), "access-2");
}

#[test]
fn an_absurd_wait_is_cut_to_an_hour() {
    let (world, env) = signed_in(0);
    world.once(|_| {
        let mut response = testing::json(503, &json!({}));
        response.headers_mut().insert("retry-after", "999999999".parse().unwrap());
        Ok(response)
    });
    let Err(SignInError::Unavailable(error)) = acquire(&env) else { panic!() };
    assert_eq!(error, OAuthError::Throttled(Duration::from_secs(3600)));
}

#[test]
fn a_call_waits_for_the_refresh_of_another_one() {
    let (world, env) = signed_in(0);
    let lease = world::testing::record(env.settings, "refreshing/o.t");
    assert!(world.compare_and_swap(&lease, None, b"another", Some(Duration::from_secs(3))).unwrap());
    world.once(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert_eq!(token(&env), "access-2");
    assert_eq!(world.elapsed().as_secs(), 3, "the other one's lease ran out first");
}

#[test]
fn a_refresh_that_never_ends_is_not_waited_for_longer_than_ten_seconds() {
    let (world, env) = signed_in(0);
    let lease = world::testing::record(env.settings, "refreshing/o.t");
    assert!(world.compare_and_swap(&lease, None, b"another", None).unwrap());
    world.once(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert_eq!(token(&env), "access-2");
    assert_eq!(world.elapsed().as_secs(), 10);
}

#[test]
fn a_lease_that_ran_out_and_was_taken_by_another_call_is_left_to_it() {
    let (world, env) = signed_in(0);
    let lease = world::testing::record(env.settings, "refreshing/o.t");
    let (slow, taken) = (world.clone(), lease.clone());
    world.once(move |_| {
        slow.advance(Duration::from_secs(70));
        assert!(slow.compare_and_swap(&taken, None, b"another", Some(Duration::from_secs(70))).unwrap());
        Ok(testing::json(200, &fresh_tokens(2)))
    });
    assert_eq!(token(&env), "access-2");
    assert_eq!(world.get(&lease).unwrap().unwrap().reveal(), b"another");
}

#[test]
fn a_refresh_that_cannot_be_recorded_holds_up_no_call() {
    let (world, env) = signed_in(0);
    world.refuse_audit(true);
    world.always(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert!(matches!(acquire(&env), Err(SignInError::Unrecorded(Unrecorded))));
    world.refuse_audit(false);
    assert_eq!(token(&env), "access-2");
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[test]
fn a_refresh_that_the_store_does_not_keep_is_used_all_the_same() {
    for lifetime in [0, 100] {
        let (world, env) = signed_in(lifetime);
        let store = world.clone();
        world.once(move |_| {
            store.break_store(0);
            Ok(testing::json(200, &fresh_tokens(2)))
        });
        assert_eq!(token(&env), "access-2", "{lifetime}");
        assert!(world.heal_store(), "{lifetime}");
        let stored = run(accounts::tokens(&env.records, "o.t")).unwrap();
        assert_eq!(stored.refresh_token.unwrap().reveal(), "refresh-1", "{lifetime}");
    }
}

/// What another call stores while this one's refresh is under way.
fn meanwhile(env: &EntraWorld<'_>, number: u32) {
    let tokens = TokenSet {
        access_token: Secret::new(format!("access-{number}")),
        expires_at: env.clock.now() + 3600,
        refresh_token: Some(Secret::new(format!("refresh-{number}"))),
        id_token: None,
    };
    run(accounts::save(env, &account(), &scopes(), tokens)).unwrap();
}

#[test]
fn a_slow_refresh_does_not_replace_what_came_after_it() {
    let (world, env) = signed_in(0);
    let other = world.entra();
    world.once(move |_| {
        meanwhile(&other, 3);
        Ok(testing::json(200, &fresh_tokens(2)))
    });
    assert_eq!(token(&env), "access-2", "the token is good, whichever other call has got one");
    let stored = run(accounts::tokens(&env.records, "o.t")).unwrap();
    assert_eq!(stored.refresh_token.unwrap().reveal(), "refresh-3");
    assert_eq!(token(&env), "access-3");
}

#[test]
fn a_refused_refresh_token_that_was_replaced_meanwhile_causes_no_sign_in() {
    let (world, env) = signed_in(0);
    let other = world.entra();
    world.once(move |_| {
        meanwhile(&other, 3);
        Ok(testing::json(400, &refusal("invalid_grant", 700_082)))
    });
    assert_eq!(token(&env), "access-3");
}

#[test]
fn a_sign_out_during_a_refresh_leaves_no_tokens_behind() {
    for (status, answer) in [(200, fresh_tokens(2)), (400, refusal("invalid_grant", 700_082))] {
        let (world, env) = signed_in(0);
        let other = world.entra();
        world.once(move |_| {
            run(accounts::sign_out(&other, "o.t")).unwrap();
            Ok(testing::json(status, &answer))
        });
        let _ = acquire(&env);
        let names = world.record_names();
        assert!(!names.iter().any(|name| name.contains("tokens/")), "{names:?}");
    }
}

#[test]
fn a_challenged_token_is_not_returned_again_and_the_challenge_is_sent_along() {
    let (world, env) = signed_in(3600);
    world.once(|request| {
        let body = String::from_utf8_lossy(request.body()).into_owned();
        assert!(body.contains("nbf"), "the challenge is part of the claims");
        Ok(testing::json(200, &fresh_tokens(2)))
    });
    let challenge = GraphChallenge {
        refused: Secret::from("access-1"),
        claims: Some(r#"{"access_token":{"nbf":{"essential":true}}}"#.to_owned()),
    };
    let token = run(silent::acquire(&of(&env), &account(), &scopes(), Some(&challenge))).unwrap();
    assert_eq!(token.token.reveal(), "access-2");
}

#[test]
fn what_is_not_a_token_response_is_malformed() {
    for body in ["", "[]", "<html></html>", r#"{"access_token":5}"#] {
        let (world, env) = signed_in(0);
        world.once(move |_| Ok(http::Response::new(body.as_bytes().to_vec())));
        let Err(SignInError::Unavailable(OAuthError::Malformed(_))) = acquire(&env) else { panic!("{body}") };
    }
}

#[test]
fn the_order_of_scopes_does_not_matter_for_the_cache() {
    assert_eq!(
        accounts::scope_key(&["b".to_owned(), "a".to_owned(), "b".to_owned()]),
        accounts::scope_key(&["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn the_account_is_the_wanted_else_the_configured_else_the_only_one() {
    let (world, env) = signed_in(3600);
    let mut person = person(&world, &env);
    assert_eq!(run(accounts::choose(&person, None)).unwrap(), account());
    assert_eq!(run(accounts::choose(&person, Some("alice@contoso.example"))).unwrap(), account());
    assert!(matches!(
        run(accounts::choose(&person, Some("ALICE@contoso.example"))),
        Err(SignInError::InteractionRequired { .. })
    ));
    let bob = Account { home_account_id: "b.t".to_owned(), username: "bob@contoso.example".to_owned(), ..account() };
    let tokens = TokenSet {
        access_token: Secret::from("access-b"),
        expires_at: env.clock.now() + 3600,
        refresh_token: None,
        id_token: None,
    };
    run(accounts::save(&env, &bob, &scopes(), tokens)).unwrap();
    let Err(SignInError::AccountSelection(text)) = run(accounts::choose(&person, None)) else { panic!() };
    assert!(text.starts_with("2 accounts are signed in: alice@contoso.example, bob@contoso.example. Choose"), "{text}");
    person.settings = forever(LocalSettings { account: Some("b.t".to_owned()), ..local_settings() });
    assert_eq!(run(accounts::choose(&person, None)).unwrap(), bob);
}

#[test]
fn the_names_in_an_error_cannot_steer_a_terminal() {
    let hostile = Account { username: "a\u{1b}[2J\r\nb\u{9b}".to_owned(), ..account() };
    assert_eq!(accounts::listed(&[hostile, account()]), "a [2J  b , alice@contoso.example");
}

#[test]
fn a_user_name_that_two_accounts_share_chooses_neither() {
    let (world, env) = signed_in(3600);
    let person = person(&world, &env);
    let personal = Account { home_account_id: "p.consumers".to_owned(), ..account() };
    let tokens = TokenSet {
        access_token: Secret::from("access-p"),
        expires_at: env.clock.now() + 3600,
        refresh_token: None,
        id_token: None,
    };
    run(accounts::save(&env, &personal, &scopes(), tokens)).unwrap();
    assert!(matches!(
        run(accounts::choose(&person, Some("alice@contoso.example"))),
        Err(SignInError::AccountSelection(_))
    ));
    assert_eq!(run(accounts::choose(&person, Some("p.consumers"))).unwrap(), personal);
}

#[test]
fn the_id_of_an_account_wins_over_an_equal_user_name() {
    let (world, env) = signed_in(3600);
    let person = person(&world, &env);
    let impostor = Account { home_account_id: "i.t".to_owned(), username: "z.t".to_owned(), ..account() };
    let wanted = Account { home_account_id: "z.t".to_owned(), ..account() };
    for account in [&impostor, &wanted] {
        let tokens = TokenSet {
            access_token: Secret::from("access"),
            expires_at: env.clock.now() + 3600,
            refresh_token: None,
            id_token: None,
        };
        run(accounts::save(&env, account, &scopes(), tokens)).unwrap();
    }
    assert_eq!(run(accounts::choose(&person, Some("z.t"))).unwrap(), wanted);
}

#[test]
fn signing_out_forgets_the_account_its_tokens_and_no_other_account() {
    let (world, env) = signed_in(3600);
    run(accounts::sign_out(&env, "o.t")).unwrap();
    assert!(run(accounts::list(&env.records)).unwrap().is_empty());
    assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_none());
    assert_eq!(world.audited().pop().unwrap().name, "sign-out");
    assert!(matches!(run(accounts::sign_out(&env, "o.t")), Err(SignInError::AccountSelection(_))));
}

/// Tokens of a sign-in that has just ended.
fn of_sign_in(env: &EntraWorld<'_>, number: u32) -> TokenSet {
    TokenSet {
        access_token: Secret::new(format!("access-{number}")),
        expires_at: env.clock.now() + 3600,
        refresh_token: Some(Secret::new(format!("refresh-{number}"))),
        id_token: None,
    }
}

#[test]
fn a_sign_in_replaces_damaged_tokens_and_a_damaged_list() {
    for name in ["tokens/o.t", "list"] {
        let (world, env) = signed_in(3600);
        world.damage(&world::testing::record(env.settings, name));
        let error = run(accounts::choose(&of(&env), None)).err().or_else(|| acquire(&env).err()).unwrap();
        assert_eq!(error.reason(), "store-damaged", "{name}");
        let advice = "a record of a sign-in is damaged (`entra-mcp store check` counts such records): sign in again with \
                      `entra-mcp login`, which replaces it";
        assert_eq!(error.to_string(), advice, "{name}");
        run(accounts::save(&env, &account(), &scopes(), of_sign_in(&env, 2))).unwrap();
        assert_eq!(run(accounts::list(&env.records)).unwrap(), [account()], "{name}");
        assert_eq!(token(&env), "access-2", "{name}");
    }
}

#[test]
fn an_account_whose_records_are_damaged_can_be_signed_out() {
    for damaged in [&["tokens/o.t"][..], &["list"], &["tokens/o.t", "list"]] {
        let (world, env) = signed_in(3600);
        for name in damaged {
            world.damage(&world::testing::record(env.settings, name));
        }
        let page = run(accounts::sign_out_url(&env, "o.t", None)).unwrap();
        assert!(page.contains("/oauth2/v2.0/logout"), "{page}");
        run(accounts::sign_out(&env, "o.t")).unwrap();
        assert_eq!(world.audited().pop().unwrap().object_id.as_deref(), Some("o"));
        assert!(run(accounts::list(&env.records)).unwrap().is_empty(), "{damaged:?}");
        assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_none(), "{damaged:?}");
    }
}

#[test]
fn an_account_whose_list_has_begun_anew_can_be_signed_out_by_its_id() {
    let (world, env) = signed_in(3600);
    world.damage(&world::testing::record(env.settings, "list"));
    run(accounts::remove(&env.records, "x.y")).unwrap();
    assert!(run(accounts::list(&env.records)).unwrap().is_empty());
    assert!(matches!(run(accounts::sign_out(&env, "x.y")), Err(SignInError::AccountSelection(_))));
    run(accounts::sign_out(&env, "o.t")).unwrap();
    assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_none());
}

#[test]
fn without_the_list_only_an_id_names_an_account() {
    let (world, env) = signed_in(3600);
    world.damage(&world::testing::record(env.settings, "list"));
    for name in ["alice@contoso.example", "o", "o.", ".t", "o.t/x"] {
        let refused = run(accounts::sign_out(&env, name));
        assert!(matches!(refused, Err(SignInError::Store(StoreError::Unreadable))), "{name}");
    }
    assert!(world.audited().is_empty());
    assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_some());
}

#[test]
fn accounts_of_another_application_tenant_or_cloud_are_not_seen() {
    let others: [fn(&mut Settings); 3] = [
        |settings| "another".clone_into(&mut settings.client_id),
        |settings| "another".clone_into(&mut settings.tenant),
        |settings| "https://login.microsoftonline.us".clone_into(&mut settings.authority),
    ];
    for (number, other) in others.into_iter().enumerate() {
        let (_world, mut env) = signed_in(3600);
        let own = env;
        change(&mut env, other);
        assert!(run(accounts::list(&env.records)).unwrap().is_empty(), "{number}");
        assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_none(), "{number}");
        run(accounts::save(&env, &account(), &scopes(), of_sign_in(&env, 2))).unwrap();
        run(accounts::sign_out(&env, "o.t")).unwrap();
        assert_eq!(run(accounts::list(&own.records)).unwrap(), [account()], "{number}");
        assert_eq!(run(accounts::tokens(&own.records, "o.t")).unwrap().refresh_token.unwrap().reveal(), "refresh-1");
    }
}

#[test]
fn debug_of_an_account_shows_no_name() {
    let text = format!("{:?}", account());
    assert!(!text.contains("alice") && !text.contains("Alice"));
}
