//! What a proxy is told that asks whether it may let a request through.

use std::time::Duration;

use base::encoding::{digest, from_base64url};
use base::policy::{Rule, TargetKind, ToolRule};
use base::settings::{ForwardAuthSettings, Mode, ServerIdentity, ServerKind, ServerSettings, TokenMode};
use serde_json::{Value, json};

use super::*;
use crate::gatekeeper::identity;
use crate::setup;
use crate::testing::{change, texts};

const SECRET: &str = "proxy-secret";

fn crm(identity: ServerIdentity) -> ServerSettings {
    let permissions = match &identity {
        ServerIdentity::Token { permissions } => vec![permissions.clone()],
        _ => Vec::new(),
    };
    let (name, path) = ("crm".to_owned(), "/crm/mcp".to_owned());
    ServerSettings { name, path, kind: ServerKind::Upstream, title: None, tools: Vec::new(), permissions, identity }
}

/// With Alice signed in for the server behind.
fn proxied(identity: ServerIdentity) -> Server {
    let mut server = Server::new();
    change(&mut server.env, |settings| settings.servers = vec![crm(identity)]);
    configure(&mut server.env, |http| {
        http.forward_auth =
            Some(ForwardAuthSettings { server: "crm".to_owned(), secret_hash: Some(digest(SECRET.as_bytes())) });
    });
    server.sign_in(&TestSession { resource: "/crm/mcp", ..ALICE });
    server
}

/// As nginx asks.
fn ask() -> Request {
    without_original().with("x-original-uri", "/crm/mcp")
}

fn without_original() -> Request {
    get("/auth").with("x-entra-mcp-proxy-secret", SECRET)
}

fn status(server: &Server, request: Request) -> u16 {
    server.send(request).status().as_u16()
}

fn assertion() -> ServerIdentity {
    ServerIdentity::Assertion { audience: "https://crm.example.com".to_owned() }
}

fn token() -> ServerIdentity {
    ServerIdentity::Token { permissions: texts(&["api://crm/Orders.Read"]) }
}

#[test]
fn a_caller_is_let_through_and_others_get_the_challenge_of_the_server_behind() {
    let server = proxied(ServerIdentity::None);
    assert_eq!(status(&server, ask().by("alice")), 200);
    for (request, expected, error) in [
        (ask(), 401, ""),
        (ask().by("mallory"), 401, "invalid_token"),
        // For nginx, 400 is an error of its own.
        (ask().by("alice").by("alice"), 403, "invalid_request"),
        (ask().by("unavailable"), 503, ""),
    ] {
        let refused = server.send(request);
        assert_eq!(refused.status().as_u16(), expected);
        let challenge = header(&refused, "www-authenticate");
        assert!(challenge.contains(error), "{challenge}");
        let metadata = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/crm/mcp\"";
        assert_eq!(challenge.contains(metadata), expected != 503, "{challenge}");
        assert!(identity::NAMES.iter().all(|name| !refused.headers().contains_key(name)));
    }
}

#[test]
fn a_token_for_another_server_is_not_let_through() {
    let server = proxied(ServerIdentity::None);
    server.sign_in(&TestSession { token: "of-mcp", resource: "/mcp", ..ALICE });
    assert_eq!(status(&server, ask().by("of-mcp")), 401);
}

#[test]
fn every_field_that_tells_of_an_identity_is_in_the_answer_so_that_a_proxy_overwrites_what_a_client_sent() {
    for (identity, set) in [
        (ServerIdentity::None, &[] as &[&str]),
        (
            ServerIdentity::EasyAuth,
            &[
                "x-ms-client-principal",
                "x-ms-client-principal-id",
                "x-ms-client-principal-name",
                "x-ms-client-principal-idp",
            ],
        ),
        (assertion(), &["x-entra-mcp-assertion"]),
    ] {
        let server = proxied(identity);
        let answer = server.send(ask().by("alice").with("x-ms-client-principal-id", "forged"));
        assert_eq!((answer.status().as_u16(), answer.body().len()), (200, 0));
        for name in identity::NAMES {
            let values: Vec<_> = answer.headers().get_all(&name).iter().collect();
            let [value] = values.as_slice() else { panic!("{name}: {values:?}") };
            assert_eq!(!value.is_empty(), set.contains(&name.as_str()), "{name}");
            assert_ne!(value.as_bytes(), b"forged");
        }
    }
}

