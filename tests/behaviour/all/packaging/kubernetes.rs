//! What Kubernetes gets of the chart, and that the program starts with it.

use std::process::Stdio;

use entra_mcp_emulator::Builder;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::chart::{NAMESPACE, RELEASE, Rendered};
use crate::credentials::kinds::kubernetes;
use crate::support::patience::{eventually, soon};
use crate::support::process;

const WITHOUT_SECRET: &str = "ci/workload-identity-values.yaml";
const REPLICAS: &str = "ci/redis-values.yaml";

#[test]
fn the_pod_is_not_root_writes_nothing_and_has_no_token_for_kubernetes() {
    for values in [WITHOUT_SECRET, REPLICAS] {
        let chart = Rendered::of(values, json!({}));
        let own = &chart.container()["securityContext"];
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(own, &expected, "{values}");
        let pod = &chart.pod()["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"], json!({ "type": "RuntimeDefault" }));
        for object in [pod, chart.object("ServiceAccount")] {
            assert_eq!(object["automountServiceAccountToken"], false);
        }
        assert_eq!((&pod["serviceAccountName"], pod["hostNetwork"].is_null()), (&json!(RELEASE), true));
    }
}

#[test]
fn names_that_refer_to_each_other_are_the_same() {
    for values in [WITHOUT_SECRET, REPLICAS] {
        let chart = Rendered::of(values, json!({}));
        let labels = &chart.pod()["metadata"]["labels"];
        for selector in [
            &chart.object("Deployment")["spec"]["selector"]["matchLabels"],
            &chart.object("Service")["spec"]["selector"],
        ] {
            for (name, value) in selector.as_object().unwrap() {
                assert_eq!(&labels[name], value, "{values}: {name}");
            }
        }
        let ports: Vec<_> = chart.container()["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
        assert!(ports.contains(&&chart.object("Service")["spec"]["ports"][0]["targetPort"]), "{values}");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert!(ports.contains(&&chart.container()[probe]["httpGet"]["port"]), "{values}: {probe}");
        }
        let names = |list: &Value| -> Vec<Value> {
            list.as_array().into_iter().flatten().map(|entry| entry["name"].clone()).collect()
        };
        assert_eq!(names(&chart.container()["volumeMounts"]), names(&chart.pod()["spec"]["volumes"]), "{values}");
    }
}

#[test]
fn with_workload_identity_there_is_no_secret_and_without_it_the_secret_is_no_text() {
    let chart = Rendered::of(WITHOUT_SECRET, json!({}));
    assert!(!chart.object("Deployment").to_string().contains("secretKeyRef"));
    assert_eq!(chart.pod()["metadata"]["labels"]["azure.workload.identity/use"], "true");
    let account = &chart.object("ServiceAccount")["metadata"];
    assert_eq!(
        account["annotations"]["azure.workload.identity/client-id"],
        chart.variables()["ENTRA_MCP_CLIENT_ID"]["value"]
    );
    assert!(chart.notes.contains(&format!("system:serviceaccount:{NAMESPACE}:{RELEASE}")), "{}", chart.notes);
    assert!(!chart.objects.contains_key("Ingress") && !chart.objects.contains_key("ConfigMap"));

    let chart = Rendered::of(REPLICAS, json!({}));
    assert!(chart.pod()["metadata"]["labels"]["azure.workload.identity/use"].is_null());
    assert!(!chart.notes.contains("serviceaccount"), "{}", chart.notes);
    for (variable, secret) in [("AZURE_CLIENT_SECRET", "entra-mcp-client"), ("ENTRA_MCP_STORE_KEY", "entra-mcp-store")]
    {
        let variable = &chart.variables()[variable];
        assert_eq!(
            (&variable["valueFrom"]["secretKeyRef"]["name"], &variable["value"]),
            (&json!(secret), &Value::Null)
        );
    }
    assert_eq!(chart.variables()["ENTRA_MCP_TRUSTED_PROXY"]["value"], "10.0.0.0/8,192.168.0.0/16");
    let image = format!("registry.contoso.example/entra-mcp@sha256:{}", "0".repeat(64));
    assert_eq!(chart.container()["image"], image);
    let ingress = &chart.object("Ingress")["spec"];
    assert_eq!(ingress["rules"][0]["host"], "mcp.contoso.example");
    assert_eq!(ingress["tls"], json!([{ "secretName": "mcp-certificate", "hosts": ["mcp.contoso.example"] }]));
    let config = chart.object("ConfigMap")["data"]["config.toml"].as_str().unwrap().to_owned();
    assert_eq!(config.parse::<toml::Table>().unwrap()["access"][0]["tool"].as_str(), Some("*"));
}

#[test]
fn every_variable_is_one_that_the_program_reads() {
    let settings = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested")).args(["settings", "--markdown"]).output();
    let settings = String::from_utf8(settings.unwrap().stdout).unwrap();
    for values in [WITHOUT_SECRET, REPLICAS] {
        for name in Rendered::of(values, json!({})).variables().keys() {
            assert!(settings.contains(&format!("Variable: `{name}`")), "{values}: {name}");
        }
    }
}

#[tokio::test]
async fn the_program_starts_with_the_variables_of_the_chart_and_becomes_ready() {
    let emulator = Builder::new().start().await.unwrap();
    let (at, folder) = (emulator.endpoints(), tempfile::tempdir().unwrap());
    let token = folder.path().join("token");
    std::fs::write(&token, emulator.control().federated_token(&kubernetes()).unwrap()).unwrap();
    let changes = json!({
        "tenantId": at.tenant_id,
        "clientId": at.confidential_client_id,
        "settings": { "ENTRA_MCP_AUTHORITY": at.authority, "ENTRA_MCP_GRAPH_URL": at.graph },
    });
    let chart = Rendered::of(WITHOUT_SECRET, changes);
    let mut command = process::command(env!("CARGO_BIN_EXE_entra-mcp-tested"));
    command.env_clear().args(chart.container()["args"].as_array().unwrap().iter().filter_map(Value::as_str));
    for (name, variable) in chart.variables() {
        command.env(name, variable["value"].as_str().unwrap());
    }
    // What Kubernetes adds, what the image says, and what a test does not do: listen for others, and compile again.
    command.env("AZURE_FEDERATED_TOKEN_FILE", &token).env("HOME", "/nonexistent");
    command.env("ENTRA_MCP_LISTEN", "127.0.0.1:0").env_remove("ENTRA_MCP_NO_CODE_CACHE");
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    let log = folder.path().join("log");
    let log_file = std::fs::File::create(&log).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    soon(BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready)).await.unwrap().unwrap();
    let log = || std::fs::read_to_string(&log).unwrap();
    let said: Value = serde_json::from_str(&ready).unwrap_or_else(|_| panic!("{ready:?}\n{}", log()));
    assert_eq!(said["public_url"], "https://mcp.contoso.example");
    let probe = &chart.container()["readinessProbe"]["httpGet"]["path"];
    let url = format!("http://{}{}", said["listening"].as_str().unwrap(), probe.as_str().unwrap());
    let is_ready = || async { reqwest::get(&url).await.ok().filter(|answer| answer.status() == 200) };
    eventually(is_ready).await.unwrap_or_else(|error| panic!("{error}: {}", log()));
}
