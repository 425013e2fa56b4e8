//! The life of keys: fetched rarely, shared between instances, rotated, unavailable, poisoned, flooded.
//!
//! Time is the fake clock, and what is asserted are requests, never durations.

use std::time::{Duration, SystemTime};

use base::audit::Outcome;
use serde_json::{Value, json};
use world::http_error::NotConnected;
use world::testing::{CLIENT, START, TENANT, json as response, run};
use world::{HttpError, Patience};

use crate::clock_offset::ClockOffset;
use crate::testing::*;
use crate::token::instance::InstanceCaches;
use crate::token::*;

const HOUR: u64 = 3600;

fn validate(authority: &FakeAuthority, token: &str) -> Result<ValidatedToken, TokenError> {
    run(validate_access_token(&authority.env, token, &Requirements::default()))
}

/// A token that is valid for a week, so that only keys matter.
fn token(key_id: &str, signer: &'static str) -> String {
    token_of(key_id, signer, "subject")
}

fn token_of(key_id: &str, signer: &'static str, subject: &str) -> String {
    let claims = with(user_claims(), json!({ "exp": START + 7 * 24 * HOUR, "sub": subject }));
    sign(&header("RS256", key_id), &claims, &TestKey::named(signer))
}

fn jwk(key_id: &str, name: &'static str) -> Value {
    TestKey::named(name).jwk(key_id)
}

fn advance(authority: &FakeAuthority, seconds: u64) {
    authority.world.advance(Duration::from_secs(seconds));
}

fn reasons(authority: &FakeAuthority) -> Vec<String> {
    let failures = authority.world.audited().into_iter().filter(|event| event.outcome == Outcome::Failure);
    failures.filter_map(|event| event.reason).collect()
}

#[test]
fn metadata_and_keys_are_fetched_once_a_day() {
    let authority = FakeAuthority::new();
    for _ in 0..10 {
        validate(&authority, &token("rsa", "rsa")).unwrap();
        advance(&authority, HOUR);
    }
    let keys = format!("GET {AUTHORITY}/{TENANT}/discovery/v2.0/keys");
    let metadata = format!("GET {AUTHORITY}/{TENANT}/v2.0/.well-known/openid-configuration");
    assert_eq!(authority.world.sent(), [metadata, keys]);
}

#[test]
fn a_new_instance_takes_the_keys_from_the_store() {
    let authority = FakeAuthority::new();
    for _ in 0..10 {
        InstanceCaches::restart();
        validate(&authority, &token("rsa", "rsa")).unwrap();
    }
    assert_eq!(authority.world.sent().len(), 2);
}

#[test]
fn an_instance_that_takes_the_keys_from_the_store_knows_how_wrong_the_clock_is() {
    let authority = FakeAuthority::new();
    for (_, document) in authority.documents.borrow_mut().iter_mut() {
        document.headers_mut().insert("date", "Thu, 01 Jan 2026 00:06:40 GMT".parse().unwrap());
    }
    let later = with(user_claims(), json!({ "nbf": START + 400, "iat": START + 400 }));
    let later = sign(&header("RS256", "rsa"), &later, &TestKey::named("rsa"));
    for _ in 0..2 {
        let error = validate(&authority, &later).unwrap_err();
        assert_eq!(error, TokenError::NotYetValid { seconds_ahead: 400 });
        assert_eq!(error.clock_offset(&authority.env), Some(ClockOffset::Behind(400)));
        forget_instance();
    }
    assert_eq!(authority.world.sent().len(), 2, "the metadata and the keys, once");
}

/// Has all answers of the authority say that it is so many seconds after [`START`].
fn say_time(authority: &FakeAuthority, seconds: u64) {
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(START + seconds));
    for (_, document) in authority.documents.borrow_mut().iter_mut() {
        document.headers_mut().insert("date", date.parse().unwrap());
    }
}

