//! Every rule of the remote server, on a world of its own. Sessions are stood in for: a token `t` is good if the store
//! has a record `test-session/t`.

mod authorized;
mod calls;
mod entra_tokens;
mod floods;
mod forward_auth;
mod gateway;
mod legacy_sse;
mod origins;
mod streamable;
mod tokens;

use std::time::Duration;

use base::Secret;
use base::principal::Groups;
use caller::session::{Membership, Session, SessionError};
use entra::EntraWorld;
use entra::testing::EntraWorlds as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use world::records::{Namespace, Partition, Ttl};
use world::testing::{PUBLIC_URL, World, run};
use world::{HttpError, StoreError};

use super::handle_with;
use crate::message::{HttpResponse, Request};
use crate::server_world::ServerWorld;
use crate::testing::{ServerWorlds as _, configure};

const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";

/// A remote server, and clients of it.
struct Server {
    world: World,
    env: ServerWorld<'static>,
}

/// A person's session, under the token `token`.
struct TestSession<'a> {
    token: &'a str,
    object: &'a str,
    client: &'a str,
    resource: &'a str,
    scopes: &'a [&'a str],
    expires_in: u64,
}

const ALICE: TestSession<'static> = TestSession {
    token: "alice",
    object: "alice-object",
    client: "client-1",
    resource: "/mcp",
    scopes: &["User.Read"],
    expires_in: 3600,
};

impl Server {
    fn new() -> Self {
        let world = World::default();
        let env = world.remote();
        Self { world, env }
    }

    /// With Alice signed in.
    fn with_alice() -> Self {
        let server = Self::new();
        server.sign_in(&ALICE);
        server
    }

    fn sign_in(&self, signed_in: &TestSession<'_>) {
        let session = json!({
            "object": signed_in.object,
            "client": signed_in.client,
            "resource": format!("{PUBLIC_URL}{}", signed_in.resource),
            "scopes": signed_in.scopes,
            "expires_at": self.env.entra.clock.now() + signed_in.expires_in,
        });
        let key = format!("test-session/{}", signed_in.token);
        self.world.put(&key, session.to_string().as_bytes(), None).unwrap();
    }

    fn sign_out(&self, token: &str) {
        self.world.delete(&format!("test-session/{token}")).unwrap();
    }

    /// What Graph would have answered lately.
    fn remember_profile(&self, object: &str, name: &str) {
        let session = Session {
            id: String::new(),
            client_id: String::new(),
            resource: String::new(),
            scopes: Vec::new(),
            tenant_id: TENANT.to_owned(),
            object_id: object.to_owned(),
            expires_at: 0,
            membership: Membership::default(),
        };
        let profile =
            json!({ "displayName": name, "mail": null, "userPrincipalName": format!("{name}@contoso.example") });
        run(entra::graph::profile::remember(&self.env.entra, session.identity(), &profile.to_string()));
    }

    fn answer(&self, request: Request) -> HttpResponse {
        run(handle_with(&self.env, request, |env, token, resources| Box::pin(authenticate(env, token, resources))))
    }

    fn send(&self, request: Request) -> Response<Vec<u8>> {
        match self.answer(request) {
            HttpResponse::Full(response) => response,
            HttpResponse::Stream(..) => panic!("an answer that is a stream"),
        }
    }
}

/// The sessions of these tests, by token.
const SESSIONS: Namespace<Value> = Namespace::json(Partition::Store, "test-session", Ttl::Kept);

async fn authenticate(
    env: &EntraWorld<'_>,
    token: &Secret<String>,
    resources: &[&str],
) -> Result<Session, SessionError> {
    if token.reveal() == "unavailable" {
        return Err(StoreError::Unavailable("down".to_owned()).into());
    }
    let record = env.records.get(&SESSIONS, token.reveal()).await?.ok_or(SessionError::Unknown)?;
    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    let expires_at = record["expires_at"].as_u64().unwrap();
    if expires_at <= env.clock.now() {
        return Err(SessionError::Expired);
    }
    if !resources.contains(&text("resource").as_str()) {
        return Err(SessionError::WrongResource);
    }
    Ok(Session {
        id: "s-1".to_owned(),
        client_id: text("client"),
        resource: text("resource"),
        scopes: record["scopes"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect(),
        tenant_id: TENANT.to_owned(),
        object_id: text("object"),
        expires_at,
        membership: Membership::at(env.clock.now(), &[], Groups::Absent),
    })
}

/// A request to the server as a well-behaved client sends it.
fn request(method: Method, target: &str) -> Request {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    Request {
        method,
        authority: Some("mcp.example.com".to_owned()),
        path: path.to_owned(),
        query,
        headers: HeaderMap::new(),
        body: Vec::new(),
        client_address: None,
    }
}

fn get(target: &str) -> Request {
    request(Method::GET, target)
}

fn post(target: &str, body: &Value) -> Request {
    Request { body: body.to_string().into_bytes(), ..request(Method::POST, target) }
        .with("content-type", "application/json")
        .with("accept", "application/json, text/event-stream")
}

impl Request {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn by(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }
}

fn json_of(response: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(response.body()).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(response.body())))
}

