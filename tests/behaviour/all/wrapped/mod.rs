//! Tools that `entra-mcp wrap` has put the component in front of, in hosts that know WASI and nothing of this program.

mod answers;
mod callers;
mod command;
mod isolation;
mod jco;

use std::sync::LazyLock;

use entra_mcp_compose::{parts, wrap};
use entra_mcp_plugin::BUNDLED_COMPONENT;
use serde_json::{Value, json};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::standard::host::{Options, State, StockHost, servable};
use crate::support::component::modern;
use crate::support::lab::{REMOTE, app};
use crate::support::tool_components::{self, WRAPPED_SERVER};

const ALICE: &str = "alice@contoso.example";
const BOB: &str = "bob@contoso.example";

/// Graph as the caller, and nothing else.
const EGRESS: (&str, &str) =
    ("ENTRA_MCP_EGRESS", "[{\"to\": \"https://graph.microsoft.com\", \"scopes\": [\"Mail.Read\"]}]");

/// The tool as it is built.
fn tool() -> Vec<u8> {
    std::fs::read(tool_components::file(WRAPPED_SERVER)).expect("it is built with the tests")
}

static WRAPPED: LazyLock<ProxyPre<State>> =
    LazyLock::new(|| servable(&wrap(&tool(), &parts(BUNDLED_COMPONENT)).expect("they fit")));

/// A host with the wrapped tool, for sessions and for tokens of Entra ID.
async fn host(reuse: usize, more: &[(&'static str, &'static str)]) -> StockHost {
    let app_id_uri: &'static str = format!("api://{}", app(REMOTE)).leak();
    let usual = [
        EGRESS,
        ("ENTRA_MCP_TOKEN_MODE", "both"),
        ("ENTRA_MCP_REQUIRED_SCOPE", "Mcp.Access"),
        ("ENTRA_MCP_APP_ID_URI", app_id_uri),
    ];
    let kept = usual.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    let variables = kept.chain(more.iter().copied()).collect::<Vec<_>>().leak();
    StockHost::start(Options { artefact: || LazyLock::force(&WRAPPED), reuse, variables, ..Options::default() }).await
}

/// A message to the server.
fn request(public_url: &str, token: &str, message: &Value) -> reqwest::RequestBuilder {
    let name = message["params"]["name"].as_str().unwrap_or_default().to_owned();
    let mut request = reqwest::Client::new()
        .post(format!("{public_url}/mcp"))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", message["method"].as_str().unwrap_or_default())
        .bearer_auth(token)
        .json(message);
    if !name.is_empty() {
        request = request.header("mcp-name", name);
    }
    request
}

/// Sends a message; status and answer.
async fn send(public_url: &str, token: &str, message: &Value) -> (u16, Value) {
    let response = request(public_url, token, message).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

fn call_of(tool: &str, arguments: Value) -> Value {
    modern("tools/call", json!({ "name": tool, "arguments": arguments }), json!({}))
}

/// What a tool answers.
async fn call(public_url: &str, token: &str, tool: &str, arguments: Value) -> Value {
    let (status, answer) = send(public_url, token, &call_of(tool, arguments)).await;
    assert_eq!(status, 200, "{answer}");
    answer["result"]["structuredContent"].clone()
}

/// The mailbox that Graph has answered from. All messages are of one.
fn mailbox(graph: &Value) -> String {
    let body = graph["body"].as_str().unwrap_or_else(|| panic!("{graph}"));
    let messages: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body}"));
    let to = |message: &Value| message["toRecipients"][0]["emailAddress"]["address"].as_str().map(str::to_owned);
    let mut boxes: Vec<_> = messages["value"].as_array().into_iter().flatten().filter_map(to).collect();
    assert_eq!(boxes.len(), 5, "{body}");
    boxes.dedup();
    assert_eq!(boxes.len(), 1, "{body}");
    boxes.remove(0)
}
