//! Batches that take more memory to read than an instance has.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::component::{Connection, Server};

/// Two million messages of one digit, in four megabytes.
fn huge_batch() -> Value {
    Value::Array(vec![json!(1); 2_000_000])
}

async fn connection(server: &Server, version: &str) -> Arc<Connection> {
    let connection = Arc::default();
    let params = json!({ "protocolVersion": version, "capabilities": {} });
    let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    server.send(&connection, message).await.unwrap().unwrap();
    connection
}

#[tokio::test]
async fn a_huge_batch_is_answered_and_the_next_message_too() {
    let server = Server::new().await;
    for (version, code) in [("2025-03-26", -32603), ("2025-11-25", -32600)] {
        let connection = connection(&server, version).await;
        let answer = server.send(&connection, huge_batch()).await.unwrap().unwrap();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &Value::Null), "{version}");
        let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        assert_eq!(server.send(&connection, ping).await.unwrap().unwrap()["result"], json!({}));
    }
}
