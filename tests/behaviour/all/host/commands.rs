//! The other commands, as processes.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use entra_mcp_emulator::{Builder, DeviceOutcome, DeviceScript, Emulator, Endpoint, Policy};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::support::patience::until;
use crate::support::process::{self, send_signal};

/// Compiled code, shared by all tests and compiled by the first of them.
static COMPILED: OnceCell<()> = OnceCell::const_new();

const ALICE: &str = "alice@contoso.example";

/// A user's home folder, configured for an emulator.
pub(crate) struct Home {
    folder: TempDir,
    emulator: Emulator,
}

impl Home {
    /// In this home, no person looks at the page that the browser opens.
    pub(crate) async fn new() -> Self {
        Self::of(Builder::new()).await
    }

    pub(crate) async fn of(emulator: Builder) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), emulator: emulator.start().await.unwrap() };
        let at = home.emulator.endpoints();
        let ca = at.ca.iter().map(|path| format!("ca-file = {path:?}\n")).collect::<String>();
        let settings = ca
            + &format!(
                "tenant-id = {:?}\nclient-id = {:?}\nauthority = {:?}\ngraph-url = {:?}\nmax-message-bytes = 65536\n",
                at.tenant_id, at.public_client_id, at.authority, at.graph
            );
        let config = home.path().join(".config").join("entra-mcp");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("config.toml"), settings).unwrap();
        COMPILED.get_or_init(async || assert!(home.run(&["inspect"]).await.status.success())).await;
        home
    }

    pub(crate) fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn page(&self) -> PathBuf {
        self.path().join("page")
    }

    /// The program with an environment of its own.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(env!("CARGO_BIN_EXE_entra-mcp-tested"));
        command.args(arguments).env_clear().env("HOME", self.path());
        command.env("PATH", "/usr/bin:/bin").env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        // No test asks the metadata service of the machine that it runs on.
        command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
        command.env("BROWSER", format!("sh -c 'echo \"$0\" > \"{}\"' %s", self.page().display()));
        command
    }

    /// Waits until the program has opened a page.
    pub(crate) async fn page_was_opened(&self) {
        let opened = || self.emulator.control().request_count(Endpoint::Authorize) > 0 || self.page().exists();
        until(opened).await.expect("a page is opened");
    }

    /// Waits until the program has opened a page, which is then forgotten, and returns its URL.
    pub(crate) async fn opened_page(&self) -> String {
        let complete = || std::fs::read_to_string(self.page()).is_ok_and(|url| url.ends_with('\n'));
        until(complete).await.expect("a page is opened");
        let url = std::fs::read_to_string(self.page()).unwrap();
        std::fs::remove_file(self.page()).unwrap();
        url.trim_end().to_owned()
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments).stdin(Stdio::null()).output().await.unwrap()
    }

    /// The same, with a person at the browser.
    pub(crate) async fn run_with_person(&self, arguments: &[&str]) -> Output {
        self.program_with_person(arguments).stdin(Stdio::null()).output().await.unwrap()
    }

    /// The program, with a person at the browser that it opens.
    pub(crate) fn program_with_person(&self, arguments: &[&str]) -> Command {
        let at = self.emulator.endpoints();
        let ca = at.ca.iter().map(|path| format!("--ca-file {path:?}")).collect::<String>();
        let browser =
            format!("\"{}\" headless-browser --username {ALICE} {ca} %s", env!("CARGO_BIN_EXE_entra-mcp-tested"));
        let mut command = self.program(arguments);
        command.env("BROWSER", browser);
        command
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A person who is signed out here is still signed in to Entra ID in the browser: only its own page ends that.
#[tokio::test]
async fn logout_opens_the_page_that_ends_the_session_in_the_browser_or_says_where_it_is() {
    let home = Home::new().await;
    let at = home.emulator().endpoints();
    let page = format!("{}/{}/oauth2/v2.0/logout", at.authority, at.tenant_id);
    let login = async || assert!(home.run_with_person(&["login"]).await.status.success());

    login().await;
    let logout = home.run(&["logout"]).await;
    assert!(logout.status.success() && !stdout(&logout).contains("http"), "{}", stdout(&logout));
    assert_eq!(home.opened_page().await, page);

    login().await;
    let back = "http://localhost/signed-out";
    let logout = home.run(&["logout", "--all", "--post-logout-redirect-uri", back]).await;
    assert!(logout.status.success());
    let expected = format!("{page}?post_logout_redirect_uri=http%3A%2F%2Flocalhost%2Fsigned-out");
    assert_eq!(home.opened_page().await, expected);

    // A browser that does not start, and one that is on another device.
    let told = format!("To end the session in the browser as well, open {page}\n");
    for (browser, more) in [("false", &[][..]), ("true", &["--sign-in", "device-code"][..])] {
        login().await;
        let mut command = home.program(&[&["logout"][..], more].concat());
        let logout = command.env("BROWSER", browser).stdin(Stdio::null()).output().await.unwrap();
        assert!(logout.status.success() && stdout(&logout).ends_with(&told), "{}", stdout(&logout));
    }
    assert_eq!(stdout(&home.run(&["accounts"]).await), "No account is signed in.\n");
}

#[tokio::test]
async fn login_accounts_and_logout_share_one_store() {
    let home = Home::new().await;
    let id = "11111111-0000-4000-a000-000000000001.c0117050-0000-4000-a000-000000000001";

    assert_eq!(stdout(&home.run(&["accounts"]).await), "No account is signed in.\n");
    let login = home.run_with_person(&["login"]).await;
    assert_eq!(stdout(&login), format!("Signed in as {ALICE} ({id}).\n"), "{}", stderr(&login));
    let accounts: Value = serde_json::from_str(&stdout(&home.run(&["accounts", "--json"]).await)).unwrap();
    assert_eq!(accounts[0]["homeAccountId"], id);
    assert_eq!(accounts[0]["username"], ALICE);
    let whoami: Value = serde_json::from_str(&stdout(&home.run(&["whoami", "--json"]).await)).unwrap();
    assert_eq!(whoami, accounts[0]);
    assert_eq!(stdout(&home.run(&["whoami"]).await), format!("{ALICE}  Alice Anderson  {id}\n"));
    let unknown = home.run(&["logout", "--account", "unknown@contoso.example"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    let logout = home.run(&["logout", "--account", ALICE]).await;
    assert_eq!(stdout(&logout), format!("Signed out {ALICE} ({id}).\n"));
    assert_eq!(stdout(&home.run(&["accounts", "--json"]).await), "[]\n");
    let whoami = home.run(&["whoami"]).await;
    assert_eq!((whoami.status.code(), stdout(&whoami).as_str()), (Some(1), ""));
    assert!(stderr(&whoami).contains("No account is signed in: sign in first."), "{}", stderr(&whoami));
}

#[tokio::test]
async fn a_sign_in_that_was_revoked_is_no_answer_to_who_it_is() {
    let home = Home::new().await;
    // A token that is over soon is not used.
    let short = |policy: &mut Policy| policy.continuous_access_token = 60;
    home.emulator.control().change_policy(short);
    let login = home.run_with_person(&["login"]).await;
    assert_eq!(login.status.code(), Some(0), "{}", stderr(&login));
    home.emulator.control().revoke_sessions(ALICE).unwrap();
    let whoami = home.run(&["whoami"]).await;
    assert_eq!((whoami.status.code(), stdout(&whoami).as_str()), (Some(1), ""), "{}", stderr(&whoami));
}

#[tokio::test]
async fn over_tls_a_configured_authority_is_trusted_and_another_is_not() {
    let home = Home::of(Builder::new().tls(true)).await;
    let login = home.run_with_person(&["login"]).await;
    assert_eq!(login.status.code(), Some(0), "{}", stderr(&login));

    let config = home.path().join(".config/entra-mcp/config.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, settings.split_once('\n').unwrap().1).unwrap();
    let refused = home.run_with_person(&["login"]).await;
    assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(1), ""));
    assert!(stderr(&refused).contains("UnknownIssuer"), "{}", stderr(&refused));
}

#[tokio::test]
async fn with_a_json_log_every_line_on_standard_error_is_json() {
    let home = Home::new().await;
    let declined = DeviceScript { interval: Some(0), outcome: Some(DeviceOutcome::Declined), ..Default::default() };
    home.emulator.control().script_device_codes(declined);
    let arguments = ["login", "--log-format", "json", "--sign-in", "device-code"];
    let log = stderr(&home.run(&arguments).await);
    let (lines, last) = log.trim_end().rsplit_once('\n').unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["target"] == "prompt"), "{log}");
    assert!(last.starts_with("entra-mcp: "), "{log}");
}

