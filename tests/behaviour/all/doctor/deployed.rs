//! A deployed server, seen from outside.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Diagnosis, diagnosis, doctor};
use crate::host::commands::Home;
use crate::host::serve::{Server, serve};
use crate::support::lab::{CONTOSO, REMOTE, app};

/// What a server says of itself, however wrong it is.
#[derive(Clone)]
struct Published {
    /// The status of the answer to a request without a token.
    status: u16,
    /// The same where the request is of a foreign web page, and where it is for a foreign name.
    of_page: u16,
    for_name: u16,
    challenge: String,
    resource: Value,
    server: Value,
}

/// A server that answers no request, and publishes this.
async fn publishing(make: impl FnOnce(&str) -> Published) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let published = Arc::new(make(&url));
    let answer = move |request: Request| {
        let published = Arc::clone(&published);
        async move {
            let json = |document: &Value| Response::builder().status(200).body(document.to_string()).unwrap();
            match request.uri().path() {
                "/mcp" => {
                    let has = |name: &str, text: &str| {
                        request.headers().get(name).is_some_and(|value| value.as_bytes().ends_with(text.as_bytes()))
                    };
                    let status = match () {
                        () if has("origin", "attacker.example") => published.of_page,
                        () if has("host", "attacker.example") => published.for_name,
                        () => published.status,
                    };
                    let answer = Response::builder().status(status).header("www-authenticate", &published.challenge);
                    answer.body(String::new()).unwrap()
                }
                path if path.starts_with("/.well-known/oauth-protected-resource") => json(&published.resource),
                "/.well-known/oauth-authorization-server" if !published.server.is_null() => json(&published.server),
                _ => Response::builder().status(404).body(String::new()).unwrap(),
            }
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

/// A server of its own authorization server, right in every respect.
fn right(url: &str) -> Published {
    Published {
        status: 401,
        of_page: 403,
        for_name: 421,
        challenge: format!("Bearer resource_metadata=\"{url}/.well-known/oauth-protected-resource/mcp\""),
        resource: json!({ "resource": format!("{url}/mcp"), "authorization_servers": [url] }),
        server: json!({
            "issuer": url, "code_challenge_methods_supported": ["S256"], "registration_endpoint": format!("{url}/register"),
        }),
    }
}

/// Visits from a machine where nothing is configured.
async fn visit(home: &Home, url: &str) -> Diagnosis {
    let mut command = home.program(&["doctor", "--json", "--url", url]);
    command.env("HOME", home.path().join("elsewhere"));
    diagnosis(command).await
}

#[tokio::test]
async fn the_programs_own_server_is_right_in_every_respect_for_all_clients_on_this_machine() {
    let home = Home::new().await;
    let server = Server::start(serve(&home, &["--client-id", &app(REMOTE)])).await;
    let url = server.ready["public_url"].as_str().unwrap();
    let diagnosis = doctor(&home, &["--url", url], &[]).await;
    assert_eq!(diagnosis.ids("failure"), [""; 0], "{:#}", diagnosis.report);
    for id in ["challenge", "resource", "issuer", "pkce", "registration", "origin", "host"] {
        assert!(diagnosis.ids("good").contains(&id), "{id}: {:#}", diagnosis.report);
    }
    // Claude and Copilot Studio come from elsewhere.
    assert_eq!(
        (diagnosis.code, diagnosis.ids("warning")),
        (Some(1), vec!["client", "client"]),
        "{:#}",
        diagnosis.report
    );
    let visited = visit(&home, &format!("{url}/mcp")).await;
    assert_eq!(visited.ids("failure"), [""; 0], "{:#}", visited.report);
    assert_eq!(server.end().await.0, Some(0));
}

#[tokio::test]
async fn what_is_wrong_with_a_deployed_server_is_named_for_the_clients_that_it_stops() {
    let home = Home::new().await;
    let cases: [(fn(&str) -> Published, &str, &str, usize); 5] = [
        (
            |url| Published { challenge: "Bearer".to_owned(), ..right(url) },
            "challenge",
            "does not say where the resource metadata is",
            0,
        ),
        (
            |url| Published {
                resource: json!({ "resource": format!("{url}/mcp/"), "authorization_servers": [url] }),
                ..right(url)
            },
            "resource",
            "they differ in the slash at the end",
            5,
        ),
        (
            |url| Published {
                server: json!({ "issuer": format!("{url}/"), "code_challenge_methods_supported": ["S256"], "registration_endpoint": "x" }),
                ..right(url)
            },
            "issuer",
            "which calls itself",
            2,
        ),
        (
            |url| Published { server: json!({ "issuer": url, "registration_endpoint": "x" }), ..right(url) },
            "pkce",
            "does not publish that it knows S256",
            1,
        ),
        (|url| Published { server: Value::Null, ..right(url) }, "authorization-server", "publishes no metadata", 5),
    ];
    for (published, id, what, stopped) in cases {
        let diagnosis = visit(&home, &publishing(published).await).await;
        assert!(diagnosis.code == Some(2) && diagnosis.failure(id).0.contains(what), "{id}: {:#}", diagnosis.report);
        let clients = diagnosis.ids("failure").into_iter().filter(|id| *id == "client").count();
        assert_eq!(clients, stopped, "{id}: {:#}", diagnosis.report);
    }
}

#[tokio::test]
async fn each_answer_in_the_place_of_a_refusal_is_explained() {
    let home = Home::new().await;
    for (status, what, change) in [
        (200, "answers requests without a token", "switch authorization on"),
        (302, "redirects elsewhere (HTTP status 302)", "give clients the URL that it redirects to"),
        (404, "is no MCP endpoint (HTTP status 404)", "pass the URL of the MCP endpoint itself"),
        (421, "refuses a request by its Host or its form (HTTP status 421)", "set --public-url"),
        (502, "answers with HTTP status 502 instead of 401", "see the log of the server"),
    ] {
        let url = publishing(|url| Published { status, ..right(url) }).await;
        let diagnosis = visit(&home, &url).await;
        let found = diagnosis.failure("challenge");
        assert!(found.0.contains(what) && found.1.contains(change), "{status}: {:#}", diagnosis.report);
        assert_eq!(diagnosis.code, Some(2), "{status}");
        // It goes on to the metadata and to foreign requests.
        for id in ["resource", "issuer", "pkce", "origin", "host"] {
            assert!(diagnosis.ids("good").contains(&id), "{status}, {id}: {:#}", diagnosis.report);
        }
    }
}

#[tokio::test]
async fn a_server_that_answers_foreign_pages_or_names_like_its_own_is_a_warning() {
    let home = Home::new().await;
    for (of_page, for_name, expected) in [
        (403, 421, vec![]),
        (401, 421, vec![("origin", "is answered like any other")]),
        (200, 403, vec![("origin", "gets HTTP status 200")]),
        (403, 401, vec![("host", "is answered like any other")]),
    ] {
        let url = publishing(|url| Published { of_page, for_name, ..right(url) }).await;
        let diagnosis = visit(&home, &url).await;
        let found: Vec<_> = diagnosis
            .of("warning")
            .into_iter()
            .filter(|found| found["id"] == "origin" || found["id"] == "host")
            .collect();
        assert_eq!(found.len(), expected.len(), "{of_page} {for_name}: {found:?}");
        for (found, (id, what)) in found.into_iter().zip(expected) {
            assert_eq!(found["id"], id);
            assert!(found["what"].as_str().unwrap().contains(what), "{found}");
            assert!(found["change"].as_str().unwrap().contains("refuse"), "{found}");
        }
    }
}

#[tokio::test]
async fn every_fault_has_a_line_that_says_what_to_change() {
    let home = Home::new().await;
    for published in [
        (|url: &str| Published { status: 200, of_page: 200, for_name: 401, ..right(url) }) as fn(&str) -> Published,
        |url| Published { server: Value::Null, ..right(url) },
        |url| Published { resource: json!({ "resource": "https://other.example/mcp" }), ..right(url) },
    ] {
        let diagnosis = visit(&home, &publishing(published).await).await;
        let faults = [diagnosis.of("failure"), diagnosis.of("warning")].concat();
        assert!(faults.iter().any(|found| found["id"] == "client"), "{:#}", diagnosis.report);
        for fault in faults {
            assert!(fault["change"].as_str().is_some_and(|change| !change.is_empty()), "{fault}");
        }
    }
}

/// The kind of chain that cost the reporter of anthropics/claude-ai-mcp #786 days: each fault hides the next, and the client
/// shows the same sentence for all of them. Short scopes, an App ID URI that is not the resource, and tokens of version 1.
#[tokio::test]
async fn three_faults_that_hide_each_other_are_explained_in_one_run() {
    let home = Home::new().await;
    let authority = home.emulator().endpoints().authority.clone();
    let url = publishing(|url| Published {
        challenge: format!(
            "Bearer resource_metadata=\"{url}/.well-known/oauth-protected-resource/mcp\", scope=\"access_as_user\""
        ),
        resource: json!({
            "resource": format!("{url}/mcp"),
            "authorization_servers": [format!("{authority}/{CONTOSO}/v2.0")],
            "scopes_supported": [format!("api://{}/access_as_user", app(REMOTE))],
        }),
        server: Value::Null,
        ..right(url)
    })
    .await;
    let control = home.emulator().control();
    control.change_application(&app(REMOTE), |own| own.access_token_version = 1).unwrap();
    let token = home.path().join("token.txt");
    std::fs::write(&token, crate::tools::mail::bearer(home.emulator(), "alice@contoso.example").await).unwrap();
    let arguments = ["--url", &url, "--token", token.to_str().unwrap(), "--token-mode", "bearer"];
    let diagnosis = doctor(&home, &arguments, &[]).await;
    assert_eq!(diagnosis.code, Some(2));
    let (what, change) = diagnosis.failure("scopes");
    assert!(what.contains("\"access_as_user\"") && what.contains("AADSTS650053"), "{what}");
    assert!(change.contains(&format!("{url}/mcp/access_as_user")), "{change}");
    let (what, change) = diagnosis.failure("app-id-uri");
    assert!(what.contains("AADSTS9010010") && what.contains(&format!("{url}/mcp")), "{what}");
    assert!(change.contains("App registrations > your app > Expose an API"), "{change}");
    let (what, change) = diagnosis.failure("token");
    assert!(what.contains(&format!("api://{}", app(REMOTE))), "{what}");
    assert!(change.contains("requestedAccessTokenVersion to 2 (App registrations > your app > Manifest)"), "{change}");
    let clients: Vec<_> = diagnosis.of("failure").into_iter().filter(|found| found["id"] == "client").collect();
    assert!(clients.iter().any(|found| found["what"].as_str().unwrap().contains("AADSTS9010010")), "{clients:?}");
}
