//! Bearer tokens: where they may stand, and what the answer to every other kind is.

use serde_json::json;

use super::{ALICE, Server, TestSession, header, json_of, post};
use crate::message::Request;

fn ping(target: &str) -> Request {
    post(target, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))
}

const METADATA: &str = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\", \
                        scope=\"User.Read\"";

#[test]
fn a_request_without_a_token_is_told_where_to_get_one_and_gets_no_error_code() {
    let server = Server::with_alice();
    for request in
        [ping("/mcp"), ping("/mcp").with("authorization", "Basic YTpi"), ping("/mcp").with("authorization", "")]
    {
        let response = server.send(request);
        assert_eq!(response.status(), 401);
        assert_eq!(header(&response, "www-authenticate"), format!("Bearer {METADATA}"));
        assert!(json_of(&response).get("error").is_none());
    }
}

#[test]
fn the_scheme_of_a_token_has_no_case() {
    let server = Server::with_alice();
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
        let response = server.send(ping("/mcp").with("authorization", &format!("{scheme} alice")));
        assert_eq!(response.status(), 200, "{scheme}");
    }
}

#[test]
fn a_token_is_refused_twice_and_malformed() {
    let server = Server::with_alice();
    for request in [
        ping("/mcp").by("alice").by("alice"),
        ping("/mcp").by("alice").with("authorization", "Basic YTpi"),
        ping("/mcp").by(""),
        ping("/mcp").by("ali ce"),
        ping("/mcp").by("alice,"),
        ping("/mcp").by("\"alice\""),
        ping("/mcp").with("authorization", "Bearer"),
        ping("/mcp").with("authorization", "Bearer ="),
    ] {
        let response = server.send(request);
        assert_eq!(response.status(), 400);
        assert_eq!(json_of(&response)["error"], "invalid_request");
        assert!(header(&response, "www-authenticate").starts_with("Bearer error=\"invalid_request\", "));
    }
}

#[test]
fn a_token_in_the_query_or_in_a_form_is_refused_even_if_it_is_good() {
    let server = Server::with_alice();
    let form = Request { body: b"access_token=alice".to_vec(), ..ping("/mcp").without("content-type") }
        .with("content-type", "application/x-www-form-urlencoded");
    for request in [
        ping("/mcp?access_token=alice"),
        ping("/mcp?x=1&access_token=alice").by("alice"),
        ping("/mcp?access%5Ftoken=alice").by("alice"),
        form.clone(),
        form.by("alice"),
    ] {
        let response = server.send(request);
        assert_eq!(response.status(), 400);
        assert_eq!(json_of(&response)["error"], "invalid_request");
    }
}

#[test]
fn a_token_that_is_not_good_is_an_invalid_token() {
    let server = Server::with_alice();
    server.sign_in(&TestSession { token: "expired", expires_in: 0, ..ALICE });
    server.sign_in(&TestSession { token: "for-sse", resource: "/sse", ..ALICE });
    server.sign_in(&TestSession { token: "for-others", resource: ".evil.example/mcp", ..ALICE });
    for token in ["unknown", "expired", "for-sse", "for-others", &"a".repeat(2000)] {
        let response = server.send(ping("/mcp").by(token));
        assert_eq!(response.status(), 401, "{token}");
        let challenge = header(&response, "www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\", error_description=\""), "{challenge}");
        assert!(challenge.ends_with(METADATA), "{challenge}");
        assert_eq!(json_of(&response)["error"], "invalid_token");
    }
}

#[test]
fn a_token_for_the_whole_server_is_good_for_each_of_its_resources() {
    let server = Server::new();
    server.sign_in(&TestSession { resource: "", ..ALICE });
    assert_eq!(server.send(ping("/mcp").by("alice")).status(), 200);
    let message = ping("/message?sessionId=x").by("alice");
    assert_eq!(server.send(message).status(), 404, "admitted, but there is no such stream");
}

#[test]
fn a_token_without_the_scope_is_told_which_it_needs() {
    let server = Server::new();
    for scopes in [&[][..], &["user.read"], &["User.Read.All"]] {
        server.sign_in(&TestSession { scopes, ..ALICE });
        let response = server.send(ping("/mcp").by("alice"));
        assert_eq!(response.status(), 403);
        let challenge = header(&response, "www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"insufficient_scope\", "), "{challenge}");
        assert!(challenge.ends_with(METADATA), "{challenge}");
    }
}

#[test]
fn a_store_that_does_not_answer_says_nothing_about_a_token() {
    let response = Server::new().send(ping("/mcp").by("unavailable"));
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, "2"));
    assert_eq!(header(&response, "www-authenticate"), "");
}

#[test]
fn an_answer_never_repeats_a_token() {
    let server = Server::with_alice();
    for request in [ping("/mcp").by("s3cret"), ping("/mcp?access_token=s3cret"), ping("/mcp").by("s3cret,")] {
        let response = server.send(request);
        assert!(!String::from_utf8_lossy(response.body()).contains("s3cret"));
        assert!(response.headers().values().all(|value| !value.as_bytes().windows(6).any(|w| w == b"s3cret")));
    }
}
