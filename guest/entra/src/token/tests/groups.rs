//! Groups that did not fit into the token are asked for, and only when a requirement needs them.

use std::cell::Cell;
use std::rc::Rc;

use async_trait::async_trait;
use base::principal::{Groups, Principal};
use serde_json::json;
use world::once::Failure;
use world::testing::run;

use crate::entra_world::EntraWorld;
use crate::testing::*;
use crate::token::*;

struct Graph {
    answer: Result<Vec<String>, Failure>,
    asked: Cell<u32>,
}

#[async_trait(?Send)]
impl GroupResolver for Graph {
    async fn groups(&self, _: &EntraWorld<'_>, principal: &Principal) -> Result<Vec<String>, Failure> {
        assert_eq!(principal.object_id, OBJECT);
        self.asked.set(self.asked.get() + 1);
        self.answer.clone()
    }
}

fn validate(answer: Result<Vec<String>, Failure>, any_group: &[&str]) -> (Result<ValidatedToken, TokenError>, u32) {
    let authority = FakeAuthority::new();
    let graph = Graph { answer, asked: Cell::new(0) };
    let claims = with(user_claims(), json!({ "hasgroups": true }));
    let token = sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa"));
    let any_group = any_group.iter().map(|group| (*group).to_owned()).collect();
    let needs = Requirements { any_group, ..Requirements::default() };
    let result = run(validate_access_token_with(&authority.env, &token, &needs, Some(&graph)));
    (result.map(Rc::unwrap_or_clone), graph.asked.get())
}

#[test]
fn groups_in_overage_are_asked_for_when_a_group_is_required() {
    let (result, asked) = validate(Ok(vec![GROUP.to_owned()]), &[GROUP]);
    assert!(result.is_ok());
    assert_eq!(asked, 1);
}

#[test]
fn groups_in_overage_are_not_asked_for_without_need() {
    let (result, asked) = validate(Err(Failure::new("never asked")), &[]);
    assert_eq!((result.map(|token| token.principal().groups.clone()), asked), (Ok(Groups::Overage), 0));
}

#[test]
fn a_group_that_graph_does_not_list_is_missing() {
    let (result, _) = validate(Ok(vec![OTHER_TENANT.to_owned()]), &[GROUP]);
    assert_eq!(result, Err(TokenError::GroupsMissing { any_of: vec![GROUP.to_owned()] }));
}

#[test]
fn a_failure_of_graph_is_no_refusal_and_no_acceptance() {
    // The time that Microsoft Graph names reaches the caller, and is never over by then.
    let now = FakeAuthority::new().env.clock.now();
    for (retry_at, retry_after) in [(None, None), (Some(now + 30), Some(30)), (Some(now), Some(1))] {
        let (result, _) = validate(Err(Failure { retry_at, ..Failure::new("throttled") }), &[GROUP]);
        let error = result.unwrap_err();
        let expected = retry_after.map(u64::from);
        assert_eq!(error, TokenError::GroupsUnavailable { reason: "throttled".to_owned(), retry_after: expected });
        assert_eq!((error.status(), error.is_refusal(), error.retry_after_seconds()), (503, false, retry_after));
    }
}
