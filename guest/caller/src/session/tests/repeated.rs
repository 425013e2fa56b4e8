//! A refresh token that was replaced comes again: within the grace it gets the same answer, and nothing else.

use super::*;

const GRACE: u64 = testing::REFRESH_GRACE.as_secs();

/// What a client sees of an answer.
fn seen(tokens: &IssuedTokens) -> (String, String, u64, Vec<String>) {
    let text = |secret: &Secret<String>| secret.reveal().clone();
    (text(&tokens.access_token), text(&tokens.refresh_token), tokens.expires_in, tokens.scopes.clone())
}

fn is_kept(begun: &Begun) -> bool {
    begun.world.record_names().iter().any(|name| name.contains("/session-answer/"))
}

fn last_event(begun: &Begun) -> (&'static str, Outcome) {
    let event = begun.world.audited().pop().unwrap();
    (event.name, event.outcome)
}

#[test]
fn within_the_grace_a_replaced_refresh_token_gets_the_same_answer() {
    for seconds in [0, 1, GRACE] {
        let begun = begin();
        let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
        begun.world.advance(Duration::from_secs(seconds));
        for _ in 0..3 {
            let again = begun.refresh(&begun.tokens.refresh_token).unwrap();
            assert_eq!(seen(&again), seen(&first));
            assert_eq!(last_event(&begun), ("session.refresh-repeated", Outcome::Success));
        }
        assert!(begun.authenticate(&first.access_token).is_ok());
        assert!(begun.refresh(&first.refresh_token).is_ok(), "the session goes on");
    }
}

#[test]
fn after_the_grace_a_replaced_refresh_token_ends_the_session() {
    let begun = begin();
    let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
    begun.world.advance(Duration::from_secs(GRACE + 1));
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Reused);
    assert_eq!(begun.authenticate(&first.access_token), Err(SessionError::Unknown));
    assert_eq!((begun.ended(), begun.world.record_names()), (vec!["refresh-token-reused".to_owned()], vec![]));
}

/// The store may keep an answer for longer than it was told, and clocks may be set.
#[test]
fn the_grace_is_counted_by_the_answer_itself() {
    for (back, seconds, repeated) in
        [(false, GRACE, true), (false, GRACE + 1, false), (true, 60, true), (true, 61, false)]
    {
        let begun = begin();
        begun.world.advance(Duration::from_secs(100));
        begun.refresh(&begun.tokens.refresh_token).unwrap();
        begun.forget_ttl();
        let seconds = Duration::from_secs(seconds);
        if back {
            begun.world.set_back(seconds)
        } else {
            begun.world.advance(seconds)
        }
        let again = begun.refresh(&begun.tokens.refresh_token).map(drop);
        assert_eq!(again, if repeated { Ok(()) } else { Err(RefreshError::Reused) }, "{seconds:?} {back}");
    }
}

#[test]
fn the_grace_ends_when_the_successor_is_used() {
    let begun = begin();
    let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
    let second = begun.refresh(&first.refresh_token).unwrap();
    // The successor of the successor has a grace of its own.
    assert_eq!(seen(&begun.refresh(&first.refresh_token).unwrap()), seen(&second));
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Reused);
    assert_eq!(begun.refresh(&second.refresh_token).unwrap_err(), RefreshError::Unknown);
    assert_eq!(begun.world.record_names(), [""; 0]);
}

#[test]
fn an_access_token_that_is_used_does_not_end_the_grace() {
    let begun = begin();
    let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
    assert!(begun.authenticate(&first.access_token).is_ok());
    assert!(begun.refresh(&begun.tokens.refresh_token).is_ok());
}

#[test]
fn another_client_gets_no_answer_and_ends_the_session() {
    let begun = begin();
    let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
    let other = |token| run(refresh::refresh(&begun.env, token, "another", None, None)).map(drop);
    assert_eq!(other(&first.refresh_token), Err(RefreshError::Unknown), "the current one is unknown to it");
    assert!(begun.authenticate(&first.access_token).is_ok());
    assert_eq!(other(&begun.tokens.refresh_token), Err(RefreshError::Reused));
    assert_eq!((begun.ended(), begun.world.record_names()), (vec!["refresh-token-reused".to_owned()], vec![]));
    let audited = begun.world.audited();
    let reused = audited.iter().find(|event| event.name == "session.reused").unwrap();
    assert_eq!(reused.reason.as_deref(), Some("other-client"));
}

