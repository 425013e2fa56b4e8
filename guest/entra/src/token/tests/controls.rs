//! Valid tokens in every form that Entra ID issues. The rejection table is worth something only beside these.

use base::principal::{AgentRole, CallerKind, Groups, Principal, PrincipalKind};
use serde_json::{Value, json};
use world::testing::{CLIENT, START, TENANT, run};

use crate::clouds::CONSUMER_TENANT;
use crate::testing::*;
use crate::token::*;

fn accept(authority: &FakeAuthority, token: &str) -> Principal {
    run(validate_access_token(&authority.env, token, &Requirements::default())).unwrap().principal().clone()
}

fn accept_claims(claims: Value) -> Principal {
    accept(&FakeAuthority::new(), &sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa")))
}

#[test]
fn a_users_version_2_token_is_accepted() {
    assert_eq!(
        accept_claims(user_claims()),
        Principal {
            tenant_id: TENANT.to_owned(),
            object_id: OBJECT.to_owned(),
            subject: "pairwise-subject".to_owned(),
            client_id: AZP.to_owned(),
            kind: PrincipalKind::User,
            scopes: vec!["User.Read".to_owned(), "Mail.Read".to_owned()],
            roles: Vec::new(),
            groups: Groups::Absent,
            issued_at: START,
            expires_at: START + 3600,
            guest: false,
            agent: None,
            contexts: Vec::new(),
            token_version: 2,
            token_id: Some("opaque".to_owned()),
        }
    );
}

#[test]
fn a_users_version_1_token_is_accepted() {
    let principal = accept_claims(version_1_user_claims());
    assert_eq!((principal.token_version, principal.client_id.as_str()), (1, AZP));
    accept_claims(with(version_1_user_claims(), json!({ "aud": CLIENT })));
}

#[test]
fn an_app_only_token_is_accepted() {
    let principal = accept_claims(app_claims());
    assert_eq!(principal.kind, PrincipalKind::App);
    assert_eq!((principal.scopes.len(), principal.roles.as_slice()), (0, ["Files.Read.All".to_owned()].as_slice()));
    // Without the optional claim `idtyp`, the subject tells.
    assert_eq!(accept_claims(with(app_claims(), json!({"idtyp": null}))).kind, PrincipalKind::App);
    let version_1 = with(version_1_user_claims(), json!({"scp": null, "roles": ["R"], "sub": OBJECT}));
    assert_eq!(accept_claims(version_1).kind, PrincipalKind::App);
}

#[test]
fn an_agents_token_is_one_of_an_agent_by_its_facets_and_never_by_its_blueprint() {
    const BLUEPRINT: &str = "30cf4c22-9985-4ef7-8756-91cc888176bd";
    let kind = |claims, actor, subject| {
        let agent = json!({ "xms_act_fct": actor, "xms_sub_fct": subject, "xms_par_app_azp": BLUEPRINT });
        let principal = accept_claims(with(claims, agent));
        (principal.caller_kind(), principal.agent, principal.kind)
    };
    let agent = |role, kind| (CallerKind::Agent, Some(role), kind);
    let (user, app) = (PrincipalKind::User, PrincipalKind::App);
    assert_eq!(kind(user_claims(), "11 3", "3"), agent(AgentRole::OnBehalfOfUser, user));
    assert_eq!(kind(app_claims(), "3 11", "11"), agent(AgentRole::Autonomous, app));
    assert_eq!(kind(user_claims(), "11", "13"), agent(AgentRole::AgentUser, user));
    assert_eq!(kind(user_claims(), "3", "3"), (CallerKind::User, None, user));
    assert_eq!(kind(app_claims(), "3", "3"), (CallerKind::App, None, app));
}

#[test]
fn a_token_names_the_authentication_contexts_that_its_sign_in_has_satisfied() {
    let contexts = |acrs: Value| accept_claims(with(user_claims(), json!({ "acrs": acrs }))).contexts;
    assert_eq!(contexts(json!(["c1", "urn:user:registersecurityinfo"])), ["c1", "urn:user:registersecurityinfo"]);
    assert_eq!(contexts(json!("c1")), ["c1"]);
    // What cannot be read permits nothing, and is no reason to refuse the token.
    assert_eq!(contexts(json!([1, "c2"])), ["c2"]);
    for nothing in [json!(null), json!([]), json!(1), json!({ "c1": true })] {
        assert_eq!(contexts(nothing.clone()), [""; 0], "{nothing}");
    }
}

#[test]
fn a_user_may_have_roles_as_well() {
    let principal = accept_claims(with(user_claims(), json!({"roles": ["Admin"], "idtyp": "user"})));
    assert_eq!((principal.kind, principal.roles), (PrincipalKind::User, vec!["Admin".to_owned()]));
}

#[test]
fn a_guest_is_marked() {
    for (changes, guest) in [
        (json!({"idp": format!("https://sts.windows.net/{OTHER_TENANT}/")}), true),
        (json!({"idp": "live.com"}), true),
        (json!({"acct": 1}), true),
        (json!({"acct": 0}), false),
        // A member whose home is another tenant, and a guest whose home is this one.
        (json!({"acct": 0, "idp": format!("https://sts.windows.net/{OTHER_TENANT}/")}), false),
        (json!({"acct": 1, "idp": format!("https://sts.windows.net/{TENANT}/")}), true),
        (json!({"acct": 2, "idp": "live.com"}), true),
        (json!({"idp": format!("https://sts.windows.net/{TENANT}/")}), false),
        (json!({"idp": format!("{AUTHORITY}/{TENANT}/v2.0")}), false),
    ] {
        assert_eq!(accept_claims(with(user_claims(), changes.clone())).guest, guest, "{changes}");
    }
}

#[test]
fn groups_are_listed_or_in_overage() {
    let groups = |changes| accept_claims(with(user_claims(), changes)).groups;
    assert_eq!(groups(json!({"groups": [GROUP]})), Groups::Listed(vec![GROUP.to_owned()]));
    let sources = json!({"src1": {"endpoint": "https://graph.windows.net/evil"}});
    let overage = json!({"_claim_names": {"groups": "src1"}, "_claim_sources": sources});
    assert_eq!(groups(overage), Groups::Overage);
    assert_eq!(groups(json!({"hasgroups": true})), Groups::Overage);
    assert_eq!(groups(json!({"_claim_names": {"other": "src1"}})), Groups::Absent);
}

#[test]
fn every_allowed_algorithm_is_accepted() {
    let authority = FakeAuthority::new();
    for (algorithm, key_id, key) in [("RS256", "rsa", "rsa"), ("PS256", "rsa-ps", "rsa"), ("ES256", "p256", "p256")] {
        accept(&authority, &sign(&header(algorithm, key_id), &user_claims(), &TestKey::named(key)));
    }
}

#[test]
fn keys_of_every_allowed_size_and_exponent_are_accepted() {
    let sizes = ["rsa", "rsa-2050", "rsa-2056", "rsa-3072", "rsa-4096", "rsa-8192"];
    for name in sizes.into_iter().chain(["rsa-e65539", "rsa-e-max"]) {
        let key = TestKey::named(name);
        for algorithm in ["RS256", "PS256"] {
            let authority = FakeAuthority::with_keys(json!([with(key.jwk("k"), json!({ "alg": algorithm }))]));
            accept(&authority, &sign(&header(algorithm, "k"), &user_claims(), &key));
        }
    }
}

#[test]
fn the_header_may_have_more_than_is_needed() {
    let key = TestKey::named("rsa");
    for changes in [
        json!({"typ": null}),
        json!({"typ": "jwt"}),
        json!({"typ": "at+jwt"}),
        json!({"x5t": "rsa", "x5t#S256": "digest"}),
        json!({"unknown": {"a": [1, 2]}}),
    ] {
        let token = sign(&with(header("RS256", "rsa"), changes), &user_claims(), &key);
        accept(&FakeAuthority::new(), &token);
    }
}

#[test]
fn tokens_of_listed_tenants_are_accepted_at_a_multi_tenant_authority() {
    for tenant in ["common", "organizations"] {
        let mut authority = FakeAuthority::new();
        change(&mut authority.env, |settings| settings.tenant = tenant.to_owned());
        change(&mut authority.env, |settings| {
            settings.token.allowed_tenants = vec![TENANT.to_owned(), OTHER_TENANT.to_owned()]
        });
        authority.publish_metadata(tenant, "{tenantid}");
        for tid in [TENANT, OTHER_TENANT] {
            let claims = with(user_claims(), json!({"tid": tid, "iss": format!("{AUTHORITY}/{tid}/v2.0")}));
            let token = sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa"));
            assert_eq!(accept(&authority, &token).tenant_id, tid);
        }
    }
}

#[test]
fn tokens_of_personal_accounts_are_accepted_at_consumers() {
    let mut authority = FakeAuthority::new();
    change(&mut authority.env, |settings| settings.tenant = "consumers".to_owned());
    authority.publish_metadata("consumers", CONSUMER_TENANT);
    let iss = format!("{AUTHORITY}/{CONSUMER_TENANT}/v2.0");
    let claims = with(user_claims(), json!({"tid": CONSUMER_TENANT, "iss": iss}));
    accept(&authority, &sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa")));
}

#[test]
fn a_domain_stands_for_the_tenant_that_its_metadata_names() {
    let mut authority = FakeAuthority::new();
    change(&mut authority.env, |settings| settings.tenant = "contoso.example".to_owned());
    authority.publish_metadata("contoso.example", TENANT);
    accept(&authority, &sign(&header("RS256", "rsa"), &user_claims(), &TestKey::named("rsa")));
    assert_eq!(
        authority.world.sent().first().map(String::as_str),
        Some("GET https://login.microsoftonline.com/contoso.example/v2.0/.well-known/openid-configuration")
    );
}

#[test]
fn an_unknown_authority_tells_its_version_1_issuer() {
    for issuer in [format!("https://sts.windows.net/{TENANT}/"), "https://sts.windows.net/{tenantid}/".to_owned()] {
        let mut authority = FakeAuthority::new();
        change(&mut authority.env, |settings| "https://localhost:8443".clone_into(&mut settings.authority));
        let metadata = json!({
            "issuer": format!("https://localhost:8443/{TENANT}/v2.0"),
            "jwks_uri": "https://localhost:8443/keys/discovery/v2.0/keys",
        });
        let json = world::testing::json;
        authority.publish("/v2.0/.well-known/openid-configuration", json(200, &metadata));
        authority.publish("/.well-known/openid-configuration", json(200, &json!({ "issuer": issuer })));
        let key = TestKey::named("rsa");
        authority.publish_keys(json!([with(
            key.jwk("rsa"),
            json!({"issuer": format!("https://localhost:8443/{TENANT}/v2.0")})
        )]));
        accept(&authority, &sign(&header("RS256", "rsa"), &version_1_user_claims(), &key));
    }
}

#[test]
fn clocks_may_differ_by_the_tolerance() {
    accept_claims(with(user_claims(), json!({"exp": START - 59, "iat": START - 3600, "nbf": START - 3600})));
    accept_claims(with(user_claims(), json!({"nbf": START + 60, "iat": START + 60})));
}
