use std::sync::Arc;

use http_body_util::BodyExt as _;

use super::*;
use crate::audit::MemoryAudit;
use crate::clock::ManualClock;
use crate::environment::{Settings, TokenMode};
use crate::random::{NoRandomness, Random};

const ID: &str = "00000000-0000-0000-0000-000000000001";

/// Makes the ids of two components the same.
struct Sevens;

impl Random for Sevens {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        bytes.fill(7);
        Ok(())
    }
}

fn plugin() -> Plugin {
    let mut settings = Settings::remote(ID, ID, "https://mcp.example.com").unwrap();
    settings.token.audiences.push(ID.to_owned());
    let http = settings.http.as_mut().unwrap();
    http.public_url.push_str("/base");
    (http.legacy_sse, http.token_mode) = (true, TokenMode::Both);
    http.client_address_header = Some("x-client-address".to_owned());
    let builder = Plugin::builder(settings).random(Arc::new(Sevens)).audit(Arc::new(MemoryAudit::default()));
    builder.clock(Arc::new(ManualClock::new(1_800_000_000))).build().unwrap()
}

fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Request<Bytes> {
    let mut request = Request::builder().method(method).uri(target);
    if !fields.iter().any(|(name, _)| *name == "host") && target.starts_with('/') {
        request = request.header(HOST, "mcp.example.com");
    }
    for (name, value) in fields {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// What is asked in both ways.
fn requests() -> Vec<Request<Bytes>> {
    let json = ("content-type", "application/json");
    let both = ("accept", "application/json, text/event-stream");
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let token = ("authorization", "Bearer made-up");
    let address = ("x-client-address", "192.0.2.7");
    let mut requests = vec![
        request("GET", "/base/", &[], ""),
        request("GET", "/base/healthz", &[], "a body that is not looked at"),
        request("HEAD", "/base/healthz", &[], ""),
        request("HEAD", "/base/nothing", &[], ""),
        request("GET", "/base/nothing?a=b?c#d", &[], ""),
        request("GET", "/.well-known/oauth-authorization-server/base", &[], ""),
        request("GET", "/.well-known/oauth-protected-resource/base/mcp", &[("origin", "https://page.example")], ""),
        request("OPTIONS", "/base/mcp", &[("origin", "https://mcp.example.com")], ""),
        request("OPTIONS", "*", &[("host", "mcp.example.com")], ""),
        request("POST", "/base/mcp", &[json, both], call),
        request("POST", "/base/mcp", &[json, both, token, address], call),
        request("POST", "/base/mcp", &[json, both, token, token], call),
        request("POST", "/base/mcp?access_token=x", &[json, both], call),
        request("POST", "/base/mcp", &[json, both, ("authorization", "Bearer \u{e9}")], call),
        request("POST", "/base/mcp", &[json, both, ("authorization", "Bearer a.b.c")], call),
        request("DELETE", "/base/mcp", &[], ""),
        request("BREW", "/base/mcp", &[], "coffee"),
        request("GET", "/base/healthz", &[("host", "other.example.com")], ""),
        request("GET", "/base/", &[("host", "other.example.com")], ""),
        request("GET", "https://mcp.example.com/base/", &[], ""),
        request("GET", "https://other.example.com/base/", &[], ""),
        request("GET", "https://MCP.example.com/base/", &[("host", "mcp.example.com")], ""),
        request("POST", "/base/message", &[json, token], call),
        request("POST", "/base/token", &[("content-type", "application/x-www-form-urlencoded")], "grant_type=x"),
        request("POST", "/base/register", &[json], r#"{"redirect_uris":["https://client.example/callback"]}"#),
        request("POST", "/base/revoke", &[json], ""),
        request("GET", "/base/authorize?response_type=code&client_id=unknown", &[], ""),
        request("GET", "/base/auth/callback?state=nothing&code=x", &[], ""),
    ];
    // Fields of the connection.
    let of_the_connection = [("connection", "upgrade"), ("upgrade", "websocket"), ("transfer-encoding", "chunked")];
    requests.push(request("POST", "/base/mcp", &[&of_the_connection[..], &[json, both, token]].concat(), call));
    // Too much of everything.
    let names: Vec<_> = (0..300).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    requests.push(request("GET", "/base/healthz", &many, ""));
    requests.push(request("GET", "/base/healthz", &[("x-long", &"x".repeat(40_000))], ""));
    requests.push(request("HEAD", "/base/healthz", &[("x-long", &"x".repeat(40_000))], ""));
    for bytes in [1024 * 1024, 1024 * 1024 + 1] {
        requests.push(request("POST", "/base/mcp", &[json, both, token], &" ".repeat(bytes)));
    }
    requests
}

async fn parts(response: Response<HttpBody>) -> (StatusCode, HeaderMap, Bytes) {
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn both_ways_to_the_component_lead_to_the_same_answer() {
    let (whole, streaming) = (plugin(), plugin());
    let mut statuses = std::collections::BTreeSet::new();
    for request in requests() {
        let of_one_call = whole.answer_whole(&request).await.unwrap().expect("no answer of these is a stream");
        let shown = format!("{} {}", request.method(), request.uri());
        let of_many = streaming.answer_streaming(request).await.unwrap();
        let (of_one_call, of_many) = (parts(of_one_call).await, parts(of_many).await);
        assert_eq!(of_one_call, of_many, "{shown}");
        statuses.insert(of_many.0.as_u16());
    }
    // The table reaches what it is about.
    assert!(
        [200, 201, 204, 400, 401, 404, 405, 413, 421, 431].iter().all(|status| statuses.contains(status)),
        "{statuses:?}"
    );
}

#[tokio::test]
async fn a_stream_is_left_to_the_other_way_and_nothing_else_is() {
    let plugin = plugin();
    let sse = request("GET", "/base/sse", &[("authorization", "Bearer made-up")], "");
    assert!(plugin.answer_whole(&sse).await.unwrap().is_none());
    let (status, ..) = parts(plugin.handle_http(sse).await).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let head = request("HEAD", "/base/sse", &[], "");
    assert_eq!(plugin.answer_whole(&head).await.unwrap().unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

fn answer(status: u16, fields: &str, body: &str) -> Answer {
    Answer { status, fields: fields.into(), body: body.into() }
}

fn refused(answer: Answer) -> &'static str {
    response(&Method::GET, answer).unwrap_err()
}

#[test]
fn fields_come_back_as_they_were_but_for_those_of_the_connection() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("accept", "text/html"),
        ("accept", " a:b "),
        ("x-empty", ""),
        ("host", "mcp.example.com"),
        ("connection", "keep-alive, x-empty"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    headers.append("x-bytes", HeaderValue::from_bytes(b"\xff\tz").unwrap());
    let bytes = fields(&headers);
    assert_eq!(bytes, b"accept:text/html\r\naccept: a:b \r\nx-empty:\r\nx-bytes:\xff\tz\r\n");
    for name in &OF_THE_HOST {
        headers.remove(name);
    }
    assert_eq!(header_map(bytes.into()).unwrap(), headers);
}

#[test]
fn what_the_component_may_not_set_is_left_out() {
    let fields = "connection:close\r\ntransfer-encoding:chunked\r\nhost:a\r\ncontent-type:text/plain\r\n";
    let response = response(&Method::GET, answer(200, fields, "ok")).unwrap();
    let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["content-type", "content-length"]);
}

#[test]
fn an_answer_that_is_none_is_refused() {
    for fields in ["a", "a:b", "a:b\r", "a:b\n", "a:b\r\r\n", "a:b\r\n\r\n", "a b:c\r\n", ":c\r\n", "a:b\0\r\n"] {
        assert_eq!(refused(answer(200, fields, "")), "its answer has a malformed header field", "{fields:?}");
    }
    for status in [0, 99, 1_000] {
        assert_eq!(refused(answer(status, "", "")), "its answer has no status");
    }
    let (most, long) = ("x".repeat(MAX_ANSWER_BYTES), "x".repeat(MAX_ANSWER_BYTES + 1));
    assert!(response(&Method::GET, answer(200, "a:b\r\n", &most)).is_ok());
    assert_eq!(refused(answer(200, "", &long)), "its answer is too long");
    assert_eq!(refused(answer(200, &format!("a:{}\r\n", "x".repeat(MAX_FIELD_BYTES)), "")), "its answer is too long");
    let (most, many) = ("a:\r\n".repeat(MAX_FIELDS), "a:\r\n".repeat(MAX_FIELDS + 1));
    assert!(response(&Method::GET, answer(200, &most, "")).is_ok());
    assert_eq!(refused(answer(200, &many, "")), "its answer has too many header fields");
}

#[test]
fn a_body_has_its_length_and_the_absence_of_one_has_none() {
    let length = |method: Method, status, body: &str| {
        let response = response(&method, answer(status, "", body)).unwrap();
        response.headers().get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().to_owned())
    };
    assert_eq!(length(Method::POST, 200, "four").as_deref(), Some("4"));
    assert_eq!(length(Method::POST, 202, "").as_deref(), Some("0"));
    assert_eq!(length(Method::OPTIONS, 204, ""), None);
    assert_eq!(length(Method::HEAD, 200, ""), None);
}

#[test]
fn the_target_says_for_which_host_a_request_is_and_else_the_field_does() {
    let named = |target: &str| request("GET", target, &[("host", "b.example")], "");
    assert_eq!(authority(&named("https://a.example:8443/x?y")), "a.example:8443");
    assert_eq!(authority(&named("/x?y")), "b.example");
}
