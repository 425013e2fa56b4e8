//! What proves the application: what it registers is what the server proves itself with.

use std::os::unix::fs::PermissionsExt as _;

use entra_mcp_emulator::Endpoint;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::{ALICE, Ran, calls_of_the_remote_server, fresh, registered, sentence, setting, setup_as, with, writes};
use crate::credentials::kinds::{pem, pkcs12};
use crate::host::commands::Home;
use crate::host::serve;
use crate::support::fixture;
use crate::support::lab::claims;

const LOCAL: [&str; 2] = ["--public-url", "http://localhost:3001"];

/// The identities of the emulator: that of the machine, and one that a person has made.
const SYSTEM_ASSIGNED: &str = "33333333-0000-4000-a000-000000000001";
const USER_ASSIGNED: &str = "33333333-0000-4000-a000-000000000002";
const CLIENT_OF_USER_ASSIGNED: &str = "b0000000-0000-4000-a000-000000000002";

/// Writes a file that only its owner can read; its name.
fn write(home: &Home, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn setup(home: &Home, more: &[&str]) -> Ran {
    setup_as(home, ALICE, &with(&fresh(home), &[&LOCAL[..], more].concat())).await
}

/// The certificates of the registration.
fn certificates(home: &Home) -> Vec<Vec<u8>> {
    let [application] = registered(home, "entra-mcp").try_into().expect("one registration");
    let der = |pem: &String| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    application.certificates.iter().map(der).collect()
}

fn der(name: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(&fixture(&format!("{name}.cert.pem"))).unwrap().to_vec()
}

#[tokio::test]
async fn of_a_chain_the_certificate_of_the_key_is_registered_wherever_it_stands() {
    let home = Home::new().await;
    let other = fixture("confidential-client.cert.pem");
    let chain = write(&home, "chain.pem", [other, pem("unregistered-client")].concat());
    setup(&home, &["--certificate-file", &chain, "--yes"]).await.succeeded();
    assert_eq!(certificates(&home), [der("unregistered-client")]);
    calls_of_the_remote_server(&home, &[]).await;
}

#[tokio::test]
async fn a_certificate_in_pkcs12_form_is_registered_and_its_password_stays_in_the_environment() {
    let home = Home::new().await;
    let file = write(&home, "client.pfx", pkcs12("unregistered-client", "recognisable-password"));
    let named = ["--certificate-file", &file, "--yes"];
    let closed = setup(&home, &named).await;
    let expected =
        format!("the password of the certificate file {file} is wrong: set AZURE_CLIENT_CERTIFICATE_PASSWORD");
    assert_eq!((closed.code, sentence(&closed)), (Some(2), expected.as_str()));
    assert_eq!(writes(&home), [""; 0]);

    let password = ("AZURE_CLIENT_CERTIFICATE_PASSWORD", "recognisable-password");
    let mut command = home.program_with_person(&["setup", "--sign-in", "browser"]);
    command.args(fresh(&home)).args(LOCAL).args(named).env(password.0, password.1);
    let (code, output, log) = serve::run(command, "").await;
    assert_eq!(code, Some(0), "{output}\n{log}");
    assert_eq!(certificates(&home), [der("unregistered-client")]);
    let text = std::fs::read_to_string(home.path().join("fresh.toml")).unwrap();
    assert!(![&text, &output, &log].iter().any(|text| text.contains(password.1)));
    calls_of_the_remote_server(&home, &[password]).await;
}

#[tokio::test]
async fn all_certificates_are_written_and_those_of_the_file_stay() {
    let home = Home::new().await;
    let [old, new] = ["confidential-client", "unregistered-client"].map(|name| write(&home, name, pem(name)));
    setup(&home, &["--certificate-file", &old, "--yes"]).await.succeeded();
    assert_eq!(setting(&home, "certificate-file"), json!([old]));
    setup(&home, &["--certificate-file", &new, "--yes"]).await.succeeded();
    assert_eq!(setting(&home, "certificate-file"), json!([old, new]));
    assert_eq!(certificates(&home), ["confidential-client", "unregistered-client"].map(der));

    let home = Home::new().await;
    let [old, new] = ["confidential-client", "unregistered-client"].map(|name| write(&home, name, pem(name)));
    setup(&home, &["--certificate-file", &old, "--certificate-file", &new, "--yes"]).await.succeeded();
    assert_eq!(setting(&home, "certificate-file"), json!([old, new]));
}

#[tokio::test]
async fn a_certificate_of_the_file_that_cannot_be_used_stands_in_the_way_of_no_other_repair() {
    let home = Home::new().await;
    let named = setup(&home, &["--certificate-file", "/none/client.pem", "--yes"]).await;
    let expected = "the certificate file /none/client.pem cannot be read (No such file or directory (os error 2)): correct \
                    --certificate-file, or the mode of the file";
    assert_eq!((named.code, sentence(&named)), (Some(2), expected));
    assert_eq!(writes(&home), [""; 0]);

    std::fs::write(home.path().join("fresh.toml"), "certificate-file = [\"/none/client.pem\"]\n").unwrap();
    let ran = setup(&home, &["--yes"]).await;
    assert!(ran.succeeded().log.contains(&format!("Not registered: {expected}.")), "{}", ran.log);
    assert!(certificates(&home).is_empty());
    assert!(ran.output.contains("still needs something to prove"), "{}", ran.output);
}

#[tokio::test]
async fn a_certificate_in_a_file_beside_one_in_a_vault_is_refused_as_the_server_refuses_it() {
    let home = Home::new().await;
    let file = write(&home, "client.pem", pem("unregistered-client"));
    let vault = "certificate-vault-url = \"https://contoso.vault.azure.net/certificates/mcp\"\n";
    std::fs::write(home.path().join("fresh.toml"), vault).unwrap();
    let ran = setup(&home, &["--certificate-file", &file, "--yes"]).await;
    assert_eq!(ran.code, Some(2), "{}", ran.log);
    let expected = "--certificate-file and --certificate-vault-url are both set: ";
    assert!(sentence(&ran).starts_with(expected), "{}", ran.log);
    assert_eq!(writes(&home), [""; 0]);
}

#[tokio::test]
async fn the_managed_identity_that_is_trusted_is_the_one_that_the_server_asks_for() {
    for (identity, client_id) in [(USER_ASSIGNED, Some(CLIENT_OF_USER_ASSIGNED)), (SYSTEM_ASSIGNED, None)] {
        let home = Home::new().await;
        setup(&home, &["--managed-identity", identity, "--yes"]).await.succeeded();
        let text = std::fs::read_to_string(home.path().join("fresh.toml")).unwrap();
        assert_eq!(text.contains("managed-identity-id"), client_id.is_some(), "{text}");
        if let Some(client_id) = client_id {
            assert_eq!(setting(&home, "managed-identity-id"), client_id);
        }
        home.emulator().control().clear_requests();
        let authority = home.emulator().endpoints().authority.clone();
        calls_of_the_remote_server(&home, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &authority)]).await;
        let requests = home.emulator().control().requests(Endpoint::Token);
        let subjects: Vec<_> = requests
            .iter()
            .filter_map(|request| Some(claims(request.form("client_assertion")?)["sub"].clone()))
            .collect();
        assert!(!subjects.is_empty() && subjects.iter().all(|subject| subject == identity), "{subjects:?}");
    }
}

