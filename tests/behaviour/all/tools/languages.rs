//! The projects of `entra-mcp tools new` in every language, built as their README says: each reads Graph as its caller,
//! other callers call at the same time or not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use entra_mcp_emulator::Endpoint;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::mail::{Caller, assert_no_client_token_left, bearer, call_with, callers, watch};
use super::projects;
use crate::host::commands::Home;
use crate::host::records::Site;
use crate::support::component::modern;
use crate::support::patience::soon;
use crate::support::session::sign_in;
use crate::support::tool_components::{self, HOSTILE};

const LANGUAGES: [&str; 3] = ["rust", "js", "python"];
const LIST_MAIL: &str = "list_mail";

/// Callers that call at the same time.
const CALLERS: usize = 200;
/// Calls of each.
const ROUNDS: usize = 50;
/// Calls of a round that try a host which is on no list.
const STRAY_CALLS: usize = 10;

/// Builds every project, one after another: the machine has better uses for its processors than all of them at once.
async fn components() -> Vec<(&'static str, PathBuf)> {
    let build = || LANGUAGES.map(|language| (language, projects::component(language))).into();
    tokio::task::spawn_blocking(build).await.unwrap()
}

/// The table of a server.
fn table(name: &str, file: &Path, egress: &str) -> String {
    format!("[[tools]]\nname = {name:?}\nfile = {file:?}\nmax-concurrent = 256\negress = [{egress}]\n")
}

/// With the destination that README of a project gives.
fn graph(name: &str, file: &Path) -> String {
    table(name, file, "{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }")
}

async fn site() -> Site {
    let mut configuration: String = components().await.iter().map(|(language, file)| graph(language, file)).collect();
    // It has no destination.
    configuration.push_str(&table(HOSTILE, &tool_components::file(HOSTILE), ""));
    serving(configuration).await
}

async fn serving(configuration: String) -> Site {
    Site::new(|folder: &TempDir| {
        let config = folder.path().join("config.toml");
        fs::write(&config, configuration).unwrap();
        let config = config.display().to_string();
        ["--config", &config, "--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned).into()
    })
    .await
}

fn path(language: &str) -> String {
    format!("/{language}/mcp")
}

/// The subjects that Graph has for a person.
fn subjects(of: &str) -> String {
    (1..=5).map(|number| format!("Message {number} for {of}")).collect::<Vec<_>>().join("\n")
}

/// The answer is about one mailbox, and that is the one of this person.
fn assert_own(language: &str, answer: &Value, of: &str) {
    let result = &answer["result"];
    assert_eq!(
        (&result["isError"], &result["content"][0]["text"]),
        (&json!(false), &json!(subjects(of))),
        "{language}: {answer}"
    );
}

/// A host that is on no list: it counts connections.
async fn stranger() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (url, connections)
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(given_test_tools, ignore = "needs the Rust target wasm32-wasip2: rustup target add wasm32-wasip2")]
#[cfg_attr(not(client = "tools-js"), ignore = "needs the client tools-js: use tests/run")]
#[cfg_attr(not(client = "tools-python"), ignore = "needs the client tools-python: use tests/run")]
async fn the_tool_of_every_language_reads_the_mail_of_its_caller_with_the_limits_that_are_the_default() {
    let site = site().await;
    let http = reqwest::Client::new();
    for (username, name) in [("alice@contoso.example", "Alice Anderson"), ("bob@contoso.example", "Bob Brown")] {
        let token = bearer(&site.emulator, username).await;
        watch(&site.emulator, std::slice::from_ref(&token));
        for language in LANGUAGES {
            let session = sign_in(site.server.public_url(), &path(language), username).await.access_token;
            watch(&site.emulator, std::slice::from_ref(&session));
            for token in [&session, &token] {
                let (status, answer) = call_with(&http, &site, &path(language), token, LIST_MAIL, &json!({})).await;
                assert_eq!(status, 200, "{language}: {answer}\n{}", site.server.log());
                assert_own(language, &answer, name);
            }
        }
    }
    assert_no_client_token_left(&site.emulator);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(given_test_tools, ignore = "needs the Rust target wasm32-wasip2: rustup target add wasm32-wasip2")]