/// A token of this time after [`START`], for an hour.
fn token_from(seconds: u64) -> String {
    let dates = json!({ "nbf": START + seconds, "iat": START + seconds, "exp": START + seconds + HOUR });
    sign(&header("RS256", "rsa"), &with(user_claims(), dates), &TestKey::named("rsa"))
}

#[test]
fn a_clock_that_stood_still_after_the_start_is_named() {
    let authority = FakeAuthority::new();
    say_time(&authority, 0);
    validate(&authority, &token_from(0)).unwrap();
    advance(&authority, 60);
    // The machine has slept for 400 seconds, and so have both of its clocks.
    say_time(&authority, 460);
    for _ in 0..2 {
        let error = validate(&authority, &token_from(460)).unwrap_err();
        assert_eq!(error, TokenError::NotYetValid { seconds_ahead: 400 });
        assert_eq!(error.clock_offset(&authority.env), Some(ClockOffset::Behind(400)));
        assert_eq!(authority.key_requests(), 2, "one look tells it");
    }
}

#[test]
fn a_clock_that_is_set_back_after_the_start_is_named() {
    let authority = FakeAuthority::new();
    advance(&authority, 500);
    say_time(&authority, 500);
    validate(&authority, &token_from(500)).unwrap();
    authority.world.set_back(Duration::from_secs(200));
    let error = validate(&authority, &token_from(500)).unwrap_err();
    assert_eq!(error, TokenError::NotYetValid { seconds_ahead: 200 });
    assert_eq!(error.clock_offset(&authority.env), Some(ClockOffset::Behind(200)));
    assert_eq!(authority.key_requests(), 2);
}

#[test]
fn a_clock_that_ran_ahead_after_the_start_is_named_and_an_expired_token_costs_one_request_in_5_minutes() {
    let authority = FakeAuthority::new();
    say_time(&authority, 0);
    validate(&authority, &token_from(0)).unwrap();
    advance(&authority, HOUR + 100);
    let error = validate(&authority, &token_from(0)).unwrap_err();
    assert_eq!(error, TokenError::Expired { seconds_ago: 100 });
    assert_eq!(error.clock_offset(&authority.env), Some(ClockOffset::Ahead(HOUR + 100)));

    let authority = FakeAuthority::new();
    say_time(&authority, 0);
    validate(&authority, &token_from(0)).unwrap();
    let mut now = HOUR + 100;
    advance(&authority, now);
    for (seconds, requests) in [(31, 2), (200, 2), (69, 2), (31, 3), (31, 3)] {
        say_time(&authority, now);
        let error = validate(&authority, &token_from(0)).unwrap_err();
        assert_eq!(
            (error.clock_offset(&authority.env), authority.key_requests()),
            (None, requests),
            "the clock is right"
        );
        advance(&authority, seconds);
        now += seconds;
    }
}

#[test]
fn keys_are_refreshed_ahead_of_time_and_the_old_ones_serve_if_that_fails() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    advance(&authority, 19 * HOUR);
    validate(&authority, &token("rsa", "rsa")).unwrap();
    assert_eq!(authority.key_requests(), 1, "not due before 80 % of 24 hours");
    advance(&authority, HOUR);
    *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    validate(&authority, &token("rsa", "rsa")).unwrap();
    assert_eq!(authority.key_requests(), 2);
    *authority.outage.borrow_mut() = None;
    advance(&authority, 30);
    validate(&authority, &token("rsa", "rsa")).unwrap();
    assert_eq!(authority.key_requests(), 3);
}

