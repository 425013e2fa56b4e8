//! Tool components that serve their callers: many at once, and as whole MCP servers.

use bytes::Bytes;
use entra_mcp_plugin::tool_components::{ServeError, Shape};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::*;
use crate::support::tool_components::{HOSTILE, HTTP_SERVER, HTTP_SERVICE};

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

/// The body of an answer, as JSON.
async fn served(tools: &ToolComponents, server: &str, of: &str, tool: &str, arguments: Value) -> Value {
    let request = message("tools/call", &json!({ "name": tool, "arguments": arguments }));
    let answer = tools.serve(server, request, of).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Value>(&body).unwrap()["result"]["structuredContent"].clone()
}

#[tokio::test]
async fn a_whole_server_answers_and_sees_no_token_of_its_client() {
    for server in [HTTP_SERVER, HTTP_SERVICE] {
        let api = Api::default();
        let tools = loaded(settings(server, &api.start().await));
        assert_eq!(tools.shape(server), Some(Shape::Http));
        let body = served(&tools, server, "alice", "headers", json!({})).await.to_string();
        assert!(body.contains("content-type") && !body.contains("of-the-client"), "{server}: {body}");
    }
}

#[tokio::test]
async fn a_whole_server_is_bounded_too() {
    for server in [HTTP_SERVER, HTTP_SERVICE] {
        let api = Api::default();
        let settings = ToolComponentSettings { max_answer_bytes: 10, ..settings(server, &api.start().await) };
        let tools = loaded(settings);
        let answer = tools.serve(server, message("tools/list", &json!({})), "alice").await.unwrap();
        let error = answer.into_body().collect().await.unwrap_err();
        assert!(matches!(error, ServeError::TooLarge(10)), "{server}: {error:?}");
        assert!(matches!(tools.list_tools(server).await, Err(ProviderError::Unavailable(_))));
    }
}

