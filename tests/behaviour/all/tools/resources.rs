//! Tokens for other APIs than Graph: a tool, a server behind and a process get those of their caller, and each API gets its
//! own and no other.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::mail::{assert_no_client_token_left, bearer, call_with, watch};
use crate::host::commands::Home;
use crate::host::records::Site;
use crate::support::behind::{Arrived, Behind};
use crate::support::component::modern;
use crate::support::lab::{TASKS, app, claims};
use crate::support::patience::soon;
use crate::support::session::sign_in;
use crate::support::tool_components::{self, HOSTILE};

/// Users, and their ids.
const ALICE: (&str, &str) = ("alice@contoso.example", "11111111-0000-4000-a000-000000000001");
const BOB: (&str, &str) = ("bob@contoso.example", "11111111-0000-4000-a000-000000000002");

const MAIL: &str = "https://graph.microsoft.com/v1.0/me/messages";

/// A program that is a server on standard streams. Its tool `token` reads the file with the token.
const PROGRAM: &str = env!("CARGO_BIN_EXE_rmcp-server");

/// What of a token makes it this user's, for the API that is no Graph.
fn assert_for_tasks(token: &str, of: (&str, &str)) {
    let claims = claims(token);
    assert_eq!((&claims["oid"], &claims["scp"]), (&json!(of.1), &json!("Tasks.Read")), "{}", of.0);
    assert!(claims["aud"].as_str().unwrap().contains(&app(TASKS)), "{claims}");
}

/// The token that a request has brought.
fn delegated(arrived: &Arrived) -> String {
    arrived.value("authorization").strip_prefix("Bearer ").expect("a bearer token").to_owned()
}

/// The lines of the configuration that say which token a server gets.
fn of_tasks() -> String {
    format!("resource = \"api://{}\"\nscopes = [\"Tasks.Read\"]\n", app(TASKS))
}

/// The hostile tools, which may ask Graph and this API.
fn tools(api: &Behind) -> String {
    format!(
        "[[tools]]\nname = \"orders\"\nfile = {:?}\n\
         egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }}, \
         {{ to = \"http://{}/\", resource = \"api://{}\", scopes = [\"Tasks.Read\"] }}]\n",
        tool_components::file(HOSTILE),
        api.address(),
        app(TASKS),
    )
}