#[cfg_attr(not(client = "tools-js"), ignore = "needs the client tools-js: use tests/run")]
#[cfg_attr(not(client = "tools-python"), ignore = "needs the client tools-python: use tests/run")]
async fn without_the_destination_the_tool_of_every_language_answers_with_an_error_of_its_own() {
    let site = serving(components().await.iter().map(|(language, file)| table(language, file, "")).collect()).await;
    let token = bearer(&site.emulator, "alice@contoso.example").await;
    let http = reqwest::Client::new();
    for language in LANGUAGES {
        let (status, answer) = call_with(&http, &site, &path(language), &token, LIST_MAIL, &json!({})).await;
        assert_eq!((status, &answer["result"]["isError"]), (200, &json!(true)), "{language}: {answer}");
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{language}: {answer}"));
        assert!(!text.contains("ended before it answered"), "{language}: {text}");
    }
    let log = site.server.log();
    for language in LANGUAGES {
        assert!(log.contains(&format!("server={language} missing=\"egress = [{{ to = ")), "{language}: {log}");
    }
    assert_eq!(site.emulator.control().request_count(Endpoint::GraphMessages), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(given_test_tools, ignore = "needs the Rust target wasm32-wasip2: rustup target add wasm32-wasip2")]
#[cfg_attr(not(client = "tools-js"), ignore = "needs the client tools-js: use tests/run")]
#[cfg_attr(not(client = "tools-python"), ignore = "needs the client tools-python: use tests/run")]
async fn over_standard_input_the_tool_of_every_language_reads_the_mail_of_the_person_who_signed_in() {
    let home = Home::new().await;
    let login = home.run_with_person(&["login"]).await;
    assert!(login.status.success(), "{login:?}");
    let config = home.path().join(".config/entra-mcp/config.toml");
    let settings = fs::read_to_string(&config).unwrap();
    for (language, file) in components().await {
        fs::write(&config, format!("{settings}{}", graph(language, &file))).unwrap();
        let mut command = home.program(&["stdio"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(output).lines();
        let message = modern("tools/call", json!({ "name": LIST_MAIL, "arguments": {} }), json!({}));
        input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        let answer = loop {
            let line = soon(lines.next_line()).await.expect("the server answers").unwrap().expect("the server goes on");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == 1 {
                break message;
            }
        };
        assert_own(language, &answer, "Alice Anderson");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(given_test_tools, ignore = "needs the Rust target wasm32-wasip2: rustup target add wasm32-wasip2")]
#[cfg_attr(not(client = "tools-js"), ignore = "needs the client tools-js: use tests/run")]
#[cfg_attr(not(client = "tools-python"), ignore = "needs the client tools-python: use tests/run")]
async fn callers_of_three_languages_at_the_same_time_never_get_each_others_answers() {
    together(30, 5).await;
}

// Without the target for components, it cannot be run at all.
#[cfg(not(given_test_tools))]
#[ignore = "load: run with --ignored load"]
#[tokio::test(flavor = "multi_thread")]
async fn under_load_ten_thousand_calls_in_three_languages_each_get_their_own_answer() {
    together(CALLERS, ROUNDS).await;
}

/// All callers call at the same time, as often as there are rounds, and change the language each time if their token is for
/// every server. Meanwhile some of them try a host that is on no list.
async fn together(count: usize, rounds: usize) {
    let site = site().await;
    let (elsewhere, connections) = stranger().await;
    let callers = callers(&site, count, |number| path(LANGUAGES[number % LANGUAGES.len()])).await;
    let tokens: Vec<String> = callers.iter().map(|caller| caller.token.clone()).collect();
    site.emulator.control().clear_requests();
    watch(&site.emulator, &tokens);
    let http = reqwest::Client::new();
    for round in 0..rounds {
        let (http, site, elsewhere) = (&http, &site, &elsewhere);
        let calls = callers.iter().enumerate().map(|(number, Caller { username, token })| async move {
            let has_session = number % 2 == 0;
            let turn = if has_session { number } else { number + round };
            let language = LANGUAGES[turn % LANGUAGES.len()];
            let (status, answer) = call_with(http, site, &path(language), token, LIST_MAIL, &json!({})).await;
            assert_eq!(status, 200, "{username}, {language}: {answer}\n{}", site.server.log());
            assert_own(language, &answer, username);
        });
        // Those whose token is for every server.
        let strays = callers.iter().skip(1).step_by(2).take(STRAY_CALLS);
        let strays = strays.map(|Caller { token, .. }| async move {
            let arguments = json!({ "url": elsewhere });
            let (status, answer) = call_with(http, site, &path(HOSTILE), token, "fetch", &arguments).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["result"]["structuredContent"]["refused"], "HttpRequestDenied", "{answer}");
        });
        tokio::join!(join_all(calls), join_all(strays));
    }
    assert_eq!(site.emulator.control().request_count(Endpoint::GraphMessages), (count * rounds) as u64);
    assert_no_client_token_left(&site.emulator);
    assert_eq!(connections.load(Ordering::Relaxed), 0, "a request reached a host that is on no list");
}
