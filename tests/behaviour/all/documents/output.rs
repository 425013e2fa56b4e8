//! The output that the pages show is what the program prints.
//!
//! In a block of the language `console`, every line that begins with `$ ` is a command, which the test runs; what follows
//! is its standard output. In other languages, the block is what the test named there produces. What differs from run
//! to run, such as a port, is masked before the comparison, so the pages show the masks.
//!
//! A test whose output is not that of a page writes the renewed page and says how to put it into its place.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use entra_mcp_emulator::{Builder, Clock};
use regex::Regex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::blocks::{Kind, Page, renewed, workspace};
use crate::host::commands::Home;
use crate::host::records::Site;
use crate::host::serve::serve;
use crate::support::lab::{CONTOSO, app};
use crate::support::patience::soon;

/// The tests below, by the names that blocks use.
const TESTS: [&str; 8] = ["audit", "challenge", "demo", "emulator", "inspect", "serve", "sign-in", "validate"];

/// What differs from run to run, and what the pages show in its place.
const MASKS: [(&str, &str); 12] = [
    (r"(127\.0\.0\.1|localhost):[0-9]+", "$1:…"),
    (r"\[[0-9]+ ms\]", "[… ms]"),
    (r"Done in [0-9]+ ms", "Done in … ms"),
    (r"[0-9]+ bytes", "… bytes"),
    (r"(SHA-256 +)[0-9a-f]{64}", "$1…"),
    (r#"[^" ]*/entra-mcp-emulator-[0-9-]+"#, "/tmp/entra-mcp-emulator-…"),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z", "2026-11-21T08:00:00.123Z"),
    (r#""(client_id|session|correlation_id)":"[^"]*""#, r#""$1":"…""#),
    (r"(expiresAt|issuedAt)=[0-9]+", "$1=…"),
    (r#""latency_ms":[0-9.]+"#, r#""latency_ms":4.2"#),
    (r"(x-correlation-id): [0-9a-f-]+", "$1: …"),
    (r"(date): [A-Za-z0-9,: ]+", "$1: …"),
];

fn masked(output: &str) -> String {
    MASKS.iter().fold(output.to_owned(), |text, (pattern, mask)| {
        Regex::new(pattern).expect("a pattern of this file").replace_all(&text, *mask).into_owned()
    })
}

/// The arguments of the program in a command of a page.
fn arguments(command: &str) -> Vec<&str> {
    let run = ["entra-mcp ", "cargo run --release -- "].iter().find_map(|program| command.strip_prefix(program));
    run.unwrap_or_else(|| panic!("{command} does not run the program")).split_whitespace().collect()
}

/// Compares all blocks of this test with what `produce` prints: for each command in a block, or for none.
async fn compare(test: &str, produce: impl AsyncFn(&str) -> String) {
    assert!(TESTS.contains(&test), "{test} is not in the list");
    let (mut found, mut stale) = (0, Vec::new());
    for page in Page::all() {
        let mut text = page.text.clone();
        // From the end, so that the places of the others stay.
        for block in page.blocks().into_iter().rev() {
            let content = &page.text[block.content.clone()];
            if block.kind(content) != Ok(Kind::Output(test.to_owned())) {
                continue;
            }
            found += 1;
            let mut printed = String::new();
            if block.info.starts_with("console ") {
                let commands: Vec<_> = content.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
                assert!(!commands.is_empty(), "{}: a block without a command: {content}", page.path.display());
                for command in commands {
                    printed += &format!("$ {command}\n{}", masked(&produce(command).await));
                }
            } else {
                printed = masked(&produce("").await);
            }
            text.replace_range(block.content, &printed);
        }
        if text != page.text {
            let path = renewed(test, &page.path);
            fs::write(&path, &text).expect("the page can be written");
            stale.push(format!("cp {} {}", path.display(), workspace().join(&page.path).display()));
        }
    }
    assert_ne!(found, 0, "no page shows the output of {test}");
    assert!(stale.is_empty(), "the program prints something else than the pages show:\n{}", stale.join("\n"));
}

#[test]
fn every_block_of_a_page_is_input_a_drawing_or_the_output_of_a_test() {
    let (mut wrong, mut tests) = (Vec::new(), BTreeSet::new());
    for page in Page::all() {
        for block in page.blocks() {
            match block.kind(&page.text[block.content.clone()]) {
                Ok(Kind::Output(test)) => drop(tests.insert(test)),
                Ok(_) => {}
                Err(reason) => {
                    let line = page.text[..block.content.start].lines().count();
                    wrong.push(format!("{}:{line}: {reason}", page.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(tests.iter().map(String::as_str).collect::<Vec<_>>(), TESTS);
}

/// The standard output of a program that ends.
async fn printed(mut command: Command) -> String {
    let output = soon(command.stdin(Stdio::null()).output()).await.expect("it ends").expect("it starts");
    assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The first line of a program that runs until it is ended.
async fn first_line(mut command: Command) -> String {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it has a standard output")).lines();
    let line = soon(lines.next_line()).await.expect("it starts").expect("text").expect("a line");
    format!("{line}\n")
}

#[tokio::test]
async fn the_demo_prints_what_the_pages_show() {
    let home = Home::new().await;
    compare("demo", async |command| printed(home.program(&arguments(command))).await).await;
}

#[tokio::test]
async fn a_component_is_inspected_as_the_pages_show() {
    let home = Home::new().await;
    compare("inspect", async |command| printed(home.program(&arguments(command))).await).await;
}

#[tokio::test]
async fn people_sign_in_and_out_as_the_pages_show() {
    let home = Home::new().await;
    compare("sign-in", async |command| {
        let output = home.run_with_person(&arguments(command)).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    })
    .await;
}

#[tokio::test]
async fn tokens_are_judged_as_the_pages_show() {
    let home = Home::of(Builder::new().clock(Clock::real())).await;
    let (control, at) = (home.emulator().control(), home.emulator().endpoints());
    let now = control.now();
    let token = |audience: &str, expires_at: i64| {
        let claims = json!({
            "aud": audience, "iss": format!("{}/{CONTOSO}/v2.0", at.authority), "iat": now - 7200, "nbf": now - 7200,
            "exp": expires_at, "azp": app(1), "ver": "2.0", "tid": CONTOSO,
            "oid": "11111111-0000-4000-a000-000000000001", "sub": "subject", "scp": "Mcp.Access",
        });
        control.sign(&claims, false).expect("the emulator signs")
    };
    let tokens = [token(&app(2), now + 3600), token(&app(9), now + 3600), "nonsense".to_owned()];
    let file = home.path().join("tokens.txt");
    fs::write(file, tokens.join("\n")).expect("written");
    compare("validate", async |command| {
        let mut program = home.program(&arguments(command));
        program.current_dir(home.path());
        printed(program).await
    })
    .await;
}

#[tokio::test]
async fn the_emulator_says_what_the_pages_show() {
    let home = Home::new().await;
    compare("emulator", async |command| first_line(home.program(&arguments(command))).await).await;
}

#[tokio::test]
async fn the_server_says_what_the_pages_show() {
    let home = Home::new().await;
    // The port is free here; the pages have the default one.
    compare("serve", async |_| first_line(serve(&home, &[])).await).await;
}

#[tokio::test]
async fn a_request_without_a_token_is_answered_as_the_pages_show() {
    let site = Site::new(|_| Vec::new()).await;
    compare("challenge", async |_| {
        let request = reqwest::Client::new().post(site.server.at("/mcp")).header("content-type", "application/json");
        let answer = request.body("{}").send().await.expect("an answer");
        let status = answer.status();
        let mut lines: Vec<_> = answer
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().expect("text")))
            .collect();
        lines.sort();
        format!("HTTP/1.1 {status}\n{}", lines.concat())
    })
    .await;
}

#[tokio::test]
async fn a_call_is_recorded_as_the_pages_show() {
    let site = Site::new(|_| Vec::new()).await;
    let session = site.sign_in().await;
    let trace = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    assert_eq!(site.call(&session.access_token, &trace).await.0, 200);
    compare("audit", async |_| {
        let log = site.server.log();
        let line = log.lines().find(|line| line.contains(r#""event":"tool.called""#)).expect("the call is recorded");
        format!("{line}\n")
    })
    .await;
}
