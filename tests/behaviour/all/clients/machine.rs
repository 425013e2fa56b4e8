//! The machine that a client runs on: a home folder, a store for sign-ins, a person, and Entra ID as the emulator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;

use entra_mcp_emulator::{Builder, DeviceScript, Emulator, Endpoint};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::person::{Habit, Person, Visit};
use crate::support::patience::soon;
use crate::support::process;

pub(crate) struct Machine {
    emulator: Emulator,
    person: Person,
    folder: TempDir,
}

/// How many requests the emulator had.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Requests {
    pub(crate) authorize: u64,
    pub(crate) token: u64,
    pub(crate) device_code: u64,
    pub(crate) profile: u64,
}

/// Requests for a profile with one sign-in before.
pub(crate) const ONE_SIGN_IN: Requests = Requests { authorize: 1, token: 1, device_code: 0, profile: 1 };

/// Whether the server can show a page by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Browser {
    Present,
    Absent,
}

impl Machine {
    /// The person's habits are as in [`Person::new`].
    pub(crate) async fn new(habits: &[Habit]) -> Self {
        compile_component();
        let folder = tempfile::tempdir().unwrap();
        Self { emulator: Builder::new().start().await.unwrap(), person: Person::new(folder.path(), habits), folder }
    }

    /// How the server is started, as clients are configured.
    pub(crate) fn server(&self, browser: Browser) -> Value {
        let mut arguments = vec!["stdio".to_owned()];
        arguments.extend(self.settings());
        json!({
            "command": env!("CARGO_BIN_EXE_entra-mcp-tested"),
            "args": arguments,
            "env": self.environment(browser),
        })
    }

    /// The same as variables only, beside those that the person gives the client: tenant and client id.
    pub(crate) fn variables(&self, browser: Browser) -> (BTreeMap<&str, String>, [(&str, String); 2]) {
        let at = self.emulator.endpoints();
        let mut variables = self.environment(browser);
        variables.extend([
            ("ENTRA_MCP_AUTHORITY", at.authority.clone()),
            ("ENTRA_MCP_GRAPH_URL", at.graph.clone()),
            ("ENTRA_MCP_STORE", self.folder.path().join("sign-ins.db").display().to_string()),
            ("ENTRA_MCP_PROFILE_CACHE_SECONDS", "0".to_owned()),
        ]);
        (variables, [("tenant_id", at.tenant_id.clone()), ("client_id", at.public_client_id.clone())])
    }

    /// Signs in with the command line.
    pub(crate) async fn login(&self) {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_entra-mcp-tested")));
        let login = command.arg("login").args(self.settings()).envs(self.environment(Browser::Present));
        let output = soon(login.kill_on_drop(true).output()).await.expect("the login ends").unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("Signed in as alice@contoso.example"));
    }

    fn settings(&self) -> Vec<String> {
        let at = self.emulator.endpoints();
        let store = self.folder.path().join("sign-ins.db").display().to_string();
        let settings = [
            ("--tenant-id", at.tenant_id.as_str()),
            ("--client-id", &at.public_client_id),
            ("--authority", &at.authority),
            ("--graph-url", &at.graph),
            ("--store", &store),
            ("--profile-cache-seconds", "0"),
        ];
        settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
    }

    fn environment(&self, browser: Browser) -> BTreeMap<&str, String> {
        let mut environment = BTreeMap::from([
            ("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR").to_owned()),
            ("RUST_LOG", "info".to_owned()),
        ]);
        if browser == Browser::Present {
            environment.insert("BROWSER", self.person.server_opener().display().to_string());
        }
        environment
    }

    /// A client's program with nothing of this process's environment but the search path.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = process::command(program);
        command
            .env_clear()
            .env("PATH", process::path())
            .env("HOME", self.folder.path())
            .env("OPENER", self.person.client_opener());
        command
    }

    /// Runs a client's program to its end; returns the last line it prints.
    pub(crate) async fn run(&self, command: &mut Command) -> Value {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let output = soon(child.wait_with_output()).await.expect("the client ends").unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", output.status);
        // Shown with a failed test only.
        println!("{stderr}");
        serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
    }

    /// The home folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the server ask every second whether a code has been entered; Entra ID wants five seconds.
    pub(crate) fn poll_every_second(&self) {
        self.emulator.control().script_device_codes(DeviceScript { interval: Some(1), ..DeviceScript::default() });
    }

    pub(crate) fn authority(&self) -> &str {
        &self.emulator.endpoints().authority
    }

    pub(crate) fn requests(&self) -> Requests {
        let control = self.emulator.control();
        Requests {
            authorize: control.request_count(Endpoint::Authorize),
            token: control.request_count(Endpoint::Token),
            device_code: control.request_count(Endpoint::DeviceCode),
            profile: control.request_count(Endpoint::GraphMe),
        }
    }

    /// Ends; returns the pages that were opened.
    pub(crate) async fn leave(self) -> Vec<Visit> {
        self.person.leave().await
    }
}

/// The first start compiles the component; clients that start a server all at once would each wait for that.
fn compile_component() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut command = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested"));
        command
            .args(["stdio", "--store", "memory", "--tenant-id", "common"])
            .args(["--client-id", "00000000-0000-0000-0000-000000000000"])
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null());
        assert!(command.status().unwrap().success());
    });
}

/// A program in `tests/clients`.
pub(crate) fn script(name: &str) -> PathBuf {
    crate::support::tests_dir().join("clients").join(name)
}
