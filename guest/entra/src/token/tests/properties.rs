//! What holds for all inputs, not only for those that a test names.

use base::strict_json::parse_object;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use world::testing::run;

use crate::testing::*;
use crate::token::claims::Claims;
use crate::token::jwks::KeySet;
use crate::token::{compact, *};

fn valid_tokens() -> [String; 3] {
    [("RS256", "rsa", "rsa"), ("PS256", "rsa-ps", "rsa"), ("ES256", "p256", "p256")]
        .map(|(algorithm, key_id, key)| sign(&header(algorithm, key_id), &user_claims(), &TestKey::named(key)))
}

fn is_accepted(authority: &FakeAuthority, token: &str) -> bool {
    run(validate_access_token(&authority.env, token, &Requirements::default())).is_ok()
}

/// Few cases where a case is a verification, many where it is not. No files: the seed is in the message.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(strategy, property).unwrap();
}

#[test]
fn every_single_byte_change_of_a_valid_token_is_refused() {
    let authority = FakeAuthority::new();
    for token in valid_tokens() {
        assert!(is_accepted(&authority, &token));
        for at in 0..token.len() {
            // A neighbour in the alphabet changes few bits; that is the change most likely to be overlooked.
            for changed in [token.as_bytes()[at] ^ 1, token.as_bytes()[at] ^ 2, b'.'] {
                let mut bytes = token.clone().into_bytes();
                if bytes[at] == changed {
                    continue;
                }
                bytes[at] = changed;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(!is_accepted(&authority, &changed), "byte {at}: {changed}");
            }
        }
    }
}

#[test]
fn any_single_byte_change_insertion_or_removal_is_refused() {
    let authority = FakeAuthority::new();
    let tokens = valid_tokens();
    let strategy = (0..tokens.len(), any::<prop::sample::Index>(), 0_u8..128, 0_u8..3);
    check(1_000, &strategy, |(which, index, byte, edit)| {
        let mut bytes = tokens[which].clone().into_bytes();
        let at = index.index(bytes.len());
        match edit {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.drain(at..=at)),
        }
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(is_accepted(&authority, &changed), changed == tokens[which]);
        Ok(())
    });
}

#[test]
fn no_text_makes_the_parsers_panic() {
    check(20_000, &any::<String>(), |text| {
        let _ = compact::parse(&text);
        let _ = KeySet::parse(text.as_bytes());
        Ok(())
    });
    check(20_000, &"[-_A-Za-z0-9+/=. ]{0,200}", |text| {
        let _ = compact::parse(&text);
        Ok(())
    });
}

/// JSON that is like what the validator reads, in names and in shape.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!(OBJECT)),
        Just(json!("2.0")),
        Just(json!("RSA")),
        Just(json!("AQAB")),
    ];
    let names = prop::sample::select(vec![
        "alg",
        "kid",
        "typ",
        "crit",
        "iss",
        "aud",
        "exp",
        "nbf",
        "iat",
        "tid",
        "oid",
        "sub",
        "ver",
        "azp",
        "scp",
        "roles",
        "groups",
        "_claim_names",
        "keys",
        "kty",
        "n",
        "e",
        "x",
        "y",
        "crv",
        "use",
        "key_ops",
        "issuer",
    ]);
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(names.clone(), inner, 0..12)
                .prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

#[test]
fn no_json_makes_the_readers_panic() {
    check(5_000, &(json(), json()), |(header, claims)| {
        let _ = compact::parse(&format!("{}.{}.AAAA", encode(header.to_string()), encode(claims.to_string())));
        if let Value::Object(claims) = &claims {
            let _ = Claims::read(claims);
        }
        let _ = KeySet::parse(json!({ "keys": [header, claims] }).to_string().as_bytes());
        Ok(())
    });
}

#[test]
fn the_strict_parser_accepts_what_serde_json_accepts_and_reads_it_alike() {
    check(5_000, &json(), |value| {
        let text = value.to_string();
        let expected = serde_json::from_str::<Value>(&text).unwrap();
        match parse_object(text.as_bytes()) {
            Ok(object) => prop_assert_eq!(Value::Object(object), expected),
            Err(_) => prop_assert!(!expected.is_object()),
        }
        Ok(())
    });
}

#[test]
fn any_claim_replaced_by_anything_is_refused_or_changes_nothing_that_counts() {
    let names: Vec<String> = user_claims().as_object().unwrap().keys().cloned().collect();
    let authority = FakeAuthority::new();
    let key = TestKey::named("p256");
    let identity = ["iss", "tid", "aud", "ver"];
    check(500, &(prop::sample::select(names), json()), |(name, value)| {
        let original = user_claims();
        let mut claims = original.clone();
        claims[&name] = value;
        let token = sign(&header("ES256", "p256"), &claims, &key);
        if is_accepted(&authority, &token) {
            let unchanged = claims[&name] == original[&name];
            prop_assert!(unchanged || !identity.contains(&name.as_str()), "{name}: {}", claims[&name]);
        }
        Ok(())
    });
}
