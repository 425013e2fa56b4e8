//! Components that are whole MCP servers, of WASI 0.2 and 0.3, behind the gate: they read Graph as their caller, and where
//! Entra ID wants more of the caller, its client is told.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entra_mcp_emulator::Endpoint;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::mail::{answer_to, assert_no_client_token_left, bearer, bearer_with, call_with, watch};
use crate::host::records::Site;
use crate::support::lab::app;
use crate::support::session::{sign_in, sign_in_of};
use crate::support::tool_components::{self, HTTP_SERVER, HTTP_SERVICE};

/// Calls at the same time.
const CALLS: usize = 16;

/// A user of whom Entra ID wants a second factor for the API `vault`, and for nothing else.
const STELLA: &str = "stella@contoso.example";
/// That API. Nothing listens there: a request that was given its token finds no connection.
const VAULT: &str = "http://127.0.0.1:1/";

/// The server whose tools are this component.
async fn serving(component: &str) -> Site {
    Site::new(|folder| {
        let config = folder.path().join("config.toml");
        let table = format!(
            "[[tools]]\nname = \"mail\"\nfile = {:?}\n\
             egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }}, \
             {{ to = {VAULT:?}, resource = \"api://{}\", scopes = [\"Vault.Open\"] }}]\n",
            tool_components::file(component),
            app(6),
        );
        fs::write(&config, table).unwrap();
        let config = config.display().to_string();
        ["--config", &config, "--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned).into()
    })
    .await
}

/// Status and challenge of a call that opens the vault, and what its tool has seen.
async fn open_vault(site: &Site, token: &str) -> (u16, String, Value) {
    let arguments = json!({ "url": VAULT });
    let answer = answer_to(&reqwest::Client::new(), site, "/mcp", token, "fetch", &arguments).await;
    let (status, challenge) = (answer.status().as_u16(), answer.headers().get("www-authenticate").cloned());
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
    (status, challenge, body["result"]["structuredContent"]["refused"].clone())
}

/// The vault would have been asked: there was a token for it.
const NOT_CONNECTED: (u16, &str, &str) = (200, "", "ConnectionRefused");

fn parts((status, challenge, refused): &(u16, String, Value)) -> (u16, &str, &str) {
    (*status, challenge, refused.as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_client_with_a_token_is_challenged_for_what_a_whole_server_was_refused() {
    for component in [HTTP_SERVER, HTTP_SERVICE] {
        let site = serving(component).await;
        let weak = bearer(&site.emulator, STELLA).await;
        let answer = open_vault(&site, &weak).await;
        let (status, challenge, _) = parts(&answer);
        assert_eq!(status, 401, "{component}: {answer:?}\n{}", site.server.log());
        assert!(challenge.starts_with("Bearer error=\"insufficient_claims\", "), "{challenge}");
        let claims = challenge.split("claims=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("claims");
        let claims = String::from_utf8(STANDARD.decode(claims).unwrap()).unwrap();
        assert!(claims.contains("capolids"), "{claims}");
        // What it does not want more for goes on.
        let (status, mail) = call_with(&reqwest::Client::new(), &site, "/mcp", &weak, "list_mail", &json!({})).await;
        assert_eq!((status, &mail["result"]["structuredContent"]["status"]), (200, &json!(200)), "{mail}");
        let strong = bearer_with(&site.emulator, STELLA, &claims).await;
        let answer = open_vault(&site, &strong).await;
        assert_eq!(parts(&answer), NOT_CONNECTED, "{component}: {}", site.server.log());
    }
}

#[tokio::test]
async fn the_person_of_a_session_signs_in_once_more_for_what_a_whole_server_was_refused() {
    for component in [HTTP_SERVER, HTTP_SERVICE] {
        let site = serving(component).await;
        let session = sign_in(site.server.public_url(), "/mcp", STELLA).await;
        let answer = open_vault(&site, &session.access_token).await;
        let (status, challenge, _) = parts(&answer);
        assert_eq!(status, 403, "{component}: {answer:?}\n{}", site.server.log());
        assert!(challenge.starts_with("Bearer error=\"insufficient_scope\", "), "{challenge}");
        assert!(!challenge.contains("claims="), "{challenge}");
        // The session goes on for everything else.
        let http = reqwest::Client::new();
        let (status, mail) = call_with(&http, &site, "/mcp", &session.access_token, "list_mail", &json!({})).await;
        assert_eq!((status, &mail["result"]["structuredContent"]["status"]), (200, &json!(200)), "{mail}");
        // The same client authorizes again.
        let again = sign_in_of(site.server.public_url(), "/mcp", STELLA, &session.client_id).await;
        let answer = open_vault(&site, &again.access_token).await;
        assert_eq!(parts(&answer), NOT_CONNECTED, "{component}: {}", site.server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_server_reads_the_mail_of_each_of_its_callers_who_call_at_the_same_time() {
    for component in [HTTP_SERVER, HTTP_SERVICE] {
        let site = Site::new(|folder| {
            let config = folder.path().join("config.toml");
            let table = format!(
                "[[tools]]\nname = \"mail\"\nfile = {:?}\n\
                 egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }}]\n",
                tool_components::file(component)
            );
            fs::write(&config, table).unwrap();
            let config = config.display().to_string();
            ["--config", &config, "--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned).into()
        })
        .await;
        let mut tokens = Vec::new();
        for username in ["alice@contoso.example", "bob@contoso.example"] {
            tokens.push((username, bearer(&site.emulator, username).await));
        }
        watch(&site.emulator, &tokens.iter().map(|(_, token)| token.clone()).collect::<Vec<_>>());
        let http = reqwest::Client::new();
        let calls = (0..CALLS).map(|number| {
            let (username, token) = &tokens[number % tokens.len()];
            let (http, site) = (&http, &site);
            async move {
                let (status, answer) = call_with(http, site, "/mcp", token, "list_mail", &json!({})).await;
                assert_eq!(status, 200, "{component}: {answer}\n{}", site.server.log());
                let graph = &answer["result"]["structuredContent"];
                let body = graph["body"].as_str().unwrap_or_else(|| panic!("{component}: {answer}"));
                let messages: Value = serde_json::from_str(body).unwrap();
                let messages = messages["value"].as_array().unwrap().clone();
                assert_eq!(messages.len(), 5, "{body}");
                for message in messages {
                    assert_eq!(
                        message["toRecipients"][0]["emailAddress"]["address"], **username,
                        "{component}: {body}"
                    );
                }
            }
        });
        join_all(calls).await;
        assert_eq!(site.emulator.control().request_count(Endpoint::GraphMessages), CALLS as u64);
        assert_no_client_token_left(&site.emulator);
    }
}
