//! What a client gets of an answer, however the server behind behaves.

use entra_mcp_plugin::gatekeeper::{DelegationError, DelegationErrorCategory};

use super::*;

async fn answered(
    answer: impl Fn() -> Result<Response<AnswerBody>, BehindError> + Send + Sync + 'static,
) -> (Arc<Keeper>, Response<Body>) {
    let keeper = Keeper::granting(grant());
    let response = ask(&gate(&keeper, &Server::new(answer)), post()).await;
    (keeper, response)
}

#[tokio::test]
async fn a_server_behind_sets_no_cookie_no_challenge_and_nothing_else_that_browsers_or_clients_follow() {
    let fields = [
        ("content-type", "application/json"),
        ("set-cookie", "session=evil"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("www-authenticate", "Bearer resource_metadata=\"https://evil.example\""),
        ("server", "evil/1.0"),
        ("location", "https://evil.example"),
        ("link", "<https://evil.example>; rel=preload"),
        ("refresh", "0; url=https://evil.example"),
        ("clear-site-data", "\"*\""),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1; includeSubDomains"),
        ("content-security-policy", "default-src *"),
        ("cache-control", "public, max-age=99999"),
        ("x-correlation-id", "mine"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("upgrade", "h2c"),
        ("mcp-session-id", "raw"),
        ("mcp-protocol-version", "2025-11-25"),
        ("retry-after", "3"),
    ];
    for status in [200, 403, 500] {
        let (keeper, answer) = answered(move || Ok(response(status, &fields, full("{}")))).await;
        let mut names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let mut expected = vec![
            "cache-control",
            "content-security-policy",
            "content-type",
            "mcp-protocol-version",
            "referrer-policy",
            "retry-after",
            "x-content-type-options",
            "x-frame-options",
        ];
        if status != 200 {
            expected.insert(6, "x-correlation-id");
            expected.sort_unstable();
            assert_eq!(field(&answer, "x-correlation-id"), Some("c-1"));
        }
        assert_eq!((answer.status().as_u16(), names), (status, expected));
        assert_eq!(field(&answer, "cache-control"), Some("no-store"));
        assert!(field(&answer, "content-security-policy").unwrap().starts_with("default-src 'none'"));
        let head = keeper.head();
        assert_eq!((head.status, head.session_id.as_deref()), (status, Some("raw")));
        assert_eq!(text(answer).await.unwrap(), "{}");
    }
}

#[tokio::test]
async fn what_the_component_sets_replaces_what_the_server_behind_says() {
    let keeper = Keeper::granting(grant());
    let fields = [
        ("mcp-session-id", "sealed-id"),
        ("access-control-allow-origin", "https://page.example"),
        ("retry-after", "9"),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
    *keeper.answered.lock().unwrap() = Some(Ok(Ok(fields.clone())));
    let answer = || {
        let fields = [("content-type", "application/json"), ("mcp-session-id", "raw"), ("retry-after", "3")];
        Ok(response(200, &fields, full("{}")))
    };
    let answer = ask(&gate(&keeper, &Server::new(answer)), post()).await;
    for (name, value) in
        [("mcp-session-id", "sealed-id"), ("access-control-allow-origin", "https://page.example"), ("retry-after", "9")]
    {
        assert_eq!(field(&answer, name), Some(value));
    }
    // A page has to be able to read a failure, too.
    *keeper.answered.lock().unwrap() = Some(Ok(Ok(fields)));
    let failed = Server::new(|| Err(BehindError::Unreachable("secret.internal".to_owned())));
    let answer = ask(&gate(&keeper, &failed), post()).await;
    assert_eq!(field(&answer, "access-control-allow-origin"), Some("https://page.example"));
    refused(answer, 502, "c-1").await;

    let instead = Answered { status: 404, headers: Vec::new(), body: b"no such session".to_vec() };
    *keeper.answered.lock().unwrap() = Some(Ok(Err(instead)));
    let answer = ask(&gate(&keeper, &Server::new(|| Ok(json("a secret")))), post()).await;
    assert_eq!((answer.status().as_u16(), text(answer).await.unwrap().as_str()), (404, "no such session"));
}

#[tokio::test]
async fn a_session_id_is_not_passed_where_the_component_is_not_asked() {
    let keeper = Keeper::granting(Grant { report_answer: false, ..grant() });
    let answer = || Ok(response(202, &[("mcp-session-id", "raw")], full("")));
    let answer = ask(&gate(&keeper, &Server::new(answer)), post()).await;
    assert_eq!((answer.status().as_u16(), field(&answer, "mcp-session-id")), (202, None));
    assert!(keeper.heads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn redirects_upgrades_refused_credentials_and_headers_out_of_bounds_are_no_answers() {
    for status in [101, 103, 300, 301, 302, 303, 304, 307, 308, 401, 407] {
        let fields = [("location", "/elsewhere"), ("content-type", "application/json")];
        let (keeper, answer) = answered(move || Ok(response(status, &fields, full("{}")))).await;
        refused(answer, 502, "c-1").await;
        assert_eq!(keeper.head().status, status, "the record has what the server behind said");
    }
    let long = "a".repeat(33 * 1024);
    let many: Vec<(&'static str, &str)> = vec![("x-a", "a"); 101];
    let id = "i".repeat(4097);
    let cases: Vec<Vec<(&'static str, String)>> = vec![
        vec![("x-a", long)],
        many.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        vec![("mcp-session-id", "a".to_owned()), ("mcp-session-id", "a".to_owned())],
        vec![("mcp-session-id", id)],
        vec![("mcp-session-id", "a b".to_owned())],
        vec![("mcp-session-id", "é".to_owned())],
        vec![("content-type", "application/json".to_owned()), ("content-type", "text/html".to_owned())],
        vec![("content-encoding", "gzip".to_owned()), ("content-encoding", "br".to_owned())],
    ];
    for fields in cases {
        let name = fields[0].0;
        let answer = move || {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Ok(response(200, &fields, full("{}")))
        };
        let (keeper, answer) = answered(answer).await;
        assert_eq!(answer.status(), 502, "{name}");
        assert_eq!(keeper.head().session_id, None);
    }
}

#[tokio::test]
async fn pages_and_files_do_not_pass() {
    for (status, media, passed, body) in [
        (200, "text/html", 502, None),
        (200, "image/svg+xml", 502, None),
        (200, "application/javascript", 502, None),
        (200, "application/json; charset=utf-7", 502, None),
        (200, "text/event-stream; charset*=utf-8''utf-7", 502, None),
        (404, "text/html; charset=utf-8", 404, Some("")),
        (503, "text/html", 503, Some("")),
        (404, "text/plain", 404, Some("text")),
        (400, "application/problem+json", 400, Some("text")),
        (200, "Application/JSON; charset=utf-8", 200, Some("text")),
        (202, "text/html", 202, Some("")),
        (204, "application/json", 204, Some("")),
    ] {
        let (_, answer) = answered(move || Ok(response(status, &[("content-type", media)], full("text")))).await;
        assert_eq!(answer.status(), passed, "{media}");
        if let Some(body) = body {
            assert_eq!(field(&answer, "content-type").is_some(), !body.is_empty(), "{media}");
            assert_eq!(text(answer).await.unwrap(), body, "{media}");
        }
    }
    for (named, passed) in [
        ("Application/JSON; Charset=\"UTF-8\"; a=b", "application/json"),
        ("text/event-stream;charset=utf-8", "text/event-stream"),
        ("text/plain; charset=iso-8859-1", "text/plain; charset=iso-8859-1"),
    ] {
        let (_, answer) = answered(move || Ok(response(200, &[("content-type", named)], full("text")))).await;
        assert_eq!(field(&answer, "content-type"), Some(passed));
    }
    let (_, untyped) = answered(|| Ok(response(200, &[], full("<script>")))).await;
    assert_eq!(text(untyped).await.unwrap(), "");
}

#[tokio::test]
async fn each_failure_has_its_status_and_is_recorded() {
    for (error, status) in [
        (BehindError::Unreachable("secret".to_owned()), 502),
        (BehindError::TimedOut, 504),
        (BehindError::Busy("secret".to_owned()), 503),
        (BehindError::Malformed("secret".to_owned()), 502),
        (BehindError::BrokenOff("secret".to_owned()), 502),
    ] {
        let (keeper, answer) = answered(move || Err(error.clone())).await;
        refused(answer, status, "c-1").await;
        let head = keeper.head();
        assert_eq!((head.status, head.session_id, head.refusal.is_none()), (0, None, true));
    }
}

fn no_token() -> NoDelegatedToken {
    NoDelegatedToken(DelegationError {
        category: DelegationErrorCategory::NeedsPerson,
        code: "step-up-required".to_owned(),
        message: "secret".to_owned(),
        claims: Some("{}".to_owned()),
        retry_after_seconds: None,
    })
}

#[tokio::test]
async fn what_refused_the_server_a_token_is_said_to_the_component_with_an_answer_and_without() {
    let answer_without_token = || {
        let mut answer = json(LIST);
        answer.extensions_mut().insert(no_token());
        Ok(answer)
    };
    let answers: [Result<Response<AnswerBody>, BehindError>; 2] =
        [answer_without_token(), Err(BehindError::NoToken(no_token()))];
    for (answer, status) in answers.into_iter().zip([200, 0]) {
        let answer = Mutex::new(Some(answer));
        let (keeper, server) = (Keeper::granting(grant()), Server::new(move || answer.lock().unwrap().take().unwrap()));
        let challenge = Answered { status: 403, headers: Vec::new(), body: b"authorize again".to_vec() };
        *keeper.answered.lock().unwrap() = Some(Ok(Err(challenge)));
        let answer = ask(&gate(&keeper, &server), post()).await;
        assert_eq!((answer.status().as_u16(), text(answer).await.unwrap().as_str()), (403, "authorize again"));
        let head = keeper.head();
        assert_eq!((head.status, head.refusal.map(NoDelegatedToken)), (status, Some(no_token())));
    }
    // A component that has no answer of its own to it.
    let (keeper, answer) = answered(|| Err(BehindError::NoToken(no_token()))).await;
    refused(answer, 502, "c-1").await;
    assert!(keeper.head().refusal.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up_after_its_time() {
    let (keeper, server) = (Keeper::granting(grant()), Server::silent());
    refused(ask(&gate(&keeper, &server), post()).await, 504, "c-1").await;
    server.cancelled.notified().await;
    let head = keeper.head();
    assert_eq!(head.status, 0);
    assert!(head.latency_us >= 60_000_000, "{head:?}");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request_and_does_not_escape_the_record() {
    let (keeper, server) = (Keeper::granting(grant()), Server::silent());
    let gate = Arc::new(gate(&keeper, &server));
    let asking = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.handle(post(), || ()).await }
    });
    server.has_begun.notified().await;
    asking.abort();
    server.cancelled.notified().await;
    keeper.recorded.notified().await;
    assert_eq!(keeper.head().status, 0);
}

#[tokio::test]
async fn an_answer_streams_as_it_comes_without_trailers() {
    let (sender, body) = written();
    let body = Mutex::new(Some(body));
    let (_, answer) = answered(move || Ok(events(body.lock().unwrap().take().unwrap()))).await;
    assert_eq!(field(&answer, "x-accel-buffering"), Some("no"));
    assert_eq!(field(&answer, "cache-control"), Some("no-store, no-transform"));
    let Body::Events(mut body) = answer.into_body() else { panic!("no stream") };
    for part in ["da", "ta: 1", "\r\n\r\n", ": ping\n"] {
        sender.send(part).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), part);
    }
    drop(body);
    sender.closed().await;

    let trailers = || {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("set-cookie"), HeaderValue::from_static("a=b"))]);
        frames(vec![Ok(Frame::data(Bytes::from_static(b"{}"))), Ok(Frame::trailers(trailers))])
    };
    let (_, answer) = answered(move || Ok(response(200, &[("content-type", "application/json")], trailers()))).await;
    assert_eq!(text(answer).await.unwrap(), "{}");

    let broken =
        || frames(vec![Ok(Frame::data(Bytes::from_static(b"{"))), Err(BehindError::BrokenOff("reset".to_owned()))]);
    let (_, answer) = answered(move || Ok(response(200, &[("content-type", "application/json")], broken()))).await;
    assert_eq!(text(answer).await, Err(BehindError::BrokenOff("reset".to_owned())));
}

#[tokio::test]
async fn a_message_of_one_piece_goes_out_in_one_and_https_is_kept() {
    let keeper = Keeper::granting(grant());
    let server = Server::new(|| Ok(json("{}")));
    let answer = ask(&gate_with(&keeper, &server, |options| options.https = true), post()).await;
    assert_eq!(field(&answer, "strict-transport-security"), Some("max-age=31536000"));
    let Body::Whole(body, _) = answer.into_body() else { panic!("it came in one piece") };
    assert_eq!(body, "{}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_begins_late_passes_while_it_comes() {
    let (sender, body) = written();
    let body = Mutex::new(Some(body));
    let fields = [("content-type", "application/json")];
    let (_, answer) = answered(move || Ok(response(200, &fields, body.lock().unwrap().take().unwrap()))).await;
    let Body::Message(mut body) = answer.into_body() else { panic!("nothing of it has come") };
    for part in ["{", "}"] {
        sender.send(part).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), part);
    }
}

