//! Tokens for every host: good ones as the emulator issues them, and hostile ones, each with the code it is refused with.
//!
//! The whole rejection table is the guest's own (`guest/entra/src/token/tests/rejections`). Here is at least one of each kind,
//! because the question is whether a host changes a verdict.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_emulator::Clock;
use entra_mcp_plugin::environment::{BrokerUse, ClientType, Settings, SignInMethod, SignInSettings, TokenSettings};
use serde_json::{Value, json};

use crate::support::lab::{Authorize, CONTOSO, FABRIKAM, LOCAL, Lab, REMOTE, TASKS, app};

/// The audience of tokens of version 1.
pub(crate) const LEGACY_AUDIENCE: &str = "api://legacy.contoso.example";

/// A token, and what every host says about it: `valid` and the object id, or a code.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) expected: String,
    /// The same by keys that are handed in. It differs where only the authority can tell.
    pub(crate) by_keys: String,
}

impl Case {
    fn new(name: &str, token: impl Into<String>, expected: &str) -> Self {
        let (name, token, expected) = (name.to_owned(), token.into(), expected.to_owned());
        Self { name, token, by_keys: expected.clone(), expected }
    }
}

/// An emulator with the time of this machine, and tokens about it.
pub(crate) struct Corpus {
    pub(crate) lab: Lab,
    pub(crate) cases: Vec<Case>,
}

impl Corpus {
    pub(crate) async fn new() -> Self {
        let mut lab = Lab::with(|builder| builder.clock(Clock::real())).await;
        let mut cases = good(&mut lab).await;
        cases.extend(forms(&lab));
        cases.extend(headers(&lab));
        cases.extend(claims(&lab));
        cases.extend(keys(&lab));
        assert!(cases.iter().all(|case| !case.token.contains(['\n', '\r'])), "a token is a line");
        Self { lab, cases }
    }

    /// All tokens, one a line.
    pub(crate) fn lines(&self) -> String {
        self.cases.iter().map(|case| format!("{}\n", case.token)).collect()
    }

    /// The settings of the validators.
    pub(crate) fn settings(&self) -> String {
        let token = json!({ "audiences": audiences(), "clock-tolerance-seconds": 60 });
        json!({ "tenant": CONTOSO, "authority": self.lab.endpoints().authority, "token": token }).to_string()
    }

    /// The same for the program's own component.
    pub(crate) fn own_settings(&self) -> Settings {
        Settings {
            client_type: ClientType::ConfidentialClient,
            tenant: CONTOSO.into(),
            client_id: app(REMOTE),
            authority: self.lab.endpoints().authority.clone(),
            graph: self.lab.endpoints().graph.clone(),
            graph_resource: "https://graph.microsoft.com".into(),
            sign_in: SignInSettings {
                method: SignInMethod::Automatic,
                timeout_seconds: 60,
                account: None,
                broker: BrokerUse::Off,
            },
            token: TokenSettings {
                audiences: audiences(),
                allowed_tenants: Vec::new(),
                clock_tolerance_seconds: Some(60),
            },
            profile_cache_seconds: 0,
            audit_usernames: false,
            servers: Vec::new(),
            http: None,
        }
    }

    /// The keys that the authority publishes.
    pub(crate) async fn jwks(&self) -> String {
        let answer = self.lab.get(&format!("/{CONTOSO}/discovery/v2.0/keys")).await;
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.bytes).unwrap()
    }

    /// Compares what a host said, a line for each token, with what it has to say.
    pub(crate) fn compare(&self, host: &str, said: &[String], expected: impl Fn(&Case) -> &str) {
        assert_eq!(said.len(), self.cases.len(), "{host} judges every token");
        let wrong: Vec<_> =
            self.cases.iter().zip(said).filter(|(case, said)| expected(case) != said.as_str()).collect();
        let list = wrong.iter().map(|(case, said)| format!("{}: {said} instead of {}\n", case.name, expected(case)));
        assert!(wrong.is_empty(), "{host} says\n{}", list.collect::<String>());
    }
}

fn audiences() -> Vec<String> {
    vec![app(REMOTE), LEGACY_AUDIENCE.to_owned()]
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// `value` with some names replaced; null removes one.
fn with(mut value: Value, changes: &Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        match change {
            Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
            change => value[name] = change.clone(),
        }
    }
    value
}

/// The claims of a user's token.
fn user(lab: &Lab) -> Value {
    let now = lab.control().now();
    json!({
        "aud": app(REMOTE), "iss": format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority),
        "iat": now, "nbf": now, "exp": now + 24 * 3600, "azp": app(LOCAL), "ver": "2.0", "tid": CONTOSO,
        "oid": "11111111-0000-4000-a000-000000000001", "sub": "subject", "scp": "Mcp.Access", "uti": "corpus",
    })
}

