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
    challenge: String,
    resource: Value,
    server: Value,
}

/// A server that refuses everything, and publishes this.
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
                    let answer = Response::builder().status(401).header("www-authenticate", &published.challenge);
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
