//! The program in `docs/src/reference/identity.md` that verifies assertions: taken out of the page, run with PyJWT on
//! assertions that `entra-mcp serve` has signed and a server behind has got.

use std::fs;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::host::records::{ALICE, Site};
use crate::support::behind::Behind;
use crate::support::pages::{Page, replaced};
use crate::support::session::sign_in;
use crate::support::{process, tests_dir, tools};

const HEADER: &str = "X-Entra-Mcp-Assertion";
const AUDIENCE: &str = "https://crm.example.com";

/// Has a tool called; the assertion about the call and its body.
async fn called(site: &Site, behind: &Behind, path: &str) -> (String, String) {
    let token = sign_in(site.server.public_url(), path, ALICE).await.access_token;
    let (status, _) = site.call_tool(path, Some(&token), "read_record", &[]).await;
    assert_eq!(status, 200, "{}", site.server.log());
    let [arrived] = behind.arrived().try_into().expect("one request");
    (arrived.value(HEADER).to_owned(), arrived.body)
}

/// What the page's program makes of each case.
async fn verified(folder: &TempDir, issuer: &str, cases: &[Value]) -> Vec<Value> {
    let page = Page::read("reference/identity.md").section("`assertion`").block("python");
    let page = replaced(&page, "https://mcp.example.com", issuer);
    let page = replaced(&page, "http://127.0.0.1:8000/mcp", AUDIENCE);
    let program = folder.path().join("page.py");
    fs::write(&program, page).unwrap();
    let mut command = process::command(tools::client("mcp-python"));
    command
        .arg(tests_dir().join("clients/mcp-python/assertion.py"))
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(json!(cases).to_string().as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A compact JWS with another header.
fn with_header(assertion: &str, change: impl FnOnce(&mut Value)) -> String {
    let (header, rest) = assertion.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    change(&mut header);
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// With other claims, and the signature of the first ones.
fn with_claims(assertion: &str, change: impl FnOnce(&mut Value)) -> String {
    let [header, claims, signature]: [&str; 3] = assertion.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    change(&mut claims);
    format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
#[cfg_attr(not(client = "mcp-python"), ignore = "needs the client mcp-python: use tests/run")]
async fn the_program_of_the_page_accepts_an_assertion_for_its_server_and_body_alone() {
    let (crm, erp) = (Behind::start().await, Behind::start().await);
    let config = format!(
        "[[upstream]]\nname = \"crm\"\nurl = {:?}\nidentity = \"assertion\"\naudience = {AUDIENCE:?}\n\
         [[upstream]]\nname = \"erp\"\nurl = {:?}\nidentity = \"assertion\"\n",
        crm.url(),
        erp.url(),
    );
    let site = Site::new(|folder| {
        let file = folder.path().join("entra-mcp.toml");
        fs::write(&file, config).unwrap();
        vec!["--config".to_owned(), file.display().to_string()]
    })
    .await;
    let (good, body) = called(&site, &crm, "/crm/mcp").await;
    let (of_erp, body_of_erp) = called(&site, &erp, "/erp/mcp").await;
    let case = |assertion: &str, body: &str, later: i64| json!({ "headers": { HEADER: assertion }, "body": body, "later": later });
    let refused = [
        ("InvalidAudienceError", case(&of_erp, &body_of_erp, 0)),
        ("ExpiredSignatureError", case(&good, &body, 61)),
        ("InvalidTokenError", case(&good, &body.replace("read_record", "delete_record"), 0)),
        ("InvalidTokenError", case(&good, "", 0)),
        ("InvalidTokenError", case(&with_header(&good, |header| header["typ"] = json!("JWT")), &body, 0)),
        ("InvalidAlgorithmError", case(&with_header(&good, |header| header["alg"] = json!("none")), &body, 0)),
        ("InvalidAlgorithmError", case(&with_header(&good, |header| header["alg"] = json!("HS256")), &body, 0)),
        ("PyJWKClientError", case(&with_header(&good, |header| header["kid"] = json!("unknown")), &body, 0)),
        ("InvalidSignatureError", case(&with_claims(&good, |claims| claims["oid"] = json!("another")), &body, 0)),
        ("KeyError", json!({ "headers": {}, "body": body, "later": 0 })),
    ];
    let cases: Vec<Value> = [case(&good, &body, 0), case(&good, &body, 55)]
        .into_iter()
        .chain(refused.iter().map(|(_, case)| case.clone()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let outcomes = verified(&folder, site.server.public_url(), &cases).await;
    let (accepted, others) = outcomes.split_at(2);
    for outcome in accepted {
        let claims = &outcome["claims"];
        assert_eq!(claims["oid"], "11111111-0000-4000-a000-000000000001", "{outcome}");
        assert_eq!((&claims["server"], &claims["tool"]), (&json!("crm"), &json!("read_record")));
    }
    assert_eq!(others.len(), refused.len());
    for ((expected, _), outcome) in refused.iter().zip(others) {
        let kinds = outcome["refused"].as_array().unwrap_or_else(|| panic!("{expected}: {outcome}"));
        assert!(kinds.contains(&json!(expected)), "{expected}: {kinds:?}");
    }
}
