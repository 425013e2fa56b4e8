//! Components that are whole MCP servers, of WASI 0.2 and 0.3, behind the gate: they read Graph as their caller.

use std::fs;

use entra_mcp_emulator::Endpoint;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::mail::{assert_no_client_token_left, bearer, call_with, watch};
use crate::host::records::Site;
use crate::support::tool_components::{self, HTTP_SERVER, HTTP_SERVICE};

/// Calls at the same time.
const CALLS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_server_reads_the_mail_of_each_of_its_callers_who_call_at_the_same_time() {
    for component in [HTTP_SERVER, HTTP_SERVICE] {
        let site = Site::new(|folder| {
            let config = folder.path().join("config.toml");
            let table = format!(
                "[[tools]]\nname = \"mail\"\nfile = {:?}\n\
                 egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }}]\n",
                tool_components::file(component)
            );
            fs::write(&config, table).unwrap();
            let config = config.display().to_string();
            ["--config", &config, "--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned).into()
        })
        .await;
        let mut tokens = Vec::new();
        for username in ["alice@contoso.example", "bob@contoso.example"] {
            tokens.push((username, bearer(&site.emulator, username).await));
        }
        watch(&site.emulator, &tokens.iter().map(|(_, token)| token.clone()).collect::<Vec<_>>());
        let http = reqwest::Client::new();
        let calls = (0..CALLS).map(|number| {
            let (username, token) = &tokens[number % tokens.len()];
            let (http, site) = (&http, &site);
            async move {
                let (status, answer) = call_with(http, site, "/mcp", token, "list_mail", &json!({})).await;
                assert_eq!(status, 200, "{component}: {answer}\n{}", site.server.log());
                let graph = &answer["result"]["structuredContent"];
                let body = graph["body"].as_str().unwrap_or_else(|| panic!("{component}: {answer}"));
                let messages: Value = serde_json::from_str(body).unwrap();
                let messages = messages["value"].as_array().unwrap().clone();
                assert_eq!(messages.len(), 5, "{body}");
                for message in messages {
                    assert_eq!(
                        message["toRecipients"][0]["emailAddress"]["address"], **username,
                        "{component}: {body}"
                    );
                }
            }
        });
        join_all(calls).await;
        assert_eq!(site.emulator.control().request_count(Endpoint::GraphMessages), CALLS as u64);
        assert_no_client_token_left(&site.emulator);
    }
}
