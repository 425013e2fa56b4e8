//! npm `@modelcontextprotocol/server-everything`: the reference server of the protocol. It speaks the revisions with
//! `initialize` only, so clients that begin with 2026-07-28 have to find that out through the gate.

use serde_json::{Value, json};

use super::servers::{self, Bare};
use super::tour::{Behind, Client, Tour, play, said};
use super::with_every_client;

const RULES: &str = "[[access]]\nserver = \"behind\"\ntool = \"get-env\"\nroles = [\"Crm.Admin\"]\n";

const LONG: &str = "trigger-long-running-operation";

/// The progress that was reported, each as part and whole. Clients write whole numbers in two ways.
fn progress(outcome: &Value) -> Vec<String> {
    let number = |one: &Value, name: &str| one[name].as_f64().unwrap();
    let written = |one: &Value| format!("{}/{}", number(one, "progress"), number(one, "total"));
    outcome["progress"].as_array().unwrap().iter().map(written).collect()
}

fn tour() -> Tour {
    let call = |name: &str, arguments: Value| json!({ "call": name, "arguments": arguments });
    let text = "0123456789abcdef".repeat(6 * 1024);
    let echoed = format!("Echo: {text}");
    let template = "demo://resource/dynamic/text/{resourceId}";
    Tour::default()
        .without("tools", "get-env")
        .same(json!({ "list": "resources" }), |outcome| {
            assert!(outcome["answer"]["resources"].as_array().unwrap().len() > 3, "{outcome}");
        })
        .same(json!({ "list": "resourceTemplates" }), |outcome| {
            assert_eq!(outcome["answer"]["resourceTemplates"].as_array().unwrap().len(), 2, "{outcome}");
        })
        .same(json!({ "list": "prompts" }), |outcome| {
            assert_eq!(outcome["answer"]["prompts"].as_array().unwrap().len(), 4, "{outcome}");
        })
        .same(call("echo", json!({ "message": "hello" })), |outcome| assert_eq!(said(outcome), "Echo: hello"))
        .same(call(LONG, json!({ "duration": 0.3, "steps": 3 })), |outcome| {
            assert_eq!(progress(outcome), ["1/3", "2/3", "3/3"]);
            assert!(said(outcome).starts_with("Long running operation completed"), "{outcome}");
        })
        .same(call("echo", json!({ "message": text })), move |outcome| assert!(said(outcome) == echoed))
        .same(call("get-tiny-image", json!({})), |outcome| {
            let image = &outcome["answer"]["content"][1];
            assert_eq!((&image["type"], &image["mimeType"]), (&json!("image"), &json!("image/png")));
        })
        .same(call("get-structured-content", json!({ "location": "Chicago" })), |outcome| {
            assert!(outcome["answer"]["structuredContent"].is_object(), "{outcome}");
        })
        .same(json!({ "read": "demo://resource/static/document/features.md" }), |outcome| {
            assert!(outcome["answer"]["contents"][0]["text"].as_str().unwrap().len() > 100, "{outcome}");
        })
        .own(json!({ "read": "demo://resource/dynamic/text/7" }), |outcome| {
            let text = outcome["answer"]["contents"][0]["text"].as_str().unwrap();
            assert!(text.starts_with("Resource 7: "), "{text}");
        })
        .same(json!({ "prompt": "args-prompt", "arguments": { "city": "Paris" } }), |outcome| {
            let text = outcome["answer"]["messages"][0]["content"]["text"].as_str().unwrap();
            assert!(text.contains("Paris"), "{text}");
        })
        .same(complete(json!({ "type": "ref/prompt", "name": "completable-prompt" }), "department", "E"), |outcome| {
            assert_eq!(outcome["answer"]["completion"]["values"], json!(["Engineering"]));
        })
        .same(complete(json!({ "type": "ref/resource", "uri": template }), "resourceId", "4"), |outcome| {
            assert_eq!(outcome["answer"]["completion"]["values"], json!(["4"]));
        })
        .same(call("trigger-sampling-request", json!({ "prompt": "hello", "maxTokens": 10 })), |outcome| {
            assert!(asked(outcome, "sampling/createMessage") && said(outcome).contains("from the model"), "{outcome}");
        })
        .same(call("trigger-elicitation-request", json!({})), |outcome| {
            assert!(asked(outcome, "elicitation/create"), "{outcome}");
            assert!(outcome["answer"]["content"].to_string().contains("Name: Alice"), "{outcome}");
        })
        // The server asked on its own stream, some moment after `initialize`.
        .same(call("get-roots-list", json!({})), |outcome| assert!(said(outcome).contains("file:///work"), "{outcome}"))
        .own(json!({ "call": LONG, "arguments": { "duration": 600, "steps": 6000 }, "cancel": true }), |outcome| {
            assert_eq!(outcome["error"], "cancelled");
        })
        .same(json!({ "subscribe": "demo://resource/dynamic/text/7" }), |outcome| {
            assert_eq!(outcome.get("error"), None)
        })
        .same(json!({ "unsubscribe": "demo://resource/dynamic/text/7" }), |outcome| {
            assert_eq!(outcome.get("error"), None)
        })
        .denied(call("get-env", json!({})))
}

fn complete(reference: Value, argument: &str, value: &str) -> Value {
    json!({ "complete": { "ref": reference, "argument": { "name": argument, "value": value } } })
}

fn asked(outcome: &Value, method: &str) -> bool {
    outcome["asked"].as_array().unwrap().iter().any(|asked| asked == method)
}

mod over_http {
    use super::*;

    async fn visit(client: Client) {
        let bare = Bare::everything().await;
        play(&client, Behind::Http { url: &bare.url, bare: Some(&bare), ended: [200, 400] }, false, RULES, &tour())
            .await;
    }

    with_every_client!(client = "server-everything", visit);
}

mod on_standard_streams {
    use super::*;

    async fn visit(client: Client) {
        play(&client, Behind::Command(servers::everything()), false, RULES, &tour()).await;
    }

    with_every_client!(client = "server-everything", visit);

    /// What the process has is what the configuration names, and who calls.
    #[tokio::test]
    #[cfg_attr(
        not(all(client = "mcp-sdk-1", client = "server-everything")),
        ignore = "needs the clients mcp-sdk-1 and server-everything: use tests/run"
    )]
    async fn its_environment_has_no_token_and_nothing_of_the_gate() {
        let look = Tour::default().own(json!({ "call": "get-env" }), |outcome| {
            let environment: Value = serde_json::from_str(said(outcome)).unwrap();
            for name in environment.as_object().unwrap().keys() {
                assert!(name.starts_with("ENTRA_MCP_") || ["HOME", "TMPDIR", "PWD"].contains(&name.as_str()), "{name}");
            }
        });
        let client = Client::typescript_1();
        let mut seen = play(&client, Behind::Command(servers::everything()), false, "", &look).await;
        let tokens: Vec<String> = serde_json::from_value(seen["tokens"].take()).unwrap();
        let seen = seen.to_string();
        assert!(!tokens.iter().any(|token| seen.contains(token.as_str())), "{seen}");
    }
}
