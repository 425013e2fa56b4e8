//! What a server behind hands out to one caller: the component sees it first, and events are tied to their caller.

use super::*;

fn noting() -> Arc<Keeper> {
    Keeper::granting(Grant { note_answer: true, ..grant() })
}

const TASK: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"7","status":"working"}}}"#;
const STATE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s"}}"#;
const OTHER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"tools"}]}}"#;

async fn answered(
    keeper: &Arc<Keeper>,
    answer: impl Fn() -> Response<AnswerBody> + Send + Sync + 'static,
) -> Response<Body> {
    let server = Server::new(move || Ok(answer()));
    ask(&gate(keeper, &server), post()).await
}

#[tokio::test]
async fn a_message_that_hands_something_out_is_shown_and_passes_as_it_is() {
    for (message, is_shown) in [(TASK, true), (STATE, true), (OTHER, false), ("no json", false)] {
        let keeper = noting();
        let answer = answered(&keeper, move || json(message)).await;
        assert_eq!(text(answer).await.unwrap(), message);
        assert_eq!(keeper.judged.lock().unwrap().as_slice(), if is_shown { vec![message] } else { vec![] });
    }
}

#[tokio::test]
async fn of_a_message_that_is_too_long_to_be_shown_the_names_are() {
    let long = format!(
        r#"{{"id":1,"result":{{"taskId":"7","x":"{}","requestState":"s","content":{{"taskId":"8"}}}}}}"#,
        "x".repeat(5 * 1024 * 1024)
    );
    let answering = |keeper: &Arc<Keeper>| {
        let (keeper, sent) = (Arc::clone(keeper), long.clone());
        async move {
            answered(&keeper, move || {
                response(200, &[("content-type", "application/json")], chunks(&[&sent[..700_000], &sent[700_000..]]))
            })
            .await
        }
    };
    let keeper = noting();
    assert_eq!(text(answering(&keeper).await).await.unwrap(), long);
    let shown = [r#"{"taskId":"7"}"#, r#"{"requestState":"s"}"#];
    let shown = shown.map(|result| format!(r#"{{"jsonrpc":"2.0","id":null,"result":{result}}}"#));
    assert_eq!(*keeper.judged.lock().unwrap(), shown);
    keeper.fails.store(true, Ordering::Relaxed);
    let error = text(answering(&keeper).await).await.unwrap_err();
    assert_eq!(error, BehindError::BrokenOff("the component failed on an answer".to_owned()));
}

#[tokio::test]
async fn an_event_that_hands_something_out_is_shown_before_its_end_passes() {
    let keeper = noting();
    let server_side = [
        ": hello\n\ndata: {\"method\":\"notifications/progress\"}\n\nid: 1\ndata: ",
        &TASK[..20],
        &TASK[20..],
        "\n\n",
        "data: {}\n\n",
    ];
    let pieces = server_side.map(str::to_owned);
    let whole = pieces.concat();
    let answer = answered(&keeper, move || events(chunks(&pieces.each_ref().map(String::as_str)))).await;
    assert_eq!(text(answer).await.unwrap(), whole);
    assert_eq!(*keeper.judged.lock().unwrap(), [TASK]);
}

#[tokio::test]
async fn an_event_that_cannot_be_noted_ends_the_stream_and_one_that_is_too_long_does_not() {
    let keeper = noting();
    keeper.fails.store(true, Ordering::Relaxed);
    let answer = answered(&keeper, || events(chunks(&["data: {}\n\n", "data: {\"taskId\":1}\n\n"]))).await;
    let error = text(answer).await.unwrap_err();
    assert_eq!(error, BehindError::BrokenOff("the component failed on an event".to_owned()));
    let long = format!("data: {}\n\ndata: {{\"taskId\":1}}\n\n", "x".repeat(5 * 1024 * 1024));
    let sent = long.clone();
    let answer = answered(&keeper, move || events(chunks(&[&sent]))).await;
    assert_eq!(text(answer).await.unwrap(), long);
    let message = answered(&keeper, || json(TASK)).await;
    refused(message, 500, "c0ffee").await;
}

#[tokio::test]
async fn events_are_tied_to_their_caller_and_nothing_else_is() {
    let keeper = Keeper::granting(Grant { event_key: vec![7; 32], ..grant() });
    let answer = answered(&keeper, || events(chunks(&["id: eve", "nt-1\ndata: a\n", "\n"]))).await;
    assert_eq!(text(answer).await.unwrap(), "id: gLJF-by1AkDWlQazjk28tQ.event-1\ndata: a\n\n");
    let answer = answered(&keeper, || json("{\n\"a\":\nid: 1\n}")).await;
    assert_eq!(text(answer).await.unwrap(), "{\n\"a\":\nid: 1\n}");
    let endless = "x".repeat(10 * 1024);
    let answer = answered(&keeper, move || events(chunks(&["id: ", &endless]))).await;
    let error = text(answer).await.unwrap_err();
    assert_eq!(error, BehindError::Malformed("the id of an event is too long".to_owned()));
}

#[tokio::test]
async fn events_that_cannot_be_read_do_not_pass_and_are_not_asked_for() {
    let keeper = Keeper::granting(Grant { event_key: vec![7; 32], ..grant() });
    let fields = [("content-type", "text/event-stream"), ("content-encoding", "gzip")];
    let server = Server::new(move || Ok(response(200, &fields, chunks(&["x"]))));
    let answer = ask(&gate(&keeper, &server), request(Method::POST, &[("accept-encoding", "gzip")])).await;
    assert_eq!(server.seen().headers()["accept-encoding"], "identity");
    refused(answer, 502, "c-1").await;
    // A message that is not looked at may be compressed all the same.
    let fields = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let answer = answered(&keeper, move || response(200, &fields, chunks(&["x"]))).await;
    assert_eq!(answer.status(), 200);
}
