//! Host names and origins: which pages may speak to the server.

use http::Method;
use serde_json::json;

use super::{Server, get, header, post, request};
use crate::message::Request;
use crate::testing::configure;

const OWN: &str = "https://mcp.example.com";
const ALLOWED: &str = "https://app.example.com";
const FOREIGN: &str = "https://evil.example";

#[test]
fn a_request_for_another_host_is_misdirected() {
    let server = Server::with_alice();
    let to = |authority: Option<&str>| Request { authority: authority.map(str::to_owned), ..get("/") };
    assert_eq!(server.send(to(Some("mcp.example.com"))).status(), 200);
    assert_eq!(server.send(to(Some("MCP.Example.com"))).status(), 200, "DNS names have no case");
    for authority in [
        Some("evil.example"),
        Some("mcp.example.com:8080"),
        Some("mcp.example.com."),
        Some("mcp.example.com.evil.example"),
        Some("user@mcp.example.com"),
        Some("127.0.0.1"),
        Some(""),
        None,
    ] {
        assert_eq!(server.send(to(authority)).status(), 421, "{authority:?}");
        let rebound = Request { authority: authority.map(str::to_owned), ..post("/mcp", &json!({})).by("alice") };
        assert_eq!(server.send(rebound).status(), 421, "{authority:?}");
    }
}

#[test]
fn the_host_field_and_the_authority_have_to_agree() {
    let server = Server::new();
    assert_eq!(server.send(get("/").with("host", "mcp.example.com")).status(), 200);
    assert_eq!(server.send(get("/").with("host", "evil.example")).status(), 421);
    let by_field = |hosts: &[&str]| {
        let request = Request { authority: None, ..get("/") };
        hosts.iter().fold(request, |request, host| request.with("host", host))
    };
    assert_eq!(server.send(by_field(&["mcp.example.com"])).status(), 200);
    assert_eq!(server.send(by_field(&["evil.example"])).status(), 421);
    assert_eq!(server.send(by_field(&["mcp.example.com", "mcp.example.com"])).status(), 421);
}

#[test]
fn a_page_of_a_foreign_origin_may_call_nothing_that_changes_or_reveals_something() {
    let server = Server::with_alice();
    for origin in
        [FOREIGN, "null", "http://mcp.example.com", "https://mcp.example.com:444", "https://APP.example.com", ""]
    {
        for (method, path) in [
            (Method::POST, "/mcp"),
            (Method::GET, "/sse"),
            (Method::POST, "/message"),
            (Method::POST, "/token"),
            (Method::POST, "/register"),
            (Method::POST, "/revoke"),
        ] {
            let response = server.send(request(method, path).by("alice").with("origin", origin));
            assert_eq!(response.status(), 403, "{path} from {origin}");
            assert_eq!(header(&response, "access-control-allow-origin"), "");
        }
    }
}

#[test]
fn null_is_no_origin_that_could_be_allowed() {
    let mut server = Server::with_alice();
    configure(&mut server.env, |http| http.allowed_origins.push("null".to_owned()));
    assert_eq!(server.send(post("/mcp", &json!({})).by("alice").with("origin", "null")).status(), 403);
}

#[test]
fn two_origins_are_none() {
    let server = Server::with_alice();
    let twice = post("/mcp", &json!({})).by("alice").with("origin", ALLOWED).with("origin", ALLOWED);
    assert_eq!(server.send(twice).status(), 403);
}

#[test]
fn a_page_of_an_allowed_origin_may_call_and_read_what_it_needs() {
    let server = Server::with_alice();
    for origin in [OWN, ALLOWED] {
        let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        let response = server.send(post("/mcp", &ping).by("alice").with("origin", origin));
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "access-control-allow-origin"), origin);
        assert_eq!(header(&response, "vary"), "Origin");
        let challenge = server.send(post("/mcp", &ping).with("origin", origin));
        assert_eq!(challenge.status(), 401);
        let exposed = header(&challenge, "access-control-expose-headers");
        for name in ["WWW-Authenticate", "Mcp-Session-Id", "Mcp-Protocol-Version", "Retry-After"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        assert_eq!(header(&challenge, "access-control-allow-credentials"), "");
    }
}

#[test]
fn a_preflight_says_what_an_allowed_origin_may_send() {
    let server = Server::new();
    let preflight = |path: &str, origin: &str| {
        let request = request(Method::OPTIONS, path).with("access-control-request-method", "POST");
        server.send(request.with("origin", origin))
    };
    for path in ["/mcp", "/sse", "/message", "/token", "/register", "/revoke"] {
        let response = preflight(path, ALLOWED);
        assert_eq!(response.status(), 204, "{path}");
        assert!(response.body().is_empty());
        assert_eq!(header(&response, "access-control-allow-origin"), ALLOWED);
        assert_eq!(header(&response, "access-control-max-age"), "7200");
        let methods = if path == "/sse" { "GET, OPTIONS" } else { "POST, OPTIONS" };
        assert_eq!(header(&response, "access-control-allow-methods"), methods);
        let allowed = header(&response, "access-control-allow-headers");
        for name in ["Authorization", "Content-Type", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "traceparent"] {
            assert!(allowed.contains(name), "{allowed}");
        }
        let refused = preflight(path, FOREIGN);
        assert_eq!(refused.status(), 403);
        assert_eq!(header(&refused, "access-control-allow-methods"), "");
    }
    let nowhere = preflight("/authorize", ALLOWED);
    assert_eq!((nowhere.status().as_u16(), header(&nowhere, "access-control-allow-methods")), (204, ""));
    let no_page = server.send(request(Method::OPTIONS, "/mcp"));
    assert_eq!((no_page.status().as_u16(), header(&no_page, "allow")), (204, "POST, OPTIONS"));
}

#[test]
fn every_page_may_read_metadata_which_is_public() {
    let server = Server::new();
    for path in ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"] {
        let response = server.send(get(path).with("origin", FOREIGN));
        assert_eq!((response.status().as_u16(), header(&response, "access-control-allow-origin")), (200, "*"));
        let response = server.send(request(Method::OPTIONS, path).with("origin", FOREIGN));
        assert_eq!((response.status().as_u16(), header(&response, "access-control-allow-origin")), (204, "*"));
        assert!(header(&response, "access-control-allow-headers").contains("Mcp-Protocol-Version"));
    }
    let missing = server.send(get("/.well-known/oauth-protected-resource/other").with("origin", FOREIGN));
    assert_eq!((missing.status().as_u16(), header(&missing, "access-control-allow-origin")), (404, "*"));
}

#[test]
fn the_consent_form_is_taken_from_our_own_page_only() {
    let server = Server::new();
    for origin in [ALLOWED, FOREIGN, "null"] {
        assert_eq!(server.send(request(Method::POST, "/authorize").with("origin", origin)).status(), 403, "{origin}");
    }
    assert_eq!(server.send(request(Method::POST, "/authorize").with("origin", OWN)).status(), 400);
}
