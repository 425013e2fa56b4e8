//! Keys that the caller hands in: the same verdicts, and nothing is fetched, stored or mixed up.

use serde_json::{Value, json};
use world::testing::{CLIENT, TENANT, run};

use crate::clouds::CONSUMER_TENANT;
use crate::testing::*;
use crate::token::*;

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn token(claims: &Value, key: &'static str) -> String {
    sign(&header("RS256", "rsa"), claims, &TestKey::named(key))
}

fn judge(authority: &FakeAuthority, token: &str, jwks: &str) -> Result<String, TokenError> {
    let keys = GivenKeys::new(authority.env.settings, jwks)?;
    let judged = run(validate_access_token_by_keys(&authority.env, token, &Requirements::default(), &keys));
    judged.map(|validated| validated.principal().object_id.clone())
}

#[test]
fn a_token_is_accepted_by_given_keys_without_a_request_or_a_record() {
    let authority = FakeAuthority::new();
    let jwks = key_set(&[TestKey::named("rsa").jwk("rsa")]);
    for claims in [user_claims(), app_claims(), version_1_user_claims()] {
        assert_eq!(judge(&authority, &token(&claims, "rsa"), &jwks), Ok(OBJECT.to_owned()));
    }
    assert_eq!(authority.world.sent(), [""; 0]);
    assert_eq!(authority.world.store_operations(), 0);
}

#[test]
fn only_the_keys_of_the_call_count() {
    let authority = FakeAuthority::new();
    let good = token(&user_claims(), "rsa");
    let forged = token(&user_claims(), "rsa-other");
    let (jwks, others) =
        (key_set(&[TestKey::named("rsa").jwk("rsa")]), key_set(&[TestKey::named("rsa-other").jwk("rsa")]));
    let invalid = Err(TokenError::SignatureInvalid { key_id: "rsa".to_owned() });
    for _ in 0..2 {
        assert_eq!(judge(&authority, &good, &jwks), Ok(OBJECT.to_owned()));
        assert_eq!(judge(&authority, &forged, &jwks), invalid);
        assert_eq!(judge(&authority, &good, &others), invalid);
        assert_eq!(judge(&authority, &forged, &others), Ok(OBJECT.to_owned()));
    }
    let unknown = key_set(&[TestKey::named("rsa").jwk("another")]);
    assert_eq!(judge(&authority, &good, &unknown), Err(TokenError::KeyUnknown { key_id: "rsa".to_owned() }));
}

#[test]
fn given_keys_never_count_as_the_authoritys() {
    let authority = FakeAuthority::new();
    let forged = token(&user_claims(), "rsa-other");
    let others = key_set(&[TestKey::named("rsa-other").jwk("rsa")]);
    assert_eq!(judge(&authority, &forged, &others), Ok(OBJECT.to_owned()));
    let judged = run(validate_access_token(&authority.env, &forged, &Requirements::default()));
    assert_eq!(judged, Err(TokenError::SignatureInvalid { key_id: "rsa".to_owned() }));
    assert_eq!(authority.key_requests(), 1);
}

#[test]
fn what_only_the_authority_can_say_is_not_made_up() {
    let jwks = key_set(&[TestKey::named("rsa").jwk("rsa")]);
    let mut authority = FakeAuthority::new();
    change(&mut authority.env, |settings| settings.tenant = "contoso.com".to_owned());
    let wrong = TokenError::ConfigurationInvalid { setting: "tenant".to_owned() };
    assert_eq!(judge(&authority, &token(&user_claims(), "rsa"), &jwks), Err(wrong));

    let mut authority = FakeAuthority::new();
    change(&mut authority.env, |settings| settings.authority = "https://login.example".to_owned());
    let unknown_cloud = judge(&authority, &token(&version_1_user_claims(), "rsa"), &jwks).expect_err("refused");
    assert_eq!(unknown_cloud.reason(), "keys-unavailable");
}

#[test]
fn a_key_set_that_is_none_is_no_verdict() {
    let authority = FakeAuthority::new();
    let good = token(&user_claims(), "rsa");
    for jwks in ["", "[]", r#"{"keys":[]}"#, r#"{"keys":1}"#] {
        let error = judge(&authority, &good, jwks).expect_err("no verdict");
        assert_eq!((error.reason(), error.is_refusal()), ("keys-unavailable", false), "{jwks}");
    }
    let jwks = key_set(&[TestKey::named("rsa").jwk("rsa")]);
    assert_eq!(judge(&authority, &good, &jwks), Ok(OBJECT.to_owned()), "the next key set counts at once");
}

#[test]
fn several_tenants_share_a_key_set() {
    let jwks = key_set(&[TestKey::named("rsa").jwk("rsa")]);
    for (tenant, allowed) in [("organizations", TENANT), ("common", TENANT), ("consumers", CONSUMER_TENANT)] {
        let mut authority = FakeAuthority::new();
        change(&mut authority.env, |settings| {
            settings.tenant = tenant.to_owned();
            settings.token.allowed_tenants = vec![allowed.to_owned()];
            settings.token.audiences = vec![CLIENT.to_owned()];
        });
        let claims = with(user_claims(), json!({ "tid": allowed, "iss": format!("{AUTHORITY}/{allowed}/v2.0") }));
        assert_eq!(judge(&authority, &token(&claims, "rsa"), &jwks), Ok(OBJECT.to_owned()), "{tenant}");
        let strangers =
            with(user_claims(), json!({ "tid": OTHER_TENANT, "iss": format!("{AUTHORITY}/{OTHER_TENANT}/v2.0") }));
        let judged = judge(&authority, &token(&strangers, "rsa"), &jwks).expect_err("refused");
        assert_eq!(judged.reason(), "tenant-not-allowed", "{tenant}");
    }
}
