//! Confidential clients: secrets, certificates, federated credentials, and the client-credentials grant.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_mcp_emulator::FederatedToken;
use ring::rand::SystemRandom;
use ring::signature::{self, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::support::fixture;
use crate::support::lab::{Answer, CONTOSO, FABRIKAM, Lab, REMOTE, Refusal, START, TASKS, app};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn tasks() -> String {
    format!("api://{}/.default", app(TASKS))
}

async fn with_assertion(lab: &Lab, assertion: &str) -> Answer {
    let (client, scope) = (app(REMOTE), tasks());
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client.as_str()),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
        ("scope", &scope),
    ];
    lab.token(CONTOSO, &form).await
}

/// A certificate assertion that is right in every respect but for the changes.
fn assertion(lab: &Lab, certificate: &str, header: Value, claims: Value) -> String {
    let pem = fixture(&format!("{certificate}.cert.pem"));
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let key = PrivatePkcs8KeyDer::from_pem_slice(&fixture(&format!("{certificate}.key.pem"))).unwrap();
    let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let thumbprint = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &der));
    let mut all_headers = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
    let mut all_claims = json!({
        "iss": app(REMOTE),
        "sub": app(REMOTE),
        "aud": format!("{}/{CONTOSO}/oauth2/v2.0/token", lab.endpoints().authority),
        "jti": "one",
        "nbf": START,
        "exp": START + 600,
    });
    for (all, changes) in [(&mut all_headers, header), (&mut all_claims, claims)] {
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
    }
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(all_headers.to_string()),
        URL_SAFE_NO_PAD.encode(all_claims.to_string())
    );
    let mut signed = vec![0; pair.public().modulus_len()];
    let padding: &dyn signature::RsaEncoding =
        if all_headers["alg"] == "RS256" { &signature::RSA_PKCS1_SHA256 } else { &signature::RSA_PSS_SHA256 };
    pair.sign(padding, &SystemRandom::new(), input.as_bytes(), &mut signed).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signed))
}

const RIGHT: &str = "confidential-client";

#[tokio::test]
async fn a_certificate_assertion_proves_the_client() {
    let lab = Lab::new().await;
    let answer = with_assertion(&lab, &assertion(&lab, RIGHT, json!({}), json!({}))).await;
    assert_eq!(answer.claims("access_token")["azpacr"], "2");
    let by_issuer = json!({ "aud": format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority) });
    assert_eq!(with_assertion(&lab, &assertion(&lab, RIGHT, json!({}), by_issuer)).await.status, 200);
}

#[tokio::test]
async fn the_older_form_with_rs256_and_a_sha1_thumbprint_is_accepted_too() {
    let lab = Lab::new().await;
    let der = CertificateDer::from_pem_slice(&fixture("confidential-client.cert.pem")).unwrap();
    let sha1 = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &der));
    let header = json!({ "alg": "RS256", "x5t": sha1 });
    assert_eq!(with_assertion(&lab, &assertion(&lab, RIGHT, header, json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_certificate_assertion_is_refused_unless_everything_fits() {
    let lab = Lab::new().await;
    let new = |header, claims| assertion(&lab, RIGHT, header, claims);
    let mut forged = new(json!({}), json!({}));
    forged.replace_range(forged.len() - 8..forged.len() - 4, "AAAA");
    let cases = [
        ("no JWT", "no.jwt".to_owned(), 50_027),
        ("unregistered certificate", assertion(&lab, "unregistered-client", json!({}), json!({})), 700_027),
        ("forged signature", forged, 700_027),
        ("algorithm none", new(json!({ "alg": "none" }), json!({})), 700_027),
        ("wrong thumbprint beside a right one", new(json!({ "x5t": "AAAA" }), json!({})), 700_027),
        (
            "another audience",
            new(json!({}), json!({ "aud": "https://login.microsoftonline.com/common/oauth2/v2.0/token" })),
            700_023,
        ),
        ("another subject", new(json!({}), json!({ "sub": app(TASKS) })), 700_021),
        ("expired", new(json!({}), json!({ "nbf": START - 2_000, "exp": START - 1_000 })), 700_024),
        ("not yet valid", new(json!({}), json!({ "nbf": START + 1_000, "exp": START + 1_600 })), 700_024),
        ("valid for longer than a day", new(json!({}), json!({ "exp": START + 200_000 })), 700_024),
    ];
    for (case, assertion, code) in cases {
        assert_eq!(with_assertion(&lab, &assertion).await.refusal(), (401, "invalid_client", code), "{case}");
    }
}

#[tokio::test]
async fn an_assertion_can_be_made_to_work_once_only() {
    let lab = Lab::new().await;
    let one = assertion(&lab, RIGHT, json!({}), json!({}));
    assert_eq!(with_assertion(&lab, &one).await.status, 200);
    assert_eq!(with_assertion(&lab, &one).await.status, 200, "Entra ID accepts an assertion until it expires");
    lab.control().change_policy(|policy| policy.refuse_replayed_assertions = true);
    let two = assertion(&lab, RIGHT, json!({}), json!({ "jti": "two" }));
    assert_eq!(with_assertion(&lab, &two).await.status, 200);
    assert_eq!(with_assertion(&lab, &two).await.refusal(), (401, "invalid_client", 7_000_277));
}

#[tokio::test]
async fn the_assertion_type_has_to_be_given() {
    let lab = Lab::new().await;
    let (client, scope, one) = (app(REMOTE), tasks(), assertion(&lab, RIGHT, json!({}), json!({})));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client.as_str()),
        ("client_assertion", &one),
        ("scope", &scope),
    ];
    assert_eq!(lab.token(CONTOSO, &form).await.refusal(), (400, "invalid_request", 900_144));
}

fn kubernetes() -> FederatedToken {
    FederatedToken {
        issuer: "https://kubernetes.contoso.example/".to_owned(),
        subject: "system:serviceaccount:mcp:entra-mcp".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
        expires_in: 600,
        forged: false,
    }
}

#[tokio::test]
async fn a_federated_assertion_proves_the_client() {
    let lab = Lab::new().await;
    let token = lab.control().federated_token(&kubernetes()).unwrap();
    assert_eq!(with_assertion(&lab, &token).await.claims("access_token")["azpacr"], "2");
}

#[tokio::test]
async fn a_managed_identity_is_a_federated_credential() {
    let lab = Lab::new().await;
    let url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api://AzureADTokenExchange",
        lab.endpoints().authority
    );
    let identity = lab.send(lab.client().get(url).header("metadata", "true")).await;
    assert_eq!(with_assertion(&lab, identity.text("access_token")).await.status, 200);
}

