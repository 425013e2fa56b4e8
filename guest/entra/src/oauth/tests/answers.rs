//! What is believed of the answers of the token endpoint.

use super::*;
use crate::oauth::error::EntraRefusal;

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
