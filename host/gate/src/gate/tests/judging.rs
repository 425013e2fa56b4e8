//! Messages that the component judges.

use futures_util::{FutureExt as _, StreamExt as _};

use super::*;

fn judging() -> Arc<Keeper> {
    Keeper::granting(Grant { judge_answer: true, ..grant() })
}

async fn judged(
    keeper: &Arc<Keeper>,
    answer: impl Fn() -> Response<AnswerBody> + Send + Sync + 'static,
) -> Response<Body> {
    ask(&gate(keeper, &Server::new(move || Ok(answer()))), post()).await
}

#[tokio::test]
async fn a_message_is_judged_whole() {
    let keeper = judging();
    let parts = || chunks(&[&LIST[..10], &LIST[10..]]);
    let server = Server::new(move || Ok(response(200, &[("content-type", "application/json")], parts())));
    let answer = ask(&gate(&keeper, &server), request(Method::POST, &[("accept-encoding", "gzip")])).await;
    assert_eq!(text(answer).await.unwrap(), JUDGED);
    assert_eq!(*keeper.judged.lock().unwrap(), [LIST]);
    assert_eq!(server.seen().headers()["accept-encoding"], "identity");
}

#[tokio::test]
async fn a_message_with_a_mark_or_in_another_encoding_is_judged_as_its_readers_read_it() {
    let keeper = judging();
    judged(&keeper, || json(&format!("\u{feff}{LIST}"))).await;
    assert_eq!(*keeper.judged.lock().unwrap(), [LIST]);
    let keeper = judging();
    let utf_16 = || {
        let bytes: Vec<u8> = LIST.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        response(200, &[("content-type", "application/json")], body)
    };
    judged(&keeper, utf_16).await;
    assert!(serde_json::from_str::<serde_json::Value>(&keeper.judged.lock().unwrap()[0]).is_err(), "it is no JSON");
}

#[tokio::test]
async fn what_cannot_be_judged_does_not_pass() {
    let long = || "a".repeat(4 * 1024 * 1024 + 1);
    let compressed = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let cases: [fn() -> Response<AnswerBody>; 3] = [
        || response(200, &[("content-type", "text/plain")], full(LIST)),
        || response(200, &[("content-type", "application/octet-stream")], full(LIST)),
        || {
            response(
                200,
                &[("content-type", "application/json")],
                frames(vec![Err(BehindError::BrokenOff("x".into()))]),
            )
        },
    ];
    for case in cases {
        let keeper = judging();
        refused(judged(&keeper, case).await, 502, "c-1").await;
        assert!(keeper.judged.lock().unwrap().is_empty());
    }
    refused(judged(&judging(), move || response(200, &compressed, full(LIST))).await, 502, "c-1").await;
    for codings in [&["identity", "gzip"][..], &["identity, gzip"], &["identity", "identity"], &["\u{e9}"]] {
        let mut fields = vec![("content-type", "application/json")];
        fields.extend(codings.iter().map(|coding| ("content-encoding", *coding)));
        let several = move || response(200, &fields, full(LIST));
        refused(judged(&judging(), several).await, 502, "c-1").await;
    }
    refused(judged(&judging(), move || json(&long())).await, 502, "c-1").await;
    let chunked = move || response(200, &[("content-type", "application/json")], chunks(&[&long(), ""]));
    refused(judged(&judging(), chunked).await, 502, "c-1").await;
    let keeper = judging();
    keeper.fails.store(true, Ordering::Relaxed);
    refused(judged(&keeper, || json(LIST)).await, 500, "c0ffee").await;
}

