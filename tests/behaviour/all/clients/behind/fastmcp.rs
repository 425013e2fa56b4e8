//! PyPI `fastmcp`, over Streamable HTTP and on standard input and output, in both eras (`tests/clients/fastmcp`).

use serde_json::{Value, json};

use super::servers::{self, Bare};
use super::tour::{Behind, Client, Tour, play, said};
use super::with_every_client;

/// Each kind of rule. The lists have what is denied, without the gate.
const RULES: &str = r#"
[[access]]
server = "behind"
tool = "delete_record"
roles = ["Crm.Admin"]
[[access]]
server = "behind"
kind = "resource"
tool = "test://watched-resource"
roles = ["Crm.Admin"]
[[access]]
server = "behind"
kind = "prompt"
tool = "test_prompt_with_image"
roles = ["Crm.Admin"]
"#;

/// The result of `large`, in KiB: the server sends the text twice, and the Python SDK takes 1 MiB.
const LARGE: usize = 256;
/// One that is longer than an event may be that has to be judged, or than what a process may print.
const TOO_LARGE: usize = 3 * 1024;

/// `in_json`: the server answers in JSON, unless that takes it long.
fn tour(modern: bool, in_json: bool) -> Tour {
    let call = |name: &str, arguments: Value| json!({ "call": name, "arguments": arguments });
    let asks = |name: &str, arguments: Value, method: &'static str, text: &'static str| {
        (call(name, arguments), move |outcome: &Value| {
            assert_eq!(outcome["asked"], json!([method]), "{outcome}");
            assert!(said(outcome).contains(text), "{outcome}");
        })
    };
    let (sampled, is_sampled) =
        asks("test_sampling", json!({ "prompt": "hello" }), "sampling/createMessage", "from the model");
    let (elicited, is_elicited) =
        asks("test_elicitation", json!({ "message": "Who?" }), "elicitation/create", "action=accept");
    let (rooted, is_rooted) = asks("roots", json!({}), "roots/list", "file:///work");
    let tour = Tour::default()
        .without("tools", "delete_record")
        .without("resources", "test://watched-resource")
        .same(json!({ "list": "resourceTemplates" }), |outcome| {
            assert_eq!(outcome["answer"]["resourceTemplates"].as_array().unwrap().len(), 1, "{outcome}");
        })
        .without("prompts", "test_prompt_with_image")
        .same(call("test_simple_text", json!({})), |outcome| {
            assert_eq!(said(outcome), "This is a simple text response for testing.");
        })
        .same(call("test_tool_with_progress", json!({})), |outcome| {
            let progress: Vec<_> =
                outcome["progress"].as_array().unwrap().iter().map(|one| one["progress"].as_f64().unwrap()).collect();
            assert_eq!(progress, [0.0, 50.0, 100.0]);
        })
        .same(call("large", json!({ "kib": LARGE })), |outcome| assert_eq!(said(outcome).len(), LARGE * 1024))
        .own(call("large", json!({ "kib": TOO_LARGE })), move |outcome| match outcome["error"]["message"].as_str() {
            Some(error) => assert!(error.contains("longer than 4 MiB"), "{error}"),
            None => assert!(in_json && said(outcome).len() == TOO_LARGE * 1024, "neither the result nor an error"),
        })
        .same(call("test_image_content", json!({})), |outcome| {
            assert_eq!(outcome["answer"]["content"][0]["mimeType"], "image/png");
        })
        .same(call("test_multiple_content_types", json!({})), |outcome| {
            assert_eq!(outcome["answer"]["content"].as_array().unwrap().len(), 3);
        })
        .same(call("test_custom_headers", json!({ "region": "Zürich ✓" })), |outcome| {
            assert_eq!(said(outcome), "Zürich ✓");
        })
        .same(json!({ "read": "test://static-binary" }), |outcome| {
            assert_eq!(outcome["answer"]["contents"][0]["mimeType"], "image/png", "{outcome}");
        })
        .same(json!({ "read": "test://template/7/data" }), |outcome| {
            assert!(outcome["answer"]["contents"][0]["text"].as_str().unwrap().contains("Data for ID: 7"), "{outcome}");
        })
        .same(json!({ "read": "test://none" }), |outcome| assert_eq!(outcome["error"]["code"], -32602, "{outcome}"))
        .same(json!({ "prompt": "test_prompt_with_arguments", "arguments": { "arg1": "a", "arg2": "b" } }), |outcome| {
            let text = outcome["answer"]["messages"][0]["content"]["text"].as_str().unwrap();
            assert!(text.contains("arg1='a', arg2='b'"), "{text}");
        })
        .same(
            json!({ "complete": {
                "ref": { "type": "ref/prompt", "name": "test_prompt_with_arguments" },
                "argument": { "name": "arg1", "value": "al" },
            } }),
            |outcome| assert_eq!(outcome["answer"]["completion"]["values"], json!(["alpha", "alphabet"])),
        )
        .same(sampled, is_sampled)
        .same(elicited, is_elicited)
        .same(rooted, is_rooted)
        .own(json!({ "call": "wait", "arguments": { "name": "first" }, "cancel": true }), |outcome| {
            assert_eq!(outcome["error"], "cancelled");
        })
        .same(call("was_given_up", json!({ "name": "first" })), |outcome| assert_eq!(said(outcome), "true"))
        // In a session over HTTP, the client comes back with the id of the last event.
        .same(call("test_reconnection", json!({})), |outcome| assert!(said(outcome).contains("completed"), "{outcome}"))
        .same(call("test_error_handling", json!({})), |outcome| assert_eq!(outcome["answer"]["isError"], true))
        .denied(call("delete_record", json!({})))
        .denied(json!({ "read": "test://watched-resource" }))
        .denied(json!({ "prompt": "test_prompt_with_image" }));
    if modern {
        return tour.same(call("test_input_required_result_multi_round", json!({})), |outcome| {
            assert_eq!(outcome["asked"], json!(["elicitation/create", "elicitation/create"]), "{outcome}");
            assert_eq!(said(outcome), "two rounds");
        });
    }
    tour
}

mod over_http {
    use super::*;

    async fn visit(client: Client) {
        let bare = Bare::fastmcp().await;
        play(
            &client,
            Behind::Http { url: &bare.url, bare: Some(&bare), ended: [200, 404] },
            true,
            RULES,
            &tour(client.modern, client.modern),
        )
        .await;
        let requests = bare.requests();
        let resumed = requests.iter().filter(|fields| fields.iter().any(|(name, _)| name == "last-event-id"));
        assert!(client.modern || resumed.count() >= 2, "through the gate and without it");
    }

    with_every_client!(client = "fastmcp", visit);
}

mod on_standard_streams {
    use super::*;

    async fn visit(client: Client) {
        play(&client, Behind::Command(servers::fastmcp()), true, RULES, &tour(client.modern, false)).await;
    }

    with_every_client!(client = "fastmcp", visit);
}
