//! `docs/src/tutorials/write-a-tool.md`: its programs are those of the projects, which `projects.rs` builds, and its
//! configuration and its commands are run.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::projects::Project;
use crate::host::commands::Home;
use crate::host::records::{ALICE, Site};
use crate::support::component::modern;
use crate::support::pages::{Page, replaced};
use crate::support::patience::soon;
use crate::support::session::sign_in;
use crate::support::{process, tool_components};

fn page() -> Page {
    Page::read("tutorials/write-a-tool.md")
}

#[test]
fn the_programs_of_the_tutorial_are_those_of_the_projects() {
    for (language, folder, file) in
        [("rust", "rust", "src/lib.rs"), ("js", "js", "tool.js"), ("python", "python", "src/app.py")]
    {
        let source = Project::new(folder).read(file);
        let program = source.split("\n#[cfg(test)]").next().expect("a split has a first part");
        assert_eq!(page().block(language), program, "{file}");
    }
}

#[test]
fn the_commands_of_the_tutorial_are_those_of_the_projects() {
    let page = page().text().replace("mail.wasm", "order-desk.wasm");
    for language in ["rust", "js", "python"] {
        for command in Project::new(language).commands() {
            assert!(page.contains(&format!("{command}\n")), "{language}: {command}");
        }
    }
}

/// Every project of the page is made as the page says, in an empty folder.
#[test]
fn the_projects_of_the_tutorial_are_made() {
    let commands = page().section("Make a project").block("sh");
    assert_eq!(commands.lines().count(), 3, "{commands}");
    for command in commands.lines() {
        let folder = tempfile::tempdir().unwrap();
        let output = shell(folder.path(), command);
        assert!(output.status.success(), "{command}: {output:?}");
        assert!(folder.path().join("mail/README.md").is_file(), "{command}");
    }
}

/// Runs a command of the page, with the program that is tested.
fn shell(folder: &std::path::Path, command: &str) -> std::process::Output {
    let command = replaced(command, "entra-mcp ", concat!(env!("CARGO_BIN_EXE_entra-mcp-tested"), " "));
    let mut shell = process::blocking("sh");
    shell.args(["-ec", &command]).current_dir(folder).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    shell.output().unwrap()
}

/// The configuration of the page in a folder with the component. The directory and the application are those of the
/// emulator, which flags or another configuration name.
fn configuration(folder: &TempDir) -> String {
    fs::copy(tool_components::file(tool_components::MAIL), folder.path().join("mail.wasm")).unwrap();
    let text = page().section("Grant it what it needs").block("toml");
    let is_of_the_reader = |line: &&str| line.starts_with("tenant-id") || line.starts_with("client-id");
    assert_eq!(text.lines().filter(is_of_the_reader).count(), 2, "{text}");
    let text: Vec<&str> = text.lines().filter(|line| !is_of_the_reader(line)).collect();
    let file = folder.path().join("mail.wasm").display().to_string();
    replaced(&text.join("\n"), "\"mail.wasm\"", &format!("{file:?}"))
}

/// The arguments of a command of the page, but for the file of the configuration.
fn arguments(command: &str) -> Vec<String> {
    let page = page().section("Use it");
    let commands = page.blocks("sh");
    let found = commands.iter().find_map(|block| block.split_once(&format!("entra-mcp {command} ")));
    let (_, rest) = found.unwrap_or_else(|| panic!("the page does not run {command}"));
    rest.split_whitespace().map(str::to_owned).collect()
}

fn assert_mail_of_alice(answer: &Value) {
    let messages = answer["result"]["structuredContent"]["messages"].as_array();
    let messages = messages.unwrap_or_else(|| panic!("no mail in {answer}"));
    assert!(!messages.is_empty() && messages.iter().all(|message| message["to"] == ALICE), "{answer}");
}

fn list_mail() -> Value {
    modern("tools/call", json!({ "name": "list_mail", "arguments": {} }), json!({}))
}

#[tokio::test]
async fn the_configuration_of_the_tutorial_gives_the_tool_its_callers_mail_on_a_server() {
    let site = Site::new(|folder| {
        let config = folder.path().join("entra-mcp.toml");
        fs::write(&config, configuration(folder)).unwrap();
        let named = arguments("serve");
        named.iter().map(|argument| argument.replace("entra-mcp.toml", config.to_str().unwrap())).collect()
    })
    .await;
    let token = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
    assert_mail_of_alice(&site.call_tool("/mcp", Some(&token), "list_mail", &[]).await.1);
}

#[tokio::test]
async fn the_configuration_of_the_tutorial_gives_the_tool_the_mail_of_the_person_at_the_machine() {
    let home = Home::new().await;
    assert!(home.run_with_person(&["login"]).await.status.success());
    let folder = tempfile::tempdir().unwrap();
    let own = fs::read_to_string(home.path().join(".config/entra-mcp/config.toml")).unwrap();
    let config = folder.path().join("entra-mcp.toml");
    fs::write(&config, format!("{own}{}", configuration(&folder))).unwrap();
    let named = arguments("stdio");
    let named: Vec<_> = named.iter().map(|one| one.replace("entra-mcp.toml", config.to_str().unwrap())).collect();
    let mut command = home.program(&["stdio"]);
    command.args(named).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{}\n", list_mail()).as_bytes()).await.unwrap();
    let answer = loop {
        let line = soon(lines.next_line()).await.expect("the server answers").unwrap().expect("the server goes on");
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["id"] == 1 {
            break message;
        }
    };
    assert_mail_of_alice(&answer);
}

#[test]
fn the_component_is_inspected_as_the_tutorial_says() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(tool_components::file(tool_components::MAIL), folder.path().join("mail.wasm")).unwrap();
    let commands = page().section("Grant it what it needs").block("sh");
    let output = shell(folder.path(), commands.trim());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("list_mail"), "{output:?}");
}
