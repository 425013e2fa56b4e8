//! Faults of this machine, of the way to Entra ID, and of the credential.

use std::os::unix::fs::PermissionsExt as _;

use entra_mcp_emulator::{Builder, Clock};

use super::{Diagnosis, doctor};
use crate::credentials::kinds::pem;
use crate::host::commands::Home;
use crate::host::serve::run;
use crate::support::lab::{REMOTE, START, app};

async fn with_secret(home: &Home, secret: &str) -> Diagnosis {
    doctor(home, &[], &[("AZURE_CLIENT_SECRET", secret)]).await
}

#[tokio::test]
async fn where_all_is_well_it_says_so_and_makes_nothing() {
    let home = Home::new().await;
    let diagnosis = doctor(&home, &[], &[]).await;
    assert_eq!(diagnosis.code, Some(0), "{:#}", diagnosis.report);
    for id in ["settings", "space", "credential", "clock", "metadata", "keys", "token"] {
        assert!(diagnosis.ids("good").contains(&id), "{id}: {:#}", diagnosis.report);
    }
    assert!(!home.path().join(".local").exists(), "it makes no store");
    let secret = &home.emulator().endpoints().client_secret;
    assert!(!diagnosis.text.contains(secret), "the secret is not shown");
}

#[tokio::test]
async fn it_says_where_each_setting_comes_from() {
    let home = Home::new().await;
    let diagnosis = doctor(&home, &["--listen", "127.0.0.1:0"], &[("ENTRA_MCP_CHECK", "off")]).await;
    let lines: Vec<_> = diagnosis.of("good").into_iter().filter(|finding| finding["id"] == "settings").collect();
    let lines: Vec<_> = lines.iter().map(|finding| finding["what"].as_str().unwrap()).collect();
    let [flags, environment, file] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(*flags, "from the command line: client-id, listen");
    assert_eq!(*environment, "from the environment: check, AZURE_CLIENT_SECRET");
    assert!(file.contains("config.toml: ") && file.contains("tenant-id") && !file.contains("client-id"), "{file}");
}

#[tokio::test]
async fn a_person_reads_a_tree() {
    let home = Home::new().await;
    let mut command = home.program(&["doctor", "--client-id", &app(REMOTE)]);
    command.env("AZURE_CLIENT_SECRET", "wrong");
    let (code, output, log) = run(command, "").await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.starts_with("Settings\n├─ ✓ from the command line: client-id\n"), "{output}");
    assert!(output.contains("─ ✗ The client secret is wrong\n"), "{output}");
    let change = "→ use the secret's value, not its id, from Certificates & secrets in the app registration.";
    assert!(output.contains(change) && output.contains("Client secrets"), "{output}");
    assert!(log.ends_with("entra-mcp: failures: 1, warnings: 0\n"), "{log}");
}

#[tokio::test]
async fn each_fault_is_named_with_its_remedy() {
    let home = Home::new().await;
    let wrong = with_secret(&home, "wrong").await;
    assert_eq!((wrong.code, wrong.ids("failure")), (Some(2), vec!["token"]));
    assert!(wrong.failure("token").1.contains("In the portal: App registrations > your app > Certificates & secrets"));

    let unknown = doctor(&home, &["--tenant-id", "0a0a0a0a-0000-4000-a000-000000000000"], &[]).await;
    assert_eq!(unknown.ids("failure"), ["metadata"], "{:#}", unknown.report);
    assert!(unknown.failure("metadata").1.contains("Overview"));

    let closed = doctor(&home, &["--authority", "http://127.0.0.1:1"], &[]).await;
    assert!(closed.failure("connect").0.starts_with("Entra ID: no connection to 127.0.0.1"));

    let nowhere = doctor(&home, &["--graph-url", "https://graph.invalid"], &[]).await;
    assert!(nowhere.failure("dns").0.contains("the name graph.invalid cannot be resolved"), "{:#}", nowhere.report);

    let missing = doctor(&home, &["--client-secret-file", "/nonexistent/secret"], &[]).await;
    assert!(missing.ids("failure").contains(&"files"), "{:#}", missing.report);

    let invalid = doctor(&home, &["--max-queue", "100000000"], &[]).await;
    assert_eq!(invalid.failure("settings").0, "max-queue is \"100000000\"");
}

