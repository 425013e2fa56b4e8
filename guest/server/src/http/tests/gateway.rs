//! Behind a gateway: a path prefix that it takes off, a token that it hands over, Entra ID's metadata under the
//! server's issuer.

use std::time::Duration;

use base::settings::TokenMode;
use entra::testing::{AUTHORITY, FakeAuthority, TestKey, header as jwt_header, sign, user_claims, with};
use serde_json::{Value, json};
use world::HttpError;
use world::testing::{CLIENT, TENANT, json as response};

use super::{ALICE, Server, get, header, json_of, post};
use crate::message::Request;
use crate::testing::{ServerWorlds as _, change, configure};

const HEADER: &str = "x-forwarded-access-token";
const METADATA: &str = "/v2.0/.well-known/openid-configuration";

fn server(mode: TokenMode, token_header: Option<&str>) -> (Server, FakeAuthority) {
    let authority = FakeAuthority::new();
    let mut env = authority.world.remote();
    change(&mut env, |settings| settings.token.audiences = vec![CLIENT.to_owned()]);
    configure(&mut env, |http| (http.token_mode, http.token_header) = (mode, token_header.map(str::to_owned)));
    let server = Server { world: authority.world.clone(), env };
    server.sign_in(&ALICE);
    (server, authority)
}

fn token(changes: Value) -> String {
    let claims = with(with(user_claims(), json!({ "scp": "access_as_user" })), changes);
    sign(&jwt_header("RS256", "rsa"), &claims, &TestKey::named("rsa"))
}

