//! A tool component reads Graph as its caller: with a session, with a token of Entra ID, over standard input and
//! output, and for many callers at once. Every answer is the caller's own, and no token of a client leaves the
//! server.

use std::fs;
use std::process::Stdio;

use entra_mcp_emulator::user_agent::HeadlessBrowser;
use entra_mcp_emulator::{Emulator, Endpoint, Sighting};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::host::commands::Home;
use crate::host::records::Site;
use crate::support::component::modern;
use crate::support::lab::{Authorize, CONTOSO, LOCAL, REDIRECT, REMOTE, VERIFIER, app};
use crate::support::patience::soon;
use crate::support::session::sign_in;
use crate::support::tool_components;

const ALICE: &str = "alice@contoso.example";
const BOB: &str = "bob@contoso.example";
const LIST_MAIL: &str = "list_mail";
/// The destination of [`configuration`], as a flag.
const GRANT: &str = "https://graph.microsoft.com=Mail.Read";

/// Callers that call at the same time.
const CALLERS: usize = 200;
/// Calls of each.
const ROUNDS: usize = 20;

/// The configuration that README of a project gives, for a component.
fn configuration(component: &str) -> String {
    format!(
        "[[tools]]\nname = \"mail\"\nfile = {:?}\nmax-concurrent = 256\n\
         egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }}]\n",
        tool_components::file(component)
    )
}

fn arguments(folder: &TempDir) -> Vec<String> {
    let config = folder.path().join("config.toml");
    fs::write(&config, configuration(tool_components::MAIL)).unwrap();
    let config = config.display().to_string();
    ["--config", &config, "--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned).into()
}

/// A token of Entra ID for the server, as an MCP client gets it by itself.
pub(crate) async fn bearer(emulator: &Emulator, username: &str) -> String {
    bearer_by(emulator, Authorize::new(LOCAL), username).await
}

/// The same with claims that a challenge has named.
pub(super) async fn bearer_with(emulator: &Emulator, username: &str, claims: &str) -> String {
    bearer_by(emulator, Authorize::new(LOCAL).with("claims", claims), username).await
}

async fn bearer_by(emulator: &Emulator, request: Authorize, username: &str) -> String {
    let scope = format!("api://{}/Mcp.Access", app(REMOTE));
    let authority = &emulator.endpoints().authority;
    let url = request.scope(&scope).url(authority);
    let landing = HeadlessBrowser::new().staying().sign_in(&url, username, "emulator").await.unwrap();
    let code = landing.parameter("code").unwrap_or_else(|| panic!("no code in {landing:?}"));
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", &app(LOCAL)),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("scope", &scope),
    ];
    let request = reqwest::Client::new().post(format!("{authority}/{CONTOSO}/oauth2/v2.0/token")).form(&form);
    let tokens: Value = request.send().await.unwrap().json().await.unwrap();
    tokens["access_token"].as_str().unwrap_or_else(|| panic!("no token in {tokens}")).to_owned()
}

/// Calls a tool without arguments; status and body.
async fn call(http: &reqwest::Client, site: &Site, path: &str, token: &str, tool: &str) -> (u16, Value) {
    call_with(http, site, path, token, tool, &json!({})).await
}

