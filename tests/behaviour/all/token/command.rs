//! `entra-mcp validate`: a line per token, in order, and an exit code.

use std::io::Write as _;
use std::process::Stdio;

use entra_mcp_emulator::{Clock, Fault};
use serde_json::{Value, json};

use crate::support::lab::{CONTOSO, Lab, REMOTE, app};
use crate::support::process;

struct Outcome {
    code: i32,
    lines: Vec<String>,
    errors: String,
}

impl Outcome {
    fn json(&self) -> Vec<Value> {
        self.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn run(arguments: &[&str], input: &str) -> Outcome {
    let mut child = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested"))
        .arg("validate")
        .args(arguments)
        .env_remove("ENTRA_MCP_TENANT_ID")
        .env_remove("AZURE_TENANT_ID")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        lines: String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn lab() -> Lab {
    Lab::with(|builder| builder.clock(Clock::real())).await
}

fn token(lab: &Lab, audience: &str) -> String {
    let mut claims = claims(lab, Value::Null);
    claims.as_object_mut().unwrap().remove("cnf");
    claims["aud"] = json!(audience);
    lab.control().sign(&claims, false).unwrap()
}

fn claims(lab: &Lab, confirmation: Value) -> Value {
    let now = lab.control().now();
    json!({
        "aud": app(REMOTE), "cnf": confirmation, "iss": format!("{}/{CONTOSO}/v2.0", lab.endpoints().authority),
        "iat": now, "nbf": now, "exp": now + 3600, "azp": app(1), "ver": "2.0", "tid": CONTOSO,
        "oid": "11111111-0000-4000-a000-000000000001", "sub": "subject", "scp": "Mcp.Access", "roles": ["Reader"],
    })
}

/// Runs without blocking the emulator, which lives in the same process.
async fn validate(lab: &Lab, more: &[&str], input: String) -> Outcome {
    let authority = lab.endpoints().authority.clone();
    let mut arguments: Vec<String> =
        ["--authority", &authority, "--tenant-id", CONTOSO, "--audience", &app(REMOTE)].map(str::to_owned).into();
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments, &input)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_tokens_print_their_principals() {
    let lab = lab().await;
    let token = token(&lab, &app(REMOTE));
    let outcome = validate(&lab, &["--json", "--require-scope", "Mcp.Access"], format!("{token}\n\n{token}\r\n")).await;
    assert_eq!(outcome.code, 0, "{}", outcome.errors);
    for line in outcome.json() {
        assert_eq!((&line["valid"], &line["principal"]["tenantId"]), (&json!(true), &json!(CONTOSO)));
        assert_eq!(line["principal"]["scopes"], json!(["Mcp.Access"]));
    }
    assert_eq!(outcome.lines.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_print_the_reason_in_order() {
    let lab = lab().await;
    let (good, other) = (token(&lab, &app(REMOTE)), token(&lab, &app(9)));
    let forged = lab.control().sign(&json!({ "ver": "2.0" }), true).unwrap();
    let bound = lab.control().sign(&claims(&lab, json!({ "jkt": "thumbprint" })), false).unwrap();
    let input = format!("{other}\n{good}\nnonsense\n{forged}\n{bound}");
    let outcome = validate(&lab, &["--json"], input).await;
    assert_eq!(outcome.code, 1);
    let lines = outcome.json();
    let expected = json!({
        "valid": false, "error": "audience-mismatch", "expected": [app(REMOTE)], "actual": app(9),
    });
    assert_eq!(lines[0], expected);
    assert_eq!(lines[1]["valid"], true);
    assert_eq!(lines[2], json!({ "valid": false, "error": "not-compact", "parts": 1 }));
    assert_eq!(lines[3], json!({ "valid": false, "error": "claim-missing", "name": "iss" }));
    assert_eq!(lines[4], json!({ "valid": false, "error": "key-bound", "methods": ["jkt"] }));
    assert!(outcome.errors.contains("4 of 5 tokens refused"), "{}", outcome.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_valid_yet_because_of_a_wrong_clock_tells_how_wrong_it_is() {
    let entra = Clock::real();
    entra.advance_seconds(3_600);
    let lab = Lab::with(|builder| builder.clock(entra)).await;
    let token = token(&lab, &app(REMOTE));
    let outcome = validate(&lab, &["--json"], token.clone()).await;
    assert_eq!((outcome.code, &outcome.json()[0]["error"]), (1, &json!("not-yet-valid")));
    let behind = outcome.json()[0]["clockBehindSeconds"].as_u64().expect("how far it is behind");
    let expected = format!("this machine's clock is {behind} s behind that of Microsoft Entra ID");
    assert!(outcome.errors.contains(&expected), "{}", outcome.errors);
    let outcome = validate(&lab, &[], token).await;
    assert!(outcome.lines[0].contains(" clockBehindSeconds="), "{:?}", outcome.lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_an_agent_is_one_of_an_agent_and_of_no_person() {
    let lab = lab().await;
    let token = |changes: Value| {
        let mut claims = claims(&lab, Value::Null);
        claims.as_object_mut().unwrap().remove("cnf");
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        lab.control().sign(&claims, false).unwrap()
    };
    let blueprint = json!(app(0x0f));
    let on_behalf = token(json!({ "xms_act_fct": "11 3", "xms_sub_fct": "3", "xms_par_app_azp": blueprint }));
    let users = token(json!({ "xms_act_fct": "11", "xms_sub_fct": "13", "xms_par_app_azp": blueprint }));
    let person = token(json!({ "xms_par_app_azp": blueprint, "acrs": ["c1"] }));
    let input = [on_behalf, users, person].join("\n");
    let outcome = validate(&lab, &["--json"], input.clone()).await;
    let shown: Vec<_> = outcome
        .json()
        .into_iter()
        .map(|line| {
            let of = |name: &str| line["principal"][name].clone();
            (of("kind"), of("agent"), of("authenticationContexts"))
        })
        .collect();
    let expected = [
        (json!("agent"), json!("on-behalf-of-user"), Value::Null),
        (json!("agent"), json!("agent-user"), Value::Null),
        (json!("user"), Value::Null, json!(["c1"])),
    ];
    assert_eq!(shown, expected);
    for (kind, refused) in [("agent", [false, false, true]), ("user", [true, true, false]), ("app", [true; 3])] {
        let outcome = validate(&lab, &["--json", "--require-kind", kind], input.clone()).await;
        let found: Vec<_> = outcome.json().iter().map(|line| line["error"] == "principal-kind-mismatch").collect();
        assert_eq!(found, refused, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requirements_are_flags() {
    let lab = lab().await;
    let token = token(&lab, &app(REMOTE));
    for (flags, error) in [
        (["--require-scope", "Other"], "scopes-missing"),
        (["--require-role", "Admin"], "roles-missing"),
        (["--require-group", CONTOSO], "groups-missing"),
        (["--require-kind", "app"], "principal-kind-mismatch"),
        (["--require-client", CONTOSO], "client-not-allowed"),
        (["--allow-tenant", "fab12ca0-0000-4000-a000-000000000002"], "tenant-not-allowed"),
    ] {
        let outcome = validate(&lab, &[&["--json"], flags.as_slice()].concat(), token.clone()).await;
        assert_eq!(outcome.json()[0]["error"], error);
        assert_eq!(outcome.code, 1);
    }
    let outcome = validate(&lab, &["--require-role", "Admin", "--require-role", "Reader"], token).await;
    assert_eq!(outcome.code, 0);
    assert!(outcome.lines[0].starts_with("valid "), "{:?}", outcome.lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_it_cannot_be_decided() {
    let lab = lab().await;
    let token = token(&lab, &app(REMOTE));
    lab.control().inject(Fault::anywhere().always().status(503));
    let outcome = validate(&lab, &["--json"], token).await;
    assert_eq!((outcome.code, &outcome.json()[0]["error"]), (2, &json!("keys-unavailable")));
    let outcome = validate(&lab, &[], String::new()).await;
    assert_eq!(outcome.code, 2, "no token is no success");
    let outcome = validate(&lab, &["--token-file", "/does/not/exist"], String::new()).await;
    assert_eq!(outcome.code, 2, "no file is no refused token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_makes_it_work_offline() {
    let lab = lab().await;
    let token = token(&lab, &app(REMOTE));
    let keys = lab.get(&format!("/{CONTOSO}/discovery/v2.0/keys")).await.bytes;
    let file = std::env::temp_dir().join(format!("entra-mcp-jwks-{}.json", std::process::id()));
    std::fs::write(&file, keys).unwrap();
    // No service answers.
    lab.control().inject(Fault::anywhere().always().status(503));
    let outcome = validate(&lab, &["--jwks-file", file.to_str().unwrap()], token).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(outcome.code, 0, "{} {:?}", outcome.errors, outcome.lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_is_none_is_named() {
    let lab = lab().await;
    let token = token(&lab, &app(REMOTE));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{ "keys": [null] }"#).unwrap();
    let path = file.path().to_str().unwrap();
    let outcome = validate(&lab, &["--jwks-file", path], token).await;
    assert_eq!(outcome.code, 2);
    let expected =
        format!("the file with the signing keys, {path}, cannot be used: the key set has no usable signing key");
    assert!(outcome.errors.contains(&expected), "{}", outcome.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_in_the_file_names_the_keys_of_this_command() {
    let lab = lab().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "tenant = 'x'\n").unwrap();
    let outcome = validate(&lab, &["--config", file.path().to_str().unwrap()], String::new()).await;
    assert_eq!(outcome.code, 2);
    let expected = "expected one of `tenant-id`, `cloud`, `authority`, `clock-tolerance`, `ca-file`, `log-format`";
    assert!(outcome.errors.contains(expected), "{}", outcome.errors);
}
