//! npm `@modelcontextprotocol/conformance` against a server of FastMCP, and against the same server behind the gate: each
//! check ends in the same way, except for those that `docs/src/reference/conformance.md` lists with the reason.
//!
//! The gate has the server twice, once without rules and once with a rule for one tool, by which every answer is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;

use super::servers::Bare;
use super::tour::server_saw_no_token;
use crate::clients::inspector;
use crate::clients::machine::script;
use crate::clients::remote::conformance::{Outcome, read, suite};
use crate::clients::remote::office::Office;
use crate::documents;
use crate::support::patience::soon;
use crate::support::session;

/// A token that lasts.
const HOUR: i64 = 3600;

/// What is expected: `tests/clients/conformance/through-the-gate.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    runs: Vec<Run>,
    differences: Vec<Difference>,
}

/// One run of a suite against the server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// As the page has it.
    suite: String,
    /// The folder in `tests/clients`.
    folder: String,
    arguments: Vec<String>,
    scenarios: usize,
    /// Checks that pass and fail: against the server, through the gate, through the gate with a rule.
    bare: Totals,
    open: Totals,
    ruled: Totals,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Totals {
    passed: usize,
    failed: usize,
}

/// Checks that end otherwise through the gate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// Suites in which they do, by their place in `runs`.
    runs: Vec<usize>,
    /// Whether they do so only where the server has a rule.
    #[serde(default)]
    with_a_rule: bool,
    /// Whether they pass through the gate, and fail against the server.
    passes: bool,
    reason: String,
    /// Each `scenario:check`.
    checks: Vec<String>,
}