fn busy() -> Error {
    Error::Busy { correlation_id: "b0".into() }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_could_not_be_recorded_at_once_is_recorded_later() {
    let keeper = Keeper::granting(grant());
    *keeper.answered.lock().unwrap() = Some(Err(busy()));
    let answer = || Ok(response(200, &[("content-type", "application/json"), ("mcp-session-id", "raw")], full("{}")));
    let answer = ask(&gate(&keeper, &Server::new(answer)), post()).await;
    refused(answer, 503, "b0").await;
    keeper.recorded.notified().await;
    keeper.recorded.notified().await;
    let heads = keeper.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 2);
    assert_eq!((heads[1].status, heads[1].session_id.as_deref()), (200, Some("raw")));
    assert_eq!(heads[0].latency_us, heads[1].latency_us, "it is the same record");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_between_events_before_its_permission_is_over() {
    for judge_answer in [false, true] {
        let keeper = Keeper::granting(Grant { judge_answer, ..grant() });
        let (sender, body) = written();
        let body = Mutex::new(Some(body));
        let answer = move || Ok(events(body.lock().unwrap().take().unwrap()));
        let begun = Instant::now();
        let answer = ask(&gate(&keeper, &Server::new(answer)), request(Method::GET, &[])).await;
        let Body::Events(mut body) = answer.into_body() else { panic!("no stream") };
        sender.send("id: 1\ndata: 1\n\n").await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "id: 1\ndata: 1\n\n");
        assert!(body.frame().await.is_none(), "it ends as if there were no more");
        assert!(begun.elapsed() <= Duration::from_secs(10 * 60), "{:?}", begun.elapsed());
        drop(body);
        sender.closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_at_the_end_of_a_stream_passes_whole_or_breaks_off() {
    let open = |parts: &'static [&'static str]| async move {
        let (sender, body) = written();
        let body = Mutex::new(Some(body));
        let keeper = Keeper::granting(grant());
        let answer = move || Ok(events(body.lock().unwrap().take().unwrap()));
        let answer = ask(&gate(&keeper, &Server::new(answer)), request(Method::GET, &[])).await;
        sender.send(parts[0]).await.unwrap();
        let writing = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(10 * 60 - 5)).await;
            for part in &parts[1..] {
                sender.send(part).await.unwrap();
            }
            sender.closed().await;
        });
        let passed = text(answer).await;
        writing.await.unwrap();
        passed
    };
    let whole = open(&["data: 1\r\n", "\r\n: next\ndata: 2\n\n"]).await;
    assert_eq!(whole.as_deref(), Ok("data: 1\r\n\r\n"));
    let endless = open(&["data: 1\n", "data: 2"]).await;
    assert_eq!(endless, Err(BehindError::BrokenOff("the permission of the caller is over".to_owned())));
}
