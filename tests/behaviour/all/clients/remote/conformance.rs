//! npm `@modelcontextprotocol/conformance`: the protocol's own suite, in the release for each revision.
//!
//! `tests/clients/conformance/expected-failures.toml` names every check that fails, and why that is right. A failure that
//! is not listed fails the test, and so does a listed one that passes, or is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use entra_mcp_emulator::user_agent::HeadlessBrowser;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;

use super::office::Office;
use crate::clients::inspector;
use crate::clients::machine::script;
use crate::support::patience::soon;
use crate::support::session;

/// A token that lasts.
const HOUR: i64 = 3600;

/// The baseline of one run of the suite.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// How many scenarios the run has, so that a run without scenarios fails.
    scenarios: usize,
    /// How many checks pass.
    passes: usize,
    expected_failures: Vec<Expected>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Why it is right that they fail.
    reason: String,
    /// Each `scenario:check`.
    checks: Vec<String>,
}

/// Runs the suite in a folder of `tests/clients` and compares.
async fn conforms(name: &str, folder: &str, arguments: &[&str]) {
    // The suite needs a newer Node than many machines have; the Inspector's packages bring one.
    let node = inspector::node();
    let office = Office::new(HOUR).await;
    let session = session::sign_in(office.server.public_url(), "/mcp", "alice@contoso.example").await;
    let (url, results) = (office.server.at("/mcp"), office.folder().join("results"));
    let mut command = office.command(&node);
    command
        .arg("--import")
        .arg(script("conformance/bearer.mjs"))
        .arg(suite(folder))
        .args(["server", "--url", &url])
        .args(arguments)
        .arg("--output-dir")
        .arg(&results)
        .env("URL", &url)
        .env("TOKEN", &session.access_token)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // The suite ends with 1 if anything fails; the results name the failures.
    let output = soon(command.output()).await.expect("the suite ends").unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{printed}\n--- server\n{}", office.server.log());
    compare(name, &read(&results));
}

pub(crate) fn suite(folder: &str) -> std::path::PathBuf {
    script(folder).join("node_modules/@modelcontextprotocol/conformance/dist/index.js")
}

/// The outcome of each check: `scenario:check` to the texts of its failures, and the scenarios.
pub(crate) struct Outcome {
    pub(crate) scenarios: BTreeSet<String>,
    pub(crate) passed: BTreeSet<String>,
    pub(crate) failed: BTreeMap<String, String>,
}

/// Reads the `checks.json` of each scenario. A check that comes several times has passed if it passed each time.
pub(crate) fn read(results: &Path) -> Outcome {
    let mut outcome = Outcome { scenarios: BTreeSet::new(), passed: BTreeSet::new(), failed: BTreeMap::new() };
    for folder in fs::read_dir(results).expect("the suite has results") {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        // The folder is `server-{scenario}-{time}`, and the time has 24 characters.
        let scenario = name.strip_prefix("server-").and_then(|rest| rest.get(..rest.len().checked_sub(25)?)).unwrap();
        outcome.scenarios.insert(scenario.to_owned());
        let checks: Vec<Value> = serde_json::from_slice(&fs::read(folder.path().join("checks.json")).unwrap()).unwrap();
        for check in checks {
            let key = format!("{scenario}:{}", check["id"].as_str().unwrap());
            match check["status"].as_str().unwrap() {
                "SUCCESS" => drop(outcome.passed.insert(key)),
                "FAILURE" => drop(outcome.failed.insert(key, check["errorMessage"].to_string())),
                _ => {}
            }
        }
    }
    outcome.passed.retain(|key| !outcome.failed.contains_key(key));
    outcome
}

fn compare(name: &str, outcome: &Outcome) {
    let text = fs::read_to_string(script("conformance/expected-failures.toml")).unwrap();
    let mut baselines: BTreeMap<String, Baseline> = toml::from_str(&text).unwrap();
    let baseline = baselines.remove(name).unwrap_or_else(|| panic!("no baseline for {name}"));
    assert!(baseline.expected_failures.iter().all(|group| !group.reason.is_empty()));
    let mut expected = BTreeSet::new();
    for check in baseline.expected_failures.iter().flat_map(|group| &group.checks) {
        assert!(expected.insert(check.as_str()), "{check} is listed twice");
    }
    let unexpected: Vec<_> = outcome.failed.iter().filter(|(check, _)| !expected.contains(check.as_str())).collect();
    let stale: Vec<_> = expected.iter().filter(|check| !outcome.failed.contains_key(**check)).collect();
    assert!(
        unexpected.is_empty() && stale.is_empty(),
        "not listed, but failed: {unexpected:#?}\nlisted, but did not fail: {stale:#?}"
    );
    assert_eq!((outcome.scenarios.len(), outcome.passed.len()), (baseline.scenarios, baseline.passes));
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "conformance", client = "inspector")),
    ignore = "needs the clients conformance and inspector: use tests/run"
)]
async fn the_suite_of_2025_11_25() {
    conforms("2025-11-25", "conformance", &["--spec-version", "2025-11-25"]).await;
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "conformance-next", client = "inspector")),
    ignore = "needs the clients conformance-next and inspector: use tests/run"
)]
async fn the_suite_of_2026_07_28() {
    conforms("2026-07-28", "conformance-next", &["--requirements", "2026-07-28"]).await;
}

/// The newer release at the older revision has more checks than the older release.
#[tokio::test]
#[cfg_attr(
    not(all(client = "conformance-next", client = "inspector")),
    ignore = "needs the clients conformance-next and inspector: use tests/run"
)]
async fn the_suite_of_2026_07_28_at_2025_11_25() {
    conforms("2025-11-25 by the newer suite", "conformance-next", &["--requirements", "2025-11-25"]).await;
}

/// The suite prints the page to open, and awaits the browser.
#[tokio::test]
#[cfg_attr(
    not(all(client = "conformance-next", client = "inspector")),
    ignore = "needs the clients conformance-next and inspector: use tests/run"
)]
async fn the_scenarios_of_an_authorization_server() {
    let node = inspector::node();
    let office = Office::new(HOUR).await;
    let public_url = office.server.public_url();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let redirect_uri = format!("http://127.0.0.1:{port}/callback");
    let client_id = session::register(public_url, &redirect_uri).await;
    let results = office.folder().join("results");
    let mut child = office
        .command(&node)
        .arg(suite("conformance-next"))
        .args(["authorization", "--url", public_url, "--client-id", &client_id, "--port", &port.to_string()])
        .args(["--resource", &office.server.at("/mcp"), "--output-dir"])
        .arg(&results)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let printed = soon(async {
        let mut printed = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with(&format!("{public_url}/authorize?")) {
                let person = HeadlessBrowser::new().sign_in(&line, "alice@contoso.example", "emulator").await;
                assert_eq!(person.unwrap().status, Some(200));
            }
            printed.push_str(&line);
            printed.push('\n');
        }
        printed
    });
    let printed = printed.await.expect("the suite ends");
    assert!(child.wait().await.unwrap().success(), "{printed}\n--- server\n{}", office.server.log());
    let checks: Vec<_> = printed.lines().filter(|line| line.starts_with('✓')).collect();
    assert_eq!(checks.len(), 2, "{printed}");
    assert_eq!(json!(checks.iter().filter(|line| line.contains("0 failed")).count()), 2, "{printed}");
}
