//! The configuration for Traefik, which cannot be installed from a package registry: its form is checked, and what it would
//! remove. Nothing here proves that it works.

use std::process::Stdio;

use regex::Regex;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::site::page;
use crate::support::{process, tools};

/// The keys of a dynamic configuration (Traefik 3) that are used, with their place; `*` is a name of the operator's.
const KEYS: [&str; 7] = [
    "http.middlewares.*.forwardAuth.address",
    "http.middlewares.*.forwardAuth.authResponseHeadersRegex",
    "http.middlewares.*.headers.customRequestHeaders.*",
    "http.routers.*.middlewares",
    "http.routers.*.rule",
    "http.routers.*.service",
    "http.services.*.loadBalancer.servers",
];

/// The block of the page.
async fn configuration() -> Value {
    let program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let mut command = process::command(tools::client("envoy"));
    let mut child =
        command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(page().section("Traefik").block("yaml").as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The places of all leaves.
fn leaves(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(value, &format!("{place}.{name}"), found);
            }
        }
        _ => found.push(place.trim_start_matches('.').to_owned()),
    }
}

fn is_known(leaf: &str) -> bool {
    KEYS.iter().any(|key| {
        let (key, leaf): (Vec<_>, Vec<_>) = (key.split('.').collect(), leaf.split('.').collect());
        key.len() == leaf.len() && key.iter().zip(&leaf).all(|(key, leaf)| *key == "*" || key == leaf)
    })
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
#[cfg_attr(not(client = "envoy"), ignore = "needs the client envoy: use tests/run")]
async fn the_configuration_has_documented_keys_and_names_what_is_there() {
    let configuration = configuration().await;
    let mut found = Vec::new();
    leaves(&configuration, "", &mut found);
    let unknown: Vec<_> = found.iter().filter(|leaf| !is_known(leaf)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    let http = &configuration["http"];
    let (middlewares, services) = (names(&http["middlewares"]), names(&http["services"]));
    for (name, router) in http["routers"].as_object().unwrap() {
        assert!(services.contains(&router["service"].as_str().unwrap()), "{name}");
        let used = router["middlewares"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(used.iter().all(|used| middlewares.contains(&used.as_str().unwrap())), "{name}");
    }
    // The secret is set before the question, and removed after it and everywhere else.
    let used = |router: &str| http["routers"][router]["middlewares"].clone();
    assert_eq!(used("mcp"), json!(["proxy-secret", "ask", "no-secret", "no-cookie"]));
    assert_eq!(used("entra-mcp"), json!(["no-secret"]));
    for (middleware, name) in [("no-secret", "X-Entra-Mcp-Proxy-Secret"), ("no-cookie", "Cookie")] {
        assert_eq!(http["middlewares"][middleware]["headers"]["customRequestHeaders"][name], "", "{name}");
    }
}

#[tokio::test]
#[cfg_attr(not(client = "envoy"), ignore = "needs the client envoy: use tests/run")]
async fn every_field_that_tells_of_an_identity_is_removed_from_what_the_client_sends() {
    let configuration = configuration().await;
    let removed = configuration["http"]["middlewares"]["ask"]["forwardAuth"]["authResponseHeadersRegex"].as_str();
    let removed = Regex::new(removed.unwrap()).unwrap();
    // As Go writes the names of fields.
    for name in [
        "Authorization",
        "X-Ms-Client-Principal",
        "X-Ms-Client-Principal-Id",
        "X-Ms-Client-Principal-Name",
        "X-Ms-Client-Principal-Idp",
        "X-Ms-Token-Aad-Access-Token",
        "X-Ms-Token-Aad-Id-Token",
        "X-Ms-Token-Aad-Refresh-Token",
        "X-Ms-Token-Aad-Expires-On",
        "X-Entra-Mcp-Assertion",
        "X_ms_client_principal_id",
        "X-Ms_client-Principal-Id",
        "X_entra_mcp_assertion",
    ] {
        assert!(removed.is_match(name), "{name}");
    }
    for name in ["Accept", "Content-Type", "Mcp-Session-Id", "X-Request-Id", "Proxy-Authorization"] {
        assert!(!removed.is_match(name), "{name}");
    }
}
