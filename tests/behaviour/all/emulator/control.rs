//! The control API over HTTP, starting, and the built-in configuration.

use entra_mcp_emulator::{Builder, Config, ConfigError, Endpoint, StartError};
use serde_json::{Value, json};

use crate::support::lab::{Answer, Authorize, CONTOSO, GRAPH_SCOPE, LOCAL, Lab, START, TASKS, app};

const ALICE: &str = "alice@contoso.example";

async fn control(lab: &Lab, method: &str, path: &str, body: Option<Value>) -> Answer {
    let url = format!("{}{path}", lab.endpoints().control);
    let request = lab.client().request(method.parse().unwrap(), url);
    lab.send(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

#[tokio::test]
async fn everything_can_be_done_over_http() {
    let mut lab = Lab::new().await;
    let refresh = lab.graph_tokens(ALICE).await.text("refresh_token").to_owned();

    assert_eq!(control(&lab, "GET", "/clock", None).await.body["now"], START);
    assert_eq!(control(&lab, "POST", "/clock", Some(json!({ "advance_seconds": 60 }))).await.body["now"], START + 60);

    let rotated = control(&lab, "POST", "/keys", Some(json!({ "rotation": "replace" }))).await.body;
    assert_eq!(rotated["published"], json!([rotated["signing"]]));

    control(&lab, "POST", "/faults", Some(json!({ "endpoint": "token", "status": 503 }))).await;
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.status, 503);
    assert_eq!(
        lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.status,
        200,
        "a fault strikes once unless told otherwise"
    );

    control(&lab, "POST", "/faults", Some(json!({ "endpoint": "token", "status": 503, "times": null }))).await;
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.status, 503);
    control(&lab, "DELETE", "/faults", None).await;
    control(&lab, "POST", "/faults/id-tokens", Some(json!({ "fault": "wrong-nonce" }))).await;
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.claims("id_token")["nonce"], "a-nonce-never-sent");

    control(&lab, "POST", "/users/alice@contoso.example", Some(json!({ "must": "use-mfa" }))).await;
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.refusal().2, 50_076);
    control(&lab, "POST", "/users/alice%40contoso.example", Some(json!({ "must": "nothing" }))).await;
    control(&lab, "POST", "/users/alice@contoso.example/revoke", None).await;
    assert_eq!(lab.refresh(LOCAL, &refresh, GRAPH_SCOPE).await.refusal().2, 50_173);

    let requests = control(&lab, "GET", "/requests/token", None).await.body;
    assert_eq!(requests["count"], lab.control().request_count(Endpoint::Token));
    let form = requests["recent"][0]["form"].as_array().unwrap();
    assert!(form.contains(&json!(["grant_type", "authorization_code"])));
    control(&lab, "DELETE", "/requests", None).await;
    assert_eq!(control(&lab, "GET", "/requests", None).await.body, json!({}));

    let script = json!({ "interval": 0, "outcome": { "approved-by": ALICE } });
    assert_eq!(control(&lab, "POST", "/device-codes", Some(script)).await.status, 200);
    let token = json!({ "issuer": "https://kubernetes.contoso.example/", "subject": "s" });
    assert!(control(&lab, "POST", "/federated-token", Some(token)).await.body["token"].is_string());
    assert!(control(&lab, "POST", "/sign", Some(json!({ "claims": {} }))).await.body["token"].is_string());
    assert_eq!(control(&lab, "POST", "/graph/challenges", Some(json!({}))).await.status, 200);
    assert!(control(&lab, "GET", "/", None).await.body["controls"].as_array().unwrap().len() > 10);
}

#[tokio::test]
async fn mistakes_are_answered_and_change_nothing() {
    let lab = Lab::new().await;
    let cases = [
        ("POST", "/faults", json!({ "endpoint": "nothing" }), 400),
        ("POST", "/faults", json!({ "colour": "red" }), 400),
        ("POST", "/clock", json!({}), 400),
        ("POST", "/users/nobody/revoke", json!({}), 400),
        ("GET", "/requests/nothing", json!({}), 400),
        ("GET", "/nothing", json!({}), 404),
        ("PUT", "/applications", json!({ "id": "x", "name": "x", "tenant": "nowhere" }), 400),
    ];
    for (method, path, body, status) in cases {
        let answer = control(&lab, method, path, Some(body)).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.body["error"].is_string());
    }
}

#[tokio::test]
async fn applications_and_users_can_be_added_while_it_runs() {
    let mut lab = Lab::new().await;
    let application = json!({
        "id": "e0000000-0000-4000-a000-000000000001",
        "name": "Added",
        "tenant": CONTOSO,
        "identifier_uris": ["http://127.0.0.1:40123/mcp"],
        "scopes": [{ "name": "Mcp.Access", "title": "Use it" }],
    });
    assert_eq!(control(&lab, "PUT", "/applications", Some(application)).await.status, 200);
    let user = json!({
        "id": "e0000000-0000-4000-a000-0000000000aa",
        "tenant": CONTOSO,
        "username": "zoe@contoso.example",
        "password": "another",
        "profile": { "displayName": "Zoe" },
    });
    assert_eq!(control(&lab, "PUT", "/users", Some(user)).await.status, 200);
    let person = entra_mcp_emulator::user_agent::Person::new("zoe@contoso.example", "another");
    let request = Authorize::new(LOCAL).scope("openid http://127.0.0.1:40123/mcp/Mcp.Access");
    assert!(lab.authorize_as(&request, &person).await.unwrap().parameter("code").is_some());
}

