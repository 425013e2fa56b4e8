//! Sessions, and streams that a client comes back to.

use super::*;

#[tokio::test]
async fn each_session_has_a_process_of_its_own() {
    let fixture = Fixture::new();
    let one = fixture.session("alice").await;
    let other = fixture.session("alice").await;
    assert_ne!(one.headers, other.headers);
    let process = one.process().await;
    assert_ne!(process, other.process().await);
    assert_eq!(process, one.process().await);
    assert_ne!(process, fixture.client("alice").process().await);
}

#[tokio::test]
async fn a_session_is_unknown_to_other_callers_and_after_its_end() {
    let fixture = Fixture::new();
    let alice = fixture.session("alice").await;
    let process = alice.process().await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "pid"});
    let mut stranger = alice.clone();
    stranger.caller.object_id = "bob".into();
    let mut other_client = alice.clone();
    other_client.caller.client_id = "other".into();
    let mut other_tenant = alice.clone();
    other_tenant.caller.tenant_id = "other".into();
    for other in [stranger, other_client, other_tenant] {
        assert_eq!(other.post(ping.clone()).await.unwrap().status(), StatusCode::NOT_FOUND);
        assert_eq!(other.get(None).await.status(), StatusCode::NOT_FOUND);
        let deleted = other.send(Method::DELETE, String::new()).await.unwrap();
        assert_eq!(deleted.status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(alice.process().await, process);
    assert_eq!(alice.send(Method::DELETE, String::new()).await.unwrap().status(), StatusCode::OK);
    assert_eq!(alice.post(ping.clone()).await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(alice.get(None).await.status(), StatusCode::NOT_FOUND);
    gone(process).await;
    let mut made_up = fixture.client("alice");
    made_up.headers.insert("mcp-session-id", "made-up".parse().unwrap());
    assert_eq!(made_up.post(ping).await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_lost_a_stream_gets_the_rest() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let params = json!({"_meta": {"progressToken": "mine"}, "wait": true});
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": "progress", "params": params});
    let mut events = Events::of(client.post(message).await.unwrap());
    let first = events.next().await.unwrap();
    assert_eq!(first.message["params"]["progress"], 1);
    drop(events);

    // Meanwhile, the server goes on, and answers.
    client.result("finish", json!({"id": 2})).await;
    let mut events = Events::of(client.get(first.id.as_deref()).await);
    assert_eq!(events.next().await.unwrap().message["params"]["progress"], 2);
    let last = events.next().await.unwrap();
    assert_eq!(last.message, json!({"jsonrpc": "2.0", "id": 7, "result": "finished"}));
    assert!(events.next().await.is_none());
    assert!(Events::of(client.get(last.id.as_deref()).await).next().await.is_none());
    for unknown in ["2-99", "99-1", "nonsense"] {
        assert_eq!(client.get(Some(unknown)).await.status(), StatusCode::BAD_REQUEST, "{unknown}");
    }
    assert_eq!(client.result("cancelled", json!({})).await, json!([]));
}

#[tokio::test]
async fn a_client_that_does_not_come_back_cancels_its_request() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let params = json!({"_meta": {"progressToken": "mine"}, "wait": true});
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": "progress", "params": params});
    let mut events = Events::of(client.post(message).await.unwrap());
    events.next().await.unwrap();
    drop(events);
    assert_eq!(client.result("cancelled", json!({})).await, json!([]));
    fixture.clock.next_wait().await;
    fixture.clock.advance(super::super::settings::RESUME_WITHIN);
    while client.result("cancelled", json!({})).await == json!([]) {}
}

#[tokio::test]
async fn what_belongs_to_no_request_goes_to_the_stream_of_the_session() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let mut events = Events::of(client.get(None).await);
    client.result("changed", json!({})).await;
    let event = events.next().await.unwrap();
    assert_eq!(event.message["method"], "notifications/tools/list_changed");
    drop(events);
    // Without that stream, the only request in flight gets it.
    let answer = client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "changed"})).await.unwrap();
    let mut events = Events::of(answer);
    assert_eq!(events.next().await.unwrap().message["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn the_stream_of_a_session_ends_with_its_process() {
    let fixture = Fixture::new();
    let client = fixture.session("alice").await;
    let mut events = Events::of(client.get(None).await);
    let crashed = client.call("crash", json!({})).await;
    assert_eq!(crashed["error"]["code"], -32603);
    assert!(events.next().await.is_none());
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "pid"});
    assert_eq!(client.post(ping).await.unwrap().status(), StatusCode::NOT_FOUND);
}
