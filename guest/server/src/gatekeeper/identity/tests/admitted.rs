//! Requests on their way to a server behind: what it is told, and what of the client's own it is not.

use base::settings::TokenMode;
use entra::testing::{FakeAuthority, TestKey, sign, user_claims, with};
use http::Method;
use http::header::AUTHORIZATION;
use world::testing::CLIENT;

use super::*;
use crate::gatekeeper::{Admission, Grant, admit};
use crate::message::Request;
use crate::testing::configure;

/// A server behind that is told of callers like this, and a token of Alice.
fn behind(identity: ServerIdentity) -> (FakeAuthority, ServerWorld<'static>, String) {
    let authority = FakeAuthority::new();
    let mut env = authority.world.remote();
    change(&mut env, |settings| {
        settings.token.audiences = vec![CLIENT.to_owned()];
        settings.servers = vec![server(identity)];
    });
    configure(&mut env, |http| http.token_mode = TokenMode::Bearer);
    let claims = with(user_claims(), json!({ "scp": "access_as_user", "roles": ["Crm.Agent"] }));
    (authority, env, sign(&entra::testing::header("RS256", "rsa"), &claims, &TestKey::named("rsa")))
}

fn request(method: Method, token: &str, body: &Value) -> Request {
    let mut headers = HeaderMap::new();
    let bearer = format!("Bearer {token}");
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2025-06-18"),
        ("x-ms-client-principal-id", "forged"),
        ("x_ms_client_principal", "forged"),
        ("x-entra-mcp-assertion", "forged"),
        ("cookie", "a=b"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let body = if method == Method::POST { body.to_string().into_bytes() } else { Vec::new() };
    let (authority, path) = (Some("mcp.example.com".to_owned()), "/mcp".to_owned());
    Request { method, authority, path, query: None, headers, body, client_address: None }
}

fn admitted(env: &ServerWorld<'_>, request: Request) -> Box<Grant> {
    match run(admit(env, request)) {
        Admission::Forward(grant) => grant,
        Admission::Answer(answer) => panic!("{}: {}", answer.status(), String::from_utf8_lossy(answer.body())),
        Admission::OwnPath => panic!("not a server behind"),
    }
}

fn call() -> Value {
    let params = json!({ "name": "delete_record", "arguments": { "id": 1 } });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

#[test]
fn what_the_client_sent_of_an_identity_never_goes_on_and_what_is_set_replaces_it() {
    for (identity, set) in [(ServerIdentity::None, 0), (ServerIdentity::EasyAuth, 4), (assertion(), 1)] {
        let (_authority, env, token) = behind(identity);
        let grant = admitted(&env, request(Method::POST, &token, &call()));
        let told: Vec<_> = grant.set_headers.keys().filter(|name| NAMES.contains(name)).collect();
        assert_eq!(told.len(), set, "{told:?}");
        for name in
            ["authorization", "cookie", "x-ms-client-principal-id", "x_ms_client_principal", "x-entra-mcp-assertion"]
        {
            assert!(grant.drop_headers.iter().any(|dropped| dropped == name), "{name}");
        }
        assert!(!format!("{:?}", grant.set_headers).contains(&token), "the client's token goes nowhere");
    }
}

#[test]
fn an_assertion_is_about_the_message_that_was_judged() {
    let (_authority, env, token) = behind(assertion());
    let asked = request(Method::POST, &token, &call());
    let body = digest(&asked.body);
    let grant = admitted(&env, asked);
    let (_, claims) = verified(grant.set_headers[ASSERTION].to_str().unwrap(), &published(&env)).unwrap();
    assert_eq!((&claims["mcp_method"], &claims["tool"]), (&json!("tools/call"), &json!("delete_record")));
    assert_eq!((&claims["body_sha256"], &claims["roles"]), (&json!(body), &json!(["Crm.Agent"])));
    assert_eq!(claims["oid"], grant.caller.object_id);

    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let grant = admitted(&env, request(Method::POST, &token, &list));
    let (_, claims) = verified(grant.set_headers[ASSERTION].to_str().unwrap(), &published(&env)).unwrap();
    assert_eq!((&claims["mcp_method"], claims.get("tool")), (&json!("tools/list"), None));

    let grant = admitted(&env, request(Method::GET, &token, &Value::Null));
    let (_, claims) = verified(grant.set_headers[ASSERTION].to_str().unwrap(), &published(&env)).unwrap();
    assert_eq!((claims.get("mcp_method"), &claims["body_sha256"]), (None, &json!(digest(b""))));
}

#[test]
fn a_delegated_token_takes_the_place_of_the_client_s() {
    let (authority, env, token) = behind(super::token());
    authority.world.has_client_secret();
    let answer = json!({ "token_type": "Bearer", "access_token": "for-crm", "expires_in": 3600 });
    authority.publish("/oauth2/v2.0/token", world::testing::json(200, &answer));
    let grant = admitted(&env, request(Method::POST, &token, &call()));
    assert_eq!(grant.set_headers[AUTHORIZATION], "Bearer for-crm");
    let scopes = authority.world.sent_bodies().into_iter().find(|body| body.contains("on_behalf_of")).unwrap();
    assert!(scopes.contains("scope=api%3A%2F%2Fcrm%2FOrders.Read+api%3A%2F%2Fcrm%2FOrders.Write"), "{scopes}");
}
