//! What `entra-mcp serve` tells Prometheus and a collector about servers behind it: requests to them, calls of tool
//! components, and what those ask. The names of tools, and what is asked, stay out of it.

use std::fs;

use entra_mcp_emulator::Endpoint;
use http::StatusCode;

use super::records::{ALICE, Site};
use super::telemetry::{CLIENT, PARENT, SERVER, TRACE, exporting, sum, with_metrics};
use crate::support::behind::Behind;
use crate::support::collector::{Collector, Manner, Received, Span};
use crate::support::session::sign_in;
use crate::support::tool_components;
use crate::tools::mail::bearer;

/// SpanKind of OpenTelemetry's protocol.
const INTERNAL: i32 = 1;
/// A tool of the server behind, which appears nowhere.
const TOOL: &str = "recognisable_tool";

/// A configuration in a file, as arguments.
fn configured(folder: &tempfile::TempDir, text: &str) -> Vec<String> {
    let file = folder.path().join("config.toml");
    fs::write(&file, text).unwrap();
    vec!["--config".to_owned(), file.display().to_string()]
}

/// Calls a tool of the server at a path, in the trace of the tests; the status.
async fn call(site: &Site, path: &str, token: &str, tool: &str) -> u16 {
    site.call_tool(path, Some(token), tool, &[("traceparent", PARENT)]).await.0
}

fn span(received: &Received, kind: i32, parent: Option<&Span>) -> Span {
    let found = received.spans.iter().find(|span| {
        span.trace_id == TRACE && span.kind == kind && parent.is_none_or(|parent| span.parent_id == parent.id)
    });
    found.cloned().unwrap_or_else(|| panic!("no span of kind {kind} below {parent:?}"))
}

