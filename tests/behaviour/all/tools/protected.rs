//! `docs/src/tutorials/protect-a-server.md`: its five lines protect a server that knows nothing of Entra ID.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};

use crate::host::records::{ALICE, Site};
use crate::support::component::modern;
use crate::support::session::sign_in;
use crate::support::tests_dir;

/// The header fields of each request that reached the server.
type Seen = Arc<Mutex<Vec<HeaderMap>>>;

/// An MCP server with one tool; returns its address.
async fn server(seen: Seen) -> String {
    async fn answer(
        State(seen): State<Seen>,
        headers: HeaderMap,
        body: String,
    ) -> ([(&'static str, &'static str); 1], String) {
        seen.lock().unwrap().push(headers);
        let message: Value = serde_json::from_str(&body).unwrap();
        let result = json!({ "resultType": "complete", "content": [{ "type": "text", "text": "from behind" }] });
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        ([("content-type", "application/json")], answer.to_string())
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/mcp", post(answer)).with_state(seen);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}/mcp")
}

/// The configurations of the page, in their order.
fn configurations() -> Vec<String> {
    let page =
        fs::read_to_string(tests_dir().join("../docs/src/tutorials/protect-a-server.md")).expect("the page is there");
    let blocks = page.split("```toml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

async fn call(site: &Site, token: Option<&str>, tool: &str) -> (u16, Value) {
    let mut request = reqwest::Client::new()
        .post(site.server.at("/mcp"))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .json(&modern("tools/call", json!({ "name": tool, "arguments": {} }), json!({})));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn five_lines_protect_a_server_and_a_rule_restricts_one_of_its_tools() {
    let seen = Seen::default();
    let url = server(Arc::clone(&seen)).await;
    let [protected, restricted]: [String; 2] = configurations().try_into().expect("the page has two configurations");
    assert_eq!(protected.lines().count(), 5, "{protected}");
    // The directory and the application come from the emulator, by flags.
    let lines = protected.lines().filter(|line| !line.starts_with("tenant-id") && !line.starts_with("client-id"));
    let config = format!("{}\n{restricted}", lines.collect::<Vec<_>>().join("\n"));
    let config = config.replace("http://127.0.0.1:8000/mcp", &url);
    let site = Site::new(|folder| {
        let file = folder.path().join("entra-mcp.toml");
        fs::write(&file, config).unwrap();
        vec!["--config".to_owned(), file.display().to_string()]
    })
    .await;

    let (status, _) = call(&site, None, "read_record").await;
    assert_eq!(status, 401);
    assert!(seen.lock().unwrap().is_empty(), "a request without a caller reached the server");

    let token = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
    let (status, answer) = call(&site, Some(&token), "read_record").await;
    assert_eq!((status, &answer["result"]["content"][0]["text"]), (200, &json!("from behind")), "{answer}");
    let (_, answer) = call(&site, Some(&token), "delete_record").await;
    assert_eq!(answer["result"]["isError"], true, "a caller without the role was served: {answer}");

    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1, "the refused call reached the server");
    assert!(seen.iter().all(|headers| !headers.contains_key("authorization")));
}
