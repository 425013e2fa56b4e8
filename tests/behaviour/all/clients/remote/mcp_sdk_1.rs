//! npm `@modelcontextprotocol/sdk`: the TypeScript SDK of the first generation.

use super::conversation::{Client, Transport, converse};
use crate::clients::scenarios::LEGACY;
use crate::support::tools;

fn client(transport: Transport) -> Client {
    Client {
        program: tools::client("mcp-sdk-1"),
        script: "mcp-sdk-1/remote.mjs",
        transport,
        era: None,
        revision: LEGACY,
    }
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-sdk-1"), ignore = "needs the client mcp-sdk-1: use tests/run")]
async fn the_whole_conversation() {
    converse(&client(Transport::StreamableHttp)).await;
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-sdk-1"), ignore = "needs the client mcp-sdk-1: use tests/run")]
async fn the_whole_conversation_over_http_and_sse() {
    converse(&client(Transport::HttpAndSse)).await;
}
