//! Graph misbehaves.

use entra_mcp_emulator::{Endpoint, Fault};
use serde_json::{Value, json};

use crate::support::component::{Server, call_tool, tool_error};

/// A server with Alice signed in.
async fn signed_in() -> Server {
    let mut server = Server::new().await;
    server.signed_in_call().await;
    server.control().clear_requests();
    server
}

async fn call(server: &Server) -> Value {
    let flying = server.let_time_fly();
    let answer = server.ask(call_tool(json!({}))).await;
    flying.abort();
    answer["result"].clone()
}

fn me() -> Fault {
    Fault::on(Endpoint::GraphMe)
}

#[tokio::test]
async fn throttling_is_waited_out_as_graph_asks() {
    let server = signed_in().await;
    server.control().inject(me().status(429).header("retry-after", "3"));
    let began = server.now();
    assert_eq!(call(&server).await["isError"], false);
    assert!((server.now() - began).as_secs() >= 3);
    assert_eq!(server.control().request_count(Endpoint::GraphMe), 2);
}

#[tokio::test]
async fn an_unavailable_graph_is_asked_again() {
    let server = signed_in().await;
    server.control().inject(me().status(503));
    assert_eq!(call(&server).await["isError"], false);
    assert_eq!(server.control().request_count(Endpoint::GraphMe), 2);
}

#[tokio::test]
async fn a_graph_that_stays_unavailable_is_reported() {
    let server = signed_in().await;
    server.control().inject(me().status(503).always());
    assert!(tool_error(&call(&server).await).contains("not available now (HTTP status 503)"));
    assert_eq!(server.control().request_count(Endpoint::GraphMe), 4);
}

#[tokio::test]
async fn a_claims_challenge_leads_to_a_new_token_and_one_retry() {
    let server = signed_in().await;
    server.control().challenge_graph(1);
    assert_eq!(call(&server).await["isError"], false);
    assert_eq!(server.control().request_count(Endpoint::GraphMe), 2);
    let requests = server.control().requests(Endpoint::Token);
    assert_eq!(requests.len(), 1);
    let claims = &requests[0].form.iter().find(|(name, _)| name == "claims").unwrap().1;
    assert!(claims.contains("cp1") && claims.contains("nbf"), "{claims}");
}

#[tokio::test]
async fn a_missing_permission_is_reported_with_graphs_code_and_request_id() {
    let server = signed_in().await;
    let body = json!({
        "error": { "code": "Authorization_RequestDenied", "message": "m", "innerError": { "request-id": "r-42" } },
    });
    server.control().inject(me().status(403).body(body.to_string()));
    let result = call(&server).await;
    assert!(tool_error(&result).contains("code Authorization_RequestDenied, request id r-42"), "{result}");
}

#[tokio::test]
async fn malformed_json_is_reported() {
    let server = signed_in().await;
    server.control().inject(me().status(200).body("{\"id\":"));
    assert!(tool_error(&call(&server).await).contains("not JSON of the documented form"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = signed_in().await;
    server.control().inject(me().pad_body(2 * 1024 * 1024));
    assert!(tool_error(&call(&server).await).contains("too large"));
}

#[tokio::test]
async fn a_connection_that_breaks_once_is_not_noticed_and_one_that_always_breaks_is_reported() {
    let server = signed_in().await;
    server.control().inject(me().drop_connection());
    assert_eq!(call(&server).await["isError"], false);
    server.control().inject(me().drop_connection().always());
    let result = call(&server).await;
    assert!(tool_error(&result).contains("cannot be reached"), "{result}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_reported() {
    let server = signed_in().await;
    server.control().inject(me().truncate_body(20).always());
    let result = call(&server).await;
    assert!(tool_error(&result).contains("cannot be reached"), "{result}");
}