fn expected() -> Expected {
    let text = std::fs::read_to_string(script("conformance/through-the-gate.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

impl Expected {
    /// The checks of a run that differ, and whether they pass through the gate.
    fn differences(&self, run: usize, ruled: bool) -> BTreeMap<&str, bool> {
        let of_run = self.differences.iter().filter(|one| one.runs.contains(&run) && (ruled || !one.with_a_rule));
        of_run.flat_map(|one| one.checks.iter().map(|check| (check.as_str(), one.passes))).collect()
    }

    /// The page of the reference.
    fn page(&self) -> String {
        let mut page = PAGE.to_owned();
        for Run { suite, scenarios, bare, open, ruled, .. } in &self.runs {
            let totals = |totals: &Totals| format!("{} / {}", totals.passed, totals.failed);
            let (bare, open, ruled) = (totals(bare), totals(open), totals(ruled));
            writeln!(page, "| {suite} | {scenarios} | {bare} | {open} | {ruled} |").unwrap();
        }
        page.push_str(DIFFERENCES);
        for Difference { runs, with_a_rule, passes, reason, checks } in &self.differences {
            let mut suites = runs.iter().map(|run| self.runs[*run].suite.as_str()).collect::<Vec<_>>().join("; ");
            if *with_a_rule {
                suites.push_str(", with a rule");
            }
            let checks = checks.iter().map(|check| format!("`{check}`")).collect::<Vec<_>>().join(", ");
            let end = if *passes { "passes" } else { "fails" };
            writeln!(page, "| {checks} | {end} | {suites} | {reason} |").unwrap();
        }
        page
    }
}

const PAGE: &str = "# Conformance through the gate

<!-- Generated from tests/clients/conformance/through-the-gate.toml: change that file, and run `cargo test documents`. -->

The MCP conformance suite (npm `@modelcontextprotocol/conformance`) runs against a server of FastMCP that has what the suite
looks for, and against the same server behind the gate: once without rules, and once with a rule for one of its tools, so
that the component judges every answer. The figures are checks that pass and checks that fail.

| suite | scenarios | the server | through the gate | with a rule |
| --- | --- | --- | --- | --- |
";

const DIFFERENCES: &str = "
A check that fails in both places is about something that the server itself does not have. Only these checks end
differently through the gate:

| check | through the gate | suite | why |
| --- | --- | --- | --- |
";

#[test]
fn the_page_lists_every_difference() {
    let expected = expected();
    for difference in &expected.differences {
        assert!(!difference.reason.is_empty() && difference.runs.iter().all(|run| *run < expected.runs.len()));
    }
    documents::compare("reference/conformance.md", &expected.page());
}

/// Runs a suite against an address; `token` is the client's.
async fn against(office: &Office, run: &Run, url: &str, token: Option<&str>, results: &Path) -> Outcome {
    let mut command = office.command(&inspector::node());
    if let Some(token) = token {
        command.arg("--import").arg(script("conformance/bearer.mjs")).env("URL", url).env("TOKEN", token);
    }
    command
        .arg(suite(&run.folder))
        .args(["server", "--url", url])
        .args(&run.arguments)
        .arg("--output-dir")
        .arg(results);
    command.stdin(Stdio::null()).kill_on_drop(true);
    // The suite ends with 1 if anything fails; the results name the failures.
    let output = soon(command.output()).await.expect("the suite ends").unwrap();
    println!("--- {url}\n{}", String::from_utf8_lossy(&output.stdout));
    read(results)
}

fn totals(outcome: &Outcome) -> Totals {
    Totals { passed: outcome.passed.len(), failed: outcome.failed.len() }
}

async fn conforms(number: usize) {
    let expected = expected();
    let run = &expected.runs[number];
    let server = Bare::fastmcp().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("behind.toml");
    let upstream = |name: &str| format!("[[upstream]]\nname = \"{name}\"\nurl = {:?}\n", server.url);
    let rule = "[[access]]\nserver = \"ruled\"\ntool = \"delete_record\"\nroles = [\"Crm.Admin\"]\n";
    std::fs::write(&config, [upstream("open"), upstream("ruled"), rule.to_owned()].concat()).unwrap();
    let office = Office::with(HOUR, &["--config", config.to_str().unwrap(), "--rate-limit", "off"]).await;

    let mut seen = Vec::new();
    for name in ["open", "ruled"] {
        let path = format!("/{name}/mcp");
        let session = session::sign_in(office.server.public_url(), &path, "alice@contoso.example").await;
        let (url, results) = (office.server.at(&path), folder.path().join(name));
        seen.push(against(&office, run, &url, Some(&session.access_token), &results).await);
        server_saw_no_token(&server.requests(), &[session.access_token, session.refresh_token]);
    }
    let bare = against(&office, run, &server.url, None, &folder.path().join("bare")).await;

    for (gated, ruled) in seen.iter().zip([false, true]) {
        assert_eq!(gated.scenarios, bare.scenarios);
        let names = |outcome: &Outcome| -> BTreeSet<String> {
            outcome.passed.iter().chain(outcome.failed.keys()).cloned().collect()
        };
        let end =
            |outcome: &Outcome, check: &String| (outcome.passed.contains(check), outcome.failed.contains_key(check));
        let all: BTreeSet<String> = names(&bare).union(&names(gated)).cloned().collect();
        let differs = all.iter().filter(|check| end(&bare, check) != end(gated, check));
        let differs: BTreeMap<&str, bool> =
            differs.map(|check| (check.as_str(), gated.passed.contains(check))).collect();
        assert_eq!(differs, expected.differences(number, ruled), "{:#?}\n{}", gated.failed, office.server.log());
    }
    let found = (bare.scenarios.len(), totals(&bare), totals(&seen[0]), totals(&seen[1]));
    assert_eq!(found, (run.scenarios, run.bare, run.open, run.ruled));
}

macro_rules! suites {
    ($($name:ident: $client:literal, $number:literal;)*) => {$(
        #[tokio::test]
        #[cfg_attr(
            not(all(client = $client, client = "inspector", client = "fastmcp")),
            ignore = "needs the suite and the clients inspector and fastmcp: use tests/run"
        )]
        async fn $name() {
            conforms($number).await;
        }
    )*};
}

suites! {
    the_suite_of_2025_11_25: "conformance", 0;
    the_suite_of_2026_07_28_at_2025_11_25: "conformance-next", 1;
    the_suite_of_2026_07_28: "conformance-next", 2;
}
