//! How a client that knows only the address of the server finds out the rest (RFC 9728, RFC 8414).

use serde_json::{Value, json};

use crate::support::remote::{Fleet, PUBLIC_URL, RESOURCE};

fn challenge_parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    challenge.split(&format!("{name}=\"")).nth(1)?.split('"').next()
}

#[tokio::test]
async fn a_request_without_a_token_is_told_where_to_get_one() {
    let fleet = Fleet::new().await;
    let answer = fleet.call("").await;
    assert_eq!(answer.status, 401);
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    let metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
    assert_eq!(challenge_parameter(challenge, "resource_metadata"), Some(metadata));
    assert_eq!(challenge_parameter(challenge, "scope"), Some("User.Read"));
    assert_eq!(challenge_parameter(challenge, "error"), None, "nothing was wrong with a token");
}

#[tokio::test]
async fn the_names_agree_character_for_character() {
    let fleet = Fleet::new().await;
    let resource = fleet.get("/.well-known/oauth-protected-resource/mcp").await.body;
    assert_eq!(resource["resource"], RESOURCE);
    assert_eq!(resource["authorization_servers"], json!([PUBLIC_URL]));
    let server = fleet.get("/.well-known/oauth-authorization-server").await.body;
    assert_eq!(server["issuer"], PUBLIC_URL);
    for (name, path) in [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("registration_endpoint", "/register"),
        ("revocation_endpoint", "/revoke"),
    ] {
        assert_eq!(server[name], format!("{PUBLIC_URL}{path}"));
    }
}

#[tokio::test]
async fn metadata_is_found_at_the_root_and_at_the_path() {
    let fleet = Fleet::new().await;
    let resources = [
        ("/.well-known/oauth-protected-resource", PUBLIC_URL.to_owned()),
        ("/.well-known/oauth-protected-resource/mcp", RESOURCE.to_owned()),
        ("/.well-known/oauth-protected-resource/sse", format!("{PUBLIC_URL}/sse")),
    ];
    for (path, resource) in resources {
        let answer = fleet.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{path}");
        assert_eq!(answer.body["resource"], resource, "{path}");
    }
    let server = fleet.get("/.well-known/oauth-authorization-server").await.body;
    for path in ["/.well-known/oauth-authorization-server/mcp", "/.well-known/openid-configuration"] {
        assert_eq!(fleet.get(path).await.body, server, "{path}");
    }
}

#[tokio::test]
async fn what_is_advertised_is_what_there_is() {
    let fleet = Fleet::new().await;
    let server = fleet.get("/.well-known/oauth-authorization-server").await.body;
    assert_eq!(server["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(server["response_types_supported"], json!(["code"]));
    assert_eq!(server["grant_types_supported"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(server["authorization_response_iss_parameter_supported"], true);
    assert_eq!(server["client_id_metadata_document_supported"], true);
    assert_eq!(server["scopes_supported"], json!(["User.Read"]));
    let text = server.to_string();
    assert!(!text.contains("offline_access"), "{text}");

    let closed = Fleet::with(|settings| {
        let http = settings.http.as_mut().expect("a remote server");
        http.dynamic_registration = false;
        http.client_id_metadata_documents = false;
    })
    .await;
    let server = closed.get("/.well-known/oauth-authorization-server").await.body;
    assert_eq!(server.get("registration_endpoint"), None);
    assert_ne!(server.get("client_id_metadata_document_supported"), Some(&Value::Bool(true)));
    assert_eq!(closed.post_json("/register", &json!({})).await.status, 404);
}

#[tokio::test]
async fn nothing_in_metadata_comes_from_the_request() {
    let fleet = Fleet::new().await;
    let asked = http::Request::get("/.well-known/oauth-protected-resource/mcp")
        .header("host", "mcp.example.com")
        .header("x-forwarded-host", "evil.example.com")
        .header("x-forwarded-proto", "http")
        .header("forwarded", "host=evil.example.com;proto=http")
        .body(Vec::new())
        .expect("a request");
    let answer = fleet.send(asked).await;
    assert_eq!(answer.body["resource"], RESOURCE);
    assert!(!answer.html().contains("evil"));

    let rebound = http::Request::get("/.well-known/oauth-protected-resource/mcp")
        .header("host", "evil.example.com")
        .body(Vec::new())
        .expect("a request");
    let answer = fleet.send(rebound).await;
    assert_eq!(answer.status, 421);
}
