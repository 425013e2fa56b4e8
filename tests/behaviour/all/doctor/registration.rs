//! What is wrong with the app registration, and with a certificate in a key vault.

use std::time::Duration;

use entra_mcp_emulator::{Application, GRAPH_APP_ID};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;

use super::{Diagnosis, doctor};
use crate::host::commands::Home;
use crate::support::fixture;
use crate::support::key_vault::Vault;
use crate::support::lab::{REMOTE, app};

const SITE: [&str; 2] = ["--public-url", "https://mcp.contoso.example"];

/// A registration that lacks nothing, and that Graph shows to the application.
async fn shown() -> Home {
    let home = Home::new().await;
    change(&home, |app| {
        let roles = app.granted_roles.entry(GRAPH_APP_ID.to_owned()).or_default();
        roles.extend(["Application.Read.All", "DelegatedPermissionGrant.Read.All"].map(str::to_owned));
        let acct = json!({ "name": "acct" });
        app.registration.optional_claims =
            Some(json!({ "accessToken": [acct, { "name": "idtyp" }], "idToken": [acct] }));
    });
    home
}

fn change(home: &Home, change: impl FnOnce(&mut Application)) {
    home.emulator().control().change_application(&app(REMOTE), change).unwrap();
}

/// What is said of the registration, by severity.
fn said<'d>(diagnosis: &'d Diagnosis, severity: &str, id: &str) -> Vec<&'d str> {
    let found = diagnosis.of(severity).into_iter().filter(|finding| finding["id"] == id);
    found.map(|finding| finding["what"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_registration_that_lacks_nothing_is_good_and_so_is_consent() {
    let home = shown().await;
    for more in [&[][..], &["--token-mode", "both"]] {
        let diagnosis = doctor(&home, &[&SITE[..], more].concat(), &[]).await;
        assert_eq!(diagnosis.code, Some(0), "{:#}", diagnosis.report);
        let good = ["the app registration \"Entra MCP (remote)\" has all that the server needs of it"];
        assert_eq!(said(&diagnosis, "good", "registration"), good);
        let consent = ["an administrator has consented to User.Read for all users"];
        assert_eq!(said(&diagnosis, "good", "consent"), consent);
    }
}

#[tokio::test]
async fn each_fault_of_the_registration_is_named_with_the_place_in_the_portal() {
    let home = shown().await;
    let rules = home.path().join("rules.toml");
    std::fs::write(&rules, "[[access]]\ntool = \"getUserDetails\"\nroles = [\"Mcp.Reader\"]\ngroups = [\"0b5d5c0c-0000-4000-a000-000000000001\"]\n")
        .unwrap();
    let arguments = [&SITE[..], &["--token-mode", "both", "--access-file", rules.to_str().unwrap()]].concat();
    let well = doctor(&home, &arguments, &[]).await;
    assert_eq!(well.code, Some(0), "{:#}", well.report);
    let before = home.emulator().control().applications().into_iter().find(|one| one.id == app(REMOTE)).unwrap();
    let cases: [(&str, &str, &str, fn(&mut Application)); 7] = [
        ("failure", "redirect URI https://mcp.contoso.example/auth/callback (Web)", "Authentication", |app| {
            app.web_redirect_uris.clear();
        }),
        ("failure", "Application ID URI https://mcp.contoso.example/mcp", "Expose an API", |app| {
            app.identifier_uris.clear();
        }),
        ("failure", "scope access_as_user", "Expose an API", |app| app.scopes.clear()),
        ("failure", "app role Mcp.Reader", "App roles", |app| app.roles.clear()),
        ("warning", "requestedAccessTokenVersion 2", "Manifest", |app| app.access_token_version = 1),
        ("warning", "groups claim (Security groups)", "Token configuration", |app| app.group_claims = false),
        ("warning", "API permission Microsoft Graph User.Read (delegated)", "API permissions", |app| {
            app.registration.required_resource_access = Some(Vec::new());
        }),
    ];
    for (severity, part, place, spoil) in cases {
        change(&home, spoil);
        let diagnosis = doctor(&home, &arguments, &[]).await;
        let found = said(&diagnosis, severity, "registration");
        let [what] = found.as_slice() else { panic!("{part}: {:#}", diagnosis.report) };
        assert!(what.starts_with(&format!("the app registration lacks: {part} — ")), "{what}");
        let found = diagnosis.of(severity).into_iter().find(|finding| finding["id"] == "registration").unwrap();
        let expected =
            format!("run `entra-mcp setup`, or change it in the portal: App registrations > your app > {place}");
        assert_eq!(found["change"], expected);
        let restored = before.clone();
        change(&home, |app| *app = restored);
    }
}

#[tokio::test]
async fn a_registration_of_the_local_server_as_well_is_compared_with_what_that_one_needs() {
    let home = shown().await;
    change(&home, |app| app.public_redirect_uris = vec!["http://localhost".to_owned()]);
    let diagnosis = doctor(&home, &SITE, &[]).await;
    assert_eq!(diagnosis.code, Some(1), "{:#}", diagnosis.report);
    let authority = &home.emulator().endpoints().authority;
    let lacks = [
        format!(
            "redirect URI {authority}/common/oauth2/nativeclient (Mobile and desktop applications) — the identity broker of a \
             machine signs no person in (AADSTS50011)"
        ),
        "Allow public client flows: Yes — sign-in with a device code is refused (AADSTS7000218)".to_owned(),
        "optional claim login_hint in ID tokens — `logout` in the browser asks which account is meant".to_owned(),
    ];
    let expected = lacks.map(|lack| format!("the app registration lacks: {lack}"));
    assert_eq!(said(&diagnosis, "warning", "registration"), expected);
}

#[tokio::test]
async fn a_registration_that_graph_does_not_show_is_said_not_to_be_looked_at() {
    let home = Home::new().await;
    let diagnosis = doctor(&home, &[], &[]).await;
    assert_eq!(diagnosis.code, Some(0), "{:#}", diagnosis.report);
    let expected = "the app registration was not looked at: Microsoft Graph does not show it to the application. `entra-mcp \
                    setup --dry-run` looks at it as a person; to let doctor do it, grant the application permission \
                    Application.Read.All under API permissions";
    assert_eq!(said(&diagnosis, "skipped", "registration"), [expected]);
}

#[tokio::test]
async fn consent_that_no_administrator_gave_matters_to_clients_that_bring_tokens() {
    let home = shown().await;
    change(&home, |app| app.consent_given = false);
    let sessions = doctor(&home, &SITE, &[]).await;
    assert_eq!(sessions.code, Some(0), "{:#}", sessions.report);
    let asked = "no administrator has consented to User.Read: people are asked at their first sign-in";
    assert_eq!(said(&sessions, "skipped", "consent"), [asked]);
    let bearer = doctor(&home, &[&SITE[..], &["--token-mode", "bearer"]].concat(), &[]).await;
    assert_eq!(bearer.code, Some(1), "{:#}", bearer.report);
    let cannot = "no administrator has consented to User.Read, and clients with tokens of Entra ID cannot be asked";
    assert_eq!(said(&bearer, "warning", "consent"), [cannot]);
}

#[tokio::test]
async fn a_certificate_in_a_vault_that_expires_soon_is_a_warning() {
    let home = Home::new().await;
    let (authority, control) = (home.emulator().endpoints().authority.clone(), home.emulator().control());
    let vault = Vault::start(&authority, &control).await;
    vault.allow("33333333-0000-4000-a000-000000000001");
    let key = String::from_utf8(fixture("confidential-client.key.pem")).unwrap();
    let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    let days = |days: u64| Duration::from_secs(u64::try_from(control.now()).unwrap() + days * 86_400 + 3_600);
    for (left, severity) in [(10, "warning"), (90, "good")] {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + days(left);
        let certificate = params.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap();
        let address = vault.add_version("mcp", &key, certificate.der());
        change(&home, |app| app.certificates = vec![certificate.pem()]);
        let variables = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", authority.as_str()), ("AZURE_CLIENT_SECRET", "")];
        let arguments = ["--credential", "certificate", "--certificate-vault-url", &address];
        let diagnosis = doctor(&home, &arguments, &variables).await;
        let found = said(&diagnosis, severity, "certificate");
        let [what] = found.as_slice() else { panic!("{left}: {:#}", diagnosis.report) };
        assert!(what.starts_with(&format!("the certificate {address} (thumbprint ")), "{what}");
        assert!(what.ends_with(&format!("is good for {left} days")), "{what}");
    }
}
