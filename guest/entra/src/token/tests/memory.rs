//! What an instance remembers of tokens: bounded, never beyond expiry, and never more than it should.

use std::time::Duration;

use serde_json::json;
use world::testing::{START, TENANT, run};

use crate::testing::*;
use crate::token::instance::InstanceCaches;
use crate::token::validated::{RefusedSignatures, hash};
use crate::token::*;

fn validate(authority: &FakeAuthority, token: &str) -> Result<ValidatedToken, TokenError> {
    run(validate_access_token(&authority.env, token, &Requirements::default()))
}

fn remembered(authority: &FakeAuthority) -> usize {
    InstanceCaches::current(authority.env.settings).validated.borrow().len()
}

fn token(claims: serde_json::Value) -> String {
    sign(&header("RS256", "rsa"), &with(user_claims(), claims), &TestKey::named("rsa"))
}

#[test]
fn an_accepted_token_is_remembered_until_it_expires() {
    let authority = FakeAuthority::new();
    let token = token(json!({}));
    let first = validate(&authority, &token).unwrap();
    assert_eq!(remembered(&authority), 1);
    authority.world.advance(Duration::from_secs(3599));
    let second = validate(&authority, &token).unwrap();
    assert_eq!((second.principal(), first.is_first_seen(), second.is_first_seen()), (first.principal(), true, false));
    authority.world.advance(Duration::from_secs(1));
    // Within the tolerance it is still accepted, but no longer from memory alone.
    validate(&authority, &token).unwrap();
    authority.world.advance(Duration::from_secs(60));
    assert_eq!(validate(&authority, &token), Err(TokenError::Expired { seconds_ago: 60 }));
    assert_eq!(remembered(&authority), 0);
}

#[test]
fn requirements_are_checked_anew_for_a_remembered_token() {
    let authority = FakeAuthority::new();
    let token = token(json!({}));
    validate(&authority, &token).unwrap();
    let needs = Requirements { all_scopes: vec!["Files.Read".to_owned()], ..Requirements::default() };
    let error = run(validate_access_token(&authority.env, &token, &needs)).unwrap_err();
    assert_eq!(error.reason(), "scopes-missing");
}

#[test]
fn what_was_accepted_under_other_settings_is_not_remembered() {
    let mut authority = FakeAuthority::new();
    let token = token(json!({}));
    validate(&authority, &token).unwrap();
    change(&mut authority.env, |settings| settings.token.audiences = vec![AZP.to_owned()]);
    assert_eq!(validate(&authority, &token).unwrap_err().reason(), "audience-mismatch");
}

#[test]
fn a_token_with_a_good_prefix_is_not_the_remembered_one() {
    let authority = FakeAuthority::new();
    let token = token(json!({}));
    validate(&authority, &token).unwrap();
    assert!(validate(&authority, &token[..token.len() - 1]).is_err());
    assert!(validate(&authority, &format!("{token}A")).is_err());
}

#[test]
fn a_forgotten_token_is_validated_anew() {
    let authority = FakeAuthority::new();
    let token = token(json!({}));
    validate(&authority, &token).unwrap();
    forget(authority.env.settings, &token);
    assert_eq!(remembered(&authority), 0);
    validate(&authority, &token).unwrap();
    assert_eq!(remembered(&authority), 1);
}

#[test]
fn a_claims_challenge_forgets_every_token_of_the_principal_and_no_other() {
    let authority = FakeAuthority::new();
    let other = token(json!({ "oid": OTHER_TENANT }));
    for token in [token(json!({ "uti": "1" })), token(json!({ "uti": "2" })), other] {
        validate(&authority, &token).unwrap();
    }
    assert_eq!(remembered(&authority), 3);
    forget_principal(authority.env.settings, TENANT, OBJECT);
    assert_eq!(remembered(&authority), 1);
}

#[test]
fn refused_tokens_are_not_remembered_except_bad_signatures() {
    let authority = FakeAuthority::new();
    let early = token(json!({ "nbf": START + 100 }));
    assert_eq!(validate(&authority, &early).unwrap_err().reason(), "not-yet-valid");
    authority.world.advance(Duration::from_secs(100));
    validate(&authority, &early).unwrap();

    let forged = sign(&header("RS256", "rsa"), &user_claims(), &TestKey::named("rsa-other"));
    validate(&authority, &forged).unwrap_err();
    let instance = InstanceCaches::current(authority.env.settings);
    assert_eq!(instance.refused.borrow().len(), 1);
    assert_eq!(validate(&authority, &forged).unwrap_err().reason(), "signature-invalid");
}

#[test]
fn bad_signatures_are_remembered_briefly_and_by_key() {
    let (key, other) = ([1; 32], [2; 32]);
    let mut refused = RefusedSignatures::default();
    refused.insert(hash("token"), key, 100);
    assert!(refused.contains(&hash("token"), &key, 129));
    assert!(!refused.contains(&hash("token"), &key, 130));
    assert!(!refused.contains(&hash("token"), &other, 100));
    assert!(!refused.contains(&hash("another"), &key, 100));
}

#[test]
fn a_flood_of_bad_signatures_does_not_grow_the_memory() {
    let mut refused = RefusedSignatures::default();
    for number in 0_u32..10_000 {
        refused.insert(hash(&number.to_string()), [0; 32], 100);
        assert!(refused.len() <= 1_000);
    }
}

#[test]
fn the_memory_of_accepted_tokens_is_bounded_in_number_and_bytes() {
    let authority = FakeAuthority::new();
    let validated = |claims| std::rc::Rc::new(validate(&authority, &token(claims)).unwrap());
    let small = validated(json!({}));
    let groups: Vec<String> = (0..150).map(|_| GROUP.to_owned()).collect();
    let large = validated(json!({ "groups": groups }));
    let instance = InstanceCaches::current(authority.env.settings);
    let mut memory = instance.validated.borrow_mut();
    for number in 0_u32..12_000 {
        memory.insert(hash(&number.to_string()), std::rc::Rc::clone(&small));
        assert!(memory.len() <= 10_000 && memory.size() <= 8 * 1024 * 1024);
    }
    assert_eq!(memory.len(), 10_000, "small tokens meet the limit of entries");
    assert!(memory.get(&hash("1999"), START).is_none(), "the oldest went first");
    assert!(memory.get(&hash("11999"), START).is_some());
    for number in 0_u32..12_000 {
        memory.insert(hash(&format!("large {number}")), std::rc::Rc::clone(&large));
        assert!(memory.len() <= 10_000 && memory.size() <= 8 * 1024 * 1024);
    }
    assert!(memory.len() < 2_000, "large tokens meet the limit of bytes: {}", memory.len());
}

#[test]
fn a_token_that_is_inserted_and_removed_for_ever_leaves_nothing_behind() {
    let authority = FakeAuthority::new();
    let validated = std::rc::Rc::new(validate(&authority, &token(json!({}))).unwrap());
    let instance = InstanceCaches::current(authority.env.settings);
    let mut memory = instance.validated.borrow_mut();
    for _ in 0..50_000 {
        memory.insert(hash("x"), std::rc::Rc::clone(&validated));
        memory.remove(&hash("x"));
    }
    assert!(memory.places() <= 20_001);
    assert_eq!((memory.len(), memory.size() > 0), (1, true), "the control's own token is still there");
}
