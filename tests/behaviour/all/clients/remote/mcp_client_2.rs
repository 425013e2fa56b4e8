//! npm `@modelcontextprotocol/client`: the TypeScript SDK of the second generation.

use super::conversation::{Client, Transport, converse, converse_as_described, converse_over_tls};
use crate::clients::scenarios::{LEGACY, MODERN};
use crate::support::tools;

fn client(transport: Transport, era: Option<&'static str>, revision: &'static str) -> Option<Client> {
    let program = tools::node("mcp-client-2")?;
    Some(Client { program, script: "mcp-client-2/remote.mjs", transport, era, revision })
}

#[tokio::test]
async fn the_whole_conversation_by_default() {
    if let Some(client) = client(Transport::StreamableHttp, None, LEGACY) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_automatically() {
    if let Some(client) = client(Transport::StreamableHttp, Some("auto"), MODERN) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_insisting() {
    if let Some(client) = client(Transport::StreamableHttp, Some(MODERN), MODERN) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_over_http_and_sse() {
    if let Some(client) = client(Transport::HttpAndSse, None, LEGACY) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_over_tls() {
    if let Some(client) = client(Transport::StreamableHttp, Some("auto"), MODERN) {
        converse_over_tls(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_as_described_by_a_document() {
    if let Some(client) = client(Transport::StreamableHttp, Some("auto"), MODERN) {
        converse_as_described(&client).await;
    }
}
