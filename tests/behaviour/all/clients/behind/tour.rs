//! What a client does with a server behind the gate, and what has to come of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use entra_mcp_emulator::Emulator;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::servers::Bare;
use crate::clients::machine::script;
use crate::clients::remote::office::Office;
use crate::clients::scenarios::{LEGACY, MODERN};
use crate::support::tools;

/// A token that lasts.
const HOUR: i64 = 3600;

/// A client, and how it negotiates.
pub(super) struct Client {
    program: PathBuf,
    /// Below `tests/clients`.
    script: &'static str,
    era: Option<&'static str>,
    /// Whether it speaks 2026-07-28 with a server that does.
    pub(super) modern: bool,
}

impl Client {
    pub(super) fn typescript_1() -> Self {
        Self { program: tools::client("mcp-sdk-1"), script: "mcp-sdk-1/behind.mjs", era: None, modern: false }
    }

    pub(super) fn typescript_2(era: Option<&'static str>) -> Self {
        let modern = era.is_some();
        Self { program: tools::client("mcp-client-2"), script: "mcp-client-2/behind.mjs", era, modern }
    }

    pub(super) fn python(era: Option<&'static str>) -> Self {
        let modern = era.is_none();
        Self { program: tools::client("mcp-python"), script: "mcp-python/behind.py", era, modern }
    }

    pub(super) fn is_python(&self) -> bool {
        self.script.starts_with("mcp-python")
    }
}

/// How a step has to end.
enum End {
    /// As without the gate, and as this says.
    Same(Box<dyn Fn(&Value)>),
    /// As this says: it changes from run to run.
    Own(Box<dyn Fn(&Value)>),
    /// Without what a rule denies: the member of the answer, and the name in it.
    Without(&'static str, &'static str),
    /// A rule denies it.
    Denied,
}

/// Steps, as the clients' programs take them, and their ends.
#[derive(Default)]
pub(super) struct Tour(Vec<(Value, End)>);

impl Tour {
    pub(super) fn same(mut self, step: Value, check: impl Fn(&Value) + 'static) -> Self {
        self.0.push((step, End::Same(Box::new(check))));
        self
    }

    pub(super) fn own(mut self, step: Value, check: impl Fn(&Value) + 'static) -> Self {
        self.0.push((step, End::Own(Box::new(check))));
        self
    }

    pub(super) fn without(mut self, list: &'static str, name: &'static str) -> Self {
        self.0.push((json!({ "list": list }), End::Without(list, name)));
        self
    }

    pub(super) fn denied(mut self, step: Value) -> Self {
        self.0.push((step, End::Denied));
        self
    }

    fn plan(&self) -> String {
        Value::from_iter(self.0.iter().map(|(step, _)| step.clone())).to_string()
    }

    fn check(&self, bare: Option<&Value>, gated: &Value) {
        let steps = |seen: &Value| seen["steps"].as_array().unwrap().clone();
        let (bare, gated) = (bare.map(steps), steps(gated));
        assert_eq!(gated.len(), self.0.len());
        for (at, (step, end)) in self.0.iter().enumerate() {
            let (gated, bare) = (&gated[at], bare.as_ref().map(|bare| &bare[at]));
            println!("{step}");
            match end {
                End::Same(check) => {
                    check(gated);
                    for part in ["answer", "error", "progress"] {
                        assert_eq!(bare.map_or(&gated[part], |bare| &bare[part]), &gated[part], "{step}");
                    }
                }
                End::Own(check) => check(gated),
                End::Without(list, name) => {
                    let key = if *list == "resources" { "uri" } else { "name" };
                    let listed = |outcome: &Value| outcome["answer"][list].as_array().unwrap().clone();
                    let mut expected = listed(bare.unwrap_or(gated));
                    let before = expected.len();
                    expected.retain(|one| one[key] != *name);
                    assert_eq!(before - expected.len(), usize::from(bare.is_some()), "{step}");
                    assert_eq!(listed(gated), expected, "{step}");
                }
                End::Denied => {
                    let said = match &gated["answer"] {
                        Value::Null => &gated["error"]["message"],
                        answer => {
                            assert_eq!(answer["isError"], true, "{step}: {gated}");
                            &answer["content"][0]["text"]
                        }
                    };
                    assert!(said.as_str().unwrap().contains("you may not"), "{step}: {said}");
                }
            }
        }
    }
}