#[test]
fn a_shorter_cache_control_is_honoured_and_a_longer_one_is_not() {
    for (cache_control, fresh_hours) in
        [("max-age=36000", 8), ("private, max-age=36000, must-revalidate", 8), ("max-age=999999999", 19)]
    {
        let authority = FakeAuthority::new();
        let mut keys = response(200, &json!({ "keys": [jwk("rsa", "rsa")] }));
        keys.headers_mut().insert("cache-control", cache_control.parse().unwrap());
        authority.publish("/discovery/v2.0/keys", keys);
        validate(&authority, &token("rsa", "rsa")).unwrap();
        advance(&authority, fresh_hours * HOUR - 1);
        validate(&authority, &token("rsa", "rsa")).unwrap();
        assert_eq!(authority.key_requests(), 1, "{cache_control}");
        advance(&authority, HOUR);
        validate(&authority, &token("rsa", "rsa")).unwrap();
        assert_eq!(authority.key_requests(), 2, "{cache_control}");
    }
}

#[test]
fn keys_that_must_not_be_cached_are_still_fetched_at_most_twice_a_minute() {
    let authority = FakeAuthority::new();
    let mut keys = response(200, &json!({ "keys": [jwk("rsa", "rsa")] }));
    keys.headers_mut().insert("cache-control", "no-store".parse().unwrap());
    authority.publish("/discovery/v2.0/keys", keys);
    for _ in 0..60 {
        validate(&authority, &token("rsa", "rsa")).unwrap();
        advance(&authority, 1);
    }
    assert_eq!(authority.key_requests(), 2);
}

#[test]
fn a_key_that_is_new_in_the_set_is_found_at_once() {
    let authority = FakeAuthority::with_keys(json!([jwk("old", "rsa")]));
    validate(&authority, &token("old", "rsa")).unwrap();
    authority.publish_keys(json!([jwk("old", "rsa"), jwk("new", "rsa-other")]));
    advance(&authority, 30);
    validate(&authority, &token("new", "rsa-other")).unwrap();
    assert_eq!((authority.key_requests(), authority.requests("openid-configuration")), (2, 1));
    // And it is there for every other instance.
    InstanceCaches::restart();
    validate(&authority, &token("new", "rsa-other")).unwrap();
    validate(&authority, &token("old", "rsa")).unwrap();
    assert_eq!(authority.key_requests(), 2);
}

#[test]
fn a_flood_of_unknown_key_ids_costs_one_request_in_30_seconds_whatever_instance_it_meets() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    advance(&authority, 30);
    for second in 0..60 {
        for attempt in 0..20 {
            InstanceCaches::restart();
            let key_id = format!("unknown-{second}-{attempt}");
            let error = validate(&authority, &token(&key_id, "rsa")).unwrap_err();
            assert_eq!(error, TokenError::KeyUnknown { key_id });
        }
        advance(&authority, 1);
    }
    assert_eq!(authority.key_requests(), 1 + 2, "60 s, 1200 tokens");
    validate(&authority, &token("rsa", "rsa")).unwrap();
}

fn id_token(authority: &FakeAuthority, key_id: &str, signer: &'static str) -> Result<ValidatedIdToken, TokenError> {
    let token = sign(&header("RS256", key_id), &id_claims("n"), &TestKey::named(signer));
    run(validate_id_token(&authority.env, &token, &IdTokenExpectations { nonce: Some("n") }))
}

#[test]
fn a_key_that_signs_at_once_does_not_cost_a_sign_in_because_of_a_flood_of_unknown_key_ids() {
    let authority = FakeAuthority::with_keys(json!([jwk("old", "rsa")]));
    validate(&authority, &token("old", "rsa")).unwrap();
    authority.publish_keys(json!([jwk("old", "rsa"), jwk("new", "rsa-other")]));
    advance(&authority, 5);
    // A stranger's token does not cause a fetch so soon, a sign-in does.
    assert!(matches!(validate(&authority, &token("x", "rsa")), Err(TokenError::KeyUnknown { .. })));
    assert_eq!(authority.key_requests(), 1);
    id_token(&authority, "new", "rsa-other").unwrap();
    assert_eq!(authority.key_requests(), 2);
    validate(&authority, &token("new", "rsa-other")).unwrap();
}

