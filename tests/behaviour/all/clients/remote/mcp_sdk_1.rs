//! npm `@modelcontextprotocol/sdk`: the TypeScript SDK of the first generation.

use super::conversation::{Client, Transport, converse};
use crate::clients::scenarios::LEGACY;
use crate::support::tools;

fn client(transport: Transport) -> Option<Client> {
    let program = tools::node("mcp-sdk-1")?;
    Some(Client { program, script: "mcp-sdk-1/remote.mjs", transport, era: None, revision: LEGACY })
}

#[tokio::test]
async fn the_whole_conversation() {
    if let Some(client) = client(Transport::StreamableHttp) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_over_http_and_sse() {
    if let Some(client) = client(Transport::HttpAndSse) {
        converse(&client).await;
    }
}