#[test]
fn what_the_server_behind_is_told_is_about_the_caller_and_claims_nothing_of_a_body() {
    let server = proxied(assertion());
    let request = ask().by("alice").with("mcp-method", "tools/call").with("mcp-name", "delete_record");
    let answer = server.send(request);
    let claims = header(&answer, "x-entra-mcp-assertion").split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&from_base64url(claims).unwrap()).unwrap();
    assert_eq!((&claims["oid"], &claims["azp"]), (&json!(ALICE.object), &json!(ALICE.client)));
    for name in ["mcp_method", "tool", "body_sha256"] {
        assert_eq!(claims.get(name), None, "a client says so, and nothing compares it with the body");
    }
}

#[test]
fn a_delegated_token_is_for_the_server_behind_and_a_failure_becomes_the_challenge() {
    let server = proxied(token());
    // The sessions of these tests have no tokens of Entra ID behind them.
    let refused = server.send(ask().by("alice"));
    assert_eq!(refused.status().as_u16(), 401);
    assert!(header(&refused, "www-authenticate").contains("error=\"invalid_token\""));
    let events = server.world.audited();
    let denied = events.iter().find(|event| event.name == "tool.denied").unwrap();
    assert_eq!(
        (denied.reason.as_deref(), denied.object_id.as_deref()),
        (Some("interaction-required"), Some(ALICE.object))
    );
}

#[test]
fn every_method_is_judged_and_none_is_let_through_without_a_token() {
    let server = proxied(ServerIdentity::None);
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let with = |request: Request| Request { method: Method::from_bytes(method.as_bytes()).unwrap(), ..request };
        assert_eq!(status(&server, with(ask())), 401, "{method}");
        assert_eq!(status(&server, with(ask().by("alice"))), 200, "{method}");
    }
    let preflight = ask().with("origin", "https://app.example.com").with("access-control-request-method", "POST");
    assert_eq!(status(&server, Request { method: Method::OPTIONS, ..preflight }), 401);
}

#[test]
fn a_web_page_may_ask_through_the_proxy_as_it_may_ask_the_server_and_reads_no_answer_here() {
    let server = proxied(ServerIdentity::None);
    for (origin, expected) in [
        ("https://app.example.com", 200),
        ("https://mcp.example.com", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let answer = server.send(ask().by("alice").with("origin", origin));
        assert_eq!(answer.status().as_u16(), expected, "{origin}");
        assert_eq!(header(&answer, "access-control-allow-origin"), "");
        assert_eq!(header(&answer, "cache-control"), "no-store");
        assert_eq!(header(&answer, "set-cookie"), "");
    }
}

#[test]
fn without_the_secret_of_the_proxy_there_is_nothing() {
    let server = proxied(assertion());
    for request in [
        get("/auth").with("x-original-uri", "/crm/mcp"),
        get("/auth").with("x-original-uri", "/crm/mcp").with("x-entra-mcp-proxy-secret", "wrong"),
        get("/auth").with("x-original-uri", "/crm/mcp").with("x-entra-mcp-proxy-secret", ""),
        get("/auth/crm/mcp"),
        ask().with("x-entra-mcp-proxy-secret", SECRET),
        get("/auth").with("x-original-uri", "/crm/mcp").with("x-entra-mcp-proxy-secret", &digest(SECRET.as_bytes())),
    ] {
        let answer = server.send(request.by("alice"));
        let unknown = server.send(get("/nothing").by("alice"));
        assert_eq!((answer.status(), answer.headers()), (unknown.status(), unknown.headers()));
        assert_eq!(answer.body(), unknown.body());
    }
}

#[test]
fn without_the_setting_there_is_nothing() {
    let server = Server::with_alice();
    for path in ["/auth", "/auth/mcp", "/auth/"] {
        assert_eq!(status(&server, get(path).by("alice")), 404, "{path}");
    }
    assert_eq!(status(&server, get("/auth/callback")), 400, "the callback of the sign-in is another path");
}

#[test]
fn the_callback_of_the_sign_in_stays_where_it_is() {
    let server = proxied(ServerIdentity::None);
    let answer = server.send(get("/auth/callback").with("x-entra-mcp-proxy-secret", SECRET).by("alice"));
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("x-entra-mcp-assertion")), (400, false));
}

