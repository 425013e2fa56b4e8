//! The device code: what is believed of it, and how it is polled.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::time::Duration;

use world::HttpError;

use super::*;

#[test]
fn a_device_code_without_an_interval_is_polled_every_five_seconds() {
    for code in [without(code(), "interval"), with(code(), "interval", Value::Null)] {
        let code = run(DeviceCode::request(&answering(200, code).entra(), &scopes())).unwrap();
        let (answer, pauses) = poll(&code, &[refused("authorization_pending"), tokens()], Duration::from_secs(60));
        assert!(answer.is_ok());
        assert_eq!(pauses, [5]);
    }
}

#[test]
fn an_older_name_of_the_verification_uri_is_known() {
    let older = with(without(code(), "verification_uri"), "verification_url", json!("https://aka.ms/devicelogin"));
    let code = run(DeviceCode::request(&answering(200, older).entra(), &scopes())).unwrap();
    assert_eq!(code.verification_uri(), "https://aka.ms/devicelogin");
}

#[test]
fn a_device_authorization_response_that_lacks_something_is_malformed() {
    let malformed = OAuthError::Malformed("the device authorization response");
    let mut documents: Vec<Value> =
        ["device_code", "user_code", "verification_uri", "expires_in"].map(|name| without(code(), name)).to_vec();
    documents.push(with(code(), "verification_uri", json!("not a URL")));
    documents.push(with(code(), "interval", json!("5")));
    for document in documents {
        let answer = run(DeviceCode::request(&answering(200, document.clone()).entra(), &scopes()));
        assert_eq!(answer.err(), Some(malformed.clone()), "{document}");
    }
}

/// Polls with these answers in turn; the pauses that were made, in seconds. Answers of an error have status 400.
fn poll(code: &DeviceCode, answers: &[Value], timeout: Duration) -> (Result<TokenSet, OAuthError>, Vec<u64>) {
    let world = World::default();
    for answer in answers {
        let answer = response(if answer.get("error").is_some() { 400 } else { 200 }, answer);
        world.once(move |_| Ok(answer.clone()));
    }
    let (answer, pauses) = poll_in(&world, code, timeout);
    assert_eq!(world.sent().len(), answers.len());
    (answer, pauses)
}

/// The same with answers that the caller has scripted.
fn poll_in(world: &World, code: &DeviceCode, timeout: Duration) -> (Result<TokenSet, OAuthError>, Vec<u64>) {
    let pauses = RefCell::default();
    let pause = |duration: Duration| {
        let pauses: &RefCell<Vec<u64>> = &pauses;
        pauses.borrow_mut().push(duration.as_secs());
        world.advance(duration);
        ready(true)
    };
    let answer = run(code.poll(&world.entra(), timeout, pause));
    (answer, pauses.into_inner())
}

fn stored_code() -> DeviceCode {
    serde_json::from_str(STORED_DEVICE_CODE).unwrap()
}

#[test]
fn slow_down_adds_five_seconds_to_all_later_pauses() {
    let pending = || refused("authorization_pending");
    let slow = || refused("slow_down");
    let answers = [pending(), slow(), pending(), slow(), pending(), tokens()];
    let (answer, pauses) = poll(&stored_code(), &answers, Duration::from_secs(300));
    assert_eq!(answer.unwrap().access_token.reveal(), "access-1");
    assert_eq!(pauses, [5, 10, 10, 15, 15]);
}

#[test]
fn a_person_who_declines_ends_the_polling() {
    for (error, code) in [("access_denied", 65004), ("authorization_declined", 0)] {
        let declined = json!({ "error": error, "error_codes": [code] });
        let (answer, pauses) = poll(&stored_code(), &[declined], Duration::from_secs(300));
        let Err(OAuthError::Refused(refusal)) = answer else { panic!("{answer:?}") };
        assert!(refusal.is_declined());
        assert_eq!((refusal.error.as_str(), refusal.code), (error, code));
        assert_eq!(pauses, [] as [u64; 0]);
    }
}

#[test]
fn a_code_that_entra_calls_expired_is_expired() {
    let answers = [refused("authorization_pending"), refused("expired_token")];
    let (answer, pauses) = poll(&stored_code(), &answers, Duration::from_secs(300));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    assert_eq!(pauses, [5]);
}

#[test]
fn polling_ends_with_the_timeout_and_the_last_poll_is_at_its_end() {
    let world = answering(400, refused("authorization_pending"));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(10));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    // At 0, 5 and 10 seconds; the pause after that ends too late.
    assert_eq!((pauses.as_slice(), world.sent().len()), ([5, 5, 5].as_slice(), 3));
}

#[test]
fn polling_ends_with_the_code_even_if_the_timeout_is_longer() {
    let world = answering(400, refused("authorization_pending"));
    world.advance(Duration::from_secs(895));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    assert_eq!((pauses.as_slice(), world.sent().len()), ([5, 5].as_slice(), 2));
    let (answer, _) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert_eq!((answer.err(), world.sent().len()), (Some(OAuthError::Expired), 2));
}

#[test]
fn a_pause_that_says_stop_ends_the_polling() {
    let world = answering(400, refused("authorization_pending"));
    let asked = Cell::new(0);
    let pause = |_| {
        asked.set(asked.get() + 1);
        ready(asked.get() < 2)
    };
    let answer = run(stored_code().poll(&world.entra(), Duration::from_secs(300), pause));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    assert_eq!((asked.get(), world.sent().len()), (2, 2));
}

#[test]
fn a_poll_that_does_not_arrive_is_repeated_after_twice_the_interval() {
    let world = World::default();
    world.once(|_| Err(HttpError::TimedOut));
    world.once(|_| Err(HttpError::TimedOut));
    world.once(|_| Ok(response(200, &tokens())));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert!(answer.is_ok());
    assert_eq!(pauses, [10, 10]);
}

#[test]
fn a_poll_that_does_not_arrive_never_shortens_the_pauses() {
    let world = World::default();
    for _ in 0..3 {
        world.once(|_| Ok(response(400, &refused("slow_down"))));
    }
    world.once(|_| Err(HttpError::TimedOut));
    world.once(|_| Ok(response(200, &tokens())));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert!(answer.is_ok());
    assert_eq!(pauses, [10, 15, 20, 20]);
}
