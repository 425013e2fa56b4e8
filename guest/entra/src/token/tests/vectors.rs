//! Public test vectors: Wycheproof's JSON Web Signature and JSON Web Key sets (which include RFC 7520 section 4),
//! and RFC 7515 appendix A.
//!
//! Most of them sign a text that is no claims set, so what runs is the path of a token up to and including the
//! signature: compact form, header, key set, key, signature. Where the validator's policy is stricter than the vector a
//! reason stands in the table, and a vector that passes although it is listed fails the test.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::token::compact::{self, Algorithm, SignedToken};
use crate::token::jwks::{JsonWebKey, KeySet};
use crate::token::signature::{Material, primitives};
use crate::token::tests::host::Host;

const SIGNATURES: &str = include_str!("../../../../../tests/fixtures/wycheproof/json_web_signature_test.json");
const KEYS: &str = include_str!("../../../../../tests/fixtures/wycheproof/json_web_key_test.json");

/// Valid by the vector, refused here, with the reason.
const REFUSED: [(&str, &str); 1] = [(
    "emptyPayload",
    "a token without claims says nothing, and RFC 7515 appendix F uses the form for detached content",
)];

/// Also refused is whatever is signed with an algorithm that Entra ID does not use.
fn is_refused_by_policy(comment: &str, token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let Ok(header) = URL_SAFE_NO_PAD.decode(header) else {
        return comment == "InvalidCharacterInsertedInHeader";
    };
    let header: Value = serde_json::from_slice(&header).unwrap();
    !matches!(header["alg"].as_str(), Some("RS256" | "PS256" | "ES256"))
        || REFUSED.iter().any(|(listed, _)| *listed == comment)
}

/// Invalid by the vector, accepted here, with the reason.
const ACCEPTED: [(&str, &str); 1] = [(
    "rejectsKeyWithRocaVulnerability",
    "keys come from the configured authority only, and an attacker who places a weak key there can place a good one",
)];

/// The path of a token from its form to its signature.
fn is_accepted(keys: &Value, token: &str) -> bool {
    let Ok(SignedToken { algorithm, key_id, .. }) = compact::parse_signed(token) else {
        return false;
    };
    let Ok(keys) = KeySet::parse(keys.to_string().as_bytes()) else {
        return false;
    };
    let found: Vec<_> = keys.with_id(&key_id).collect();
    let [key] = found.as_slice() else { return false };
    let Ok(verifying) = key.for_algorithm(algorithm) else { return false };
    let is_good = verifying.has_good_signature(token);
    if algorithm == Algorithm::Rs256 {
        assert_eq!(verifying.verify(token, Some(&Host::default())).is_ok(), is_good, "{token}");
    }
    if let Some(other) = by_primitives(key, algorithm, token) {
        assert_eq!(other, is_good, "{token}");
    }
    is_good
}

/// The crates that verify where jwt-simple is not built in say the same.
fn by_primitives(key: &JsonWebKey, algorithm: Algorithm, token: &str) -> Option<bool> {
    Some(match (algorithm, key.material().ok()?) {
        (Algorithm::Ps256, Material::Rsa { modulus, exponent }) => {
            primitives::Ps256::new(modulus, exponent).is_ok_and(|key| key.verify(token).is_ok())
        }
        (Algorithm::Es256, Material::P256 { x, y }) => {
            primitives::Es256::new(x, y).is_ok_and(|key| key.verify(token).is_ok())
        }
        _ => return None,
    })
}

/// How many were accepted and refused; fewer than expected would mean that the data was not read.
fn run(document: &str) -> (usize, usize) {
    let document: Value = serde_json::from_str(document).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for group in document["testGroups"].as_array().unwrap() {
        let key = group.get("public").unwrap_or(&group["private"]);
        let keys = if key.get("keys").is_some() { key.clone() } else { json!({ "keys": [key] }) };
        for test in group["tests"].as_array().unwrap() {
            let (id, comment) = (&test["tcId"], test["comment"].as_str().unwrap());
            let token = test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned);
            let expected = match test["result"].as_str() {
                Some("valid") => !is_refused_by_policy(comment, &token),
                _ => ACCEPTED.iter().any(|(listed, _)| *listed == comment),
            };
            assert_eq!(is_accepted(&keys, &token), expected, "{id} {comment} {}", group["comment"]);
            if expected { accepted += 1 } else { refused += 1 }
        }
    }
    (accepted, refused)
}

#[test]
fn wycheproof_json_web_signatures() {
    assert_eq!(run(SIGNATURES), (14, 387));
}

#[test]
fn wycheproof_json_web_keys() {
    assert_eq!(run(KEYS), (2, 24));
}

/// The examples have no `kid`, so they are verified with the key itself.
#[test]
fn rfc_7515_appendix_a() {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = json!({
        "kty": "RSA", "e": "AQAB", "kid": "a2",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-\
              SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-\
              UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2et\
              hFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    });
    let p256 = json!({
        "kty": "EC", "crv": "P-256", "kid": "a3",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let keys = KeySet::parse(json!({ "keys": [rsa, p256] }).to_string().as_bytes()).unwrap();
    for (key_id, algorithm, header, signature) in [
        (
            "a2",
            compact::Algorithm::Rs256,
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb\
             F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383\
             LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy\
             wlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "a3",
            compact::Algorithm::Es256,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let token = format!("{header}.{payload}.{signature}");
        let key = keys.with_id(key_id).next().unwrap().for_algorithm(algorithm).unwrap();
        assert_eq!(key.verify(&token, Some(&Host::default())), Ok(()), "{key_id}");
        let forged = format!("{header}.{payload}.{}", signature.replacen('c', "d", 1).replacen("Dt", "Du", 1));
        assert!(key.verify(&forged, Some(&Host::default())).is_err(), "{key_id}");
        // As tokens they are refused for what they lack.
        let missing = crate::token::TokenError::HeaderMissing { name: "kid".to_owned() };
        assert_eq!(compact::parse(&token).unwrap_err(), missing);
    }
}
