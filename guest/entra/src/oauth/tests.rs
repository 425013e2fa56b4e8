//! The five grants as the token endpoint sees them, and what is believed of its answers.

use serde_json::{Value, json};

use super::authorization_code::AuthorizationRequest;
use super::device_code::DeviceCode;
use super::{OAuthError, TokenSet, refresh};
use crate::entra_world::EntraWorld;
use crate::testing::EntraWorlds as _;
use base::Secret;
use world::testing::{CLIENT, START, TENANT, World, json as response, run};
use world::{Credential, CredentialError};

mod answers;
mod credentials;
mod forms;
mod polling;

/// A record as the crate `oauth2` 5.0 wrote it, which version 0.1 of the component was made with.
const STORED_DEVICE_CODE: &str = r#"{"details":{"device_code":"device-1","user_code":"ABC-DEF","verification_uri":"https://login.microsoft.com/device","verification_uri_complete":"https://login.microsoft.com/device?otc=ABC-DEF","expires_in":900,"interval":5},"expires_at":1767226500}"#;
/// The same of an authorization request.
const STORED_REQUEST: &str = r#"{"redirect_uri":"http://127.0.0.1:53682/","state":"state-1","nonce":"nonce-1","verifier":"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk","scopes":["User.Read","offline_access"],"claims":null}"#;

fn scopes() -> Vec<String> {
    ["User.Read", "offline_access"].map(str::to_owned).to_vec()
}

fn tokens() -> Value {
    json!({
        "token_type": "Bearer", "access_token": "access-1", "refresh_token": "refresh-1", "id_token": "id-1",
        "expires_in": 600, "ext_expires_in": 600, "scope": "User.Read offline_access",
    })
}

fn code() -> Value {
    json!({
        "device_code": "device-1", "user_code": "ABC-DEF", "verification_uri": "https://login.microsoft.com/device",
        "verification_uri_complete": "https://login.microsoft.com/device?otc=ABC-DEF", "expires_in": 900,
        "interval": 5, "message": "To sign in …",
    })
}

fn refused(error: &str) -> Value {
    json!({ "error": error, "error_description": "AADSTS70016: pending" })
}

fn with(mut document: Value, name: &str, value: Value) -> Value {
    document[name] = value;
    document
}

fn without(mut document: Value, name: &str) -> Value {
    document.as_object_mut().unwrap().remove(name);
    document
}

fn request() -> AuthorizationRequest {
    serde_json::from_str(STORED_REQUEST).unwrap()
}

fn answering(status: u16, document: Value) -> World {
    let world = World::default();
    world.always(move |_| Ok(response(status, &document)));
    world
}

/// The parameters of the one form that was sent, sorted by name.
fn form(world: &World) -> Vec<(String, String)> {
    let bodies = world.sent_bodies();
    let [body] = bodies.as_slice() else { panic!("{bodies:?}") };
    let mut form: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    form.sort();
    form
}

fn parameters(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    expected.sort();
    expected
}

fn endpoint(tenant: &str, name: &str) -> Vec<String> {
    vec![format!("POST https://login.microsoftonline.com/{tenant}/oauth2/v2.0/{name}")]
}

fn refresh_at(env: &EntraWorld<'_>) -> Result<TokenSet, OAuthError> {
    run(refresh::refresh(env, &Secret::from("refresh-0"), &scopes(), None))
}

/// What a refresh makes of an answer.
fn read(status: u16, document: Value) -> Result<TokenSet, OAuthError> {
    refresh_at(&answering(status, document).entra())
}

/// A client that signs an assertion for the endpoint that it is for.
struct Signer;

impl world::ClientCredential for Signer {
    fn obtain(&self, audience: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::Assertion(Secret::new(format!("signed for {audience}"))))
    }

    fn replacement(&self, _: &str, _: &Credential) -> Result<Credential, CredentialError> {
        Ok(Credential::None)
    }
}

#[test]
fn a_stored_device_code_reads_and_writes_as_ever() {
    let code: DeviceCode = serde_json::from_str(STORED_DEVICE_CODE).unwrap();
    assert_eq!((code.user_code(), code.verification_uri()), ("ABC-DEF", "https://login.microsoft.com/device"));
    assert_eq!(code.expires_at, START + 900);
    assert_eq!(serde_json::to_string(&code).unwrap(), STORED_DEVICE_CODE);
    let fresh = run(DeviceCode::request(&answering(200, self::code()).entra(), &scopes())).unwrap();
    assert_eq!(serde_json::to_string(&fresh).unwrap(), STORED_DEVICE_CODE);
}

#[test]
fn a_stored_authorization_request_reads_and_writes_as_ever() {
    assert_eq!(serde_json::to_string(&request()).unwrap(), STORED_REQUEST);
}

#[test]
fn debug_shows_no_code_and_no_token() {
    let world = answering(200, code());
    let code = run(DeviceCode::request(&world.entra(), &scopes())).unwrap();
    let set = read(200, tokens()).unwrap();
    let malformed = read(200, without(tokens(), "token_type")).unwrap_err();
    let shown = format!("{code:?} {set:?} {malformed:?} {malformed}");
    assert!(shown.contains("[redacted]"));
    for secret in ["device-1", "ABC-DEF", "access-1", "refresh-1", "id-1"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