#[test]
fn id_tokens_with_unknown_keys_cost_one_request_in_5_seconds() {
    let authority = FakeAuthority::with_keys(json!([jwk("old", "rsa")]));
    id_token(&authority, "old", "rsa").unwrap();
    for _ in 0..20 {
        InstanceCaches::restart();
        assert!(matches!(id_token(&authority, "x", "rsa"), Err(TokenError::KeyUnknown { .. })));
        advance(&authority, 1);
    }
    assert_eq!(authority.key_requests(), 4);
}

#[test]
fn a_flood_of_unknown_key_ids_during_an_outage_costs_no_more() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    advance(&authority, 30);
    *authority.outage.borrow_mut() = Some(HttpError::Connect(NotConnected::Refused));
    for second in 0..60 {
        InstanceCaches::restart();
        let error = validate(&authority, &token(&format!("unknown-{second}"), "rsa")).unwrap_err();
        assert_eq!(error.reason(), "key-unknown");
        advance(&authority, 1);
    }
    assert_eq!(authority.key_requests(), 1 + 2);
}

#[test]
fn the_limit_holds_within_an_instance_that_has_no_working_store() {
    let authority = FakeAuthority::new();
    authority.world.break_store(0);
    validate(&authority, &token("rsa", "rsa")).unwrap();
    advance(&authority, 30);
    for attempt in 0..50 {
        validate(&authority, &token(&format!("unknown-{attempt}"), "rsa")).unwrap_err();
    }
    assert_eq!(authority.key_requests(), 2);
}

#[test]
fn an_outage_is_survived_for_48_hours_and_reported() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    advance(&authority, 48 * HOUR - 1);
    InstanceCaches::restart();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    assert!(authority.world.audited().iter().all(|event| event.name == "signing-keys.refresh"));
    assert_eq!(reasons(&authority), ["openid-metadata-timed-out", "jwks-timed-out"]);
    advance(&authority, 31);
    let error = validate(&authority, &token("rsa", "rsa")).unwrap_err();
    assert_eq!(error.reason(), "keys-unavailable");
    *authority.outage.borrow_mut() = None;
    advance(&authority, 31);
    validate(&authority, &token("rsa", "rsa")).unwrap();
}

#[test]
fn an_outage_before_the_first_keys_is_no_refusal_and_ends_soon() {
    let authority = FakeAuthority::new();
    *authority.outage.borrow_mut() = Some(HttpError::Connect(NotConnected::Refused));
    for _ in 0..10 {
        InstanceCaches::restart();
        let error = validate(&authority, &token("rsa", "rsa")).unwrap_err();
        assert_eq!((error.reason(), error.status(), error.is_refusal()), ("keys-unavailable", 503, false));
    }
    assert_eq!(authority.world.sent().len(), 1, "the next attempt is not due");
    *authority.outage.borrow_mut() = None;
    advance(&authority, 5);
    validate(&authority, &token("rsa", "rsa")).unwrap();
}

#[test]
fn a_bad_key_set_never_replaces_a_good_one() {
    let huge = vec![jwk("x", "rsa"); 500];
    let too_many: Vec<Value> = (0..101).map(|at| json!({ "kty": "RSA", "kid": at.to_string() })).collect();
    for (name, status, body) in [
        ("an error", 500, json!({ "keys": [] })),
        ("a redirect", 302, json!({ "keys": [jwk("evil", "rsa-other")] })),
        ("no keys", 200, json!({ "keys": [] })),
        ("no list", 200, json!({ "keys": {} })),
        ("no set", 200, json!([])),
        ("keys that are no objects", 200, json!({ "keys": [1] })),
        ("no usable key", 200, json!({ "keys": [jwk("weak", "rsa-1024")] })),
        ("too many keys", 200, json!({ "keys": too_many })),
        ("too many bytes", 200, json!({ "keys": huge })),
    ] {
        let authority = FakeAuthority::new();
        validate(&authority, &token("rsa", "rsa")).unwrap();
        authority.publish("/discovery/v2.0/keys", response(status, &body));
        advance(&authority, 25 * HOUR);
        InstanceCaches::restart();
        validate(&authority, &token("rsa", "rsa")).unwrap();
        assert_eq!(authority.key_requests(), 2, "{name}");
        assert_eq!(reasons(&authority).len(), 1, "{name}");
        InstanceCaches::restart();
        advance(&authority, 22 * HOUR);
        validate(&authority, &token("rsa", "rsa")).unwrap();
        authority.publish_keys(json!([jwk("rsa", "rsa")]));
        advance(&authority, 30);
        validate(&authority, &token("rsa", "rsa")).unwrap();
    }
}