#[tokio::test]
async fn without_a_person_a_login_fails_and_says_so() {
    let home = Home::new().await;
    let login = home.run(&["login", "--sign-in", "browser", "--sign-in-timeout", "1"]).await;
    assert_eq!(login.status.code(), Some(1));
    assert_eq!(stdout(&login), "");
    assert!(stderr(&login).contains("entra-mcp: "), "{}", stderr(&login));
}

#[tokio::test]
async fn missing_and_wrong_settings_are_named_and_nothing_is_written_to_standard_output() {
    let home = Home::new().await;
    let empty = home.path().join("empty.toml");
    std::fs::write(&empty, "").unwrap();
    let unknown = home.path().join("unknown.toml");
    std::fs::write(&unknown, "tenant = 'x'").unwrap();
    for (arguments, expected) in [
        (vec!["stdio", "--config", empty.to_str().unwrap()], "App registrations > your app > Overview"),
        (vec!["stdio", "--config", unknown.to_str().unwrap()], "unknown field `tenant`"),
        (vec!["stdio", "--authority", "http://login.example"], "http is accepted on loopback only"),
        (vec!["stdio", "--ca-file", "/does/not/exist"], "/does/not/exist"),
        (vec!["stdio", "--no-such-flag"], "--no-such-flag"),
        (vec!["logout", "--all", "--account", "x"], "cannot be used with"),
        (vec![], "Usage"),
    ] {
        let output = home.run(&arguments).await;
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn the_name_of_a_store_is_a_file_name_whatever_it_looks_like() {
    let home = Home::new().await;
    let folder = home.path().join("stores");
    std::fs::create_dir(&folder).unwrap();
    // SQLite would keep the first in memory and the second in another file.
    for name in [":memory:", "file:store.db"] {
        let output = home.program(&["accounts", "--store", name]).current_dir(&folder).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_ne!(std::fs::metadata(folder.join(name)).unwrap().len(), 0, "{name}");
    }
    assert!(!folder.join("store.db").exists());

    let output = home.program(&["accounts", "--store", "store.key"]).current_dir(&folder).output().await.unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(stderr(&output).contains("another extension"), "{}", stderr(&output));
    assert!(!folder.join("store.key").exists());
}

#[tokio::test]
async fn a_home_that_cannot_be_written_leads_to_the_flag_for_another_store() {
    let home = Home::new().await;
    // Neither has room for a folder, not even where the administrator runs the tests.
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    for folder in [file.to_str().unwrap(), "/proc/self"] {
        let output = home.program(&["accounts"]).env("XDG_DATA_HOME", folder).output().await.unwrap();
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{folder}");
        let hint = "pass --store with a file elsewhere, or `memory`";
        assert!(stderr(&output).contains(hint), "{folder}: {}", stderr(&output));
        let elsewhere = home.path().join("elsewhere.db");
        let mut command = home.program(&["accounts", "--store", elsewhere.to_str().unwrap()]);
        let output = command.env("XDG_DATA_HOME", folder).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{folder}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn an_exposed_key_stops_the_server_with_the_fix() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new().await;
    home.run(&["accounts"]).await;
    let key = home.path().join(".local/share/entra-mcp/secrets.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = home.run(&["stdio"]).await;
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
}

#[tokio::test]
async fn the_settings_are_listed_with_the_commands_that_have_them() {
    let home = Home::new().await;
    let settings: Value = serde_json::from_str(&stdout(&home.run(&["settings"]).await)).unwrap();
    let commands = |name: &str| {
        let setting = settings.as_array().unwrap().iter().find(|setting| setting["name"] == name);
        setting.unwrap_or_else(|| panic!("{name}: {settings}"))["commands"].clone()
    };
    let servers = ["stdio", "serve", "client-secret set", "client-secret delete"];
    let others =
        ["login", "logout", "accounts", "store check", "store rotate-key", "store wrap-key", "whoami", "doctor"];
    let local: Vec<_> = servers.into_iter().chain(others).collect();
    let everywhere: Vec<_> = servers.into_iter().chain(["setup"]).chain(others).chain(["validate"]).collect();
    let remote = ["serve", "client-secret set", "client-secret delete", "doctor"];
    for name in ["config", "tenant-id", "cloud", "authority", "ca-file", "log-format"] {
        assert_eq!(commands(name), json!(everywhere), "{name}");
    }
    assert_eq!(commands("client-id"), json!(local));
    // The emulator has a flag of the same name.
    for name in ["listen", "metrics-listen"] {
        assert_eq!(commands(name), json!(remote), "{name}");
    }
    // What has no flag is listed where any of its group is: `setup` has `--public-url`, and reads the same file.
    let [serve, set, delete, doctor] = remote;
    for name in ["clients", "AZURE_CLIENT_SECRET"] {
        assert_eq!(commands(name), json!([serve, set, delete, "setup", doctor]), "{name}");
    }

    let page = stdout(&home.run(&["settings", "--markdown"]).await);
    for setting in settings.as_array().unwrap() {
        let title = format!("\n### `{}`\n", setting["name"].as_str().unwrap());
        assert_eq!(page.matches(&title).count(), 1, "{title}");
    }
}

#[tokio::test]
async fn inspect_shows_what_the_component_is_granted() {
    let home = Home::new().await;
    let output = home.run(&["inspect", "--json"]).await;
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["sha256"].as_str().unwrap().len(), 64);
    let imports = report["imports"].as_array().unwrap();
    assert!(imports.iter().all(|import| import["granted"].is_string()), "{imports:?}");
    assert!(!stdout(&output).contains("wasi:sockets"));
    let exports = report["exports"].as_array().unwrap();
    let server = exports.iter().find(|export| export["name"] == "entra-mcp:plugin/mcp-server@0.2.0").unwrap();
    assert_eq!(server["functions"], json!(["handle"]));

    let missing = home.run(&["inspect", "/does/not/exist.wasm"]).await;
    assert_eq!((missing.status.code(), stdout(&missing).as_str()), (Some(1), ""));
}

#[tokio::test]
async fn the_emulator_prints_one_line_and_runs_until_it_is_told_to_end() {
    let home = Home::new().await;
    let mut command = home.program(&["emulator"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    for name in
        ["authority", "tenant_id", "public_client_id", "confidential_client_id", "client_secret", "graph", "control"]
    {
        assert!(line[name].is_string(), "{name}: {line}");
    }
    assert_eq!(line["ca"], Value::Null);
    let address = line["authority"].as_str().unwrap();
    let metadata = format!("{address}/{}/v2.0/.well-known/openid-configuration", line["tenant_id"].as_str().unwrap());
    assert_eq!(reqwest::get(metadata).await.unwrap().status(), 200);

    send_signal("TERM", child.id().unwrap());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert_eq!(lines.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn the_emulator_refuses_to_listen_to_other_machines() {
    let home = Home::new().await;
    let output = home.run(&["emulator", "--listen", "0.0.0.0:0"]).await;
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
}

#[tokio::test]
async fn the_demo_shows_the_whole_conversation_and_ends_with_the_profile() {
    let home = Home::new().await;
    let output = home.run(&["demo"]).await;
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert_eq!(text.lines().filter(|line| line.ends_with(" ms]")).count(), 7, "{text}");
    assert!(text.contains(r#""displayName": "Alice Anderson""#), "{text}");
}

#[tokio::test]
async fn the_demo_of_setup_leads_to_the_profile_and_changes_nothing_the_second_time() {
    let home = Home::new().await;
    let output = home.run(&["demo", "--setup"]).await;
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert_eq!(text.lines().filter(|line| line.ends_with(" ms]")).count(), 4, "{text}");
    assert!(text.contains("     + redirect URI http://localhost (Mobile and desktop applications)\n"), "{text}");
    assert!(text.contains(r#""displayName": "Alice Anderson""#), "{text}");
}

#[tokio::test]
async fn damaged_code_is_noticed_and_compiled_again_by_a_process_of_its_own() {
    let home = Home::new().await;
    let cache = home.path().join("cache");
    let folder = cache.join("entra-mcp").join("code");
    let entry = || {
        let mut entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    };
    // What a server starts when its component is not compiled.
    assert!(home.program(&["compile"]).arg(&folder).status().await.unwrap().success());
    let mut code = std::fs::read(entry()).unwrap();
    let right = code.clone();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(entry(), &code).unwrap();

    let ended = home.program(&["stdio"]).env("XDG_CACHE_HOME", &cache).stdin(Stdio::null()).output().await.unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && log.contains("it is damaged"), "{log}");
    assert!(!log.contains("cannot be compiled by a process of its own"), "{log}");
    assert_eq!(std::fs::read(entry()).unwrap().len(), right.len());
}