#[tokio::test]
async fn requests_to_servers_behind_are_counted_by_server_and_outcome() {
    let (good, bad) = (Behind::start().await, Behind::answering(StatusCode::NOT_FOUND).await);
    let config = format!(
        "[[upstream]]\nname = \"crm\"\nurl = {:?}\n[[upstream]]\nname = \"erp\"\nurl = {:?}\n\
         [[upstream]]\nname = \"gone\"\nurl = \"http://127.0.0.1:1/mcp\"\n",
        good.url(),
        bad.url(),
    );
    let site = Site::new(|folder| [configured(folder, &config), with_metrics()].concat()).await;
    for (path, calls, status) in [("/crm/mcp", 3, 200), ("/erp/mcp", 2, 404), ("/gone/mcp", 1, 502)] {
        let token = sign_in(site.server.public_url(), path, ALICE).await.access_token;
        for _ in 0..calls {
            assert_eq!(call(&site, path, &token, TOOL).await, status, "{path}");
        }
        // A refused one is none.
        assert_eq!(call(&site, path, "no-token", TOOL).await, 401, "{path}");
    }
    let samples = site.metrics().await;
    let requests = "entra_mcp_upstream_request_duration_seconds_count";
    let count = |labels: &[&str]| sum(&samples, requests, labels);
    let post = r#"http_request_method="POST""#;
    assert_eq!(count(&[r#"server="crm""#, r#"http_response_status_code="200""#, post]), 3.0);
    assert_eq!(count(&[r#"server="erp""#, r#"http_response_status_code="404""#, post]), 2.0);
    assert_eq!(count(&[r#"server="gone""#, r#"error_type="unreachable""#, post]), 1.0);
    assert_eq!(count(&[]), 6.0);
    let served = "http_server_request_duration_seconds_count";
    assert_eq!(sum(&samples, served, &[r#"http_route="/crm/mcp""#, r#"http_response_status_code="200""#]), 3.0);
    assert!(samples.keys().all(|name| !name.contains(TOOL)), "a tool is a label");
}

#[tokio::test]
async fn a_request_to_a_server_behind_has_a_span_and_is_told_of_it() {
    let behind = Behind::start().await;
    let collector = Collector::start(Manner::Keeps).await;
    let more = ["--upstream".to_owned(), behind.url()];
    let site = exporting(&collector.url(), more.into()).await;
    let token = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
    assert_eq!(call(&site, "/mcp", &token, TOOL).await, 200);
    let of_trace = |received: &Received, kind| {
        received.spans.iter().any(|span| span.trace_id == TRACE && span.kind == kind)
            && received.logs.iter().any(|log| log.trace_id == TRACE)
    };
    let received = collector.wait(|received| of_trace(received, SERVER) && of_trace(received, CLIENT)).await;
    let below = span(&received, SERVER, None);
    let request = span(&received, CLIENT, Some(&below));
    assert_eq!(request.name, "POST upstream");
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("entra_mcp.server", "upstream"),
        ("entra_mcp.service", "upstream"),
    ] {
        assert_eq!(request.attributes[name], value);
    }
    let [arrived] = behind.arrived().try_into().expect("one request");
    assert_eq!(arrived.value("traceparent"), format!("00-{TRACE}-{}-01", request.id));
    // The record of the call is in the same trace; it alone names the tool.
    let record = received.logs.iter().find(|log| log.trace_id == TRACE).unwrap();
    let of_record = |name: &str| record.attributes[name].as_str();
    assert_eq!([of_record("event"), of_record("tool"), of_record("server")], ["tool.called", TOOL, "upstream"]);
    assert!(!format!("{:?}", received.spans).contains(TOOL), "a span names the tool");
}

#[tokio::test]
async fn a_call_of_a_tool_component_and_what_it_asks_are_counted_and_in_one_trace() {
    let collector = Collector::start(Manner::Keeps).await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[tools]]\nname = \"mail\"\nfile = {:?}\n\
         egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }}]\n",
        tool_components::file(tool_components::MAIL)
    );
    let site = exporting(&collector.url(), [configured(&folder, &config), with_metrics()].concat()).await;
    let token = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
    site.emulator.control().clear_requests();
    assert_eq!(call(&site, "/mcp", &token, "list_mail").await, 200);

    let samples = site.metrics().await;
    let labels = [r#"server="mail""#, r#"outcome="success""#];
    assert_eq!(sum(&samples, "entra_mcp_tool_call_duration_seconds_count", &labels), 1.0);

    let asked = site.emulator.control().requests(Endpoint::GraphMessages);
    let told = asked[0].header("traceparent").unwrap_or_default().to_owned();
    let all = |received: &Received| {
        let of_kind = |kind| received.spans.iter().any(|span| span.trace_id == TRACE && span.kind == kind);
        of_kind(SERVER) && of_kind(INTERNAL) && received.spans.iter().any(|span| told.contains(&span.id))
    };
    let received = collector.wait(all).await;
    let call = span(&received, INTERNAL, Some(&span(&received, SERVER, None)));
    assert_eq!((call.name.as_str(), call.attributes["entra_mcp.server"].as_str()), ("call mail", "mail"));
    let request = received.spans.iter().find(|span| told == format!("00-{TRACE}-{}-01", span.id)).unwrap();
    assert_eq!((request.parent_id.as_str(), request.kind), (call.id.as_str(), CLIENT));
    assert_eq!(request.attributes["entra_mcp.service"], "graph");
    assert!(!format!("{:?}", received.spans).contains("list_mail"), "a span names the tool");
}

/// A token for a tool is got by another instance of the component than the one that called the tool, and in another task.
#[tokio::test]
async fn the_exchange_of_a_token_for_a_tool_is_in_the_trace_of_its_call() {
    for component in [tool_components::MAIL, tool_components::HTTP_SERVER, tool_components::HTTP_SERVICE] {
        let collector = Collector::start(Manner::Keeps).await;
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[[tools]]\nname = \"mail\"\nfile = {:?}\n\
             egress = [{{ to = \"https://graph.microsoft.com\", scopes = [\"Mail.Read\"] }}]\n",
            tool_components::file(component)
        );
        let mode = ["--token-mode", "both", "--required-scope", "Mcp.Access"].map(str::to_owned);
        let site = exporting(&collector.url(), [configured(&folder, &config), mode.into()].concat()).await;
        let session = sign_in(site.server.public_url(), "/mcp", ALICE).await.access_token;
        for token in [session, bearer(&site.emulator, ALICE).await] {
            site.emulator.control().clear_requests();
            assert_eq!(call(&site, "/mcp", &token, "list_mail").await, 200, "{component}");
            let exchanges = site.emulator.control().requests(Endpoint::Token);
            assert_eq!(exchanges.len(), 1, "{component}");
            let told = exchanges[0].header("traceparent").unwrap_or_default().to_owned();
            let is_exchange = |span: &&Span| told == format!("00-{TRACE}-{}-01", span.id);
            let of_call = |received: &Received, exchange: &Span| {
                let parent = received.spans.iter().find(|span| span.id == exchange.parent_id);
                parent.is_some_and(|parent| ["call mail", "POST mail"].contains(&parent.name.as_str()))
            };
            let all = |received: &Received| {
                received.spans.iter().find(is_exchange).is_some_and(|exchange| of_call(received, exchange))
            };
            let received = collector.wait(all).await;
            let exchange = received.spans.iter().find(is_exchange).unwrap();
            let of = |name: &str| exchange.attributes[name].as_str();
            assert_eq!([of("entra_mcp.service"), of("entra_mcp.endpoint")], ["entra", "token"], "{component}");
            assert_eq!(exchange.kind, CLIENT);
        }
    }
}
