//! `entra-mcp doctor` as a process: what it finds where a fault was seeded, and what it says of it.

mod deployed;
mod local;
mod registration;
mod store;
mod tls;
mod token;

use serde_json::Value;

use crate::host::commands::Home;
use crate::host::serve::run;
use crate::support::lab::{REMOTE, app};

/// What a run has found.
struct Diagnosis {
    code: Option<i32>,
    report: Value,
    /// Everything that it has written.
    text: String,
}

/// Runs the doctor with the remote server's settings.
async fn doctor(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> Diagnosis {
    let secret = home.emulator().endpoints().client_secret.clone();
    let mut command = home.program(&["doctor", "--json", "--client-id", &app(REMOTE)]);
    command.args(arguments).env("AZURE_CLIENT_SECRET", secret).envs(variables.iter().copied());
    diagnosis(command).await
}

async fn diagnosis(command: tokio::process::Command) -> Diagnosis {
    let (code, output, log) = run(command, "").await;
    let report = serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}\n{log}"));
    Diagnosis { code, report, text: format!("{output}{log}") }
}

impl Diagnosis {
    /// The findings of a severity.
    fn of(&self, severity: &str) -> Vec<&Value> {
        let sections = self.report["sections"].as_array().unwrap();
        let findings = sections.iter().flat_map(|section| section["findings"].as_array().unwrap());
        findings.filter(|finding| finding["severity"] == severity).collect()
    }

    fn ids(&self, severity: &str) -> Vec<&str> {
        self.of(severity).into_iter().map(|finding| finding["id"].as_str().unwrap()).collect()
    }

    /// The one failure of this name: what, and what to change.
    fn failure(&self, id: &str) -> (&str, &str) {
        let failures: Vec<_> = self.of("failure").into_iter().filter(|finding| finding["id"] == id).collect();
        let [failure] = failures.as_slice() else { panic!("not one failure {id}: {:#}", self.report) };
        (failure["what"].as_str().unwrap(), failure["change"].as_str().unwrap_or_default())
    }
}
