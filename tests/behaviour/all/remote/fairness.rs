//! Strangers and callers who take what they can get: others do not notice. Two replicas of one process, one limiter.

use std::time::Duration;

use entra_mcp_emulator::{Endpoint, Fault};
use entra_mcp_plugin::client_metadata::FetchError;
use entra_mcp_plugin::rate_limiter::Rate;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Request};
use serde_json::json;

use crate::support::remote::{ALICE, Answer, Authorize, BOB, Fleet, REDIRECT, Tab, Tokens, parameter, tool_request};

/// The address of a client that is no attacker.
const ELSEWHERE: &str = "198.51.100.1";
const DOCUMENT: &str = "https://client.example.com/oauth/metadata.json";

/// A fleet with these bounds that is told where its clients are.
async fn fleet(bounds: &[(&str, u32, u64)]) -> Fleet {
    let rates = bounds.iter().map(|(operation, count, seconds)| {
        ((*operation).to_owned(), Rate { count: *count, per: Duration::from_secs(*seconds) })
    });
    Fleet::bounded(rates.collect(), |settings| {
        let http = settings.http.as_mut().expect("a remote server");
        http.client_address_header = Some("x-client-address".to_owned());
        http.max_streams_per_caller = 2;
    })
    .await
}

async fn form(fleet: &Fleet, address: &str, path: &str, form: &[(&str, &str)]) -> Answer {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-client-address", HeaderValue::try_from(address).expect("an address"));
    fleet.send(request.body(body.into_bytes()).expect("a request")).await
}

fn document() -> serde_json::Value {
    json!({ "client_id": DOCUMENT, "client_name": "Documented client", "redirect_uris": [REDIRECT] })
}

#[tokio::test]
async fn strangers_from_many_networks_cannot_lock_a_client_out() {
    let fleet = fleet(&[("token", 3, 900), ("revoke", 3, 900)]).await;
    let tokens = fleet.session(ALICE).await;
    let client = tokens.client_id.as_str();
    let mut told = Vec::new();
    for number in 0..128 {
        let address = format!("2001:db8:0:{number:x}::1");
        let code = [("grant_type", "authorization_code"), ("client_id", client), ("code", "x"), ("code_verifier", "y")];
        told.push(form(&fleet, &address, "/token", &code).await.status);
        let token = [("client_id", client), ("token", "x")];
        form(&fleet, &address, "/revoke", &token).await;
    }
    // One /56 has four times what one client has.
    assert_eq!(told.iter().filter(|status| **status == 400).count(), 12, "{told:?}");
    assert!(told.iter().all(|status| matches!(status, 400 | 429)), "{told:?}");
    let refresh = |token: String| {
        let fleet = &fleet;
        async move {
            let refresh = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token.as_str())];
            form(fleet, ELSEWHERE, "/token", &refresh).await
        }
    };
    let renewed = refresh(tokens.refresh.clone()).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    let renewed = Tokens::of(client, &renewed);
    // What is genuine is bounded: the exchange of the code was the first of three.
    let last = Tokens::of(client, &refresh(renewed.refresh).await);
    let refused = refresh(last.refresh.clone()).await;
    assert_eq!(refused.refusal(), (429, "too_many_requests"));
    fleet.advance(900);
    assert_eq!(refresh(last.refresh).await.status, 200, "and the refresh token was not used up");
}

#[tokio::test]
async fn a_document_is_fetched_for_a_sign_in_only_and_the_last_good_one_stays_for_a_day() {
    let fleet = fleet(&[]).await;
    fleet.documents.publish(DOCUMENT, document());
    let tokens = fleet.session_of(DOCUMENT, ALICE).await;
    assert_eq!(fleet.documents.fetched(), 1, "for a sign-in that went over two replicas");
    fleet.documents.fail(DOCUMENT, FetchError::Unavailable("no such host".to_owned()));
    fleet.advance(3_600);
    for _ in 0..2 {
        let page = Tab::default().open(&fleet, &Authorize::new(DOCUMENT).path()).await;
        assert!(page.status == 200 && page.html().contains("Documented client"), "{}", page.html());
    }
    let before = fleet.documents.fetched();
    let renewed = Tokens::of(DOCUMENT, &fleet.refresh(DOCUMENT, &tokens.refresh).await);
    fleet.advance(24 * 3_600);
    let renewed = fleet.refresh(DOCUMENT, &renewed.refresh).await;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    assert_eq!(fleet.documents.fetched(), before, "/token fetches none");
    // A name of this network, and one that does not exist.
    let mut pages = Vec::new();
    for failure in [FetchError::Unavailable("x".to_owned()), FetchError::Denied("y".to_owned())] {
        fleet.documents.fail(DOCUMENT, failure);
        let page = Tab::default().open(&fleet, &Authorize::new(DOCUMENT).path()).await;
        let html = page.html();
        let (text, _) = html.split_once("orrelation id").expect("a page for support");
        pages.push((page.status, page.header("retry-after").to_owned(), text.to_owned()));
    }
    assert_eq!((pages[0].0, &pages[0]), (503, &pages[1]));
}

