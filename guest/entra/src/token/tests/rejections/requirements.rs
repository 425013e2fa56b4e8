//! Step 12: what a single call requires.

use base::principal::CallerKind;
use serde_json::json;
use world::testing::CLIENT;

use super::*;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn scopes(name: &'static str, required: &[&str], missing: &[&str]) -> Case {
    let (required, missing) = (texts(required), texts(missing));
    let needs = Requirements { all_scopes: required.clone(), ..Requirements::default() };
    Case::claims(name, json!({}), TokenError::ScopesMissing { required, missing }).needs(needs)
}

fn roles(name: &'static str, has: Value, any_of: &[&str]) -> Case {
    let any_of = texts(any_of);
    let needs = Requirements { any_role: any_of.clone(), ..Requirements::default() };
    Case::claims(name, json!({ "roles": has }), TokenError::RolesMissing { any_of }).needs(needs)
}

fn groups(name: &'static str, changes: Value, expected: TokenError) -> Case {
    Case::claims(name, changes, expected).needs(Requirements { any_group: texts(&[GROUP]), ..Requirements::default() })
}

pub(super) fn cases() -> Vec<Case> {
    let no_group = || TokenError::GroupsMissing { any_of: texts(&[GROUP]) };
    let unresolved = || TokenError::GroupsUnavailable {
        reason: "the token's groups are in overage and nothing resolves them".to_owned(),
        retry_after: None,
    };
    let kind = |required| Requirements { kind: Some(required), ..Requirements::default() };
    vec![
        scopes("a scope is missing", &["Files.Read"], &["Files.Read"]),
        scopes("one scope of two is missing", &["User.Read", "Files.Read"], &["Files.Read"]),
        scopes("a scope in another case", &["user.read"], &["user.read"]),
        scopes("a scope that begins alike", &["User.ReadWrite"], &["User.ReadWrite"]),
        scopes("a scope that is a prefix", &["User"], &["User"]),
        scopes("a scope in its long form", &["api://x/User.Read"], &["api://x/User.Read"]),
        scopes("two scopes in one", &["User.Read Mail.Read"], &["User.Read Mail.Read"]),
        scopes("an empty scope", &[""], &[""]),
        Case::new(
            "an application has no scopes",
            rs256(&app_claims()),
            TokenError::ScopesMissing { required: texts(&["User.Read"]), missing: texts(&["User.Read"]) },
        )
        .needs(Requirements { all_scopes: texts(&["User.Read"]), ..Requirements::default() }),
        roles("no role at all", json!([]), &["Admin"]),
        roles("none of the roles", json!(["Reader"]), &["Admin", "Owner"]),
        roles("a role in another case", json!(["admin"]), &["Admin"]),
        roles("a scope is not a role", json!([]), &["User.Read"]),
        Case::claims(
            "an application is required",
            json!({}),
            TokenError::PrincipalKindMismatch { required: CallerKind::App, actual: CallerKind::User },
        )
        .needs(kind(CallerKind::App)),
        Case::new(
            "a person is required",
            rs256(&app_claims()),
            TokenError::PrincipalKindMismatch { required: CallerKind::User, actual: CallerKind::App },
        )
        .needs(kind(CallerKind::User)),
        Case::claims(
            "the token of an agent on behalf of a person, where one of a person is required",
            json!({ "xms_act_fct": "11" }),
            TokenError::PrincipalKindMismatch { required: CallerKind::User, actual: CallerKind::Agent },
        )
        .needs(kind(CallerKind::User)),
        Case::claims(
            "the token of a person, where one of an agent is required, whatever blueprint it names",
            json!({ "xms_par_app_azp": "30cf4c22-9985-4ef7-8756-91cc888176bd" }),
            TokenError::PrincipalKindMismatch { required: CallerKind::Agent, actual: CallerKind::User },
        )
        .needs(kind(CallerKind::Agent)),
        Case::claims(
            "another application is required",
            json!({}),
            TokenError::ClientNotAllowed { expected: texts(&[CLIENT]), actual: AZP.to_owned() },
        )
        .needs(Requirements { any_client: texts(&[CLIENT]), ..Requirements::default() }),
        Case::claims(
            "another application is required, in upper case",
            json!({}),
            TokenError::ClientNotAllowed { expected: vec![AZP.to_uppercase()], actual: AZP.to_owned() },
        )
        .needs(Requirements { any_client: vec![AZP.to_uppercase()], ..Requirements::default() }),
        groups("no groups at all", json!({}), no_group()),
        groups("an empty list of groups", json!({ "groups": [] }), no_group()),
        groups("another group", json!({ "groups": [OTHER_TENANT] }), no_group()),
        groups("a group in upper case", json!({ "groups": [GROUP.to_uppercase()] }), no_group()),
        groups("groups in overage that no request resolves", json!({ "hasgroups": true }), unresolved()),
        groups("a list beside an overage", json!({ "hasgroups": true, "groups": [GROUP] }), unresolved()),
    ]
}