#[test]
fn keys_come_from_the_configured_authority_only() {
    for uri in [
        "https://evil.example/keys",
        "http://login.microsoftonline.com/keys",
        "https://login.microsoftonline.com:8443/keys",
        "https://login.microsoftonline.com.evil.example/keys",
        "https://login.microsoftonline.com@evil.example/keys",
        "https://user@login.microsoftonline.com/keys",
        "https://login.windows.net/keys",
        "//evil.example/keys",
        "/keys",
        "file:///etc/keys",
        "",
    ] {
        let authority = FakeAuthority::new();
        let metadata = json!({ "issuer": format!("{AUTHORITY}/{TENANT}/v2.0"), "jwks_uri": uri });
        authority.publish("/v2.0/.well-known/openid-configuration", response(200, &metadata));
        let error = validate(&authority, &token("rsa", "rsa")).unwrap_err();
        assert_eq!(error.reason(), "keys-unavailable", "{uri}");
        assert_eq!(authority.world.sent().len(), 1, "{uri}");
    }
}

#[test]
fn metadata_of_another_tenant_is_refused() {
    let authority = FakeAuthority::new();
    authority.publish_metadata(TENANT, OTHER_TENANT);
    assert_eq!(validate(&authority, &token("rsa", "rsa")).unwrap_err().reason(), "keys-unavailable");
    authority.publish_metadata(TENANT, "{tenantid}");
    advance(&authority, 5);
    assert_eq!(validate(&authority, &token("rsa", "rsa")).unwrap_err().reason(), "keys-unavailable");
}

#[test]
fn a_tenant_that_is_no_path_segment_is_refused_before_anything_is_sent() {
    for tenant in ["", ".", "../common", "a/b", "a?b", "a#b", "a%2fb", "a b"] {
        let mut authority = FakeAuthority::new();
        change(&mut authority.env, |settings| tenant.clone_into(&mut settings.tenant));
        assert_eq!(
            validate(&authority, &token("rsa", "rsa")),
            Err(TokenError::ConfigurationInvalid { setting: "tenant".to_owned() }),
            "{tenant}"
        );
        assert_eq!(authority.world.sent(), [""; 0]);
    }
}

#[test]
fn a_withdrawn_key_ends_the_tokens_that_it_signed() {
    let authority = FakeAuthority::with_keys(json!([jwk("old", "rsa"), jwk("new", "rsa-other")]));
    let (old, new) = (token("old", "rsa"), token("new", "rsa-other"));
    validate(&authority, &old).unwrap();
    validate(&authority, &new).unwrap();
    authority.publish_keys(json!([jwk("new", "rsa-other")]));
    advance(&authority, 20 * HOUR);
    assert_eq!(validate(&authority, &old), Err(TokenError::KeyUnknown { key_id: "old".to_owned() }));
    validate(&authority, &new).unwrap();
}

