//! Whatever a component does with an HTTP request costs that request, never the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entra_mcp_plugin::gatekeeper::AnswerHead;
use entra_mcp_plugin::{Error, HttpBody, Plugin};
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;

use super::hostile::{answering, builder, http_component, whole_component};

fn request() -> Request<Bytes> {
    Request::get("/mcp").header("host", "localhost").body(Bytes::new()).unwrap()
}

/// Status, `Retry-After`, and text.
async fn parts(response: Response<HttpBody>) -> (u16, Option<String>, String) {
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let retry_after = head.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (head.status.as_u16(), retry_after, text)
}

async fn failed(plugin: &Plugin) {
    let (status, retry_after, text) = parts(plugin.handle_http(request()).await).await;
    assert_eq!((status, retry_after), (500, None));
    assert!(text.starts_with("internal error (correlation id "), "{text}");
}

#[tokio::test]
async fn a_trap_is_answered_and_tells_nothing_but_a_correlation_id() {
    let plugin = builder(http_component("unreachable")).build().unwrap();
    failed(&plugin).await;
    failed(&plugin).await;
}

#[tokio::test]
async fn a_component_that_does_not_answer_is_answered_for() {
    failed(&builder(http_component("nop")).build().unwrap()).await;
}

#[tokio::test]
async fn a_component_that_computes_without_end_is_stopped() {
    failed(&builder(http_component("call $spin")).max_computing_epochs(2).build().unwrap()).await;
}

#[tokio::test]
async fn the_same_holds_for_requests_and_answers_in_one_call() {
    for component in [whole_component("unreachable"), whole_component("call $spin i32.const 0")] {
        let plugin = builder(component).max_computing_epochs(2).build().unwrap();
        failed(&plugin).await;
        failed(&plugin).await;
        assert_eq!((plugin.statistics().trapped, plugin.statistics().idle), (2, 0));
    }
}

#[tokio::test]
async fn an_answer_in_one_call_has_to_be_one() {
    let plugin = builder(answering(404, "x-a:b\r\nconnection:close\r\n", 3)).build().unwrap();
    let answer = plugin.handle_http(request()).await;
    let names: Vec<_> = answer.headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-a", "content-length"]);
    assert_eq!(parts(answer).await, (404, None, "\0\0\0".to_owned()));
    for component in [
        answering(7, "", 0),
        answering(200, "no field", 0),
        answering(200, "a:b\r\nsplit: \n\r\n", 0),
        answering(200, &"a:b\r\n".repeat(300), 0),
        answering(200, "", 2 * 1024 * 1024),
    ] {
        let plugin = builder(component).build().unwrap();
        failed(&plugin).await;
        assert_eq!((plugin.statistics().trapped, plugin.statistics().idle), (1, 0), "the instance is not kept");
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_refused_before_the_component_sees_it() {
    let plugin = builder(http_component("unreachable")).build().unwrap();
    let (status, _, text) = parts(plugin.handle_http(Request::new(Bytes::new())).await).await;
    assert_eq!(status, 400, "{text}");
}

fn busy((status, retry_after, text): (u16, Option<String>, String)) {
    assert_eq!((status, retry_after.as_deref()), (503, Some("1")), "{text}");
}

#[tokio::test]
async fn a_request_that_finds_the_queue_full_is_told_when_to_come_back() {
    let plugin = builder(http_component("call $spin")).max_instances(1).max_queue(0, Duration::from_secs(60));
    let plugin = Arc::new(plugin.build().unwrap());
    let first = tokio::spawn({
        let plugin = Arc::clone(&plugin);
        async move { plugin.handle_http(request()).await }
    });
    tokio::task::yield_now().await;
    busy(parts(plugin.handle_http(request()).await).await);

    first.abort();
    assert!(first.await.is_err());
    // The place of the caller that gave up is free again: this one gets an instance, which computes without end.
    let next = plugin.handle_http(request()).now_or_never();
    assert!(next.is_none());
}

#[tokio::test]
async fn what_a_server_behind_has_answered_is_recorded_while_every_instance_is_busy() {
    let plugin = builder(http_component("call $spin")).max_instances(1).max_queue(0, Duration::from_secs(60));
    let plugin = plugin.build().unwrap();
    let head = AnswerHead { status: 200, latency_us: 7, session_id: None, refusal: None };
    tokio::select! {
        biased;
        _ = plugin.handle_http(request()) => panic!("it computes without end"),
        // This component traps, so it was asked.
        recorded = plugin.answered("handle", &head) => assert!(matches!(recorded, Err(Error::Trapped { .. }))),
    }
}

#[tokio::test]
async fn a_request_that_has_waited_for_too_long_is_told_when_to_come_back() {
    let plugin = builder(http_component("call $spin")).max_instances(1).max_queue(1, Duration::from_millis(10));
    let plugin = plugin.build().unwrap();
    tokio::select! {
        biased;
        _ = plugin.handle_http(request()) => panic!("it computes without end"),
        answer = plugin.handle_http(request()) => busy(parts(answer).await),
    }
}
