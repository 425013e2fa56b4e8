//! What does not work stops the server when it starts, with a sentence that says what to change.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::Bench;
use super::kinds::pem;
use crate::host::commands::Home;
use crate::host::serve::run;
use crate::support::fixture;
use crate::support::lab::{REMOTE, app};

/// The exit code and the log of a server that does not start.
async fn refusal(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command =
        home.program(&["serve", "--listen", "127.0.0.1:0", "--client-id", &app(REMOTE), "--check", "fail"]);
    command.args(arguments).envs(variables.iter().copied());
    let (code, output, log) = run(command, "").await;
    assert_eq!(output, "", "it started");
    (code, log)
}

/// A certificate of the application's key that is over.
fn expired() -> String {
    let key = String::from_utf8(fixture("confidential-client.key.pem")).unwrap();
    let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    let certificate = params.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap();
    format!("{key}{}", certificate.pem())
}

/// Files that no user can read, however privileged: a folder, and one below a file.
fn unreadable(bench: &Bench) -> [String; 2] {
    let folder = bench.folder.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let file = bench.write("file", "");
    [folder.to_str().unwrap().to_owned(), format!("{file}/below")]
}

#[tokio::test]
async fn a_certificate_that_does_not_work_is_refused_with_the_reason_and_the_remedy() {
    let (home, bench) = (Home::new().await, Bench::new().await);
    let missing = bench.folder.path().join("missing.pem");
    let [folder, through_a_file] = unreadable(&bench);
    for (file, expected) in [
        (folder, "cannot be read (Is a directory (os error 21)): correct --certificate-file, or the mode of the file"),
        (through_a_file, "cannot be read (Not a directory (os error 20)): correct --certificate-file"),
        (
            bench.write("expired.pem", expired()),
            "expired on 2020-01-01: make a new one, upload it under Certificates & secrets",
        ),
        (
            bench.write("unregistered.pem", pem("unregistered-client")),
            "compare the thumbprint in the log of this program with those under Certificates & secrets",
        ),
        (
            missing.to_str().unwrap().to_owned(),
            "cannot be read (No such file or directory (os error 2)): correct --certificate-file",
        ),
        (
            bench.write("key.pem", fixture("confidential-client.key.pem")),
            "holds no certificate: append it to the private key",
        ),
        (bench.write("certificate.pem", fixture("confidential-client.cert.pem")), "holds no private key: append it"),
    ] {
        let arguments = ["--credential", "certificate", "--certificate-file", &file];
        let (code, log) = refusal(&home, &arguments, &[]).await;
        assert!(code == Some(2) && log.contains(expected), "{file}: {log}");
    }
}

#[tokio::test]
async fn a_federated_token_that_does_not_work_is_refused_with_the_remedy() {
    let (home, bench) = (Home::new().await, Bench::new().await);
    let control = home.emulator().control();
    let token = |subject: &str, expires_in| entra_mcp_emulator::FederatedToken {
        issuer: "https://kubernetes.contoso.example/".to_owned(),
        subject: subject.to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
        expires_in,
        forged: false,
    };
    let missing = bench.folder.path().join("missing");
    let [folder, through_a_file] = unreadable(&bench);
    let other = control.federated_token(&token("system:serviceaccount:mcp:other", 600)).unwrap();
    let over = control.federated_token(&token("system:serviceaccount:mcp:entra-mcp", -1)).unwrap();
    for (file, expected) in [
        (folder, "cannot be read (Is a directory (os error 21)): in Kubernetes, set the label"),
        (through_a_file, "cannot be read (Not a directory (os error 20)): in Kubernetes, set the label"),
        (missing.to_str().unwrap().to_owned(), "set the label azure.workload.identity/use"),
        (bench.write("text", "no token"), "holds no token"),
        (bench.write("over", over), "has expired"),
        (bench.write("other", other), "system:serviceaccount:NAMESPACE:NAME"),
    ] {
        let variables = [("AZURE_FEDERATED_TOKEN_FILE", file.as_str())];
        let (code, log) = refusal(&home, &["--credential", "workload-identity"], &variables).await;
        assert!(code == Some(2) && log.contains(expected), "{expected}: {log}");
    }
    let (code, log) = refusal(&home, &["--credential", "workload-identity"], &[]).await;
    assert!(code == Some(2) && log.contains("--federated-token-file"), "{log}");
}

#[tokio::test]
async fn a_client_secret_that_cannot_be_read_is_refused_with_the_remedy() {
    let (home, bench) = (Home::new().await, Bench::new().await);
    let [folder, through_a_file] = unreadable(&bench);
    let missing = bench.folder.path().join("missing").to_str().unwrap().to_owned();
    let empty = bench.write("empty", "\n");
    for (file, reason) in [
        (folder, "Is a directory (os error 21)"),
        (through_a_file, "Not a directory (os error 20)"),
        (missing, "No such file or directory (os error 2)"),
        (empty, "it is empty"),
    ] {
        let (code, log) = refusal(&home, &["--client-secret-file", &file], &[]).await;
        let expected = format!("{file} cannot be used ({reason}): write the secret into it, correct its mode");
        assert!(code == Some(2) && log.contains(&expected), "{file}: {log}");
    }
}

#[tokio::test]
async fn a_machine_without_a_managed_identity_is_told_so() {
    let home = Home::new().await;
    let authority = home.emulator().endpoints().authority.clone();
    let nowhere = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")];
    let (code, log) = refusal(&home, &["--credential", "managed-identity"], &nowhere).await;
    assert!(code == Some(2) && log.contains("no managed identity service answers at http://127.0.0.1:1"), "{log}");

    let unknown = ["--credential", "managed-identity", "--managed-identity-id", "b0000000-0000-4000-a000-000000000009"];
    let (code, log) = refusal(&home, &unknown, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &authority)]).await;
    assert!(code == Some(2) && log.contains("assign it under Identity in the portal"), "{log}");

    // Nothing at all: each kind is named with what it lacks.
    let (code, log) = refusal(&home, &[], &nowhere).await;
    let lacking = [
        "neither --certificate-file nor --certificate-vault-url is set",
        "set AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE is not set",
        "no managed identity service",
    ];
    assert!(code == Some(2) && lacking.iter().all(|part| log.contains(part)), "{log}");
}

#[tokio::test]
async fn an_azure_cli_that_is_missing_or_signed_in_as_a_person_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (home, bench) = (Home::new().await, Bench::new().await);
    let folder = bench.folder.path().to_str().unwrap().to_owned();
    let (code, log) = refusal(&home, &["--credential", "azure-cli"], &[("PATH", &folder)]).await;
    assert!(code == Some(2) && log.contains("install it, and put `az` on the search path"), "{log}");

    let token = crate::tools::mail::bearer(home.emulator(), "alice@contoso.example").await;
    let script = bench.write("az", format!("#!/bin/sh\necho '{{\"accessToken\":\"{token}\"}}'\n"));
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (code, log) = refusal(&home, &["--credential", "azure-cli"], &[("PATH", &format!("{folder}:/bin"))]).await;
    assert!(code == Some(2) && log.contains("az login --identity") && !log.contains(&token), "{log}");
}
