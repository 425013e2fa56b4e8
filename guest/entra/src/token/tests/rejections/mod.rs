//! The rejection table: tokens with one fault each, otherwise valid, and the exact error each is refused with.
//!
//! A case starts from the valid controls of `controls.rs` and changes one thing. Files follow the steps of
//! `validation.rs`.

mod claims;
mod form;
mod header;
mod keys;
mod policy;
mod requirements;

use std::collections::HashSet;

use serde_json::Value;
use world::testing::run;

use crate::testing::*;
use crate::token::*;

/// A token with one fault.
struct Case {
    name: &'static str,
    token: String,
    /// What differs from the authority of the controls.
    setup: Box<dyn Fn(&mut FakeAuthority)>,
    needs: Requirements,
    expected: TokenError,
}

impl Case {
    fn new(name: &'static str, token: String, expected: TokenError) -> Self {
        Self { name, token, setup: Box::new(|_| {}), needs: Requirements::default(), expected }
    }

    /// The user's token with other claims (null removes one).
    fn claims(name: &'static str, changes: Value, expected: TokenError) -> Self {
        Self::new(name, rs256(&with(user_claims(), changes)), expected)
    }

    /// The user's token with other header parameters (null removes one).
    fn header(name: &'static str, changes: Value, expected: TokenError) -> Self {
        let header = with(header("RS256", "rsa"), changes);
        let token = sign_text(&header.to_string(), &user_claims().to_string(), "RS256", &TestKey::named("rsa"));
        Self::new(name, token, expected)
    }

    fn setup(mut self, setup: impl Fn(&mut FakeAuthority) + 'static) -> Self {
        self.setup = Box::new(setup);
        self
    }

    fn needs(mut self, needs: Requirements) -> Self {
        self.needs = needs;
        self
    }

    fn run(&self) -> (Result<ValidatedToken, TokenError>, FakeAuthority) {
        let mut authority = FakeAuthority::new();
        (self.setup)(&mut authority);
        (run(validate_access_token(&authority.env, &self.token, &self.needs)), authority)
    }
}

/// A token as Entra ID signs it.
fn rs256(claims: &Value) -> String {
    sign(&header("RS256", "rsa"), claims, &TestKey::named("rsa"))
}

fn check(cases: &[Case]) {
    for case in cases {
        assert_eq!(case.run().0.as_ref(), Err(&case.expected), "{}", case.name);
    }
}

#[test]
fn tokens_of_a_wrong_form_are_refused_before_any_key_is_touched() {
    for case in form::cases().iter().chain(&header::cases()) {
        let (result, authority) = case.run();
        assert_eq!(result.as_ref(), Err(&case.expected), "{}", case.name);
        assert_eq!(authority.world.sent(), [""; 0], "{}", case.name);
    }
}

#[test]
fn tokens_with_wrong_claims_are_refused() {
    check(&claims::cases());
}

#[test]
fn tokens_that_are_not_for_us_are_refused() {
    check(&policy::cases());
}

#[test]
fn tokens_signed_with_the_wrong_key_are_refused() {
    check(&keys::cases());
}

#[test]
fn tokens_that_are_not_sufficient_are_refused() {
    check(&requirements::cases());
}

#[test]
fn the_verdict_by_the_same_keys_handed_in_is_the_same() {
    for case in form::cases().iter().chain(&header::cases()).chain(&claims::cases()) {
        let mut authority = FakeAuthority::new();
        (case.setup)(&mut authority);
        let documents = authority.documents.borrow();
        let (_, jwks) = documents.iter().find(|(end, _)| end.ends_with("/keys")).unwrap();
        let keys = GivenKeys::new(authority.env.settings, str::from_utf8(jwks.body()).unwrap()).unwrap();
        let judged = run(validate_access_token_by_keys(&authority.env, &case.token, &case.needs, &keys));
        assert_eq!(judged.as_ref().err(), Some(&case.expected), "{}", case.name);
    }
}

#[test]
fn the_table_has_at_least_150_different_cases() {
    let cases: Vec<Case> =
        [form::cases(), header::cases(), claims::cases(), policy::cases(), keys::cases(), requirements::cases()]
            .into_iter()
            .flatten()
            .collect();
    let names: HashSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");
    assert!(cases.len() >= 150, "{}", cases.len());
}

#[test]
fn no_refusal_shows_its_evidence_to_the_client() {
    for case in claims::cases().iter().chain(&policy::cases()).chain(&keys::cases()) {
        let text = case.expected.public_text();
        assert!(
            matches!(text, "the access token is not valid for this server" | "the access token has expired")
                || matches!(case.expected, TokenError::KeyBound { .. })
                    && text.starts_with("the access token is bound to"),
            "{}: {text}",
            case.name
        );
    }
}
