//! The hostile tools of `tests/tools` in the program: what they print and how they answer does no harm beyond their call.

use std::fs;

use serde_json::{Value, json};

use super::mail::call_with;
use crate::host::records::{ALICE, Site};
use crate::support::session::sign_in;
use crate::support::tool_components::{self, HOSTILE};

const AUDIT: &str = "audit.jsonl";

/// A server whose tools are the hostile ones, and a session at it.
async fn site() -> (Site, String) {
    let site = Site::new(|folder| {
        let config = folder.path().join("config.toml");
        fs::write(&config, format!("[[tools]]\nname = \"hostile\"\nfile = {:?}\n", tool_components::file(HOSTILE)))
            .unwrap();
        let (config, audit) = (config.display().to_string(), folder.path().join(AUDIT).display().to_string());
        ["--config", &config, "--audit-file", &audit].map(str::to_owned).into()
    })
    .await;
    let token = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
    (site, token)
}

async fn called(site: &Site, token: &str, tool: &str, arguments: Value) -> Value {
    let (status, answer) = call_with(&reqwest::Client::new(), site, "/mcp", token, tool, &arguments).await;
    assert_eq!(status, 200, "{answer}\n{}", site.server.log());
    answer["result"].clone()
}

#[tokio::test]
async fn a_tool_that_prints_without_end_leaves_a_bounded_log_and_none_of_it_in_its_answer() {
    let (site, token) = site().await;
    let before = site.server.log().len();
    let result = called(&site, &token, "print", json!({ "kib": 4096 })).await;
    // The tool is not told that nobody reads it.
    assert_eq!(result["structuredContent"], json!({ "output": 4096, "error": 4096 }), "{result}");
    let log = site.log_with("(further lines of this instance are left out)").await;
    let printed = log.lines().filter(|line| line.contains("xxxx")).count();
    assert_eq!(printed, 200);
    assert!(log.len() - before < 1024 * 1024, "{}", log.len());
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_an_error_of_its_call_alone() {
    let (site, token) = site().await;
    for form in ["json", "blocks"] {
        let result = called(&site, &token, "broken_answer", json!({ "as": form })).await;
        assert_eq!((&result["isError"], &result["structuredContent"]), (&json!(true), &Value::Null), "{result}");
        assert!(!result.to_string().contains("{\\\"a\\\":1"), "{result}");
    }
    let result = called(&site, &token, "remember", json!({ "text": "one" })).await;
    assert_eq!((&result["isError"], &result["structuredContent"]["remembered"]), (&json!(false), &json!([])));
    let records = site.records(AUDIT);
    let calls = records.iter().filter(|record| record["event"] == "tool.called");
    let told: Vec<_> = calls.map(|record| (record["tool"].clone(), record["reason"].clone())).collect();
    let malformed = (json!("broken_answer"), json!("tool-malformed"));
    assert_eq!(told, [malformed.clone(), malformed, (json!("remember"), Value::Null)]);
}