#[tokio::test]
async fn requests_are_recorded_as_they_were_sent() {
    let mut lab = Lab::new().await;
    let token = lab.graph_tokens(ALICE).await.text("access_token").to_owned();
    lab.graph("/me?$select=id", &token).await;
    let [seen] = lab.control().requests(Endpoint::GraphMe).try_into().unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str(), seen.query("$select")),
        ("GET", "/graph/v1.0/me", Some("id"))
    );
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {token}").as_str()));
    let [seen] = lab.control().requests(Endpoint::Token).try_into().unwrap();
    assert_eq!(
        (seen.form("grant_type"), seen.form("client_id")),
        (Some("authorization_code"), Some(app(LOCAL).as_str()))
    );
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let everywhere = Builder::new().listen("0.0.0.0:0".parse().unwrap()).start().await;
    assert!(matches!(everywhere, Err(StartError::NotLoopback(_))));
    let everywhere = Builder::new().control_listen("[::]:0".parse().unwrap()).start().await;
    assert!(matches!(everywhere, Err(StartError::NotLoopback(_))));
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let lab = Lab::new().await;
    let taken = lab.endpoints().authority.trim_start_matches("http://").parse().unwrap();
    assert!(matches!(Builder::new().listen(taken).start().await, Err(StartError::Listen { .. })));
}

#[tokio::test]
async fn shutting_down_closes_the_port_and_removes_the_authority_file() {
    let emulator = Builder::new().tls(true).start().await.unwrap();
    let endpoints = emulator.endpoints().clone();
    let ca = endpoints.ca.clone().unwrap();
    assert!(std::fs::read_to_string(&ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    emulator.shutdown().await;
    assert!(!ca.exists());
    assert!(tokio::net::TcpStream::connect(endpoints.authority.trim_start_matches("https://")).await.is_err());
}

#[test]
fn the_endpoints_are_announced_with_exactly_these_names() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let lab = Lab::new().await;
        let announced = serde_json::to_value(lab.endpoints()).unwrap();
        let names: Vec<&String> = announced.as_object().unwrap().keys().collect();
        let mut expected = [
            "authority",
            "tenant_id",
            "public_client_id",
            "confidential_client_id",
            "client_secret",
            "graph",
            "control",
            "ca",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(announced["ca"].is_null());
    });
}

#[test]
fn the_built_in_configuration_is_complete() {
    let config = Config::from_toml(Config::default_toml()).unwrap();
    assert_eq!((config.tenants.len(), config.users.len(), config.applications.len()), (5, 15, 18));
    assert!(config.applications.iter().any(|application| application.id == app(TASKS)));
}

#[test]
fn a_configuration_with_a_mistake_is_refused() {
    let misspelt = Config::default_toml().replace("groups = 250", "group = 250");
    assert!(matches!(Config::from_toml(&misspelt), Err(ConfigError::Unreadable(_))));
    let dangling = Config::default_toml().replacen("tenant = \"fab12ca0", "tenant = \"fab12caf", 1);
    assert!(matches!(Config::from_toml(&dangling), Err(ConfigError::Dangling { kind: "tenant", .. })));
}

#[tokio::test]
async fn what_a_web_page_can_send_is_refused_by_the_control_api() {
    let lab = Lab::new().await;
    let clock = format!("{}/clock", lab.endpoints().control);
    let advance = r#"{"advance_seconds":3600}"#;
    let post = |content_type: &str| lab.client().post(&clock).header("content-type", content_type).body(advance);
    for (request, error) in [
        (post("text/plain"), "the control API takes application/json"),
        (post("application/x-www-form-urlencoded"), "the control API takes application/json"),
        (post("multipart/form-data"), "the control API takes application/json"),
        (lab.client().post(&clock).body(advance), "the control API takes application/json"),
        (post("application/json").header("origin", "http://evil.example"), "the control API is not for web pages"),
        (post("application/json").header("origin", "null"), "the control API is not for web pages"),
        (lab.client().post(&clock).header("sec-fetch-site", "cross-site"), "the control API is not for web pages"),
        (lab.client().get(&clock).header("sec-fetch-site", "same-origin"), "the control API is not for web pages"),
        (
            post("application/json").header("host", "evil.example:80"),
            "the control API is asked under 127.0.0.1, [::1] or localhost",
        ),
        (
            lab.client().get(&clock).header("host", "127.0.0.1.evil.example"),
            "the control API is asked under 127.0.0.1, [::1] or localhost",
        ),
    ] {
        let answer = lab.send(request).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (403, Some(error)));
    }
    assert_eq!(control(&lab, "GET", "/clock", None).await.body["now"], START);
    let typed = lab.client().get(&clock).header("sec-fetch-site", "none").header("host", "localhost:1");
    assert_eq!(lab.send(typed).await.status, 200);
    assert_eq!(lab.send(post("Application/JSON; charset=utf-8")).await.status, 200);
}
