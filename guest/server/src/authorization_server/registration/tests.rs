use std::collections::HashSet;

use world::testing::{START, World, run};

use super::*;
use crate::authorization_server::client::ClientError;
use crate::authorization_server::clients::{self, find};
use crate::authorization_server::testing;
use crate::testing::{ServerWorlds as _, configure};

const REDIRECT: &str = "https://app.example.com/callback";

fn body(response: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

fn post(env: &ServerWorld<'_>, metadata: &Value) -> Response<Vec<u8>> {
    run(handle(env, &testing::registration(&metadata.to_string())))
}

/// The answer to a registration that is accepted.
fn registered(env: &ServerWorld<'_>, metadata: &Value) -> Value {
    let response = post(env, metadata);
    assert_eq!(response.status(), 201, "{metadata}: {}", body(&response));
    body(&response)
}

/// The error code of one that is not.
fn refused(metadata: &Value) -> String {
    let world = World::default();
    let response = post(&world.remote(), metadata);
    assert_eq!(response.status(), 400, "{metadata}");
    assert_eq!(world.record_names(), [""; 0], "{metadata}");
    body(&response)["error"].as_str().unwrap().to_owned()
}

fn client_of(env: &ServerWorld<'_>, answer: &Value) -> Client {
    run(find(env, answer["client_id"].as_str().unwrap())).unwrap()
}

#[test]
fn a_public_client_registers_and_is_found() {
    let env = World::default().remote();
    let answer = registered(
        &env,
        &json!({
            "client_name": "Contoso Desktop",
            "redirect_uris": [REDIRECT, "http://localhost:3000/callback"],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"],
            "scope": "User.Read Mail.Read",
            "software_statement": "ignored", "logo_uri": 7, "unknown": {"a": 1},
        }),
    );
    let client_id = answer["client_id"].as_str().unwrap().to_owned();
    assert_eq!(
        answer,
        json!({
            "client_id": client_id,
            "client_id_issued_at": START,
            "client_name": "Contoso Desktop",
            "redirect_uris": [REDIRECT, "http://localhost:3000/callback"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": "User.Read",
        })
    );
    assert_eq!(
        run(find(&env, &client_id)),
        Ok(Client {
            client_id,
            name: Some("Contoso Desktop".to_owned()),
            origin: ClientOrigin::Registration,
            redirect_uris: vec![REDIRECT.to_owned(), "http://localhost:3000/callback".to_owned()],
            secret_hash: None,
        })
    );
}

#[test]
fn a_confidential_client_gets_its_secret_once() {
    let world = World::default();
    let env = world.remote();
    for method in ["client_secret_basic", "client_secret_post"] {
        let answer = registered(&env, &json!({"redirect_uris": [REDIRECT], "token_endpoint_auth_method": method}));
        assert_eq!(answer["token_endpoint_auth_method"], method);
        assert_eq!(answer["client_secret_expires_at"], 0);
        let secret = answer["client_secret"].as_str().unwrap();
        assert_eq!(from_base64url(secret).unwrap().len(), 32);
        let client = client_of(&env, &answer);
        assert_eq!(client.secret_hash, Some(digest(secret.as_bytes())));
        let form = testing::form(&[("client_id", &client.client_id), ("client_secret", secret)]);
        assert_eq!(client.authenticate(&testing::request(Method::POST, "/token"), &form), Ok(()));
        let record = world.get(&world.record_names().remove(0)).unwrap().unwrap();
        assert!(!String::from_utf8_lossy(record.reveal()).contains(secret));
    }
}

#[test]
fn a_client_that_names_no_method_is_confidential() {
    let answer = registered(&World::default().remote(), &json!({"redirect_uris": [REDIRECT]}));
    assert_eq!(answer["token_endpoint_auth_method"], "client_secret_basic");
    assert!(answer["client_secret"].is_string());
}

#[test]
fn a_registration_is_answered_to_the_client_only() {
    let response = post(&World::default().remote(), &json!({"redirect_uris": [REDIRECT]}));
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[test]
fn no_two_registrations_have_anything_in_common() {
    let env = World::default().remote();
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let answer = registered(&env, &json!({"redirect_uris": [REDIRECT]}));
        let (id, secret) = (answer["client_id"].as_str().unwrap(), answer["client_secret"].as_str().unwrap());
        assert_eq!(from_base64url(id).unwrap().len(), CLIENT_ID_BYTES);
        assert!(!id.starts_with("https://"));
        assert!(seen.insert(id.to_owned()) && seen.insert(secret.to_owned()));
    }
}

#[test]
fn a_redirect_that_is_not_allowed_is_not_registered() {
    let many: Vec<String> = (0..=MAX_REDIRECT_URIS).map(|n| format!("https://app.example.com/{n}")).collect();
    for uris in [
        json!(null),
        json!([]),
        json!(REDIRECT),
        json!([7]),
        json!([[REDIRECT]]),
        json!(many),
        json!(["http://app.example.com/callback"]),
        json!([REDIRECT, "http://app.example.com/callback"]),
        json!(["https://app.example.com/callback#x"]),
        json!(["https://user@app.example.com/callback"]),
        json!(["https://*.example.com/callback"]),
        json!(["cursor://oauth/callback"]),
        json!(["com.example.app:/callback"]),
        json!(["javascript:alert(1)"]),
        json!(["https://App.example.com/callback"]),
    ] {
        assert_eq!(refused(&json!({"redirect_uris": uris})), "invalid_redirect_uri", "{uris}");
    }
    assert_eq!(refused(&json!({})), "invalid_redirect_uri");
}

#[test]
fn a_redirect_that_is_named_twice_is_registered_once() {
    let answer = registered(&World::default().remote(), &json!({"redirect_uris": [REDIRECT, REDIRECT]}));
    assert_eq!(answer["redirect_uris"], json!([REDIRECT]));
}

#[test]
fn metadata_that_cannot_be_honoured_is_refused() {
    for (member, value) in [
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("token_endpoint_auth_method", json!("tls_client_auth")),
        ("token_endpoint_auth_method", json!(7)),
        ("grant_types", json!(["client_credentials"])),
        ("grant_types", json!(["implicit"])),
        ("grant_types", json!("authorization_code")),
        ("grant_types", json!(["authorization_code", 7])),
        ("grant_types", json!([])),
        ("response_types", json!(["token"])),
        ("response_types", json!([])),
        ("client_name", json!(7)),
        ("client_name", json!("x".repeat(MAX_NAME + 1))),
        ("application_type", json!("service")),
        ("application_type", json!(["native"])),
    ] {
        let mut metadata = json!({"redirect_uris": [REDIRECT]});
        metadata[member] = value;
        assert_eq!(refused(&metadata), "invalid_client_metadata", "{metadata}");
    }
}

#[test]
fn null_is_as_good_as_nothing() {
    let answer = registered(
        &World::default().remote(),
        &json!({
            "redirect_uris": [REDIRECT], "client_name": null, "token_endpoint_auth_method": null,
            "grant_types": null, "response_types": null, "application_type": null, "scope": null,
        }),
    );
    assert_eq!(answer["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(answer.get("client_name"), None);
}

#[test]
fn a_web_client_has_no_redirect_to_the_persons_machine() {
    for uri in ["http://localhost:3000/callback", "http://127.0.0.1/", "https://localhost/callback"] {
        let metadata = json!({"redirect_uris": [REDIRECT, uri], "application_type": "web"});
        assert_eq!(refused(&metadata), "invalid_redirect_uri", "{uri}");
    }
}

#[test]
fn the_application_type_follows_the_redirects_if_the_client_says_nothing() {
    let env = World::default().remote();
    for (uri, wanted, application_type) in [
        (REDIRECT, None, "web"),
        ("http://localhost:3000/callback", None, "native"),
        (REDIRECT, Some("web"), "web"),
        (REDIRECT, Some("native"), "native"),
        ("http://localhost:3000/callback", Some("native"), "native"),
    ] {
        let mut metadata = json!({"redirect_uris": [uri]});
        if let Some(wanted) = wanted {
            metadata["application_type"] = wanted.into();
        }
        assert_eq!(registered(&env, &metadata)["application_type"], application_type, "{metadata}");
    }
}

#[test]
fn what_is_not_seen_of_a_name_is_not_registered() {
    let env = World::default().remote();
    for (name, shown) in [
        ("Con\u{202e}toso", json!("Contoso")),
        ("  Contoso\r\nDesktop ", json!("Contoso Desktop")),
        ("\u{200b}\0", json!(null)),
    ] {
        let answer = registered(&env, &json!({"redirect_uris": [REDIRECT], "client_name": name}));
        assert_eq!(answer["client_name"], shown, "{name:?}");
    }
}

#[test]
fn a_registration_is_one_json_object() {
    let env = World::default().remote();
    let twice = format!(r#"{{"redirect_uris":["{REDIRECT}"],"redirect_uris":["https://evil.com/"]}}"#);
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    for text in ["", "[]", "null", "{", "redirect_uris=x", &twice, &deep, "{} {}", "\u{0}"] {
        let response = run(handle(&env, &testing::registration(text)));
        assert_eq!(response.status(), 400, "{text:.40}");
        assert_eq!(body(&response)["error"], "invalid_client_metadata");
    }
    let mut request = testing::registration("");
    request.body = vec![0xff; 100];
    assert_eq!(run(handle(&env, &request)).status(), 400);
}

#[test]
fn a_registration_says_that_it_is_json() {
    let env = World::default().remote();
    let text = json!({"redirect_uris": [REDIRECT]}).to_string();
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let mut request = testing::registration(&text);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        assert_eq!(run(handle(&env, &request)).status(), 400, "{content_type}");
    }
    let mut request = testing::registration(&text);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    assert_eq!(run(handle(&env, &request)).status(), 201);
}

#[test]
fn a_huge_registration_is_refused() {
    let response =
        post(&World::default().remote(), &json!({"redirect_uris": [REDIRECT], "padding": "x".repeat(MAX_BODY)}));
    assert_eq!(response.status(), 413);
}

#[test]
fn registration_is_posted() {
    let env = World::default().remote();
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let response = run(handle(&env, &testing::request(method, "/register")));
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "POST");
    }
}

#[test]
fn who_registers_too_often_is_told_when_to_come_back() {
    let world = World::default();
    world.exhaust("register", Duration::from_secs(42));
    let response = post(&world.remote(), &json!({"redirect_uris": [REDIRECT]}));
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "42");
    assert_eq!(world.record_names(), [""; 0]);
}

#[test]
fn registration_that_is_turned_off_is_not_there() {
    let world = World::default();
    let mut env = world.remote();
    let answer = registered(&env, &json!({"redirect_uris": [REDIRECT]}));
    configure(&mut env, |http| http.dynamic_registration = false);
    assert_eq!(post(&env, &json!({"redirect_uris": [REDIRECT]})).status(), 404);
    // Nor are clients that registered before.
    assert_eq!(run(find(&env, answer["client_id"].as_str().unwrap())), Err(ClientError::Unknown));
}

#[test]
fn a_registration_is_audited_without_its_name() {
    let world = World::default();
    let answer = registered(&world.remote(), &json!({"redirect_uris": [REDIRECT], "client_name": "Alice's program"}));
    let audited = world.audited();
    assert_eq!(audited.len(), 1);
    assert_eq!(audited[0].name, "client.registered");
    assert_eq!(audited[0].outcome, Outcome::Success);
    assert_eq!(audited[0].client_id.as_deref(), answer["client_id"].as_str());
    assert_eq!(audited[0].correlation_id, "c-1");
    assert!(!format!("{audited:?}").contains("Alice"));
}

#[test]
fn a_registration_that_cannot_be_audited_is_not_made() {
    let world = World::default();
    world.refuse_audit(true);
    let response = post(&world.remote(), &json!({"redirect_uris": [REDIRECT]}));
    assert_eq!(response.status(), 503);
    assert!(!world.record_names().iter().any(|name| name.contains("/registration")));
}

#[test]
fn a_refusal_names_the_correlation_id_and_repeats_nothing() {
    let response = post(&World::default().remote(), &json!({"redirect_uris": ["javascript:alert('here')"]}));
    let description = body(&response)["error_description"].as_str().unwrap().to_owned();
    assert!(description.contains("c-1"), "{description}");
    assert!(!description.contains("alert"), "{description}");
}

#[test]
fn a_registration_that_is_not_used_goes_away_after_a_day() {
    let world = World::default();
    let env = world.remote();
    let answer = registered(&env, &json!({"redirect_uris": [REDIRECT]}));
    let id = answer["client_id"].as_str().unwrap();
    world.advance(UNUSED_LIFETIME - Duration::from_secs(1));
    assert!(run(find(&env, id)).is_ok());
    world.advance(Duration::from_secs(1));
    assert_eq!(run(find(&env, id)), Err(ClientError::Unknown));
}

#[test]
fn a_registration_that_is_used_lives_on() {
    let world = World::default();
    let env = world.remote();
    let answer = registered(&env, &json!({"redirect_uris": [REDIRECT]}));
    let client = client_of(&env, &answer);
    for _ in 0..5 {
        run(clients::touch(&env, &client)).unwrap();
        world.advance(USED_LIFETIME - TOUCH_INTERVAL);
        assert_eq!(run(find(&env, &client.client_id)), Ok(client.clone()));
    }
    run(clients::touch(&env, &client)).unwrap();
    world.advance(USED_LIFETIME);
    assert_eq!(run(find(&env, &client.client_id)), Err(ClientError::Unknown));
}

#[test]
fn a_registration_that_is_put_to_use_while_it_is_looked_for_is_found() {
    let world = World::default();
    let env = world::testing::forever(world.remote());
    let answer = registered(env, &json!({"redirect_uris": [REDIRECT]}));
    let client = client_of(env, &answer);
    let used = client.clone();
    world.interrupt_store(1, move || run(clients::touch(env, &used)).unwrap());
    assert_eq!(run(find(env, &client.client_id)), Ok(client));
}

#[test]
fn a_use_does_not_bring_back_what_has_gone_away() {
    let world = World::default();
    let env = world.remote();
    let client = client_of(&env, &registered(&env, &json!({"redirect_uris": [REDIRECT]})));
    world.advance(UNUSED_LIFETIME);
    run(clients::touch(&env, &client)).unwrap();
    assert_eq!(run(find(&env, &client.client_id)), Err(ClientError::Unknown));
}

#[test]
fn a_use_is_noted_once_a_day() {
    let world = World::default();
    let env = world.remote();
    let client = client_of(&env, &registered(&env, &json!({"redirect_uris": [REDIRECT]})));
    let noted = || world.get(&world.record_names().remove(0)).unwrap().unwrap().reveal().clone();
    run(clients::touch(&env, &client)).unwrap();
    let first = noted();
    world.advance(TOUCH_INTERVAL - Duration::from_secs(1));
    run(clients::touch(&env, &client)).unwrap();
    assert_eq!(noted(), first);
    world.advance(Duration::from_secs(1));
    run(clients::touch(&env, &client)).unwrap();
    assert_ne!(noted(), first);
}

#[test]
fn a_client_of_another_server_on_the_same_store_is_not_known() {
    let world = World::default();
    let mut env = world.remote();
    let answer = registered(&env, &json!({"redirect_uris": [REDIRECT]}));
    configure(&mut env, |http| http.public_url = "https://other.example.com".to_owned());
    assert_eq!(run(find(&env, answer["client_id"].as_str().unwrap())), Err(ClientError::Unknown));
}

#[test]
fn an_id_that_this_server_cannot_have_issued_is_not_looked_up() {
    let env = World::default().remote();
    for id in ["", "x", "../browser-key", &"A".repeat(42), &"A".repeat(44), &"/".repeat(43)] {
        assert_eq!(run(client(&env, id)), Ok(None), "{id}");
    }
}

/// Cursor registers such a redirect URI.
#[test]
fn a_scheme_of_a_program_is_registered_where_the_operator_has_named_it() {
    const CURSOR: &str = "cursor://anysphere.cursor-mcp/oauth/callback";
    assert_eq!(refused(&json!({ "redirect_uris": [CURSOR] })), "invalid_redirect_uri");
    let mut env = World::default().remote();
    configure(&mut env, |http| http.allowed_redirect_schemes = vec!["cursor".to_owned()]);
    let answer = registered(&env, &json!({ "redirect_uris": [CURSOR] }));
    assert_eq!(answer["application_type"], "native");
    assert_eq!(client_of(&env, &answer).redirect_uris, [CURSOR]);
    assert_eq!(post(&env, &json!({ "redirect_uris": ["vscode://x/"] })).status(), 400);
    let web = json!({ "redirect_uris": [CURSOR], "application_type": "web" });
    assert_eq!(post(&env, &web).status(), 400);
    // What the operator no longer lets in does not go on.
    configure(&mut env, |http| http.allowed_redirect_schemes.clear());
    assert_eq!(client_of(&env, &answer).redirect_uris, [""; 0]);
}
