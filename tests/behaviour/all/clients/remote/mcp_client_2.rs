//! npm `@modelcontextprotocol/client`: the TypeScript SDK of the second generation.

use super::conversation::{Client, Transport, converse, converse_as_described, converse_over_tls};
use crate::clients::scenarios::{LEGACY, MODERN};
use crate::support::tools;

fn client(transport: Transport, era: Option<&'static str>, revision: &'static str) -> Client {
    Client { program: tools::client("mcp-client-2"), script: "mcp-client-2/remote.mjs", transport, era, revision }
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
async fn the_whole_conversation_by_default() {
    converse(&client(Transport::StreamableHttp, None, LEGACY)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
async fn the_whole_conversation_automatically() {
    converse(&client(Transport::StreamableHttp, Some("auto"), MODERN)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
async fn the_whole_conversation_insisting() {
    converse(&client(Transport::StreamableHttp, Some(MODERN), MODERN)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
async fn the_whole_conversation_over_http_and_sse() {
    converse(&client(Transport::HttpAndSse, None, LEGACY)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
async fn the_whole_conversation_over_tls() {
    converse_over_tls(&client(Transport::StreamableHttp, Some("auto"), MODERN)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-client-2"), ignore = "needs the client mcp-client-2: use tests/run")]
async fn the_whole_conversation_as_described_by_a_document() {
    converse_as_described(&client(Transport::StreamableHttp, Some("auto"), MODERN)).await;
}
