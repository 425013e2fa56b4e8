//! One token, explained and never shown.

use serde_json::json;

use super::{Diagnosis, doctor};
use crate::host::commands::Home;
use crate::support::lab::{CONTOSO, REMOTE, app};
use crate::tools::mail::bearer;

const ALICE: &str = "alice@contoso.example";

async fn explained(home: &Home, token: &str) -> Diagnosis {
    let file = home.path().join("token.txt");
    std::fs::write(&file, format!("Bearer {token}\n")).unwrap();
    let arguments = ["--token", file.to_str().unwrap(), "--token-mode", "both", "--required-scope", "Mcp.Access"];
    let diagnosis = doctor(home, &arguments, &[]).await;
    for part in token.split('.').filter(|part| !part.is_empty()) {
        assert!(!diagnosis.text.contains(part), "a part of the token is shown");
    }
    diagnosis
}

#[tokio::test]
async fn a_token_is_explained_and_never_shown() {
    let home = Home::new().await;
    let good = explained(&home, &bearer(home.emulator(), ALICE).await).await;
    assert_eq!(good.code, Some(0), "{:#}", good.report);
    let said: Vec<_> = good.of("skipped").into_iter().filter(|found| found["id"] == "claims").collect();
    assert!(
        said.iter().any(|found| found["what"] == "in the name of a person, with the scopes Mcp.Access"),
        "{said:?}"
    );
    assert!(!good.text.contains("alice"), "no name is shown");
    assert_eq!(
        explained(&home, "an-opaque-token").await.failure("token-form").0,
        "it is no signed JSON Web Token whose claims can be read"
    );
}

#[tokio::test]
async fn a_token_that_is_refused_is_explained_with_what_to_change() {
    let home = Home::new().await;
    let control = home.emulator().control();
    let now = control.now();
    let signed = |changes: serde_json::Value, forged: bool| {
        let mut claims = json!({
            "aud": app(REMOTE), "iss": format!("{}/{CONTOSO}/v2.0", home.emulator().endpoints().authority),
            "iat": now, "nbf": now, "exp": now + 3600, "azp": app(1), "ver": "2.0", "tid": CONTOSO,
            "oid": "11111111-0000-4000-a000-000000000001", "sub": "subject", "scp": "Mcp.Access", "uti": "u",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        control.sign(&claims, forged).unwrap()
    };
    for (token, what, change) in [
        (
            signed(json!({ "aud": "00000003-0000-0000-c000-000000000000" }), false),
            "Microsoft Graph",
            "scope of this server",
        ),
        (signed(json!({ "aud": "api://other" }), false), "it is for api://other", "--app-id-uri"),
        (
            signed(json!({ "exp": now - 3600, "nbf": now - 7200, "iat": now - 7200 }), false),
            "it has expired",
            "get a new one",
        ),
        (signed(json!({ "scp": "User.Read" }), false), "it has not the scope Mcp.Access", "Expose an API"),
        (signed(json!({}), true), "its signature is by no key of the tenant", "authority"),
        (
            signed(
                json!({ "tid": "fab12ca0-0000-4000-a000-000000000002", "iss": format!("{}/fab12ca0-0000-4000-a000-000000000002/v2.0", home.emulator().endpoints().authority) }),
                false,
            ),
            "another issuer or tenant",
            "--tenant-id",
        ),
    ] {
        let refused = explained(&home, &token).await;
        let (said, remedy) = refused.failure("token");
        assert!(said.contains(what) && remedy.contains(change), "{what}: {said} → {remedy}");
    }
}
