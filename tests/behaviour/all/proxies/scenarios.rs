//! What holds behind every proxy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::site::{ALICE, ALICES_ID, BOB, BODY, CLIENT, EASY_AUTH, Kind, Site, json_of, post, request};
use crate::support::lab::{self, CONTOSO, TASKS, app};
use crate::support::patience::soon;

/// What a client claims.
const FORGED: &str = "forged";
/// Under which names, as the reference has them; some servers take `_` for `-`.
const CLAIMED: [&str; 14] = [
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-ms-client-principal-idp",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "x-ms-token-aad-refresh-token",
    "x-ms-token-aad-expires-on",
    "x-entra-mcp-assertion",
    "x-entra-mcp-proxy-secret",
    "x_ms_client_principal",
    "x_ms_client_principal_id",
    "x-ms_client-principal-id",
    "x_entra_mcp_assertion",
];

/// The fields of a client that claims the address and the identity of another.
fn claims() -> Vec<(&'static str, &'static str)> {
    CLAIMED.into_iter().map(|name| (name, FORGED)).chain([("cookie", "session=of-the-browser")]).collect()
}

pub(super) async fn challenge(kind: Kind) {
    let site = Site::open(kind).await;
    let metadata = "/.well-known/oauth-protected-resource/mcp";
    for token in [None, Some("nonsense")] {
        let answer = site.send(post(token, &claims())).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{}", site.log());
        let challenges: Vec<_> = answer.headers().get_all("www-authenticate").iter().collect();
        let [challenge] = challenges.as_slice() else { panic!("{challenges:?}") };
        let expected = format!("resource_metadata=\"{}{metadata}\"", site.public_url());
        assert!(challenge.to_str().unwrap().contains(&expected), "{challenge:?}");
    }
    let document = json_of(site.send(request(Method::GET, metadata, None, &[])).await).await;
    assert_eq!(document["resource"], format!("{}/mcp", site.public_url()));
    // What is for the proxy alone.
    for target in ["/auth", "/auth?x", "/auth/mcp", "//auth", "/%61uth"] {
        let status = site.status(request(Method::GET, target, Some("nonsense"), &[("x-original-uri", "/mcp")])).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{target}");
    }
    assert!(site.behind.arrived().is_empty());
    // The record of the refusal names the client's address, not that of the proxy.
    let log = site.program.log_with("token.refused").await;
    let refused: Vec<_> = log.lines().filter(|line| line.contains("token.refused")).collect();
    assert!(refused.iter().all(|line| line.contains(CLIENT)), "{refused:?}");
}

pub(super) async fn identity(kind: Kind) {
    let site = Site::open(kind).await;
    for token in [site.session(ALICE).await, site.entra_token(ALICE).await] {
        for method in [Method::POST, Method::DELETE] {
            let answer = site.send(request(method.clone(), "/mcp", Some(&token), &claims())).await;
            assert_eq!(answer.status(), StatusCode::OK, "{}", site.log());
            let [arrived] = site.behind.arrived().try_into().expect("one request");
            assert_eq!((&arrived.method, arrived.target.as_str()), (&method, "/mcp"));
            assert_eq!(arrived.body, BODY);
            assert_eq!(arrived.value("x-ms-client-principal-id"), ALICES_ID);
            assert_eq!(arrived.value("x-ms-client-principal-idp"), "aad");
            let principal = STANDARD.decode(arrived.value("x-ms-client-principal")).unwrap();
            let principal: Value = serde_json::from_slice(&principal).unwrap();
            let claims = principal["claims"].as_array().unwrap();
            let tenant = "http://schemas.microsoft.com/identity/claims/tenantid";
            assert!(claims.contains(&json!({ "typ": tenant, "val": CONTOSO })), "{principal}");
            let told = format!("{arrived:?}");
            for kept in [token.as_str(), FORGED, "of-the-browser", site.secret.as_str()] {
                assert!(!told.contains(kept), "{kept}: {told}");
            }
            assert_eq!(arrived.values("authorization"), [""; 0]);
        }
    }
}

pub(super) async fn rules(kind: Kind) {
    let rule = "\n[[access]]\nserver = \"crm\"\ntool = \"*\"\nroles = [\"Mcp.Admin\"]\n";
    let site = Site::with(kind, EASY_AUTH, rule).await;
    let (alice, bob) = (site.session(ALICE).await, site.session(BOB).await);
    let bobs_own = site.entra_token(BOB).await;
    for named in [&[][..], &["tools/call", "delete_record"], &["tools/call", "harmless"], &["tools/list"]] {
        let fields: Vec<_> = ["mcp-method", "mcp-name"].into_iter().zip(named.iter().copied()).collect();
        for token in [&bob, &bobs_own] {
            assert_eq!(site.status(post(Some(token), &fields)).await, StatusCode::FORBIDDEN, "{}", site.log());
            assert!(site.behind.arrived().is_empty(), "{named:?}");
        }
        assert_eq!(site.status(post(Some(&alice), &fields)).await, StatusCode::OK, "{}", site.log());
        assert_eq!(site.behind.arrived().len(), 1, "{named:?}");
    }
}