/// Calls a tool of the server with this path; status and body.
pub(super) async fn call_with(
    http: &reqwest::Client,
    site: &Site,
    path: &str,
    token: &str,
    tool: &str,
    arguments: &Value,
) -> (u16, Value) {
    let answer = answer_to(http, site, path, token, tool, arguments).await;
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

/// The same; the answer.
pub(super) async fn answer_to(
    http: &reqwest::Client,
    site: &Site,
    path: &str,
    token: &str,
    tool: &str,
    arguments: &Value,
) -> reqwest::Response {
    let message = modern("tools/call", json!({ "name": tool, "arguments": arguments }), json!({}));
    let request = http
        .post(site.server.at(path))
        .bearer_auth(token)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .json(&message);
    request.send().await.unwrap()
}

/// The answer is about one mailbox, and that is the one of this user.
fn assert_own(answer: &Value, username: &str) {
    let content = &answer["result"]["structuredContent"];
    let messages = content["messages"].as_array().unwrap_or_else(|| panic!("{username}: {answer}"));
    assert_eq!(messages.len(), 5, "{answer}");
    for message in messages {
        assert_eq!(message["to"], username, "{answer}");
    }
}

/// Watches for tokens of clients, for [`assert_no_client_token_left`].
pub(crate) fn watch(emulator: &Emulator, tokens: &[String]) {
    emulator.control().watch(tokens.iter().cloned());
}

/// In all the requests that the emulator has had, none of the tokens that it watches for was sent to Graph or anywhere else
/// but to the token endpoint, for exchange.
pub(crate) fn assert_no_client_token_left(emulator: &Emulator) {
    let exchange = Sighting { endpoint: Endpoint::Token, place: "form assertion".to_owned() };
    let mut seen = emulator.control().sightings();
    seen.remove(&exchange);
    assert!(seen.is_empty(), "{seen:?}");
}

/// A caller of [`callers`], with a name of its own.
pub(super) struct Caller {
    pub(super) username: String,
    pub(super) token: String,
}

/// As many callers, by turns with a session for the path that their number gives, and with a token of Entra ID.
pub(super) async fn callers(site: &Site, count: usize, path: impl Fn(usize) -> String) -> Vec<Caller> {
    let mut callers = Vec::new();
    for number in 0..count {
        let username = format!("caller-{number}@contoso.example");
        let user = json!({
            "id": format!("44444444-0000-4000-a000-{number:012}"),
            "tenant": CONTOSO,
            "username": username,
            "password": "emulator",
        });
        site.emulator.control().put_user(serde_json::from_value(user).unwrap()).unwrap();
        let token = match number % 2 {
            0 => sign_in(site.server.public_url(), &path(number), &username).await.access_token,
            _ => bearer(&site.emulator, &username).await,
        };
        callers.push(Caller { username, token });
    }
    callers
}

#[tokio::test]
async fn a_tool_reads_the_mail_of_its_caller_with_a_session_and_with_a_token_of_entra_id() {
    let site = Site::new(arguments).await;
    let http = reqwest::Client::new();
    for username in [ALICE, BOB] {
        let session = sign_in(site.server.public_url(), "/mcp", username).await.access_token;
        let token = bearer(&site.emulator, username).await;
        site.emulator.control().clear_requests();
        watch(&site.emulator, &[session.clone(), token.clone()]);
        for token in [&session, &token] {
            let (status, answer) = call(&http, &site, "/mcp", token, LIST_MAIL).await;
            assert_eq!(status, 200, "{answer}\n{}", site.server.log());
            assert_own(&answer, username);
        }
        assert_eq!(site.emulator.control().request_count(Endpoint::GraphMessages), 2);
        assert_no_client_token_left(&site.emulator);
    }
}

#[tokio::test]
async fn a_permission_that_the_configuration_does_not_grant_is_not_in_the_token() {
    let site = Site::new(arguments).await;
    let session = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
    let (status, answer) = call(&reqwest::Client::new(), &site, "/mcp", &session, "read_profile").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["result"]["structuredContent"]["graph"]["status"], 403, "{answer}");
}

#[tokio::test]
async fn callers_at_the_same_time_never_get_each_others_answers() {
    let site = Site::new(arguments).await;
    let callers = callers(&site, CALLERS, |_| "/mcp".to_owned()).await;
    let tokens: Vec<String> = callers.iter().map(|caller| caller.token.clone()).collect();
    site.emulator.control().clear_requests();
    watch(&site.emulator, &tokens);
    let http = reqwest::Client::new();
    for _ in 0..ROUNDS {
        let (http, site) = (&http, &site);
        let calls = callers.iter().map(|Caller { username, token }| async move {
            let (status, answer) = call(http, site, "/mcp", token, LIST_MAIL).await;
            assert_eq!(status, 200, "{username}: {answer}");
            assert_own(&answer, username);
        });
        join_all(calls).await;
    }
    assert_eq!(site.emulator.control().request_count(Endpoint::GraphMessages), (CALLERS * ROUNDS) as u64);
    assert_no_client_token_left(&site.emulator);
}

