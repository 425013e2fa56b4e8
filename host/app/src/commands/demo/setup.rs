//! From a directory that knows no application to the first tool call: `entra-mcp setup`, then `entra-mcp stdio`.

use std::path::Path;
use std::process::Stdio;

use entra_mcp_emulator::{Builder, Emulator};

use super::stdio::{StdioServerProcess, TOOL};
use super::{STEP_TIMEOUT, Steps, USER, own_process, text};
use crate::config::Environment;
use crate::console;

/// Plays both commands, and the first one again.
pub(super) async fn play(steps: &mut Steps, environment: &Environment) -> Result<(), String> {
    steps.begin("start the emulator");
    let emulator = Builder::new().start().await.map_err(text)?;
    steps.done(&format!("Started an emulated Entra ID and Microsoft Graph at {}", emulator.endpoints().authority));
    let folder = tempfile::Builder::new().prefix("entra-mcp-demo-").tempdir().map_err(text)?;
    let config = folder.path().join("config.toml");

    steps.begin("set up");
    let said = setup(&emulator, &config, environment).await?;
    let made: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("  + ")).collect();
    steps.done(&format!(
        "Ran `entra-mcp setup --yes`: {USER} signed in; it registered an application and wrote the configuration file:"
    ));
    for line in made {
        console::result(&format!("     + {line}"));
    }

    steps.begin("start the MCP server and call the tool");
    let store = folder.path().join("secrets.db");
    let mut process = own_process(environment)?;
    process.args(["stdio", "--sign-in", "browser", "--config"]).arg(&config).arg("--store").arg(&store);
    let mut server = StdioServerProcess::spawn(process)?;
    let profile = server.profile().await?;
    server.end().await?;
    steps.done(&format!(
        "Ran `entra-mcp stdio` and called {TOOL}: {USER} consented and signed in to the new application, and Graph was asked"
    ));

    steps.begin("set up again");
    let said = setup(&emulator, &config, environment).await?;
    if !said.contains("Nothing had to be changed.") {
        return Err("the second setup has changed something".into());
    }
    steps.done("Ran `entra-mcp setup --yes` again: nothing had to be changed");

    console::result(&format!("\nThe profile from Graph, as {TOOL} returns it:"));
    console::result(&format!("{profile:#}"));
    emulator.shutdown().await;
    Ok(())
}

/// Runs `entra-mcp setup`. Returns what it says.
async fn setup(emulator: &Emulator, config: &Path, environment: &Environment) -> Result<String, String> {
    let at = emulator.endpoints();
    let mut process = own_process(environment)?;
    process.args(["setup", "--yes", "--sign-in", "browser", "--config"]).arg(config);
    process.args(["--tenant-id", &at.tenant_id, "--authority", &at.authority, "--graph-url", &at.graph]);
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let ran = tokio::time::timeout(STEP_TIMEOUT, process.output()).await.map_err(text)?.map_err(text)?;
    match ran.status.success() {
        true => String::from_utf8(ran.stdout).map_err(text),
        false => Err(format!("setup ended with {}", ran.status)),
    }
}