/// A token of a user with other claims.
pub(crate) fn signed(lab: &Lab, changes: &Value) -> String {
    lab.control().sign(&with(user(lab), changes), false).unwrap()
}

/// Tokens at the end of real flows.
async fn good(lab: &mut Lab) -> Vec<Case> {
    let valid = "valid 11111111-0000-4000-a000-000000000001";
    let remote = format!("openid profile api://{}/Mcp.Access", app(REMOTE));
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&remote), "alice@contoso.example").await;
    let id_token = Case::new("an ID token", answer.text("id_token"), "wrong-token-use");
    let mut cases = vec![Case::new("a person's token", answer.text("access_token"), valid), id_token];

    let legacy = format!("openid profile {LEGACY_AUDIENCE}/user_impersonation");
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&legacy), "alice@contoso.example").await;
    let mut version_1 = Case::new("a token of version 1", answer.text("access_token"), valid);
    // Only its metadata names the issuer of an authority that is no cloud of Microsoft.
    version_1.by_keys = "keys-unavailable".to_owned();
    cases.push(version_1);

    let tasks = format!("openid profile api://{}/Tasks.Read", app(TASKS));
    let answer = lab.tokens(&Authorize::new(LOCAL).scope(&tasks), "alice@contoso.example").await;
    cases.push(Case::new("a token for another API", answer.text("access_token"), "audience-mismatch"));

    let app_only = json!({ "scp": null, "roles": ["Mcp.Reader"], "idtyp": "app", "sub": app(9), "oid": app(9) });
    cases.push(Case::new("an application's token", signed(lab, &app_only), &format!("valid {}", app(9))));
    cases.push(Case::new("the same token again", cases[0].token.clone(), valid));
    cases
}

