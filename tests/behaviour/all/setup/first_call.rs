//! From an empty directory to the first tool call.

use std::os::unix::fs::PermissionsExt as _;

use super::{ADMIN, ALICE, broker, calls_of_the_remote_server, fresh, registered, setting, setup_as, with, writes};
use crate::credentials::kinds::pem;
use crate::host::commands::Home;
use crate::host::serve;
use crate::host::stdio;

/// Calls the tool of the local server, with a person at the browser.
async fn local_profile(home: &Home) -> serde_json::Value {
    let file = home.path().join("fresh.toml");
    let mut server = stdio::Server::spawn({
        let mut command = home.program_with_person(&["stdio", "--sign-in", "browser", "--store", "memory"]);
        command.arg("--config").arg(file);
        command
    });
    let profile = server.profile().await;
    assert_eq!(server.end().await.0, Some(0));
    profile
}

#[tokio::test]
async fn two_commands_lead_from_an_empty_directory_to_the_first_call_of_the_local_server() {
    let home = Home::new().await;
    let ran = setup_as(&home, ALICE, &with(&fresh(&home), &["--yes"])).await;
    ran.succeeded();
    let [application] = registered(&home, "entra-mcp").try_into().expect("one registration");
    assert_eq!(setting(&home, "client-id"), application.id);
    assert_eq!(application.public_redirect_uris, ["http://localhost".to_owned(), broker(&home)]);
    assert!(application.allow_public_client && !application.without_service_principal);
    assert!(ran.output.contains(r#""command": "entra-mcp""#), "{}", ran.output);
    assert!(!ran.output.contains("auth/callback"), "nothing is said of a remote server: {}", ran.output);

    assert_eq!(local_profile(&home).await["displayName"], "Alice Anderson");
}

#[tokio::test]
async fn without_a_tenant_it_is_that_of_the_person_and_the_file_names_it() {
    let home = Home::new().await;
    let at = home.emulator().endpoints();
    let file = home.path().join("fresh.toml").display().to_string();
    let arguments = ["--config", &file, "--authority", &at.authority, "--graph-url", &at.graph, "--yes"];
    let ran = setup_as(&home, ALICE, &arguments).await;
    ran.succeeded();
    let signed_in = format!("Signed in as {ALICE} in the tenant {}.", at.tenant_id);
    assert!(ran.output.contains(&signed_in), "{}", ran.output);
    assert_eq!(setting(&home, "tenant-id"), at.tenant_id);
    assert_eq!(local_profile(&home).await["displayName"], "Alice Anderson");
    // The second run finds the tenant in the file.
    home.emulator().control().clear_requests();
    setup_as(&home, ALICE, &arguments).await.succeeded();
    assert_eq!(writes(&home), [""; 0]);
}

#[tokio::test]
async fn a_device_code_signs_in_too_and_its_token_is_kept_nowhere() {
    let home = Home::new().await;
    let script = entra_mcp_emulator::DeviceScript {
        interval: Some(0),
        outcome: Some(entra_mcp_emulator::DeviceOutcome::ApprovedBy(ALICE.to_owned())),
        ..Default::default()
    };
    home.emulator().control().script_device_codes(script);
    let mut command = home.program(&["setup", "--yes", "--sign-in", "device-code"]);
    command.args(fresh(&home));
    let (code, output, log) = serve::run(command, "").await;
    assert_eq!(code, Some(0), "{output}\n{log}");
    assert!(log.contains("enter the code"), "{log}");
    assert!(!home.path().join(".local").exists(), "it makes no store");
    let text = std::fs::read_to_string(home.path().join("fresh.toml")).unwrap();
    assert!(!text.contains("EwB") && !output.contains("EwB") && !log.contains("EwB"), "a token is shown");
}

#[tokio::test]
async fn a_remote_server_with_a_certificate_serves_after_setup_without_any_secret() {
    let home = Home::new().await;
    let certificate = home.path().join("client.pem");
    std::fs::write(&certificate, pem("unregistered-client")).unwrap();
    std::fs::set_permissions(&certificate, std::fs::Permissions::from_mode(0o600)).unwrap();
    let certificate = certificate.to_str().unwrap();
    let more =
        ["--public-url", "http://localhost:3001", "--certificate-file", certificate, "--grant-admin-consent", "--yes"];
    let ran = setup_as(&home, ADMIN, &with(&fresh(&home), &more)).await;
    ran.succeeded();
    let [application] = registered(&home, "entra-mcp").try_into().expect("one registration");
    assert_eq!(application.web_redirect_uris, ["http://localhost/auth/callback"]);
    assert_eq!(application.identifier_uris, [format!("api://{}", application.id)]);
    assert_eq!((application.access_token_version, application.group_claims), (2, true));
    assert_eq!(application.roles, ["Mcp.Reader", "Mcp.Admin"]);
    assert_eq!(application.scopes[0].name, "access_as_user");
    assert!(application.secrets.is_empty() && application.certificates.len() == 1);
    assert!(!ran.output.contains("still needs something"), "{}", ran.output);
    assert!(!ran.output.contains("PRIVATE KEY") && !ran.log.contains("PRIVATE KEY"));

    calls_of_the_remote_server(&home, &[]).await;
}

#[tokio::test]
async fn a_federated_credential_is_trusted_afterwards_and_its_subject_is_repaired() {
    let home = Home::new().await;
    let issuer = "https://kubernetes.fabrikam.example/";
    let trust = |subject: &'static str| {
        [
            "--public-url",
            "https://tools.contoso.example",
            "--federated-issuer",
            issuer,
            "--federated-subject",
            subject,
            "--yes",
        ]
    };
    setup_as(&home, ALICE, &with(&fresh(&home), &trust("old"))).await.succeeded();
    let [application] = registered(&home, "entra-mcp").try_into().expect("one registration");
    assert_eq!(application.identifier_uris, ["https://tools.contoso.example/mcp".to_owned()][..]);
    home.emulator().control().clear_requests();
    let ran = setup_as(&home, ALICE, &with(&fresh(&home), &trust("system:serviceaccount:mcp:entra-mcp"))).await;
    ran.succeeded();
    let changed = "federated credential (changed): issuer https://kubernetes.fabrikam.example/, subject \
                   system:serviceaccount:mcp:entra-mcp, audience api://AzureADTokenExchange";
    assert!(ran.output.contains(changed), "{}", ran.output);
    assert_eq!(writes(&home).len(), 1, "{:?}", writes(&home));

    let token = entra_mcp_emulator::FederatedToken {
        issuer: issuer.to_owned(),
        subject: "system:serviceaccount:mcp:entra-mcp".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
        expires_in: 600,
        forged: false,
    };
    let assertion = home.emulator().control().federated_token(&token).unwrap();
    let at = home.emulator().endpoints();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", application.id.as_str()),
        ("scope", "https://graph.microsoft.com/.default"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &assertion),
    ];
    let url = format!("{}/{}/oauth2/v2.0/token", at.authority, at.tenant_id);
    let answer = reqwest::Client::new().post(url).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}
