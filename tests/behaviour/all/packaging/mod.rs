//! The files that releases are made of, in `host/packaging`. `.ci/dist` makes the releases, and checks them with the tools of
//! those that read them.

mod chart;
mod kubernetes;

use std::path::PathBuf;

use serde_json::Value;

use crate::support::tests_dir;

fn folder() -> PathBuf {
    tests_dir().join("../host/packaging")
}

#[test]
fn all_files_of_a_release_say_the_version_of_the_program() {
    let version = Value::from(env!("CARGO_PKG_VERSION"));
    let read = |name: &str| -> Value {
        let text = std::fs::read(folder().join(name)).unwrap();
        serde_norway::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let chart = read("helm/entra-mcp/Chart.yaml");
    assert_eq!([&chart["version"], &chart["appVersion"]], [&version, &version]);
    let (registry, bundle) = (read("registry/server.json"), read("mcpb/manifest.json"));
    assert_eq!([&registry["version"], &registry["packages"][0]["version"]], [&version, &version]);
    assert_eq!(registry["description"], bundle["description"]);
}
