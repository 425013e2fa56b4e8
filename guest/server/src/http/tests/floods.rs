//! Bad tokens without end: how the server answers and records them, and which callers are not affected.

use std::time::Duration;

use base::settings::TokenMode;
use entra::testing::{FakeAuthority, TestKey, header as jwt_header, sign, user_claims, with};
use http::Response;
use serde_json::json;
use world::HttpError;
use world::testing::{CLIENT, START};

use super::{ALICE, Server, TestSession, get, header, json_of, post};
use crate::message::Request;
use crate::testing::{ServerWorlds as _, change, configure};

const BOUND: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
const STRANGER: &str = "203.0.113.7";
const OTHER: &str = "203.0.113.8";

/// A server for both kinds of tokens that bounds the bad ones.
fn server() -> (Server, FakeAuthority) {
    let authority = FakeAuthority::new();
    let mut env = authority.world.remote();
    change(&mut env, |settings| settings.token.audiences = vec![CLIENT.to_owned()]);
    configure(&mut env, |http| http.token_mode = TokenMode::Both);
    let server = Server { world: authority.world.clone(), env };
    server.sign_in(&ALICE);
    server.world.bound("refused-token", BOUND, WINDOW);
    (server, authority)
}

fn entras(scope: &str) -> String {
    sign(&jwt_header("RS256", "rsa"), &with(user_claims(), json!({ "scp": scope })), &TestKey::named("rsa"))
}

fn ping() -> Request {
    post("/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))
}

impl Server {
    fn from(&self, address: &str, request: Request) -> Response<Vec<u8>> {
        self.send(Request { client_address: Some(address.to_owned()), ..request })
    }

    fn status(&self, address: &str, request: Request) -> u16 {
        self.from(address, request).status().as_u16()
    }

    /// As many bad tokens as are answered one by one.
    fn exhaust(&self, address: &str) {
        for _ in 0..BOUND {
            assert_eq!(self.status(address, ping().by("unknown")), 401);
        }
    }

    /// How often an event was recorded of an address, and why.
    fn recorded(&self, name: &str, address: &str) -> Vec<String> {
        let events = self.world.audited().into_iter();
        let events = events.filter(|event| event.name == name && event.address.as_deref() == Some(address));
        events.filter_map(|event| event.reason).collect()
    }
}

#[test]
fn too_many_bad_tokens_from_an_address_are_told_to_wait_and_recorded_as_one() {
    let (server, _authority) = server();
    server.sign_in(&TestSession { token: "narrow", scopes: &[], ..ALICE });
    assert_eq!(server.status(STRANGER, ping().by("unknown")), 401);
    assert_eq!(server.status(STRANGER, ping().by("narrow")), 403);
    assert_eq!(server.status(STRANGER, ping().by("a.b.c")), 401);
    let reasons = ["session-unknown", "session-insufficient-scope", "encoding-invalid"];
    assert_eq!(server.recorded("token.refused", STRANGER), reasons);
    server.world.advance(Duration::from_secs(18));
    let bad = ["unknown", "narrow", "a.b.c", &"a".repeat(2000)];
    for token in bad.into_iter().cycle().take(100) {
        let response = server.from(STRANGER, ping().by(token));
        assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "42"), "{token}");
        assert_eq!(header(&response, "www-authenticate"), "");
        assert_eq!(header(&response, "x-correlation-id"), "c-1");
        assert_eq!(
            String::from_utf8_lossy(response.body()),
            "Too many access tokens from this address, or of this caller, were refused: wait a while, or come with a good one"
        );
    }
    assert_eq!(server.recorded("token.refused", STRANGER), reasons);
    assert_eq!(server.recorded("request.throttled", STRANGER), ["refused-token"]);
}

#[test]
fn a_genuine_token_that_is_refused_is_recorded_however_many_bad_ones_came_from_its_address() {
    let (server, _authority) = server();
    server.exhaust(STRANGER);
    assert_eq!(server.status(STRANGER, ping().by("unknown")), 429);
    let genuine = entras("Other.Scope");
    for address in [STRANGER, OTHER, STRANGER] {
        assert_eq!(server.status(address, ping().by(&genuine)), 403);
    }
    let of_someone = || server.world.audited().into_iter().filter(|event| event.object_id.is_some());
    assert_eq!(of_someone().filter(|event| event.name == "token.refused").count(), BOUND);
    // It has a bound of its own, wherever it comes from, and affects no other caller.
    assert_eq!(server.status(OTHER, ping().by(&genuine)), 429);
    assert_eq!(server.status(OTHER, ping().by("unknown")), 401);
}

#[test]
fn the_bound_is_one_for_all_endpoints_of_mcp() {
    let (server, _authority) = server();
    let message = || post("/message?sessionId=x", &json!({}));
    assert_eq!(server.status(STRANGER, get("/sse").by("unknown")), 401);
    assert_eq!(server.status(STRANGER, message().by("unknown")), 401);
    assert_eq!(server.status(STRANGER, ping().by("unknown")), 401);
    for request in [get("/sse"), message(), ping()] {
        assert_eq!(server.status(STRANGER, request.by("unknown")), 429);
    }
}

