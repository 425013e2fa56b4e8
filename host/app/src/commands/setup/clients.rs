//! What to do next: the configuration of MCP clients, and the command that starts the server.

use serde_json::{Value, json};

use crate::config::SetupConfig;
use crate::registration::needs::Needs;

/// The configuration of known clients, to be copied.
pub(super) fn configuration(
    config: &SetupConfig,
    needs: &Needs,
    app_id: &str,
    tenant: &str,
    has_credential: bool,
) -> String {
    let file = config.file.display().to_string();
    let mut arguments = vec!["stdio".to_owned()];
    if !config.is_default_file {
        arguments.extend(["--config".to_owned(), file.clone()]);
    }
    let mut parts = vec![format!("\nClient id {app_id}, tenant id {tenant}, written into {file}.")];
    if needs.local.is_some() {
        let command = format!("entra-mcp {}", shell_words::join(&arguments));
        let server = json!({ "command": "entra-mcp", "args": arguments });
        let mut typed = json!({ "type": "stdio" });
        if let (Some(typed), Some(server)) = (typed.as_object_mut(), server.as_object()) {
            typed.extend(server.clone());
        }
        parts.push(block("Visual Studio Code, .vscode/mcp.json", "servers", &typed));
        parts.push(block("Claude Desktop, claude_desktop_config.json", "mcpServers", &server));
        parts.push(format!("MCP Inspector:\n  npx @modelcontextprotocol/inspector -- {command}"));
    }
    if let Some(remote) = &config.remote {
        for url in &remote.endpoints {
            let typed = json!({ "type": "http", "url": url });
            parts.push(block("Visual Studio Code, .vscode/mcp.json", "servers", &typed));
            parts.push(format!("Claude: Settings > Connectors > Add custom connector\n  {url}"));
            parts.push(format!(
                "MCP Inspector:\n  npx @modelcontextprotocol/inspector --transport http --server-url {url}"
            ));
        }
        let command = if config.is_default_file { String::new() } else { format!(" --config {file}") };
        parts.push(format!("Start the server:\n  entra-mcp serve{command}"));
        if !has_credential {
            parts.push(
                "The server still needs something to prove the application with, and no secret is best: run `entra-mcp setup` \
                 again with --certificate-file, --managed-identity or --federated-issuer. With a secret, make it under \
                 Certificates & secrets in the app registration, and keep it with `entra-mcp client-secret set`."
                    .to_owned(),
            );
        }
    }
    parts.join("\n\n")
}

fn block(title: &str, key: &str, server: &Value) -> String {
    let document = json!({ key: { "entra": server } });
    format!("{title}:\n{document:#}")
}