#[test]
fn the_original_path_has_to_be_that_of_the_server_behind() {
    let server = proxied(ServerIdentity::None);
    for (path, expected) in [
        ("/crm/mcp", 200),
        ("/crm/mcp/", 200),
        ("/crm/mcp/messages", 200),
        ("/crm/mcp?session=1", 200),
        ("/", 403),
        ("/crm", 403),
        ("/crm/mcpx", 403),
        ("/CRM/mcp", 403),
        ("/crm/mcp/../admin", 403),
        ("/crm/mcp/.", 403),
        ("/crm/mcp//x", 403),
        ("/crm/mcp/%2e%2e/admin", 403),
        ("/crm/mcp/a%2Fb", 403),
        ("/crm/mcp/a\\b", 403),
        ("/crm/mcp;x", 403),
        ("https://mcp.example.com/crm/mcp", 403),
    ] {
        for name in ["x-original-uri", "x-forwarded-uri"] {
            assert_eq!(status(&server, without_original().with(name, path).by("alice")), expected, "{name}: {path}");
        }
        if !path.contains(['%', ';', ':']) {
            let envoy = get(&format!("/auth{path}")).with("x-entra-mcp-proxy-secret", SECRET).by("alice");
            assert_eq!(status(&server, envoy), expected, "{path}");
        }
    }
}

#[test]
fn a_client_cannot_name_another_path_than_the_one_it_asks_for() {
    let server = proxied(ServerIdentity::None);
    let both = |one: &str, other: &str| {
        without_original().with("x-original-uri", one).with("x-forwarded-uri", other).by("alice")
    };
    assert_eq!(status(&server, both("/crm/mcp", "/crm/mcp")), 200);
    assert_eq!(status(&server, both("/admin", "/crm/mcp")), 403);
    assert_eq!(status(&server, both("/crm/mcp", "/admin")), 403);
    assert_eq!(status(&server, ask().with("x-original-uri", "/crm/mcp").by("alice")), 400, "twice");
    // Envoy sets no field.
    let envoy =
        |path| get(path).with("x-entra-mcp-proxy-secret", SECRET).with("x-original-uri", "/crm/mcp").by("alice");
    assert_eq!(status(&server, envoy("/auth/admin")), 403);
    assert_eq!(status(&server, without_original().by("alice")), 400);
}

#[test]
fn the_original_path_may_have_the_prefix_of_the_public_url() {
    let mut server = proxied(ServerIdentity::None);
    configure(&mut server.env, |http| http.public_url = "https://mcp.example.com/entra".to_owned());
    let resource = "/entra/crm/mcp";
    server.sign_in(&TestSession { resource, ..ALICE });
    for (path, expected) in
        [("/entra/crm/mcp", 200), ("/crm/mcp", 200), ("/other/crm/mcp", 403), ("/entracrm/mcp", 403)]
    {
        let asked = get("/entra/auth").with("x-entra-mcp-proxy-secret", SECRET).with("x-original-uri", path);
        assert_eq!(status(&server, asked.by("alice")), expected, "{path}");
    }
    let envoy = get("/entra/auth/entra/crm/mcp").with("x-entra-mcp-proxy-secret", SECRET).by("alice");
    assert_eq!(status(&server, envoy), 200);
}

#[test]
fn a_token_in_the_original_query_is_refused() {
    let server = proxied(ServerIdentity::None);
    for name in ["x-original-uri", "x-forwarded-uri"] {
        let asked = without_original().with(name, "/crm/mcp?a=b&access_token=x").by("alice");
        assert_eq!(status(&server, asked), 403, "{name}");
    }
    let envoy = get("/auth/crm/mcp?access_token=x").with("x-entra-mcp-proxy-secret", SECRET).by("alice");
    assert_eq!(status(&server, envoy), 403);
}

