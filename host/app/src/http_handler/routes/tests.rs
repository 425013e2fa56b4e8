//! What is read, and what is not.

use super::*;

fn routes() -> Routes {
    Routes { sse: true, sessions: true, registration: true, ..Routes::default() }
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn need(routes: &Routes, path: &str, lines: &[(&'static str, &'static str)]) -> BodyNeed {
    routes.body_need(&Method::POST, path, &headers(lines))
}

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM_TYPE: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const TOKEN: (&str, &str) = ("authorization", "Bearer abc");

#[test]
fn a_message_is_read_if_it_is_json_and_comes_with_a_token() {
    for path in ["/mcp", "/message"] {
        assert_eq!(need(&routes(), path, &[JSON, TOKEN]), BodyNeed::UpTo(MESSAGE_BYTES), "{path}");
        for lines in [
            &[JSON][..],
            &[TOKEN],
            &[JSON, ("authorization", "Basic abc")],
            &[JSON, ("authorization", "Bearer")],
            &[JSON, ("authorization", "Bearer  ")],
            &[JSON, ("authorization", "Bearera")],
            &[JSON, ("x-token", "abc")],
        ] {
            assert_eq!(need(&routes(), path, lines), BodyNeed::Nothing, "{path} {lines:?}");
        }
    }
    for lines in [&[FORM_TYPE][..], &[FORM_TYPE, TOKEN], &[FORM_TYPE, ("authorization", "Basic abc")]] {
        let read = need(&routes(), "/mcp", lines);
        assert_eq!(read, BodyNeed::UpTo(OAUTH_BYTES), "a form may have an access token in it: {lines:?}");
    }
    for lines in [
        &[("content-type", "Application/JSON; charset=utf-8"), TOKEN][..],
        &[JSON, ("authorization", "bEARER   a b")],
        // What is wrong with these is the component's to say.
        &[JSON, ("content-type", "text/plain"), TOKEN],
        &[JSON, ("authorization", "Basic abc"), TOKEN],
    ] {
        let mut read = HeaderMap::new();
        for (name, value) in lines {
            read.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(routes().body_need(&Method::POST, "/mcp", &read), BodyNeed::UpTo(MESSAGE_BYTES), "{lines:?}");
    }
    let behind_a_gateway = Routes { token_header: Some(HeaderName::from_static("x-token")), ..routes() };
    assert_eq!(need(&behind_a_gateway, "/mcp", &[JSON, ("x-token", "abc")]), BodyNeed::UpTo(MESSAGE_BYTES));
}

#[test]
fn the_oauth_endpoints_read_64_kib_of_what_they_understand() {
    for path in ["/authorize", "/token", "/revoke"] {
        assert_eq!(need(&routes(), path, &[FORM_TYPE]), BodyNeed::UpTo(OAUTH_BYTES), "{path}");
        assert_eq!(need(&routes(), path, &[JSON]), BodyNeed::Nothing, "{path}");
    }
    for media in ["application/json", "application/vnd.x+json; a=b"] {
        assert_eq!(need(&routes(), "/register", &[("content-type", media)]), BodyNeed::UpTo(OAUTH_BYTES));
    }
    assert_eq!(need(&routes(), "/register", &[FORM_TYPE]), BodyNeed::Nothing);
    assert_eq!(need(&routes(), "/auth/callback", &[FORM_TYPE]), BodyNeed::Nothing);
}

#[test]
fn what_is_not_served_reads_nothing() {
    for path in ["/", "/mcp/", "/tokens", "/sse", "/healthz", "/.well-known/oauth-protected-resource", ""] {
        assert_eq!(need(&routes(), path, &[JSON, TOKEN]), BodyNeed::Nothing, "{path}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS, Method::HEAD, Method::PATCH] {
        let read = routes().body_need(&method, "/mcp", &headers(&[JSON, TOKEN]));
        assert_eq!(read, BodyNeed::Nothing, "{method}");
    }
    let without = Routes::default();
    for (path, media) in [("/message", JSON), ("/authorize", FORM_TYPE), ("/token", FORM_TYPE), ("/register", JSON)] {
        assert_eq!(need(&without, path, &[media, TOKEN]), BodyNeed::Nothing, "{path}");
    }
    let closed = Routes { registration: false, ..routes() };
    assert_eq!(need(&closed, "/register", &[JSON]), BodyNeed::Nothing);
}

#[test]
fn the_oauth_endpoints_are_counted_by_address_and_nothing_else_is() {
    for (path, expected) in [
        ("/authorize", "address:authorize"),
        ("/token", "address:token"),
        ("/register", "address:register"),
        ("/auth/callback", "address:callback"),
        ("/revoke", "address:revoke"),
    ] {
        assert_eq!(operation(&Method::GET, path), Some(expected));
        assert_eq!(operation(&Method::POST, path), Some(expected));
        assert_eq!(operation(&Method::OPTIONS, path), None);
    }
    for path in ["/mcp", "/", "/tokens", "/token/", "/healthz"] {
        assert_eq!(operation(&Method::POST, path), None, "{path}");
    }
}

#[test]
fn servers_that_the_component_protects_take_messages_and_those_behind_the_gate_get_them() {
    let server = |path: &str, kind| ServerSettings {
        name: path.trim_matches('/').replace('/', "-"),
        path: path.to_owned(),
        kind,
        title: None,
        tools: Vec::new(),
        permissions: Vec::new(),
        identity: entra_mcp_plugin::environment::ServerIdentity::None,
    };
    let servers = [server("/mail/mcp", ServerKind::Tools), server("/crm/mcp", ServerKind::Upstream)];
    let routes = Routes { prefix: "/prefix".to_owned(), ..routes() }.with_servers(&servers);
    for path in ["/mail/mcp", "/crm/mcp"] {
        assert_eq!(need(&routes, path, &[JSON, TOKEN]), BodyNeed::UpTo(MESSAGE_BYTES), "{path}");
        assert_eq!(need(&routes, path, &[JSON]), BodyNeed::Nothing, "{path}");
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(routes.body_need(&method, path, &headers(&[JSON, TOKEN])), BodyNeed::Nothing, "{path}");
        }
    }
    let behind = |path: &str| routes.is_behind(path);
    assert!(behind("/crm/mcp"));
    for path in ["/mail/mcp", "/mcp", "/crm/mcp/", "/crm", "/prefix/crm/mcp", ""] {
        assert!(!behind(path), "{path}");
    }
    for (target, path) in [
        ("/prefix/crm/mcp", "/crm/mcp"),
        ("/crm/mcp?a=b", "/crm/mcp"),
        ("https://x.example/prefix/crm/mcp", "/crm/mcp"),
        ("/prefixed/crm/mcp", "/prefixed/crm/mcp"),
    ] {
        assert_eq!(routes.path(&target.parse().unwrap()), path);
    }
}