#[tokio::test]
async fn a_federated_assertion_is_refused_unless_everything_fits() {
    let lab = Lab::new().await;
    let cases = [
        (
            "another issuer",
            FederatedToken { issuer: "https://kubernetes.contoso.example".to_owned(), ..kubernetes() },
            700_211,
        ),
        (
            "another subject",
            FederatedToken { subject: "system:serviceaccount:mcp:other".to_owned(), ..kubernetes() },
            700_213,
        ),
        (
            "another audience",
            FederatedToken { audience: "https://kubernetes.default".to_owned(), ..kubernetes() },
            700_212,
        ),
        ("expired", FederatedToken { expires_in: -1, ..kubernetes() }, 700_024),
        ("signed by another key", FederatedToken { forged: true, ..kubernetes() }, 700_027),
    ];
    for (case, token, code) in cases {
        let token = lab.control().federated_token(&token).unwrap();
        assert_eq!(with_assertion(&lab, &token).await.refusal(), (401, "invalid_client", code), "{case}");
    }
}

#[tokio::test]
async fn client_credentials_are_refused_unless_everything_fits() {
    let lab = Lab::new().await;
    let (remote, scope) = (app(REMOTE), tasks());
    let secret = lab.endpoints().client_secret.as_str();
    type Form<'a> = Vec<(&'a str, &'a str)>;
    let form = |changes: &[(&'static str, &'static str)]| -> Form<'_> {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", remote.as_str()),
            ("client_secret", secret),
            ("scope", &scope),
        ];
        for (name, value) in changes {
            form.retain(|(key, _)| key != name);
            form.push((name, value));
        }
        form
    };
    let cases: [(&str, &str, Form<'_>, Refusal<'_>); 10] = [
        ("no secret", CONTOSO, form(&[("client_secret", "")]), (401, "invalid_client", 7_000_218)),
        ("wrong secret", CONTOSO, form(&[("client_secret", "x")]), (401, "invalid_client", 7_000_215)),
        (
            "expired secret",
            CONTOSO,
            form(&[("client_secret", "expired-client-secret-of-the-emulator")]),
            (401, "invalid_client", 7_000_222),
        ),
        ("no scope", CONTOSO, form(&[("scope", "")]), (400, "invalid_scope", 1_002_012)),
        ("a delegated scope", CONTOSO, form(&[("scope", "User.Read")]), (400, "invalid_scope", 1_002_012)),
        (
            "two resources",
            CONTOSO,
            form(&[("scope", "https://graph.microsoft.com/.default api://legacy.contoso.example/.default")]),
            (400, "invalid_scope", 1_002_012),
        ),
        (
            "an unknown resource",
            CONTOSO,
            form(&[("scope", "api://nobody/.default")]),
            (400, "invalid_resource", 500_011),
        ),
        ("no tenant", "organizations", form(&[]), (400, "invalid_request", 50_059)),
        ("an unknown tenant", "nowhere.example", form(&[]), (400, "invalid_request", 90_002)),
        (
            "a public client",
            CONTOSO,
            form(&[("client_id", "a0000000-0000-4000-a000-000000000001")]),
            (401, "invalid_client", 700_025),
        ),
    ];
    for (case, tenant, form, expected) in cases {
        assert_eq!(lab.token(tenant, &form).await.refusal(), expected, "{case}");
    }
    assert_eq!(lab.token(FABRIKAM, &form(&[])).await.status, 200);
    lab.control().change_application(&remote, |application| application.provisioned_in.clear()).unwrap();
    assert_eq!(lab.token(FABRIKAM, &form(&[])).await.refusal(), (401, "unauthorized_client", 7_000_229));
}

#[tokio::test]
async fn a_secret_may_come_in_the_authorization_header() {
    let lab = Lab::new().await;
    let url = format!("{}/{CONTOSO}/oauth2/v2.0/token", lab.endpoints().authority);
    let form = [("grant_type", "client_credentials"), ("scope", &tasks())];
    let request = |secret: &str| lab.client().post(&url).basic_auth(app(REMOTE), Some(secret)).form(&form);
    assert_eq!(lab.send(request(&lab.endpoints().client_secret)).await.status, 200);
    assert_eq!(lab.send(request("wrong")).await.refusal(), (401, "invalid_client", 7_000_215));
}
