//! Microsoft's own client libraries, unmodified, sign in at the emulator over https.

use entra_mcp_emulator::{Builder, Emulator};

use crate::support::{process, tests_dir, tools};

async fn emulator_with_tls() -> (Emulator, String) {
    let emulator = Builder::new().tls(true).start().await.unwrap();
    let endpoints = serde_json::to_string(emulator.endpoints()).unwrap();
    (emulator, endpoints)
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(client = "msal-python"), ignore = "needs the client msal-python: use tests/run")]
async fn msal_for_python_works_and_classifies_refusals() {
    let python = tools::client("msal-python");
    let (emulator, endpoints) = emulator_with_tls().await;
    let folder = tests_dir().join("clients/msal-python");
    let script = folder.join("test_msal.py");
    let mut command = process::blocking(python);
    command
        .arg(&script)
        .current_dir(folder)
        .env("EMULATOR", endpoints)
        .env("REQUESTS_CA_BUNDLE", emulator.endpoints().ca.as_ref().unwrap())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    tokio::task::spawn_blocking(move || tools::run(command, &script)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(client = "msal-node"), ignore = "needs the client msal-node: use tests/run")]
async fn msal_for_node_works_and_classifies_refusals() {
    let node = tools::client("msal-node");
    let (emulator, endpoints) = emulator_with_tls().await;
    let folder = tests_dir().join("clients/msal-node");
    let script = folder.join("msal.test.js");
    let mut command = process::blocking(node);
    command
        .arg("--test")
        .arg(&script)
        .current_dir(folder)
        .env("EMULATOR", endpoints)
        .env("NODE_EXTRA_CA_CERTS", emulator.endpoints().ca.as_ref().unwrap());
    tokio::task::spawn_blocking(move || tools::run(command, &script)).await.unwrap();
}
