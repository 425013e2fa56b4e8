//! `entra-mcp setup` as a process: from an empty directory to the first tool call, repairs, and what it says where it is
//! refused.

mod clients;
mod credentials;
mod first_call;
mod refusals;
mod repair;

use entra_mcp_emulator::Endpoint;
use serde_json::{Value, json};

use crate::host::commands::Home;
use crate::host::serve::{self, run};
use crate::support::session::sign_in;

pub(crate) const ALICE: &str = "alice@contoso.example";
pub(crate) const ADMIN: &str = "admin@contoso.example";

/// The endpoints of Graph that `setup` may write to.
const WRITTEN: [Endpoint; 5] = [
    Endpoint::GraphApplications,
    Endpoint::GraphFederatedCredentials,
    Endpoint::GraphServicePrincipals,
    Endpoint::GraphPermissionGrants,
    Endpoint::GraphRoleAssignments,
];

/// What a run has said.
struct Ran {
    code: Option<i32>,
    output: String,
    log: String,
}

/// Runs `setup` with a person at the browser.
async fn setup_as(home: &Home, username: &str, arguments: &[&str]) -> Ran {
    answered(home, username, arguments, "").await
}

/// The same with an answer to its question.
async fn answered(home: &Home, username: &str, arguments: &[&str], answer: &str) -> Ran {
    let browser = format!("\"{}\" headless-browser --username {username} %s", env!("CARGO_BIN_EXE_entra-mcp-tested"));
    let mut command = home.program(&["setup", "--sign-in", "browser"]);
    command.args(arguments).env("BROWSER", browser);
    let (code, output, log) = run(command, answer).await;
    Ran { code, output, log }
}

/// The arguments for a directory that is not configured yet, with the file that is written.
fn fresh(home: &Home) -> Vec<String> {
    let at = home.emulator().endpoints();
    let file = home.path().join("fresh.toml").display().to_string();
    let all = ["--config", &file, "--tenant-id", &at.tenant_id, "--authority", &at.authority, "--graph-url", &at.graph];
    all.map(str::to_owned).to_vec()
}

fn with<'a>(arguments: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// Where an identity broker receives the answers of this Entra ID.
fn broker(home: &Home) -> String {
    format!("{}/common/oauth2/nativeclient", home.emulator().endpoints().authority)
}

/// The methods of the requests to Graph that change something, since the log was cleared.
fn writes(home: &Home) -> Vec<String> {
    let control = home.emulator().control();
    let requests = WRITTEN.into_iter().flat_map(|endpoint| control.requests(endpoint));
    let writes = requests.filter(|request| request.method != "GET");
    writes.map(|request| format!("{} {}", request.method, request.path)).collect()
}

/// The registrations of a name, as the emulator has them.
fn registered(home: &Home, name: &str) -> Vec<entra_mcp_emulator::Application> {
    let all = home.emulator().control().applications();
    all.into_iter().filter(|application| application.name == name).collect()
}

/// The one sentence of an error.
fn sentence(ran: &Ran) -> &str {
    let line = ran.log.lines().find_map(|line| line.strip_prefix("entra-mcp: "));
    line.unwrap_or_else(|| panic!("no error\n{}\n{}", ran.output, ran.log))
}

impl Ran {
    fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.output, self.log);
        self
    }
}

/// A setting in a configuration file.
fn setting(home: &Home, name: &str) -> Value {
    let text = std::fs::read_to_string(home.path().join("fresh.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    serde_json::to_value(table.get(name).unwrap_or_else(|| panic!("no {name} in {text}"))).unwrap()
}

/// Starts the remote server with the file that was written. A person signs in to it, and a client calls a tool.
async fn calls_of_the_remote_server(home: &Home, variables: &[(&str, &str)]) {
    // The test's server has a port of its own, which Entra ID does not look at.
    let file = home.path().join("fresh.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text: String =
        text.lines().filter(|line| !line.starts_with("public-url")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, text).unwrap();
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0", "--store", "memory"]);
    command.arg("--config").arg(&file).envs(variables.iter().copied());
    let server = serve::Server::start(command).await;
    let public_url = server.ready["public_url"].as_str().unwrap().to_owned();
    let session = sign_in(&public_url, "/mcp", ALICE).await;
    let answer = reqwest::Client::new()
        .post(format!("{public_url}/mcp"))
        .bearer_auth(&session.access_token)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-06-18")
        .json(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "getUserDetails", "arguments": {} } }))
        .send()
        .await
        .unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("alice@contoso.example"), "{text}");
    assert_eq!(server.end().await.0, Some(0));
}
