//! npm `@anthropic-ai/mcpb`: the bundle that desktop clients install (MCPB). The tool that its authors publish checks, packs
//! and unpacks it; then the server starts as the manifest says, with what the person has entered.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::inspector::{inspect_server, node};
use super::machine::{Browser, Machine, ONE_SIGN_IN, script};
use super::profile::{TOOL, assert_profile, assert_tools};
use crate::support::{process, tests_dir, tools};

fn manifest() -> PathBuf {
    tests_dir().join("../host/packaging/mcpb/manifest.json")
}

fn read(manifest: &Path) -> Value {
    serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap()
}

/// Runs the tool of the bundle format.
fn mcpb(arguments: &[&Path]) {
    let program = script("mcpb/node_modules/@anthropic-ai/mcpb/dist/cli/cli.js");
    let output = process::blocking(tools::client("mcpb")).arg(program).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
}

/// What a client makes of a text in the manifest.
fn filled_in(text: &Value, folder: &Path, entered: &[(&str, String)]) -> String {
    let text = text.as_str().unwrap().replace("${__dirname}", folder.to_str().unwrap());
    entered.iter().fold(text, |text, (name, value)| text.replace(&format!("${{user_config.{name}}}"), value))
}

#[test]
fn the_bundle_says_the_version_and_the_tools_of_the_program() {
    let manifest = read(&manifest());
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["tools"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["tools"][0]["name"], TOOL);
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "mcpb", client = "inspector")),
    ignore = "needs the clients mcpb and inspector: use tests/run"
)]
async fn an_installed_bundle_signs_in_with_the_ids_that_the_person_has_entered() {
    let node = node();
    let machine = Machine::new(&[]).await;
    let (sources, installed) = (machine.folder().join("bundle"), machine.folder().join("installed"));
    fs::create_dir_all(sources.join("server")).unwrap();
    fs::copy(manifest(), sources.join("manifest.json")).unwrap();
    // In place of the program, which takes a minute to compress.
    let program = sources.join("server/entra-mcp");
    fs::write(&program, format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_entra-mcp-tested"))).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let bundle = machine.folder().join("entra-mcp.mcpb");
    mcpb(&[Path::new("validate"), &sources.join("manifest.json")]);
    mcpb(&[Path::new("pack"), &sources, &bundle]);
    mcpb(&[Path::new("unpack"), &bundle, &installed]);

    let start = &read(&installed.join("manifest.json"))["server"]["mcp_config"];
    let server = |browser| {
        let (variables, entered) = machine.variables(browser);
        let mut environment = json!(variables);
        for (name, value) in start["env"].as_object().unwrap() {
            environment[name] = filled_in(value, &installed, &entered).into();
        }
        json!({
            "command": filled_in(&start["command"], &installed, &entered),
            "args": start["args"],
            "env": environment,
        })
    };
    let list = ["--protocol-era", "legacy", "--method", "tools/list", "--strict"];
    let call = ["--protocol-era", "legacy", "--method", "tools/call", "--tool-name", TOOL];
    let listed = inspect_server(&machine, &node, server(Browser::Absent), &list).await;
    let called = inspect_server(&machine, &node, server(Browser::Present), &call).await;
    assert_profile(&called, assert_tools(&listed["tools"]));
    assert_eq!(machine.requests(), ONE_SIGN_IN);
}