/// The family is in every refresh token of the session; the secret is in one.
#[test]
fn within_the_grace_a_token_of_the_family_that_is_not_the_last_ends_the_session() {
    let begun = begin();
    let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
    let mut bytes = base::encoding::from_base64url(begun.tokens.refresh_token.reveal()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let made_up = Secret::new(base::encoding::base64url(&bytes));
    assert_eq!(begun.refresh(&made_up).unwrap_err(), RefreshError::Reused);
    assert_eq!(begun.refresh(&first.refresh_token).unwrap_err(), RefreshError::Unknown);
}

#[test]
fn a_repeated_request_may_not_ask_for_more() {
    let begun = begin();
    begun.refresh(&begun.tokens.refresh_token).unwrap();
    let wide = ["User.Read".to_owned(), "Mail.Read".to_owned()];
    let ask = |scopes: Option<&[String]>, resource: Option<&str>| {
        run(refresh::refresh(&begun.env, &begun.tokens.refresh_token, "client", scopes, resource)).map(drop)
    };
    assert_eq!(ask(Some(&wide), None), Err(RefreshError::WiderScope));
    assert_eq!(ask(None, Some("https://mcp.example.com")), Err(RefreshError::WrongResource));
    assert_eq!(ask(None, Some(RESOURCE)), Ok(()));
}

#[test]
fn with_a_grace_of_zero_a_second_use_ends_the_session_and_nothing_is_kept() {
    let begun = begin_without_grace();
    begun.refresh(&begun.tokens.refresh_token).unwrap();
    assert!(!is_kept(&begun));
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Reused);
}

#[test]
fn a_grace_that_the_operator_has_switched_off_since_is_over() {
    let mut begun = begin();
    begun.refresh(&begun.tokens.refresh_token).unwrap();
    change(&mut begun.env, |settings| remote(settings).refresh_grace = Duration::ZERO);
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Reused);
}

#[test]
fn the_store_keeps_no_token_and_the_answer_no_longer_than_a_request_may_want_it() {
    let begun = begin();
    let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
    assert!(is_kept(&begun));
    for name in begun.world.record_names() {
        let raw = begun.world.get(&name).unwrap().unwrap();
        let text = String::from_utf8_lossy(raw.reveal()).into_owned();
        for token in [&first.access_token, &first.refresh_token, &begun.tokens.refresh_token] {
            assert!(!text.contains(token.reveal().as_str()) && !name.contains(token.reveal().as_str()), "{name}");
        }
    }
    begun.refresh(&first.refresh_token).unwrap();
    let answers = begun.world.record_names().iter().filter(|name| name.contains("/session-answer/")).count();
    assert_eq!(answers, 1, "that of the token which was used is gone");
    // A request that arrives in the last second of the grace may take a minute.
    begun.world.advance(Duration::from_secs(GRACE + 61));
    let kept: Vec<_> =
        begun.world.record_names().into_iter().filter(|name| name.contains("/session-answer/")).collect();
    assert!(kept.iter().all(|name| begun.world.get(name).unwrap().is_none()));
}

#[test]
fn an_answer_ends_with_its_session() {
    let begun = begin();
    let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
    assert_eq!(run(lifecycle::revoke(&begun.env, &first.refresh_token, "client")), Ok(true));
    assert_eq!(begun.world.record_names(), [""; 0]);
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Unknown);
}

#[test]
fn a_repeated_answer_that_cannot_be_recorded_is_not_given() {
    let begun = begin();
    begun.refresh(&begun.tokens.refresh_token).unwrap();
    begun.world.refuse_audit(true);
    let refused = begun.refresh(&begun.tokens.refresh_token).unwrap_err();
    assert_eq!(refused, RefreshError::Acquire(AcquireError::Unrecorded(world::Unrecorded)));
    begun.world.refuse_audit(false);
    assert!(begun.refresh(&begun.tokens.refresh_token).is_ok());
}

/// A store that fails says nothing about the token: the session does not end for it.
#[test]
fn a_store_that_fails_while_it_is_asked_for_the_answer_ends_nothing() {
    let begun = begin();
    begun.refresh(&begun.tokens.refresh_token).unwrap();
    begun.world.fail_store(1);
    let failed = begun.refresh(&begun.tokens.refresh_token).unwrap_err();
    assert!(matches!(failed, RefreshError::Acquire(AcquireError::Store(_))));
    assert!(begun.refresh(&begun.tokens.refresh_token).is_ok());
}

/// The client gives up at every place in a refresh, and asks again.
#[test]
fn wherever_a_refresh_breaks_off_the_client_may_ask_again() {
    for breaking in 0.. {
        let begun = begin();
        let before = begun.world.store_operations();
        begun.world.break_store(breaking);
        let broken = begun.refresh(&begun.tokens.refresh_token);
        if !begun.world.heal_store() {
            assert!(broken.is_ok() && begun.world.store_operations() - before > 5);
            break;
        }
        let again = begun.refresh(&begun.tokens.refresh_token).unwrap();
        if let Ok(first) = broken {
            assert_eq!(seen(&again), seen(&first), "operation {breaking}");
        }
        assert!(begun.refresh(&again.refresh_token).is_ok(), "operation {breaking}");
    }
}

