//! PyPI `mcp`: the Python SDK.

use super::conversation::{Client, Transport, converse, converse_as_described};
use crate::clients::scenarios::{LEGACY, MODERN};
use crate::support::tools;

fn client(transport: Transport, era: Option<&'static str>, revision: &'static str) -> Option<Client> {
    let program = tools::python()?;
    Some(Client { program, script: "mcp-python/remote.py", transport, era, revision })
}

#[tokio::test]
async fn the_whole_conversation_by_default() {
    if let Some(client) = client(Transport::StreamableHttp, None, MODERN) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_with_initialize() {
    if let Some(client) = client(Transport::StreamableHttp, Some("legacy"), LEGACY) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_over_http_and_sse() {
    // The SDK asks in the newest revision over any transport, and the server answers in it.
    if let Some(client) = client(Transport::HttpAndSse, None, MODERN) {
        converse(&client).await;
    }
}

#[tokio::test]
async fn the_whole_conversation_as_described_by_a_document() {
    if let Some(client) = client(Transport::StreamableHttp, None, MODERN) {
        converse_as_described(&client).await;
    }
}
