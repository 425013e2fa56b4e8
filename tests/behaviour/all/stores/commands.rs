//! `entra-mcp store` as a process, and stores that a server refuses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};

use crate::host::commands::Home;
use crate::support::redis::Redis;

const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

async fn run(home: &Home, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    home.program(arguments).envs(variables.iter().copied()).output().await.unwrap()
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_store_is_checked_its_key_replaced_and_damage_is_told() {
    let home = Home::new().await;
    let (code, _, log) = said(&run(&home, &[], &["store", "check"]).await);
    assert_eq!(code, Some(2), "there is none yet: {log}");
    assert!(home.run_with_person(&["login"]).await.status.success());
    let (code, output, log) = said(&run(&home, &[], &["store", "check", "--json"]).await);
    assert_eq!(code, Some(0), "{log}");
    let report: Value = serde_json::from_str(&output).unwrap();
    let (before, sound) = (report[0]["records"].as_u64().unwrap(), &report[0]["sound"]);
    assert!(before > 0 && *sound == json!(true) && report[0]["newest_key"] == json!(before), "{report}");

    assert_eq!(said(&run(&home, &[], &["store", "rotate-key"]).await).0, Some(0));
    let (code, output, _) = said(&run(&home, &[], &["store", "check"]).await);
    assert_eq!(code, Some(0));
    assert!(output.contains(&format!("{before} under earlier keys")), "{output}");
    let (code, output, log) = said(&run(&home, &[], &["accounts"]).await);
    assert!(code == Some(0) && output.contains("alice@contoso.example"), "{output} {log}");

    let key = home.path().join(".local/share/entra-mcp/secrets.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    for command in [&["accounts"][..], &["store", "check"], &["store", "rotate-key"]] {
        let (code, output, log) = said(&run(&home, &[], command).await);
        assert_eq!((code, output.as_str()), (Some(1), ""), "{command:?}");
        assert!(log.contains("its key is not there"), "{command:?}: {log}");
        assert!(!key.exists(), "{command:?}");
    }
    let (code, _, log) = said(&run(&home, &[("ENTRA_MCP_STORE_KEY", KEY)], &["accounts"]).await);
    assert!(code == Some(1) && log.contains("written with another key than the one in ENTRA_MCP_STORE_KEY"), "{log}");
    std::fs::write(&key, kept).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(said(&run(&home, &[], &["accounts"]).await).0, Some(0));

    // A damaged page is told, and left as it is.
    let store = home.path().join(".local/share/entra-mcp/secrets.db");
    let mut content = std::fs::read(&store).unwrap();
    let at = content.windows(4).position(|window| window == b"\x03em\x03").expect("a record is in the file");
    content[at + 60] ^= 1;
    std::fs::write(&store, &content).unwrap();
    let (code, output, log) = said(&run(&home, &[], &["store", "check"]).await);
    assert_eq!(code, Some(1), "{log}");
    assert!(output.contains("1 damaged") && log.contains("the store is damaged"), "{output} {log}");
}

/// The store of a home.
fn store_of(home: &Home) -> PathBuf {
    home.path().join(".local/share/entra-mcp/secrets.db")
}

/// Where the records begin that are longer than those which end by themselves: leases, and attempts to fetch keys.
fn records_in(store: &[u8]) -> Vec<usize> {
    const PAGE: usize = 4096;
    let windows = store.windows(4).enumerate();
    let begins: Vec<usize> = windows.filter(|(_, window)| **window == *b"\x03em\x03").map(|(at, _)| at).collect();
    let ends = begins.iter().skip(1).copied().chain([usize::MAX]);
    let long = begins.iter().zip(ends).filter(|(begin, end)| ((*begin / PAGE + 1) * PAGE).min(*end) - *begin >= 300);
    long.map(|(begin, _)| *begin).collect()
}

/// Writes a store in which a bit of each of these records is another one.
fn write_damaged(home: &Home, store: &[u8], records: &[usize]) {
    let mut damaged = store.to_vec();
    for record in records {
        damaged[record + 60] ^= 1;
    }
    std::fs::write(store_of(home), damaged).unwrap();
}

#[tokio::test]
async fn a_login_and_a_logout_replace_what_is_damaged() {
    let home = Home::new().await;
    let id = "11111111-0000-4000-a000-000000000001.c0117050-0000-4000-a000-000000000001";
    let signed_in = format!("Signed in as alice@contoso.example ({id}).\n");
    let advice =
        "`entra-mcp store check` counts such records): sign in again with `entra-mcp login`, which replaces it";
    assert!(home.run_with_person(&["login"]).await.status.success());
    let store = std::fs::read(store_of(&home)).unwrap();
    // The list of accounts and the tokens: without the others, it only takes longer.
    let mut needed = Vec::new();
    for record in records_in(&store) {
        write_damaged(&home, &store, &[record]);
        let (_, output, log) = said(&run(&home, &[("ENTRA_MCP_PROFILE_CACHE_SECONDS", "0")], &["whoami"]).await);
        if !log.contains(advice) {
            continue;
        }
        assert_eq!(output, "");
        needed.push(record);
        let (code, output, log) = said(&home.run_with_person(&["login"]).await);
        assert_eq!((code, &output), (Some(0), &signed_in), "{log}");
        let (code, output, log) = said(&run(&home, &[], &["whoami"]).await);
        assert_eq!((code, output), (Some(0), format!("alice@contoso.example  Alice Anderson  {id}\n")), "{log}");
    }
    assert_eq!(needed.len(), 2, "the list and the tokens");

    write_damaged(&home, &store, &needed);
    for command in [&["accounts"][..], &["whoami"], &["logout"], &["logout", "--all"]] {
        let (code, output, log) = said(&run(&home, &[], command).await);
        assert_eq!((code, output.as_str()), (Some(1), ""), "{command:?}");
        assert!(log.contains(advice), "{command:?}: {log}");
    }
    let (code, _, log) = said(&run(&home, &[], &["logout", "--account", "alice@contoso.example"]).await);
    assert!(code == Some(1) && log.contains(advice), "a name names no account without the list: {log}");
    let (code, output, log) = said(&run(&home, &[], &["logout", "--account", id]).await);
    assert_eq!((code, output), (Some(0), format!("Signed out {id}.\n")), "{log}");
    assert!(log.contains("the list of accounts was damaged and begins anew (`entra-mcp store check`"), "{log}");
    assert!(home.opened_page().await.contains("/oauth2/v2.0/logout"));
    let (code, output, log) = said(&run(&home, &[], &["accounts"]).await);
    assert_eq!((code, output.as_str()), (Some(0), "No account is signed in.\n"), "{log}");
}

#[tokio::test]
async fn of_rotations_at_the_same_time_none_loses_the_key_of_another() {
    let home = Home::new().await;
    assert_eq!(said(&run(&home, &[], &["accounts"]).await).0, Some(0));
    let rotated = async || said(&run(&home, &[], &["store", "rotate-key"]).await);
    let (first, second, third) = tokio::join!(rotated(), rotated(), rotated());
    for (code, _, log) in [first, second, third] {
        assert_eq!(code, Some(0), "{log}");
    }
    // The first key, three new ones, and the key of the names.
    let keys = std::fs::read_to_string(home.path().join(".local/share/entra-mcp/secrets.key")).unwrap();
    assert_eq!(keys.lines().count(), 5);
}

#[tokio::test]
async fn a_credential_of_systemd_is_the_key_of_a_store() {
    let home = Home::new().await;
    let folder = home.path().join("credentials");
    std::fs::create_dir(&folder).unwrap();
    let credential = folder.join("entra-mcp-store-key");
    std::fs::write(&credential, KEY).unwrap();
    let folder = folder.to_str().unwrap();
    let handed_over = [("CREDENTIALS_DIRECTORY", folder)];
    let mut login = home.program_with_person(&["login"]);
    let login = login.env("CREDENTIALS_DIRECTORY", folder).stdin(std::process::Stdio::null()).output().await.unwrap();
    let (code, _, log) = said(&login);
    assert_eq!(code, Some(0), "{log}");
    let key = home.path().join(".local/share/entra-mcp/secrets.key");
    assert!(!key.exists(), "no key is in a file");

    let (code, output, log) = said(&run(&home, &handed_over, &["accounts"]).await);
    assert!(code == Some(0) && output.contains("alice@contoso.example"), "{output} {log}");
    let (code, output, log) = said(&run(&home, &handed_over, &["store", "check", "--json"]).await);
    assert_eq!(code, Some(0), "{log}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert!(report[0]["newest_key"].as_u64() > Some(0) && report[0]["newest_key"] == report[0]["records"], "{report}");
    let (code, _, log) = said(&run(&home, &handed_over, &["store", "rotate-key"]).await);
    assert!(code == Some(2) && log.contains(credential.to_str().unwrap()) && log.contains("--print"), "{log}");

    let (code, _, log) = said(&run(&home, &[], &["accounts"]).await);
    assert!(code == Some(1) && log.contains("its key is not there"), "{log}");
    std::fs::write(&credential, "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg").unwrap();
    let (code, _, log) = said(&run(&home, &handed_over, &["accounts"]).await);
    let other = format!("written with another key than the one in {}", credential.display());
    assert!(code == Some(1) && log.contains(&other), "{log}");
    assert!(!key.exists(), "no key is in a file");
}

#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_store_on_the_network_is_checked_and_its_key_replaced_in_two_steps() {
    let home = Home::new().await;
    let redis = Redis::start("redis-server").await;
    let (url, file) = (redis.url(), home.path().join("key"));
    let secret = "recognisable-client-secret";
    let set = |key: &str| {
        let mut command = home.program(&["client-secret", "set", "--store", &url]);
        command.env("ENTRA_MCP_STORE_KEY", key);
        crate::host::serve::run(command, secret)
    };
    let (code, _, log) = set(KEY).await;
    assert_eq!(code, Some(0), "{log}");
    let check = ["store", "check", "--json", "--store", &url];
    let variable = |key: &'static str| [("ENTRA_MCP_STORE_KEY", key)];
    let report = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone();
    let found = report(&run(&home, &variable(KEY), &check).await);
    assert_eq!((&found["records"], &found["newest_key"], &found["sound"]), (&json!(1), &json!(1), &json!(true)));
    assert_eq!(found["store"], json!(format!("redis://{}", redis.address())));

    let rotate = ["store", "rotate-key", "--store", &url];
    let (code, output, log) = said(&run(&home, &variable(KEY), &rotate).await);
    assert!(code == Some(2) && output.is_empty() && log.contains("--print"), "{log}");
    let (code, output, log) = said(&run(&home, &variable(KEY), &[&rotate[..], &["--print"]].concat()).await);
    assert_eq!(code, Some(0), "{log}");
    let [first, second] = output.lines().collect::<Vec<_>>().try_into().unwrap();
    assert!(first.starts_with(KEY) && !second.starts_with(KEY) && second.contains(KEY), "{output}");
    for (keys, newest, earlier) in [(first, 1, 0), (second, 0, 1)] {
        let found = report(&run(&home, &[("ENTRA_MCP_STORE_KEY", keys)], &check).await);
        assert_eq!((&found["newest_key"], &found["earlier_keys"]), (&json!(newest), &json!(earlier)));
    }
    let (code, _, log) = set(second).await;
    assert_eq!(code, Some(0), "{log}");
    // The key may be in a file too.
    std::fs::write(&file, second).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let found = run(&home, &[], &[&check[..], &["--store-key-file", file.to_str().unwrap()]].concat()).await;
    assert_eq!(report(&found)["newest_key"], json!(1));
}

/// Two machines with a copy of the key file each.
#[tokio::test]
#[cfg_attr(not(tool = "redis-server"), ignore = "needs redis-server: use tests/run")]
async fn a_key_in_a_file_that_is_copied_is_announced_before_it_seals() {
    let home = Home::new().await;
    let redis = Redis::start("redis-server").await;
    let url = redis.url();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let copy = |from: &str, to: &str| std::fs::copy(from, to).unwrap();
    let (here, there) = (path("here.key"), path("there.key"));
    std::fs::write(&here, KEY).unwrap();
    std::fs::set_permissions(&here, std::fs::Permissions::from_mode(0o600)).unwrap();
    copy(&here, &there);
    let set = |key: &str| {
        let command = home.program(&["client-secret", "set", "--store", &url, "--store-key-file", key]);
        crate::host::serve::run(command, "recognisable-client-secret")
    };
    assert_eq!(set(&here).await.0, Some(0));
    let rotate = async |more: &[&str]| {
        let arguments = ["store", "rotate-key", "--store", &url, "--store-key-file", &here];
        said(&run(&home, &[], &[&arguments[..], more].concat()).await)
    };
    let check = async |key: &str| {
        let arguments = ["store", "check", "--json", "--store", &url, "--store-key-file", key];
        let output = run(&home, &[], &arguments).await;
        serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
    };
    let before = std::fs::read(&here).unwrap();
    let (code, output, log) = rotate(&[]).await;
    assert!(code == Some(2) && output.is_empty() && log.contains("--announce"), "{log}");
    let (code, _, log) = rotate(&["--promote"]).await;
    assert!(code == Some(1) && log.contains("no new key was announced"), "{log}");
    assert_eq!(std::fs::read(&here).unwrap(), before);
    let (code, output, log) = rotate(&["--announce"]).await;
    assert!(code == Some(0) && output.contains("--promote"), "{output} {log}");
    // What is written now is what the other machine can read.
    assert_eq!(set(&here).await.0, Some(0));
    assert_eq!(check(&there).await["newest_key"], json!(1));
    copy(&here, &there);
    let (code, _, log) = rotate(&["--promote"]).await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(set(&here).await.0, Some(0));
    for (key, newest, earlier) in [(&here, 1, 0), (&there, 0, 1)] {
        let found = check(key).await;
        let counts = (&found["newest_key"], &found["earlier_keys"], &found["sound"]);
        assert_eq!(counts, (&json!(newest), &json!(earlier), &json!(true)), "{key}");
    }
    let (code, _, log) = said(&run(&home, &[], &["store", "rotate-key", "--announce", "--store", &path("x.db")]).await);
    assert!(code == Some(2) && log.contains("neither --announce nor --promote"), "{log}");
}

#[tokio::test]
async fn a_password_on_the_command_line_and_a_store_without_a_key_are_refused() {
    let home = Home::new().await;
    let secret = "redis://:recognisable-password@127.0.0.1:1/0";
    let (code, _, log) = said(&run(&home, &[], &["accounts", "--store", secret]).await);
    assert!(code == Some(2) && log.contains("--store-password-file") && !log.contains("recognisable"), "{log}");
    let (code, _, log) = said(&run(&home, &[("ENTRA_MCP_STORE", secret)], &["accounts"]).await);
    assert!(code == Some(2) && log.contains("ENTRA_MCP_STORE_KEY") && !log.contains("recognisable"), "{log}");
    let both = [("ENTRA_MCP_STORE", secret), ("ENTRA_MCP_STORE_KEY", KEY)];
    let (code, _, log) = said(&run(&home, &both, &["accounts"]).await);
    assert!(code == Some(1) && log.contains("redis://127.0.0.1:1") && !log.contains("recognisable"), "{log}");
    let (code, _, log) = said(&run(&home, &[("ENTRA_MCP_STORE", "redis://host/x")], &["accounts"]).await);
    assert!(code == Some(2) && log.contains("redis-sentinel://"), "{log}");
    let wrong = [("ENTRA_MCP_STORE_KEY", "recognisable-key")];
    let (code, _, log) = said(&run(&home, &wrong, &["accounts"]).await);
    assert!(code == Some(2) && log.contains("32 bytes as base64") && !log.contains("recognisable"), "{log}");
}