fn header<'a>(response: &'a Response<Vec<u8>>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn a_local_server_serves_nothing_over_http() {
    let HttpResponse::Full(response) = super::not_set_up() else { panic!() };
    assert_eq!(response.status(), 404);
}

#[test]
fn an_unknown_path_is_not_found() {
    let server = Server::new();
    for path in ["/nothing", "/mcp/", "/MCP", "//mcp", "/mcp/x", "/.well-known/x", "/healthz/", "", "/../mcp"] {
        let status = server.send(get(path)).status();
        assert_eq!(status, if path.is_empty() { 200 } else { 404 }, "{path}");
    }
}

#[test]
fn a_method_that_is_not_served_gets_the_list_of_those_that_are() {
    let server = Server::with_alice();
    for (method, path, allow) in [
        (Method::GET, "/mcp", "POST, OPTIONS"),
        (Method::DELETE, "/mcp", "POST, OPTIONS"),
        (Method::PUT, "/mcp", "POST, OPTIONS"),
        (Method::HEAD, "/mcp", "POST, OPTIONS"),
        (Method::POST, "/sse", "GET, OPTIONS"),
        (Method::HEAD, "/sse", "GET, OPTIONS"),
        (Method::GET, "/message", "POST, OPTIONS"),
        (Method::GET, "/token", "POST, OPTIONS"),
        (Method::GET, "/register", "POST, OPTIONS"),
        (Method::GET, "/revoke", "POST, OPTIONS"),
        (Method::PUT, "/authorize", "GET, POST, OPTIONS"),
        (Method::HEAD, "/authorize", "GET, POST, OPTIONS"),
        (Method::POST, "/auth/callback", "GET, OPTIONS"),
        (Method::POST, "/", "GET, HEAD, OPTIONS"),
        (Method::POST, "/.well-known/oauth-protected-resource/mcp", "GET, HEAD, OPTIONS"),
    ] {
        let response = server.send(request(method.clone(), path).by("alice"));
        assert_eq!((response.status(), header(&response, "allow")), (StatusCode::METHOD_NOT_ALLOWED, allow), "{path}");
    }
}

#[test]
fn metadata_is_found_at_every_path_that_clients_try() {
    let server = Server::new();
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-protected-resource/sse",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/oauth-authorization-server/sse",
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/mcp",
        "/mcp/.well-known/openid-configuration",
    ] {
        let response = server.send(get(path));
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "content-type"), "application/json");
    }
}

#[test]
fn everything_is_under_the_path_prefix_of_the_public_url_and_metadata_where_the_rfcs_say() {
    let mut server = Server::new();
    configure(&mut server.env, |http| http.public_url = "https://mcp.example.com/entra".to_owned());
    for (path, status) in [
        ("/entra", 200),
        ("/entra/", 200),
        ("/entra/healthz", 200),
        ("/entrance/mcp", 404),
        ("/entramcp", 404),
        ("/entra/entra/mcp", 404),
        ("/entra/mcp", 405),
        ("/.well-known/oauth-protected-resource/entra/mcp", 200),
        ("/.well-known/oauth-protected-resource/entra", 200),
        ("/.well-known/oauth-authorization-server/entra", 200),
        ("/.well-known/openid-configuration/entra", 200),
        ("/entra/.well-known/openid-configuration", 200),
        ("/.well-known/oauth-protected-resource/entra/other", 404),
        ("/.well-known/oauth-protected-resource/other/mcp", 404),
    ] {
        assert_eq!(server.send(get(path)).status(), status, "{path}");
    }
    let site = server.env.site;
    for path in ["", "/mcp", "/sse"] {
        let told = site.resource_metadata_path(path);
        assert_eq!(json_of(&server.send(get(&told)))["resource"], format!("https://mcp.example.com/entra{path}"));
    }
    let told = site.authorization_server_metadata_path();
    assert_eq!(json_of(&server.send(get(&told)))["issuer"], "https://mcp.example.com/entra");
    let challenge = server.send(post("/entra/mcp", &json!({})));
    assert_eq!(
        header(&challenge, "www-authenticate"),
        "Bearer resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/entra/mcp\", \
         scope=\"User.Read\""
    );
}

#[test]
fn a_head_request_gets_the_head_of_what_a_get_would() {
    let server = Server::new();
    server.world.publishes_metadata();
    for path in ["/", "/healthz", "/readyz", "/.well-known/oauth-protected-resource/mcp"] {
        let response = server.send(request(Method::HEAD, path));
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.body().is_empty());
        assert_eq!(header(&response, "content-type"), header(&server.send(get(path)), "content-type"));
    }
}

#[test]
fn the_transport_of_2024_can_be_turned_off() {
    let mut server = Server::with_alice();
    configure(&mut server.env, |http| http.legacy_sse = false);
    assert_eq!(server.send(get("/sse").by("alice")).status(), 404);
    assert_eq!(server.send(post("/message?sessionId=x", &json!({})).by("alice")).status(), 404);
    assert_eq!(server.send(get("/.well-known/oauth-protected-resource/sse")).status(), 404);
    assert!(!String::from_utf8_lossy(server.send(get("/")).body()).contains("/sse"));
}

