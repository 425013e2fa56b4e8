//! The five grants as the token endpoint sees them, and what is believed of its answers.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::time::Duration;

use serde_json::{Value, json};

use super::authorization_code::{AuthorizationRequest, Prompt, RedeemError};
use super::device_code::DeviceCode;
use super::error::EntraRefusal;
use super::{OAuthError, TokenSet, client_credentials, on_behalf_of, refresh};
use crate::entra_world::EntraWorld;
use crate::testing::{EntraWorlds as _, OTHER_TENANT};
use base::Secret;
use world::testing::{CLIENT, START, TENANT, World, json as response, run};
use world::{Credential, CredentialError, HttpError};

const CAPABILITIES: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
const REDIRECT: &str = "http://127.0.0.1:53682/";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// What S256 makes of [`VERIFIER`].
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

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

// The forms.

#[test]
fn a_code_is_redeemed_with_the_verifier_and_the_scopes_of_its_request() {
    let world = answering(200, tokens());
    let set = run(request().redeem(&world.entra_remote(), "code=code-1&state=state-1&session_state=x")).unwrap();
    assert_eq!(set.access_token.reveal(), "access-1");
    assert_eq!(world.sent(), endpoint(TENANT, "token"));
    let expected = parameters(&[
        ("grant_type", "authorization_code"),
        ("code", "code-1"),
        ("code_verifier", VERIFIER),
        ("redirect_uri", REDIRECT),
        ("scope", "User.Read offline_access"),
        ("claims", CAPABILITIES),
        ("client_id", CLIENT),
        ("client_secret", "the client secret"),
    ]);
    assert_eq!(form(&world), expected);
}

#[test]
fn a_public_client_refreshes_without_a_credential() {
    let world = answering(200, tokens());
    world.has_client_secret();
    let set = refresh_at(&world.entra()).unwrap();
    assert_eq!(set.refresh_token.unwrap().reveal(), "refresh-1");
    assert_eq!(set.id_token.unwrap().reveal(), "id-1");
    let expected = parameters(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", "refresh-0"),
        ("scope", "User.Read offline_access"),
        ("claims", CAPABILITIES),
        ("client_id", CLIENT),
    ]);
    assert_eq!(form(&world), expected);
}

