//! `entra-mcp inspect` of a tool component.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{process, tool_components};

fn inspect(file: &Path) -> Value {
    let output = process::blocking(env!("CARGO_BIN_EXE_entra-mcp-tested"))
        .args(["inspect", "--json"])
        .arg(file)
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn inspect_shows_the_tools_of_a_component_what_it_is_granted_and_what_to_configure() {
    let report = inspect(&tool_components::file(tool_components::MAIL));
    assert_eq!(report["shape"], "tool-provider");
    let names: Vec<&str> =
        report["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["list_mail", "who_am_i", "read_profile"]);
    assert_eq!(report["tools"][0]["read_only"], true);
    let table: toml::Table = report["configuration"].as_str().unwrap().parse().unwrap();
    assert_eq!(table["tools"][0]["name"].as_str(), Some("mail"));
    assert_eq!(table["tools"][0]["egress"].as_array().map(Vec::len), Some(0));
}

#[test]
fn inspect_tells_a_whole_server_and_what_a_component_asks_for_in_vain() {
    let server = inspect(&tool_components::file(tool_components::HTTP_SERVER));
    assert_eq!((&server["shape"], &server["wasi"]), (&json!("wasi:http"), &json!("0.2")));
    let sockets = inspect(&tool_components::file(tool_components::SOCKETS));
    let imports = sockets["imports"].as_array().unwrap();
    let denied = imports.iter().filter(|import| import["name"].as_str().unwrap().starts_with("wasi:sockets/"));
    let mut denied = denied.peekable();
    assert!(denied.peek().is_some(), "{sockets}");
    for import in denied {
        assert_eq!(import["granted"], "nothing: every use is denied");
    }
    let service = inspect(&tool_components::file(tool_components::HTTP_SERVICE));
    assert_eq!((&service["shape"], &service["wasi"]), (&json!("wasi:http"), &json!("0.3")));
    let imports = service["imports"].as_array().unwrap();
    let sends = imports.iter().find(|import| import["name"].as_str().unwrap().starts_with("wasi:http/client@0.3."));
    assert_eq!(sends.unwrap_or_else(|| panic!("{service}"))["granted"], "requests to the configured destinations only");
    assert!(service["configuration"].as_str().unwrap().contains("egress = []"), "{service}");
    assert_eq!(inspect(&tool_components::file(tool_components::HOSTILE))["tools"].as_array().unwrap().len(), 26);
}
