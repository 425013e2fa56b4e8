//! Messages in both directions.

use super::*;

#[tokio::test]
async fn ids_of_clients_arrive_back_as_they_were_written() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    for id in ["1", "-7", "9007199254740993", r#""text""#, r#""\u0061""#, "1.50"] {
        let answer =
            client.send(Method::POST, format!(r#"{{"jsonrpc":"2.0","id": {id} ,"method":"pid"}}"#)).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(std::str::from_utf8(&body).unwrap().contains(&format!(r#""id":{id}"#)), "{id}");
    }
}

#[tokio::test]
async fn numbers_and_line_breaks_survive() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    let pretty =
        "{\"jsonrpc\":\"2.0\",\r\n \"id\":1,\n\"method\":\"echo\",\"params\":{\"n\": 10000000000000000000000.0}}";
    let answer = whole(client.send(Method::POST, pretty.into()).await.unwrap()).await;
    let line = answer["result"]["line"].as_str().unwrap();
    assert_eq!(line, r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":{"n":10000000000000000000000.0}}"#);
    let answer = client.send(Method::POST, r#"{"jsonrpc":"2.0","id":2,"method":"number"}"#.into()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"jsonrpc":"2.0","id":2,"result":123456789012345678901234567890.10}"#);
}

#[tokio::test]
async fn an_answer_that_is_too_long_becomes_an_error() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    for last in [false, true] {
        let answer = client.call("long", json!({ "last": last })).await;
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
    }
}

#[tokio::test]
async fn requests_with_the_same_id_are_answered_out_of_order() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let (first, second) = tokio::join!(client.result("pair", json!("first")), client.result("pair", json!("second")));
    assert_eq!((first, second), (json!("first"), json!("second")));
}

#[tokio::test]
async fn progress_reaches_the_request_that_it_belongs_to() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    let params = json!({"_meta": {"progressToken": "mine"}});
    let message = json!({"jsonrpc": "2.0", "id": 5, "method": "progress", "params": params});
    let (one, other) = tokio::join!(client.post(message.clone()), client.post(message));
    for answer in [one.unwrap(), other.unwrap()] {
        let mut events = Events::of(answer);
        for progress in [1, 2] {
            let event = events.next().await.unwrap();
            assert_eq!(event.id, None);
            assert_eq!(event.message["params"], json!({"progressToken": "mine", "progress": progress}));
        }
        assert_eq!(events.next().await.unwrap().message, json!({"jsonrpc": "2.0", "id": 5, "result": "done"}));
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_client_that_accepts_no_stream_gets_the_answer_alone() {
    let fixture = Fixture::new();
    let mut client = fixture.client("alice");
    client.headers.insert("accept", "application/json".parse().unwrap());
    assert_eq!(client.result("progress", json!({"_meta": {"progressToken": 1}})).await, "done");
}

#[tokio::test]
async fn a_request_of_the_server_is_answered_by_its_client() {
    let fixture = Fixture::new();
    let alice = fixture.session("alice").await;
    let bob = fixture.session("bob").await;
    let ask = json!({"jsonrpc": "2.0", "id": 1, "method": "ask", "params": {"n": 1}});
    let mut events = Events::of(alice.post(ask).await.unwrap());
    let asked = events.next().await.unwrap().message;
    assert_eq!((&asked["method"], &asked["params"]), (&json!("sampling/createMessage"), &json!({"n": 1})));

    // Another caller that knows the id reaches its own process only.
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": "an answer"});
    assert_eq!(bob.post(answer.clone()).await.unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(alice.post(answer.clone()).await.unwrap().status(), StatusCode::ACCEPTED);
    // There is one answer to a request.
    assert_eq!(alice.post(answer).await.unwrap().status(), StatusCode::ACCEPTED);

    let result = events.next().await.unwrap().message;
    let answered = json!({"jsonrpc": "2.0", "id": "q", "result": "an answer"});
    assert_eq!(result, json!({"jsonrpc": "2.0", "id": 1, "result": {"answered": answered}}));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_subscription_streams_until_the_server_ends_it() {
    let fixture = Fixture::new();
    let mut client = fixture.client("alice");
    client.headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    let mut events =
        Events::of(client.post(json!({"jsonrpc": "2.0", "id": "s", "method": "listen", "params": {}})).await.unwrap());
    for method in ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed"] {
        let message = events.next().await.unwrap().message;
        assert_eq!(message["method"], method);
        assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "s");
    }
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    assert_eq!(client.result("cancelled", json!({})).await, json!([]));
    // Before the head of the answer.
    let never = tokio::spawn({
        let client = client.clone();
        async move { client.call("never", json!({})).await }
    });
    fixture.clock.next_wait().await;
    while client.result("echo", json!({})).await["line"].as_str().unwrap().contains(r#""id":3,"#) {}
    never.abort();
    // After it.
    let params = json!({"_meta": {"progressToken": 1}, "wait": true});
    let mut events = Events::of(
        client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "progress", "params": params})).await.unwrap(),
    );
    events.next().await.unwrap();
    drop(events);
    while client.result("cancelled", json!({})).await.as_array().unwrap().len() < 2 {}
}

