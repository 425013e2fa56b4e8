//! Faults of this machine, of the way to Entra ID, and of the credential.

use std::os::unix::fs::PermissionsExt as _;

use entra_mcp_emulator::{Builder, Clock};

use super::{Diagnosis, diagnosis, doctor};
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
    let none = doctor(&home, &["--listen", "127.0.0.1:0"], &[("AZURE_CLIENT_SECRET", ""), nowhere]).await;
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
async fn files_with_rules_secrets_and_certificates_to_trust_are_looked_at() {
    let home = Home::new().await;
    let write = |name: &str, content: &str, mode: u32| {
        let path = home.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca = String::from_utf8(crate::support::fixture("confidential-client.cert.pem")).unwrap();
    let rules = write("rules.toml", "[[access]]\ntool = \"getUserDetails\"\nroles = [\"Reader\"]\n", 0o666);
    let (ca, key) = (write("ca.pem", &ca, 0o666), write("store.key", &"7".repeat(32), 0o640));
    let config = home.path().join(".config/entra-mcp/config.toml");
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o666)).unwrap();
    let arguments = ["--access-file", &rules, "--ca-file", &ca, "--store-key-file", &key];
    let open = doctor(&home, &arguments, &[]).await;
    let changes: Vec<_> =
        open.of("warning").into_iter().map(|found| found["change"].as_str().unwrap().to_owned()).collect();
    let go_w = |path: &str| format!("chmod go-w {path}");
    assert_eq!(
        changes,
        [go_w(config.to_str().unwrap()), go_w(&rules), go_w(&ca), format!("chmod 600 {key}")],
        "{:#}",
        open.report
    );
    for (path, mode) in [(config.to_str().unwrap(), 0o644), (&rules, 0o644), (&ca, 0o644), (&key, 0o600)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let closed = doctor(&home, &arguments, &[]).await;
    assert_eq!((closed.code, closed.ids("warning")), (Some(0), vec![]), "{:#}", closed.report);
}

/// `entra-mcp stdio` signs people in with a public client.
#[tokio::test]
async fn a_local_configuration_needs_no_credential() {
    let home = Home::new().await;
    let local = diagnosis(home.program(&["doctor", "--json"])).await;
    assert_eq!((local.code, local.ids("failure")), (Some(0), vec![]), "{:#}", local.report);
    for id in ["settings", "clock", "metadata", "keys"] {
        assert!(local.ids("good").contains(&id), "{id}: {:#}", local.report);
    }
    assert!(local.ids("skipped").contains(&"credential"), "{:#}", local.report);
    assert!(home.emulator().control().requests(entra_mcp_emulator::Endpoint::Token).is_empty());
    // What is set for a server makes it one.
    let mut command = home.program(&["doctor", "--json", "--public-url", "https://mcp.contoso.example"]);
    command.env("AZURE_CLIENT_SECRET", "");
    let server = diagnosis(command).await;
    assert_eq!((server.code, server.ids("failure")), (Some(2), vec!["credential"]), "{:#}", server.report);
}

#[tokio::test]
async fn all_settings_that_are_wrong_are_named_and_hide_no_other_layer() {
    let home = Home::new().await;
    let wrong = ["--max-queue", "100000000", "--max-connections", "0"];
    let diagnosis = doctor(&home, &wrong, &[("AZURE_CLIENT_SECRET", "wrong")]).await;
    let failures = diagnosis.of("failure");
    let named: Vec<_> = failures.iter().map(|found| (found["id"].as_str().unwrap(), &found["what"])).collect();
    assert_eq!(
        named.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        ["settings", "settings", "token"],
        "{:#}",
        diagnosis.report
    );
    for name in ["max-queue", "max-connections"] {
        assert!(named.iter().any(|(_, what)| what.as_str().unwrap().starts_with(name)), "{named:?}");
    }
}

/// Where a setting decides whom a credential is sent to, it is not sent while that setting is wrong.
#[tokio::test]
async fn a_credential_is_not_sent_while_a_setting_that_it_depends_on_is_wrong() {
    let home = Home::new().await;
    for wrong in [&["--public-url", "http://mcp.contoso.example"][..], &["--managed-identity-id", "nobody"]] {
        let diagnosis = doctor(&home, wrong, &[]).await;
        assert_eq!(diagnosis.ids("failure"), ["settings"], "{:#}", diagnosis.report);
        for id in ["credential", "registration"] {
            assert!(diagnosis.ids("skipped").contains(&id), "{id}: {:#}", diagnosis.report);
        }
        // The disk, the clock and the tenant do not depend on it.
        for id in ["space", "clock", "metadata", "keys"] {
            assert!(diagnosis.ids("good").contains(&id), "{id}: {:#}", diagnosis.report);
        }
    }
    let nowhere = doctor(&home, &["--cloud", "public", "--authority", "ftp://127.0.0.1"], &[]).await;
    assert_eq!(nowhere.ids("failure"), ["settings"], "{:#}", nowhere.report);
    for id in ["connect", "metadata", "credential", "registration"] {
        assert!(nowhere.ids("skipped").contains(&id), "{id}: {:#}", nowhere.report);
    }
    let contradictory = doctor(&home, &["--deny-unlisted"], &[]).await;
    assert_eq!(contradictory.ids("failure"), ["settings"], "{:#}", contradictory.report);
    assert!(contradictory.failure("settings").1.contains("name one with --tools"), "{:#}", contradictory.report);
    assert!(contradictory.ids("good").contains(&"space"), "{:#}", contradictory.report);
    assert!(home.emulator().control().requests(entra_mcp_emulator::Endpoint::Token).is_empty(), "nothing was sent");
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
