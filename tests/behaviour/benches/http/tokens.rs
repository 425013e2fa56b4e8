//! Access tokens of Entra ID, which both servers take: one that the emulator has issued, and any number like it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_emulator::Emulator;
use entra_mcp_emulator::user_agent::HeadlessBrowser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

/// The scope of the emulator's API that stands for the server.
pub(crate) const SCOPE: &str = "Mcp.Access";
/// Nothing listens there: the browser stays.
const REDIRECT: &str = "http://localhost:54321/";
/// With the SHA-256 of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// So many that a server has not verified most of them recently.
const DISTINCT: usize = 10_000;
const SIGNERS: usize = 4;

/// What a server has to know to verify the tokens, and nothing else.
#[derive(Deserialize, Serialize)]
pub(crate) struct Issuer {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// The key that signs them: modulus and exponent, as in a key document.
    pub(crate) n: String,
    pub(crate) e: String,
}

pub(crate) struct Tokens {
    pub(crate) issuer: Issuer,
    /// A user's token with some groups: 1.6 KB, as Entra ID's often are.
    pub(crate) one: String,
    /// The same, but for a claim that only Entra ID can read (`aio`): each may be exchanged like the one.
    pub(crate) many: Vec<String>,
}

/// Signs a user in at the emulator, and makes the tokens.
pub(crate) async fn issue(emulator: &Emulator) -> Tokens {
    let at = emulator.endpoints();
    let base = format!("{}/{}", at.authority, at.tenant_id);
    let scope = format!("openid api://{}/{SCOPE}", at.confidential_client_id);
    let mut url = Url::parse(&format!("{base}/oauth2/v2.0/authorize")).unwrap();
    url.query_pairs_mut().extend_pairs([
        ("client_id", at.public_client_id.as_str()),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("scope", &scope),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let browser = &mut HeadlessBrowser::new().staying();
    let landing = browser.sign_in(url.as_str(), "alice@contoso.example", "emulator").await.unwrap();
    let code = landing.parameter("code").unwrap_or_else(|| panic!("no code in {landing:?}"));
    let form = BTreeMap::from([
        ("client_id", at.public_client_id.as_str()),
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("scope", &scope),
    ]);
    let request = reqwest::Client::new().post(format!("{base}/oauth2/v2.0/token")).form(&form);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let issued = answer["access_token"].as_str().unwrap_or_else(|| panic!("no token in {answer}"));
    let mut claims = part(issued, 1);
    let groups: Vec<_> = (0..8).map(|group| format!("33334444-dddd-5555-eeee-{group:012x}")).collect();
    claims["groups"] = json!(groups);

    let control = emulator.control();
    let one = control.sign(&claims, false).unwrap();
    let keys: Value = reqwest::get(format!("{base}/discovery/v2.0/keys")).await.unwrap().json().await.unwrap();
    let key_id = control.signing_key_id();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == key_id.as_str()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let issuer =
        Issuer { issuer: text(&claims["iss"]), audience: text(&claims["aud"]), n: text(&key["n"]), e: text(&key["e"]) };
    let signers: Vec<_> = (0..SIGNERS)
        .map(|signer| {
            let (control, mut claims) = (emulator.control(), claims.clone());
            tokio::task::spawn_blocking(move || {
                let sign = |number: usize| {
                    claims["aio"] = json!(format!("bench-{number:010}"));
                    control.sign(&claims, false).unwrap()
                };
                (signer..DISTINCT).step_by(SIGNERS).map(sign).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut many = Vec::with_capacity(DISTINCT);
    for signer in signers {
        many.extend(signer.await.unwrap());
    }
    Tokens { issuer, one, many }
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
