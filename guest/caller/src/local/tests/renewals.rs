//! Tokens that are renewed before a call asks.

use super::*;
use crate::local::background;

#[test]
fn tokens_are_renewed_in_the_background_five_minutes_before_their_end() {
    let (world, env) = signed_in(3_600);
    assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(300), "another process may sign in");
    world.advance(Duration::from_secs(3_000));
    let pause = run(background::renew(&of(&env))).unwrap();
    assert!((270..=300).contains(&pause.as_secs()), "{pause:?}");
    assert!(world.sent().is_empty());
    world.advance(Duration::from_secs(300));
    world.once(|_| Ok(testing::json(200, &fresh_tokens(2))));
    assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(300));
    assert_eq!(world.sent().len(), 1);
    assert_eq!(for_call(&env), "access-2");
    run(background::renew(&of(&env))).unwrap();
    assert_eq!(world.sent().len(), 1, "once");
    assert!(world.audited().iter().any(|event| event.name == "token.refreshed"));
}

#[test]
fn a_renewal_that_fails_is_tried_again_and_takes_nothing_away() {
    let (world, env) = signed_in(250);
    world.always(|_| Ok(testing::json(503, &json!({}))));
    assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(60));
    assert_eq!(for_call(&env), "access-1");
}

#[test]
fn a_renewal_that_the_store_does_not_keep_is_tried_again_as_soon_as_one_that_fails() {
    // After the answer, the store reads the tokens and writes them.
    for failing in [0, 1] {
        let (world, env) = signed_in(250);
        let store = world.clone();
        world.once(move |_| {
            store.fail_store(failing);
            Ok(testing::json(200, &fresh_tokens(2)))
        });
        assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(60), "{failing}");
        assert!(world.heal_store(), "{failing}");
        assert_eq!(for_call(&env), "access-1", "{failing}");
        world.once(|_| Ok(testing::json(200, &fresh_tokens(3))));
        assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(300), "{failing}");
        assert_eq!(for_call(&env), "access-3", "{failing}");
    }
}

#[test]
fn a_renewal_of_an_account_that_was_signed_out_meanwhile_is_not_tried_again() {
    let (world, env) = signed_in(250);
    let records = env.records;
    world.once(move |_| {
        run(accounts::remove(&records, "o.t")).unwrap();
        Ok(testing::json(200, &fresh_tokens(2)))
    });
    assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(300));
    assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().access.is_empty());
}

#[test]
fn a_token_that_nothing_has_asked_for_since_it_ended_is_not_renewed() {
    let (world, env) = signed_in(250);
    world.advance(Duration::from_secs(250));
    assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(300));
    run(accounts::remove(&env.records, "o.t")).unwrap();
    assert_eq!(run(background::renew(&of(&env))).unwrap(), Duration::from_secs(300));
    assert!(world.sent().is_empty());
}

#[test]
fn a_token_that_no_call_has_used_since_it_was_renewed_is_not_renewed_again() {
    let (world, env) = signed_in(250);
    let renew = |number| {
        world.once(move |_| Ok(testing::json(200, &fresh_tokens(number))));
        run(background::renew(&of(&env))).unwrap();
        world.advance(Duration::from_secs(3_400));
        run(background::renew(&of(&env))).unwrap()
    };
    assert_eq!(renew(2), Duration::from_secs(300));
    assert_eq!(world.sent().len(), 1, "once");
    assert_eq!(for_call(&env), "access-2");
    renew(3);
    assert_eq!(world.sent().len(), 2);
    // What an earlier version has stored does not say it.
    let mut stored = serde_json::to_value(run(accounts::tokens(&env.records, "o.t")).unwrap()).unwrap();
    let cached = &mut stored["access"][SCOPE];
    assert_eq!(cached.as_object_mut().unwrap().remove("asked_for"), Some(json!(false)));
    assert!(serde_json::from_value::<accounts::CachedAccessToken>(cached.clone()).unwrap().asked_for);
}

#[test]
fn a_refusal_in_the_background_ends_no_session_and_is_asked_for_once() {
    let (world, env) = signed_in(250);
    world.once(|_| Ok(testing::json(400, &refusal("invalid_grant", 700_082))));
    for _ in 0..2 {
        run(background::renew(&of(&env))).unwrap();
        assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_some());
    }
    assert_eq!(world.sent().len(), 1);
    assert_eq!(world.audited().pop().unwrap().reason.as_deref(), Some("aadsts-700082"));
    assert_eq!(for_call(&env), "access-1");
    world.advance(Duration::from_secs(200));
    world.once(|_| Ok(testing::json(400, &refusal("invalid_grant", 700_082))));
    let ended = run(silent::for_call(&of(&env), &account(), &scopes(), None));
    assert!(matches!(ended, Err(SignInError::InteractionRequired { .. })), "a call hears of it");
    assert!(run(accounts::tokens(&env.records, "o.t")).unwrap().refresh_token.is_none());
}