#[tokio::test]
async fn a_whole_server_reaches_no_other_place_and_sends_no_token_of_its_own() {
    for server in [HTTP_SERVER, HTTP_SERVICE] {
        let api = Api::default();
        let origin = api.start().await;
        let tools = loaded(settings(server, &origin));
        let port = origin.rsplit_once(':').unwrap().1;
        for url in [
            "https://evil.example/v1/hello".to_owned(),
            origin.replace("http:", "https:") + "/v1/hello",
            format!("http://localhost:{port}/v1/hello"),
            format!("{origin}/v2/hello"),
            format!("{origin}/v1/%2e%2e/v2"),
        ] {
            let report = served(&tools, server, "alice", "fetch", json!({ "url": url })).await;
            assert_eq!(report["refused"], "HttpRequestDenied", "{server}, {url}: {report}");
        }
        assert!(api.seen().is_empty());
        let url = format!("{origin}/v1/hello");
        let headers = json!([["Authorization", "Bearer of-another"], ["cookie", "session=of-another"]]);
        let report = served(&tools, server, "alice", "fetch", json!({ "url": url, "headers": headers })).await;
        assert_eq!(report["body"], "hello", "{server}: {report}");
        let authorization = Some(format!("Bearer {}", token_of("alice")));
        assert_eq!(api.seen(), [("GET".to_owned(), "/v1/hello".to_owned(), authorization)]);
        // The answer repeats the token, and the component does not get it.
        let url = format!("{origin}/v1/echo");
        let report = served(&tools, server, "alice", "fetch", json!({ "url": url })).await;
        assert!(!report.to_string().contains(&token_of("alice")), "{server}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_calls_at_the_same_time_never_get_the_token_of_another_call() {
    const CALLS: usize = 16;
    const TASKS: usize = 8;
    let api = Api::default();
    let origin = api.start().await;
    let tools = loaded(settings(HTTP_SERVICE, &origin));
    for _ in 0..4 {
        let calls = (0..CALLS).map(|number| {
            let of = if number % 2 == 0 { "alice" } else { "bob" };
            let urls: Vec<String> = (0..TASKS).map(|task| format!("{origin}/v1/of/{of}/{number}/{task}")).collect();
            let tools = Arc::clone(&tools);
            tokio::spawn(async move { served(&tools, HTTP_SERVICE, of, "together", json!({ "urls": urls })).await })
        });
        for call in calls.collect::<Vec<_>>() {
            let answers = call.await.unwrap();
            assert_eq!(answers.as_array().map(Vec::len), Some(TASKS), "{answers}");
            assert!(answers.as_array().unwrap().iter().all(|answer| answer["body"] == "hello"), "{answers}");
        }
        let seen = api.seen();
        assert_eq!(seen.len(), CALLS * TASKS);
        for (_, path, authorization) in seen {
            let of = path.split('/').nth(3).unwrap();
            assert_eq!(authorization, Some(format!("Bearer {}", token_of(of))), "{path}");
        }
    }
}

#[tokio::test]
async fn more_requests_than_may_be_on_their_way_are_sent_one_after_another() {
    let api = Api::default();
    let origin = api.start().await;
    let tools = loaded(settings(HTTP_SERVICE, &origin));
    let urls = vec![format!("{origin}/v1/hello"); 100];
    let answers = served(&tools, HTTP_SERVICE, "alice", "together", json!({ "urls": urls })).await;
    assert!(answers.as_array().unwrap().iter().all(|answer| answer["body"] == "hello"), "{answers}");
    // Too many wait: what is refused is told at once, and the others are not touched by it.
    let urls = vec![format!("{origin}/v1/hello"); 400];
    let answers = served(&tools, HTTP_SERVICE, "alice", "together", json!({ "urls": urls })).await;
    let refused = answers.as_array().unwrap().iter().filter(|answer| answer["refused"] == "ConnectionLimitReached");
    let refused = refused.count();
    assert!((1..400).contains(&refused), "{refused}");
    let sent = answers.as_array().unwrap().iter().filter(|answer| answer["body"] == "hello").count();
    assert_eq!(refused + sent, 400);
}

#[tokio::test]
async fn an_answer_that_never_ends_is_no_whole_answer() {
    let api = Api::default();
    let limits = ToolComponentSettings {
        max_time: std::time::Duration::from_millis(500),
        ..settings(HTTP_SERVICE, &api.start().await)
    };
    let tools = loaded(limits);
    let request = message("tools/call", &json!({ "name": "unended", "arguments": {} }));
    let answer = tools.serve(HTTP_SERVICE, request, "alice").await.unwrap();
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(matches!(error, ServeError::TimedOut), "{error:?}");
}

#[tokio::test]
async fn a_component_of_wasi_0_3_has_nothing_but_its_requests_and_the_configured_variables() {
    let api = Api::default();
    let variables = vec![("LEVEL".to_owned(), "debug".to_owned())];
    let tools = loaded(ToolComponentSettings { variables, ..settings(HTTP_SERVICE, &api.start().await) });
    let report = served(&tools, HTTP_SERVICE, "alice", "surroundings", json!({})).await;
    // An interface for names says so in its own way.
    let denied = [("tcp", "AccessDenied"), ("udp", "AccessDenied"), ("names", "PermanentResolverFailure")];
    for (attempt, error) in denied {
        assert_eq!(report[attempt], format!("ErrorCode::{error}"), "{attempt}: {report}");
    }
    assert_eq!((&report["folders"], &report["variables"]), (&json!(0), &json!([["LEVEL", "debug"]])));
}

#[tokio::test]
async fn a_component_of_wasi_0_3_sees_whole_milliseconds() {
    let api = Api::default();
    let tools = loaded(settings(HTTP_SERVICE, &api.start().await));
    assert_coarse(&served(&tools, HTTP_SERVICE, "alice", "clocks", json!({})).await);
}

#[tokio::test]
async fn a_component_of_wasi_0_3_that_runs_away_is_ended() {
    let api = Api::default();
    let limits = ToolComponentSettings {
        max_time: std::time::Duration::from_millis(500),
        max_memory_bytes: 16 * 1024 * 1024,
        ..settings(HTTP_SERVICE, &api.start().await)
    };
    let tools = loaded(limits);
    let called = |tool| tools.serve(HTTP_SERVICE, message("tools/call", &json!({ "name": tool })), "alice");
    let looping = called("loop").await.unwrap_err();
    assert!(matches!(looping, ServeError::TimedOut), "{looping:?}");
    let hoarding = called("hoard").await.unwrap_err();
    assert!(matches!(&hoarding, ServeError::Ended(reason) if reason.contains("more memory")), "{hoarding:?}");
    assert!(called("headers").await.is_ok());
}