#[tokio::test]
async fn a_cancellation_names_the_request_as_the_process_knows_it() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let message = json!({"jsonrpc": "2.0", "id": "mine", "method": "progress",
        "params": {"_meta": {"progressToken": 1}, "wait": true}});
    let mut events = Events::of(client.post(message).await.unwrap());
    events.next().await.unwrap();
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "mine"}});
    assert_eq!(client.post(cancel).await.unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(client.result("cancelled", json!({})).await, json!([2]));
}

#[tokio::test]
async fn output_that_is_no_message_is_skipped() {
    let fixture = Fixture::new();
    assert_eq!(fixture.client("alice").result("noise", json!({})).await, "quiet");
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    for (body, code) in [
        ("no JSON", -32700),
        ("[]", -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"pid"}]"#, -32600),
        (r#"{"id":1,"id":2,"method":"pid"}"#, -32600),
        (r#"{"id":null,"method":"pid"}"#, -32600),
    ] {
        let answer = client.send(Method::POST, body.into()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(whole(answer).await["error"]["code"], code, "{body}");
    }
    assert_eq!(client.send(Method::PUT, String::new()).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(client.get(None).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn errors_pass_and_have_a_status_in_the_stateless_protocol() {
    let fixture = Fixture::new();
    let mut client = fixture.client("alice");
    let missing = json!({"jsonrpc": "2.0", "id": 1, "method": "missing"});
    assert_eq!(client.post(missing.clone()).await.unwrap().status(), StatusCode::OK);
    client.headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    let answer = client.post(missing).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(whole(answer).await["error"]["code"], -32601);
}

#[tokio::test]
async fn an_answer_that_takes_long_begins_as_a_stream() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "never"})).await.unwrap() }
    });
    while !asking.is_finished() {
        fixture.clock.next_wait().await;
        fixture.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let mut events = Events::of(asking.await.unwrap());
    client.result("finish", json!({"id": 2})).await;
    assert_eq!(events.next().await.unwrap().message, json!({"jsonrpc": "2.0", "id": 1, "result": "finished"}));
}

#[tokio::test]
async fn a_client_that_accepts_no_stream_waits_no_longer_than_the_setting_says() {
    let fixture = Fixture::new();
    let mut client = fixture.client("alice");
    client.process().await;
    client.headers.insert("accept", "application/json".parse().unwrap());
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "never"})).await.err() }
    });
    while !asking.is_finished() {
        fixture.clock.next_wait().await;
        fixture.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(asking.await.unwrap(), Some(BehindError::TimedOut));
    // The process knows that nothing waits for the answer.
    while client.result("cancelled", json!({})).await != json!([2]) {}
}

#[tokio::test]
async fn requests_in_flight_are_bounded() {
    let fixture = Fixture::new();
    let client = fixture.client("alice");
    let params = json!({"_meta": {"progressToken": 1}, "wait": true});
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "progress", "params": params});
    let mut answers = Vec::new();
    for _ in 0..super::super::settings::MAX_IN_FLIGHT {
        answers.push(client.post(message.clone()).await.unwrap());
    }
    let busy = BehindError::Busy("the process has too many requests".into());
    assert_eq!(client.post(message).await.err(), Some(busy));
    answers.pop();
    client.process().await;
}
