//! What a server behind is told, and the life of the keys that it verifies that with.

mod admitted;

use std::collections::BTreeSet;
use std::time::Duration;

use base::encoding::{digest, from_base64url};
use base::settings::{ServerKind, ServerSettings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caller::local::SignInError;
use caller::{CallerAuthentication, NoToken};
use entra::AcquireError;
use entra::graph::GraphError;
use entra::oauth::OAuthError;
use entra::oauth::error::EntraRefusal;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use serde_json::{Value, json};
use world::StoreError;
use world::testing::{PUBLIC_URL, START, TENANT, World, run};

use super::super::fields;
use super::*;
use crate::testing::{OBJECT, ServerWorlds as _, TestCaller, change, texts};

const AUDIENCE: &str = "https://crm.example.com";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn server(identity: ServerIdentity) -> ServerSettings {
    let permissions = match &identity {
        ServerIdentity::Token { permissions } => vec![permissions.clone()],
        _ => Vec::new(),
    };
    ServerSettings {
        name: "crm".to_owned(),
        path: "/mcp".to_owned(),
        kind: ServerKind::Upstream,
        title: None,
        tools: Vec::new(),
        permissions,
        identity,
    }
}

fn assertion() -> ServerIdentity {
    ServerIdentity::Assertion { audience: AUDIENCE.to_owned() }
}

fn token() -> ServerIdentity {
    ServerIdentity::Token { permissions: texts(&["api://crm/Orders.Read", "api://crm/Orders.Write"]) }
}

fn alice() -> ToolCaller {
    ToolCaller {
        tenant_id: TENANT.to_owned(),
        object_id: OBJECT.to_owned(),
        client_id: "client".to_owned(),
        kind: PrincipalKind::User,
        agent: false,
        scopes: texts(&["access_as_user", "Crm.Read"]),
        roles: texts(&["Crm.Admin", "Crm.Agent"]),
        correlation_id: "c-1".to_owned(),
    }
}

fn app() -> ToolCaller {
    ToolCaller { kind: PrincipalKind::App, scopes: Vec::new(), ..alice() }
}

fn told_as(
    env: &ServerWorld<'_>,
    identity: ServerIdentity,
    told: &ToolCaller,
    caller: &TestCaller,
) -> Result<HeaderMap, IdentityError> {
    let request = Addressed { caller, method: Some("tools/call"), tool: Some("delete_record"), body: Some(b"{}") };
    run(headers(env, &server(identity), told, &request))
}

fn told(env: &ServerWorld<'_>, identity: ServerIdentity) -> HeaderMap {
    told_as(env, identity, &alice(), &TestCaller::user()).unwrap()
}

/// The header and the claims of the assertion, if one of the keys has signed it.
fn verified(assertion: &str, key_set: &Value) -> Option<(Value, Value)> {
    let parts: Vec<&str> = assertion.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { panic!("{assertion}") };
    let json = |part: &str| serde_json::from_slice::<Value>(&from_base64url(part).unwrap()).unwrap();
    let header = json(header);
    let key = key_set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"])?;
    let coordinate = |name: &str| from_base64url(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signed = assertion.rsplit_once('.').unwrap().0;
    let signature = Signature::from_slice(&from_base64url(signature).unwrap()).unwrap();
    VerifyingKey::from_sec1_bytes(&point).unwrap().verify(signed.as_bytes(), &signature).ok()?;
    Some((header, json(claims)))
}

fn asserted(env: &ServerWorld<'_>) -> String {
    told(env, assertion())[ASSERTION].to_str().unwrap().to_owned()
}

fn published(env: &ServerWorld<'_>) -> Value {
    run(key_set(&env.entra)).unwrap()
}

fn ids(key_set: &Value) -> Vec<String> {
    key_set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The id of the key that signs now; it is published.
fn signing(env: &ServerWorld<'_>) -> String {
    let (header, _) = verified(&asserted(env), &published(env)).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_without_an_identity_setting_is_told_nothing() {
    assert!(told(&World::default().remote(), ServerIdentity::None).is_empty());
}

#[test]
fn easy_auth_has_the_form_of_app_service() {
    let headers = told(&World::default().remote(), ServerIdentity::EasyAuth);
    assert_eq!(headers.len(), 4);
    assert_eq!(headers["x-ms-client-principal-id"], OBJECT);
    assert_eq!(headers["x-ms-client-principal-name"], OBJECT);
    assert_eq!(headers["x-ms-client-principal-idp"], "aad");
    let principal: Value =
        serde_json::from_slice(&STANDARD.decode(&headers["x-ms-client-principal"]).unwrap()).unwrap();
    let role = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
    assert_eq!(
        principal,
        json!({
            "auth_typ": "aad",
            "claims": [
                { "typ": "ver", "val": "2.0" },
                { "typ": "azp", "val": "client" },
                { "typ": "http://schemas.microsoft.com/identity/claims/objectidentifier", "val": OBJECT },
                { "typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier", "val": OBJECT },
                { "typ": "http://schemas.microsoft.com/identity/claims/tenantid", "val": TENANT },
                { "typ": "http://schemas.microsoft.com/identity/claims/scope", "val": "access_as_user Crm.Read" },
                { "typ": "roles", "val": "Crm.Admin" },
                { "typ": role, "val": "Crm.Admin" },
                { "typ": "roles", "val": "Crm.Agent" },
                { "typ": role, "val": "Crm.Agent" },
            ],
            "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
            "role_typ": role,
        })
    );
}

#[test]
fn easy_auth_says_that_an_application_calls_for_itself() {
    let env = World::default().remote();
    let headers = told_as(&env, ServerIdentity::EasyAuth, &app(), &TestCaller::app()).unwrap();
    let principal: Value =
        serde_json::from_slice(&STANDARD.decode(&headers["x-ms-client-principal"]).unwrap()).unwrap();
    let claims = principal["claims"].as_array().unwrap();
    assert!(claims.contains(&json!({ "typ": "idtyp", "val": "app" })));
    assert!(!claims.iter().any(|claim| claim["typ"].as_str().unwrap().ends_with("/scope")));
}

#[test]
fn an_assertion_says_which_caller_asks_which_server_for_what() {
    let env = World::default().remote();
    let headers = told(&env, assertion());
    assert_eq!(headers.len(), 1);
    let (header, mut claims) = verified(headers[ASSERTION].to_str().unwrap(), &published(&env)).unwrap();
    assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("entra-mcp-assertion+jwt")));
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(jti.as_str().unwrap().len(), 43);
    assert_eq!(
        claims,
        json!({
            "iss": PUBLIC_URL,
            "aud": AUDIENCE,
            "server": "crm",
            "sub": format!("{TENANT}/{OBJECT}"),
            "tid": TENANT,
            "oid": OBJECT,
            "azp": "client",
            "idtyp": "user",
            "scp": "access_as_user Crm.Read",
            "roles": ["Crm.Admin", "Crm.Agent"],
            "mcp_method": "tools/call",
            "tool": "delete_record",
            "body_sha256": digest(b"{}"),
            "correlation_id": "c-1",
            "iat": START,
            "exp": START + 60,
        })
    );
}

#[test]
fn a_server_learns_that_an_agent_calls() {
    let env = World::default().remote();
    let agent = TestCaller::user().agent();
    let caller = crate::gatekeeper::callers::tool_caller(env.entra.trail, &agent);
    let headers = told_as(&env, assertion(), &caller, &agent).unwrap();
    let (_, claims) = verified(headers[ASSERTION].to_str().unwrap(), &published(&env)).unwrap();
    assert_eq!((&claims["idtyp"], &claims["agent"]), (&json!("user"), &json!(true)));
    let headers = told_as(&env, ServerIdentity::EasyAuth, &caller, &agent).unwrap();
    let principal: Value =
        serde_json::from_slice(&STANDARD.decode(&headers["x-ms-client-principal"]).unwrap()).unwrap();
    let claims = principal["claims"].as_array().unwrap();
    assert!(claims.contains(&json!({ "typ": "agent", "val": "true" })), "{claims:?}");
}

#[test]
fn two_assertions_for_the_same_request_differ() {
    let env = World::default().remote();
    assert_ne!(asserted(&env), asserted(&env));
}

#[test]
fn an_assertion_leaves_out_what_is_not_known() {
    let env = World::default().remote();
    let request = Addressed { caller: &TestCaller::app(), method: None, tool: None, body: None };
    let headers = run(headers(&env, &server(assertion()), &app(), &request)).unwrap();
    let (_, claims) = verified(headers[ASSERTION].to_str().unwrap(), &published(&env)).unwrap();
    assert_eq!(claims["idtyp"], "app");
    let names: BTreeSet<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["aud", "azp", "correlation_id", "exp", "iat", "idtyp", "iss", "jti", "oid", "roles", "server", "sub", "tid"];
    assert_eq!(names, BTreeSet::from(expected));
}

#[test]
fn a_changed_assertion_is_not_verified() {
    let env = World::default().remote();
    let assertion = asserted(&env);
    let (head, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    let claims = String::from_utf8(from_base64url(claims).unwrap()).unwrap().replace("Crm.Agent", "Crm.Owner");
    let forged = [header, &base::encoding::base64url(claims.as_bytes()), signature].join(".");
    assert!(verified(&assertion, &published(&env)).is_some());
    assert_eq!(verified(&forged, &published(&env)), None);
}

#[test]
fn a_token_is_for_the_permissions_of_the_server_and_hidden_from_logs() {
    let headers = told(&World::default().remote(), token());
    assert_eq!(headers.len(), 1);
    assert_eq!(headers[AUTHORIZATION], "Bearer api://crm/Orders.Read api://crm/Orders.Write");
    assert!(headers[AUTHORIZATION].is_sensitive());
    assert!(told(&World::default().remote(), assertion())[ASSERTION].is_sensitive());
}

#[test]
fn no_token_is_asked_for_in_the_name_of_an_application() {
    let env = World::default().remote();
    assert_eq!(told_as(&env, token(), &app(), &TestCaller::app()), Err(IdentityError::NoUser));
}

#[test]
fn what_entra_id_refuses_is_no_token_of_less() {
    let env = World::default().remote();
    let refusal = EntraRefusal::new("invalid_grant", &[65001], None);
    let caller = TestCaller { refusal: Some(refusal), ..TestCaller::user() };
    let Err(IdentityError::Refused { public, reason }) = told_as(&env, token(), &alice(), &caller) else { panic!() };
    assert!(public.contains("65001"), "{public}");
    assert!(reason.contains("65001"), "{reason}");
}

#[test]
fn an_error_says_what_the_client_has_to_do() {
    let person = |claims: Option<&str>| {
        let claims = claims.map(str::to_owned);
        NoToken::Acquire(AcquireError::NeedsPerson { reason: "sign in".to_owned(), claims })
    };
    let unavailable = |error| NoToken::Acquire(AcquireError::Unavailable(error));
    let throttled = OAuthError::Throttled(Duration::from_secs(7));
    let down = || StoreError::Unavailable("down".to_owned());
    use CallerAuthentication::{Bearer, Session};
    for (error, kind, expected) in [
        (person(Some("{}")), Bearer, IdentityError::ClaimsChallenge("{}".to_owned())),
        (person(Some("{}")), Session, IdentityError::SignInAgain),
        (
            NoToken::Acquire(AcquireError::StepUp { reason: "once more".to_owned(), claims: None }),
            Session,
            IdentityError::StepUp,
        ),
        (person(None), Bearer, IdentityError::SignInAgain),
        (unavailable(throttled), Bearer, IdentityError::Unavailable { retry_after: Some(7) }),
        (unavailable(OAuthError::ServerError(500)), Bearer, IdentityError::Unavailable { retry_after: None }),
        (NoToken::Acquire(down().into()), Session, IdentityError::Unavailable { retry_after: None }),
        (
            NoToken::Unavailable(GraphError::TooMany(Duration::from_secs(9))),
            Session,
            IdentityError::TooMany(Duration::from_secs(9)),
        ),
        (NoToken::SignIn(SignInError::Store(down())), Session, IdentityError::SignInAgain),
    ] {
        assert_eq!(IdentityError::of(&error, kind, START), expected);
    }
}

#[test]
fn a_client_can_set_no_field_that_tells_of_an_identity_however_it_is_written() {
    let env = World::default().remote();
    for name in &NAMES {
        for written in [name.to_string(), name.as_str().replace('-', "_"), name.as_str().replacen('-', "_", 1)] {
            let written = HeaderName::from_bytes(written.as_bytes()).unwrap();
            let sent = HeaderMap::from_iter([(written.clone(), HeaderValue::from_static("forged"))]);
            assert!(fields::to_drop(env.site.settings, &sent).contains(&written), "{written}");
        }
    }
    for identity in [ServerIdentity::EasyAuth, assertion(), token()] {
        for name in told(&env, identity).keys() {
            assert!(NAMES.contains(name), "{name}");
        }
    }
}

#[test]
fn the_key_set_holds_public_keys_and_nothing_else() {
    let env = World::default().remote();
    let key_set = published(&env);
    let keys = key_set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    for key in keys {
        let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        for coordinate in ["x", "y"] {
            assert_eq!(from_base64url(key[coordinate].as_str().unwrap()).unwrap().len(), 32);
        }
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
        assert_eq!(key["kid"], digest(thumbprint.as_bytes()));
    }
    let record = run(env.entra.records.get(&keys::KEYS, ())).unwrap().unwrap();
    assert!(format!("{record:?}").contains("private: [redacted]"), "{record:?}");
}

#[test]
fn a_key_is_published_a_day_before_it_signs_and_until_nothing_that_it_signed_is_good_any_more() {
    let world = World::default();
    let env = world.remote();
    let first = signing(&env);
    world.advance(29 * DAY - Duration::from_secs(1));
    assert_eq!(ids(&published(&env)), std::slice::from_ref(&first));

    world.advance(Duration::from_secs(1));
    let both = ids(&published(&env));
    assert_eq!((both.len(), &both[0]), (2, &first));
    assert_eq!(signing(&env), first, "servers behind may not know the next one yet");
    world.advance(DAY - Duration::from_secs(1));
    let last_of_the_first = asserted(&env);
    assert_eq!(signing(&env), first);

    world.advance(Duration::from_secs(1));
    assert_eq!(signing(&env), both[1]);
    assert!(verified(&last_of_the_first, &published(&env)).is_some());
    world.advance(Duration::from_secs(3659));
    assert_eq!(ids(&published(&env)), both);
    world.advance(Duration::from_secs(1));
    assert_eq!(ids(&published(&env)), [both[1].clone()]);
    assert_eq!(verified(&last_of_the_first, &published(&env)), None);
}

#[test]
fn a_server_that_rests_for_months_announces_its_next_key_as_well() {
    let world = World::default();
    let env = world.remote();
    let first = signing(&env);
    world.advance(200 * DAY);
    assert_eq!(signing(&env), first);
    let both = ids(&published(&env));
    assert_eq!((both.len(), &both[0]), (2, &first));
    world.advance(DAY);
    assert_eq!(signing(&env), both[1]);
}

#[test]
fn the_key_that_signs_is_always_published_and_was_so_for_a_day() {
    let world = World::default();
    let env = world.remote();
    signing(&env);
    let mut before = ids(&published(&env));
    // A year, at times that fit to nothing.
    for _ in 0..400 {
        world.advance(Duration::from_secs(79_201));
        assert!(before.contains(&signing(&env)));
        before = ids(&published(&env));
        assert!(before.len() <= 2, "{before:?}");
    }
}

#[test]
fn processes_on_one_store_sign_with_the_same_keys() {
    for (age, keys) in [(Duration::ZERO, 1), (29 * DAY, 2)] {
        // The second process makes its key at every moment in which the first one makes its own.
        for moment in 0..4 {
            let world = World::default();
            if keys == 2 {
                published(&world.remote());
            }
            world.advance(age);
            let (one, other) = (world.remote(), world.remote());
            world.interrupt_store(moment, move || drop(run(key_set(&other.entra)).unwrap()));
            let of_one = published(&one);
            assert_eq!(ids(&of_one), ids(&published(&world.remote())), "{moment}");
            assert_eq!(ids(&of_one).len(), keys);
        }
    }
}

#[test]
fn another_issuer_has_other_keys() {
    let world = World::default();
    let (one, mut other) = (world.remote(), world.remote());
    crate::testing::configure(&mut other, |http| http.public_url = "https://other.example.com".to_owned());
    other.entra.records = other.entra.records.under(other.entra.settings);
    assert_ne!(ids(&published(&one)), ids(&published(&other)));
}

#[test]
fn a_key_of_a_clock_that_was_wrong_is_given_up() {
    let world = World::default();
    let env = world.remote();
    world.advance(400 * DAY);
    let wrong = signing(&env);
    world.set_back(400 * DAY);
    let right = signing(&env);
    assert_ne!(right, wrong);
    assert_eq!(ids(&published(&env)), std::slice::from_ref(&right));
    // Some minutes are no reason.
    world.advance(29 * DAY);
    let both = ids(&published(&env));
    world.set_back(Duration::from_secs(600));
    assert_eq!((ids(&published(&env)), signing(&env)), (both, right));
}

#[test]
fn without_the_store_nothing_is_signed() {
    let world = World::default();
    let env = world.remote();
    world.break_store(0);
    let refused = told_as(&env, assertion(), &alice(), &TestCaller::user());
    assert_eq!(refused, Err(IdentityError::Unavailable { retry_after: None }));
}

#[test]
fn an_assertion_needs_an_audience() {
    let mut env = World::default().remote();
    for (identity, expected) in [
        (ServerIdentity::None, 0),
        (ServerIdentity::EasyAuth, 0),
        (assertion(), 0),
        (ServerIdentity::Assertion { audience: String::new() }, 1),
        (token(), 0),
    ] {
        change(&mut env, |settings| settings.servers = vec![server(identity.clone())]);
        assert_eq!(problems(env.entra.settings).len(), expected, "{identity:?}");
    }
}

#[test]
fn no_two_servers_accept_the_same_assertions() {
    let audience = |audience: &str| ServerIdentity::Assertion { audience: audience.to_owned() };
    for (other, expected) in
        [(audience(AUDIENCE), 1), (audience("https://wiki.example.com"), 0), (ServerIdentity::EasyAuth, 0)]
    {
        let mut env = World::default().remote();
        let wiki = ServerSettings { name: "wiki".to_owned(), ..server(other) };
        change(&mut env, |settings| settings.servers = vec![server(assertion()), wiki]);
        let problems = problems(env.entra.settings);
        assert_eq!(problems.len(), expected, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.contains("crm") && problem.contains("wiki")));
    }
}