pub(super) async fn scopes(kind: Kind) {
    let rule = "\n[[access]]\nserver = \"crm\"\ntool = \"*\"\nscopes = [\"Crm.Write\"]\n";
    let site = Site::with(kind, EASY_AUTH, rule).await;
    let token = site.entra_token(ALICE).await;
    let answer = site.send(post(Some(&token), &[])).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{}", site.log());
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("error=\"insufficient_scope\"") && challenge.contains("Crm.Write"), "{challenge}");
    assert!(site.behind.arrived().is_empty());
}

pub(super) async fn delegation(kind: Kind) {
    let tasks = app(TASKS);
    let identity = format!("\"token\"\nresource = \"api://{tasks}\"\nscopes = [\"Tasks.Read\"]");
    let site = Site::with(kind, &identity, "").await;
    for token in [site.session(ALICE).await, site.entra_token(ALICE).await] {
        let answer = site.send(post(Some(&token), &claims())).await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", site.log());
        let [arrived] = site.behind.arrived().try_into().expect("one request");
        let delegated = arrived.value("authorization").strip_prefix("Bearer ").expect("a bearer token");
        let claims = lab::claims(delegated);
        assert_eq!((&claims["oid"], &claims["scp"]), (&json!(ALICES_ID), &json!("Tasks.Read")));
        assert!(claims["aud"].as_str().unwrap().contains(&tasks), "{claims}");
        let told = format!("{arrived:?}");
        for kept in [token.as_str(), FORGED, site.secret.as_str()] {
            assert!(!told.contains(kept), "{kept}: {told}");
        }
    }
    assert_eq!(site.status(post(None, &[])).await, StatusCode::UNAUTHORIZED);
    assert!(site.behind.arrived().is_empty());
}

pub(super) async fn assertion(kind: Kind) {
    let site = Site::with(kind, "\"assertion\"\naudience = \"https://crm.example.com\"", "").await;
    let token = site.session(ALICE).await;
    assert_eq!(site.status(post(Some(&token), &claims())).await, StatusCode::OK, "{}", site.log());
    let [arrived] = site.behind.arrived().try_into().expect("one request");
    let claims = lab::claims(arrived.value("x-entra-mcp-assertion"));
    assert_eq!((&claims["oid"], &claims["aud"]), (&json!(ALICES_ID), &json!("https://crm.example.com")));
    assert_eq!((claims.get("tool"), claims.get("body_sha256")), (None, None));
    let told = format!("{arrived:?}");
    assert!(!told.contains(&token) && !told.contains(FORGED), "{told}");
}

/// Targets that one program could take for `/mcp`, and another for something else, with the statuses behind nginx, Caddy and
/// Envoy. 403: the proxy takes it for `/mcp`, and is told that it is another path. 404: it goes on as it is to the program, which
/// has nothing there. 400: the proxy itself does not take it for a path.
const UNUSUAL: [(&str, [u16; 3]); 18] = [
    ("//mcp", [403, 403, 404]),
    ("/./mcp", [403, 403, 404]),
    ("/x/../mcp", [403, 403, 404]),
    ("/mcp/", [404, 404, 404]),
    ("/mcp/..", [404, 404, 404]),
    ("/mcp/../auth", [404, 404, 404]),
    ("/mcp/../../mcp", [400, 403, 404]),
    ("/.well-known/../mcp", [403, 403, 404]),
    ("/%6dcp", [403, 403, 404]),
    ("/%6Dcp", [403, 403, 404]),
    ("/%256dcp", [404, 404, 404]),
    ("/mcp%2f", [404, 404, 404]),
    ("/mcp%2f..%2fmcp", [403, 403, 404]),
    ("/%2e%2e/mcp", [400, 403, 404]),
    ("/.%2fmcp", [403, 403, 404]),
    ("/MCP", [404, 403, 404]),
    ("/mcp;x", [404, 404, 404]),
    ("/mcp%00", [400, 404, 404]),
];