#[test]
fn the_server_says_that_it_runs_and_whether_it_is_ready() {
    let server = Server::new();
    entra::testing::forget_instance();
    let probe = |path| Request { authority: Some("10.0.0.7:3001".to_owned()), ..get(path) };
    assert_eq!(server.send(probe("/healthz")).body(), b"ok");
    server.world.once(|_| Err(HttpError::TimedOut));
    assert_eq!(server.send(probe("/readyz")).status(), 503, "nothing can be signed in to or judged yet");
    server.world.advance(Duration::from_secs(5));
    server.world.publishes_metadata();
    assert_eq!(server.send(probe("/readyz")).body(), b"ready");
    server.world.always(|_| Err(HttpError::TimedOut));
    server.world.advance(Duration::from_secs(24 * 3600));
    assert_eq!(
        server.send(probe("/readyz")).body(),
        b"ready",
        "a monitor neither waits for Entra ID nor depends on it"
    );
    assert_eq!(server.send(probe("/")).status(), 421, "by address only for the process supervisor");

    // What was written within five seconds is believed.
    server.world.advance(Duration::from_secs(5));
    server.world.break_store(0);
    assert_eq!(server.send(probe("/healthz")).status(), 200);
    let response = server.send(probe("/readyz"));
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (503, "2"));

    server.world.heal_store();
    server.world.advance(Duration::from_secs(5));
    server.world.break_store(0);
    assert_eq!(server.send(probe("/readyz")).status(), 503);
}

/// A replica that cannot write must not be ready because another one can.
#[test]
fn an_instance_is_ready_by_what_it_has_written_itself() {
    let server = Server::new();
    server.world.publishes_metadata();
    let ready = || server.send(Request { authority: Some("10.0.0.7:3001".to_owned()), ..get("/readyz") }).status();
    let mark = || {
        let names = server.world.record_names();
        let name = names.into_iter().find(|name| name.contains("ready"));
        name.filter(|name| server.world.get(name).unwrap().is_some())
    };
    assert_eq!(ready(), 200);
    // As another instance on the same store finds it.
    super::WRITTEN_AT.set(None);
    server.world.advance(Duration::from_secs(3));
    assert_eq!(ready(), 200);
    server.world.advance(Duration::from_secs(3));
    let written = mark().expect("it has written as well");
    server.world.delete(&written).unwrap();
    assert_eq!((ready(), mark()), (http::StatusCode::OK, None), "once in five seconds");
    server.world.advance(Duration::from_secs(2));
    assert_eq!((ready(), mark()), (http::StatusCode::OK, Some(written)));
}

#[test]
fn the_first_page_says_where_to_connect() {
    let response = Server::new().send(get("/"));
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
    let html = String::from_utf8_lossy(response.body()).into_owned();
    assert!(html.contains("https://mcp.example.com/mcp"));
    assert!(html.contains("https://mcp.example.com/.well-known/oauth-protected-resource/mcp"));
    assert!(!html.contains("<script") && !html.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_answer_has_security_headers() {
    let server = Server::with_alice();
    let strict = "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'";
    for request in [
        get("/"),
        get("/nothing"),
        get("/mcp"),
        get("/authorize"),
        get("/.well-known/oauth-protected-resource/mcp"),
        post("/mcp", &json!({})),
        post("/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })).by("alice"),
        request(Method::OPTIONS, "/mcp"),
        Request { authority: Some("evil.example".to_owned()), ..get("/") },
    ] {
        let path = request.path.clone();
        let response = server.send(request);
        let policy = header(&response, "content-security-policy");
        assert!(
            policy == strict
                || ["/", "/authorize"].contains(&path.as_str()) && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        assert_eq!(header(&response, "x-frame-options"), "DENY");
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert_eq!(header(&response, "strict-transport-security"), "max-age=31536000");
        let referrer = if path == "/authorize" { "same-origin" } else { "no-referrer" };
        assert_eq!(header(&response, "referrer-policy"), referrer);
        let html = header(&response, "content-type").starts_with("text/html");
        assert_eq!(header(&response, "cross-origin-opener-policy"), if html { "same-origin" } else { "" });
    }
}

#[test]
fn transport_security_is_promised_for_https_only() {
    let mut server = Server::new();
    configure(&mut server.env, |http| http.public_url = "http://localhost:3001".to_owned());
    assert_eq!(header(&server.send(get("/healthz")), "strict-transport-security"), "");
}

#[test]
fn an_error_carries_the_correlation_id() {
    let server = Server::new();
    assert_eq!(header(&server.send(get("/nothing")), "x-correlation-id"), "c-1");
    assert_eq!(header(&server.send(get("/healthz")), "x-correlation-id"), "");
    let response = server.send(post("/mcp", &json!({})));
    assert_eq!((header(&response, "x-correlation-id"), &json_of(&response)["correlation_id"]), ("c-1", &json!("c-1")));
    let HttpResponse::Full(response) = super::unreadable(&server.env, 413) else { panic!() };
    assert_eq!((response.status().as_u16(), header(&response, "x-correlation-id")), (413, "c-1"));
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
}