#[test]
fn of_two_refreshes_at_once_both_have_the_same_answer() {
    for at in 0.. {
        let begun = Rc::new(begin());
        let other = Rc::clone(&begun);
        let answered = Rc::new(std::cell::RefCell::new(None));
        let answers = Rc::clone(&answered);
        begun.world.interrupt_store(at, move || {
            *answers.borrow_mut() = Some(seen(&other.refresh(&other.tokens.refresh_token).unwrap()));
        });
        let answer = begun.refresh(&begun.tokens.refresh_token).unwrap();
        let Some(other) = answered.take() else {
            assert!(at > 5, "a refresh takes that many steps at least");
            break;
        };
        assert_eq!(seen(&answer), other, "before operation {at}");
        assert!(begun.refresh(&answer.refresh_token).is_ok(), "before operation {at}");
        assert_eq!(begun.ended(), [""; 0]);
    }
}

#[test]
fn a_tenant_that_is_not_let_in_any_more_gets_no_answer_again() {
    let mut begun = begin();
    begun.refresh(&begun.tokens.refresh_token).unwrap();
    change(&mut begun.env, |settings| settings.token.allowed_tenants = vec!["another".to_owned()]);
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Unknown);
    assert_eq!((begun.ended(), begun.world.record_names()), (vec!["tenant-not-allowed".to_owned()], vec![]));
}

/// The server was slow, and not the client.
#[test]
fn a_request_that_arrived_within_the_grace_gets_the_answer_however_late_it_is_looked_for() {
    for at in 0..2 {
        let begun = world::testing::forever(begin());
        let first = begun.refresh(&begun.tokens.refresh_token).unwrap();
        begun.world.advance(Duration::from_secs(GRACE));
        begun.world.interrupt_store(at, || begun.world.advance(Duration::from_secs(60)));
        assert_eq!(begun.refresh(&begun.tokens.refresh_token).map(|again| seen(&again)), Ok(seen(&first)), "{at}");
        assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Reused, "one that is late");
    }
}

/// While a call waits (for Entra ID, for instance), the client's other call gets an answer and uses it.
#[test]
fn a_call_that_saw_its_token_as_the_current_one_ends_nothing_however_late_it_finishes() {
    for (at, passing) in (1..).flat_map(|at| [(at, 0), (at, GRACE + 100)]) {
        let begun = world::testing::forever(begin());
        let newest = Rc::new(std::cell::RefCell::new(None));
        let refreshed = Rc::clone(&newest);
        begun.world.interrupt_store(at, move || {
            if let Ok(first) = begun.refresh(&begun.tokens.refresh_token)
                && let Ok(second) = begun.refresh(&first.refresh_token)
            {
                *refreshed.borrow_mut() = Some(second.refresh_token);
            }
            begun.world.advance(Duration::from_secs(passing));
        });
        let late = begun.refresh(&begun.tokens.refresh_token);
        let Some(newest) = newest.borrow_mut().take() else {
            assert!(at > 5, "a refresh takes that many steps at least");
            break;
        };
        if let Err(error) = late {
            assert_eq!(error, RefreshError::Acquire(StoreError::Contended.into()), "before operation {at}");
        }
        assert!(begun.ended().is_empty(), "before operation {at}");
        assert!(begun.refresh(&newest).is_ok(), "before operation {at}");
    }
}

#[test]
fn without_a_grace_of_two_uses_at_once_one_ends_the_session() {
    let begun = world::testing::forever(begin_without_grace());
    begun.world.interrupt_store(1, || drop(begun.refresh(&begun.tokens.refresh_token)));
    assert_eq!(begun.refresh(&begun.tokens.refresh_token).unwrap_err(), RefreshError::Reused);
}

/// What cannot be read can still be ended.
#[test]
fn the_end_of_a_session_reads_nothing_before_it_removes() {
    let left_after: Vec<bool> = (0..5)
        .map(|failing| {
            let begun = begin();
            begun.world.fail_store(failing);
            let ended = run(lifecycle::end(&begun.env, &begun.id, &owner(), "test"));
            begun.world.heal_store();
            let left = begun.world.record_names().iter().any(|name| name.contains("/session/"));
            assert!(!left || ended.is_err());
            left
        })
        .collect();
    assert_eq!(left_after, [true, true, false, false, false], "the tokens of Entra ID, then the session itself");
}