#[test]
fn the_original_host_has_to_be_that_of_this_server() {
    let server = proxied(ServerIdentity::None);
    assert_eq!(status(&server, ask().with("x-forwarded-host", "mcp.example.com").by("alice")), 200);
    assert_eq!(status(&server, ask().with("x-forwarded-host", "wiki.example.com").by("alice")), 403);
}

#[test]
fn a_caller_over_the_bound_is_told_when_to_come_back() {
    let server = proxied(ServerIdentity::None);
    server.world.bound("call", 2, Duration::from_secs(60));
    let statuses = [1, 2, 3].map(|_| status(&server, ask().by("alice")));
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(header(&server.send(ask().by("alice")), "retry-after"), "60");
}

#[test]
fn the_rules_for_everything_hold() {
    let mut server = proxied(ServerIdentity::None);
    let rule = |rule| ToolRule::for_tool("*", rule);
    configure(&mut server.env, |http| http.access = Some(vec![rule(Rule::users())]));
    assert_eq!(status(&server, ask().by("alice")), 200);
    configure(&mut server.env, |http| http.access = Some(vec![rule(Rule::users().with_any_role(&["Crm.Agent"]))]));
    assert_eq!(status(&server, ask().by("alice")), 403);
    let events = server.world.audited();
    let denied = events.iter().find(|event| event.name == "tool.denied").unwrap();
    assert_eq!((denied.reason.as_deref(), denied.tool.as_deref()), (Some("role-missing"), Some("*")));
    configure(&mut server.env, |http| http.access = Some(vec![rule(Rule::users().with_scopes(&["Crm.Read"]))]));
    let refused = server.send(ask().by("alice"));
    assert_eq!(refused.status().as_u16(), 403);
    assert!(header(&refused, "www-authenticate").contains("error=\"insufficient_scope\""));
}

#[test]
fn settings_that_cannot_be_kept_are_refused_at_start() {
    let problems = |identity, change_settings: &dyn Fn(&mut base::settings::Settings)| {
        let mut server = proxied(identity);
        change(&mut server.env, change_settings);
        setup::problems(server.env.entra.settings).into_iter().map(|problem| problem.message).collect::<Vec<_>>()
    };
    fn http(settings: &mut base::settings::Settings) -> &mut base::settings::HttpSettings {
        let Mode::Remote(http) = &mut settings.mode else { panic!("a remote server") };
        http
    }
    let forward = |server: &str, secret_hash: Option<&str>| {
        Some(ForwardAuthSettings { server: server.to_owned(), secret_hash: secret_hash.map(str::to_owned) })
    };
    for identity in [ServerIdentity::None, ServerIdentity::EasyAuth, assertion(), token()] {
        assert_eq!(problems(identity, &|_| ()), [""; 0]);
    }
    let without = |settings: &mut base::settings::Settings| http(settings).forward_auth = forward("crm", None);
    assert_eq!(problems(ServerIdentity::EasyAuth, &without), [""; 0]);
    for identity in [assertion(), token()] {
        let [problem] = problems(identity, &without).try_into().unwrap();
        assert!(problem.contains("needs a secret"), "{problem}");
    }
    let refused = |change: &dyn Fn(&mut base::settings::Settings)| problems(ServerIdentity::None, change);
    assert_eq!(refused(&|settings| http(settings).forward_auth = forward("erp", None)).len(), 1);
    assert_eq!(refused(&|settings| http(settings).forward_auth = forward("crm", Some("secret"))).len(), 1);
    assert_eq!(refused(&|settings| settings.servers[0].kind = ServerKind::Tools).len(), 1);
    let rule = |tool: &'static str| ToolRule::for_tool(tool, Rule::users());
    assert_eq!(refused(&|settings| http(settings).access = Some(vec![rule("*")])), [""; 0]);
    let [problem] =
        refused(&|settings| http(settings).access = Some(vec![rule("*"), rule("delete_record")])).try_into().unwrap();
    assert!(problem.starts_with("the rule for the tool \"delete_record\" cannot be kept"), "{problem}");
}