/// The text that an outcome has.
pub(super) fn said(outcome: &Value) -> &str {
    outcome["answer"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{outcome}"))
}

/// The server behind, with the rule of the tour.
pub(super) enum Behind<'b> {
    /// `ended` are the statuses of its answers to `DELETE`, and to a message of the session afterwards.
    Http { url: &'b str, bare: Option<&'b Bare>, ended: [u64; 2] },
    /// The gate itself answers for its session.
    Command(Vec<String>),
}

/// Plays a tour through the gate, where the server supports it also without. `rules` are the rules of the server `behind`.
///
/// `modern` says whether the server speaks 2026-07-28. Returns what the client saw through the gate.
pub(super) async fn play(client: &Client, server: Behind<'_>, modern: bool, rules: &str, tour: &Tour) -> Value {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("behind.toml");
    let upstream = match &server {
        Behind::Http { url, .. } => format!("url = {url:?}"),
        Behind::Command(command) => format!("command = {command:?}"),
    };
    std::fs::write(&config, format!("[[upstream]]\nname = \"behind\"\n{upstream}\n{rules}")).unwrap();
    let office = Office::with(HOUR, &["--config", config.to_str().unwrap(), "--rate-limit", "off"]).await;

    let command = |url: &str| {
        let mut command = office.command(&client.program);
        command.arg(script(client.script)).env("URL", url).env("PLAN", tour.plan());
        if let Some(era) = client.era {
            command.env("ERA", era);
        }
        command
    };
    let gated = office.run(&mut command(&office.server.at("/mcp"))).await;
    let tokens: Vec<String> = serde_json::from_value(gated["tokens"].clone()).unwrap();
    assert_eq!(tokens.len(), 2, "an access token and a refresh token");
    no_token(&office.emulator, &tokens);

    let bare = match &server {
        Behind::Http { bare: Some(server), .. } => {
            // Before the client meets it without the gate.
            server_saw_no_token(&server.requests(), &tokens);
            let bare = office.run(command(&server.url).env_remove("OPENER")).await;
            for part in ["protocolVersion", "server", "capabilities", "instructions"] {
                assert_eq!(bare[part], gated[part], "{part}");
            }
            assert_eq!(asked(&bare), asked(&gated));
            Some(bare)
        }
        _ => None,
    };
    let speaks_modern = modern && client.modern;
    assert_eq!(gated["protocolVersion"], if speaks_modern { MODERN } else { LEGACY });
    tour.check(bare.as_ref(), &gated);

    // A session ends with DELETE. A message of it is answered then as one of a session that never was.
    let deleted = gated["requests"].as_array().unwrap().iter().filter(|request| request["method"] == "DELETE");
    let statuses: Vec<_> = deleted.map(|request| request["status"].as_u64().unwrap()).collect();
    if speaks_modern {
        assert_eq!((statuses.len(), gated.get("afterwards")), (0, None));
    } else {
        let [deleted, afterwards] = match server {
            Behind::Http { ended, .. } => ended,
            Behind::Command(_) => [200, 404],
        };
        assert_eq!((statuses.as_slice(), &gated["afterwards"]), ([deleted].as_slice(), &json!(afterwards)));
        assert!(bare.is_none_or(|bare| bare["afterwards"] == afterwards));
    }
    office.leave().await;
    gated
}

/// How often the server asked for what.
fn asked(seen: &Value) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for method in seen["steps"].as_array().unwrap().iter().flat_map(|step| step["asked"].as_array().unwrap()) {
        *count.entry(method.as_str().unwrap().to_owned()).or_default() += 1;
    }
    count
}

/// No token of the client was sent to Entra ID or Graph.
fn no_token(emulator: &Emulator, tokens: &[String]) {
    let control = emulator.control();
    for endpoint in control.request_counts().into_keys() {
        for request in control.requests(endpoint) {
            let mut sent = request.headers.iter().chain(&request.query).chain(&request.form).map(|(_, value)| value);
            assert!(!sent.any(|value| tokens.iter().any(|token| value.contains(token.as_str()))), "{endpoint:?}");
        }
    }
}

/// No token of the client, and nothing else that says who it is, was sent to the server behind.
pub(super) fn server_saw_no_token(requests: &[Vec<(String, String)>], tokens: &[String]) {
    assert!(!requests.is_empty(), "the client reached the server");
    for (name, value) in requests.iter().flatten() {
        assert!(!["authorization", "cookie", "proxy-authorization"].contains(&name.as_str()), "{name}");
        assert!(!tokens.iter().any(|token| value.contains(token.as_str())), "a token is in {name}");
    }
}