fn ping(fields: &[(&'static str, &str)]) -> Request {
    let mut request = post("/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }));
    for (name, value) in fields {
        request.headers.append(*name, value.parse().unwrap());
    }
    request
}

#[test]
fn a_prefix_that_the_gateway_has_taken_off_is_not_missed() {
    let mut server = Server::with_alice();
    configure(&mut server.env, |http| http.public_url = "https://mcp.example.com/entra".to_owned());
    for (path, status) in [
        ("/", 200),
        ("/healthz", 200),
        ("/mcp", 405),
        ("/authorize", 400),
        ("/.well-known/openid-configuration", 200),
        ("/.well-known/oauth-protected-resource", 200),
        ("/.well-known/oauth-protected-resource/other/mcp", 404),
    ] {
        assert_eq!(server.send(get(path)).status(), status, "{path}");
    }
    let told = json_of(&server.send(get("/.well-known/oauth-protected-resource/mcp")));
    assert_eq!(told["resource"], "https://mcp.example.com/entra/mcp");
    let challenge = server.send(post("/mcp", &json!({})));
    assert!(header(&challenge, "www-authenticate").contains("/.well-known/oauth-protected-resource/entra/mcp\""));
}

#[test]
fn a_token_that_a_gateway_hands_over_is_validated_like_any_other() {
    let (server, _authority) = server(TokenMode::Bearer, Some(HEADER));
    let other = "22222222-bbbb-3333-cccc-4444dddd5555";
    for (value, status) in [
        (token(json!({})), 200),
        (format!("Bearer {}", token(json!({}))), 200),
        (format!("bearer {}", token(json!({}))), 200),
        (token(json!({ "aud": other })), 401),
        (token(json!({ "tid": other })), 401),
        (token(json!({ "exp": 1 })), 401),
        (token(json!({ "scp": "Other" })), 403),
        (format!("{}x", token(json!({}))), 401),
        ("alice".to_owned(), 401),
        (String::new(), 400),
        (format!("Basic {}", token(json!({}))), 400),
        (format!("{}, {}", token(json!({})), token(json!({}))), 400),
    ] {
        assert_eq!(server.send(ping(&[(HEADER, &value)])).status(), status, "{value}");
    }
    let twice = [(HEADER, token(json!({}))), (HEADER, token(json!({})))];
    let twice = server.send(ping(&twice.each_ref().map(|(name, value)| (*name, value.as_str()))));
    assert_eq!((twice.status().as_u16(), json_of(&twice)["error"].as_str()), (400, Some("invalid_request")));
}

#[test]
fn what_the_gateway_hands_over_counts_and_nothing_that_comes_with_it() {
    let (server, _authority) = server(TokenMode::Both, Some(HEADER));
    let (good, bad) = (token(json!({})), token(json!({ "exp": 1 })));
    let bearer = |token: &str| format!("Bearer {token}");
    for (handed_over, authorization, status) in [
        (&good, bearer("for-the-gateway"), 200),
        (&good, "Basic dXNlcjpwYXNz".to_owned(), 200),
        (&good, bearer(&bad), 200),
        (&bad, bearer(&good), 401),
        (&bad, bearer("alice"), 401),
    ] {
        let fields = [(HEADER, handed_over.as_str()), ("authorization", &authorization)];
        assert_eq!(server.send(ping(&fields)).status(), status, "{authorization}");
    }
    // Without one, clients bring their own as ever.
    for (authorization, status) in [(bearer(&good), 200), (bearer("alice"), 200), (bearer(&bad), 401)] {
        assert_eq!(server.send(ping(&[("authorization", &authorization)])).status(), status);
    }
}

#[test]
fn a_session_is_never_handed_over() {
    for mode in [TokenMode::Session, TokenMode::Bearer, TokenMode::Both] {
        let (server, _authority) = server(mode, Some(HEADER));
        assert_eq!(server.send(ping(&[(HEADER, "alice")])).status(), 401, "{mode:?}");
    }
}

#[test]
fn a_header_that_no_setting_names_is_no_token() {
    for (mode, name) in
        [(TokenMode::Session, Some(HEADER)), (TokenMode::Both, None), (TokenMode::Both, Some("x-other"))]
    {
        let (server, _authority) = server(mode, name);
        let response = server.send(ping(&[(HEADER, &token(json!({})))]));
        assert_eq!(response.status(), 401);
        assert!(!header(&response, "www-authenticate").contains("error="), "it brings no token");
    }
}

#[test]
fn a_token_in_the_url_is_refused_beside_one_that_is_handed_over() {
    let (server, _authority) = server(TokenMode::Bearer, Some(HEADER));
    let mut request = ping(&[(HEADER, &token(json!({})))]);
    request.query = Some("access_token=x".to_owned());
    assert_eq!(server.send(request).status(), 400);
}

fn entras_metadata() -> Value {
    let url = |path: &str| format!("{AUTHORITY}/{TENANT}{path}");
    json!({
        "issuer": url("/v2.0"),
        "jwks_uri": url("/discovery/v2.0/keys"),
        "authorization_endpoint": url("/oauth2/v2.0/authorize"),
        "token_endpoint": url("/oauth2/v2.0/token"),
        "device_authorization_endpoint": url("/oauth2/v2.0/devicecode"),
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "response_modes_supported": ["query", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "offline_access"],
        "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
    })
}

fn rewriting() -> (Server, FakeAuthority) {
    let (mut server, authority) = server(TokenMode::Bearer, None);
    configure(&mut server.env, |http| http.rewrite_authority_metadata = true);
    authority.publish(METADATA, response(200, &entras_metadata()));
    (server, authority)
}

#[test]
fn the_metadata_of_entra_is_published_under_our_own_issuer_with_what_it_lacks() {
    let (server, authority) = rewriting();
    let url = |path: &str| format!("{AUTHORITY}/{TENANT}{path}");
    let expected = json!({
        "issuer": "https://mcp.example.com",
        "authorization_endpoint": url("/oauth2/v2.0/authorize"),
        "token_endpoint": url("/oauth2/v2.0/token"),
        "device_authorization_endpoint": url("/oauth2/v2.0/devicecode"),
        "jwks_uri": url("/discovery/v2.0/keys"),
        "scopes_supported": ["https://mcp.example.com/mcp/access_as_user", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported":
            ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let answer = server.send(get(path));
        assert_eq!((answer.status().as_u16(), json_of(&answer)), (200, expected.clone()), "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
    }
    assert_eq!(authority.requests(METADATA), 1, "it is kept");
    let resource = json_of(&server.send(get("/.well-known/oauth-protected-resource/mcp")));
    assert_eq!(resource["authorization_servers"], json!(["https://mcp.example.com"]));
}

#[test]
fn the_metadata_of_entra_is_ours_in_the_mode_bearer_only() {
    for mode in [TokenMode::Session, TokenMode::Both] {
        let (mut server, authority) = rewriting();
        configure(&mut server.env, |http| http.token_mode = mode);
        let answer = json_of(&server.send(get("/.well-known/oauth-authorization-server")));
        assert_eq!(answer["token_endpoint"], "https://mcp.example.com/token", "{mode:?}");
        assert_eq!(authority.requests(METADATA), 0);
    }
}

#[test]
fn no_authorization_server_appears_beside_the_metadata() {
    let (server, _authority) = rewriting();
    for path in ["/authorize", "/token", "/register", "/revoke", "/auth/callback"] {
        assert_eq!(server.send(get(path)).status(), 404, "{path}");
    }
}

#[test]
fn people_are_sent_to_the_authority_and_nowhere_else() {
    for (name, value) in [
        ("authorization_endpoint", json!("https://evil.example/authorize")),
        ("authorization_endpoint", json!(format!("https://user@{}/x", "login.microsoftonline.com"))),
        ("authorization_endpoint", json!("http://login.microsoftonline.com/authorize")),
        ("token_endpoint", json!("https://login.microsoftonline.com:8443/token")),
        ("token_endpoint", Value::Null),
    ] {
        let (server, authority) = rewriting();
        authority.publish(METADATA, response(200, &with(entras_metadata(), json!({ name: value }))));
        let answer = server.send(get("/.well-known/oauth-authorization-server"));
        assert_eq!(answer.status(), 503, "{name} {value}");
        let good = token(json!({}));
        assert_eq!(server.send(ping(&[("authorization", &format!("Bearer {good}"))])).status(), 200, "keys are enough");
    }
    let (server, authority) = rewriting();
    let elsewhere = json!({ "device_authorization_endpoint": "https://evil.example/devicecode" });
    authority.publish(METADATA, response(200, &with(entras_metadata(), elsewhere)));
    let answer = json_of(&server.send(get("/.well-known/oauth-authorization-server")));
    assert!(!answer.to_string().contains("evil") && !answer.to_string().contains("device_code"));
}

#[test]
fn metadata_that_cannot_be_read_now_may_be_asked_for_again() {
    let (server, authority) = rewriting();
    *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    let answer = server.send(get("/.well-known/oauth-authorization-server"));
    assert_eq!(answer.status(), 503);
    assert_ne!(header(&answer, "retry-after"), "");
    *authority.outage.borrow_mut() = None;
    server.world.advance(Duration::from_secs(10));
    assert_eq!(server.send(get("/.well-known/oauth-authorization-server")).status(), 200);
    *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    server.world.advance(Duration::from_secs(3600));
    assert_eq!(server.send(get("/.well-known/oauth-authorization-server")).status(), 200, "the old one serves on");
}