#[test]
fn rules_of_every_kind_hold_because_a_request_may_be_for_anything() {
    let of = |server: Option<&'static str>, kind, role: &'static str| ToolRule {
        server: server.map(Into::into),
        kind,
        ..ToolRule::for_tool("*", Rule::users().with_any_role(&[role]))
    };
    for kind in [TargetKind::Tool, TargetKind::Resource, TargetKind::Prompt, TargetKind::Completion, TargetKind::Task] {
        let mut server = proxied(ServerIdentity::None);
        configure(&mut server.env, |http| http.access = Some(vec![of(Some("crm"), kind, "Crm.Agent")]));
        assert_eq!(status(&server, ask().by("alice")), 403, "{kind:?}");
        configure(&mut server.env, |http| http.access = Some(vec![of(Some("other"), kind, "Crm.Agent")]));
        assert_eq!(status(&server, ask().by("alice")), 200, "{kind:?}");
        assert_eq!(setup::problems(server.env.entra.settings), []);
        configure(&mut server.env, |http| http.deny_unlisted = true);
        assert_eq!(status(&server, ask().by("alice")), 403, "{kind:?}");
        assert_eq!(setup::problems(server.env.entra.settings).len(), 5);
    }
}

#[test]
fn the_keys_of_assertions_are_published_for_caches_and_only_where_there_are_some() {
    let mut server = proxied(assertion());
    let answer = server.send(get("/.well-known/jwks.json"));
    assert_eq!((answer.status().as_u16(), header(&answer, "cache-control")), (200, "public, max-age=3600"));
    assert_eq!(header(&answer, "content-type"), "application/json");
    let [key] = json_of(&answer)["keys"].as_array().unwrap().clone().try_into().unwrap();
    assert_eq!((key.get("d"), &key["alg"]), (None, &json!("ES256")));
    let of_assertion =
        header(&server.send(ask().by("alice")), "x-entra-mcp-assertion").split('.').next().unwrap().to_owned();
    let of_assertion: Value = serde_json::from_slice(&from_base64url(&of_assertion).unwrap()).unwrap();
    assert_eq!(of_assertion["kid"], key["kid"]);

    server.world.break_store(0);
    assert_eq!(status(&server, get("/.well-known/jwks.json")), 503);
    server.world.heal_store();
    configure(&mut server.env, |http| http.public_url = "https://mcp.example.com/entra".to_owned());
    assert_eq!(status(&server, get("/entra/.well-known/jwks.json")), 200);
    change(&mut server.env, |settings| settings.servers = vec![crm(ServerIdentity::EasyAuth)]);
    assert_eq!(status(&server, get("/.well-known/jwks.json")), 404);
}

#[test]
fn a_token_of_entra_id_is_judged_as_at_the_server_itself() {
    use entra::testing::{FakeAuthority, TestKey, sign, user_claims, with};
    let authority = FakeAuthority::new();
    let mut server = proxied(ServerIdentity::EasyAuth);
    let (settings, http) = (server.env.entra.settings.clone(), server.env.site.settings.clone());
    server = Server { world: authority.world.clone(), env: authority.world.remote() };
    change(&mut server.env, |changed| {
        *changed = settings;
        changed.token.audiences = vec![world::testing::CLIENT.to_owned()];
    });
    configure(&mut server.env, |changed| {
        *changed = base::settings::HttpSettings { token_mode: TokenMode::Bearer, ..http }
    });
    let claims = with(user_claims(), json!({ "scp": "access_as_user", "roles": ["Crm.Agent"] }));
    let token = sign(&entra::testing::header("RS256", "rsa"), &claims, &TestKey::named("rsa"));
    let answer = server.send(ask().by(&token));
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(header(&answer, "x-ms-client-principal-id"), claims["oid"].as_str().unwrap());
    assert_eq!(status(&server, ask().by("alice")), 401);
}
