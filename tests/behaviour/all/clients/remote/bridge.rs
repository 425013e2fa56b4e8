//! npm `mcp-remote`: between clients that can start a program, and servers that are elsewhere.

use serde_json::{Value, json};

use super::conversation::{assert_details, assert_signed_in, assert_tools};
use super::office::{Office, Requests};
use crate::clients::machine::script;
use crate::clients::person::Opener;
use crate::support::tools;

/// The bridge refreshes a token that has less than a minute left, at its next call. Its program makes one look so.
const LIFETIME_SECONDS: i64 = 3600;

async fn the_whole_conversation(path: &str, flags: &[&str]) {
    let node = tools::client("mcp-remote");
    let office = Office::new(LIFETIME_SECONDS).await;
    let url = office.server.at(path);
    let arguments = [&[url.as_str()], flags].concat();
    let mut command = office.command(&node);
    command.arg(script("mcp-remote/client.mjs")).env("URL", &url).env("ARGUMENTS", json!(arguments).to_string());
    let seen = office.run(&mut command).await;

    assert_eq!(seen["errors"], json!([]));
    assert_eq!(seen["server"]["name"], "entra-mcp");
    assert_tools(&seen["tools"]);
    let results = seen["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    results.iter().for_each(assert_details);
    assert_eq!(seen["distinctTokens"], 4, "the token was not refreshed");
    assert_eq!(seen["revoked"], 200);

    // After the revocation the bridge asks the person again by itself.
    assert_details(&seen["afterRevocation"]["answered"]);
    assert_eq!(office.requests(), Requests { authorize: 2, codes_redeemed: 2 });
    let visits = office.leave().await;
    let [first, second] = visits.as_slice() else { panic!("two pages, not {visits:?}") };
    for visit in [first, second] {
        assert_signed_in(visit, Opener::Client);
    }
    assert_ne!(Value::from(first.url.as_str()), second.url);
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "mcp-remote", client = "mcp-sdk-1")),
    ignore = "needs the clients mcp-remote and mcp-sdk-1: use tests/run"
)]
async fn a_bridge_by_default() {
    the_whole_conversation("/mcp", &[]).await;
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "mcp-remote", client = "mcp-sdk-1")),
    ignore = "needs the clients mcp-remote and mcp-sdk-1: use tests/run"
)]
async fn a_bridge_without_initialize() {
    the_whole_conversation("/mcp", &["--protocol", "auto"]).await;
}

#[tokio::test]
#[cfg_attr(
    not(all(client = "mcp-remote", client = "mcp-sdk-1")),
    ignore = "needs the clients mcp-remote and mcp-sdk-1: use tests/run"
)]
async fn a_bridge_over_http_and_sse() {
    the_whole_conversation("/sse", &["--transport", "sse-only"]).await;
}
