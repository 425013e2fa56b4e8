//! A server of the Rust SDK, rmcp, in both eras: over Streamable HTTP, with sessions where the era has them, and on standard
//! input and output (the program `rmcp-server` of this package).

use std::sync::Arc;

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;

use super::tour::{Behind, Client, Tour, play, said};
use super::with_every_client;
use server::Server;

#[path = "../../../programs/rmcp_server/server.rs"]
mod server;

const RULES: &str = "[[access]]\nserver = \"behind\"\ntool = \"delete_record\"\nroles = [\"Crm.Admin\"]\n";

/// Starts the server; its address.
async fn serve() -> String {
    let server = Server::default();
    let sessions = Arc::<LocalSessionManager>::default();
    let mcp = StreamableHttpService::new(move || Ok(server.clone()), sessions, StreamableHttpServerConfig::default());
    let router = axum::Router::new().route_service("/mcp", mcp);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/mcp")
}

fn tour(client: &Client) -> Tour {
    let call = |name: &str| json!({ "call": name });
    let tour = Tour::default()
        .without("tools", "delete_record")
        .same(json!({ "call": "add", "arguments": { "a": 1, "b": 2 } }), |outcome| assert_eq!(said(outcome), "3"))
        .same(call("count"), |outcome| {
            assert_eq!((outcome["progress"].as_array().unwrap().len(), said(outcome)), (3, "counted"), "{outcome}");
        })
        .same(call("large"), |outcome| assert_eq!(said(outcome).len(), 512 * 1024))
        .same(call("logo"), |outcome| assert_eq!(outcome["answer"]["content"][0]["type"], "image"))
        .same(json!({ "list": "resources" }), |outcome| {
            assert_eq!(outcome["answer"]["resources"][0]["uri"], "crm://notes");
        })
        .same(json!({ "list": "resourceTemplates" }), |outcome| {
            assert_eq!(outcome["answer"]["resourceTemplates"][0]["uriTemplate"], "crm://records/{id}");
        })
        .same(json!({ "read": "crm://records/7" }), |outcome| {
            assert_eq!(outcome["answer"]["contents"][0]["text"], "This is crm://records/7");
        })
        .same(json!({ "list": "prompts" }), |outcome| assert_eq!(outcome["answer"]["prompts"][0]["name"], "plan"))
        .same(json!({ "prompt": "plan", "arguments": { "goal": "x" } }), |outcome| {
            assert_eq!(outcome["answer"]["messages"][0]["content"]["text"], "Plan \"x\"");
        })
        .same(
            json!({ "complete": {
                "ref": { "type": "ref/prompt", "name": "plan" },
                "argument": { "name": "goal", "value": "go" },
            } }),
            |outcome| assert_eq!(outcome["answer"]["completion"]["values"], json!(["go!"])),
        )
        .own(json!({ "call": "wait", "cancel": true }), |outcome| assert_eq!(outcome["error"], "cancelled"))
        .same(call("cancellations"), |outcome| assert_eq!(said(outcome), "some"))
        .denied(call("delete_record"));
    if !client.modern {
        return tour;
    }
    let tour = tour.same(call("greet"), |outcome| {
        assert_eq!((said(outcome), &outcome["asked"]), ("hello Alice", &json!(["elicitation/create"])), "{outcome}");
    });
    if !client.is_python() {
        return tour;
    }
    tour.same(json!({ "listen": true }), |outcome| {
        assert_eq!(outcome["answer"]["event"], "ToolsListChanged", "{outcome}")
    })
}

mod over_http {
    use super::*;

    async fn visit(client: Client) {
        let url = serve().await;
        play(&client, Behind::Http { url: &url, bare: None, ended: [202, 404] }, true, RULES, &tour(&client)).await;
    }

    with_every_client!(unix, visit);
}

mod on_standard_streams {
    use super::*;

    async fn visit(client: Client) {
        let program = env!("CARGO_BIN_EXE_rmcp-server").to_owned();
        play(&client, Behind::Command(vec![program]), true, RULES, &tour(&client)).await;
    }

    with_every_client!(unix, visit);
}
