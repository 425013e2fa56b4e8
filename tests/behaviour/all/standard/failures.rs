//! What does not work is refused, and said.

use std::fs;

use super::host::{Options, StockHost};
use super::session::{ALICE, call, caller};
use crate::support::session;

async fn get(host: &StockHost, path: &str) -> (u16, String) {
    let response = reqwest::get(format!("{}{path}", host.public_url)).await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.text().await.expect("a body"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_ready_if_its_folder_can_be_written_and_says_what_is_wrong_if_not() {
    let host = StockHost::start(Options::default()).await;
    assert_eq!(get(&host, "/readyz").await, (200, "ready".to_owned()));
    assert_eq!(host.log(), "");

    let host = StockHost::start(Options { read_only: true, ..Options::default() }).await;
    assert_eq!(get(&host, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(get(&host, "/readyz").await, (503, "The secret store cannot be written now".to_owned()));
    let log = host.log();
    let named = "entra-mcp: the records in /records (ENTRA_MCP_STORE) are unavailable: cannot make /records/";
    assert!(log.starts_with(named), "{log}");

    let elsewhere = &[("ENTRA_MCP_STORE", "/elsewhere")];
    let host = StockHost::start(Options { variables: elsewhere, ..Options::default() }).await;
    assert_eq!(get(&host, "/readyz").await.0, 503);
    let log = host.log();
    assert!(log.contains("the folder does not exist, or is not granted"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_valid_settings_nothing_is_served_and_the_variable_is_named() {
    for (name, value, said) in [
        ("ENTRA_MCP_TENANT_ID", "", "ENTRA_MCP_TENANT_ID is not set"),
        ("ENTRA_MCP_STORE_KEY", "short", "ENTRA_MCP_STORE_KEY is not accepted: 32 random bytes"),
        ("ENTRA_MCP_TLS_CERT", "cert.pem", "ENTRA_MCP_TLS_CERT has no effect in entra_mcp.standard.wasm: unset it"),
    ] {
        let variables: &'static [_] = vec![(name, value)].leak();
        let host = StockHost::start(Options { variables, ..Options::default() }).await;
        assert_eq!(get(&host, "/healthz").await.0, 500, "{name}");
        let log = host.log();
        assert!(log.starts_with("entra-mcp cannot start: ") && log.contains(said), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_altered_opens_nothing() {
    let host = StockHost::start(Options::default()).await;
    let session = session::sign_in(&host.public_url, "/mcp", ALICE).await;
    assert_eq!(caller(&host.public_url, &session.access_token).await, ALICE);
    let files = host.files();
    for (path, bytes) in &files {
        let mut altered = bytes.clone();
        if let Some(last) = altered.last_mut() {
            *last ^= 1;
        }
        fs::write(path, altered).expect("the file can be written");
    }
    let (status, _) = call(&host.public_url, &session.access_token).await;
    assert_eq!(status, 401, "a session whose record does not open is none");
    for (path, bytes) in &files {
        fs::write(path, bytes).expect("the file can be written");
    }
    assert_eq!(caller(&host.public_url, &session.access_token).await, ALICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_documents_of_clients_are_not_read() {
    let host = StockHost::start(Options::default()).await;
    let (status, metadata) = get(&host, "/.well-known/oauth-authorization-server").await;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
    assert_eq!(status, 200);
    assert_ne!(metadata["client_id_metadata_document_supported"], true);
    let client = "https%3A%2F%2Fclient.example.com%2Fmetadata.json";
    let redirect = "https%3A%2F%2Fclient.example.com%2Fcallback";
    let (status, _) =
        get(&host, &format!("/authorize?response_type=code&client_id={client}&redirect_uri={redirect}")).await;
    assert_eq!(status, 400);
}
