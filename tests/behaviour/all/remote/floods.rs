//! Attackers who send bad tokens without end to both replicas of one process: the answers they get, what is recorded,
//! and that other callers do not notice.

use entra_mcp_plugin::audit::Event;
use entra_mcp_plugin::environment::TokenMode;
use http::{HeaderValue, Request};
use serde_json::json;

use super::bearer::{fleet_with, signed, token};
use crate::support::remote::{ALICE, Answer, Fleet, REFUSED_TOKENS, call_request};

const STRANGER: &str = "203.0.113.7";
const OTHER: &str = "203.0.113.8";

/// A fleet that is told where its clients are.
async fn fleet() -> Fleet {
    fleet_with(TokenMode::Both, |settings| {
        settings.http.as_mut().expect("a remote server").client_address_header = Some("x-client-address".to_owned());
    })
    .await
}

async fn from(fleet: &Fleet, address: &str, mut request: Request<Vec<u8>>) -> Answer {
    request.headers_mut().insert("x-client-address", HeaderValue::try_from(address).expect("an address"));
    fleet.send(request).await
}

async fn status(fleet: &Fleet, address: &str, token: &str) -> u16 {
    from(fleet, address, call_request(token)).await.status
}

/// As many bad tokens as are answered one by one.
async fn exhaust(fleet: &Fleet, address: &str) {
    for number in 0..REFUSED_TOKENS {
        let answer = from(fleet, address, call_request(&format!("unknown-{number}"))).await;
        assert_eq!(answer.status, 401, "{number}");
        assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\", "), "{number}");
    }
}

fn recorded(fleet: &Fleet, name: &str) -> Vec<Event> {
    fleet.audit.events().into_iter().map(|(_, event)| event).filter(|event| event.name == name).collect()
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_bounded_by_address_in_answers_and_in_records() {
    let fleet = fleet().await;
    let (session, entras) = (fleet.session(ALICE).await.access, token(&fleet, ALICE).await);
    let before = fleet.audited().len();
    exhaust(&fleet, STRANGER).await;
    assert_eq!(fleet.audited()[before..], vec!["token.refused"; REFUSED_TOKENS as usize]);

    let bad = ["unknown", "a.b.c", &signed(&fleet, &[], true)];
    for token in bad.into_iter().cycle().take(50) {
        let answer = from(&fleet, STRANGER, call_request(token)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, "1"), "{}", answer.html());
        assert_eq!(answer.header("www-authenticate"), "");
        assert!(answer.html().starts_with("Too many access tokens from this address, or of this caller, were refused"));
    }
    let [throttled] = &recorded(&fleet, "request.throttled")[..] else { panic!("{:?}", fleet.audited()) };
    assert_eq!(throttled.reason.as_deref(), Some("refused-token"));
    assert_eq!((throttled.address.as_deref(), throttled.client_id.as_deref()), (Some(STRANGER), None));
    assert_eq!(recorded(&fleet, "token.refused").len(), REFUSED_TOKENS as usize);

    // A caller with a genuine token has a bound of its own.
    let genuine = signed(&fleet, &[("scp", json!("Other"))], false);
    assert_eq!(status(&fleet, STRANGER, &genuine).await, 403);
    let refused = recorded(&fleet, "token.refused");
    assert_eq!(refused.len(), REFUSED_TOKENS as usize + 1);
    assert!(
        refused.last().is_some_and(|event| event.object_id.is_some() && event.address.as_deref() == Some(STRANGER))
    );

    // People with good tokens behind the same address, and a client there that has no token yet.
    for token in [&session, &entras] {
        assert_eq!(status(&fleet, STRANGER, token).await, 200);
    }
    let beginning = from(&fleet, STRANGER, call_request("")).await;
    assert_eq!(beginning.status, 401);
    assert!(beginning.header("www-authenticate").starts_with("Bearer resource_metadata="));
    // People elsewhere.
    assert_eq!(status(&fleet, OTHER, "unknown").await, 401);

    fleet.advance(60);
    exhaust(&fleet, STRANGER).await;
    assert_eq!(status(&fleet, STRANGER, "unknown").await, 429);
    assert_eq!(recorded(&fleet, "request.throttled").len(), 2);
}

#[tokio::test]
async fn an_attacker_who_goes_on_gets_one_answer_back_at_a_time_and_one_record_in_a_minute() {
    let fleet = fleet().await;
    exhaust(&fleet, STRANGER).await;
    for second in 0..60 {
        for expected in [429, 429] {
            assert_eq!(status(&fleet, STRANGER, "unknown").await, expected, "{second}");
        }
        fleet.advance(1);
        assert_eq!(status(&fleet, STRANGER, "unknown").await, 401, "{second}");
    }
    assert_eq!(recorded(&fleet, "request.throttled").len(), 1);
    assert_eq!(status(&fleet, STRANGER, "unknown").await, 429);
    assert_eq!(recorded(&fleet, "request.throttled").len(), 2);
}

#[tokio::test]
async fn an_ipv6_network_is_one_address_and_the_next_network_another() {
    let fleet = fleet().await;
    for number in 0..REFUSED_TOKENS {
        assert_eq!(status(&fleet, &format!("2001:db8::{number:x}"), "unknown").await, 401, "{number}");
    }
    for address in ["2001:db8::ffff", "2001:db8:0:0:1:2:3:4"] {
        assert_eq!(status(&fleet, address, "unknown").await, 429, "{address}");
    }
    assert_eq!(status(&fleet, "2001:db8:0:1::1", "unknown").await, 401);
    let [throttled] = &recorded(&fleet, "request.throttled")[..] else { panic!("{:?}", fleet.audited()) };
    assert_eq!(throttled.address.as_deref(), Some("2001:db8::ffff"));
}

#[tokio::test]
async fn where_no_address_is_known_nothing_is_bounded() {
    let fleet = fleet_with(TokenMode::Session, |_| {}).await;
    for _ in 0..=REFUSED_TOKENS {
        assert_eq!(status(&fleet, STRANGER, "unknown").await, 401);
    }
    assert_eq!(recorded(&fleet, "token.refused").len(), REFUSED_TOKENS as usize + 1);
}
