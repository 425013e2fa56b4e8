//! The examples of the library, as the page "Embed the server in a Rust program" shows them.

use std::sync::Arc;

use entra_mcp_plugin::Plugin;
use entra_mcp_plugin::client_credential::ClientSecret;
use entra_mcp_plugin::environment::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::support::component::code_cache;
use crate::support::patience::soon;

#[allow(dead_code, clippy::disallowed_methods, reason = "an example, whose `main` is not called")]
#[path = "../../../../host/plugin/examples/axum.rs"]
mod behind_axum;
#[allow(dead_code, clippy::disallowed_methods, reason = "an example, whose `main` is not called")]
#[path = "../../../../host/plugin/examples/stdio.rs"]
mod on_standard_streams;

const ID: &str = "00000000-0000-4000-a000-000000000001";

#[tokio::test]
async fn the_example_on_standard_streams_answers_a_client_until_it_leaves() {
    let plugin = Plugin::builder(Settings::local(ID, ID)).code_cache(code_cache()).build().unwrap();
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (input, output) = tokio::io::split(server);
    let talk = async {
        let (answers, mut requests) = tokio::io::split(client);
        let initialize = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": { "name": "test", "version": "1" },
            },
        });
        requests.write_all(format!("{initialize}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        BufReader::new(answers).read_line(&mut answer).await.unwrap();
        requests.shutdown().await.unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let served = on_standard_streams::serve(plugin, BufReader::new(input), output);
    let (served, answer) = soon(async { tokio::join!(served, talk) }).await.unwrap();
    served.unwrap();
    assert_eq!((&answer["id"], &answer["result"]["protocolVersion"]), (&json!(1), &json!("2025-06-18")));
}

#[tokio::test]
async fn the_example_behind_axum_says_where_its_clients_get_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let settings = Settings::remote(ID, ID, &origin).unwrap();
    let secret = Arc::new(ClientSecret::File(secret));
    let plugin = Plugin::builder(settings).client_credential(secret).code_cache(code_cache()).build().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, behind_axum::router(plugin)).await });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = client.get(format!("{origin}/.well-known/oauth-protected-resource/mcp")).send();
    let answer = soon(ask).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let document: Value = answer.json().await.unwrap();
    assert_eq!(document["resource"], format!("{origin}/mcp"));
    let refused = soon(client.post(format!("{origin}/mcp")).body("{}").send()).await.unwrap().unwrap();
    assert_eq!(refused.status(), 401);
    server.abort();
}
