//! Each kind by itself, and the order of `auto`.

use entra_mcp_emulator::{FederatedCredential, FederatedToken, IDENTITY_HEADER};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::json;

use super::{Bench, USER_ASSIGNED, USER_ASSIGNED_SUBJECT, are_of_a_certificate, serves_with_assertions, write};
use crate::support::fixture;
use crate::support::lab::{CONTOSO, REMOTE, app, claims};

const EXCHANGE: &str = "api://AzureADTokenExchange";

/// The registered certificate with its key, as PEM.
pub(crate) fn pem(name: &str) -> Vec<u8> {
    [fixture(&format!("{name}.key.pem")), fixture(&format!("{name}.cert.pem"))].concat()
}

/// The same as PKCS#12.
pub(crate) fn pkcs12(name: &str, password: &str) -> Vec<u8> {
    let certificate = CertificateDer::from_pem_slice(&fixture(&format!("{name}.cert.pem"))).unwrap();
    let key = PrivatePkcs8KeyDer::from_pem_slice(&fixture(&format!("{name}.key.pem"))).unwrap();
    let chain = [Certificate::from_der(&certificate).unwrap()];
    let entry = PrivateKeyChain::new("client", PrivateKey::from_der(key.secret_pkcs8_der()).unwrap(), chain);
    let mut store = KeyStore::new();
    store.add_entry("client", KeyStoreEntry::PrivateKeyChain(entry));
    store.writer(password).write().unwrap()
}

/// The token of the service account that the application trusts.
pub(crate) fn kubernetes() -> FederatedToken {
    FederatedToken {
        issuer: "https://kubernetes.contoso.example/".to_owned(),
        subject: "system:serviceaccount:mcp:entra-mcp".to_owned(),
        audience: EXCHANGE.to_owned(),
        expires_in: 600,
        forged: false,
    }
}

/// The token of the emulator's machine.
async fn machines_token(bench: &Bench) -> String {
    let url =
        format!("{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={EXCHANGE}", bench.authority());
    let answer = reqwest::Client::new().get(url).header("metadata", "true").send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_certificate_in_pem_form_signs_assertions_that_last_ten_minutes_at_most() {
    let bench = Bench::new().await;
    let file = bench.write("client.pem", pem("confidential-client"));
    let endpoint = format!("{}/{CONTOSO}/oauth2/v2.0/token", bench.authority());
    let site = bench.serve(&["--credential", "certificate", "--certificate-file", &file], &[]);
    let assertions = serves_with_assertions(&site).await;
    are_of_a_certificate(&assertions, &endpoint);
    assert!(assertions.iter().all(|assertion| *assertion == assertions[0]), "one is signed for several requests");
    assert!(!site.server.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_certificate_in_pkcs12_form_is_opened_with_the_password_of_the_environment() {
    let bench = Bench::new().await;
    let file = bench.write("client.pfx", pkcs12("confidential-client", "recognisable-password"));
    let variables = [
        ("AZURE_CLIENT_CERTIFICATE_PATH", file.as_str()),
        ("AZURE_CLIENT_CERTIFICATE_PASSWORD", "recognisable-password"),
    ];
    let site = bench.serve(&["--credential", "certificate"], &variables);
    serves_with_assertions(&site).await;
    assert!(!site.server.log().contains("recognisable-password"));
}

#[tokio::test]
async fn the_federated_token_of_kubernetes_is_read_at_every_use() {
    let bench = Bench::new().await;
    let first = bench.emulator.control().federated_token(&kubernetes()).unwrap();
    let file = bench.write("token", &first);
    let site = bench.serve(&["--credential", "workload-identity"], &[("AZURE_FEDERATED_TOKEN_FILE", &file)]);
    assert!(serves_with_assertions(&site).await.iter().all(|assertion| *assertion == first));
    let second = site.emulator.control().federated_token(&kubernetes()).unwrap();
    std::fs::write(&file, &second).unwrap();
    site.emulator.control().clear_requests();
    assert!(serves_with_assertions(&site).await.iter().all(|assertion| *assertion == second));
}

// The server asks the emulator before it is ready, while this thread waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_managed_identity_of_an_app_service_is_a_credential() {
    let bench = Bench::new().await;
    let endpoint = format!("{}/msi/token", bench.authority());
    let variables = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", IDENTITY_HEADER)];
    let site = bench.serve(&["--credential", "managed-identity"], &variables);
    let assertions = serves_with_assertions(&site).await;
    assert_eq!(claims(&assertions[0])["aud"], EXCHANGE);
}

// The server asks the emulator before it is ready, while this thread waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_managed_identity_of_a_virtual_machine_is_a_credential_system_and_user_assigned() {
    for identity in [None, Some(USER_ASSIGNED)] {
        let bench = Bench::new().await;
        let trusted = FederatedCredential {
            name: "user-assigned".to_owned(),
            issuer: format!("{{base}}/{CONTOSO}/v2.0"),
            subject: USER_ASSIGNED_SUBJECT.to_owned(),
            audience: EXCHANGE.to_owned(),
        };
        let control = bench.emulator.control();
        control.change_application(&app(REMOTE), |own| own.federated_credentials.push(trusted)).unwrap();
        let authority = bench.authority();
        let mut arguments = vec!["--credential", "managed-identity"];
        arguments.extend(identity.iter().flat_map(|identity| ["--managed-identity-id", identity]));
        let site = bench.serve(&arguments, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &authority)]);
        let assertions = serves_with_assertions(&site).await;
        let is_user_assigned = claims(&assertions[0])["sub"] == USER_ASSIGNED_SUBJECT;
        assert_eq!(is_user_assigned, identity.is_some());
    }
}