#[tokio::test]
async fn what_is_no_managed_identity_is_not_trusted() {
    let home = Home::new().await;
    // A client id, an object id that nothing has, and what is no id.
    for id in [CLIENT_OF_USER_ASSIGNED, "0badcafe-0000-4000-a000-0000000000ff", "x/../../me"] {
        let ran = setup(&home, &["--managed-identity", id, "--yes"]).await;
        let expected = format!(
            "--managed-identity, {id}, is no managed identity of the tenant c0117050-0000-4000-a000-000000000001: pass its \
             object (principal) id, which the portal shows on the identity's Overview, and not its client id"
        );
        assert_eq!((ran.code, sentence(&ran)), (Some(2), expected.as_str()));
    }
    assert_eq!(writes(&home), [""; 0]);
}

#[tokio::test]
async fn an_identity_that_the_configuration_names_otherwise_is_told_of() {
    let home = Home::new().await;
    let other = format!("managed-identity-id = \"{CLIENT_OF_USER_ASSIGNED}\"\n");
    std::fs::write(home.path().join("fresh.toml"), &other).unwrap();
    let ran = setup(&home, &["--managed-identity", SYSTEM_ASSIGNED, "--yes"]).await;
    let expected = format!(
        "The server asks for the managed identity {CLIENT_OF_USER_ASSIGNED}, and this one is the machine's own: remove \
         managed-identity-id from the configuration."
    );
    assert!(ran.succeeded().log.contains(&expected), "{}", ran.log);
    assert_eq!(setting(&home, "managed-identity-id"), CLIENT_OF_USER_ASSIGNED);
}

#[tokio::test]
async fn a_second_run_with_the_same_credential_changes_nothing() {
    let home = Home::new().await;
    let [old, new] = ["confidential-client", "unregistered-client"].map(|name| write(&home, name, pem(name)));
    let cases: [&[&str]; 4] = [
        &["--certificate-file", &old, "--certificate-file", &new],
        &["--managed-identity", USER_ASSIGNED],
        &["--managed-identity", SYSTEM_ASSIGNED],
        &["--federated-issuer", "https://kubernetes.fabrikam.example/", "--federated-subject", "system:mcp"],
    ];
    for case in cases {
        let home = Home::new().await;
        setup(&home, &[case, &["--yes"]].concat()).await.succeeded();
        let file = home.path().join("fresh.toml");
        let before = std::fs::read_to_string(&file).unwrap();
        home.emulator().control().clear_requests();
        // It asks nothing either.
        let ran = setup(&home, case).await;
        assert!(ran.succeeded().output.contains("Nothing had to be changed."), "{case:?}: {}", ran.output);
        assert_eq!(writes(&home), [""; 0], "{case:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "{case:?}");
    }
}