#[test]
fn a_good_token_is_neither_counted_nor_refused_whichever_callers_share_the_address() {
    let (server, _authority) = server();
    let good = || [ping().by("alice"), ping().by(&entras("access_as_user"))];
    for request in good().into_iter().chain(good()).chain(good()) {
        assert_eq!(server.status(STRANGER, request), 200);
    }
    assert_eq!(server.world.counted(), []);
    server.exhaust(STRANGER);
    for request in [ping().by("unknown"), ping().by("unknown")] {
        assert_eq!(server.status(STRANGER, request), 429);
    }
    for request in good() {
        assert_eq!(server.status(STRANGER, request), 200);
    }
}

#[test]
fn a_request_without_a_token_is_told_where_to_get_one_however_often_and_however_many_bad_ones_came() {
    let (server, _authority) = server();
    let without = || [ping(), ping().with("authorization", "Basic YTpi"), get("/sse")];
    for request in without().into_iter().cycle().take(100) {
        assert_eq!(server.status(STRANGER, request), 401);
    }
    assert_eq!((server.world.counted(), server.world.audited()), (vec![], vec![]));
    server.exhaust(STRANGER);
    assert_eq!(server.status(STRANGER, ping().by("unknown")), 429);
    for request in without() {
        let response = server.from(STRANGER, request);
        assert_eq!(response.status(), 401);
        assert!(header(&response, "www-authenticate").starts_with("Bearer resource_metadata="));
        assert!(json_of(&response).get("error").is_none());
    }
}

/// Otherwise a stranger behind the same address could keep the other clients from renewing their tokens.
#[test]
fn a_token_that_was_good_and_has_expired_is_told_so_however_many_bad_ones_came() {
    let (server, _authority) = server();
    server.sign_in(&TestSession { token: "expired", expires_in: 0, ..ALICE });
    let old = with(user_claims(), json!({ "scp": "access_as_user", "iat": START - 9000, "nbf": START - 9000 }));
    let old = sign(&jwt_header("RS256", "rsa"), &with(old, json!({ "exp": START - 5400 })), &TestKey::named("rsa"));
    server.exhaust(STRANGER);
    for token in ["expired", &old, "expired", &old] {
        let response = server.from(STRANGER, ping().by(token));
        assert_eq!(response.status(), 401, "{token}");
        assert!(header(&response, "www-authenticate").starts_with("Bearer error=\"invalid_token\", "));
    }
    let forged = sign(
        &jwt_header("RS256", "rsa"),
        &with(user_claims(), json!({ "exp": START - 5400 })),
        &TestKey::named("rsa-other"),
    );
    assert_eq!(server.status(STRANGER, ping().by(&forged)), 429);
    assert_eq!(server.recorded("token.refused", STRANGER), ["session-unknown"; BOUND], "they fill no records either");
    assert_eq!(server.recorded("request.throttled", STRANGER), ["refused-token"]);
}

#[test]
fn what_is_no_refused_token_is_not_counted() {
    let (server, authority) = server();
    for request in [ping().by("mal,formed"), ping().by("two").by("tokens"), post("/mcp?access_token=x", &json!({}))] {
        assert_eq!(server.status(STRANGER, request), 400);
    }
    assert_eq!(server.status(STRANGER, ping().by("unavailable")), 503);
    *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    assert_eq!(server.status(STRANGER, ping().by(&entras("access_as_user"))), 503);
    assert_eq!(server.world.counted(), []);
    assert_eq!(server.recorded("token.refused", STRANGER), [""; 0]);
}

#[test]
fn other_addresses_are_not_affected_and_an_address_is_answered_again_after_a_while() {
    let (server, _authority) = server();
    server.exhaust(STRANGER);
    assert_eq!(server.status(STRANGER, ping().by("unknown")), 429);
    assert_eq!(server.status(OTHER, ping().by("unknown")), 401);
    server.world.advance(WINDOW);
    server.exhaust(STRANGER);
    for _ in 0..2 {
        assert_eq!(server.status(STRANGER, ping().by("unknown")), 429);
    }
    assert_eq!(server.recorded("token.refused", STRANGER).len(), 2 * BOUND);
    assert_eq!(server.recorded("request.throttled", STRANGER), ["refused-token", "refused-token"]);
    assert_eq!(server.recorded("request.throttled", OTHER), [""; 0]);
}

#[test]
fn where_no_address_is_known_nothing_is_bounded() {
    let (server, _authority) = server();
    for address in [None, Some(String::new())] {
        for _ in 0..10 {
            let request = Request { client_address: address.clone(), ..ping().by("unknown") };
            assert_eq!(server.send(request).status(), 401);
        }
    }
    assert_eq!(server.world.counted(), []);
    assert_eq!(server.world.audited().len(), 20);
}

#[test]
fn an_address_of_any_length_is_counted_by_its_beginning() {
    let (server, _authority) = server();
    server.status(&"a".repeat(5000), ping().by("unknown"));
    assert_eq!(server.world.counted(), [("refused-token".to_owned(), "a".repeat(64))]);
}

#[test]
fn a_bad_token_is_refused_whether_or_not_that_can_be_recorded() {
    let (server, _authority) = server();
    server.world.refuse_audit(true);
    server.exhaust(STRANGER);
    assert_eq!(server.status(STRANGER, ping().by("unknown")), 429);
    assert_eq!(server.status(STRANGER, ping().by("alice")), 200, "it needs no record");
}