/// A program of the name, in front on the search path, that prints this.
fn azure_cli(bench: &Bench, token: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    bench.write("answer.json", json!({ "accessToken": token, "tokenType": "Bearer" }).to_string());
    let folder = bench.folder.path().display();
    let script =
        write(&bench.folder, "az", format!("#!/bin/sh\necho \"$@\" > {folder}/arguments\ncat {folder}/answer.json\n"));
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).unwrap();
    format!("{folder}:/usr/bin:/bin")
}

#[tokio::test]
async fn the_azure_cli_is_a_credential_for_development() {
    let bench = Bench::new().await;
    let path = azure_cli(&bench, &machines_token(&bench).await);
    let site = bench.serve(&["--credential", "azure-cli"], &[("PATH", &path)]);
    serves_with_assertions(&site).await;
    assert!(site.server.log().contains("for development only"));
    let arguments = std::fs::read_to_string(site.path("arguments")).unwrap();
    assert_eq!(arguments.trim(), format!("account get-access-token --output json --resource {EXCHANGE}"));
}

/// What `auto` chose, and what it passed over, as the log says it.
fn chosen(log: &str) -> (Option<String>, Vec<String>) {
    let word = |line: &str| {
        line.split("credential=").nth(1).unwrap().trim_matches('"').split(['"', ' ']).next().unwrap().to_owned()
    };
    let lines =
        |text: &'static str| log.lines().filter(move |line| line.contains(text) && line.contains("credential="));
    (lines("the application proves itself with").map(word).next(), lines("not used: ").map(word).collect())
}

// The server asks the emulator before it is ready, while this thread waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_name_the_first_that_is_configured_or_at_hand_is_taken_and_the_log_says_why() {
    let token = |bench: &Bench| bench.emulator.control().federated_token(&kubernetes()).unwrap();
    let all = ["certificate", "secret", "workload-identity", "managed-identity"];
    for (number, expected) in all.into_iter().enumerate() {
        let bench = Bench::new().await;
        let certificate = bench.write("client.pem", pem("confidential-client"));
        let federated = bench.write("token", token(&bench));
        let (secret, authority) = (bench.emulator.endpoints().client_secret.clone(), bench.authority());
        // Everything from `number` on is there.
        let there = [
            ("AZURE_CLIENT_CERTIFICATE_PATH", certificate.as_str()),
            ("AZURE_CLIENT_SECRET", secret.as_str()),
            ("AZURE_FEDERATED_TOKEN_FILE", federated.as_str()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", authority.as_str()),
        ];
        let variables = [&[("RUST_LOG", "info")], &there[number..]].concat();
        let site = bench.serve(&[], &variables);
        if expected == "secret" {
            let session = site.sign_in().await;
            super::person(&site.call(&session.access_token, &[]).await);
        } else {
            serves_with_assertions(&site).await;
        }
        let (name, passed_over) = chosen(&site.server.log());
        assert_eq!(name.as_deref(), Some(expected));
        assert!(passed_over.iter().eq(&all[..number]), "{passed_over:?}");
    }
}
