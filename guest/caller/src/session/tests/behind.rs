//! The tokens of Entra ID behind a session: when they are refreshed, and what a refusal of them means.

use super::*;

#[test]
fn the_entra_token_is_refreshed_before_its_end_and_stored() {
    let begun = begin();
    assert_eq!(begun.live(None).unwrap(), "entra-1");
    begun.grow_old();
    assert_eq!(begun.live(None).unwrap(), "entra-2");
    assert_eq!(begun.live(None).unwrap(), "entra-2");
    assert_eq!(begun.world.sent().len(), 1);
    assert!(!begun.world.record_names().contains(&begun.lease_record()), "the lease is given back");
}

#[test]
fn a_refused_token_is_not_given_again() {
    let begun = begin();
    begun.grow_old();
    let challenge =
        GraphChallenge { refused: Secret::from("entra-1"), claims: Some("{\"access_token\":{}}".to_owned()) };
    assert_eq!(begun.live(Some(&challenge)).unwrap(), "entra-2");
    assert_eq!(begun.live(Some(&challenge)).unwrap(), "entra-2", "whatever else is there may be used");
}

#[test]
fn a_call_that_waits_for_another_refresh_takes_its_result() {
    let begun = Rc::new(begin());
    begun.grow_old();
    begun.world.put(&begun.lease_record(), b"another", Some(Duration::from_secs(70))).unwrap();
    let other = Rc::clone(&begun);
    // The call's first look, its try for the lease, its next look.
    begun.world.interrupt_store(2, move || {
        let record = json!({
            "tokens": { "access_token": "others", "expires_at": other.env.clock.now() + 4000, "refresh_token": "r" },
            "ends_at": other.env.clock.now() + 4000,
        });
        other.world.put(&other.entra_record(), record.to_string().as_bytes(), None).unwrap();
    });
    assert_eq!(begun.live(None).unwrap(), "others");
    assert!(begun.world.sent().is_empty());
}

#[test]
fn a_call_that_went_away_with_the_lease_holds_the_others_up_for_ten_seconds_only() {
    let begun = begin();
    begun.grow_old();
    begun.world.put(&begun.lease_record(), b"another", None).unwrap();
    let before = begun.world.elapsed();
    assert_eq!(begun.live(None).unwrap(), "entra-2");
    assert_eq!(begun.world.elapsed() - before, Duration::from_secs(10));
    assert!(!begun.world.record_names().contains(&begun.lease_record()), "the lease was taken over and given back");
}

/// Whatever Entra ID answers to a refresh, a session that was ended meanwhile stays so.
#[test]
fn an_answer_of_entra_does_not_bring_an_ended_session_back() {
    for status in [200, 400, 503] {
        let begun = Rc::new(begin());
        begun.world.advance(Duration::from_secs(ENTRA_LIFETIME));
        let other = Rc::clone(&begun);
        begun.world.always(move |_| {
            run(lifecycle::end(&other.env, &other.id, &owner(), "revoked-by-client")).unwrap();
            Ok(match status {
                200 => fresh(2),
                status => testing::json(status, &json!({ "error": "invalid_grant" })),
            })
        });
        let answered = begun.live(None);
        assert!(answered.is_err(), "{status}");
        assert!(is_over(begun.live(None)));
        assert_eq!(begun.world.record_names(), [""; 0], "{status}");
    }
}

#[test]
fn a_refusal_of_a_token_that_another_call_has_replaced_means_nothing() {
    let begun = Rc::new(begin());
    begun.world.advance(Duration::from_secs(ENTRA_LIFETIME));
    let other = Rc::clone(&begun);
    begun.world.once(move |_| {
        let record = json!({
            "tokens": { "access_token": "others", "expires_at": other.env.clock.now() + 4000, "refresh_token": "r" },
            "ends_at": other.env.clock.now() + 4000,
        });
        other.world.put(&other.entra_record(), record.to_string().as_bytes(), None).unwrap();
        Ok(testing::json(400, &json!({ "error": "invalid_grant", "error_codes": [70000] })))
    });
    assert_eq!(begun.live(None).unwrap(), "others");
    assert!(begun.authenticate(&begun.tokens.access_token).is_err_and(|error| error == SessionError::Expired));
    assert_eq!(begun.ended(), [""; 0]);
}

