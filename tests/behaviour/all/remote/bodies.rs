//! Requests whose body the program does not read (`entra_mcp_app::http_handler::Routes`): the component would have answered
//! them as it does without the body.

use entra_mcp_app::http_handler::Routes;
use entra_mcp_plugin::environment::TokenMode;
use entra_mcp_server::BodyNeed;
use http::{HeaderValue, Method, Request};
use serde_json::json;

use crate::support::remote::{ALICE, Answer, Fleet, tool_request};

const PATHS: [&str; 19] = [
    "/",
    "/mcp",
    "/mcp/",
    "/sse",
    "/message",
    "/message?sessionId=x",
    "/authorize",
    "/auth/callback",
    "/token",
    "/register",
    "/revoke",
    "/healthz",
    "/readyz",
    "/unknown",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/mcp/.well-known/openid-configuration",
];

const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::OPTIONS];

const TYPES: [Option<&str>; 6] = [
    None,
    Some("application/json"),
    Some("Application/JSON;charset=utf-8"),
    Some("application/vnd.example+json"),
    Some("application/x-www-form-urlencoded"),
    Some("text/plain"),
];

fn bodies() -> [String; 4] {
    let registration = json!({ "redirect_uris": ["https://client.example/cb"], "token_endpoint_auth_method": "none" });
    [
        String::from_utf8(tool_request("x", "getUserDetails", &json!({})).into_body()).unwrap(),
        registration.to_string(),
        "grant_type=refresh_token&client_id=c&refresh_token=r&token=t".to_owned(),
        "not a body of any kind".to_owned(),
    ]
}

/// Everything of an answer that does not name the request.
fn essence(answer: &Answer) -> (u16, Vec<(String, HeaderValue)>, String) {
    let mut headers: Vec<_> = answer.headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    headers.retain(|(name, _)| name != "x-correlation-id" && name != "content-length");
    headers.sort_by(|one, other| (&one.0, one.1.as_bytes()).cmp(&(&other.0, other.1.as_bytes())));
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    let id = answer.headers.get("x-correlation-id").and_then(|id| id.to_str().ok()).unwrap_or("no id");
    (answer.status, headers, text.replace(id, "ID"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_without_its_body_is_answered_as_with_it() {
    let (mut compared, mut read) = (0, 0);
    for (mode, open) in [(TokenMode::Session, true), (TokenMode::Session, false), (TokenMode::Bearer, true)] {
        let mut routes = None;
        let fleet = Fleet::with(|settings| {
            let http = settings.http.as_mut().unwrap();
            (http.token_mode, http.legacy_sse, http.dynamic_registration) = (mode, open, open);
            routes = Some(Routes::of(http));
        })
        .await;
        let routes = routes.unwrap();
        let session = match (mode, open) {
            (TokenMode::Session, true) => Some(fleet.session(ALICE).await.access),
            _ => None,
        };
        let good = session.as_ref().map(|token| format!("Bearer {token}"));
        let authorizations = [None, Some("Bearer"), Some("Basic YTpi"), Some("Bearer a b"), good.as_deref()];
        for path in PATHS {
            // Elsewhere, a token means nothing.
            let is_mcp = ["/mcp", "/sse", "/message"].iter().any(|mcp| path.starts_with(mcp));
            let authorizations = if is_mcp { &authorizations[..] } else { &authorizations[..1] };
            for method in METHODS {
                for content_type in TYPES {
                    for authorization in authorizations.iter().copied() {
                        let mut head = Request::builder().method(&method).uri(path);
                        for (name, value) in [("content-type", content_type), ("authorization", authorization)] {
                            head = value.into_iter().fold(head, |head, value| head.header(name, value));
                        }
                        let head = head.body(Vec::new()).unwrap();
                        let bare = path.split('?').next().unwrap();
                        if routes.body_need(&method, bare, head.headers()) != BodyNeed::Nothing {
                            read += 1;
                            continue;
                        }
                        // An open stream does not end, and has no body.
                        if (bare, &method, authorization) == ("/sse", &Method::GET, good.as_deref()) {
                            continue;
                        }
                        let without = essence(&fleet.send(head.clone()).await);
                        for body in bodies() {
                            let with = essence(&fleet.send(head.clone().map(|_| body.clone().into_bytes())).await);
                            let said = (path, &method, content_type, authorization.is_some());
                            assert_eq!(with, without, "{said:?} {body}");
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(compared > 1_000 && read > 10, "{compared} {read}");
}

#[tokio::test]
async fn a_form_with_an_access_token_in_place_of_a_message_is_400_whether_or_not_there_is_a_header() {
    let mut routes = None;
    let fleet = Fleet::with(|settings| routes = settings.http.as_ref().map(Routes::of)).await;
    let token = fleet.session(ALICE).await.access;
    for authorization in [None, Some(format!("Bearer {token}"))] {
        let mut request = Request::post("/mcp").header("content-type", "application/x-www-form-urlencoded");
        if let Some(authorization) = &authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(format!("access_token={token}").into_bytes()).unwrap();
        let need = routes.as_ref().unwrap().body_need(request.method(), "/mcp", request.headers());
        assert_eq!(need, BodyNeed::UpTo(64 * 1024));
        let answer = fleet.send(request).await;
        let error = answer.header("www-authenticate").contains("invalid_request");
        assert_eq!((answer.status, error), (400, true), "{authorization:?} {:?}", answer.headers);
    }
}
