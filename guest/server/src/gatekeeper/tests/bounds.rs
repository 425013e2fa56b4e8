//! What a request may have at most, what it costs its caller, and how long its handle counts.

use std::time::Duration;

use super::*;

fn message(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn head(status: u16) -> AnswerHead {
    AnswerHead { status, latency_us: 7, session_id: None, refusal: None }
}

#[test]
fn names_uris_tasks_and_subscriptions_are_bounded() {
    let lab = Lab::open();
    let x = |length: usize| "x".repeat(length);
    lab.hand_task(&x(1024));
    let subscriptions = |count: usize| vec!["demo://a"; count];
    let listen = |count| {
        message("subscriptions/listen", &json!({ "notifications": { "resourceSubscriptions": subscriptions(count) } }))
    };
    let of_ref = |kind: &str, member: &str, length: usize| {
        message("completion/complete", &json!({ "ref": { "type": kind, member: x(length) } }))
    };
    for fits in [
        message("tools/call", &json!({ "name": x(1024) })),
        message("prompts/get", &json!({ "name": x(1024) })),
        message("resources/read", &json!({ "uri": x(8192) })),
        message("tasks/get", &json!({ "taskId": x(1024) })),
        of_ref("ref/prompt", "name", 1024),
        of_ref("ref/resource", "uri", 8192),
        listen(100),
    ] {
        lab.grant(post(&lab.alice, &fits));
    }
    for too_long in [
        message("tools/call", &json!({ "name": x(1025) })),
        message("prompts/get", &json!({ "name": x(1025) })),
        message("resources/read", &json!({ "uri": x(8193) })),
        message("resources/unsubscribe", &json!({ "uri": x(8193) })),
        message("tasks/get", &json!({ "taskId": x(1025) })),
        message(&format!("tasks/{}", x(1025)), &json!({})),
        of_ref("ref/prompt", "name", 1025),
        of_ref("ref/resource", "uri", 8193),
        listen(101),
        json!([
            message("tools/call", &json!({ "name": "list" })),
            message("tools/call", &json!({ "name": x(50_000) }))
        ]),
    ] {
        let refused = json_of(&lab.refusal(post(&lab.alice, &too_long)));
        let answer = if refused.is_array() { &refused[0] } else { &refused };
        assert_eq!(answer["error"]["code"], -32602, "{}", &too_long.to_string()[..60]);
    }
}

#[test]
fn what_does_not_fit_into_a_handle_does_not_go_on() {
    let lab = Lab::open();
    let batch: Vec<_> = (0..20).map(|_| message("resources/read", &json!({ "uri": "x".repeat(8000) }))).collect();
    assert_eq!(lab.refusal(post(&lab.alice, &json!(batch))).status(), 413);
}

#[test]
fn every_message_counts_and_every_subscription() {
    let answer = json!({ "jsonrpc": "2.0", "id": 7, "result": {} });
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let listen =
        message("subscriptions/listen", &json!({ "notifications": { "resourceSubscriptions": ["a://b", "a://c"] } }));
    for (body, cost) in [
        (answer.clone(), 1),
        (notification.clone(), 1),
        (json!({ "jsonrpc": "2.0", "method": "tasks/cancel", "params": { "taskId": "7" } }), 1),
        (message("tasks/get", &json!({ "taskId": "7" })), 1),
        (listen, 2),
        (json!([answer, notification]), 2),
        (json!("no message"), 1),
    ] {
        let lab = Lab::open();
        lab.world().bound("call", cost, Duration::from_secs(60));
        let counted = |request| match lab.admit(request) {
            Admission::Answer(answer) => answer.status() != 429,
            _ => true,
        };
        assert!(counted(post(&lab.alice, &body)), "{body}");
        assert!(!counted(post(&lab.alice, &message("ping", &json!({})))), "{body}");
    }
}

#[test]
fn an_answer_that_comes_late_is_recorded_and_after_two_hours_not_passed_on() {
    let lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    #[allow(clippy::result_large_err, reason = "an answer, which one test makes")]
    let answer = || run(answered(&lab.later(), grant.handle.reveal(), &head(200)));
    let recorded = || lab.world().audited().iter().filter(|event| event.name == "tool.called").count();
    lab.world().advance(Duration::from_secs(7199));
    assert!(answer().is_ok());
    assert_eq!(recorded(), 1);
    lab.world().advance(Duration::from_secs(1));
    assert_eq!(answer().unwrap_err().status(), 504);
    assert_eq!(recorded(), 2, "it is on record all the same");
}

#[test]
fn the_answer_of_a_server_that_is_not_configured_any_more_is_recorded() {
    let mut lab = Lab::open();
    let grant = lab.grant(lab.call(&lab.alice, "list"));
    change(&mut lab.env, |settings| settings.servers.retain(|server| server.name != "crm"));
    assert_eq!(run(answered(&lab.later(), grant.handle.reveal(), &head(200))).unwrap_err().status(), 503);
    let event = lab.world().audited().pop().unwrap();
    assert_eq!((event.name, event.server.as_deref()), ("tool.called", Some("crm")));
}

#[test]
fn a_session_id_of_the_server_behind_is_in_no_debug_output() {
    let session = handle::PresentedSession { sealed: "sealed-session".to_owned(), id: "upstream-session".to_owned() };
    let content = handle::HandleContent { session: Some(session.clone()), ..Default::default() };
    let head = AnswerHead { session_id: Some("upstream-session".to_owned()), ..head(200) };
    let shown = format!("{session:?} {content:?} {head:?}");
    assert!(!shown.contains("-session"), "{shown}");
}