#[test]
fn a_key_that_another_instance_saw_withdrawn_ends_within_a_minute() {
    let authority = FakeAuthority::with_keys(json!([jwk("old", "rsa"), jwk("new", "rsa-other")]));
    let old = token("old", "rsa");
    validate(&authority, &old).unwrap();
    // Another instance meets an unknown key id, and stores the set without the withdrawn key.
    let kept = InstanceCaches::current(authority.env.settings);
    InstanceCaches::restart();
    authority.publish_keys(json!([jwk("new", "rsa-other")]));
    advance(&authority, 30);
    validate(&authority, &token("unknown", "rsa")).unwrap_err();
    InstanceCaches::replace(authority.env.settings, kept);
    advance(&authority, 60);
    assert_eq!(validate(&authority, &old), Err(TokenError::KeyUnknown { key_id: "old".to_owned() }));
}

#[test]
fn a_key_id_that_changes_hands_does_not_carry_accepted_tokens_over() {
    let authority = FakeAuthority::with_keys(json!([jwk("k", "rsa")]));
    let token = token("k", "rsa");
    validate(&authority, &token).unwrap();
    authority.publish_keys(json!([jwk("k", "rsa-other")]));
    advance(&authority, 20 * HOUR);
    assert_eq!(validate(&authority, &token), Err(TokenError::SignatureInvalid { key_id: "k".to_owned() }));
}

#[test]
fn while_another_instance_fetches_the_old_keys_serve() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    advance(&authority, 20 * HOUR);
    lease(&authority);
    validate(&authority, &token_of("rsa", "rsa", "another")).unwrap();
    assert_eq!(authority.key_requests(), 1);
}

#[test]
fn a_document_that_another_instance_has_just_fetched_is_found() {
    let authority = FakeAuthority::with_keys(json!([jwk("old", "rsa")]));
    validate(&authority, &token("old", "rsa")).unwrap();
    advance(&authority, 30);
    let kept = InstanceCaches::current(authority.env.settings);
    // This instance looks into the store, and in the same second another one fetches the new key.
    validate(&authority, &token_of("old", "rsa", "another")).unwrap();
    advance(&authority, 60);
    validate(&authority, &token("old", "rsa")).unwrap();
    InstanceCaches::restart();
    authority.publish_keys(json!([jwk("old", "rsa"), jwk("new", "rsa-other")]));
    validate(&authority, &token("new", "rsa-other")).unwrap();
    assert_eq!(authority.key_requests(), 2);
    InstanceCaches::replace(authority.env.settings, kept);
    validate(&authority, &token("new", "rsa-other")).unwrap();
    assert_eq!(authority.key_requests(), 2);
}

#[test]
fn an_unknown_key_id_waits_only_briefly_for_another_instances_fetch() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    advance(&authority, 30);
    lease(&authority);
    let before = authority.env.clock.monotonic();
    let error = validate(&authority, &token("unknown", "rsa")).unwrap_err();
    assert_eq!(error.reason(), "key-unknown");
    assert!(authority.env.clock.monotonic() - before <= Duration::from_secs(3));
    assert_eq!(authority.key_requests(), 1);
}

#[test]
fn an_instance_that_died_while_fetching_holds_others_up_for_a_minute_at_most() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    advance(&authority, 20 * HOUR);
    lease(&authority);
    advance(&authority, 60);
    validate(&authority, &token_of("rsa", "rsa", "another")).unwrap();
    assert_eq!(authority.key_requests(), 2);
}

#[test]
fn what_is_in_the_store_is_read_as_strictly_as_what_was_fetched() {
    let authority = FakeAuthority::new();
    validate(&authority, &token("rsa", "rsa")).unwrap();
    for name in authority.world.record_names() {
        for value in [b"".as_slice(), b"{}", b"{}\n{}", b"\xff", b"{\"authority\":\"x\"}\n{\"keys\":[]}"] {
            authority.world.put(&name, value, None).unwrap();
            InstanceCaches::restart();
            // Whatever is made of it, it is no panic and no acceptance of another key.
            let _ = validate(&authority, &token("rsa", "rsa"));
            assert!(validate(&authority, &token("rsa", "rsa-other")).is_err());
        }
    }
}

