//! Tokens of Entra ID, where flows with a whole Entra ID do not reach: HTTP+SSE, outages, and which way a token goes.

use std::time::Duration;

use base::settings::TokenMode;
use entra::testing::{FakeAuthority, TestKey, header as jwt_header, sign, user_claims, with};
use serde_json::{Value, json};
use world::HttpError;
use world::testing::{CLIENT, START, run};

use super::{ALICE, Server, get, header, json_of, post};
use crate::message::{HttpResponse, Request};
use crate::testing::{ServerWorlds as _, change, configure};

const OTHER: &str = "22222222-bbbb-3333-cccc-4444dddd5555";

fn server(mode: TokenMode) -> (Server, FakeAuthority) {
    let authority = FakeAuthority::new();
    let mut env = authority.world.remote();
    change(&mut env, |settings| settings.token.audiences = vec![CLIENT.to_owned()]);
    configure(&mut env, |http| http.token_mode = mode);
    let server = Server { world: authority.world.clone(), env };
    server.sign_in(&ALICE);
    (server, authority)
}

fn token(changes: Value) -> String {
    let claims = with(with(user_claims(), json!({ "scp": "access_as_user" })), changes);
    sign(&jwt_header("RS256", "rsa"), &claims, &TestKey::named("rsa"))
}

fn ping(target: &str) -> Request {
    post(target, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))
}

#[test]
fn each_mode_lets_in_its_own_tokens_and_no_others() {
    let entra = token(json!({}));
    for (mode, session, bearer) in
        [(TokenMode::Session, 200, 401), (TokenMode::Bearer, 401, 200), (TokenMode::Both, 200, 200)]
    {
        let (server, _authority) = server(mode);
        assert_eq!(server.send(ping("/mcp").by("alice")).status(), session, "{mode:?}");
        assert_eq!(server.send(ping("/mcp").by(&entra)).status(), bearer, "{mode:?}");
    }
}

#[test]
fn the_operator_is_told_when_a_token_is_refused_because_the_clock_is_wrong() {
    const NOTE: &str = "an access token was refused (not-yet-valid), and this machine's clock is 400 s behind that of \
        Microsoft Entra ID: correct the date and time";
    let (server, authority) = server(TokenMode::Bearer);
    for (_, document) in authority.documents.borrow_mut().iter_mut() {
        document.headers_mut().insert("date", "Thu, 01 Jan 2026 00:06:40 GMT".parse().unwrap());
    }
    let later = token(json!({ "nbf": START + 400, "iat": START + 400 }));
    let refused = server.send(ping("/mcp").by(&later));
    assert_eq!((refused.status().as_u16(), server.world.notes()), (401, vec![NOTE.to_owned()]));
    assert!(!header(&refused, "www-authenticate").contains("clock"), "the client is told nothing new");
    // A token that is out of date in the other direction, or bad in another way, is not the clock's fault.
    for changes in [json!({ "exp": 1 }), json!({ "aud": OTHER })] {
        assert_eq!(server.send(ping("/mcp").by(&token(changes))).status(), 401);
    }
    assert_eq!(server.world.notes().len(), 1);
}

#[test]
fn a_session_that_is_named_like_a_signed_token_is_not_looked_up() {
    let (server, _authority) = server(TokenMode::Both);
    server.sign_in(&super::TestSession { token: "a.b.c", ..ALICE });
    assert_eq!(server.send(ping("/mcp").by("a.b.c")).status(), 401);
}

#[test]
fn a_token_that_cannot_be_judged_now_may_be_sent_again() {
    let (server, authority) = server(TokenMode::Both);
    *authority.outage.borrow_mut() = Some(HttpError::TimedOut);
    let response = server.send(ping("/mcp").by(&token(json!({}))));
    assert_eq!(response.status(), 503);
    assert!(header(&response, "retry-after").parse::<u64>().unwrap() > 0);
    assert_eq!(header(&response, "www-authenticate"), "");
    assert_eq!(server.send(ping("/mcp").by("alice")).status(), 200, "sessions need no keys");
}

#[test]
fn a_server_that_is_set_up_wrongly_says_that_it_is_at_fault() {
    let (mut server, _authority) = server(TokenMode::Bearer);
    change(&mut server.env, |settings| settings.tenant = "no tenant/at all".to_owned());
    let response = server.send(ping("/mcp").by(&token(json!({}))));
    assert_eq!((response.status().as_u16(), header(&response, "www-authenticate")), (500, ""));
    assert!(!String::from_utf8_lossy(response.body()).contains("tenant"));
}

#[test]
fn a_stream_belongs_to_the_user_and_the_client_of_the_token_and_ends_with_it() {
    let (server, _authority) = server(TokenMode::Both);
    let mine = token(json!({}));
    let HttpResponse::Stream(_, mut stream) = server.answer(get("/sse").by(&mine)) else { panic!("no stream") };
    let first = String::from_utf8(run(stream.next(&server.env)).unwrap()).unwrap();
    let endpoint = first.strip_prefix("event: endpoint\ndata: ").unwrap().trim_end().to_owned();
    for other in [token(json!({ "oid": OTHER })), token(json!({ "azp": OTHER }))] {
        assert_eq!(server.send(ping(&endpoint).by(&other)).status(), 404);
    }
    assert_eq!(server.send(ping(&endpoint).by(&token(json!({ "uti": "the next one" })))).status(), 202);
    let event = String::from_utf8(run(stream.next(&server.env)).unwrap()).unwrap();
    assert!(event.starts_with("event: message\n"), "{event}");
    server.world.advance(Duration::from_secs(3600 + 60));
    assert_eq!(run(stream.next(&server.env)), None);
}

#[test]
fn what_is_wrong_with_a_token_is_for_the_record_and_not_for_the_client() {
    let (server, _authority) = server(TokenMode::Both);
    for changes in [json!({ "aud": OTHER }), json!({ "tid": OTHER }), json!({ "ver": "3.0" })] {
        let response = server.send(ping("/mcp").by(&token(changes)));
        assert_eq!(response.status(), 401);
        assert_eq!(json_of(&response)["error_description"], "the access token is not valid for this server");
        assert_eq!(json_of(&response)["correlation_id"], "c-1");
    }
    let refused: Vec<_> = server.world.audited().into_iter().filter(|event| event.name == "token.refused").collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|event| event.object_id.is_none() && event.correlation_id == "c-1"));
}