/// The same at every moment: the session ends, or has the new tokens.
#[test]
fn a_session_never_ends_with_tokens_that_another_call_has_stored() {
    let mut replaced = 0;
    for at in 0..12 {
        let begun = Rc::new(begin());
        begun.world.advance(Duration::from_secs(ENTRA_LIFETIME));
        begun.world.always(|_| Ok(testing::json(400, &json!({ "error": "invalid_grant", "error_codes": [50173] }))));
        let (other, stored) = (Rc::clone(&begun), Rc::new(std::cell::Cell::new(false)));
        let stores = Rc::clone(&stored);
        begun.world.interrupt_store(at, move || {
            let before = other.world.get(&other.entra_record()).unwrap();
            // As every refresh does: only in the place of what it was made from.
            if let Some(before) = before.filter(|raw| String::from_utf8_lossy(raw.reveal()).contains("entra-1")) {
                let record = json!({
                    "tokens": { "access_token": "others", "expires_at": other.env.clock.now() + 4000, "refresh_token": "r" },
                    "ends_at": other.env.clock.now() + 4000,
                })
                .to_string();
                let (record, expected) = (record.into_bytes(), before.reveal().as_slice());
                let swapped = other.world.compare_and_swap(&other.entra_record(), Some(expected), &record, None);
                stores.set(swapped.unwrap());
            }
        });
        let answered = begun.live(None);
        if stored.get() {
            replaced += 1;
            assert_eq!((answered, begun.ended()), (Ok("others".to_owned()), vec![]), "before operation {at}");
        } else {
            assert!(is_over(answered));
            assert_eq!((begun.ended().len(), begun.world.record_names()), (1, vec![]), "before operation {at}");
        }
    }
    assert!(replaced > 3);
}

#[test]
fn a_refusal_of_the_person_by_entra_ends_the_session() {
    let begun = begin();
    begun.world.advance(Duration::from_secs(ENTRA_LIFETIME));
    begun.world.always(|_| Ok(testing::json(400, &json!({ "error": "invalid_grant", "error_codes": [50173] }))));
    let Err(AcquireError::NeedsPerson { reason, .. }) = begun.live(None) else { panic!() };
    assert_eq!(reason, "The session has ended: sign in again. (AADSTS50173)");
    assert_eq!((begun.ended(), begun.world.record_names()), (vec!["aadsts-50173".to_owned()], vec![]));
}

#[test]
fn a_token_that_is_still_good_is_used_while_entra_is_out_of_reach() {
    let begun = begin();
    begun.world.advance(Duration::from_secs(ENTRA_LIFETIME - 100));
    begun.world.always(|_| Ok(testing::json(503, &json!({}))));
    assert_eq!(begun.live(None).unwrap(), "entra-1");
    begun.world.advance(Duration::from_secs(100));
    assert_eq!(begun.live(None), Err(AcquireError::Unavailable(OAuthError::ServerError(503))));
    assert_eq!(begun.ended(), [""; 0]);
}

#[test]
fn a_session_without_a_way_to_a_new_token_ends_with_the_old_one() {
    let begun = begin_with(None);
    begun.world.advance(Duration::from_secs(ENTRA_LIFETIME - 1));
    assert_eq!(begun.live(None).unwrap(), "entra-1");
    begun.world.advance(Duration::from_secs(1));
    assert!(is_over(begun.live(None)));
    assert_eq!((begun.ended(), begun.world.record_names()), (vec!["no-refresh-token".to_owned()], vec![]));
}
