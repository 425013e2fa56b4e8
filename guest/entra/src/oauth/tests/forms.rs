//! What is sent: the forms of the grants, and the URL to sign in at.

use std::future::ready;
use std::time::Duration;

use super::*;
use crate::oauth::authorization_code::{Prompt, RedeemError};
use crate::oauth::{client_credentials, on_behalf_of};
use crate::testing::OTHER_TENANT;

const CAPABILITIES: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
const REDIRECT: &str = "http://127.0.0.1:53682/";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// What S256 makes of [`VERIFIER`].
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

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
    let new = || AuthorizationRequest::new(env.random, REDIRECT.to_owned(), scopes(), None);
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