#[tokio::test]
async fn a_caller_that_calls_without_end_is_told_when_to_come_back_and_others_are_served() {
    let fleet = fleet(&[("call", 5, 60), ("graph-request", 3, 60)]).await;
    let (alice, bob) = (fleet.session(ALICE).await.access, fleet.session(BOB).await.access);
    let also_alice = fleet.session(ALICE).await.access;
    let call =
        |token: &str, tool: &str, arguments: serde_json::Value| fleet.send(tool_request(token, tool, &arguments));
    for _ in 0..3 {
        assert_eq!(call(&alice, "listMyGroups", json!({})).await.status, 200);
    }
    // Three requests to Graph, and five calls, whatever the client.
    for token in [&also_alice, &alice, &alice] {
        let refused = call(token, "listMyGroups", json!({})).await;
        assert_eq!(refused.status, 429, "{}", refused.html());
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| (1..=60).contains(&seconds)));
    }
    let reasons: Vec<_> = fleet
        .audit
        .events()
        .into_iter()
        .filter(|(_, event)| event.name == "request.throttled")
        .map(|(_, event)| (event.reason.unwrap_or_default(), event.object_id.is_some()))
        .collect();
    assert_eq!(reasons, [("graph-request".to_owned(), true), ("call".to_owned(), true)]);
    assert_eq!(call(&bob, "listMyGroups", json!({})).await.status, 200);
    fleet.advance(60);
    assert_eq!(call(&alice, "listMyGroups", json!({})).await.status, 200);
}

#[tokio::test]
async fn what_graph_throttles_for_one_caller_holds_no_other_one_up() {
    /// One more than the calls of a caller that wait for Graph.
    const CALLS: u32 = 5;
    let fleet = fleet(&[]).await;
    let (alice, bob) = (fleet.session(ALICE).await.access, fleet.session(BOB).await.access);
    let nothing = json!({});
    let groups = |token: &str| fleet.send(tool_request(token, "listMyGroups", &nothing));
    for token in [&alice, &bob] {
        assert_eq!(groups(token).await.status, 200, "from now on, the token for Graph is there");
    }
    let throttled = Fault::on(Endpoint::GraphMemberOf).times(CALLS).status(429).header("retry-after", "7");
    fleet.control().inject(throttled);
    // The clock stands still, so a call that waits for Graph waits.
    let mut calls: FuturesUnordered<_> = (0..CALLS).map(|_| groups(&alice)).collect();
    let told_at_once = calls.next().await.expect("one of the calls");
    let result = &told_at_once.body["result"];
    assert_eq!((told_at_once.status, &result["isError"]), (200, &json!(true)), "{}", told_at_once.body);
    assert!(
        result["content"][0]["text"].as_str().is_some_and(|text| text.contains("try again in 7 seconds")),
        "{result}"
    );
    for _ in 0..3 {
        let answer = groups(&bob).await;
        assert_eq!((answer.status, &answer.body["result"]["isError"]), (200, &json!(false)), "{}", answer.body);
    }
    fleet.advance(7);
    while let Some(answer) = calls.next().await {
        assert_eq!((answer.status, &answer.body["result"]["isError"]), (200, &json!(false)), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_streams_of_a_caller_are_bounded_whatever_its_clients() {
    let fleet = fleet(&[]).await;
    let mut open = Vec::new();
    for (username, status) in [(ALICE, 200), (ALICE, 200), (ALICE, 429), (ALICE, 429), (BOB, 200)] {
        // Each time another client id.
        let client = fleet.register(REDIRECT).await;
        let authorize = Authorize::new(&client).set("resource", "https://mcp.example.com/sse");
        let code = parameter(&Tab::default().walk(&fleet, &authorize, username).await, "code").expect("a code");
        let changes = [("resource", "https://mcp.example.com/sse")];
        let tokens = Tokens::of(&client, &fleet.redeem_with(&client, &code, &changes).await);
        let request = Request::get("/sse")
            .header("host", "mcp.example.com")
            .header("authorization", format!("Bearer {}", tokens.access))
            .header("accept", "text/event-stream")
            .body(Vec::new().into())
            .expect("a request");
        let response = fleet.replica().handle_http(request).await;
        assert_eq!(response.status(), status, "{username}");
        open.push(response);
    }
}