#[tokio::test]
async fn nothing_to_prove_the_application_with_is_a_fault_that_names_what_each_kind_lacks() {
    let home = Home::new().await;
    let nowhere = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
    let none = doctor(&home, &[], &[("AZURE_CLIENT_SECRET", ""), nowhere]).await;
    assert_eq!(none.ids("failure"), ["credential"], "{:#}", none.report);
    let skipped = none.of("skipped").into_iter().filter(|finding| finding["id"] == "credential").count();
    assert_eq!(skipped, 5, "{:#}", none.report);
}

#[tokio::test]
async fn a_secret_that_is_still_set_beside_a_certificate_is_named() {
    let home = Home::new().await;
    let file = home.path().join("client.pem");
    std::fs::write(&file, pem("confidential-client")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let both = doctor(&home, &["--certificate-file", file.to_str().unwrap()], &[]).await;
    assert_eq!(both.code, Some(0), "{:#}", both.report);
    let skipped = both.of("skipped").into_iter().filter(|finding| finding["id"] == "credential");
    let skipped: Vec<_> = skipped.map(|finding| finding["what"].as_str().unwrap()).collect();
    let secret = "secret is not used: it is there, and certificate goes before it";
    assert!(skipped.len() == 4 && skipped.contains(&secret), "{skipped:?}");
}

#[tokio::test]
async fn files_that_others_can_read_are_named_with_the_command_that_closes_them() {
    let home = Home::new().await;
    let file = home.path().join("client.pem");
    std::fs::write(&file, pem("confidential-client")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = doctor(&home, &["--certificate-file", file.to_str().unwrap()], &[]).await;
    assert_eq!((open.code, open.ids("warning")), (Some(1), vec!["files"]), "{:#}", open.report);
    assert_eq!(open.of("warning")[0]["change"], format!("chmod 600 {}", file.display()));
    let thumbprint = open.of("good").into_iter().any(|finding| finding["id"] == "certificate");
    assert!(thumbprint, "{:#}", open.report);
}

#[tokio::test]
async fn a_store_whose_key_others_can_read_is_a_fault() {
    let home = Home::new().await;
    let store = home.path().join("private").join("server.db");
    let mut set = home.program(&["client-secret", "set", "--client-id", &app(REMOTE)]);
    set.arg("--store").arg(&store);
    let secret = home.emulator().endpoints().client_secret.clone();
    assert_eq!(run(set, &secret).await.0, Some(0));
    let named = ["--store", store.to_str().unwrap()];
    let stored = doctor(&home, &named, &[("AZURE_CLIENT_SECRET", "")]).await;
    assert_eq!(stored.code, Some(0), "{:#}", stored.report);
    let key = store.with_extension("key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = doctor(&home, &named, &[]).await;
    assert!(open.failure("store").0.contains("can be read or written by other users"), "{:#}", open.report);
}

#[tokio::test]
async fn an_authority_of_another_certificate_authority_and_a_clock_that_is_wrong_are_told_apart() {
    let home = Home::of(Builder::new().tls(true)).await;
    let config = home.path().join(".config/entra-mcp/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("ca-file")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&config, without).unwrap();
    let unknown = doctor(&home, &[], &[]).await;
    let failures = unknown.of("failure");
    assert!(
        failures.iter().any(|found| found["id"] == "tls" && found["change"].as_str().unwrap().contains("--ca-file")),
        "{:#}",
        unknown.report
    );
    std::fs::write(&config, text).unwrap();
    let known = doctor(&home, &[], &[]).await;
    assert!(known.of("good").iter().any(|found| found["id"] == "tls"), "{:#}", known.report);

    let home = Home::of(Builder::new().clock(Clock::manual(START - 3_600))).await;
    let wrong = doctor(&home, &[], &[]).await;
    assert!(wrong.failure("clock").1.contains("correct the date and time of this machine"), "{:#}", wrong.report);
}
