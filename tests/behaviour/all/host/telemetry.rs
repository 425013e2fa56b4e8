//! What `entra-mcp serve` tells Prometheus and a collector, and what it keeps to itself.

use std::collections::BTreeMap;

use entra_mcp_emulator::{Endpoint, Fault};
use serde_json::{Value, json};

use super::records::{ALICE, Site};
use crate::support::collector::{Collector, Manner, Received, Span};
use crate::support::patience::{eventually, soon, until};
use crate::support::session::Session;

pub(super) const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
pub(super) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// SpanKind of OpenTelemetry's protocol.
pub(super) const SERVER: i32 = 2;
pub(super) const CLIENT: i32 = 3;

pub(super) fn with_metrics() -> Vec<String> {
    ["--metrics-listen", "127.0.0.1:0", "--metrics-host", "metrics.example.com"].map(str::to_owned).into()
}

/// A site that exports to a collector, every tenth of a second.
pub(super) async fn exporting(url: &str, arguments: Vec<String>) -> Site {
    exporting_within(url, "1000", arguments).await
}

/// The same, with the time that an export may take, in milliseconds.
async fn exporting_within(url: &str, timeout: &str, arguments: Vec<String>) -> Site {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=recognisable-collector-key"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
    ];
    Site::with(|_| arguments, &variables).await
}

/// The samples in the text format, by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line}"));
            assert!(name.starts_with(|first: char| first.is_ascii_lowercase()), "{line}");
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number in {line}")))
        })
        .collect()
}

impl Site {
    pub(super) async fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = reqwest::get(self.server.metrics("/metrics")).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
        samples(&answer.text().await.unwrap())
    }

    /// The metrics, once they are as they soon have to be.
    async fn metrics_when(&self, enough: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
        let waited = eventually(|| async { Some(self.metrics().await).filter(&enough) }).await;
        waited.expect("the metrics become what they have to be")
    }

    async fn refresh(&self, session: &Session) -> Value {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", session.client_id.as_str()),
            ("refresh_token", session.refresh_token.as_str()),
        ];
        let answer = reqwest::Client::new().post(self.server.at("/token")).form(&form).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}

/// The sum of the samples of a metric with all of these labels.
pub(super) fn sum(samples: &BTreeMap<String, f64>, metric: &str, labels: &[&str]) -> f64 {
    let named = samples.iter().filter(|(name, _)| name.split('{').next() == Some(metric));
    let labelled = named.filter(|(name, _)| labels.iter().all(|label| name.contains(label)));
    labelled.map(|(_, value)| value).sum()
}

