//! `docs/src/tutorials/protect-a-server.md`: its five lines protect a server that knows nothing of Entra ID.

use std::fs;

use serde_json::json;

use crate::host::records::{ALICE, Site};
use crate::support::behind::{ANSWER, Behind};
use crate::support::pages::{Page, replaced};
use crate::support::session::sign_in;

/// The configurations of the page, in their order.
fn configurations() -> Vec<String> {
    Page::read("tutorials/protect-a-server.md").blocks("toml")
}

/// A configuration of the page with the address of this server. The directory and the application come from the emulator, by
/// flags.
fn here(configuration: &str, url: &str) -> String {
    let lines = configuration.lines().filter(|line| !line.starts_with("tenant-id") && !line.starts_with("client-id"));
    replaced(&lines.collect::<Vec<_>>().join("\n"), "http://127.0.0.1:8000/mcp", url)
}

/// The program with this configuration, started as the page says.
async fn started(config: String) -> Site {
    let command = Page::read("tutorials/protect-a-server.md").section("Start it").block("sh");
    let arguments = command.trim().strip_prefix("AZURE_CLIENT_SECRET=… entra-mcp serve ").expect("the page says how");
    Site::new(|folder| {
        let file = folder.path().join("entra-mcp.toml");
        fs::write(&file, config).unwrap();
        let arguments = arguments.split(' ');
        arguments.map(|argument| argument.replace("entra-mcp.toml", file.to_str().unwrap())).collect()
    })
    .await
}

#[tokio::test]
async fn five_lines_protect_a_server_and_the_start_says_that_its_tools_are_open() {
    let behind = Behind::start().await;
    let [protected, _]: [String; 2] = configurations().try_into().expect("the page has two configurations");
    assert_eq!(protected.lines().count(), 5, "{protected}");
    let site = started(here(&protected, &behind.url())).await;
    let all = "every tool, every resource and every prompt of crm";
    site.log_with(&format!("every admitted person and application, but no AI agent, may use {all}")).await;

    let (status, _) = site.call_tool("/mcp", None, "read_record", &[]).await;
    assert_eq!(status, 401);
    assert!(behind.arrived().is_empty(), "a request without a caller reached the server");

    let token = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
    for tool in ["read_record", "delete_record"] {
        let (status, answer) = site.call_tool("/mcp", Some(&token), tool, &[]).await;
        assert_eq!((status, &answer["result"]["content"][0]["text"]), (200, &json!(ANSWER)), "{answer}");
    }
    let arrived = behind.arrived();
    assert!(arrived.len() == 2 && arrived.iter().all(|one| !one.headers.contains_key("authorization")));
}

#[tokio::test]
async fn the_rule_of_the_page_restricts_one_tool_and_the_line_for_the_top_all_others() {
    let behind = Behind::start().await;
    let [protected, restricted]: [String; 2] = configurations().try_into().expect("the page has two configurations");
    let config = format!("{}\n{restricted}", here(&protected, &behind.url()));
    assert!(Page::read("tutorials/protect-a-server.md").text().contains("`deny-unlisted = true` at the top"));
    for (top, served) in [("", true), ("deny-unlisted = true\n", false)] {
        let site = started(format!("{top}{config}")).await;
        let token = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
        let (_, answer) = site.call_tool("/mcp", Some(&token), "read_record", &[]).await;
        assert_eq!(answer["result"]["content"][0]["text"] == ANSWER, served, "{answer}");
        let (_, answer) = site.call_tool("/mcp", Some(&token), "delete_record", &[]).await;
        assert_eq!(answer["result"]["isError"], true, "a caller without the role was served: {answer}");
        assert_eq!(behind.arrived().len(), usize::from(served), "a refused call went on");
    }
}
