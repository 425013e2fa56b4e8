//! The configurations of MCP clients that it prints, read as these clients read them.

use serde_json::{Value, json};

use super::{ALICE, Ran, fresh, setup_as, with};
use crate::host::commands::Home;

const VS_CODE: &str = "Visual Studio Code, .vscode/mcp.json:";
const CLAUDE_DESKTOP: &str = "Claude Desktop, claude_desktop_config.json:";
const INSPECTOR: &str = "MCP Inspector:";

/// What stands below a title.
fn below<'r>(ran: &'r Ran, title: &str) -> &'r str {
    let (_, rest) = ran.output.split_once(&format!("\n{title}\n")).unwrap_or_else(|| panic!("{title}: {}", ran.output));
    rest
}

/// The JSON document there.
fn document(ran: &Ran, title: &str) -> Value {
    serde_json::Deserializer::from_str(below(ran, title)).into_iter().next().unwrap().unwrap()
}

/// The words of the command there.
fn words<'r>(ran: &'r Ran, title: &str) -> Vec<&'r str> {
    below(ran, title).lines().next().unwrap().split_ascii_whitespace().collect()
}

fn are_of_the_local_server(ran: &Ran, arguments: &[&str]) {
    let server = json!({ "command": "entra-mcp", "args": arguments });
    assert_eq!(document(ran, CLAUDE_DESKTOP), json!({ "mcpServers": { "entra": server } }));
    let server = json!({ "type": "stdio", "command": "entra-mcp", "args": arguments });
    assert_eq!(document(ran, VS_CODE), json!({ "servers": { "entra": server } }));
    let expected = [&["npx", "@modelcontextprotocol/inspector", "--", "entra-mcp"][..], arguments].concat();
    assert_eq!(words(ran, INSPECTOR), expected);
}

#[tokio::test]
async fn clients_start_the_local_server_with_the_file_where_it_is_not_the_default_one() {
    let home = Home::new().await;
    let elsewhere = fresh(&home);
    let ran = setup_as(&home, ALICE, &with(&elsewhere, &["--yes"])).await;
    are_of_the_local_server(ran.succeeded(), &["stdio", "--config", &elsewhere[1]]);
    std::fs::remove_file(home.path().join(".config/entra-mcp/config.toml")).unwrap();
    // The first two name the file.
    let default = setup_as(&home, ALICE, &with(&elsewhere[2..], &["--yes"])).await;
    are_of_the_local_server(default.succeeded(), &["stdio"]);
    assert!(home.path().join(".config/entra-mcp/config.toml").exists());
}

#[tokio::test]
async fn clients_reach_the_remote_server_at_its_url() {
    let home = Home::new().await;
    let at = fresh(&home);
    let ran = setup_as(&home, ALICE, &with(&at, &["--public-url", "https://tools.contoso.example", "--yes"])).await;
    let url = "https://tools.contoso.example/mcp";
    let server = json!({ "type": "http", "url": url });
    assert_eq!(document(ran.succeeded(), VS_CODE), json!({ "servers": { "entra": server } }));
    assert_eq!(words(&ran, "Claude: Settings > Connectors > Add custom connector"), [url]);
    let inspector = ["npx", "@modelcontextprotocol/inspector", "--transport", "http", "--server-url", url];
    assert_eq!(words(&ran, INSPECTOR), inspector);
    assert_eq!(words(&ran, "Start the server:"), ["entra-mcp", "serve", "--config", &at[1]]);
    assert!(!ran.output.contains(CLAUDE_DESKTOP), "{}", ran.output);
}