#[tokio::test]
async fn metrics_are_on_a_listener_of_their_own_and_count_what_happens() {
    let site = Site::new(|_| with_metrics()).await;
    assert_eq!(reqwest::get(site.server.at("/metrics")).await.unwrap().status().as_u16(), 404);
    assert_eq!(reqwest::get(site.server.metrics("/mcp")).await.unwrap().status().as_u16(), 404);
    let posted = reqwest::Client::new().post(site.server.metrics("/metrics")).send().await.unwrap();
    assert_eq!(posted.status().as_u16(), 405);
    for (host, status) in [("evil.example:9464", 421), ("localhost:9464", 200), ("metrics.example.com:1", 200)] {
        let named = reqwest::Client::new().get(site.server.metrics("/metrics")).header("host", host);
        assert_eq!(named.send().await.unwrap().status().as_u16(), status, "{host}");
    }

    let session = site.sign_in().await;
    for _ in 0..3 {
        assert_eq!(site.call(&session.access_token, &[]).await.0, 200);
    }
    assert_eq!(site.call("no-token-of-this-server", &[]).await.0, 401);
    let samples = site.metrics_when(|samples| sum(samples, "http_server_active_requests", &[]) == 0.0).await;
    let count = |metric: &str, labels: &[&str]| sum(&samples, metric, labels);
    let requests = "http_server_request_duration_seconds_count";
    let mcp = r#"http_route="/mcp""#;
    assert_eq!(count(requests, &[mcp, r#"http_response_status_code="200""#, r#"http_request_method="POST""#]), 3.0);
    assert_eq!(count(requests, &[mcp, r#"http_response_status_code="401""#]), 1.0);
    assert_eq!(count(requests, &[r#"http_route="other""#, r#"http_response_status_code="404""#]), 1.0);
    let outbound = "http_client_request_duration_seconds_count";
    assert!(count(outbound, &[r#"service="graph""#, r#"http_response_status_code="200""#]) >= 1.0);
    assert!(count(outbound, &[r#"service="entra""#, r#"endpoint="token""#]) >= 1.0);
    assert_eq!(count("entra_mcp_audit_events_total", &[r#"event="tool.called""#, r#"outcome="success""#]), 3.0);
    assert_eq!(count("entra_mcp_audit_dropped_total", &[]), 0.0);
    assert!(count("entra_mcp_instances_created_total", &[]) >= 1.0);
    assert!(count("entra_mcp_instances", &[r#"state="idle""#]) >= 1.0);
    assert_eq!(count("entra_mcp_instances_ended_total", &[r#"reason="trapped""#]), 0.0);
    assert_eq!(count("entra_mcp_queue_length", &[]), 0.0);
    assert!(count("process_memory_usage_bytes", &[]) > 1e6);
    assert!(count("process_uptime_seconds", &[]) > 0.0);
    assert_eq!(count("entra_mcp_build_info", &[r#"version=""#]), 1.0);
}

#[tokio::test]
async fn what_a_client_chooses_makes_no_new_series() {
    let site = Site::new(|_| {
        [with_metrics(), ["--check", "off", "--rate-limit", "token=1/1h"].map(str::to_owned).into()].concat()
    })
    .await;
    // A connection for metrics opens some series; so does a first request of each kind.
    let client = reqwest::Client::new();
    let send = async |number: u32| {
        let path = site.server.at(&format!("/nothing/{number}?alice@contoso.example"));
        let method = reqwest::Method::from_bytes(format!("X{number}").as_bytes()).unwrap();
        client.request(method, path).header("host", format!("{number}.example")).send().await.unwrap();
        client.post(site.server.at("/token")).send().await.unwrap();
        site.call(&format!("token-{number}"), &[]).await;
    };
    for number in 0..3 {
        send(number).await;
    }
    let before = site.metrics().await;
    for number in 3..50 {
        send(number).await;
    }
    let after = site.metrics().await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert_eq!(sum(&after, "entra_mcp_rate_limited_total", &[r#"operation="address:token""#]), 49.0);
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_one_record_and_counted_request_by_request() {
    let arguments = |folder: &tempfile::TempDir| {
        let file = folder.path().join("audit.jsonl").to_str().unwrap().to_owned();
        let more = ["--rate-limit", "refused-token=3/1h", "--audit-file", &file].map(str::to_owned);
        [with_metrics(), more.into()].concat()
    };
    let site = Site::new(arguments).await;
    let session = site.sign_in().await;
    let mut statuses = Vec::new();
    for number in 0..10 {
        statuses.push(site.call(&format!("token-{number}"), &[]).await.0);
    }
    assert_eq!(statuses, [&[401; 3][..], &[429; 7]].concat());
    let answer = reqwest::Client::new().post(site.server.at("/mcp")).bearer_auth("bad").send().await.unwrap();
    let after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1_100..=1_200).contains(&after), "{after}");
    assert_eq!((answer.status().as_u16(), answer.headers().get("www-authenticate")), (429, None));
    assert_eq!(site.call(&session.access_token, &[]).await.0, 200);
    assert_eq!(reqwest::Client::new().post(site.server.at("/mcp")).send().await.unwrap().status().as_u16(), 401);

    let records = site.records("audit.jsonl");
    let of = |name: &str| records.iter().filter(|record| record["event"] == name).collect::<Vec<_>>();
    assert_eq!(of("token.refused").len(), 3);
    let [throttled] = of("request.throttled")[..] else { panic!("{records:?}") };
    assert_eq!((&throttled["reason"], &throttled["address"]), (&"refused-token".into(), &"127.0.0.1".into()));
    let samples = site.metrics().await;
    let limited = |labels: &[&str]| sum(&samples, "entra_mcp_rate_limited_total", labels);
    assert_eq!((limited(&[r#"operation="refused-token""#]), limited(&[])), (8.0, 8.0));
}

#[tokio::test]
async fn dropped_events_are_counted() {
    let arguments = ["--audit-file", "/dev/full", "--audit-failure", "drop-and-count"].map(str::to_owned);
    let site = Site::new(|_| [with_metrics(), arguments.into()].concat()).await;
    for _ in 0..3 {
        assert_eq!(site.register().await, 201);
    }
    // The server may have asked for the signing keys by itself meanwhile, which is an event as well.
    let events = |samples: &_, labels: &[&str]| sum(samples, "entra_mcp_audit_events_total", labels);
    let all = |samples: &BTreeMap<String, f64>| {
        sum(samples, "entra_mcp_audit_dropped_total", &[]) == events(samples, &[])
            && events(samples, &[r#"event="client.registered""#]) == 3.0
    };
    let samples = site.metrics_when(all).await;
    assert_eq!(sum(&samples, "entra_mcp_audit_failures_total", &[]), 0.0);
}

#[tokio::test]
async fn refused_events_are_counted() {
    let site = Site::new(|_| [with_metrics(), ["--audit-file", "/dev/full"].map(str::to_owned).into()].concat()).await;
    assert_eq!(site.register().await, 503);
    assert_eq!(sum(&site.metrics().await, "entra_mcp_audit_failures_total", &[]), 1.0);
}

#[tokio::test]
async fn a_collector_gets_traces_with_the_callers_parent_and_audit_records_in_them_and_metrics() {
    let collector = Collector::start(Manner::Keeps).await;
    let site = exporting(&collector.url(), Vec::new()).await;
    let session = site.sign_in().await;
    site.emulator.control().clear_requests();
    assert_eq!(site.call(&session.access_token, &[("traceparent", PARENT)]).await.0, 200);
    let in_trace = |received: &Received| received.spans.iter().filter(|span| span.trace_id == TRACE).count() >= 2;
    let all = |received: &Received| {
        let logged = received.logs.iter().any(|log| log.trace_id == TRACE);
        in_trace(received) && logged && !received.metrics.is_empty()
    };
    let received = collector.wait(all).await;

    let server = received.spans.iter().find(|span| span.trace_id == TRACE && span.kind == SERVER).unwrap();
    assert_eq!((server.name.as_str(), server.parent_id.as_str()), ("POST /mcp", "b7ad6b7169203331"));
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/mcp"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
    ] {
        assert_eq!(server.attributes[name], value);
    }
    let client = received.spans.iter().find(|span| span.trace_id == TRACE && span.kind == CLIENT).unwrap();
    assert_eq!((client.parent_id.as_str(), client.attributes["entra_mcp.service"].as_str()), (&*server.id, "graph"));
    let asked = site.emulator.control().requests(Endpoint::GraphMe);
    let told = asked[0].header("traceparent").unwrap();
    assert_eq!(told, format!("00-{TRACE}-{}-01", client.id));

    let log = received.logs.iter().find(|log| log.trace_id == TRACE).unwrap();
    assert_eq!((log.attributes["event"].as_str(), log.attributes["tool"].as_str()), ("tool.called", "getUserDetails"));
    assert!(received.metrics.iter().any(|name| name == "http.server.request.duration"), "{:?}", received.metrics);
    assert!(received.headers.iter().all(|headers| headers["x-api-key"] == "recognisable-collector-key"));
    for resource in &received.resources {
        assert_eq!((&*resource["service.name"], &*resource["deployment.environment"]), ("entra-mcp", "test"));
    }
    // Other requests have traces of their own.
    let others: Vec<_> = received.spans.iter().filter(|span| span.kind == SERVER && span.trace_id != TRACE).collect();
    assert!(others.len() > 3 && others.iter().all(|span| span.parent_id.is_empty()), "{others:?}");
}

#[tokio::test]
async fn the_trace_that_a_message_names_is_that_of_its_spans_its_record_and_what_it_asks() {
    const OTHER: &str = "1bf8762027de54ee9559fc322d91420d";
    const OTHER_PARENT: &str = "00-1bf8762027de54ee9559fc322d91420d-c8be7c827a314442-01";
    let collector = Collector::start(Manner::Keeps).await;
    let site = exporting(&collector.url(), Vec::new()).await;
    let session = site.sign_in().await;
    site.emulator.control().clear_requests();
    let headers = [("traceparent", PARENT), ("tracestate", "header=1")];
    let said = json!({ "traceparent": OTHER_PARENT, "tracestate": "first=1, second=2" });
    assert_eq!(site.call_with(&session.access_token, &headers, said).await.0, 200);
    // A message that names no valid trace belongs to the trace of its header; a malformed state is discarded.
    let headers = [("traceparent", PARENT), ("tracestate", "Malformed")];
    let said = json!({ "traceparent": PARENT.to_uppercase(), "tracestate": "second=2" });
    assert_eq!(site.call_with(&session.access_token, &headers, said).await.0, 200);
    let server_of = |received: &Received, trace: &str| {
        received.spans.iter().find(|span| span.kind == SERVER && span.trace_id == trace).cloned()
    };
    let received = collector
        .wait(|received| {
            let calls = received.logs.iter().filter(|log| log.attributes["event"] == "tool.called").count();
            calls == 2 && [TRACE, OTHER].iter().all(|trace| server_of(received, trace).is_some())
        })
        .await;

    let server = server_of(&received, OTHER).unwrap();
    assert_eq!((server.name.as_str(), server.parent_id.as_str()), ("POST /mcp", "c8be7c827a314442"));
    assert_eq!(server.trace_state, "first=1,second=2");
    assert_eq!(server.links, [(TRACE.to_owned(), "b7ad6b7169203331".to_owned())]);
    let client = received.spans.iter().find(|span| span.trace_id == OTHER && span.kind == CLIENT).unwrap();
    assert_eq!((client.parent_id.as_str(), client.attributes["entra_mcp.service"].as_str()), (&*server.id, "graph"));
    let asked = site.emulator.control().requests(Endpoint::GraphMe);
    assert_eq!(asked[0].header("traceparent").unwrap(), format!("00-{OTHER}-{}-01", client.id));
    assert_eq!(asked[0].header("tracestate"), Some("first=1,second=2"));
    let log = received.logs.iter().find(|log| log.trace_id == OTHER).unwrap();
    assert_eq!((log.attributes["event"].as_str(), log.span_id.as_str()), ("tool.called", &*server.id));

    let server = server_of(&received, TRACE).unwrap();
    assert_eq!((server.parent_id.as_str(), server.trace_state.as_str()), ("b7ad6b7169203331", ""));
    assert_eq!(server.links, []);
}

#[tokio::test]
async fn a_call_whose_client_leaves_is_counted_and_traced_and_leaves_no_record() {
    let collector = Collector::start(Manner::Keeps).await;
    let site = exporting(&collector.url(), with_metrics()).await;
    let session = site.sign_in().await;
    site.emulator.control().inject(Fault::on(Endpoint::GraphMe).delay_ms(600_000));
    tokio::select! {
        answer = site.call(&session.access_token, &[("traceparent", PARENT)]) => panic!("{answer:?}"),
        asked = until(|| site.emulator.control().request_count(Endpoint::GraphMe) > 0) => asked.expect("Graph is asked"),
    }
    let cancelled = r#"error_type="cancelled""#;
    let count = |samples: &BTreeMap<String, f64>| {
        sum(samples, "http_server_request_duration_seconds_count", &[cancelled, r#"http_route="/mcp""#])
    };
    let samples = site.metrics_when(|samples| count(samples) == 1.0).await;
    assert_eq!(sum(&samples, "entra_mcp_audit_events_total", &[r#"event="tool.called""#]), 0.0);
    let is_its = |span: &Span| span.kind == SERVER && span.trace_id == TRACE;
    let received = collector.wait(|received| received.spans.iter().any(is_its)).await;
    let server = received.spans.iter().find(|span| is_its(span)).unwrap();
    assert_eq!(server.attributes["error.type"], "cancelled");
    assert!(!server.attributes.contains_key("http.response.status_code"), "{server:?}");
}

#[tokio::test]
async fn without_a_collector_the_callers_trace_is_in_the_record_and_an_invalid_one_is_not() {
    let site = Site::new(|folder| {
        let file = folder.path().join("audit.jsonl");
        vec!["--audit-file".to_owned(), file.to_str().unwrap().to_owned()]
    })
    .await;
    let session = site.sign_in().await;
    for parent in [PARENT, &PARENT.to_uppercase(), "garbage"] {
        assert_eq!(site.call(&session.access_token, &[("traceparent", parent)]).await.0, 200);
    }
    // What the message says is closer to the tool than what the request says.
    let other = PARENT.replace("0af7", "1bf8");
    let said = json!({ "traceparent": other });
    assert_eq!(site.call_with(&session.access_token, &[("traceparent", PARENT)], said).await.0, 200);
    let refused =
        reqwest::Client::new().get(site.server.at("/mcp")).header("traceparent", PARENT).send().await.unwrap();
    let correlation_id = refused.headers()["x-correlation-id"].to_str().unwrap().to_owned();
    let log = site.log_with(&correlation_id).await;
    let line = log.lines().find(|line| line.contains(&correlation_id)).unwrap();
    assert!(line.contains(TRACE), "{line}");
    let records = site.records("audit.jsonl");
    let traces: Vec<_> = records.iter().filter(|record| record["event"] == "tool.called").collect();
    let traces: Vec<_> = traces.iter().map(|record| record["trace_id"].clone()).collect();
    assert_eq!(traces, [json!(TRACE), Value::Null, Value::Null, json!(TRACE.replace("0af7", "1bf8"))]);
    assert!(
        site.emulator.control().requests(Endpoint::GraphMe).iter().all(|asked| asked.header("traceparent").is_none())
    );
}

#[tokio::test]
async fn a_collector_that_is_down_or_hangs_holds_up_no_call_and_the_server_ends_in_time() {
    let hanging = Collector::start(Manner::NeverAnswers).await;
    // No server listens there any more.
    let down = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    // An export that hangs for an hour would hold up a call that waited for it until the test gives up. The process may end
    // before it can log that such an export is given up; one that times out is logged, once.
    for (url, timeout, logged) in
        [(hanging.url(), "3600000", 0..=1), (hanging.url(), "1000", 1..=1), (down, "1000", 1..=1)]
    {
        let mut site = exporting_within(&url, timeout, Vec::new()).await;
        let session = site.sign_in().await;
        let calls = async {
            for _ in 0..50 {
                assert_eq!(site.call(&session.access_token, &[]).await.0, 200);
            }
        };
        soon(calls).await.expect("no call waits for an export");
        let ending = tokio::task::spawn_blocking(move || (site.server.end(), site));
        let (code, site) = soon(ending).await.unwrap().unwrap();
        let log = site.server.log();
        assert_eq!(code, Some(0), "{log}");
        assert!(logged.contains(&log.matches("telemetry cannot be exported").count()), "{log}");
        assert!(!log.contains("recognisable-collector-key"), "{log}");
    }
}

#[tokio::test]
async fn what_is_left_is_exported_when_the_server_ends() {
    let collector = Collector::start(Manner::Keeps).await;
    let url = collector.url();
    let mut site = Site::with(|_| Vec::new(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]).await;
    assert_eq!(site.register().await, 201);
    let (code, _site) = tokio::task::spawn_blocking(move || (site.server.end(), site)).await.unwrap();
    assert_eq!(code, Some(0));
    let received = collector.received().clone();
    assert!(received.logs.iter().any(|log| log.attributes["event"] == "client.registered"), "{received:#?}");
    assert!(received.spans.iter().any(|span| span.name == "POST /register"));
    assert!(received.metrics.iter().any(|name| name == "entra_mcp.audit.events"));
}

#[tokio::test]
async fn an_endpoint_that_is_none_stops_the_server_without_repeating_it() {
    let home = super::commands::Home::new().await;
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("AZURE_CLIENT_SECRET", "secret").env("OTEL_EXPORTER_OTLP_ENDPOINT", "ht!tp://user:password@nowhere");
    let output = command.output().await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("OTEL_EXPORTER_OTLP_") && !log.contains("password"), "{log}");
}

#[tokio::test]
async fn no_sink_holds_a_secret_or_the_name_of_a_person() {
    let collector = Collector::start(Manner::Keeps).await;
    let mut arguments = with_metrics();
    arguments.extend(["--refresh-grace-seconds", "0"].map(str::to_owned));
    let site = exporting(&collector.url(), arguments).await;
    let first = site.sign_in().await;
    assert_eq!(site.call(&first.access_token, &[]).await.0, 200);
    let refreshed = site.refresh(&first).await;
    let second = refreshed["access_token"].as_str().unwrap();
    assert_eq!(site.call(second, &[("traceparent", PARENT)]).await.0, 200);
    // Refusals: a token that is over, a token in the query, a code that is none.
    assert_eq!(site.call("recognisable-bad-token", &[]).await.0, 401);
    let path = format!("/mcp?access_token={second}");
    reqwest::Client::new().post(site.server.at(&path)).send().await.unwrap();
    let path = "/auth/callback?code=recognisable-bad-code&state=recognisable-bad-state";
    reqwest::get(site.server.at(path)).await.unwrap();
    site.refresh(&first).await;
    let metrics = reqwest::get(site.server.metrics("/metrics")).await.unwrap().text().await.unwrap();
    collector
        .wait(|received| {
            let reused = received.logs.iter().any(|log| log.attributes["event"] == "session.reused");
            let spans = received.spans.iter().filter(|span| span.name == "POST /token").count();
            reused && spans >= 3 && received.metrics.iter().any(|name| name == "entra_mcp.audit.events")
        })
        .await;
    let received = collector.received().clone();

    let mut secrets: Vec<String> = vec![
        first.access_token.clone(),
        first.refresh_token.clone(),
        second.to_owned(),
        refreshed["refresh_token"].as_str().unwrap().to_owned(),
        site.emulator.endpoints().client_secret.clone(),
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
    ];
    secrets.extend(["bad-token", "bad-code", "bad-state", "collector-key"].map(|name| format!("recognisable-{name}")));
    let names = ["state", "nonce", "code_challenge"];
    for request in site.emulator.control().requests(Endpoint::Authorize) {
        secrets.extend(names.iter().filter_map(|name| request.query(name)).map(str::to_owned));
    }
    let names = ["code", "code_verifier", "refresh_token", "client_secret", "assertion"];
    for request in site.emulator.control().requests(Endpoint::Token) {
        secrets.extend(names.iter().filter_map(|name| request.form(name)).map(str::to_owned));
    }
    for request in site.emulator.control().requests(Endpoint::GraphMe) {
        secrets.extend(request.header("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned()));
    }
    assert!(secrets.len() > 15, "{secrets:?}");
    secrets.extend([ALICE, "Alice", "Anderson", "contoso.example"].map(str::to_owned));

    let mut sinks = vec![("log and audit records", site.server.log().into_bytes()), ("metrics", metrics.into_bytes())];
    sinks.extend(received.bodies.iter().map(|body| ("an export", body.to_vec())));
    // Each of the three signals comes in one export or more, as fast as the server happens to be.
    assert!(sinks.len() >= 2 + 3);
    for (sink, content) in &sinks {
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret:?} is in {sink}: {}", String::from_utf8_lossy(content));
        }
    }
}