#[test]
fn a_confidential_client_proves_its_identity_with_an_assertion_for_that_endpoint() {
    let world = answering(200, tokens());
    let env = EntraWorld { credential: &Signer, ..world.entra_remote() };
    refresh_at(&env).unwrap();
    let assertion = format!("signed for https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    let form = form(&world);
    assert!(form.contains(&("client_assertion".to_owned(), assertion)));
    assert!(form.contains(&("client_assertion_type".to_owned(), ASSERTION_TYPE.to_owned())));
    assert!(!form.iter().any(|(name, _)| name == "client_secret"));
}

#[test]
fn an_application_asks_for_itself_in_the_tenant_that_is_named() {
    let world = answering(200, tokens());
    let env = world.entra_remote();
    run(client_credentials::request(&env, OTHER_TENANT, "https://graph.microsoft.com/.default", None)).unwrap();
    assert_eq!(world.sent(), endpoint(OTHER_TENANT, "token"));
    let expected = parameters(&[
        ("grant_type", "client_credentials"),
        ("scope", "https://graph.microsoft.com/.default"),
        ("claims", CAPABILITIES),
        ("client_id", CLIENT),
        ("client_secret", "the client secret"),
    ]);
    assert_eq!(form(&world), expected);
}

#[test]
fn a_persons_token_is_exchanged_in_the_tenant_it_comes_from() {
    let world = answering(200, tokens());
    let challenge = r#"{"access_token":{"nbf":{"value":"1"}}}"#;
    let assertion = Secret::from("token of the person");
    run(on_behalf_of::exchange(&world.entra_remote(), OTHER_TENANT, &assertion, "api://x/y", Some(challenge))).unwrap();
    assert_eq!(world.sent(), endpoint(OTHER_TENANT, "token"));
    let expected = parameters(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("requested_token_use", "on_behalf_of"),
        ("assertion", "token of the person"),
        ("scope", "api://x/y"),
        ("claims", r#"{"access_token":{"nbf":{"value":"1"},"xms_cc":{"values":["cp1"]}}}"#),
        ("client_id", CLIENT),
        ("client_secret", "the client secret"),
    ]);
    assert_eq!(form(&world), expected);
}

#[test]
fn a_device_code_is_asked_for_and_redeemed() {
    let world = answering(200, code());
    let code = run(DeviceCode::request(&world.entra_remote(), &scopes())).unwrap();
    assert_eq!((code.user_code(), code.verification_uri()), ("ABC-DEF", "https://login.microsoft.com/device"));
    assert_eq!(code.expires_at, START + 900);
    assert_eq!(world.sent(), endpoint(TENANT, "devicecode"));
    let identity = [("client_id", CLIENT), ("client_secret", "the client secret")];
    assert_eq!(form(&world), parameters(&[("scope", "User.Read offline_access"), identity[0], identity[1]]));

    let world = answering(200, tokens());
    run(code.poll(&world.entra_remote(), Duration::from_secs(60), |_| ready(true))).unwrap();
    assert_eq!(world.sent(), endpoint(TENANT, "token"));
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
    assert_eq!(form(&world), parameters(&[grant, ("device_code", "device-1"), identity[0], identity[1]]));
}

#[test]
fn grants_of_an_application_need_a_credential_and_nothing_is_sent_without() {
    let world = World::default();
    let not_configured = |reason: &str| Some(CredentialError::NotConfigured(reason.to_owned()).into());
    let env = world.entra();
    assert_eq!(
        run(client_credentials::request(&env, TENANT, "x/.default", None)).err(),
        not_configured("the application has no credential, so it cannot act for itself")
    );
    assert_eq!(
        run(on_behalf_of::exchange(&env, TENANT, &Secret::from("token"), "x", None)).err(),
        not_configured("the application has no credential, so it cannot act on behalf of a user")
    );
    assert!(world.sent().is_empty());
}

#[test]
fn an_authority_or_redirect_that_is_no_url_is_a_wrong_setting() {
    let mut env = World::default().entra();
    crate::testing::change(&mut env, |settings| settings.authority = "nonsense".to_owned());
    assert_eq!(refresh_at(&env).err(), Some(OAuthError::Misconfigured("authority")));
    let mut request = request();
    request.redirect_uri = "nonsense".to_owned();
    let misconfigured = OAuthError::Misconfigured("redirect URI");
    assert_eq!(request.url(&World::default().entra(), Prompt::default()), Err(misconfigured));
}

// The authorization request.

#[test]
fn the_url_to_sign_in_at_has_the_challenge_and_not_the_verifier() {
    let prompt = Prompt { login_hint: Some("user@contoso.example"), select_account: true, login: false };
    let url = request().url(&World::default().entra(), prompt).unwrap();
    let url = url::Url::parse(&url).unwrap();
    assert_eq!(url.path(), format!("/{TENANT}/oauth2/v2.0/authorize"));
    let given: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let expected = [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("state", "state-1"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("redirect_uri", REDIRECT),
        ("scope", "User.Read offline_access"),
        ("response_mode", "query"),
        ("nonce", "nonce-1"),
        ("claims", CAPABILITIES),
        ("login_hint", "user@contoso.example"),
        ("prompt", "select_account"),
    ];
    assert_eq!(given, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(!url.as_str().contains(VERIFIER));
}

#[test]
fn a_new_request_is_never_like_another() {
    let env = World::default().entra();
    let new = || AuthorizationRequest::new(&env, REDIRECT.to_owned(), scopes(), None);
    let challenge = |request: &AuthorizationRequest| {
        let url = url::Url::parse(&request.url(&env, Prompt::default()).unwrap()).unwrap();
        url.query_pairs().find(|(name, _)| name == "code_challenge").unwrap().1.into_owned()
    };
    let (one, other) = (new(), new());
    assert!(one.state != other.state && one.nonce != other.nonce && challenge(&one) != challenge(&other));
}

#[test]
fn an_answer_with_another_state_or_a_repeated_parameter_is_not_redeemed() {
    let world = World::default();
    for query in ["code=c&state=state-2", "code=c", "code=c&code=d&state=state-1", "state=state-1", ""] {
        let answer = run(request().redeem(&world.entra(), query));
        assert!(matches!(answer, Err(RedeemError::Untrusted(_))), "{query}");
    }
    assert!(world.sent().is_empty());
}

// Records.

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

// What the device authorization endpoint answers.

#[test]
fn a_device_code_without_an_interval_is_polled_every_five_seconds() {
    for code in [without(code(), "interval"), with(code(), "interval", Value::Null)] {
        let code = run(DeviceCode::request(&answering(200, code).entra(), &scopes())).unwrap();
        let (answer, pauses) = poll(&code, &[refused("authorization_pending"), tokens()], Duration::from_secs(60));
        assert!(answer.is_ok());
        assert_eq!(pauses, [5]);
    }
}

#[test]
fn an_older_name_of_the_verification_uri_is_known() {
    let older = with(without(code(), "verification_uri"), "verification_url", json!("https://aka.ms/devicelogin"));
    let code = run(DeviceCode::request(&answering(200, older).entra(), &scopes())).unwrap();
    assert_eq!(code.verification_uri(), "https://aka.ms/devicelogin");
}

#[test]
fn a_device_authorization_response_that_lacks_something_is_malformed() {
    let malformed = OAuthError::Malformed("the device authorization response");
    let mut documents: Vec<Value> =
        ["device_code", "user_code", "verification_uri", "expires_in"].map(|name| without(code(), name)).to_vec();
    documents.push(with(code(), "verification_uri", json!("not a URL")));
    documents.push(with(code(), "interval", json!("5")));
    for document in documents {
        let answer = run(DeviceCode::request(&answering(200, document.clone()).entra(), &scopes()));
        assert_eq!(answer.err(), Some(malformed.clone()), "{document}");
    }
}

// Another credential.

/// Has two secrets, and says which of them were refused.
#[derive(Default)]
struct Two(RefCell<Vec<String>>);

impl world::ClientCredential for Two {
    fn obtain(&self, _: &str) -> Result<Credential, CredentialError> {
        Ok(Credential::Secret(Secret::from("old")))
    }

    fn replacement(&self, audience: &str, refused: &Credential) -> Result<Credential, CredentialError> {
        let Credential::Secret(refused) = refused else { panic!("a secret was refused") };
        self.0.borrow_mut().push(format!("{} at {audience}", refused.reveal()));
        Ok(Credential::Secret(Secret::from("new")))
    }
}

#[test]
fn a_request_whose_credential_is_refused_is_repeated_once_with_the_other_one() {
    for code in [700_024, 700_027, 7_000_215, 7_000_222] {
        let world = World::default();
        let no_such_secret = json!({ "error": "invalid_client", "error_codes": [code] });
        world.once(move |_| Ok(response(401, &no_such_secret)));
        world.once(|_| Ok(response(200, &tokens())));
        let two = Two::default();
        let env = EntraWorld { credential: &two, ..world.entra_remote() };
        let answer = run(refresh::refresh(&env, &Secret::from("refresh-0"), &scopes(), None));
        assert_eq!(answer.unwrap().access_token.reveal(), "access-1", "{code}");
        assert_eq!(two.0.take(), [format!("old at https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token")]);
        let bodies = world.sent_bodies();
        let sent: Vec<_> =
            bodies.iter().map(|body| (body.contains("refresh-0"), body.contains("client_secret=new"))).collect();
        assert_eq!(sent, [(true, false), (true, true)], "{code}");
    }
}

#[test]
fn a_request_is_not_repeated_where_another_credential_does_not_help() {
    // The application is unknown, the code is used up, the other one is refused as well.
    for (code, requests) in [(700_016, 1), (54_005, 1), (700_213, 1), (7_000_215, 2)] {
        let world = answering(401, json!({ "error": "invalid_client", "error_codes": [code] }));
        let two = Two::default();
        let env = EntraWorld { credential: &two, ..world.entra_remote() };
        let answer = run(refresh::refresh(&env, &Secret::from("refresh-0"), &scopes(), None));
        assert!(matches!(answer, Err(OAuthError::Refused(refusal)) if refusal.code == code));
        assert_eq!(world.sent().len(), requests, "{code}");
    }
}

#[test]
fn without_another_credential_the_refusal_stands() {
    let world = answering(401, json!({ "error": "invalid_client", "error_codes": [700_027] }));
    let env = EntraWorld { credential: &Signer, ..world.entra_remote() };
    let answer = run(refresh::refresh(&env, &Secret::from("refresh-0"), &scopes(), None));
    assert!(matches!(answer, Err(OAuthError::Refused(refusal)) if refusal.code == 700_027));
    assert_eq!(world.sent().len(), 1);
}

// Polling.

/// Polls with these answers in turn; the pauses that were made, in seconds. Answers of an error have status 400.
fn poll(code: &DeviceCode, answers: &[Value], timeout: Duration) -> (Result<TokenSet, OAuthError>, Vec<u64>) {
    let world = World::default();
    for answer in answers {
        let answer = response(if answer.get("error").is_some() { 400 } else { 200 }, answer);
        world.once(move |_| Ok(answer.clone()));
    }
    let (answer, pauses) = poll_in(&world, code, timeout);
    assert_eq!(world.sent().len(), answers.len());
    (answer, pauses)
}

/// The same with answers that the caller has scripted.
fn poll_in(world: &World, code: &DeviceCode, timeout: Duration) -> (Result<TokenSet, OAuthError>, Vec<u64>) {
    let pauses = RefCell::default();
    let pause = |duration: Duration| {
        let pauses: &RefCell<Vec<u64>> = &pauses;
        pauses.borrow_mut().push(duration.as_secs());
        world.advance(duration);
        ready(true)
    };
    let answer = run(code.poll(&world.entra(), timeout, pause));
    (answer, pauses.into_inner())
}

fn stored_code() -> DeviceCode {
    serde_json::from_str(STORED_DEVICE_CODE).unwrap()
}

#[test]
fn slow_down_adds_five_seconds_to_all_later_pauses() {
    let pending = || refused("authorization_pending");
    let slow = || refused("slow_down");
    let answers = [pending(), slow(), pending(), slow(), pending(), tokens()];
    let (answer, pauses) = poll(&stored_code(), &answers, Duration::from_secs(300));
    assert_eq!(answer.unwrap().access_token.reveal(), "access-1");
    assert_eq!(pauses, [5, 10, 10, 15, 15]);
}

#[test]
fn a_person_who_declines_ends_the_polling() {
    for (error, code) in [("access_denied", 65004), ("authorization_declined", 0)] {
        let declined = json!({ "error": error, "error_codes": [code] });
        let (answer, pauses) = poll(&stored_code(), &[declined], Duration::from_secs(300));
        let Err(OAuthError::Refused(refusal)) = answer else { panic!("{answer:?}") };
        assert!(refusal.is_declined());
        assert_eq!((refusal.error.as_str(), refusal.code), (error, code));
        assert_eq!(pauses, [] as [u64; 0]);
    }
}

#[test]
fn a_code_that_entra_calls_expired_is_expired() {
    let answers = [refused("authorization_pending"), refused("expired_token")];
    let (answer, pauses) = poll(&stored_code(), &answers, Duration::from_secs(300));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    assert_eq!(pauses, [5]);
}

#[test]
fn polling_ends_with_the_timeout_and_the_last_poll_is_at_its_end() {
    let world = answering(400, refused("authorization_pending"));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(10));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    // At 0, 5 and 10 seconds; the pause after that ends too late.
    assert_eq!((pauses.as_slice(), world.sent().len()), ([5, 5, 5].as_slice(), 3));
}

#[test]
fn polling_ends_with_the_code_even_if_the_timeout_is_longer() {
    let world = answering(400, refused("authorization_pending"));
    world.advance(Duration::from_secs(895));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    assert_eq!((pauses.as_slice(), world.sent().len()), ([5, 5].as_slice(), 2));
    let (answer, _) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert_eq!((answer.err(), world.sent().len()), (Some(OAuthError::Expired), 2));
}

#[test]
fn a_pause_that_says_stop_ends_the_polling() {
    let world = answering(400, refused("authorization_pending"));
    let asked = Cell::new(0);
    let pause = |_| {
        asked.set(asked.get() + 1);
        ready(asked.get() < 2)
    };
    let answer = run(stored_code().poll(&world.entra(), Duration::from_secs(300), pause));
    assert_eq!(answer.err(), Some(OAuthError::Expired));
    assert_eq!((asked.get(), world.sent().len()), (2, 2));
}

#[test]
fn a_poll_that_does_not_arrive_is_repeated_after_twice_the_interval() {
    let world = World::default();
    world.once(|_| Err(HttpError::TimedOut));
    world.once(|_| Err(HttpError::TimedOut));
    world.once(|_| Ok(response(200, &tokens())));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert!(answer.is_ok());
    assert_eq!(pauses, [10, 10]);
}

#[test]
fn a_poll_that_does_not_arrive_never_shortens_the_pauses() {
    let world = World::default();
    for _ in 0..3 {
        world.once(|_| Ok(response(400, &refused("slow_down"))));
    }
    world.once(|_| Err(HttpError::TimedOut));
    world.once(|_| Ok(response(200, &tokens())));
    let (answer, pauses) = poll_in(&world, &stored_code(), Duration::from_secs(300));
    assert!(answer.is_ok());
    assert_eq!(pauses, [10, 15, 20, 20]);
}

// What the token endpoint answers.

#[test]
fn a_token_lives_as_long_as_the_answer_says_and_else_an_hour() {
    assert_eq!(read(200, tokens()).unwrap().expires_at, START + 600);
    assert_eq!(read(200, without(tokens(), "expires_in")).unwrap().expires_at, START + 3600);
    assert_eq!(read(200, with(tokens(), "expires_in", json!(u64::MAX))).unwrap().expires_at, u64::MAX);
}

#[test]
fn optional_members_may_be_missing_or_null_and_unknown_ones_are_ignored() {
    let minimal = json!({ "token_type": "bearer", "access_token": "a" });
    let nulls = json!({
        "token_type": "BEARER", "access_token": "a", "refresh_token": null, "id_token": null, "scope": null,
        "expires_in": null, "foci": { "x": ["y"] },
    });
    for document in [minimal, nulls] {
        let set = read(200, document).unwrap();
        assert!(set.refresh_token.is_none() && set.id_token.is_none());
    }
    let repeated = r#"{"x":1,"token_type":"Bearer","access_token":"a","x":2}"#;
    assert_eq!(raw(200, None, repeated).unwrap().access_token.reveal(), "a");
}

/// What a refresh makes of this very text.
fn raw(status: u16, content_type: Option<&'static str>, body: &'static str) -> Result<TokenSet, OAuthError> {
    let world = World::default();
    world.once(move |_| {
        let mut answer = http::Response::builder().status(status);
        if let Some(content_type) = content_type {
            answer = answer.header("content-type", content_type);
        }
        Ok(answer.body(body.as_bytes().to_vec()).unwrap())
    });
    refresh_at(&world.entra())
}

#[test]
fn an_answer_that_rfc_6749_does_not_allow_is_malformed() {
    let documents = [
        without(tokens(), "access_token"),
        without(tokens(), "token_type"),
        with(tokens(), "token_type", Value::Null),
        with(tokens(), "access_token", json!(1)),
        with(tokens(), "scope", json!(["User.Read"])),
        with(tokens(), "expires_in", json!(-1)),
        with(tokens(), "token_type", json!("mac")),
        with(tokens(), "token_type", json!("pop")),
        with(tokens(), "token_type", json!("")),
        json!([]),
        json!(["access-1", "Bearer", null, null, null, null]),
    ];
    for document in documents {
        assert_eq!(read(200, document.clone()).err(), Some(OAuthError::Malformed("the token response")), "{document}");
    }
    let repeated = r#"{"token_type":"Bearer","access_token":"a","access_token":"b"}"#;
    assert_eq!(raw(200, None, repeated).err(), Some(OAuthError::Malformed("the token response")));
    assert_eq!(raw(400, None, "<html>").err(), Some(OAuthError::Malformed("the token response")));
    for (status, content_type) in [(200, None), (400, None), (200, Some("application/json"))] {
        assert_eq!(raw(status, content_type, "").err(), Some(OAuthError::Malformed("an empty token response")));
    }
}

#[test]
fn a_token_answer_is_json_by_its_content_type() {
    let body = r#"{"token_type":"Bearer","access_token":"a"}"#;
    for content_type in [None, Some("application/json"), Some("Application/JSON; charset=utf-8")] {
        assert!(raw(200, content_type, body).is_ok(), "{content_type:?}");
    }
    assert!(matches!(raw(200, Some("text/html"), body), Err(OAuthError::Malformed(_))));
}

#[test]
fn a_refusal_is_read_with_what_entra_adds() {
    let document = json!({
        "error": "invalid_grant", "error_description": "AADSTS65001: no consent", "error_codes": [65001],
        "suberror": "consent_required", "claims": "{}", "trace_id": "t-1", "correlation_id": "c-1",
    });
    let expected = EntraRefusal {
        error: "invalid_grant".to_owned(),
        code: 65001,
        suberror: Some("consent_required".to_owned()),
        claims: Some("{}".to_owned()),
        trace_id: Some("t-1".to_owned()),
    };
    assert_eq!(read(400, document).err(), Some(OAuthError::Refused(expected)));
    let short = EntraRefusal { error: "invalid_client".to_owned(), ..EntraRefusal::default() };
    assert_eq!(read(401, json!({ "error": "invalid_client" })).err(), Some(OAuthError::Refused(short)));
}

// Secrets.

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
