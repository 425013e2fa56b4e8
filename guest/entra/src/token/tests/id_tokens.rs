//! ID tokens of a sign-in go through the same steps, and some of their own.

use std::time::Duration;

use base::principal::CallerKind;
use base::settings::Mode;
use serde_json::{Value, json};
use world::testing::{CLIENT, START, TENANT, run};

use crate::clouds::CONSUMER_TENANT;
use crate::testing::*;
use crate::token::*;

fn validate(authority: &FakeAuthority, claims: Value, nonce: Option<&str>) -> Result<ValidatedIdToken, TokenError> {
    let token = sign(&header("RS256", "rsa"), &claims, &TestKey::named("rsa"));
    run(validate_id_token(&authority.env, &token, &IdTokenExpectations { nonce }))
}

fn refuse(claims: Value) -> TokenError {
    validate(&FakeAuthority::new(), claims, Some("n")).unwrap_err()
}

#[test]
fn the_id_token_of_a_sign_in_is_accepted() {
    let token = validate(&FakeAuthority::new(), id_claims("n"), Some("n")).unwrap();
    assert_eq!((token.tenant_id(), token.object_id(), token.subject()), (TENANT, OBJECT, "pairwise-subject"));
    assert_eq!((token.preferred_username(), token.name()), (Some("user@contoso.example"), Some("Test User")));
    assert_eq!((token.expires_at(), token.issuer()), (START + 3600, format!("{AUTHORITY}/{TENANT}/v2.0").as_str()));
}

#[test]
fn a_grant_without_a_nonce_brings_a_token_without_one() {
    let claims = with(id_claims("n"), json!({"nonce": null}));
    assert!(validate(&FakeAuthority::new(), claims.clone(), None).is_ok());
    assert_eq!(validate(&FakeAuthority::new(), id_claims("n"), None), Err(TokenError::NonceMismatch));
    assert_eq!(validate(&FakeAuthority::new(), claims, Some("n")), Err(TokenError::NonceMismatch));
}

#[test]
fn the_nonce_of_another_sign_in_is_refused() {
    for nonce in ["", "N", "n ", "m"] {
        assert_eq!(refuse(id_claims(nonce)), TokenError::NonceMismatch, "{nonce}");
    }
}

#[test]
fn an_access_token_is_not_an_id_token() {
    let error = refuse(with(id_claims("n"), json!({"scp": "User.Read"})));
    assert_eq!(error, TokenError::WrongTokenUse { expected: "ID token".to_owned(), claim: "scp".to_owned() });
    let error = refuse(with(id_claims("n"), json!({"idtyp": "app"})));
    assert_eq!(error, TokenError::WrongTokenUse { expected: "ID token".to_owned(), claim: "idtyp".to_owned() });
}

#[test]
fn an_agent_does_not_sign_in() {
    for facets in [
        json!({ "xms_sub_fct": "3 13" }),
        json!({ "xms_sub_fct": "11" }),
        json!({ "xms_act_fct": "3 9 11" }),
        json!({ "xms_sub_fct": [13] }),
    ] {
        let error = refuse(with(id_claims("n"), facets.clone()));
        let expected = TokenError::PrincipalKindMismatch { required: CallerKind::User, actual: CallerKind::Agent };
        assert_eq!(error, expected, "{facets}");
    }
    let person = json!({ "xms_act_fct": "9 3", "xms_sub_fct": "3", "xms_par_app_azp": AZP });
    assert!(validate(&FakeAuthority::new(), with(id_claims("n"), person), Some("n")).is_ok());
}

#[test]
fn an_id_token_for_another_client_is_refused() {
    let error = refuse(with(id_claims("n"), json!({ "aud": AZP })));
    assert_eq!(error, TokenError::AudienceMismatch { expected: vec![CLIENT.to_owned()], actual: AZP.to_owned() });
    let error = refuse(with(id_claims("n"), json!({ "azp": AZP })));
    assert_eq!(error, TokenError::ClientNotAllowed { expected: vec![CLIENT.to_owned()], actual: AZP.to_owned() });
    assert!(validate(&FakeAuthority::new(), with(id_claims("n"), json!({ "azp": CLIENT })), Some("n")).is_ok());
}

