//! The tools of `tests/tools/components/hostile.rs`: each tries what has to be denied.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use entra_mcp_plugin::outbound_http::{OutboundHttp, OutboundPolicy, Resolve};
use serde_json::json;

use super::*;
use crate::support::tool_components::{HOSTILE, SOCKETS};

const TOO_MUCH: usize = 10_000;

/// In nanoseconds: the finest time that a tool sees.
const MILLISECOND: u64 = 1_000_000;

/// The hostile tools, the API that they may use, and its origin.
async fn hostile(change: impl FnOnce(&mut ToolComponentSettings)) -> (Arc<ToolComponents>, Api, String) {
    let api = Api::default();
    let origin = api.start().await;
    let mut settings = settings(HOSTILE, &origin);
    change(&mut settings);
    (loaded(settings), api, origin)
}

async fn alone() -> (Arc<ToolComponents>, Api, String) {
    hostile(|_| ()).await
}

async fn attack(tools: &ToolComponents, tool: &str, arguments: Value) -> Value {
    report(tools, HOSTILE, tool, "alice", &arguments).await
}

async fn fails(tools: &ToolComponents, tool: &str, arguments: Value) -> ProviderError {
    call(tools, HOSTILE, tool, "alice", &arguments).await.unwrap_err()
}

#[tokio::test]
async fn requests_to_other_places_are_denied() {
    let (tools, api, origin) = alone().await;
    let port = origin.rsplit_once(':').unwrap().1;
    for url in [
        "https://evil.example/v1/hello".to_owned(),
        origin.replace("http:", "https:") + "/v1/hello",
        "http://127.0.0.1:1/v1/hello".to_owned(),
        format!("http://localhost:{port}/v1/hello"),
        format!("http://127.0.0.2:{port}/v1/hello"),
        format!("http://2130706433:{port}/v1/hello"),
        format!("http://user@127.0.0.1:{port}/v1/hello"),
        "http://169.254.169.254/metadata/identity".to_owned(),
        "http://[::1]/".to_owned(),
        format!("{origin}/v2/hello"),
        format!("{origin}/v10"),
        format!("{origin}/v1/../v2"),
        format!("{origin}/v1/%2e%2e/v2"),
        format!("{origin}/v1/..%2fv2"),
    ] {
        let report = attack(&tools, "fetch", json!({ "url": url })).await;
        assert_eq!(report["refused"], "HttpRequestDenied", "{url}: {report}");
    }
    for method in ["TRACE", "CONNECT", "trace", "TRACK"] {
        let report = attack(&tools, "fetch", json!({ "url": format!("{origin}/v1/hello"), "method": method })).await;
        assert_eq!(report["refused"], "HttpRequestDenied", "{method}: {report}");
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_after_its_first_request_is_denied() {
    let api = Api::default();
    let origin = api.start().await.replace("127.0.0.1", "localhost");
    let elsewhere = ["10.0.0.1", "169.254.169.254", "8.8.8.8", "::ffff:10.0.0.1"];
    let answers: VecDeque<IpAddr> = ["127.0.0.1"].iter().chain(&elsewhere).map(|text| text.parse().unwrap()).collect();
    let answers = Arc::new(Mutex::new(answers));
    let left = Arc::clone(&answers);
    let resolve: Resolve = Arc::new(move |name| {
        assert_eq!(name, "localhost");
        let next = answers.lock().unwrap().pop_front().expect("one look-up for each request");
        Box::pin(std::future::ready(Ok(vec![SocketAddr::new(next, 0)])))
    });
    let http = OutboundHttp::new(OutboundPolicy::new([origin.as_str()]).unwrap(), None).unwrap().resolving(resolve);
    let tools = Arc::new(builder().outbound(Arc::new(http)).load(vec![settings(HOSTILE, &origin)]).unwrap());
    let url = json!({ "url": format!("{origin}/v1/last") });
    assert_eq!(attack(&tools, "fetch", url.clone()).await["body"], "hello");
    for address in elsewhere {
        let report = attack(&tools, "fetch", url.clone()).await;
        assert_eq!(report["refused"], "DestinationIpProhibited", "{address}: {report}");
    }
    assert_eq!((api.seen().len(), left.lock().unwrap().len()), (1, 0), "what is checked is what is used");
}

#[tokio::test]
async fn many_requests_of_one_call_are_bounded_and_all_carry_its_token() {
    let (tools, api, origin) = alone().await;
    let report = attack(&tools, "fetch_many", json!({ "url": format!("{origin}/v1/hello"), "times": 400 })).await;
    let answers = report["answers"].as_array().unwrap();
    let refused = answers.iter().filter(|answer| answer["refused"] == "ConnectionLimitReached").count();
    let sent = answers.iter().filter(|answer| answer["body"] == "hello").count();
    assert_eq!(refused + sent, 400, "{report}");
    assert!(refused > 0 && sent > 0, "{refused}");
    let (seen, alices) = (api.seen(), Some(format!("Bearer {}", token_of("alice"))));
    assert!(seen.len() == sent && seen.iter().all(|(_, _, token)| *token == alices), "{} of {sent}", seen.len());
}

#[tokio::test]
async fn requests_that_are_dropped_take_no_place_from_later_ones() {
    let (tools, api, origin) = alone().await;
    let url = format!("{origin}/v1/hello");
    for _ in 0..3 {
        let report = attack(&tools, "abandon", json!({ "url": url, "times": 1000 })).await;
        assert_eq!(report["started"], 1000, "{report}");
    }
    let report = attack(&tools, "fetch_many", json!({ "url": url, "times": 16 })).await;
    assert!(report["answers"].as_array().unwrap().iter().all(|answer| answer["body"] == "hello"), "{report}");
    let alices = Some(format!("Bearer {}", token_of("alice")));
    assert!(api.seen().iter().all(|(_, _, token)| *token == alices));
}

#[tokio::test]
async fn a_request_carries_the_token_of_its_caller_and_nothing_that_the_tool_says() {
    let (tools, api, origin) = alone().await;
    let url = format!("{origin}/v1/hello");
    let arguments = json!({ "url": url, "headers": [["authorization", "Bearer stolen"], ["cookie", "a=b"]] });
    assert_eq!(attack(&tools, "fetch", arguments).await["body"], "hello");
    let expected = Some(format!("Bearer {}", token_of("alice")));
    assert_eq!(api.seen(), [("GET".to_owned(), "/v1/hello".to_owned(), expected.clone())]);
    attack(&tools, "impersonate", json!({ "url": url, "as": "bob" })).await;
    let seen = api.seen();
    assert!(!seen.is_empty() && seen.iter().all(|(_, _, authorization)| *authorization == expected), "{seen:?}");
}

#[tokio::test]
async fn an_echo_does_not_tell_the_token() {
    let (tools, api, origin) = alone().await;
    let report = attack(&tools, "fetch", json!({ "url": format!("{origin}/v1/echo") })).await;
    assert_eq!((&report["refused"], api.seen().len()), (&json!("body"), 1));
    assert!(!report.to_string().contains(&token_of("alice")), "{report}");
}

#[tokio::test]
async fn redirects_lead_nowhere_else() {
    let (tools, api, origin) = alone().await;
    let report = attack(&tools, "follow", json!({ "url": format!("{origin}/v1/away") })).await;
    assert_eq!(
        (&report["answers"][0]["status"], &report["answers"][1]["refused"]),
        (&json!(302), &json!("HttpRequestDenied"))
    );
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn nothing_is_kept_for_the_next_caller() {
    for reuse in [false, true] {
        let (tools, api, origin) = hostile(|settings| settings.reuse = reuse).await;
        let url = json!({ "url": format!("{origin}/v1/hello") });
        for (keep, use_kept) in [("keep_request", "send_kept_request"), ("keep_answer", "read_kept_answer")] {
            assert_eq!(attack(&tools, keep, url.clone()).await["kept"], true, "{keep}");
            let report = report(&tools, HOSTILE, use_kept, "bob", &json!({})).await;
            assert_eq!(report, json!({ "kept": false }), "{use_kept}, reuse: {reuse}");
        }
        let bobs =
            api.seen().into_iter().filter(|(_, _, token)| token.as_ref().is_some_and(|token| token.contains("bob")));
        assert_eq!(bobs.count(), 0);
    }
}

#[tokio::test]
async fn calls_share_memory_only_where_reuse_is_allowed() {
    for (reuse, expected) in [(false, json!([])), (true, json!(["secret"]))] {
        let (tools, ..) = hostile(|settings| settings.reuse = reuse).await;
        attack(&tools, "remember", json!({ "text": "secret" })).await;
        assert_eq!(attack(&tools, "remember", json!({})).await["remembered"], expected);
    }
}

#[tokio::test]
async fn what_runs_away_is_ended_and_the_next_call_is_unaffected() {
    let (tools, _api, origin) = hostile(|settings| {
        settings.max_time = Duration::from_secs(1);
        settings.max_memory_bytes = 16 * 1024 * 1024;
    })
    .await;
    for (tool, arguments) in [("spin", json!({})), ("wait", json!({ "milliseconds": 3_600_000 }))] {
        let error = fails(&tools, tool, arguments).await;
        assert!(matches!(error, ProviderError::TimedOut), "{tool}: {error:?}");
    }
    for tool in ["recurse", "trap", "exit"] {
        let error = fails(&tools, tool, json!({})).await;
        assert!(matches!(error, ProviderError::Ended(_)), "{tool}: {error:?}");
    }
    let report = attack(&tools, "memory", json!({ "mib": 4096 })).await;
    assert!(report["refused"] == true && report["mib"].as_u64().unwrap() < 16, "{report}");
    let error = fails(&tools, "large_answer", json!({ "kib": 2048 })).await;
    assert!(matches!(error, ProviderError::OverBytes(1_048_576)), "{error:?}");
    let report = attack(&tools, "fetch", json!({ "url": format!("{origin}/v1/hello") })).await;
    assert_eq!(report["body"], "hello");
}

#[tokio::test]
async fn too_many_fields_and_endless_bodies_are_refused() {
    let (tools, api, origin) = alone().await;
    let url = format!("{origin}/v1/hello");
    for (tool, arguments) in [
        ("many_headers", json!({ "url": url, "count": TOO_MUCH })),
        ("long_header", json!({ "url": url, "bytes": 1024 * 1024 })),
    ] {
        match call(&tools, HOSTILE, tool, "alice", &arguments).await {
            Ok(Content::Json(report)) => assert!(report.contains("refused"), "{tool}: {report}"),
            Err(ProviderError::Ended(_)) => {}
            other => panic!("{tool}: {other:?}"),
        }
    }
    let report = attack(&tools, "endless_upload", json!({ "url": url })).await;
    assert!(report["written"].as_u64().unwrap() <= 4 * 1024 * 1024, "{report}");
    assert!(!report["answer"]["refused"].is_null(), "{report}");
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn there_are_no_variables_folders_input_or_fine_clocks() {
    let (tools, ..) = hostile(|settings| settings.variables = vec![("TZ".to_owned(), "UTC".to_owned())]).await;
    let report = attack(&tools, "variables", json!({})).await;
    assert_eq!(report["variables"], json!([["TZ", "UTC"]]));
    let report = attack(&tools, "folders", json!({})).await;
    assert_eq!(report["preopened"], 0);
    assert!(!report.to_string().contains("\"found\":"), "{report}");
    assert_eq!(attack(&tools, "read_input", json!({})).await["text"], "");
    let report = attack(&tools, "clocks", json!({})).await;
    assert_eq!(report["monotonic-resolution-nanoseconds"], MILLISECOND, "{report}");
    let steps = report["steps-nanoseconds"].as_array().unwrap();
    assert_eq!(steps.len(), 5);
    for shown in steps.iter().chain([&report["wall-nanoseconds"]]) {
        assert_eq!(shown.as_u64().unwrap() % MILLISECOND, 0, "{report}");
    }
}

#[tokio::test]
async fn sockets_are_denied() {
    let api = Api::default();
    let origin = api.start().await;
    let tools = loaded(settings(SOCKETS, &origin));
    let address = origin.trim_start_matches("http://");
    let report = report(&tools, SOCKETS, "sockets", "alice", &json!({ "address": address })).await;
    for attempt in ["connect", "listen", "datagram", "resolve"] {
        assert!(report[attempt]["refused"].is_string(), "{attempt}: {report}");
    }
}
