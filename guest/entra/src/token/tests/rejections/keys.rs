//! Steps 7 and 8: key and signature.

use serde_json::json;
use world::testing::TENANT;

use super::*;

fn unknown(key_id: &str) -> TokenError {
    TokenError::KeyUnknown { key_id: key_id.to_owned() }
}

fn not_allowed(fault: KeyFault) -> TokenError {
    TokenError::KeyNotAllowed { key_id: "k".to_owned(), fault }
}

fn bad_signature(key_id: &str) -> TokenError {
    TokenError::SignatureInvalid { key_id: key_id.to_owned() }
}

/// A token by `signer` that names the key `k`, and a key set of exactly this `k` beside a good key.
fn key_case(name: &'static str, algorithm: &str, signer: &'static str, published: Value, fault: KeyFault) -> Case {
    let token = sign(&header(algorithm, "k"), &user_claims(), &TestKey::named(signer));
    Case::new(name, token, not_allowed(fault)).setup(move |authority| {
        authority.publish_keys(json!([TestKey::named("rsa").jwk("good"), published]));
    })
}

/// The public key of `signer` with changes.
fn published(signer: &'static str, changes: Value) -> Value {
    with(TestKey::named(signer).jwk("k"), changes)
}

fn forged(name: &'static str, algorithm: &str, key_id: &'static str, edit: impl Fn(&mut Vec<u8>)) -> Case {
    let signer = if algorithm == "ES256" { "p256" } else { "rsa" };
    let token = sign(&header(algorithm, key_id), &user_claims(), &TestKey::named(signer));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = decode(signature);
    edit(&mut bytes);
    Case::new(name, format!("{signed}.{}", encode(bytes)), bad_signature(key_id))
}

/// A token whose claims or header are exchanged after signing.
fn exchanged(name: &'static str, part: usize, text: &str) -> Case {
    let token = rs256(&user_claims());
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[part] = encode(text);
    Case::new(name, parts.join("."), bad_signature("rsa"))
}