#[test]
fn the_audiences_of_access_tokens_do_not_count_for_id_tokens() {
    let error = refuse(with(id_claims("n"), json!({"aud": format!("api://{CLIENT}")})));
    assert_eq!(error.reason(), "audience-mismatch");
}

#[test]
fn a_version_1_id_token_is_refused() {
    let claims = with(id_claims("n"), json!({"ver": "1.0", "iss": format!("https://sts.windows.net/{TENANT}/")}));
    assert_eq!(refuse(claims), TokenError::VersionNotSupported { actual: "1.0".to_owned() });
}

#[test]
fn an_expired_id_token_is_refused() {
    let claims = with(id_claims("n"), json!({"exp": START - 300}));
    assert_eq!(refuse(claims), TokenError::Expired { seconds_ago: 300 });
}

#[test]
fn a_clock_may_be_five_minutes_off_for_an_id_token_unless_set_otherwise() {
    let mut authority = FakeAuthority::new();
    let issued = |ahead: u64| with(id_claims("n"), json!({"iat": START + ahead, "nbf": START + ahead}));
    assert!(validate(&authority, issued(300), Some("n")).is_ok());
    assert_eq!(validate(&authority, issued(301), Some("n")), Err(TokenError::NotYetValid { seconds_ahead: 301 }));
    change(&mut authority.env, |settings| settings.token.clock_tolerance = Some(Duration::from_secs(20)));
    assert!(validate(&authority, issued(20), Some("n")).is_ok());
    assert_eq!(validate(&authority, issued(21), Some("n")), Err(TokenError::NotYetValid { seconds_ahead: 21 }));
}

#[test]
fn a_local_client_of_any_organisation_signs_in_people_of_every_organisation() {
    let mut authority = FakeAuthority::new();
    change(&mut authority.env, |settings| settings.tenant = "organizations".to_owned());
    authority.publish_metadata("organizations", "{tenantid}");
    let of = |tid: &str| with(id_claims("n"), json!({"tid": tid, "iss": format!("{AUTHORITY}/{tid}/v2.0")}));
    assert!(validate(&authority, of(OTHER_TENANT), Some("n")).is_ok());
    assert_eq!(
        validate(&authority, of(CONSUMER_TENANT), Some("n")),
        Err(TokenError::TenantNotAllowed { tenant_id: CONSUMER_TENANT.to_owned() })
    );
    change(&mut authority.env, |settings| settings.mode = Mode::Validator);
    assert_eq!(
        validate(&authority, of(OTHER_TENANT), Some("n")),
        Err(TokenError::TenantNotAllowed { tenant_id: OTHER_TENANT.to_owned() })
    );
}

#[test]
fn without_a_client_id_no_id_token_is_accepted() {
    let mut authority = FakeAuthority::new();
    change(&mut authority.env, |settings| settings.client_id = String::new());
    assert_eq!(
        validate(&authority, id_claims("n"), Some("n")),
        Err(TokenError::ConfigurationInvalid { setting: "client_id".to_owned() })
    );
}

#[test]
fn debug_of_a_token_shows_no_name() {
    let validated = validate(&FakeAuthority::new(), id_claims("n"), Some("n")).unwrap();
    let token = sign(&header("RS256", "rsa"), &id_claims("n"), &TestKey::named("rsa"));
    let compact = compact::parse(&token).unwrap();
    let claims = crate::token::claims::Claims::read(&compact.claims).unwrap();
    for text in [format!("{validated:?}"), format!("{compact:?}"), format!("{claims:?}")] {
        assert!(!text.contains("Test User") && !text.contains("user@contoso.example"), "{text}");
    }
}
