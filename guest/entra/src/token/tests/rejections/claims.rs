//! Steps 2, 3, 10 and 11: the claims by themselves.

use serde_json::json;
use world::testing::{START, TENANT};

use super::*;

fn missing(name: &str) -> TokenError {
    TokenError::ClaimMissing { name: name.to_owned() }
}

fn malformed(name: &str) -> TokenError {
    TokenError::ClaimMalformed { name: name.to_owned() }
}

pub(super) fn cases() -> Vec<Case> {
    let upper = TENANT.to_uppercase();
    let mut cases = vec![
        Case::claims("ver missing", json!({ "ver": null }), missing("ver")),
        Case::claims("iss missing", json!({ "iss": null }), missing("iss")),
        Case::claims("tid missing", json!({ "tid": null }), missing("tid")),
        Case::claims("oid missing", json!({ "oid": null }), missing("oid")),
        Case::claims("sub missing", json!({ "sub": null }), missing("sub")),
        Case::claims("aud missing", json!({ "aud": null }), missing("aud")),
        Case::claims("iat missing", json!({ "iat": null }), missing("iat")),
        Case::claims("nbf missing", json!({ "nbf": null }), missing("nbf")),
        Case::claims("exp missing", json!({ "exp": null }), missing("exp")),
        Case::claims("azp missing", json!({ "azp": null }), missing("azp")),
        Case::claims("azp missing, appid in its place", json!({ "azp": null, "appid": AZP }), missing("azp")),
        Case::new(
            "appid missing in version 1",
            rs256(&with(version_1_user_claims(), json!({ "appid": null }))),
            missing("appid"),
        ),
        Case::claims("tid is a domain", json!({ "tid": "contoso.com" }), malformed("tid")),
        Case::claims("tid in upper case", json!({ "tid": upper }), malformed("tid")),
        Case::claims("tid is common", json!({ "tid": "common" }), malformed("tid")),
        Case::claims("tid is the placeholder", json!({ "tid": "{tenantid}" }), malformed("tid")),
        Case::claims("tid in braces", json!({ "tid": format!("{{{TENANT}}}") }), malformed("tid")),
        Case::claims("tid leads elsewhere", json!({ "tid": format!("../{TENANT}") }), malformed("tid")),
        Case::claims("oid is a name", json!({ "oid": "user@contoso.com" }), malformed("oid")),
        Case::claims("azp is a URL", json!({ "azp": "https://client.example" }), malformed("azp")),
        Case::claims("sub too long", json!({ "sub": "s".repeat(256) }), malformed("sub")),
        Case::claims("aud is a list with the right one", json!({ "aud": [world::testing::CLIENT] }), malformed("aud")),
        Case::claims("scp is a list", json!({ "scp": ["User.Read"] }), malformed("scp")),
        Case::claims("scp empty", json!({ "scp": "" }), malformed("scp")),
        Case::claims("scp with two spaces", json!({ "scp": "A  B" }), malformed("scp")),
        Case::claims("scp with a trailing space", json!({ "scp": "A " }), malformed("scp")),
        Case::claims("roles is text", json!({ "roles": "Admin" }), malformed("roles")),
        Case::claims("roles holds a number", json!({ "roles": ["Admin", 1] }), malformed("roles")),
        Case::claims("roles holds an empty name", json!({ "roles": [""] }), malformed("roles")),
        Case::claims("groups is text", json!({ "groups": GROUP }), malformed("groups")),
        Case::claims("groups holds null", json!({ "groups": [null] }), malformed("groups")),
        Case::claims("hasgroups is a number", json!({ "hasgroups": 1 }), malformed("hasgroups")),
        Case::claims("_claim_names is text", json!({ "_claim_names": "groups" }), malformed("_claim_names")),
        Case::claims("acct is text", json!({ "acct": "1" }), malformed("acct")),
        Case::claims("idp is a list", json!({ "idp": [] }), malformed("idp")),
        Case::claims("idtyp of an unknown kind", json!({ "idtyp": "device" }), malformed("idtyp")),
        Case::claims("idtyp app with scopes", json!({ "idtyp": "app" }), malformed("idtyp")),
        Case::claims(
            "idtyp user without scopes",
            json!({ "idtyp": "user", "scp": null, "roles": ["R"] }),
            malformed("idtyp"),
        ),
        Case::claims("jti is a number", json!({ "jti": 1 }), malformed("jti")),
        Case::claims("name is an object", json!({ "name": {} }), malformed("name")),
        Case::claims("neither scope nor role", json!({ "scp": null }), TokenError::NoPermissions),
        Case::claims(
            "no scope and no roles in the list",
            json!({ "scp": null, "roles": [] }),
            TokenError::NoPermissions,
        ),
        Case::new(
            "app-only token without a role",
            rs256(&with(app_claims(), json!({ "roles": null }))),
            TokenError::NoPermissions,
        ),
        Case::new(
            "roles without scopes, of a principal that is not the subject",
            rs256(&with(app_claims(), json!({ "idtyp": null, "sub": "pairwise" }))),
            TokenError::NoPermissions,
        ),
        Case::claims(
            "an ID token, by its nonce",
            json!({ "nonce": "n" }),
            TokenError::WrongTokenUse { expected: "access token".to_owned(), claim: "nonce".to_owned() },
        ),
        Case::new(
            "an ID token without a nonce",
            rs256(&with(id_claims("n"), json!({ "nonce": null }))),
            missing("azp"),
        ),
        Case::claims(
            "expired at the edge of tolerance",
            json!({ "exp": START - 60 }),
            TokenError::Expired { seconds_ago: 60 },
        ),
        Case::claims("expired long ago", json!({ "exp": START - 86_400 }), TokenError::Expired { seconds_ago: 86_400 }),
        Case::claims("expired at time 0", json!({ "exp": 0 }), TokenError::Expired { seconds_ago: START }),
        Case::claims(
            "not yet valid by a second more than tolerated",
            json!({ "nbf": START + 61 }),
            TokenError::NotYetValid { seconds_ahead: 61 },
        ),
        Case::claims(
            "not yet valid for a year",
            json!({ "nbf": START + 31_536_000 }),
            TokenError::NotYetValid { seconds_ahead: 31_536_000 },
        ),
        Case::claims(
            "issued in the future",
            json!({ "iat": START + 61 }),
            TokenError::IssuedInFuture { seconds_ahead: 61 },
        ),
    ];
    for (name, ver) in
        [("ver 1", "1"), ("ver 2", "2"), ("ver 2.1", "2.1"), ("ver 3.0", "3.0"), ("ver with a space", "2.0 ")]
    {
        let expected = TokenError::VersionNotSupported { actual: ver.to_owned() };
        cases.push(Case::claims(name, json!({ "ver": ver }), expected));
    }
    for (name, claim, value) in [
        ("ver is a number", "ver", json!(2.0)),
        ("ver empty", "ver", json!("")),
        ("iss is a number", "iss", json!(1)),
        ("iss empty", "iss", json!("")),
        ("iss is a list", "iss", json!([AUTHORITY])),
        ("tid is a number", "tid", json!(1)),
        ("tid empty", "tid", json!("")),
        ("oid is an object", "oid", json!({})),
        ("oid empty", "oid", json!("")),
        ("sub is a number", "sub", json!(1)),
        ("sub empty", "sub", json!("")),
        ("aud is a number", "aud", json!(1)),
        ("aud empty", "aud", json!("")),
        ("azp is true", "azp", json!(true)),
        ("nonce is a number", "nonce", json!(1)),
        ("cnf is text", "cnf", json!("jkt")),
        ("cnf is a list", "cnf", json!([{ "jkt": "x" }])),
        ("exp is text", "exp", json!((START + 3600).to_string())),
        ("exp is a fraction", "exp", json!(START as f64 + 3600.5)),
        ("exp is a whole number in float form", "exp", json!(1.7672292e9)),
        ("exp is negative", "exp", json!(-1)),
        ("exp after the year 9999", "exp", json!(253_402_300_800_u64)),
        ("exp is the largest integer", "exp", json!(u64::MAX)),
        ("exp is larger than any integer", "exp", json!(1e300)),
        ("exp is true", "exp", json!(true)),
        ("nbf is text", "nbf", json!("0")),
        ("nbf is a fraction", "nbf", json!(0.5)),
        ("nbf is negative", "nbf", json!(-1)),
        ("nbf is the largest integer", "nbf", json!(u64::MAX)),
        ("iat is text", "iat", json!("0")),
        ("iat is a fraction", "iat", json!(0.5)),
        ("iat is negative", "iat", json!(i64::MIN)),
        ("iat is the largest integer", "iat", json!(u64::MAX)),
    ] {
        let claims = user_claims();
        let mut claims = claims.as_object().cloned().unwrap();
        claims.insert(claim.to_owned(), value);
        cases.push(Case::new(name, rs256(&Value::Object(claims)), malformed(claim)));
    }
    // Null is a value, not an absence.
    for (name, claim) in [
        ("exp is null", "exp"),
        ("aud is null", "aud"),
        ("scp is null", "scp"),
        ("azp is null", "azp"),
        ("nonce is null", "nonce"),
        ("cnf is null", "cnf"),
    ] {
        let mut claims = user_claims().as_object().cloned().unwrap();
        claims.insert(claim.to_owned(), Value::Null);
        cases.push(Case::new(name, rs256(&Value::Object(claims)), malformed(claim)));
    }
    // RFC 7800 section 3: a bearer token is not bound to a key.
    for (name, cnf, methods) in [
        ("bound by a thumbprint (DPoP)", json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }), &["jkt"][..]),
        ("bound by a certificate", json!({ "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" }), &["x5t#S256"]),
        ("bound by a key id", json!({ "kid": "k", "xms_ksl": "sw" }), &["kid", "xms_ksl"]),
        ("bound by a key of its own", json!({ "jwk": { "kty": "EC" } }), &["jwk"]),
        ("bound by what is not known yet", json!({ "new": 1 }), &["new"]),
        ("bound, and it is not said how", json!({}), &[]),
    ] {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        cases.push(Case::claims(name, json!({ "cnf": cnf }), TokenError::KeyBound { methods }));
    }
    let bound = |token: &Value| rs256(&with(token.clone(), json!({ "cnf": { "jkt": "x" } })));
    let key_bound = || TokenError::KeyBound { methods: vec!["jkt".to_owned()] };
    cases.push(Case::new("bound, of version 1", bound(&version_1_user_claims()), key_bound()));
    cases.push(Case::new("bound, of an application", bound(&app_claims()), key_bound()));
    cases
}