/// What is no signed token.
fn forms(lab: &Lab) -> Vec<Case> {
    let good = signed(lab, &json!({}));
    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("a token has three parts") };
    let twice = encode(format!(r#"{{"scp":"Admin",{}"#, &user(lab).to_string()[1..]));
    let deep = encode(format!(r#"{{"a":{}1{}}}"#, "[".repeat(2000), "]".repeat(2000)));
    let unsigned = encode(json!({ "typ": "JWT", "alg": "none", "kid": "k" }).to_string());
    [
        ("nothing", String::new(), "not-compact"),
        ("a word", "nonsense".to_owned(), "not-compact"),
        ("two parts", format!("{header}.{claims}"), "not-compact"),
        ("an encrypted token", format!("{good}.e.e"), "not-compact"),
        ("a scheme before the token", format!("Bearer {good}"), "encoding-invalid"),
        ("spaces around the token", format!(" {good} "), "encoding-invalid"),
        ("other letters", "ä.ö.ü".to_owned(), "encoding-invalid"),
        ("a token with a NUL", format!("{header}.\0{claims}.{signature}"), "encoding-invalid"),
        ("padding", format!("{header}.{claims}.{signature}=="), "encoding-invalid"),
        ("the other alphabet of base64", format!("{header}.{claims}+/.{signature}"), "encoding-invalid"),
        ("no signature", format!("{header}.{claims}."), "encoding-invalid"),
        ("claims that are no JSON", format!("{header}.{}.{signature}", encode("{")), "json-invalid"),
        ("claims that are a list", format!("{header}.{}.{signature}", encode("[]")), "json-invalid"),
        ("claims that are not UTF-8", format!("{header}.{}.{signature}", encode([0x7b, 0xff, 0x7d])), "json-invalid"),
        ("claims without end", format!("{header}.{deep}.{signature}"), "json-invalid"),
        ("a claim twice", format!("{header}.{twice}.{signature}"), "name-duplicate"),
        ("17 KiB", format!("{header}.{}.{signature}", "A".repeat(17 * 1024)), "too-large"),
        ("half a megabyte", "A.".repeat(256 * 1024), "too-large"),
        ("the algorithm none", format!("{unsigned}.{claims}."), "algorithm-not-allowed"),
    ]
    .map(|(name, token, expected)| Case::new(name, token, expected))
    .into()
}

/// Headers that say more than they may; the signature is that of the good header, and is not reached.
fn headers(lab: &Lab) -> Vec<Case> {
    let good = signed(lab, &json!({}));
    let (header, rest) = good.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    [
        (json!({ "alg": "HS256" }), "algorithm-not-allowed"),
        (json!({ "alg": "rs256" }), "algorithm-not-allowed"),
        (json!({ "alg": "RS512" }), "algorithm-not-allowed"),
        (json!({ "alg": 1 }), "header-malformed"),
        (json!({ "alg": null }), "header-missing"),
        (json!({ "kid": null }), "header-missing"),
        (json!({ "kid": "" }), "header-malformed"),
        (json!({ "typ": "dpop+jwt" }), "type-not-allowed"),
        (json!({ "jwk": { "kty": "RSA" } }), "header-not-allowed"),
        (json!({ "jku": "https://evil.example/keys" }), "header-not-allowed"),
        (json!({ "x5u": "https://evil.example/certificate" }), "header-not-allowed"),
        (json!({ "x5c": ["MIIB"] }), "header-not-allowed"),
        (json!({ "crit": ["exp"] }), "header-not-allowed"),
        (json!({ "b64": false }), "header-not-allowed"),
        (json!({ "zip": "DEF" }), "header-not-allowed"),
    ]
    .into_iter()
    .map(|(changes, expected)| {
        let token = format!("{}.{rest}", encode(with(header.clone(), &changes).to_string()));
        Case::new(&format!("the header {changes}"), token, expected)
    })
    .collect()
}

/// Genuine signatures under claims that must not pass.
fn claims(lab: &Lab) -> Vec<Case> {
    let now = lab.control().now();
    let authority = &lab.endpoints().authority;
    [
        (json!({ "aud": app(TASKS) }), "audience-mismatch"),
        (json!({ "aud": [app(REMOTE)] }), "claim-malformed"),
        (json!({ "aud": app(REMOTE).to_uppercase() }), "audience-mismatch"),
        (json!({ "aud": LEGACY_AUDIENCE }), "audience-mismatch"),
        (json!({ "iss": format!("{authority}/{CONTOSO}/v2.0/") }), "issuer-mismatch"),
        (json!({ "iss": format!("{authority}/{FABRIKAM}/v2.0") }), "issuer-mismatch"),
        (json!({ "iss": format!("https://evil.example/{CONTOSO}/v2.0") }), "issuer-mismatch"),
        (json!({ "tid": FABRIKAM, "iss": format!("{authority}/{FABRIKAM}/v2.0") }), "tenant-not-allowed"),
        (json!({ "tid": CONTOSO.to_uppercase() }), "claim-malformed"),
        (json!({ "tid": "common" }), "claim-malformed"),
        (json!({ "ver": "3.0" }), "version-not-supported"),
        (json!({ "ver": null }), "claim-missing"),
        (json!({ "exp": now - 3600 }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "exp": null }), "claim-missing"),
        (json!({ "exp": (now + 3600).to_string() }), "claim-malformed"),
        (json!({ "exp": 1e300 }), "claim-malformed"),
        (json!({ "exp": -1 }), "claim-malformed"),
        (json!({ "nbf": now + 3600 }), "not-yet-valid"),
        (json!({ "iat": now + 3600 }), "issued-in-future"),
        (json!({ "nonce": "n" }), "wrong-token-use"),
        (json!({ "cnf": { "jkt": "thumbprint" } }), "key-bound"),
        (json!({ "scp": null }), "no-permissions"),
        (json!({ "scp": "" }), "claim-malformed"),
        (json!({ "scp": null, "roles": [] }), "no-permissions"),
        (json!({ "idtyp": "app" }), "claim-malformed"),
        (json!({ "oid": "alice@contoso.example" }), "claim-malformed"),
        (json!({ "sub": null }), "claim-missing"),
    ]
    .into_iter()
    .map(|(changes, expected)| Case::new(&format!("the claims {changes}"), signed(lab, &changes), expected))
    .collect()
}

/// Signatures that are not the authority's.
fn keys(lab: &Lab) -> Vec<Case> {
    let good = signed(lab, &json!({}));
    let forged = lab.control().sign(&user(lab), true).unwrap();
    let (header, _) = good.split_once('.').unwrap();
    let (_, forged_rest) = forged.split_once('.').unwrap();
    let (signed_part, _) = good.rsplit_once('.').unwrap();
    let other = signed(lab, &json!({ "scp": "Mcp.Admin" }));
    let (_, other_signature) = other.rsplit_once('.').unwrap();
    vec![
        Case::new("signed with a key that is not published", forged.clone(), "key-unknown"),
        Case::new(
            "the same, under the name of the published key",
            format!("{header}.{forged_rest}"),
            "signature-invalid",
        ),
        Case::new("the signature of another token", format!("{signed_part}.{other_signature}"), "signature-invalid"),
        Case::new("a signature of zeros", format!("{signed_part}.{}", encode([0; 256])), "signature-invalid"),
        Case::new("a short signature", format!("{signed_part}.{}", encode([1; 16])), "signature-invalid"),
        Case::new("the good one after all that", good.clone(), "valid 11111111-0000-4000-a000-000000000001"),
    ]
}