/// As if another instance had just begun to fetch both documents.
fn lease(authority: &FakeAuthority) {
    let running = json!({ "at": authority.env.clock.now(), "state": "running" }).to_string();
    let names = authority.world.record_names();
    for name in names.iter().filter(|name| !name.contains("-attempt/")) {
        let attempt = name.replacen('/', "-attempt/", 1);
        authority.world.put(&attempt, running.as_bytes(), None).unwrap();
    }
}

#[test]
fn nothing_at_all_among_the_keys_spoils_no_other() {
    let authority = FakeAuthority::with_keys(json!([null, jwk("rsa", "rsa")]));
    validate(&authority, &token("rsa", "rsa")).unwrap();
    let authority = FakeAuthority::with_keys(json!(["key", jwk("rsa", "rsa")]));
    assert!(matches!(validate(&authority, &token("rsa", "rsa")), Err(TokenError::KeysUnavailable { .. })));
}

/// Clients of a server get 503 within five seconds; at a person's machine, a slow network is no reason to give up.
#[test]
fn a_server_without_any_keys_does_not_wait_long_for_them() {
    for (remote, patience) in [(true, Some(Patience(Duration::from_secs(4)))), (false, None)] {
        let mut authority = FakeAuthority::new();
        if remote {
            InstanceCaches::restart();
            authority.env = authority.world.entra_remote();
            change(&mut authority.env, |settings| settings.token.audiences = vec![CLIENT.to_owned()]);
        }
        validate(&authority, &token_for_client()).unwrap();
        assert_eq!(patiences(&authority), [patience, patience]);
        advance(&authority, 20 * HOUR);
        validate(&authority, &token_for_client()).unwrap();
        assert_eq!(patiences(&authority).last(), Some(&None), "what is there serves meanwhile");
    }
}

#[test]
fn the_metadata_and_the_keys_share_the_patience_of_a_server_that_has_neither() {
    // Seconds that the metadata takes, what is left for the keys, and whether the token is judged.
    for (seconds, left, judged) in [(3, Some(1), true), (4, None, false)] {
        let mut authority = FakeAuthority::new();
        authority.env = authority.world.entra_remote();
        change(&mut authority.env, |settings| settings.token.audiences = vec![CLIENT.to_owned()]);
        let (world, metadata) = (authority.world.clone(), authority.documents.borrow()[0].1.clone());
        authority.world.once(move |_| {
            world.advance(Duration::from_secs(seconds));
            Ok(metadata.clone())
        });
        let verdict = validate(&authority, &token_for_client());
        assert_eq!(verdict.is_ok(), judged, "{verdict:?}");
        let patience = |seconds| Some(Patience(Duration::from_secs(seconds)));
        let asked: Vec<_> = [Some(4), left].into_iter().flatten().map(patience).collect();
        assert_eq!(patiences(&authority), asked);
        // The next call has the metadata, and all the time for the keys.
        validate(&authority, &token_for_client()).unwrap();
        assert_eq!(patiences(&authority).get(1), Some(&patience(left.unwrap_or(4))));
    }
}

fn token_for_client() -> String {
    sign(&header("RS256", "rsa"), &with(user_claims(), json!({ "exp": START + 48 * HOUR })), &TestKey::named("rsa"))
}

fn patiences(authority: &FakeAuthority) -> Vec<Option<Patience>> {
    authority.world.sent_with(|request| request.extensions().get().copied())
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_attempts() {
    let authority = FakeAuthority::new();
    advance(&authority, 2 * HOUR);
    *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    assert!(matches!(validate(&authority, &token("rsa", "rsa")), Err(TokenError::KeysUnavailable { .. })));
    *authority.outage.borrow_mut() = None;
    authority.world.set_back(Duration::from_secs(HOUR));
    validate(&authority, &token("rsa", "rsa")).unwrap();
}
