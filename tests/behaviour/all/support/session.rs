//! A session at `entra-mcp serve` for tests that are about something else: discovery, registration, consent and sign-in
//! in a few steps, with nothing of a real client.
//!
//! The HTTP benchmark uses this file too.

use entra_mcp_emulator::user_agent::HeadlessBrowser;
use serde_json::{Value, json};
use url::Url;

/// No server is there; a browser that stays on this machine reports the address and does not open it.
const REDIRECT: &str = "https://client.example/callback";
/// What sessions are for, unless said otherwise.
const SCOPE: &str = "User.Read";
/// With the SHA-256 of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The session that a client has after its user has signed in.
pub(crate) struct Session {
    pub(crate) access_token: String,
    #[allow(dead_code, reason = "the benchmark needs it")]
    pub(crate) refresh_token: String,
    #[allow(dead_code, reason = "the benchmark needs it")]
    pub(crate) client_id: String,
}

/// Signs a user of the emulator in for the resource with this path, such as `/mcp`.
pub(crate) async fn sign_in(public_url: &str, path: &str, username: &str) -> Session {
    sign_in_for(public_url, path, username, SCOPE).await
}

/// The same for another scope.
pub(crate) async fn sign_in_for(public_url: &str, path: &str, username: &str, scope: &str) -> Session {
    let client_id = register(public_url, REDIRECT).await;
    obtain(public_url, path, username, &client_id, scope).await
}

/// The same with a client that is registered already.
pub(crate) async fn sign_in_of(public_url: &str, path: &str, username: &str, client_id: &str) -> Session {
    obtain(public_url, path, username, client_id, SCOPE).await
}

/// Authorization, sign-in and the tokens for the code.
async fn obtain(public_url: &str, path: &str, username: &str, client_id: &str, scope: &str) -> Session {
    let (http, metadata) = (reqwest::Client::new(), metadata(public_url).await);
    let endpoint = |name: &str| metadata[name].as_str().unwrap_or_else(|| panic!("no {name} in {metadata}"));
    let resource = format!("{public_url}{path}");
    let mut url = Url::parse(endpoint("authorization_endpoint")).unwrap();
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", REDIRECT),
        ("scope", scope),
        ("state", "the-state"),
        ("resource", &resource),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let landing = HeadlessBrowser::new().sign_in(url.as_str(), username, "emulator").await.unwrap();
    assert_eq!(landing.parameter("state").as_deref(), Some("the-state"), "{landing:?}");
    let code = landing.parameter("code").unwrap_or_else(|| panic!("no code in {landing:?}"));
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client_id),
        ("redirect_uri", REDIRECT),
        ("code", &code),
        ("code_verifier", VERIFIER),
    ];
    let tokens = json_of(http.post(endpoint("token_endpoint")).form(&form), 200).await;
    let token = |name: &str| tokens[name].as_str().unwrap_or_else(|| panic!("no {name} in the answer")).to_owned();
    let (access_token, refresh_token) = (token("access_token"), token("refresh_token"));
    Session { access_token, refresh_token, client_id: client_id.to_owned() }
}

/// Registers a public client; returns its id.
pub(crate) async fn register(public_url: &str, redirect_uri: &str) -> String {
    let registration = json!({
        "client_name": "entra-mcp-tests",
        "redirect_uris": [redirect_uri],
        "token_endpoint_auth_method": "none",
    });
    let endpoint = metadata(public_url).await["registration_endpoint"].as_str().unwrap().to_owned();
    let client = json_of(reqwest::Client::new().post(endpoint).json(&registration), 201).await;
    client["client_id"].as_str().unwrap().to_owned()
}

async fn metadata(public_url: &str) -> Value {
    json_of(reqwest::Client::new().get(format!("{public_url}/.well-known/oauth-authorization-server")), 200).await
}

async fn json_of(request: reqwest::RequestBuilder, expected: u16) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, expected, "{text}");
    serde_json::from_str(&text).unwrap()
}