/// Fields by which some programs have a request mean another path or method than it does.
const OVERRIDES: [(&str, &str); 14] = [
    ("x-original-uri", "/.well-known/oauth-protected-resource/mcp"),
    ("x-original-uri", "/mcp"),
    ("x-original-url", "/.well-known/oauth-protected-resource/mcp"),
    ("x-rewrite-url", "/"),
    ("x-forwarded-uri", "/.well-known/oauth-protected-resource/mcp"),
    ("x-forwarded-uri", "/mcp"),
    ("x-forwarded-method", "OPTIONS"),
    ("x-original-method", "OPTIONS"),
    ("x-http-method-override", "OPTIONS"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-envoy-original-path", "/"),
    ("x-entra-mcp-proxy-secret", "guess"),
    ("connection", "authorization, x-entra-mcp-proxy-secret, x-original-uri"),
];

pub(super) async fn evasion(kind: Kind) {
    let site = Site::open(kind).await;
    let token = site.session(ALICE).await;
    // Without a token nothing arrives, whatever the client says.
    for target in ["/mcp", "/mcp?x=/.well-known/"] {
        let status = site.status(request(Method::POST, target, None, &[])).await;
        assert_eq!((status, site.behind.arrived().len()), (StatusCode::UNAUTHORIZED, 0), "{target}");
    }
    // Of these, one proxy makes `/mcp`, another one no path at all. A token makes no difference.
    for (target, statuses) in UNUSUAL {
        for token in [None, Some(token.as_str())] {
            let status = site.status(request(Method::POST, target, token, &[])).await;
            assert_eq!(status, kind.of(statuses), "{target}");
            assert_eq!(site.behind.arrived().len(), 0, "{target}");
        }
    }
    for field in OVERRIDES {
        for method in [Method::POST, Method::GET, Method::OPTIONS] {
            let status = site.status(request(method.clone(), "/mcp", None, &[field])).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {field:?}");
            assert_eq!(site.behind.arrived().len(), 0, "{method} {field:?}");
        }
    }
    let in_query = format!("/mcp?access_token={token}");
    for token in [None, Some(token.as_str())] {
        assert_eq!(site.status(request(Method::POST, &in_query, token, &[])).await, StatusCode::FORBIDDEN);
        assert_eq!(site.behind.arrived().len(), 0);
    }
    let twice = post(Some(&token), &[("authorization", "Bearer another")]);
    // nginx refuses the second field itself.
    assert_eq!(site.status(twice).await, kind.of([400, 403, 403]));
    assert_eq!(site.behind.arrived().len(), 0);
    // The secret of the proxy is of no use to a client, even if it has become known.
    for target in ["/auth", "/auth/mcp", "//auth", "/%61uth", "/auth/../auth"] {
        let fields = [("x-original-uri", "/mcp"), ("x-entra-mcp-proxy-secret", site.secret.as_str())];
        let status = site.status(request(Method::GET, target, Some(&token), &fields)).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{target}");
    }
    // A client cannot have the identity removed as if it were about the connection.
    let named = ("connection", "x-ms-client-principal-id, x-ms-client-principal");
    assert_eq!(site.status(post(Some(&token), &[named])).await, StatusCode::OK, "{}", site.log());
    let [arrived] = site.behind.arrived().try_into().expect("one request");
    assert_eq!(arrived.value("x-ms-client-principal-id"), ALICES_ID);
    // What the client says under these names neither helps nor harms.
    for field in &OVERRIDES[..OVERRIDES.len() - 1] {
        assert_eq!(site.status(post(Some(&token), &[*field])).await, StatusCode::OK, "{field:?}: {}", site.log());
        let arrived = site.behind.arrived();
        assert!(arrived.iter().all(|one| one.method == Method::POST && one.target == "/mcp"), "{arrived:?}");
        assert_eq!(arrived.len(), 1, "{field:?}");
    }
}

pub(super) async fn events(kind: Kind) {
    let site = Site::open(kind).await;
    let token = site.session(ALICE).await;
    let answer = site.send(request(Method::GET, "/mcp", Some(&token), &[])).await;
    assert_eq!(answer.status(), StatusCode::OK, "{}", site.log());
    let mut body = answer.into_body();
    let mut text = String::new();
    for (event, seen) in [("data: first\n\n", 1), ("data: second\n\n", 2)] {
        while !text.contains(event) {
            let frame = soon(body.frame()).await.expect("the event arrives").expect("there is more").unwrap();
            text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap()));
        }
        assert_eq!(text.matches("data: ").count(), seen, "{text}");
        site.behind.second_event.notify_one();
    }
    assert!(soon(body.frame()).await.expect("the stream ends").is_none());
}

pub(super) async fn outage(kind: Kind) {
    let mut site = Site::open(kind).await;
    let token = site.session(ALICE).await;
    assert_eq!(site.status(post(Some(&token), &[])).await, StatusCode::OK);
    assert_eq!(site.behind.arrived().len(), 1);
    site.program.server.end();
    for token in [None, Some(token.as_str())] {
        let status = site.status(post(token, &[])).await;
        // nginx takes no answer for an error of its own; Caddy cannot connect; Envoy answers with `status_on_error`.
        assert_eq!(status, kind.of([500, 502, 503]));
    }
    assert!(site.behind.arrived().is_empty());
}