#[tokio::test]
async fn an_untyped_answer_shows_nothing() {
    let keeper = judging();
    let answer = judged(&keeper, || response(200, &[], full(LIST))).await;
    assert_eq!(text(answer).await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_end_is_given_up() {
    let keeper = judging();
    let (sender, body) = written();
    sender.send("{").await.unwrap();
    let body = Mutex::new(Some(body));
    let answer = move || response(200, &[("content-type", "application/json")], body.lock().unwrap().take().unwrap());
    refused(judged(&keeper, answer).await, 504, "c-1").await;
    sender.closed().await;
}

#[tokio::test]
async fn messages_that_wait_to_be_judged_share_their_room() {
    let keeper = judging();
    let (senders, bodies): (Vec<_>, Vec<_>) = (0..18).map(|_| written()).unzip();
    let bodies = Mutex::new(bodies);
    let answer = move || Ok(response(200, &[("content-type", "application/json")], bodies.lock().unwrap().remove(0)));
    let gate = Arc::new(gate(&keeper, &Server::new(answer)));
    let asks = |name: &str| {
        let grant = Grant { caller: caller(name), judge_answer: true, ..grant() };
        *keeper.admission.lock().unwrap() = Some(Ok(Admission::Forward(grant)));
    };
    let large: &'static str = Box::leak("a".repeat(4 * 1024 * 1024).into_boxed_str());
    let (mut waiting, mut senders) = (Vec::new(), senders.iter());
    for (number, name) in ["alice", "bob", "carol", "dora"].into_iter().enumerate() {
        for _ in 0..4 {
            let sender = senders.next().unwrap();
            sender.send(large).await.unwrap();
            asks(name);
            let gate = Arc::clone(&gate);
            waiting.push(tokio::spawn(async move { gate.handle(post(), || ()).await }));
            // The next one is asked for when this one is held.
            while sender.capacity() < sender.max_capacity() {
                tokio::task::yield_now().await;
            }
        }
        if number == 0 {
            senders.next().unwrap().send(large).await.unwrap();
            asks(name);
            refused(ask(&gate, post()).await, 503, "c-1").await;
        }
    }
    senders.next().unwrap().send(large).await.unwrap();
    asks("eve");
    refused(ask(&gate, post()).await, 503, "c-1").await;
    waiting.into_iter().for_each(|task| task.abort());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_end_is_given_up() {
    let (sender, body) = written();
    let body = Mutex::new(Some(body));
    let answer = judged(&judging(), move || events(body.lock().unwrap().take().unwrap())).await;
    sender.send("data: 1\n\ndata: 2").await.unwrap();
    let Body::Events(mut body) = answer.into_body() else { panic!("no stream") };
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    let broken = BehindError::BrokenOff("an event is not complete for too long".to_owned());
    assert_eq!(body.frame().await.unwrap().err(), Some(broken));
    assert!(body.frame().await.is_none());
}

async fn streamed(keeper: &Arc<Keeper>, parts: &'static [&'static str]) -> Result<String, BehindError> {
    text(judged(keeper, move || events(chunks(parts))).await).await
}

#[tokio::test]
async fn events_with_lists_are_judged_and_all_others_pass_unchanged() {
    let keeper = judging();
    let stream = &[
        "\u{feff}: hello\r\n",
        "id: 1\r\nevent: message\r\nretry: 5\r\ndata: {\"method\":\"notifications/progress\"}\r",
        "\n\r",
        "\n: about tools\n\nid: 2\rdata: {\"result\":\rdata:{\"too",
        "ls\":[]}}\r\rid: 3\ndata: {\"result\":{\"to\\u006fls\":[]}}\n\ndata: {\"a\":1}\n\n",
    ];
    let passed = streamed(&keeper, stream).await.unwrap();
    let expected = "\u{feff}: hello\r\n\
        id: 1\r\nevent: message\r\nretry: 5\r\ndata: {\"method\":\"notifications/progress\"}\r\n\r\n\
        \nid: 2\ndata: {\"judged\":true}\n\nid: 3\ndata: {\"judged\":true}\n\ndata: {\"a\":1}\n\n";
    assert_eq!(passed, expected);
    let judged = keeper.judged.lock().unwrap().clone();
    assert_eq!(judged, ["{\"result\":\n{\"tools\":[]}}", r#"{"result":{"to\u006fls":[]}}"#]);
}

#[tokio::test]
async fn whatever_of_a_message_is_judged_is_judged_in_an_event_too() {
    for member in entra_mcp_boundary::members::CONCERNED {
        let keeper = judging();
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"{member}":[]}}}}"#);
        let event = format!("data: {message}\n\n");
        let answer = judged(&keeper, move || events(full(&event))).await;
        assert_eq!(text(answer).await.unwrap(), "data: {\"judged\":true}\n\n", "{member}");
        assert_eq!(*keeper.judged.lock().unwrap(), [message]);
    }
}

