//! A certificate in Azure Key Vault: the vault signs, and its key never leaves it.

use entra_mcp_emulator::FederatedToken;
use serde_json::json;

use super::{Bench, are_of_a_certificate, serves_with_assertions, write};
use crate::host::commands::Home;
use crate::host::records::Site;
use crate::host::serve::run;
use crate::support::fixture;
use crate::support::key_vault::{Mood, Vault};
use crate::support::lab::{CONTOSO, REMOTE, app, claims, header};
use crate::support::redis::Redis;

/// The emulator's system-assigned identity.
pub(super) const MACHINE: &str = "33333333-0000-4000-a000-000000000001";
const OLD: &str = "confidential-client";
const NEW: &str = "unregistered-client";

/// A vault in which the machine has the roles that it takes.
pub(super) async fn vault(bench: &Bench) -> Vault {
    let vault = Vault::start(&bench.authority(), &bench.emulator.control()).await;
    vault.allow(MACHINE);
    vault
}

/// How often the vault was asked to sign.
pub(super) fn signed(vault: &Vault) -> usize {
    vault.seen().iter().filter(|request| request.starts_with("POST /keys/mcp/") && request.ends_with("/sign")).count()
}

// The server asks the emulator and the vault before it is ready, while this thread waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_signs_for_sign_in_and_on_behalf_of_and_its_key_stays_there() {
    let bench = Bench::new().await;
    let vault = vault(&bench).await;
    let certificate = vault.add("mcp", OLD);
    let (authority, endpoint) = (bench.authority(), format!("{}/{CONTOSO}/oauth2/v2.0/token", bench.authority()));
    let arguments = ["--credential", "certificate", "--certificate-vault-url", &certificate];
    let site = bench.serve(&arguments, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &authority), ("RUST_LOG", "info")]);
    let assertions = serves_with_assertions(&site).await;
    are_of_a_certificate(&assertions, &endpoint);
    assert_eq!(signed(&vault), 1, "one is signed for several requests: {:?}", vault.seen());
    assert!(!vault.seen().iter().any(|request| request.contains("secrets")), "the private key is not asked for");
    let log = site.server.log();
    assert!(log.contains(&format!("the certificate {certificate} in Azure Key Vault")), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_is_asked_with_workload_identity_or_the_azure_cli_as_well() {
    use std::os::unix::fs::PermissionsExt as _;
    for identity in ["workload-identity", "azure-cli"] {
        let bench = Bench::new().await;
        let vault = vault(&bench).await;
        let certificate = vault.add("mcp", OLD);
        let kubernetes = FederatedToken {
            issuer: "https://kubernetes.contoso.example/".to_owned(),
            subject: "system:serviceaccount:mcp:entra-mcp".to_owned(),
            audience: "api://AzureADTokenExchange".to_owned(),
            expires_in: 600,
            forged: false,
        };
        let file = bench.write("token", bench.emulator.control().federated_token(&kubernetes).unwrap());
        let url = format!(
            "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net",
            bench.authority()
        );
        let token = reqwest::Client::new().get(url).header("metadata", "true").send().await.unwrap();
        let token: serde_json::Value = token.json().await.unwrap();
        bench.write("answer.json", json!({ "accessToken": token["access_token"], "tokenType": "Bearer" }).to_string());
        let folder = bench.folder.path().display().to_string();
        let script = format!("#!/bin/sh\necho \"$@\" > {folder}/arguments\ncat {folder}/answer.json\n");
        let script = write(&bench.folder, "az", script);
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = format!("{folder}:/usr/bin:/bin");
        // The application itself asks, by its federated credential: its object is that of its service principal.
        if identity == "workload-identity" {
            let (client, secret) = (app(REMOTE), bench.emulator.endpoints().client_secret.clone());
            let own = [
                ("grant_type", "client_credentials"),
                ("client_id", client.as_str()),
                ("client_secret", secret.as_str()),
                ("scope", "https://vault.azure.net/.default"),
            ];
            let url = format!("{}/{CONTOSO}/oauth2/v2.0/token", bench.authority());
            let answer = reqwest::Client::new().post(url).form(&own).send().await.unwrap();
            let answer: serde_json::Value = answer.json().await.unwrap();
            vault.allow(claims(answer["access_token"].as_str().unwrap())["oid"].as_str().unwrap());
            bench.emulator.control().clear_requests();
        }
        let arguments =
            ["--credential", "certificate", "--certificate-vault-url", &certificate, "--vault-identity", identity];
        let site = bench.serve(&arguments, &[("AZURE_FEDERATED_TOKEN_FILE", &file), ("PATH", &path)]);
        let assertions = serves_with_assertions(&site).await;
        let by_vault = |assertion: &&String| header(assertion)["x5t#S256"].is_string();
        assert!(assertions.iter().any(|assertion| by_vault(&assertion)), "{identity}");
        assert_eq!(signed(&vault), 1, "{identity}");
        if identity == "azure-cli" {
            let arguments = std::fs::read_to_string(site.path("arguments")).unwrap();
            assert_eq!(arguments.trim(), "account get-access-token --output json --resource https://vault.azure.net");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_not_registered_gives_way_to_the_one_before_and_the_other_way_round() {
    let bench = Bench::new().await;
    let vault = vault(&bench).await;
    vault.add("mcp", OLD);
    let certificate = vault.add("mcp", NEW);
    let authority = bench.authority();
    let arguments = ["--certificate-vault-url", &certificate];
    let site = bench.serve(&arguments, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &authority)]);
    serves_with_assertions(&site).await;
    assert!(site.server.log().contains("Entra ID refused a version, so this one is used from now on"));
    let new = String::from_utf8(fixture(&format!("{NEW}.cert.pem"))).unwrap();
    site.emulator.control().change_application(&app(REMOTE), |own| own.certificates = vec![new]).unwrap();
    let before = signed(&vault);
    serves_with_assertions(&site).await;
    assert_eq!(signed(&vault), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_does_not_do_it_stops_the_server_with_what_to_change() {
    let (home, bench) = (Home::new().await, Bench::new().await);
    let vault = Vault::start(&bench.authority(), &bench.emulator.control()).await;
    let certificate = vault.add("mcp", OLD);
    let authority = bench.authority();
    let refusal = async |arguments: &[&str], machine: &str| {
        let client = app(REMOTE);
        let listen = ["serve", "--listen", "127.0.0.1:0", "--client-id", client.as_str(), "--check", "fail"];
        let mut command = home.program(&listen);
        command.args(["--credential", "certificate"]).args(arguments).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine);
        let (code, output, log) = run(command, "").await;
        assert_eq!((code, output.as_str()), (Some(2), ""), "{log}");
        log
    };
    let nowhere = "http://127.0.0.1:1";
    let of = |certificate: &str| ["--certificate-vault-url".to_owned(), certificate.to_owned()];
    let log = refusal(&of(&certificate).each_ref().map(String::as_str), &authority).await;
    assert!(log.contains("assign it the role Key Vault Crypto User") && log.contains("ForbiddenByRbac"), "{log}");
    vault.allow(MACHINE);
    for (address, machine, expected) in [
        (certificate.replace("/mcp", "/other"), authority.as_str(), "correct the address, or make it under Objects"),
        (
            format!("{nowhere}/certificates/mcp"),
            authority.as_str(),
            "correct its address, or let the network of this machine",
        ),
        (certificate.clone(), nowhere, "Switch the identity on under Identity in the portal"),
        (
            certificate.replace("certificates", "keys"),
            authority.as_str(),
            "is no address in a key vault: copy the identifier",
        ),
        ("https://vault.example/certificates/mcp".to_owned(), authority.as_str(), "is no address in a key vault"),
    ] {
        let log = refusal(&of(&address).each_ref().map(String::as_str), machine).await;
        assert!(log.contains(expected), "{address}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_on_while_its_vault_is_out_of_order() {
    let bench = Bench::new().await;
    let vault = vault(&bench).await;
    vault.add("mcp", OLD);
    let site = with_certificate(bench, &vault);
    serves_with_assertions(&site).await;
    let before = vault.seen().len();
    vault.behave(Mood::Refuses);
    let session = site.sign_in().await;
    assert_eq!(site.call(&session.access_token, &[]).await.0, 200);
    assert_eq!(vault.seen().len(), before, "the assertion at hand is used");
    assert!(!site.server.log().contains("expires soon"), "it is good for years");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expires_soon_is_told_in_the_log() {
    let bench = Bench::new().await;
    let vault = vault(&bench).await;
    let now = bench.folder.path().metadata().unwrap().modified().unwrap();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    vault.add_until("mcp", OLD, now + 20 * 24 * 3_600, true);
    let log = with_certificate(bench, &vault).server.log();
    assert_eq!(log.matches("the client certificate in the key vault expires soon").count(), 1, "{log}");
}

/// A server with the certificate of the vault.
fn with_certificate(bench: Bench, vault: &Vault) -> Site {
    let (authority, certificate) = (bench.authority(), format!("{}/certificates/mcp", vault.url));
    let variables = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", authority.as_str())];
    bench.serve(&["--certificate-vault-url", &certificate], &variables)
}

/// How often the vault did this with the key of the store.
fn done(vault: &Vault, operation: &str) -> usize {
    vault
        .seen()
        .iter()
        .filter(|request| request.starts_with("POST /keys/store") && request.ends_with(operation))
        .count()
}

/// A server that keeps sessions, at which a person has signed in and called twice.
async fn used(bench: Bench, arguments: &[&str]) -> Site {
    let authority = bench.authority();
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let variables = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", authority.as_str())];
    let site = Site::of(bench.emulator, bench.folder, &arguments, &variables);
    let session = site.sign_in().await;
    for _ in 0..2 {
        super::person(&site.call(&session.access_token, &[]).await);
    }
    site
}

/// `entra-mcp store` with these arguments, for the store of a server; whether it succeeded, and what it said.
async fn store(home: &Home, site: &Site, arguments: &[&str]) -> (bool, String) {
    let path = site.path("sessions.db");
    let mut command = home.program(&["store"]);
    command.args(arguments).arg("--store").arg(path);
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &site.emulator.endpoints().authority);
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_key_of_a_store_is_wrapped_by_the_vault_and_unwrapped_once_in_the_life_of_a_process() {
    let (home, bench) = (Home::new().await, Bench::new().await);
    let vault = vault(&bench).await;
    vault.add("store", NEW);
    let key = format!("{}/keys/store", vault.url);
    let mut site = used(bench, &["--store-key-vault", &key]).await;
    assert_eq!((done(&vault, "/wrapkey"), done(&vault, "/unwrapkey")), (1, 1), "{:?}", vault.seen());
    site.server.end();
    assert!(!site.path("sessions.key").exists(), "the key itself is in no file");
    let wrapped = site.path("sessions.wrapped-key");
    let content: serde_json::Value = serde_json::from_slice(&std::fs::read(&wrapped).unwrap()).unwrap();
    assert_eq!(content["algorithm"], "RSA-OAEP-256");
    assert!(content["key"].as_str().unwrap().starts_with(&format!("{key}/")), "{content}");

    let in_vault = ["check", "--store-key-vault", key.as_str()];
    let (sound, said) = store(&home, &site, &in_vault).await;
    assert!(sound, "{said}");
    assert_eq!(done(&vault, "/unwrapkey"), 2, "once by each process");
    // The store opens with nothing else: not without the vault, not with a vault that has another key, and not by a stranger.
    let (sound, said) = store(&home, &site, &["check"]).await;
    assert!(!sound, "{said}");
    let other = Vault::start(&site.emulator.endpoints().authority, &site.emulator.control()).await;
    other.allow(MACHINE);
    other.add("store", OLD);
    let (sound, said) =
        store(&home, &site, &["check", "--store-key-vault", &format!("{}/keys/store", other.url)]).await;
    assert!(!sound && said.contains("or was made for another vault"), "{said}");
    vault.forbid(MACHINE);
    let (sound, said) = store(&home, &site, &in_vault).await;
    assert!(!sound && said.contains("does not let this identity unwrap with the key"), "{said}");
    vault.allow(MACHINE);

    // A new data key is wrapped in its turn, by the newest version of the key in the vault.
    vault.add("store", OLD);
    let (rotated, said) = store(&home, &site, &["rotate-key", "--store-key-vault", &key]).await;
    assert!(rotated, "{said}");
    assert_ne!(
        serde_json::from_slice::<serde_json::Value>(&std::fs::read(&wrapped).unwrap()).unwrap()["key"],
        content["key"]
    );
    let (sound, said) = store(&home, &site, &in_vault).await;
    assert!(sound, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_its_key_in_a_file_is_taken_over_by_the_vault() {
    let (home, bench) = (Home::new().await, Bench::new().await);
    let vault = vault(&bench).await;
    vault.add("store", NEW);
    let key = format!("{}/keys/store", vault.url);
    let mut site = used(bench, &[]).await;
    site.server.end();
    let in_vault = ["check", "--store-key-vault", key.as_str()];
    // A look at it wraps nothing.
    let (plain, wrapped) = (site.path("sessions.key"), site.path("sessions.wrapped-key"));
    let before = std::fs::read(&plain).unwrap();
    let (sound, said) = store(&home, &site, &in_vault).await;
    assert!(sound && said.contains("lets the key vault wrap it"), "{said}");
    let mut command = home.program(&["doctor", "--json", "--client-id", &app(REMOTE), "--store-key-vault", &key]);
    command.arg("--store").arg(site.path("sessions.db"));
    command.env("AZURE_CLIENT_SECRET", &site.emulator.endpoints().client_secret);
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &site.emulator.endpoints().authority);
    let report = run(command, "").await.1;
    assert!(report.contains("lets the key vault wrap it") && report.contains("and its key can be used"), "{report}");
    assert_eq!((std::fs::read(&plain).unwrap(), wrapped.exists()), (before, false));
    assert_eq!((done(&vault, "/wrapkey"), done(&vault, "/unwrapkey")), (0, 0), "{:?}", vault.seen());
    let (rotated, said) = store(&home, &site, &["rotate-key", "--store-key-vault", &key]).await;
    assert!(rotated && said.contains("delete the file with the key itself"), "{said}");
    std::fs::remove_file(plain).unwrap();
    let (sound, said) = store(&home, &site, &in_vault).await;
    assert!(sound && !said.contains("delete the file") && !said.contains("lets the key vault wrap it"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn the_data_key_of_a_store_on_the_network_is_wrapped_by_a_command_and_servers_have_copies_of_the_file() {
    let (home, bench) = (Home::new().await, Bench::new().await);
    let vault = vault(&bench).await;
    vault.add("store", NEW);
    let redis = Redis::start("redis-server").await;
    let (url, key) = (redis.url(), format!("{}/keys/store", vault.url));
    let (plain, other) = (bench.write("plain", [7; 32]), bench.write("other", [8; 32]));
    let wrapped = bench.folder.path().join("wrapped");
    let client_secret = {
        let command = home.program(&["client-secret", "set", "--store", &url, "--store-key-file", &plain]);
        run(command, "recognisable-client-secret").await
    };
    assert_eq!(client_secret.0, Some(0), "{}", client_secret.2);
    let store = async |arguments: &[&str], file: &std::path::Path| {
        let mut command = home.program(&["store"]);
        command.args(arguments).args(["--store", &url, "--store-key-vault", &key, "--store-key-file"]).arg(file);
        command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", bench.authority());
        let output = command.output().await.unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (done, said) = store(&["check"], &wrapped).await;
    assert!(!done && said.contains("entra-mcp store wrap-key"), "{said}");
    for wrong in [&["wrap-key", "--from", &other][..], &["wrap-key"]] {
        let (done, said) = store(wrong, &wrapped).await;
        assert!(!done && said.contains("was written with another key"), "{said}");
        assert!(!wrapped.exists(), "{wrong:?}");
    }
    let wrap = ["wrap-key", "--from", &plain];
    let (done, said) = store(&wrap, &wrapped).await;
    assert!(done && said.contains("Give a copy of the file to every server"), "{said}");
    let copy = bench.folder.path().join("copy");
    std::fs::copy(&wrapped, &copy).unwrap();
    for file in [&wrapped, &copy] {
        let (sound, said) = store(&["check"], file).await;
        assert!(sound && said.contains("1 under the newest key"), "{said}");
    }
    let (done, said) = store(&wrap, &wrapped).await;
    assert!(!done && said.contains("has a wrapped key already"), "{said}");
}