/// A site with this configuration, which accepts tokens of Entra ID as well.
async fn site(config: String) -> Site {
    Site::new(|folder| {
        let file = folder.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let file = file.display().to_string();
        ["--config", &file, "--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned).into()
    })
    .await
}

/// A token of a session at a path, and one of Entra ID.
async fn tokens(site: &Site, path: &str, username: &str) -> [String; 2] {
    let session = sign_in(site.server.public_url(), path, username).await.access_token;
    [session, bearer(&site.emulator, username).await]
}

#[tokio::test]
async fn an_api_that_is_no_graph_gets_the_token_that_a_tool_was_granted_for_it_and_graph_its_own() {
    let api = Behind::start().await;
    let site = site(tools(&api)).await;
    let ask_api = json!({ "url": format!("http://{}/orders", api.address()), "method": "POST", "body": "{}" });
    let http = reqwest::Client::new();
    for user in [ALICE, BOB] {
        for token in tokens(&site, "/mcp", user.0).await {
            let (status, answer) = call_with(&http, &site, "/mcp", &token, "fetch", &ask_api).await;
            let got = (status, &answer["result"]["structuredContent"]["status"]);
            assert_eq!(got, (200, &json!(200)), "{answer}\n{}", site.server.log());
            let [arrived] = api.arrived().try_into().expect("one request");
            let for_api = delegated(&arrived);
            assert_for_tasks(&for_api, user);

            // Neither the token of the client nor that of the API goes to Graph, which accepts its own.
            watch(&site.emulator, &[token.clone(), for_api]);
            let (_, answer) = call_with(&http, &site, "/mcp", &token, "fetch", &json!({ "url": MAIL })).await;
            assert_eq!(answer["result"]["structuredContent"]["status"], 200, "{answer}\n{}", site.server.log());
            assert!(api.arrived().is_empty());
            assert_no_client_token_left(&site.emulator);
        }
    }
}

#[tokio::test]
async fn an_api_that_is_no_graph_gets_the_token_of_the_person_at_this_machine() {
    let api = Behind::start().await;
    let home = Home::new().await;
    let config = home.path().join(".config/entra-mcp/config.toml");
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{settings}{}", tools(&api))).unwrap();
    let mut command = home.program_with_person(&["stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(output).lines();
    let arguments = json!({ "url": format!("http://{}/orders", api.address()), "method": "POST", "body": "{}" });
    let message = modern("tools/call", json!({ "name": "fetch", "arguments": arguments }), json!({}));
    input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    let answer = loop {
        let line = soon(lines.next_line()).await.expect("the server answers").unwrap().expect("the server goes on");
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["id"] == 1 {
            break message;
        }
    };
    assert_eq!(answer["result"]["structuredContent"]["status"], 200, "{answer}");
    let [arrived] = api.arrived().try_into().expect("one request");
    assert_for_tasks(&delegated(&arrived), ALICE);
}

#[tokio::test]
async fn a_server_behind_with_the_identity_token_gets_one_of_its_caller_and_another_one_gets_none() {
    let (crm, wiki) = (Behind::start().await, Behind::start().await);
    let site = site(format!(
        "[[upstream]]\nname = \"crm\"\nurl = {:?}\nidentity = \"token\"\n{}[[upstream]]\nname = \"wiki\"\nurl = {:?}\n",
        crm.url(),
        of_tasks(),
        wiki.url(),
    ))
    .await;
    for user in [ALICE, BOB] {
        for token in tokens(&site, "/crm/mcp", user.0).await {
            let forged = [("x-ms-token-aad-access-token", "forged")];
            let (status, _) = site.call_tool("/crm/mcp", Some(&token), "read_record", &forged).await;
            assert_eq!(status, 200, "{}", site.server.log());
            let [arrived] = crm.arrived().try_into().expect("one request");
            let for_crm = delegated(&arrived);
            assert_for_tasks(&for_crm, user);
            assert_ne!(for_crm, token);
            let told = format!("{arrived:?}");
            assert!(!told.contains(&token) && !told.contains("forged"), "{told}");
        }
        let [token, _] = tokens(&site, "/wiki/mcp", user.0).await;
        assert_eq!(site.call_tool("/wiki/mcp", Some(&token), "read_record", &[]).await.0, 200);
        let [arrived] = wiki.arrived().try_into().expect("one request");
        assert_eq!(arrived.values("authorization"), [""; 0]);
    }
}

/// The token in the file of a process, which its tool has answered with.
fn read_by_process(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {answer}"))
}

#[tokio::test]
async fn a_process_reads_the_token_of_its_own_caller_in_its_file() {
    let site = site(format!(
        "[[upstream]]\nname = \"crm\"\ncommand = [{PROGRAM:?}]\nidentity = \"token\"\n{}\
         [[upstream]]\nname = \"wiki\"\ncommand = [{PROGRAM:?}]\n",
        of_tasks(),
    ))
    .await;
    // By turns, so that the processes of all callers are there at the same time.
    let mut callers = Vec::new();
    for user in [ALICE, BOB] {
        callers.extend(tokens(&site, "/crm/mcp", user.0).await.map(|token| (user, token)));
    }
    for _ in 0..2 {
        for (user, token) in &callers {
            let (status, answer) = site.call_tool("/crm/mcp", Some(token), "token", &[]).await;
            assert_eq!(status, 200, "{answer}\n{}", site.server.log());
            assert_for_tasks(read_by_process(&answer), *user);
        }
    }
    let [token, _] = tokens(&site, "/wiki/mcp", ALICE.0).await;
    let (_, answer) = site.call_tool("/wiki/mcp", Some(&token), "token", &[]).await;
    assert_eq!(read_by_process(&answer), "there is no file", "{answer}");
}
