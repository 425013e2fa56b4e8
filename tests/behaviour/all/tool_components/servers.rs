//! Tool components that serve their callers: many at once, and as whole MCP servers.

use bytes::Bytes;
use entra_mcp_plugin::tool_components::{ServeError, Shape};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::*;
use crate::support::tool_components::{HOSTILE, HTTP_SERVER};

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_never_get_each_others_tokens() {
    for reuse in [false, true] {
        let api = Api::default();
        let origin = api.start().await;
        let tools = loaded(ToolComponentSettings { reuse, ..settings(HOSTILE, &origin) });
        let calls = (0..50).map(|number| {
            let (tools, path) = (Arc::clone(&tools), format!("/v1/of/{number}"));
            let arguments = json!({ "url": format!("{origin}{path}") });
            tokio::spawn(async move { report(&tools, HOSTILE, "fetch", &number.to_string(), &arguments).await })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap()["body"], "hello");
        }
        let seen = api.seen();
        assert_eq!(seen.len(), 50);
        for (_, path, authorization) in seen {
            let caller = path.trim_start_matches("/v1/of/");
            assert_eq!(authorization, Some(format!("Bearer {}", token_of(caller))));
        }
    }
}

fn message(method: &str, params: &Value) -> http::Request<Bytes> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let request = http::Request::post("/mcp").header("content-type", "application/json");
    request.header("authorization", "Bearer of-the-client").body(body.to_string().into()).unwrap()
}

#[tokio::test]
async fn a_whole_server_answers_and_sees_no_token_of_its_client() {
    let api = Api::default();
    let tools = loaded(settings(HTTP_SERVER, &api.start().await));
    assert_eq!(tools.shape(HTTP_SERVER), Some(Shape::Http));
    let request = message("tools/call", &json!({ "name": "headers", "arguments": {} }));
    let answer = tools.serve(HTTP_SERVER, request, "alice").await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(body.contains("content-type") && !body.contains("of-the-client"), "{body}");
}

#[tokio::test]
async fn a_whole_server_is_bounded_too() {
    let api = Api::default();
    let settings = ToolComponentSettings { max_answer_bytes: 10, ..settings(HTTP_SERVER, &api.start().await) };
    let tools = loaded(settings);
    let answer = tools.serve(HTTP_SERVER, message("tools/list", &json!({})), "alice").await.unwrap();
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(matches!(error, ServeError::TooLarge(10)), "{error:?}");
    assert!(matches!(tools.list_tools(HTTP_SERVER).await, Err(ProviderError::Unavailable(_))));
}