#[tokio::test]
async fn an_event_is_judged_wherever_it_is_cut() {
    let stream: &'static str = "id: 1\r\ndata: {\"tools\":1}\r\n\r\n";
    for at in 1..stream.len() {
        let keeper = judging();
        let answer = move || events(chunks(&[&stream[..at], &stream[at..]]));
        let passed = text(judged(&keeper, answer).await).await.unwrap();
        // The second half of the last line end may come later.
        assert_eq!(passed.trim_end(), "id: 1\ndata: {\"judged\":true}", "cut at {at}");
        assert_eq!(*keeper.judged.lock().unwrap(), [r#"{"tools":1}"#]);
    }
}

#[tokio::test]
async fn an_event_without_an_end_is_judged_too() {
    let keeper = judging();
    assert_eq!(streamed(&keeper, &["data: {\"tools\":1}"]).await.unwrap(), "data: {\"judged\":true}\n\n");
}

#[tokio::test]
async fn an_event_passes_as_soon_as_it_is_complete_and_a_client_that_leaves_ends_the_stream() {
    let keeper = judging();
    let (sender, body) = written();
    let body = Mutex::new(Some(body));
    let answer = judged(&keeper, move || events(body.lock().unwrap().take().unwrap())).await;
    let Body::Events(mut body) = answer.into_body() else { panic!("no stream") };
    for (part, passed) in [
        ("data: 1\n\n", "data: 1\n\n"),
        (": ping\n", ": ping\n"),
        ("data: \"tools\"\n\n", "data: {\"judged\":true}\n\n"),
    ] {
        sender.send(part).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), passed);
    }
    drop(body);
    sender.closed().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_judged_ends_the_stream() {
    let keeper = judging();
    keeper.fails.store(true, Ordering::Relaxed);
    let broken = streamed(&keeper, &["data: {\"tools\":1}\n\ndata: 2\n\n"]).await;
    assert_eq!(broken, Err(BehindError::BrokenOff("the component failed on an event".to_owned())));

    // Endless lines, of which no byte passes.
    let endless = || {
        let line = Bytes::from(format!("data: {}\n", "a".repeat(64 * 1024)));
        let frames = stream::repeat_with(move || Ok(Frame::data(line.clone())));
        events(StreamBody::new(frames).boxed_unsync())
    };
    let answer = judged(&judging(), endless).await;
    let broken = BehindError::Malformed("an event is too long to be judged".to_owned());
    assert_eq!(text(answer).await, Err(broken));
}

#[tokio::test]
async fn a_request_whose_answer_is_too_long_to_be_judged_gets_an_error_after_what_came_before() {
    let long = || {
        let parts =
            ["data: 1\n\n".to_owned(), format!("data: {}", "a".repeat(5 * 1024 * 1024)), "\n\ndata: 2\n\n".to_owned()];
        let parts = parts.map(|part| Ok(Frame::data(Bytes::from(part))));
        events(frames(parts.into()))
    };
    let keeper = judging();
    for (asked, id) in [(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#, "7"), (r#"{"id":"a"}"#, r#""a""#)] {
        let gate = gate(&keeper, &Server::new(move || Ok(long())));
        let mut request = post();
        *request.body_mut() = Bytes::from_static(asked.as_bytes());
        let text = text(ask(&gate, request).await).await.unwrap();
        let rest = text.strip_prefix("data: 1\n\nevent: message\ndata: ").unwrap_or_else(|| panic!("{text}"));
        let error: serde_json::Value = serde_json::from_str(rest.trim_end()).unwrap();
        assert_eq!((error["id"].to_string().as_str(), &error["error"]["code"]), (id, &serde_json::json!(-32603)));
    }
    let gate = gate(&keeper, &Server::new(|| Ok(json(&"a".repeat(5 * 1024 * 1024)))));
    let mut request = post();
    *request.body_mut() = Bytes::from_static(br#"{"id":7}"#);
    let error: serde_json::Value = serde_json::from_str(&text(ask(&gate, request).await).await.unwrap()).unwrap();
    assert_eq!((&error["id"], &error["error"]["code"]), (&serde_json::json!(7), &serde_json::json!(-32603)));
    assert!(keeper.judged.lock().unwrap().is_empty());
}

#[test]
fn only_the_id_of_one_request_is_kept_of_it() {
    for (asked, id) in [
        (r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#.to_owned(), Some(serde_json::json!(7))),
        (format!(r#"{{"id":"{}"}}"#, "a".repeat(1024)), Some(serde_json::json!("a".repeat(1024)))),
        (format!(r#"{{"id":"{}"}}"#, "a".repeat(1025)), None),
        (r#"{"id":[1]}"#.to_owned(), None),
        (r#"{"id":null}"#.to_owned(), None),
        (r#"[{"id":1}]"#.to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(judged::asked_id(asked.as_bytes()), id, "{asked}");
    }
}

#[tokio::test]
async fn the_body_of_a_request_is_not_kept_while_its_answer_goes_on() {
    let asked = Bytes::from(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned());
    for media in ["text/event-stream", "application/json"] {
        let keeper = Keeper::granting(Grant { judge_answer: true, answer_may_stream: true, ..grant() });
        let (sender, body) = written();
        let body = Mutex::new(Some(body));
        let answer = move || Ok(response(200, &[("content-type", media)], body.lock().unwrap().take().unwrap()));
        let server = Server::new(answer);
        sender.send("{\"jsonrpc\":").await.unwrap();
        let mut request = post();
        *request.body_mut() = asked.clone();
        let answer = ask(&gate(&keeper, &server), request).await;
        server.seen.lock().unwrap().clear();
        assert!(matches!(answer.body(), Body::Events(_) | Body::Message(_)), "{media}: it goes on");
        assert!(asked.is_unique(), "{media}");
    }
}

#[tokio::test]
async fn lines_without_a_message_pass_together() {
    for line in ["\n", ":\n\n", "data: 1\n\n"] {
        let lines: &'static str = Box::leak(line.repeat(16 * 1024).into_boxed_str());
        let answer = judged(&judging(), move || events(chunks(&[lines]))).await;
        let Body::Events(mut body) = answer.into_body() else { panic!("no stream") };
        let (mut frames, mut passed) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            frames += 1;
            passed.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert_eq!((frames, passed.as_slice()), (1, lines.as_bytes()), "{line:?}");
    }
}

#[tokio::test]
async fn a_stream_of_which_nothing_passes_does_not_keep_a_worker() {
    let endless = || {
        let frames = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(b": tools\n: tools\n"))));
        // Without an end to it, a stream that never lets go could not be told from a test that hangs.
        events(StreamBody::new(frames.take(100_000)).boxed_unsync())
    };
    let answer = judged(&judging(), endless).await;
    let Body::Events(mut body) = answer.into_body() else { panic!("no stream") };
    assert!(body.frame().now_or_never().is_none(), "it has to give way to others before it ends");
}
