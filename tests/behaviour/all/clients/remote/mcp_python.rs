//! PyPI `mcp`: the Python SDK.

use super::conversation::{Client, Transport, converse, converse_as_described};
use crate::clients::scenarios::{LEGACY, MODERN};
use crate::support::tools;

fn client(transport: Transport, era: Option<&'static str>, revision: &'static str) -> Client {
    Client { program: tools::client("mcp-python"), script: "mcp-python/remote.py", transport, era, revision }
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
async fn the_whole_conversation_by_default() {
    converse(&client(Transport::StreamableHttp, None, MODERN)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
async fn the_whole_conversation_with_initialize() {
    converse(&client(Transport::StreamableHttp, Some("legacy"), LEGACY)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
async fn the_whole_conversation_over_http_and_sse() {
    // The SDK asks in the newest revision over any transport, and the server answers in it.
    converse(&client(Transport::HttpAndSse, None, MODERN)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
async fn the_whole_conversation_as_described_by_a_document() {
    converse_as_described(&client(Transport::StreamableHttp, None, MODERN)).await;
}
