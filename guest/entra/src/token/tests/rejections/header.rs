//! Step 1: the header parameters.

use serde_json::json;

use super::*;

fn algorithm(name: &str) -> TokenError {
    TokenError::AlgorithmNotAllowed { algorithm: name.to_owned() }
}

fn not_allowed(name: &str) -> TokenError {
    TokenError::HeaderNotAllowed { name: name.to_owned() }
}

fn missing(name: &str) -> TokenError {
    TokenError::HeaderMissing { name: name.to_owned() }
}

fn malformed(name: &str) -> TokenError {
    TokenError::HeaderMalformed { name: name.to_owned() }
}

pub(super) fn cases() -> Vec<Case> {
    let jwk = TestKey::named("rsa-other").jwk("rsa");
    let mut cases = vec![
        Case::header("alg missing", json!({ "alg": null }), missing("alg")),
        Case::header("alg is a number", json!({ "alg": 1 }), malformed("alg")),
        Case::header("alg is a list", json!({ "alg": ["RS256"] }), malformed("alg")),
        Case::header("kid missing", json!({ "kid": null }), missing("kid")),
        Case::header("kid empty", json!({ "kid": "" }), malformed("kid")),
        Case::header("kid is a number", json!({ "kid": 1 }), malformed("kid")),
        Case::header("kid is an object", json!({ "kid": {} }), malformed("kid")),
        Case::header("kid too long", json!({ "kid": "k".repeat(257) }), malformed("kid")),
        Case::header("typ is a number", json!({ "typ": 1 }), malformed("typ")),
        Case::header("x5t is a number", json!({ "x5t": 1 }), malformed("x5t")),
        Case::header("embedded key", json!({ "jwk": jwk }), not_allowed("jwk")),
        Case::header("embedded key, empty", json!({ "jwk": {} }), not_allowed("jwk")),
        Case::header("key set URL", json!({ "jku": "https://evil.example/keys" }), not_allowed("jku")),
        Case::header(
            "key set URL of the authority itself",
            json!({ "jku": format!("{AUTHORITY}/common/discovery/v2.0/keys") }),
            not_allowed("jku"),
        ),
        Case::header("certificate URL", json!({ "x5u": "https://evil.example/cert" }), not_allowed("x5u")),
        Case::header("certificate chain", json!({ "x5c": ["MIIB"] }), not_allowed("x5c")),
        Case::header("critical extension", json!({ "crit": ["exp"], "exp": 1 }), not_allowed("crit")),
        Case::header("critical list, empty", json!({ "crit": [] }), not_allowed("crit")),
        Case::header("critical list of no list", json!({ "crit": "b64" }), not_allowed("crit")),
        Case::header("unencoded payload", json!({ "b64": false }), not_allowed("b64")),
        Case::header("compressed", json!({ "zip": "DEF" }), not_allowed("zip")),
        Case::header("content encryption", json!({ "enc": "A256GCM" }), not_allowed("enc")),
        Case::header("nested token", json!({ "cty": "JWT" }), not_allowed("cty")),
        Case::header("ephemeral key", json!({ "epk": {} }), not_allowed("epk")),
        Case::header("password iterations", json!({ "p2c": 1_000_000_000 }), not_allowed("p2c")),
        Case::header("password salt", json!({ "p2s": "AAAA" }), not_allowed("p2s")),
        Case::new(
            "no algorithm and no signature",
            {
                let header = encode(json!({ "alg": "none", "kid": "rsa" }).to_string());
                format!("{header}.{}.", encode(user_claims().to_string()))
            },
            algorithm("none"),
        ),
    ];
    for (name, alg) in [
        ("alg none", "none"),
        ("alg None", "None"),
        ("alg NONE", "NONE"),
        ("alg nOnE", "nOnE"),
        ("alg empty", ""),
        ("alg HS256", "HS256"),
        ("alg HS384", "HS384"),
        ("alg HS512", "HS512"),
        ("alg RS384", "RS384"),
        ("alg RS512", "RS512"),
        ("alg RS1", "RS1"),
        ("alg PS384", "PS384"),
        ("alg PS512", "PS512"),
        ("alg ES384", "ES384"),
        ("alg ES512", "ES512"),
        ("alg ES256K", "ES256K"),
        ("alg EdDSA", "EdDSA"),
        ("alg Ed25519", "Ed25519"),
        ("alg ML-DSA-44", "ML-DSA-44"),
        ("alg in lower case", "rs256"),
        ("alg with a space", "RS256 "),
        ("alg of an encrypted token, RSA", "RSA-OAEP-256"),
        ("alg of an encrypted token, direct", "dir"),
        ("alg of an encrypted token, elliptic curve", "ECDH-ES"),
    ] {
        cases.push(Case::header(name, json!({ "alg": alg }), algorithm(alg)));
    }
    for (name, typ) in [
        ("typ of a DPoP proof", "dpop+jwt"),
        ("typ of a logout token", "logout+jwt"),
        ("typ of a security event", "secevent+jwt"),
        ("typ of an encrypted token", "JWE"),
        ("typ empty", ""),
    ] {
        cases.push(Case::header(name, json!({ "typ": typ }), TokenError::TypeNotAllowed { actual: typ.to_owned() }));
    }
    cases
}