pub(super) fn cases() -> Vec<Case> {
    let other_v2 = format!("{AUTHORITY}/{OTHER_TENANT}/v2.0");
    let rsa = || TestKey::named("rsa").jwk("k");
    let modulus = decode(rsa()["n"].as_str().unwrap());
    let zero_padded = encode([&[0], modulus.as_slice()].concat());
    let mut even = modulus.clone();
    *even.last_mut().unwrap() &= 0xFE;
    let private = with(rsa(), json!({ "d": "AQAB" }));
    vec![
        Case::new(
            "a key that is not in the set",
            sign(&header("RS256", "new"), &user_claims(), &TestKey::named("rsa")),
            unknown("new"),
        ),
        Case::new(
            "a key id in another case",
            sign(&header("RS256", "RSA"), &user_claims(), &TestKey::named("rsa")),
            unknown("RSA"),
        ),
        Case::new(
            "a key id with a space",
            sign(&header("RS256", "rsa "), &user_claims(), &TestKey::named("rsa")),
            unknown("rsa "),
        ),
        Case::new(
            "a key id that looks like a path",
            sign(&header("RS256", "../../dev/null"), &user_claims(), &TestKey::named("rsa")),
            unknown("../../dev/null"),
        ),
        Case::new(
            "signed by another RSA key",
            sign(&header("RS256", "rsa"), &user_claims(), &TestKey::named("rsa-other")),
            bad_signature("rsa"),
        ),
        Case::new(
            "signed by another RSA key, PSS",
            sign(&header("PS256", "rsa-ps"), &user_claims(), &TestKey::named("rsa-other")),
            bad_signature("rsa-ps"),
        ),
        Case::new(
            "signed by another EC key",
            sign(&header("ES256", "p256"), &user_claims(), &TestKey::named("p256-other")),
            bad_signature("p256"),
        ),
        Case::new(
            "PSS signature under RS256",
            sign_text(&header("RS256", "rsa").to_string(), &user_claims().to_string(), "PS256", &TestKey::named("rsa")),
            bad_signature("rsa"),
        ),
        Case::new(
            "PKCS 1 signature under PS256",
            sign_text(
                &header("PS256", "rsa-ps").to_string(),
                &user_claims().to_string(),
                "RS256",
                &TestKey::named("rsa"),
            ),
            bad_signature("rsa-ps"),
        ),
        forged("first byte of the signature changed", "RS256", "rsa", |bytes| bytes[0] ^= 1),
        forged("last byte of the signature changed", "RS256", "rsa", |bytes| *bytes.last_mut().unwrap() ^= 1),
        forged("signature shortened", "RS256", "rsa", |bytes| bytes.truncate(bytes.len() - 1)),
        forged("signature lengthened", "RS256", "rsa", |bytes| bytes.push(0)),
        forged("signature with a leading zero", "RS256", "rsa", |bytes| bytes.insert(0, 0)),
        forged("signature of zeros", "RS256", "rsa", |bytes| bytes.fill(0)),
        forged("signature of ones", "RS256", "rsa", |bytes| bytes.fill(0xFF)),
        forged("signature of one byte", "RS256", "rsa", |bytes| bytes.truncate(1)),
        forged("PSS signature changed", "PS256", "rsa-ps", |bytes| bytes[9] ^= 0x80),
        forged("EC signature changed", "ES256", "p256", |bytes| bytes[40] ^= 1),
        forged("EC signature of zeros", "ES256", "p256", |bytes| bytes.fill(0)),
        forged("EC signature with r zero", "ES256", "p256", |bytes| bytes[..32].fill(0)),
        forged("EC signature with s zero", "ES256", "p256", |bytes| bytes[32..].fill(0)),
        forged("EC signature in DER", "ES256", "p256", |bytes| {
            let signature = p256::ecdsa::Signature::from_slice(bytes).unwrap();
            *bytes = signature.to_der().as_bytes().to_vec();
        }),
        forged("EC signature shortened", "ES256", "p256", |bytes| bytes.truncate(bytes.len() - 1)),
        forged("EC signature lengthened", "ES256", "p256", |bytes| bytes.push(0)),
        forged("EC signature of r above the order", "ES256", "p256", |bytes| bytes[..32].fill(0xFF)),
        exchanged(
            "claims exchanged after signing",
            1,
            &with(user_claims(), json!({ "scp": "Everything" })).to_string(),
        ),
        exchanged("claims with a space added after signing", 1, &format!("{} ", user_claims())),
        exchanged(
            "header exchanged after signing",
            0,
            &with(header("RS256", "rsa"), json!({ "typ": "at+jwt" })).to_string(),
        ),
        exchanged("signature of another token", 1, &app_claims().to_string()),
        key_case("RSA key of 1024 bits", "RS256", "rsa-1024", published("rsa-1024", json!({})), KeyFault::Size),
        key_case("RSA key of 2040 bits", "RS256", "rsa-2040", published("rsa-2040", json!({})), KeyFault::Size),
        key_case("RSA key of 8200 bits", "RS256", "rsa-8200", published("rsa-8200", json!({})), KeyFault::Size),
        key_case("RSA key with exponent 3", "RS256", "rsa-e3", published("rsa-e3", json!({})), KeyFault::Exponent),
        key_case("RSA key with exponent 1", "RS256", "rsa", published("rsa", json!({ "e": "AQ" })), KeyFault::Exponent),
        key_case(
            "RSA key with an even exponent",
            "RS256",
            "rsa",
            published("rsa", json!({ "e": "AQAC" })),
            KeyFault::Exponent,
        ),
        key_case(
            "RSA key with a huge exponent",
            "RS256",
            "rsa",
            published("rsa", json!({ "e": encode([0xFF; 32]) })),
            KeyFault::Exponent,
        ),
        key_case(
            "RSA key with an exponent above 2^33",
            "RS256",
            "rsa",
            published("rsa", json!({ "e": encode([3, 0, 0, 0, 1]) })),
            KeyFault::Exponent,
        ),
        key_case(
            "RSA key with a padded modulus",
            "RS256",
            "rsa",
            published("rsa", json!({ "n": zero_padded })),
            KeyFault::Malformed,
        ),
        key_case(
            "RSA key with an even modulus",
            "RS256",
            "rsa",
            published("rsa", json!({ "n": encode(even) })),
            KeyFault::Malformed,
        ),
        key_case(
            "RSA key without a modulus",
            "RS256",
            "rsa",
            published("rsa", json!({ "n": null })),
            KeyFault::Malformed,
        ),
        key_case(
            "RSA key without an exponent",
            "RS256",
            "rsa",
            published("rsa", json!({ "e": null })),
            KeyFault::Malformed,
        ),
        key_case(
            "RSA key with padding in the base64url",
            "RS256",
            "rsa",
            published("rsa", json!({ "e": "AQAB==" })),
            KeyFault::Malformed,
        ),
        key_case(
            "RSA key with a number for a modulus",
            "RS256",
            "rsa",
            published("rsa", json!({ "n": 1 })),
            KeyFault::Malformed,
        ),
        key_case("RSA key that is published with its private part", "RS256", "rsa", private, KeyFault::Private),
        key_case("a key for encryption", "RS256", "rsa", published("rsa", json!({ "use": "enc" })), KeyFault::Use),
        key_case("a key of an unknown use", "RS256", "rsa", published("rsa", json!({ "use": "SIG" })), KeyFault::Use),
        key_case(
            "a key whose use is a list",
            "RS256",
            "rsa",
            published("rsa", json!({ "use": ["sig"] })),
            KeyFault::Use,
        ),
        key_case(
            "a key that may sign only",
            "RS256",
            "rsa",
            published("rsa", json!({ "key_ops": ["sign"] })),
            KeyFault::Use,
        ),
        key_case(
            "a key that may do nothing",
            "RS256",
            "rsa",
            published("rsa", json!({ "key_ops": [] })),
            KeyFault::Use,
        ),
        key_case(
            "PS256 with a key that names no algorithm",
            "PS256",
            "rsa",
            published("rsa", json!({})),
            KeyFault::Algorithm,
        ),
        key_case(
            "PS256 with a key for RS256",
            "PS256",
            "rsa",
            published("rsa", json!({ "alg": "RS256" })),
            KeyFault::Algorithm,
        ),
        key_case(
            "RS256 with a key for PS256",
            "RS256",
            "rsa",
            published("rsa", json!({ "alg": "PS256" })),
            KeyFault::Algorithm,
        ),
        key_case(
            "RS256 with a key for RS512",
            "RS256",
            "rsa",
            published("rsa", json!({ "alg": "RS512" })),
            KeyFault::Algorithm,
        ),
        key_case(
            "RS256 with a key for encryption by algorithm",
            "RS256",
            "rsa",
            published("rsa", json!({ "alg": "RSA-OAEP" })),
            KeyFault::Algorithm,
        ),
        key_case(
            "a key whose algorithm is a number",
            "RS256",
            "rsa",
            published("rsa", json!({ "alg": 1 })),
            KeyFault::Malformed,
        ),
        key_case("ES256 with an RSA key", "ES256", "p256", published("rsa", json!({})), KeyFault::Type),
        key_case("RS256 with an EC key", "RS256", "rsa", published("p256", json!({ "alg": null })), KeyFault::Type),
        key_case("PS256 with an EC key", "PS256", "rsa", published("p256", json!({ "alg": null })), KeyFault::Type),
        key_case(
            "ES256 with a key on another curve",
            "ES256",
            "p256",
            published("p256", json!({ "crv": "P-384" })),
            KeyFault::Type,
        ),
        key_case(
            "ES256 with a key on no curve",
            "ES256",
            "p256",
            published("p256", json!({ "crv": null })),
            KeyFault::Type,
        ),
        key_case(
            "ES256 with a key on secp256k1",
            "ES256",
            "p256",
            published("p256", json!({ "crv": "secp256k1" })),
            KeyFault::Type,
        ),
        key_case(
            "ES256 with a point off the curve",
            "ES256",
            "p256",
            published("p256", json!({ "x": encode([1; 32]) })),
            KeyFault::Malformed,
        ),
        key_case(
            "ES256 with the point at zero",
            "ES256",
            "p256",
            published("p256", json!({ "x": encode([0; 32]), "y": encode([0; 32]) })),
            KeyFault::Malformed,
        ),
        key_case(
            "ES256 with a short coordinate",
            "ES256",
            "p256",
            published("p256", json!({ "x": encode([1; 31]) })),
            KeyFault::Malformed,
        ),
        key_case(
            "ES256 with half a point",
            "ES256",
            "p256",
            published("p256", json!({ "y": null })),
            KeyFault::Malformed,
        ),
        key_case(
            "a symmetric key",
            "RS256",
            "rsa",
            json!({ "kty": "oct", "kid": "k", "k": "AAAA", "issuer": other_v2.replace(OTHER_TENANT, TENANT) }),
            KeyFault::Private,
        ),
        key_case(
            "an Edwards key",
            "RS256",
            "rsa",
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": encode([1; 32]) }),
            KeyFault::Type,
        ),
        key_case("a key of no type", "RS256", "rsa", published("rsa", json!({ "kty": null })), KeyFault::Type),
        key_case("a key type in lower case", "RS256", "rsa", published("rsa", json!({ "kty": "rsa" })), KeyFault::Type),
        key_case(
            "a key of another tenant",
            "RS256",
            "rsa",
            published("rsa", json!({ "issuer": other_v2 })),
            KeyFault::Issuer,
        ),
        key_case(
            "a key of another authority",
            "RS256",
            "rsa",
            published("rsa", json!({ "issuer": "https://login.evil.example/{tenantid}/v2.0" })),
            KeyFault::Issuer,
        ),
        key_case(
            "a key with an empty issuer",
            "RS256",
            "rsa",
            published("rsa", json!({ "issuer": "" })),
            KeyFault::Issuer,
        ),
        key_case(
            "a key whose issuer is a list",
            "RS256",
            "rsa",
            published("rsa", json!({ "issuer": [] })),
            KeyFault::Malformed,
        ),
        Case::new(
            "two keys of the same id",
            sign(&header("RS256", "k"), &user_claims(), &TestKey::named("rsa")),
            not_allowed(KeyFault::Ambiguous),
        )
        .setup(|authority| {
            authority.publish_keys(json!([TestKey::named("rsa").jwk("k"), TestKey::named("rsa-other").jwk("k")]))
        }),
        Case::new(
            "a key that names no issuer, for one of several tenants",
            sign(&header("RS256", "k"), &user_claims(), &TestKey::named("rsa")),
            not_allowed(KeyFault::Issuer),
        )
        .setup(|authority| {
            change(&mut authority.env, |settings| settings.tenant = "organizations".to_owned());
            change(&mut authority.env, |settings| settings.token.allowed_tenants = vec![TENANT.to_owned()]);
            authority.publish_metadata("organizations", "{tenantid}");
            authority.publish_keys(json!([with(TestKey::named("rsa").jwk("k"), json!({ "issuer": null }))]));
        }),
    ]
}
