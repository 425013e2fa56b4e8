//! Answers that pass while they are read, although the lists of the server are judged.

use super::*;

fn streaming() -> Arc<Keeper> {
    Keeper::granting(Grant { judge_answer: true, answer_may_stream: true, ..grant() })
}

async fn answered(
    keeper: &Arc<Keeper>,
    answer: impl Fn() -> Response<AnswerBody> + Send + Sync + 'static,
) -> Response<Body> {
    ask(&gate(keeper, &Server::new(move || Ok(answer()))), post()).await
}

fn in_pieces(pieces: &[&str]) -> Response<AnswerBody> {
    response(200, &[("content-type", "application/json")], chunks(pieces))
}

/// What goes out, and why it breaks off.
async fn gone_out(response: Response<Body>) -> (String, Option<BehindError>) {
    let Body::Message(mut body) = response.into_body() else { panic!("it is no stream") };
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
            Err(error) => return (text, Some(error)),
        }
    }
    (text, None)
}

const BEGIN: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"tools"}]"#;

#[tokio::test]
async fn an_answer_passes_while_it_comes_and_is_not_judged() {
    let keeper = streaming();
    let (sender, body) = written();
    let body = Mutex::new(Some(body));
    let answer = move || response(200, &[("content-type", "application/json")], body.lock().unwrap().take().unwrap());
    sender.send(BEGIN).await.unwrap();
    let Body::Message(mut body) = answered(&keeper, answer).await.into_body() else { panic!("it is no stream") };
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, BEGIN, "the rest has not come yet");
    sender.send("}}").await.unwrap();
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "}}");
    assert!(keeper.judged.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_of_one_piece_and_one_of_any_length_pass_as_they_are() {
    let keeper = streaming();
    let short = format!("{BEGIN}}}}}");
    let sent = short.clone();
    let answer = answered(&keeper, move || json(&sent)).await;
    assert!(matches!(answer.body(), Body::Whole(..)));
    assert_eq!(text(answer).await.unwrap(), short);
    let long = format!("{BEGIN},\"x\":\"{}\"}}}}", "x".repeat(5 * 1024 * 1024));
    let sent = long.clone();
    let answer =
        answered(&keeper, move || in_pieces(&[&sent[..100_000], &sent[100_000..5_000_000], &sent[5_000_000..]]));
    assert_eq!(text(answer.await).await.unwrap(), long);
    assert!(keeper.judged.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_breaks_off_before_a_list_wherever_it_is_cut() {
    let list = format!(r#"{BEGIN},"tools":[{{"name":"delete"}}]}}}}"#);
    let batch = format!(r#"[{BEGIN}}}}},{{"id":2,"result":{{"to\u006fls":[{{"name":"delete"}}]}}}}]"#);
    for message in [list, batch] {
        let end = message.find(r#"":[{"name":"delete""#).unwrap();
        for at in 1..=end {
            let keeper = streaming();
            let sent = message.clone();
            let answer = answered(&keeper, move || in_pieces(&[&sent[..at], &sent[at..]])).await;
            let (passed, error) = gone_out(answer).await;
            assert_eq!(passed, message[..at]);
            assert_eq!(error, Some(BehindError::Malformed("it has a list, which was not asked for".to_owned())));
            assert!(keeper.judged.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn what_begins_with_a_list_or_cannot_be_read_is_judged_as_a_whole() {
    for pieces in [&[LIST][..], &[LIST, " "], &["no JSON"], &["{'result'", ":{}}"]] {
        let keeper = streaming();
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let whole = pieces.concat();
        let answer = answered(&keeper, move || in_pieces(&pieces.iter().map(String::as_str).collect::<Vec<_>>())).await;
        assert_eq!(text(answer).await.unwrap(), JUDGED, "{whole}");
        assert_eq!(*keeper.judged.lock().unwrap(), [whole]);
    }
    let keeper = streaming();
    let truncated = answered(&keeper, || json(BEGIN)).await;
    assert_eq!(text(truncated).await.unwrap(), JUDGED, "it is no whole message");
    keeper.fails.store(true, Ordering::Relaxed);
    refused(answered(&keeper, || json(LIST)).await, 500, "c0ffee").await;
}

#[tokio::test]
async fn what_such_an_answer_hands_out_is_noted_while_it_passes() {
    let task = r#"{"id":1,"result":{"task":{"taskId":"7"}}}"#;
    let keeper = streaming();
    assert_eq!(text(answered(&keeper, move || json(task)).await).await.unwrap(), task);
    assert_eq!(*keeper.judged.lock().unwrap(), [task]);
    let keeper = streaming();
    let answer = answered(&keeper, move || in_pieces(&[&task[..30], &task[30..]])).await;
    assert_eq!(text(answer).await.unwrap(), task);
    assert_eq!(*keeper.judged.lock().unwrap(), [r#"{"jsonrpc":"2.0","id":null,"result":{"taskId":"7"}}"#]);
}

#[tokio::test]
async fn events_and_answers_to_requests_for_lists_are_judged_all_the_same() {
    let keeper = streaming();
    let answer = answered(&keeper, || events(chunks(&["data: ", LIST, "\n\n"]))).await;
    assert_eq!(text(answer).await.unwrap(), format!("data: {JUDGED}\n\n"));
    let keeper = Keeper::granting(Grant { judge_answer: true, ..grant() });
    let answer = answered(&keeper, || in_pieces(&[BEGIN, "}}"])).await;
    assert_eq!(text(answer).await.unwrap(), JUDGED);
}
