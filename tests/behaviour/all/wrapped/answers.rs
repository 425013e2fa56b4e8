//! What clients get of the answers of the tool.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{ALICE, call_of, host, request, send};
use crate::support::patience::soon;
use crate::tools::mail::bearer;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_the_client_before_the_tool_has_written_the_next() {
    // It answers the tool after the client has read the first event.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let egress: &'static str = format!("[{{\"to\": \"{origin}\", \"token\": \"none\"}}]").leak();
    let host = host(1, &[("ENTRA_MCP_EGRESS", egress)]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let message = call_of("stream", json!({ "url": format!("{origin}/wait") }));
    let mut response = request(&host.public_url, &token, &message).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut read = String::new();
    while !read.contains("\n\n") {
        let chunk = response.chunk().await.expect("bytes").expect("the first event");
        read.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(read.contains("\"first\""), "{read}");
    let (id, _) = read.strip_prefix("id: ").and_then(|rest| rest.split_once('\n')).unwrap_or_else(|| panic!("{read}"));
    assert!(id.ends_with(".event-1") && id.len() > ".event-1".len(), "the id is tied to the caller: {id}");
    let (mut tool, _) = listener.accept().await.expect("the tool asks");
    let mut head = [0; 1024];
    let length = tool.read(&mut head).await.expect("a request");
    assert!(!String::from_utf8_lossy(&head[..length]).to_lowercase().contains("authorization"));
    tool.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone").await.expect("written");
    while let Some(chunk) = response.chunk().await.expect("bytes") {
        read.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(read.contains("\\\"done\\\"") || read.contains("\"done\""), "{read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_sets_no_cookie_and_leads_nowhere_and_its_session_id_is_sealed() {
    let host = host(1, &[]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let response = request(&host.public_url, &token, &call_of("bad_head", json!({}))).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    for absent in ["set-cookie", "location", "access-control-allow-origin"] {
        assert!(!response.headers().contains_key(absent), "{absent}");
    }
    let session = response.headers()["mcp-session-id"].to_str().expect("a text");
    assert!(!session.contains("session-of-the-tool"), "{session}");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_does_not_answer_is_a_502_and_recorded() {
    let host = host(1, &[]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let (status, _) = send(&host.public_url, &token, &call_of("silent", json!({}))).await;
    assert_eq!(status, 502);
    let log = host.log();
    let record = log.lines().find(|line| line.starts_with('{') && line.contains("\"tool.called\""));
    assert!(record.is_some_and(|record| record.contains("\"failure\"")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_too_early_does_not_look_whole() {
    let host = host(1, &[]).await;
    let token = bearer(&host.emulator, ALICE).await;
    let read = async {
        let response = request(&host.public_url, &token, &call_of("unfinished", json!({}))).send().await?;
        response.bytes().await
    };
    let read = soon(read).await.expect("it ends");
    assert!(read.is_err(), "{read:?}");
}