#[tokio::test]
async fn over_standard_input_the_same_file_reads_the_mail_of_the_person_who_signed_in() {
    let home = Home::new().await;
    let login = home.run_with_person(&["login"]).await;
    assert!(login.status.success(), "{login:?}");
    let file = tool_components::file(tool_components::MAIL);
    let config = home.path().join(".config/entra-mcp/config.toml");
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{settings}{}", configuration(tool_components::MAIL))).unwrap();
    assert!(file.is_file());

    assert_own(&list_mail_over_stdio(&home, &[]).await, ALICE);
}

#[tokio::test]
async fn over_standard_input_flags_alone_let_a_file_read_the_mail_of_the_person_who_signed_in() {
    let home = Home::new().await;
    let login = home.run_with_person(&["login"]).await;
    assert!(login.status.success(), "{login:?}");
    let file = tool_components::file(tool_components::MAIL).display().to_string();
    let granted = list_mail_over_stdio(&home, &["--tools", &file, "--egress", GRANT]).await;
    assert_own(&granted, ALICE);
    let denied = list_mail_over_stdio(&home, &["--tools", &file]).await;
    assert_eq!(denied["result"]["isError"], true, "{denied}");
}

#[tokio::test]
async fn what_flags_grant_is_all_that_a_tool_of_a_flag_may_do() {
    let file = tool_components::file(tool_components::MAIL).display().to_string();
    let both = ["--token-mode", "both", "--required-scope", "Mcp.Access"];
    let with = |flags: &[&str]| {
        let flags: Vec<String> = [&both[..], flags].concat().into_iter().map(str::to_owned).collect();
        async move { Site::new(|_| flags).await }
    };
    let http = reqwest::Client::new();
    let granted = with(&["--tools", &file, "--egress", GRANT]).await;
    let session = sign_in(granted.server.public_url(), "/mcp", ALICE).await.access_token;
    for token in [session.clone(), bearer(&granted.emulator, ALICE).await] {
        let (status, answer) = call(&http, &granted, "/mcp", &token, LIST_MAIL).await;
        assert_eq!(status, 200, "{answer}\n{}", granted.server.log());
        assert_own(&answer, ALICE);
    }
    let (_, answer) = call(&http, &granted, "/mcp", &session, "read_profile").await;
    assert_eq!(answer["result"]["structuredContent"]["graph"]["status"], 403, "{answer}");

    let bare = with(&["--tools", &file]).await;
    let session = sign_in(bare.server.public_url(), "/mcp", ALICE).await.access_token;
    bare.emulator.control().clear_requests();
    let (status, answer) = call(&http, &bare, "/mcp", &session, LIST_MAIL).await;
    assert_eq!((status, &answer["result"]["isError"]), (200, &json!(true)), "{answer}");
    assert_eq!(bare.emulator.control().request_count(Endpoint::GraphMessages), 0);
}

/// Serves one client with these flags, and calls the tool. The answer.
async fn list_mail_over_stdio(home: &Home, flags: &[&str]) -> Value {
    let mut command = home.program(&[&["stdio"][..], flags].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(output).lines();
    let message = modern("tools/call", json!({ "name": LIST_MAIL, "arguments": { "top": 5 } }), json!({}));
    input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    loop {
        let line = soon(lines.next_line()).await.expect("the server answers").unwrap().expect("the server goes on");
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["id"] == 1 {
            return message;
        }
    }
}
