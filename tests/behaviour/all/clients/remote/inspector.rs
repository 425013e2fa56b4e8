//! npm `@modelcontextprotocol/inspector`: the MCP Inspector's command line, with a token from elsewhere.

use serde_json::Value;

use super::conversation::{TOOL, assert_details, assert_tools};
use super::office::Office;
use crate::clients::inspector::{MODULES, node};
use crate::clients::machine::script;
use crate::support::session;

/// A token that lasts.
const HOUR: i64 = 3600;

async fn inspect(office: &Office, token: &str, arguments: &[&str]) -> Value {
    let mut command = office.command(&node());
    command
        .arg(script(MODULES).join("@modelcontextprotocol/inspector/clients/launcher/build/index.js"))
        .args(["--cli", "--format", "json", "--connect-timeout", "60000", "--transport", "http"])
        .args(["--server-url", &office.server.at("/mcp"), "--header", &format!("Authorization: Bearer {token}")])
        .args(arguments)
        .env("MCP_INSPECTOR_SECRET_STORE", "memory");
    office.run(&mut command).await["result"].clone()
}

async fn a_token_is_enough(era: &str) {
    let office = Office::new(HOUR).await;
    let session = session::sign_in(office.server.public_url(), "/mcp", "alice@contoso.example").await;
    let list = ["--protocol-era", era, "--method", "tools/list", "--strict"];
    let call = ["--protocol-era", era, "--method", "tools/call", "--tool-name", TOOL];
    assert_tools(&inspect(&office, &session.access_token, &list).await["tools"]);
    assert_details(&inspect(&office, &session.access_token, &call).await);
    assert_eq!(office.leave().await.len(), 0);
}

#[tokio::test]
#[cfg_attr(not(client = "inspector"), ignore = "needs the client inspector: use tests/run")]
async fn a_token_is_enough_with_initialize() {
    a_token_is_enough("legacy").await;
}

#[tokio::test]
#[cfg_attr(not(client = "inspector"), ignore = "needs the client inspector: use tests/run")]
async fn a_token_is_enough_without_initialize() {
    a_token_is_enough("modern").await;
}
